//! A look at what the model makes of stills it has not seen.

use super::ImageToVideoTask;
use super::conditions::{Conditions, Drawn};
use crate::Result;
use crate::batch::{self, Draw};
use crate::clips::Clips;
use crate::compute::Compute;
use kinora_diffusion::sampler::euler;
use kinora_diffusion::{LinearGuider, initial_deviation, karras, v_scaling};
use kinora_tensor::random::Philox;
use kinora_tensor::{Tensor, no_grad, ops};
use std::ops::ControlFlow;

/// The published noise levels: from 700 to 0.002 with ρ = 7.
const SIGMA_MAX: f64 = 700.0;
const SIGMA_MIN: f64 = 0.002;
const RHO: f64 = 7.0;

/// Samples draw from streams of their own, far from those of the clips.
const FIRST_STREAM: u64 = 1 << 62;

impl ImageToVideoTask {
    /// Held-out clips, and what the model makes of their first frames.
    ///
    /// # Shapes
    /// Each `[t, h, w, 3]`, true and generated.
    ///
    /// # Errors
    /// None beyond those of the arrays.
    pub fn samples(&self, clips: &Clips, seed: u64, count: usize) -> Result<Vec<(Tensor, Tensor)>> {
        let draws = batch::shown(clips, count).into_iter().enumerate();
        let pair = |(k, draw): (usize, Draw)| {
            // The same noise at every look, so that looks differ by the weights alone.
            let random = Philox::new(seed, FIRST_STREAM + k as u64);
            no_grad(|| self.sample(clips, Draw { random, ..draw }))
        };
        draws.map(pair).collect()
    }

    fn sample(&self, clips: &Clips, draw: Draw) -> Result<(Tensor, Tensor)> {
        let mut draws = [draw];
        let told = Drawn {
            sigma: SIGMA_MAX as f32,
            still_sigma: self.sampling.noise_aug,
            shows_token: true,
            shows_still: true,
        };
        let conditions = self.conditions(clips, &mut draws, &[told])?;
        let noise = batch::normal(&mut draws, &conditions.still.dims()[1..])?;
        let latents = self.walk(&conditions, &noise)?;
        let scale = 1.0 / self.vae.config().scaling_factor;
        let latents = self.compute.there(&ops::scale(&latents, scale)?)?;
        let frames = Compute::back(&self.vae.decode(&latents)?)?;
        let truth = batch::frames(clips, &draws, clips.frames)?;
        let of_clip = |x: &Tensor| x.reshape(&x.dims()[1..]);
        Ok((of_clip(&truth)?, of_clip(&frames)?))
    }

    /// From noise to latents, both `[1, t, h, w, z]`. The walk itself is a few values in f32 and stays
    /// on the processor; the denoiser computes where it lies.
    fn walk(&self, conditions: &Conditions, noise: &Tensor) -> Result<Tensor> {
        let sampling = self.sampling;
        let guider = LinearGuider {
            min: sampling.guidance_min,
            max: sampling.guidance_max,
        };
        let frames = noise.dims()[1];
        let Conditions {
            context,
            still,
            added,
        } = conditions;
        let cond = self.unet.prepare(context, added, Some(still), frames)?;
        let nothing = |x: &Tensor| self.compute.there(&Tensor::zeros(x.shape()));
        let (no_context, no_still) = (nothing(context)?, nothing(still)?);
        let uncond = self
            .unet
            .prepare(&no_context, added, Some(&no_still), frames)?;
        let mut denoise = |x: &Tensor, sigma: f32| -> Result<Tensor> {
            let scaling = v_scaling(sigma);
            let input = self.compute.there(&scaling.input(x)?)?;
            let c_noise = [scaling.c_noise];
            let answer = |known| -> Result<Tensor> {
                let output = self.unet.forward_prepared(known, &input, &c_noise)?;
                Ok(Compute::back(&output)?)
            };
            let mut output = answer(&cond)?;
            if guider.is_active() {
                output = guider.combine(&answer(&uncond)?, &output)?;
            }
            Ok(scaling.denoised(x, &output)?)
        };
        let sigmas = karras(sampling.steps, SIGMA_MIN, SIGMA_MAX, RHO);
        let first = ops::scale(noise, initial_deviation(sigmas[0]))?;
        euler(&mut denoise, first, &sigmas, &mut |_| {
            ControlFlow::Continue(())
        })
    }
}
