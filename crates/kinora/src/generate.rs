//! `kinora generate`: a still becomes a moving picture.

use crate::args::{GenerateArgs, SamplerName};
use crate::defaults::Defaults;
use crate::interrupt::Interrupt;
use crate::progress::{Manner, Reporter, Stage, named, round};
use crate::{Outcome, device, model_path, plan};
use anyhow::{Context as _, bail};
use kinora_diffusion::{LinearGuider, Sampler};
use kinora_media::{Fps, Metadata, Rgb8Image, SheetRow, SheetStyle, Writer, contact_sheet};
use kinora_model::compute::Compute;
use kinora_model::generate::{self, Event, Model, Settings};
use kinora_model::pixels::{Picture, frames01_from_tensor, rgb8_from_tensor};
use kinora_model::vae::{Decoding, Vae};
use kinora_model::weights::{Opening, Weights};
use kinora_tensor::{Tensor, card_memory, limit_device_bytes, ops};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Generates.
///
/// # Errors
/// When the still or the model cannot be read, the settings cannot be, the machine has too little
/// memory, or the output cannot be written. Nothing is left half written.
pub fn run(args: &GenerateArgs) -> anyhow::Result<Outcome> {
    let interrupt = Interrupt::at_once()?;
    interrupt.wait_for_safe_points();
    work(args, &interrupt.stop)
}

fn work(args: &GenerateArgs, stop: &AtomicBool) -> anyhow::Result<Outcome> {
    let reporter = Reporter::new(Manner::choose(args.json));
    // What can be refused at once is refused before gigabytes are read.
    let still = kinora_media::read_image(&args.image)?;
    let picture = Picture::new(still.data(), still.height(), still.width())?;
    check_outputs(args)?;
    device::check(args.device)?;
    let path = model_path::resolve(&args.model, args.variant, &reporter, stop)?;
    let opening = Opening {
        variant: args.variant,
        ..Opening::default()
    };
    let reading = reporter.stage("open", 1);
    let weights = Weights::open_with(&path, &opening)?;
    reading.finish()?;
    let mut settings = settings(args, &path, &weights)?;
    let (place, planned, why) = device::choose(args.device, args.dtype, |place| {
        plan::make(&weights, &settings, args.max_memory_gib, place)
    })?;
    if let Some(why) = why {
        let device = place.compute.device().to_string();
        reporter.tell("device", &why, json!({ "device": device, "why": why }))?;
    }
    reporter.tell("plan", &planned.text, planned.fields)?;
    if let Some(limit_bytes) = planned.limit_bytes {
        let device = place.compute.device();
        let total_bytes = card_memory(device)?.total_bytes;
        limit_device_bytes(device, limit_bytes.min(total_bytes))?;
    }
    settings.decoding = planned.decoding;
    if args.plan {
        return Ok(Outcome::Done);
    }
    let metadata = metadata(args, &settings, &weights, place.compute);
    let fps = Fps::whole(settings.fps).context("--fps: expected at least 1")?;
    let writer = Writer::create(&args.out, settings.width, settings.height, fps, &metadata)?;

    // The networks, the noise, the walk, the frames.
    let building = reporter.stage("load", 1);
    let model = match planned.streaming {
        None => Model::load_on(&weights, place.compute)?,
        Some(streaming) => Model::load_within(&weights, place.compute, streaming.budget_bytes)?,
    };
    building.finish()?;
    let mut watch = Watch {
        reporter: &reporter,
        stop,
        stage: None,
        args,
        vae: &model.vae,
        decoding: settings.decoding,
        compute: model.compute,
        failed: None,
        step: (false, None),
    };
    let frames = generate::generate(model.networks(), picture, &settings, &mut |event| {
        watch.hear(event)
    });
    if let Some(error) = watch.failed.take() {
        return Err(error);
    }
    let frames = match frames {
        Err(kinora_model::Error::Stopped { during }) => {
            let text = format!("stopped while {during}; nothing was written");
            reporter.tell("stopped", &text, json!({ "during": during }))?;
            return Ok(Outcome::Stopped);
        }
        frames => frames?,
    };
    watch.end_stage()?;
    write(writer, &frames)?;

    let seconds = reporter.elapsed_s();
    let peak_mib = crate::memory::peak_bytes().map(|bytes| bytes >> 20);
    let mut text = format!("{} in {seconds:.1} s", args.out.display());
    let mut fields =
        json!({ "out": named(&args.out), "seconds": round(seconds), "peak_memory_mib": peak_mib });
    if model.compute.is_on_card() {
        let (words, more) = on_card::told(&model, watch.step.0, watch.step.1.as_deref())?;
        text += &words;
        on_card::join(&mut fields, more);
    }
    reporter.tell("done", &text, fields)?;
    Ok(Outcome::Done)
}

/// Refuses outputs that could not be written, before the work is done.
fn check_outputs(args: &GenerateArgs) -> anyhow::Result<()> {
    Writer::check(&args.out)?;
    match &args.preview {
        Some(preview) => Ok(Rgb8Image::check_output(preview)?),
        None => Ok(()),
    }
}

/// What the user asked for; where they did not, what the model's folder says.
fn settings(args: &GenerateArgs, path: &Path, weights: &Weights) -> anyhow::Result<Settings> {
    let own = Defaults::of(path)?;
    let decoding = match args.decode_chunk {
        Some(frames) => Decoding::Chunked { frames },
        None => Decoding::Whole, // The plan bounds it where the whole does not fit.
    };
    Ok(Settings {
        frames: args
            .frames
            .or(own.frames)
            .unwrap_or(weights.unet.config.num_frames),
        width: args.width.unwrap_or(own.width),
        height: args.height.unwrap_or(own.height),
        steps: args.steps.unwrap_or(own.steps),
        sampler: match args.sampler {
            SamplerName::Euler => Sampler::Euler,
            SamplerName::Heun => Sampler::Heun,
            SamplerName::Dpmpp => Sampler::DpmPp2M,
        },
        fps: args.fps.unwrap_or(own.fps),
        motion_bucket: args.motion_bucket.unwrap_or(own.motion_bucket),
        noise_aug: args.noise_aug.unwrap_or(own.noise_aug),
        guider: LinearGuider {
            min: args.guidance_min.unwrap_or(own.guidance_min),
            max: args.guidance_max.unwrap_or(own.guidance_max),
        },
        branches_together: false,
        sigma_min: own.sigma_min,
        sigma_max: own.sigma_max,
        seed: args.seed,
        decoding,
    })
}

/// What is written into the video about how it was made.
fn metadata(
    args: &GenerateArgs,
    settings: &Settings,
    weights: &Weights,
    compute: Compute,
) -> Metadata {
    let sampler = format!("{:?}", args.sampler).to_lowercase();
    let decoding = match settings.decoding {
        Decoding::Chunked { frames } => format!("chunks of {frames} frames"),
        Decoding::Whole | Decoding::Bounded { .. } => "exact".to_owned(),
    };
    let facts = json!({
        "made_by": format!("kinora {}", env!("CARGO_PKG_VERSION")),
        "image": args.image.file_name().map(|name| name.to_string_lossy()),
        "model": args.model,
        "model_fingerprint": weights.fingerprint(),
        "seed": settings.seed,
        "frames": settings.frames,
        "width": settings.width,
        "height": settings.height,
        "steps": settings.steps,
        "sampler": sampler,
        "fps": settings.fps,
        "motion_bucket": plain(settings.motion_bucket),
        "noise_aug": plain(settings.noise_aug),
        "guidance_min": plain(settings.guider.min),
        "guidance_max": plain(settings.guider.max),
        "sigma_max": settings.sigma_max,
        "sigma_min": settings.sigma_min,
        "decoding": decoding,
        "device": if compute.is_on_card() { "cuda" } else { "cpu" },
        "dtype": compute.dtype().to_string(),
    });
    facts.as_object().cloned().unwrap_or_default()
}

/// The number a user wrote, not the digits its f32 adds in f64.
fn plain(value: f32) -> f64 {
    value
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(value))
}

/// Frames `[t, h, w, 3]` in −1..1 go into the file one by one.
fn write(mut writer: Writer, frames: &Tensor) -> anyhow::Result<()> {
    let unit = frames01_from_tensor(frames)?;
    let frame_values = unit.elements() / unit.dims()[0];
    let values = unit.as_f32()?;
    // Clamping lets NaN through, and a file of it would look like a success.
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        bail!(
            "the frames hold {value}; nothing was written: lower --guidance-max, or check the model \
             with `kinora inspect`"
        );
    }
    for frame in values.chunks_exact(frame_values) {
        writer.push_f32(frame)?;
    }
    Ok(writer.finish()?)
}

/// Shows the work as it goes, and passes the user's wish to stop on.
struct Watch<'a> {
    reporter: &'a Reporter,
    stop: &'a AtomicBool,
    stage: Option<(generate::Stage, Stage<'a>)>,
    args: &'a GenerateArgs,
    vae: &'a Vae,
    decoding: Decoding,
    compute: Compute,
    /// The first thing that went wrong in showing it.
    failed: Option<anyhow::Error>,
    /// Whether the step was captured on a card, and why not.
    step: (bool, Option<String>),
}

impl Watch<'_> {
    fn hear(&mut self, event: &Event<'_>) -> ControlFlow<()> {
        let told = match event {
            Event::Progress { stage, done, parts } => self.at(*stage, *done, *parts),
            Event::Step(step) => self.preview(step.denoised),
            Event::Denoised { captured, refusal } => {
                self.step = (*captured, refusal.map(str::to_owned));
                Ok(())
            }
        };
        if let Err(error) = told {
            self.failed = Some(error);
        }
        if self.failed.is_some() || self.stop.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn at(&mut self, stage: generate::Stage, done: usize, parts: usize) -> anyhow::Result<()> {
        if self
            .stage
            .as_ref()
            .is_none_or(|(running, _)| *running != stage)
        {
            self.end_stage()?;
            let name = match stage {
                generate::Stage::Look => "look",
                generate::Stage::Encode => "encode",
                generate::Stage::Denoise => "denoise",
                generate::Stage::Decode => "decode",
            };
            self.stage = Some((stage, self.reporter.stage(name, parts)));
        }
        if let Some((_, stage)) = &self.stage {
            stage.at(done)?;
        }
        Ok(())
    }

    fn end_stage(&mut self) -> anyhow::Result<()> {
        match self.stage.take() {
            Some((_, stage)) => Ok(stage.finish()?),
            None => Ok(()),
        }
    }

    /// One frame of latents `[1, 1, h, w, c]` as pixels, in the memory that was planned for all of them.
    fn decoded(&self, latents: &Tensor) -> anyhow::Result<Tensor> {
        let latents = ops::scale(latents, 1.0 / self.vae.config().scaling_factor)?;
        let latents = self.compute.there(&latents)?;
        let Decoding::Bounded { budget_bytes } = self.decoding else {
            return Ok(Compute::back(&self.vae.decode(&latents)?)?);
        };
        let mut decoded = None;
        self.vae
            .decode_bounded(&latents, budget_bytes, |_, frame| {
                decoded = Some(Compute::back(&frame)?);
                Ok(ControlFlow::Continue(()))
            })?;
        decoded.context("a decode gives a frame")
    }

    /// The first, the middle and the last frame of an estimate `[1, t, h, w, c]`, each decoded alone.
    fn preview(&self, denoised: &Tensor) -> anyhow::Result<()> {
        let Some(path) = &self.args.preview else {
            return Ok(());
        };
        let frames = denoised.dims()[1];
        let mut shown = vec![0, frames / 2, frames - 1];
        shown.dedup();
        let mut pictures = Vec::new();
        for frame in shown {
            let decoded = self.decoded(&ops::narrow(denoised, 1, frame, 1)?)?;
            let &[.., height, width, _] = decoded.dims() else {
                bail!("a frame has rows, columns and channels")
            };
            let bytes = rgb8_from_tensor(&decoded)?;
            pictures.push(Rgb8Image::new(width, height, bytes)?);
        }
        let row = SheetRow {
            caption: "",
            frames: &pictures,
        };
        Ok(contact_sheet(&[row], &SheetStyle::default())?.save(path)?)
    }
}

mod on_card;
#[cfg(test)]
mod tests;
