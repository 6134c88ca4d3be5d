//! The story of a run.

use crate::batch::Order;
use crate::checkpoint::{self, Origin, Started, Window};
use crate::clips::Clips;
use crate::compute::{Compute, Standing};
use crate::config::Config;
use crate::ema::Average;
use crate::log::{Line, Log};
use crate::optim::{LearningRate, Pace, check_weights};
use crate::samples;
use crate::{Error, Result};
use kinora_tensor::{Tensor, on_the_cores, ops};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Clips shown in samples.
const SAMPLES: usize = 4;

/// What a run tells while it goes.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Videos are being read.
    Reading {
        /// Videos read.
        done: usize,
        /// Videos there are.
        of: usize,
    },
    /// The data are the clips of shards.
    Shards {
        /// Their folder.
        folder: &'a Path,
        /// How many there are.
        shards: usize,
        /// Clips in them that are trained on.
        clips: usize,
    },
    /// A file in the folder, or a clip in the shards, is left out.
    Skipped {
        /// The file; of a clip, the shard's path and the clip's name.
        path: &'a Path,
        /// Why, in words.
        reason: &'a str,
    },
    /// The shards hold latents that this model could be trained on.
    Latents {
        /// Why they are not taken and the frames are encoded here; none where they are taken.
        refusal: Option<&'a str>,
    },
    /// Frames are being encoded, once for the whole run.
    Encoding {
        /// Videos encoded.
        done: usize,
        /// Videos there are.
        of: usize,
    },
    /// What the run keeps in the memory of its device, beside the activations of a step.
    Memory {
        /// Where it computes, and in which type.
        compute: Compute,
        /// What stands there throughout.
        standing: Standing,
    },
    /// All is ready for the first step.
    Begins {
        /// Where the weights came from.
        origin: &'a Origin,
        /// Steps done before.
        step: u64,
        /// Steps of the run.
        steps: u64,
        /// Values in the model's weights.
        weights: usize,
        /// Values of them that are trained.
        trained: usize,
        /// Clips to train on.
        clips: usize,
    },
    /// A step is done.
    Step {
        /// Steps done.
        step: u64,
        /// Steps of the run.
        steps: u64,
        /// Its loss.
        loss: f64,
    },
    /// A line was added to the log.
    Report(&'a Line),
    /// Samples were made.
    Sampled(&'a Path),
    /// A checkpoint was written.
    Saved(&'a Path),
}

/// Where a run tells what it does.
pub type Progress<'a> = dyn FnMut(Event<'_>) + Send + 'a;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did all its steps; here is the model.
    Finished(PathBuf),
    /// It was asked to stop, and goes on from this checkpoint when it is started again.
    Stopped(PathBuf),
}

/// Where a run is: none of it is part of what is trained.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The folder of videos or of shards.
    pub data: &'a Path,
    /// The folder for everything the run leaves behind.
    pub run: &'a Path,
    /// What computes. A checkpoint made on one device goes on on any.
    pub compute: Compute,
}

/// Trains what `config` describes; a run found in its folder goes on. Setting `stop` ends it after the
/// step at hand, with a checkpoint.
///
/// # Errors
/// When the configuration, the videos and what is in the run's folder do not fit each other, the loss
/// or a gradient is not finite, a device cannot be used or has no memory left, or the file system
/// refuses.
pub fn run(
    config: &Config,
    places: &Places<'_>,
    stop: &AtomicBool,
    progress: &mut Progress<'_>,
) -> Result<Outcome> {
    let &Places { data, run, compute } = places;
    // A device that cannot be used is told before anything is read.
    if compute.is_on_card() {
        kinora_tensor::ready_card(compute.device())?;
    }

    // The videos first: what follows depends on how many clips they hold.
    std::fs::create_dir_all(run).map_err(Error::io("create", run))?;
    let clips = Clips::read(data, &run.join("frames"), &config.data, &mut |done, of| {
        progress(Event::Reading { done, of })
    })?;
    if let Some(found) = &clips.shards {
        progress(Event::Shards {
            folder: found.folder(),
            shards: found.shards(),
            clips: clips.trained_videos(),
        });
    }
    for file in &clips.skipped {
        let (path, reason) = (file.path.as_path(), file.reason.as_str());
        progress(Event::Skipped { path, reason });
    }
    let order = Order::new(config.seed, clips.training.len());

    // Then the weights, from the first of the places they may come from. A checkpoint made under
    // other numbers is refused here, so the resolved copy of the configuration is saved after.
    let mut now = checkpoint::start(config, run, &clips, compute)
        .map_err(|error| error.out_of_memory("bringing the model there", run))?;
    let copy = run.join("config.toml");
    checkpoint::replace_text(&copy, &config.to_toml())?;
    if let Some(taken) = now.task.take_latents(&clips) {
        let refusal = taken.as_ref().err().map(String::as_str);
        progress(Event::Latents { refusal });
    }
    now.task
        .prepare(&clips, config.data.mirror, &mut |done, of| {
            progress(Event::Encoding { done, of })
        })
        .map_err(|error| error.out_of_memory("encoding the videos", run))?;
    let mut log = Log::open(&run.join("log.jsonl"), now.state.step)?;
    let rate = LearningRate::new(config);
    let standing = now.standing(config);
    progress(Event::Memory { compute, standing });
    progress(Event::Begins {
        origin: &now.origin,
        step: now.state.step,
        steps: config.run.steps,
        weights: now
            .weights
            .iter()
            .map(|weight| weight.param.get().elements())
            .sum(),
        trained: now.trained,
        clips: clips.training.len(),
    });

    while now.state.step < config.run.steps {
        // One step: gradients of fresh clips, the weights, their average.
        let began = Instant::now();
        let (step, t) = (now.state.step + 1, now.state.optimiser_steps + 1);
        let (loss, norm) = on_the_cores(|| -> Result<(f64, f64)> {
            let (loss, gradients) = gradients(config, &clips, &order, &now, step)?;
            let pace = Pace {
                learning_rate: rate.at(step),
                average_decay: Average::decay_at(t, config.average.decay),
                t,
            };
            let (weights, average) = (&now.weights, &mut now.average);
            let norm = now
                .optimiser
                .step(weights, &gradients, average, pace, step)?;
            Ok((loss, norm))
        })
        .map_err(|error| error.out_of_memory(&format!("step {step}"), run))?;
        now.state.step = step;
        now.state.optimiser_steps = t;
        now.state.next_clip += config.clips_per_step() as u64;
        let secs = began.elapsed().as_secs_f64();
        now.state.elapsed_secs += secs;
        now.state.window.add(loss, norm, secs);
        progress(Event::Step {
            step,
            steps: config.run.steps,
            loss,
        });

        // What the run leaves behind, each at its own pace and all of it at the end.
        let stopping = stop.load(Ordering::Relaxed);
        let last = step == config.run.steps;
        let due = |every: u64| step.is_multiple_of(every) || last;
        if due(config.run.report_every) {
            let line = now
                .state
                .window
                .line(config, step, rate.at(step), now.state.elapsed_secs);
            now.state.window = Window::default();
            log.add(line)?;
            progress(Event::Report(&line));
        }
        let keeps = due(config.run.checkpoint_every) || stopping;
        if keeps || due(config.run.sample_every) {
            check_weights(step, &now.weights)?;
        }
        if due(config.run.sample_every) {
            let path = run.join("samples").join(format!("step-{step:08}.png"));
            let pairs = now
                .average
                .in_place(|| now.task.samples(&clips, config.seed, SAMPLES))
                .map_err(|error| error.out_of_memory(&format!("samples of step {step}"), run))?;
            samples::write(&path, &pairs, &clips)?;
            progress(Event::Sampled(&path));
        }
        if keeps {
            let path = checkpoint::write(run, config, &clips, &now).map_err(|error| {
                error.out_of_memory(&format!("the checkpoint of step {step}"), run)
            })?;
            log.draw(&run.join("loss.png"))?;
            progress(Event::Saved(&path));
            if stopping && !last {
                return Ok(Outcome::Stopped(path));
            }
        }
    }
    // Killed between its last checkpoint and here, a run has its picture still to draw.
    log.draw(&run.join("loss.png"))?;
    checkpoint::finish(run, &clips, &now).map(Outcome::Finished)
}

/// The mean loss and mean gradients over the batches of a step.
fn gradients(
    config: &Config,
    clips: &Clips,
    order: &Order,
    now: &Started,
    step: u64,
) -> Result<(f64, Vec<Option<Tensor>>)> {
    let share = 1.0 / config.run.accumulate as f32;
    let mut total = 0.0;
    let mut sums: Vec<Option<Tensor>> = vec![None; now.weights.len()];
    for batch in 0..config.run.accumulate {
        let first = now.state.next_clip + (batch * config.run.batch) as u64;
        let mut draws = order.draws(clips, config.data.mirror, first, config.run.batch);
        let loss = ops::scale(&now.task.loss(clips, &mut draws)?, share)?;
        // Waits for a card, which may have failed on the way.
        let value = Compute::back(&loss)?.to_vec()[0];
        if !value.is_finite() {
            let place = "the loss".to_owned();
            return Err(Error::NotFinite { step, place, value });
        }
        total += f64::from(value);
        let mut found = loss.backward()?;
        for (sum, weight) in sums.iter_mut().zip(&now.weights) {
            let Some(more) = found.take(&weight.param.get()) else {
                continue;
            };
            *sum = Some(match sum.take() {
                None => more,
                Some(before) => ops::add(&before, &more)?,
            });
        }
    }
    Ok((total, sums))
}

impl Window {
    fn add(&mut self, loss: f64, gradient_norm: f64, secs: f64) {
        self.steps += 1;
        self.loss += loss;
        self.gradient_norm += gradient_norm;
        self.secs += secs;
    }

    fn line(&self, config: &Config, step: u64, learning_rate: f64, elapsed_secs: f64) -> Line {
        let steps = self.steps as f64;
        Line {
            step,
            loss: self.loss / steps,
            learning_rate,
            gradient_norm: self.gradient_norm / steps,
            clips_per_sec: steps * config.clips_per_step() as f64 / self.secs,
            elapsed_secs,
        }
    }
}
