//! The story: a still becomes a moving picture.
//!
//! Legend of the shapes: `t` frames, `h w` rows and columns of the latents, `d` the side of a latent
//! in pixels, `c` channels of a latent.

mod guided;
mod model;
mod progress;
mod settings;

pub use model::{Configs, Model, Networks};
pub use progress::{Event, Observer, Stage};
pub use settings::Settings;

use crate::Result;
use crate::compute::Compute;
use crate::conditioner::{self, Conditioning};
use crate::pixels::Picture;
use crate::vae::{Decoding, Vae};
use guided::Guided;
use kinora_diffusion::{initial_deviation, karras};
use kinora_tensor::random::TorchCpu;
use kinora_tensor::{Tensor, no_grad, ops};
use progress::Progress;
use std::ops::ControlFlow;

/// ρ of the noise levels: how much closer together the low ones lie.
const RHO: f64 = 7.0;

/// Makes a clip from a still. The same seed and settings give the frames diffusers gives.
///
/// # Shapes
/// The result is `[t, d·h, d·w, 3]`, about −1 to 1, on the processor; see `pixels` for bytes.
///
/// # Errors
/// When the settings cannot be, the networks do not fit one another, or the observer stops.
pub fn generate(
    networks: Networks<'_>,
    picture: Picture<'_>,
    settings: &Settings,
    observer: &mut Observer<'_>,
) -> Result<Tensor> {
    networks.configs().check()?;
    settings.check(networks.configs())?;
    no_grad(|| {
        // The noise of the still is drawn before that of the latents, and both in the layout of
        // PyTorch, so that a seed means what it means there.
        let mut random = TorchCpu::new(settings.seed);
        let still_noise = draw_still_noise(&mut random, settings)?;
        let noise = draw_latents(&mut random, networks.vae, settings)?;

        let progress = Progress::new(observer);
        let conditioning = condition(networks, picture, settings, &still_noise, &progress)?;
        if let Some(files) = networks.weights {
            files.image_encoder.let_go();
        }
        let latents = denoise(networks, &conditioning, noise, settings, &progress)?;
        if let Some(files) = networks.weights {
            files.unet.let_go();
        }
        decode(networks, &latents, settings.decoding, &progress)
    })
}

/// Standard normal draws for each value of the still, `[1, d·h, d·w, 3]`.
fn draw_still_noise(random: &mut TorchCpu, settings: &Settings) -> Result<Tensor> {
    let noise = random.randn([1, 3, settings.height, settings.width])?;
    Ok(ops::permute(&noise, &[0, 2, 3, 1])?)
}

/// Standard normal draws for each latent, `[1, t, h, w, c]`.
fn draw_latents(random: &mut TorchCpu, vae: &Vae, settings: &Settings) -> Result<Tensor> {
    let (side, c) = (vae.config().downscale(), vae.config().latent_channels);
    let (h, w) = (settings.height / side, settings.width / side);
    let noise = random.randn([1, settings.frames, c, h, w])?;
    Ok(ops::permute(&noise, &[0, 1, 3, 4, 2])?)
}

fn condition(
    networks: Networks<'_>,
    picture: Picture<'_>,
    settings: &Settings,
    still_noise: &Tensor,
    progress: &Progress<'_>,
) -> Result<Conditioning> {
    progress.begin(Stage::Look, 1)?;
    let context = conditioner::context_from_picture(networks.clip, picture)?;
    progress.complete(Stage::Look)?;

    progress.begin(Stage::Encode, 1)?;
    let still = conditioner::still_from_picture(picture, settings.height, settings.width)?;
    let concat =
        conditioner::concat_from_still(networks.vae, &still, still_noise, settings.noise_aug)?;
    progress.complete(Stage::Encode)?;

    let added = settings.added();
    Ok(Conditioning {
        context,
        concat,
        added,
    })
}

fn denoise(
    networks: Networks<'_>,
    conditioning: &Conditioning,
    noise: Tensor,
    settings: &Settings,
    progress: &Progress<'_>,
) -> Result<Tensor> {
    let guided = Guided::new(networks.unet, networks.compute, conditioning, settings)?;
    let evaluations = settings.sampler.evaluations(settings.steps);
    progress.begin(Stage::Denoise, guided.passes() * evaluations)?;

    let sigmas = karras(settings.steps, settings.sigma_min, settings.sigma_max, RHO);
    let noise = noise.to_device(networks.compute.device())?;
    let start = ops::scale(&noise, initial_deviation(sigmas[0]))?;
    let latents = settings.sampler.run(
        &mut |noised, sigma| guided.denoised(noised, sigma, progress),
        start,
        &sigmas,
        &mut |step| progress.step(step),
    )?;
    let (captured, refusal) = guided.captured();
    progress.denoised(captured, refusal.as_deref())?;
    Ok(latents)
}

/// The frames of latents as the sampler gives them, `[1, t, h, w, c]`.
fn decode(
    networks: Networks<'_>,
    latents: &Tensor,
    decoding: Decoding,
    progress: &Progress<'_>,
) -> Result<Tensor> {
    let (vae, t) = (networks.vae, latents.dims()[1]);
    progress.begin(Stage::Decode, t)?;
    let latents = ops::scale(latents, 1.0 / vae.config().scaling_factor)?;
    let latents = networks.compute.there(&latents)?;
    let clip = match decoding {
        Decoding::Bounded { budget_bytes } => {
            let mut frames = Vec::with_capacity(t);
            // An observer that stops does it by an error, so the frames never break off.
            vae.decode_bounded(&latents, budget_bytes, |_, frame| {
                frames.push(Compute::back(&frame)?);
                progress.advance(Stage::Decode)?;
                Ok(ControlFlow::Continue(()))
            })?;
            return Ok(ops::concat(&frames.iter().collect::<Vec<_>>(), 0)?); // [t, d·h, d·w, 3]
        }
        Decoding::Chunked { frames } if frames < t => vae.decode_chunked(&latents, frames)?,
        Decoding::Whole | Decoding::Chunked { .. } => vae.decode(&latents)?,
    };
    let clip = Compute::back(&clip)?;
    progress.complete(Stage::Decode)?;
    let dims = clip.dims()[1..].to_vec();
    Ok(clip.reshape(dims)?)
}
