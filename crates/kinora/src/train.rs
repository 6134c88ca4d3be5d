//! `kinora train`: a configuration and a folder of videos or of shards become a run.

use crate::Outcome;
use crate::args::TrainArgs;
use crate::interrupt::Interrupt;
use crate::progress::{Manner, Reporter, Stage, named};
use kinora_train::compute::{Standing, training_on};
use kinora_train::{Compute, Config, Event, Origin, Places};
use serde_json::json;
use std::io;

/// Trains.
///
/// # Errors
/// As [`kinora_train::run`], and when the configuration cannot be read.
pub fn run(args: &TrainArgs) -> anyhow::Result<Outcome> {
    let reporter = Reporter::new(Manner::choose(args.json));
    let config = Config::read(&args.config)?;
    let compute = training_on(args.device, args.dtype)?;
    let resolved = config.to_toml();
    reporter.tell("config", &resolved, json!({ "config": config }))?;
    // Until the first step there is nothing to lose but time: what was read is kept.
    let interrupt = Interrupt::at_once()?;
    let mut told = Told {
        reporter: &reporter,
        interrupt: &interrupt,
        stage: None,
        closed: Ok(()),
    };
    let outcome = kinora_train::run(
        &config,
        &Places {
            data: &args.data,
            run: &args.run,
            compute,
        },
        &interrupt.stop,
        &mut |event| told.take(event),
    );
    told.end_stage();
    told.closed?;
    match outcome? {
        kinora_train::Outcome::Finished(model) => {
            let text = format!("the model is {}", model.display());
            reporter.tell("finished", &text, json!({ "model": named(&model) }))?;
            Ok(Outcome::Done)
        }
        kinora_train::Outcome::Stopped(checkpoint) => {
            let text = format!(
                "stopped; the same command goes on from {}",
                checkpoint.display()
            );
            reporter.tell(
                "stopped",
                &text,
                json!({ "checkpoint": named(&checkpoint) }),
            )?;
            Ok(Outcome::Stopped)
        }
    }
}

/// What has been told of the run so far.
struct Told<'a> {
    reporter: &'a Reporter,
    interrupt: &'a Interrupt,
    stage: Option<(&'static str, Stage<'a>)>,
    closed: io::Result<()>,
}

impl<'a> Told<'a> {
    /// Tells an event. The run is not stopped by a closed output; the first such error is kept.
    fn take(&mut self, event: Event<'_>) {
        let told = self.tell(event);
        if self.closed.is_ok() {
            self.closed = told;
        }
    }

    fn tell(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Reading { done, of } => self.at("read", done, of),
            Event::Shards {
                folder,
                shards,
                clips,
            } => {
                self.end_stage();
                let of = if shards == 1 { "shard" } else { "shards" };
                let on = if clips == 1 { "clip" } else { "clips" };
                let text = format!(
                    "training on {clips} {on} of {shards} {of} in {}",
                    folder.display()
                );
                let fields = json!({ "path": named(folder), "shards": shards, "clips": clips });
                self.reporter.tell("shards", &text, fields)
            }
            Event::Skipped { path, reason } => {
                self.end_stage();
                let text = format!("left out: {}: {reason}", path.display());
                let fields = json!({ "path": named(path), "reason": reason });
                self.reporter.tell("skipped", &text, fields)
            }
            Event::Latents { refusal } => {
                self.end_stage();
                let text = match refusal {
                    None => "the latents in the shards are taken".to_owned(),
                    Some(why) => format!("the latents in the shards are not taken: {why}"),
                };
                let fields = json!({ "taken": refusal.is_none(), "reason": refusal });
                self.reporter.tell("latents", &text, fields)
            }
            Event::Encoding { done, of } => self.at("encode", done, of),
            Event::Memory { compute, standing } => {
                self.end_stage();
                let text = standing_in_words(compute, &standing);
                let fields = json!({
                    "device": compute.device().to_string(), "dtype": compute.dtype().to_string(),
                    "weights_bytes": standing.weights_bytes,
                    "moments_bytes": standing.moments_bytes,
                    "averages_bytes": standing.averages_bytes,
                    "gradients_bytes": standing.gradients_bytes,
                });
                self.reporter.tell("memory", &text, fields)
            }
            Event::Begins {
                origin,
                step,
                steps,
                weights,
                trained,
                clips,
            } => {
                self.end_stage();
                self.interrupt.wait_for_safe_points();
                let origin = origin_in_words(origin);
                let text = format!(
                    "{origin}; {weights} values, {trained} trained, on {clips} stretches of video; step {step} of {steps} done"
                );
                let fields = json!({
                    "origin": origin, "step": step, "steps": steps,
                    "weights": weights, "trained": trained, "clips": clips,
                });
                self.reporter.tell("begins", &text, fields)?;
                self.stage = Some((
                    "train",
                    self.reporter
                        .stage_from("train", step as usize, steps as usize),
                ));
                Ok(())
            }
            Event::Step { step, steps, loss } => {
                self.at("train", step as usize, steps as usize)?;
                if let Some((_, stage)) = &self.stage {
                    stage.note(format!("loss {loss:.4}"));
                }
                Ok(())
            }
            Event::Report(line) => {
                let text = format!(
                    "step {:>6}  loss {:.5}  lr {:.2e}  grad {:.3}  {:.2} clips/s",
                    line.step,
                    line.loss,
                    line.learning_rate,
                    line.gradient_norm,
                    line.clips_per_sec
                );
                self.reporter
                    .tell_beside(&self.stage_bar(), "report", &text, json!(line))
            }
            Event::Sampled(path) => self.reporter.tell_beside(
                &self.stage_bar(),
                "sampled",
                &format!("samples in {}", path.display()),
                json!({ "path": named(path) }),
            ),
            Event::Saved(path) => self.reporter.tell_beside(
                &self.stage_bar(),
                "saved",
                &format!("checkpoint {}", path.display()),
                json!({ "path": named(path) }),
            ),
        }
    }

    fn stage_bar(&self) -> Option<indicatif::ProgressBar> {
        self.stage.as_ref().map(|(_, stage)| stage.bar())
    }

    fn at(&mut self, name: &'static str, done: usize, of: usize) -> io::Result<()> {
        if self
            .stage
            .as_ref()
            .is_none_or(|(running, _)| *running != name)
        {
            self.end_stage();
            self.stage = Some((name, self.reporter.stage(name, of)));
        }
        match &self.stage {
            Some((_, stage)) => stage.at(done),
            None => Ok(()),
        }
    }

    fn end_stage(&mut self) {
        if let Some((_, stage)) = self.stage.take() {
            let finished = stage.finish();
            if self.closed.is_ok() {
                self.closed = finished;
            }
        }
    }
}

fn standing_in_words(compute: Compute, standing: &Standing) -> String {
    let mib = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    format!(
        "computes on {compute}; {} stand there throughout: weights {}, moments {}, averages {}, gradients {}; the activations of a step come on top",
        mib(standing.bytes()),
        mib(standing.weights_bytes),
        mib(standing.moments_bytes),
        mib(standing.averages_bytes),
        mib(standing.gradients_bytes)
    )
}

fn origin_in_words(origin: &Origin) -> String {
    match origin {
        Origin::Resumed(path) => format!("resumes from {}", path.display()),
        Origin::Continued(path) => format!("continues from {}", path.display()),
        Origin::Initialised(path) => format!("begins with the weights of {}", path.display()),
        Origin::Scratch => "begins with random weights".to_owned(),
    }
}
