//! One training step of a preset's denoiser: forward, backward, clipping, AdamW.

use super::stages::{Work, numbers};
use kinora_diffusion::denoising_loss;
use kinora_model::compute::Compute;
use kinora_model::flops;
use kinora_model::params::Source;
use kinora_model::presets::Preset;
use kinora_model::unet::{Pass, UNet, UNetConfig};
use kinora_tensor::optim::{AdamW, Trained, adamw};
use kinora_tensor::{Param, Tensor, on_the_cores, ops};
use kinora_train::optim::{clip_scale, global_norm};
use serde_json::{Value, json};

/// The network and the batch of the step.
pub struct TrainStep {
    preset: &'static Preset,
    /// Clips.
    batch: usize,
    /// Rows and columns of the latents.
    side: usize,
    frames: usize,
}

/// A step with everything it keeps from one to the next. Weights, moments, gradients and the loss are
/// f32 wherever it is done, and clips are noised on the processor, as in training.
pub struct Prepared {
    compute: Compute,
    config: UNetConfig,
    unet: UNet,
    params: Vec<Param>,
    /// Of each parameter, m and v.
    moments: Vec<[Tensor; 2]>,
    clean: Tensor,
    noise: Tensor,
    condition: Tensor,
    context: Tensor,
    /// Steps done.
    t: u64,
}

impl TrainStep {
    /// The step that is measured.
    pub fn standard() -> Self {
        let preset = Preset::named("small").expect("the table of presets has a small one");
        TrainStep {
            preset,
            batch: 4,
            side: 16,
            frames: preset.frames,
        }
    }

    /// The network and the batch, so that others can do the same work.
    pub fn setup(&self) -> Value {
        let unet = self.preset.unet().to_json().ok();
        let unet = unet.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        json!({
            "unet": unet, "batch": self.batch, "frames": self.frames,
            "latent_height": self.side, "latent_width": self.side,
            "context": self.preset.clip.projection,
        })
    }

    /// Puts the network and what the optimiser keeps where `compute` says, in f32.
    ///
    /// # Errors
    /// When the network cannot be built, or a card cannot be used or has no memory left.
    pub fn prepared(&self, compute: Compute) -> anyhow::Result<Prepared> {
        let config = self.preset.unet();
        let source = Source::fresh(0);
        let unet = UNet::new(&source, &config)?;
        let params = source.params();
        let params: Vec<Param> = params.iter().map(|named| named.param.clone()).collect();
        let mut moments = Vec::with_capacity(params.len());
        for param in &params {
            let there = param.get().to_device(compute.device())?;
            let zeros = || Tensor::zeros([there.elements()]).to_device(compute.device());
            moments.push([zeros()?, zeros()?]);
            param.set(there);
            param.set_trainable(true);
        }
        let (t, side) = (self.frames, self.side);
        let latents = |channels: usize| numbers([self.batch, t, side, side, channels]);
        let context = numbers([self.batch, 1, self.preset.clip.projection]);
        Ok(Prepared {
            compute,
            unet,
            params,
            moments,
            clean: latents(config.out_channels),
            noise: latents(config.out_channels),
            condition: latents(config.condition_channels()),
            context: compute.there(&context)?,
            config,
            t: 0,
        })
    }
}

impl Prepared {
    /// The step as work to be timed.
    pub fn work(mut self) -> Work<'static> {
        let &[batch, t, h, w, _] = self.clean.dims() else {
            unreachable!("clips have five axes");
        };
        // Backwards each multiplication is done twice more: for its input and for its weights.
        let tflop = 3.0 * batch as f64 * flops::unet(&self.config, t, h, w) / 1e12;
        let step = move || on_the_cores(|| self.step());
        (Box::new(step), tflop)
    }

    fn step(&mut self) -> anyhow::Result<()> {
        let clips = self.clean.dims()[0];
        let added = vec![[6.0, 127.0, 0.02]; clips];
        let sigmas: Vec<f32> = (0..clips).map(|clip| 0.5 + clip as f32).collect();
        let network = |input: &Tensor, labels: &[f32]| -> kinora_model::Result<Tensor> {
            let x = self
                .compute
                .there(&ops::concat(&[input, &self.condition], 4)?)?;
            self.unet
                .forward(&x, labels, &self.context, &added, Pass::default())
        };
        let loss = denoising_loss(network, &self.clean, &self.noise, &sigmas)?;
        let mut gradients = loss.backward()?;
        let params = self.params.iter();
        let found: Vec<Option<Tensor>> = params.map(|p| gradients.take(&p.get())).collect();
        let scale = clip_scale(global_norm(found.iter().flatten())?, 1.0);
        self.t += 1;
        let numbers = AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            learning_rate: 1e-4,
            t: self.t,
            gradient_scale: scale,
            average_decay: 1.0,
        };
        let kept = self.moments.iter_mut().zip(&found);
        let trained = self.params.iter().zip(kept);
        let trained = trained.filter_map(|(param, ([m, v], gradient))| {
            let gradient = Some(gradient.as_ref()?);
            Some(Trained {
                param,
                gradient,
                m,
                v,
                average: None,
            })
        });
        Ok(adamw(&mut trained.collect::<Vec<_>>(), &numbers)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::testing::relative_l2;
    use kinora_tensor::{DType, card_memory, host_device};

    /// How far two steps move each value, on a device in a type.
    fn moved(compute: Compute) -> Vec<f32> {
        let small = TrainStep {
            preset: Preset::named("tiny").expect("in the table"),
            batch: 1,
            side: 4,
            frames: 2,
        };
        let mut prepared = small.prepared(compute).unwrap();
        let values = |prepared: &Prepared| -> Vec<f32> {
            let of = |param: &Param| {
                let value = param.get();
                assert_eq!(
                    (value.device(), value.dtype()),
                    (compute.device(), DType::F32)
                );
                value
                    .to_device(kinora_tensor::Device::Cpu)
                    .unwrap()
                    .to_vec()
            };
            prepared.params.iter().flat_map(of).collect()
        };
        let before = values(&prepared);
        for _ in 0..2 {
            prepared.step().unwrap();
        }
        let after = values(&prepared);
        let (_, tflop) = prepared.work();
        assert!(tflop > 0.0);
        after.iter().zip(before).map(|(a, b)| a - b).collect()
    }

    #[test]
    fn a_training_step_on_a_card_moves_weights_as_on_the_processor() {
        let Some(card) = host_device(1 << 30) else {
            return;
        };
        let expected = moved(Compute::PROCESSOR);
        assert!(expected.iter().any(|v| *v != 0.0));
        // Where a gradient is its own rounding error, AdamW goes another way and as far.
        for (dtype, most) in [(DType::F32, 0.05), (DType::BF16, 0.5)] {
            let found = moved(Compute::new(card, dtype).unwrap());
            let apart = relative_l2(&found, &expected);
            println!("{dtype}: {apart:.1e}");
            assert!(apart <= most, "{dtype}: {apart:.1e}");
            assert_eq!(card_memory(card).unwrap().used_bytes(), 0);
        }
    }
}
