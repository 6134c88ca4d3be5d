//! The work of each stage, ready to be timed.

use crate::args::{BenchArgs, BenchStage};
use crate::defaults::Defaults;
use anyhow::{Context as _, bail};
use kinora_diffusion::denoising_loss;
use kinora_model::clip::{ClipVision, ClipVisionConfig};
use kinora_model::compute::Compute;
use kinora_model::flops;
use kinora_model::params::Source;
use kinora_model::presets::Preset;
use kinora_model::unet::{Pass, UNet, UNetConfig};
use kinora_model::vae::{Vae, VaeConfig};
use kinora_model::weights::Weights;
use kinora_tensor::random::Philox;
use kinora_tensor::{Param, Tensor, on_the_cores};
use kinora_train::optim::{AdamW, Moments, clip_scale, global_norm};
use serde_json::{Value, json};
use std::path::Path;

/// Clips in a training step.
const TRAIN_BATCH: usize = 4;
/// Rows and columns of the latents of a training step.
const TRAIN_LATENT_SIDE: usize = 16;

/// Work to be timed, and how many TFLOP one run of it is.
pub type Work<'a> = (Box<dyn FnMut() -> anyhow::Result<()> + 'a>, f64);

/// The model and the size of the clip that are measured.
pub struct Subject {
    weights: Option<Weights>,
    name: String,
    clip: ClipVisionConfig,
    vae: VaeConfig,
    unet: UNetConfig,
    frames: usize,
    height: usize,
    width: usize,
    compute: Compute,
}

impl Subject {
    /// The model given, or the preset with random weights.
    ///
    /// # Errors
    /// When there is no such model or preset, or the size is not one of the model's.
    pub fn new(args: &BenchArgs, compute: Compute) -> anyhow::Result<Self> {
        let preset = Preset::named(&args.preset).with_context(|| {
            format!(
                "--preset: expected one of {}, found {}",
                Preset::names(),
                args.preset
            )
        })?;
        let mut subject = Subject {
            weights: None,
            name: format!("{}, random weights", preset.name),
            clip: preset.image_encoder(),
            vae: preset.vae(),
            unet: preset.unet(),
            frames: args.frames,
            height: args.height,
            width: args.width,
            compute,
        };
        if let Some(model) = &args.model {
            let path = Path::new(model);
            let weights = Weights::open(path)?;
            Defaults::of(path)?; // A model that cannot be sampled is refused here as well.
            subject.name = model.clone();
            subject.clip = weights.image_encoder.config.clone();
            subject.vae = weights.vae.config.clone();
            subject.unet = weights.unet.config.clone();
            subject.weights = Some(weights);
        }
        let side = subject.vae.downscale();
        if args.frames == 0 || !args.width.is_multiple_of(side) || !args.height.is_multiple_of(side)
        {
            bail!(
                "expected at least one frame and a size in multiples of {side}, found {} frames of {}×{}",
                args.frames,
                args.width,
                args.height
            );
        }
        Ok(subject)
    }

    /// What is measured, for the report.
    pub fn settings(&self) -> Value {
        json!({
            "model": self.name, "frames": self.frames, "width": self.width, "height": self.height,
            "device": self.compute.device().to_string(), "dtype": self.compute.dtype().to_string(),
            "threads": std::thread::available_parallelism().map_or(1, usize::from),
        })
    }

    /// Where it is measured.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// The work of one stage.
    ///
    /// # Errors
    /// When a network cannot be built.
    pub fn stage(&self, stage: BenchStage) -> anyhow::Result<Work<'static>> {
        match stage {
            BenchStage::Peak => bail!("the machine itself is no stage of the model"),
            BenchStage::Clip => self.clip(),
            BenchStage::VaeEncode => self.vae_encode(),
            BenchStage::UnetStep => self.unet_step(),
            BenchStage::VaeDecode => self.vae_decode(),
            BenchStage::TrainStep if self.compute.is_on_card() => {
                bail!(
                    "--stage train-step: measured on the processor only so far; leave out --device"
                )
            }
            BenchStage::TrainStep => train_step(),
        }
    }

    fn clip(&self) -> anyhow::Result<Work<'static>> {
        let source = self.source(|weights| weights.image_encoder.source());
        let tower = ClipVision::new(&source, &self.clip)?;
        let side = self.clip.image_size;
        let picture = self.f32_numbers([1, side, side, 3])?;
        let tflop = flops::clip(&self.clip) / 1e12;
        Ok((
            Box::new(move || Ok(tower.forward(&picture).map(drop)?)),
            tflop,
        ))
    }

    fn vae_encode(&self) -> anyhow::Result<Work<'static>> {
        let vae = self.vae()?;
        let picture = self.f32_numbers([1, self.height, self.width, 3])?;
        let tflop = flops::vae_encode(&self.vae, self.height, self.width) / 1e12;
        Ok((Box::new(move || Ok(vae.encode(&picture).map(drop)?)), tflop))
    }

    fn vae_decode(&self) -> anyhow::Result<Work<'static>> {
        let vae = self.vae()?;
        let [t, h, w] = self.latent_dims();
        let latents = self.numbers([1, t, h, w, self.vae.latent_channels])?;
        let tflop = flops::vae_decode(&self.vae, t, h, w) / 1e12;
        Ok((Box::new(move || Ok(vae.decode(&latents).map(drop)?)), tflop))
    }

    /// One branch of one step, as generating does it: what stays the same over the steps was computed
    /// before.
    fn unet_step(&self) -> anyhow::Result<Work<'static>> {
        let unet = UNet::new(&self.source(|weights| weights.unet.source()), &self.unet)?;
        let [t, h, w] = self.latent_dims();
        let context = self.numbers([1, 1, self.unet.cross_attention_dim[0]])?;
        let condition = self.numbers([1, t, h, w, self.unet.condition_channels()])?;
        let noisy = self.numbers([1, t, h, w, self.unet.out_channels])?;
        let prepared = unet.prepare(&context, &[[6.0, 127.0, 0.02]], Some(&condition), t)?;
        let tflop = flops::unet(&self.unet, t, h, w) / 1e12;
        let work = move || Ok(unet.forward_prepared(&prepared, &noisy, &[0.5]).map(drop)?);
        Ok((Box::new(work), tflop))
    }

    fn vae(&self) -> anyhow::Result<Vae> {
        Ok(Vae::new(
            &self.source(|weights| weights.vae.source()),
            &self.vae,
        )?)
    }

    fn source(&self, stored: impl Fn(&Weights) -> Source) -> Source {
        let weights = self.weights.as_ref();
        let source = weights.map_or_else(|| Source::fresh(0), stored);
        source.on(self.compute)
    }

    /// Draws where the networks take them, in the type they take them in.
    fn numbers<const N: usize>(&self, dims: [usize; N]) -> anyhow::Result<Tensor> {
        Ok(self.compute.there(&numbers(dims))?)
    }

    /// The same in f32, in which a still is looked at and encoded on any device.
    fn f32_numbers<const N: usize>(&self, dims: [usize; N]) -> anyhow::Result<Tensor> {
        Ok(numbers(dims).to_device(self.compute.device())?)
    }

    fn latent_dims(&self) -> [usize; 3] {
        let side = self.vae.downscale();
        [self.frames, self.height / side, self.width / side]
    }
}

/// The network and the batch of the training step, so that others can do the same work.
pub fn train_step_setup() -> Value {
    let preset = small();
    let unet = preset
        .unet()
        .to_json()
        .ok()
        .and_then(|text| serde_json::from_str::<Value>(&text).ok());
    json!({
        "unet": unet, "batch": TRAIN_BATCH, "frames": preset.frames,
        "latent_height": TRAIN_LATENT_SIDE, "latent_width": TRAIN_LATENT_SIDE,
        "context": preset.clip.projection,
    })
}

/// One training step of the small preset's denoiser: forward, backward, clipping, AdamW.
fn train_step() -> anyhow::Result<Work<'static>> {
    let preset = small();
    let config = preset.unet();
    let source = Source::fresh(0);
    let unet = UNet::new(&source, &config)?;
    let params: Vec<Param> = source
        .params()
        .iter()
        .map(|named| named.param.clone())
        .collect();
    params.iter().for_each(|param| param.set_trainable(true));
    let mut moments: Vec<Moments> = params
        .iter()
        .map(|param| Moments::zeros(param.get().elements()))
        .collect();
    let (t, side) = (preset.frames, TRAIN_LATENT_SIDE);
    let latents = |channels: usize| numbers([TRAIN_BATCH, t, side, side, channels]);
    let (clean, noise) = (latents(config.out_channels), latents(config.out_channels));
    let condition = latents(config.condition_channels());
    let context = numbers([TRAIN_BATCH, 1, preset.clip.projection]);
    let adamw = AdamW {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
    };
    let added = vec![[6.0, 127.0, 0.02]; TRAIN_BATCH];
    let sigmas: Vec<f32> = (0..TRAIN_BATCH).map(|clip| 0.5 + clip as f32).collect();
    // Backwards each multiplication is done twice more: for its input and for its weights.
    let tflop = 3.0 * TRAIN_BATCH as f64 * flops::unet(&config, t, side, side) / 1e12;
    let mut step = 0;
    let mut one_step = move || -> anyhow::Result<()> {
        let network = |input: &Tensor, labels: &[f32]| -> kinora_model::Result<Tensor> {
            let x = kinora_tensor::ops::concat(&[input, &condition], 4)?;
            unet.forward(&x, labels, &context, &added, Pass::default())
        };
        let mut gradients = denoising_loss(network, &clean, &noise, &sigmas)?.backward()?;
        let found: Vec<Option<Tensor>> = params
            .iter()
            .map(|param| gradients.take(&param.get()))
            .collect();
        let scale = clip_scale(global_norm(found.iter().flatten())?, 1.0);
        step += 1;
        for ((param, moments), gradient) in params.iter().zip(&mut moments).zip(&found) {
            if let Some(gradient) = gradient {
                adamw.step(param, moments, gradient, scale, 1e-4, step)?;
            }
        }
        Ok(())
    };
    Ok((Box::new(move || on_the_cores(&mut one_step)), tflop))
}

fn small() -> &'static Preset {
    Preset::named("small").expect("the table of presets has a small one")
}

/// Repeatable normal draws.
fn numbers<const N: usize>(dims: [usize; N]) -> Tensor {
    Philox::new(0, 0)
        .normal(dims)
        .expect("a few values always have a shape")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Verb};
    use clap::Parser as _;
    use kinora_tensor::{DType, host_device};

    #[test]
    fn every_stage_of_generating_runs_on_a_card() {
        let Some(card) = host_device(1 << 30) else {
            return;
        };
        let words = "kinora bench --preset tiny --frames 2 --width 16 --height 16";
        let Verb::Bench(args) = Cli::parse_from(words.split(' ')).verb else {
            panic!("the verb is `bench`");
        };
        let compute = Compute::new(card, DType::BF16).unwrap();
        let subject = Subject::new(&args, compute).unwrap();
        for stage in [
            BenchStage::Clip,
            BenchStage::VaeEncode,
            BenchStage::UnetStep,
            BenchStage::VaeDecode,
        ] {
            let (mut work, tflop) = subject.stage(stage).unwrap();
            kinora_tensor::no_grad(&mut work).unwrap();
            assert!(tflop > 0.0);
        }
        let settings = subject.settings();
        assert_eq!(settings["device"], card.to_string());
        assert_eq!(settings["dtype"], "bf16");
        assert!(subject.stage(BenchStage::TrainStep).is_err());
    }
}
