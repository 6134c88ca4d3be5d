//! The work of each stage, ready to be timed.

use super::train_step::TrainStep;
use crate::args::{BenchArgs, BenchStage};
use crate::defaults::Defaults;
use anyhow::{Context as _, bail};
use kinora_model::clip::{ClipVision, ClipVisionConfig};
use kinora_model::compute::Compute;
use kinora_model::flops;
use kinora_model::params::Source;
use kinora_model::presets::Preset;
use kinora_model::unet::{UNet, UNetConfig};
use kinora_model::vae::{Vae, VaeConfig};
use kinora_model::weights::Weights;
use kinora_tensor::Tensor;
use kinora_tensor::random::Philox;
use serde_json::{Value, json};
use std::path::Path;

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
            BenchStage::TrainStep => Ok(TrainStep::standard().prepared(self.compute)?.work()),
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

/// Repeatable normal draws.
pub(super) fn numbers<const N: usize>(dims: [usize; N]) -> Tensor {
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
    }
}
