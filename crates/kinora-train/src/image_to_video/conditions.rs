//! What a denoiser is told beside the noised clip.

use super::ImageToVideoTask;
use crate::Result;
use crate::batch::{self, Draw};
use crate::clips::{Clip, Clips};
use crate::config;
use kinora_diffusion::LogNormal;
use kinora_model::clip::{CLIP_MEAN, CLIP_STD};
use kinora_model::conditioner::antialiased;
use kinora_model::pixels::Picture;
use kinora_tensor::{Tensor, no_grad, ops};

/// The conditions of a batch.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    /// The token of each still, `[b, 1, d]`.
    pub context: Tensor,
    /// The latent of each noised still on every frame, unscaled: `[b, t, h, w, z]`. Both arrays lie
    /// where the denoiser computes, in its type.
    pub still: Tensor,
    /// Frames a second less one, motion bucket, noise of the still.
    pub added: Vec<[f32; 3]>,
}

/// The numbers drawn for a clip, in this order from its stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn {
    /// The noise level of the clip.
    pub sigma: f32,
    /// The noise level of its still.
    pub still_sigma: f32,
    /// Whether the token is shown.
    pub shows_token: bool,
    /// Whether the still's latent is shown.
    pub shows_still: bool,
}

impl Drawn {
    pub(super) fn new(config: &config::ImageToVideo, draw: &mut Draw) -> Drawn {
        let law = |law: config::LogNormal| LogNormal {
            mean: law.mean,
            std: law.std,
        };
        let sigma = law(config.noise).sample(&mut draw.random);
        let still_sigma = law(config.still_noise).sample(&mut draw.random);
        let u = draw.random.next_f32();
        let p = config.condition_dropout;
        Drawn {
            sigma,
            still_sigma,
            shows_token: u >= 2.0 * p,
            shows_still: u < p || u >= 3.0 * p,
        }
    }
}

impl ImageToVideoTask {
    /// What the denoiser is told of each clip of a batch.
    ///
    /// The frame rate is told less one, as the published models were.
    pub(super) fn conditions(
        &self,
        clips: &Clips,
        draws: &mut [Draw],
        drawn: &[Drawn],
    ) -> Result<Conditions> {
        let shown = |shows: fn(&Drawn) -> bool| -> Vec<f32> {
            drawn
                .iter()
                .map(|drawn| f32::from(u8::from(shows(drawn))))
                .collect()
        };
        let b = draws.len();
        let token = self.tokens(clips, draws)?;
        let mask = Tensor::from_vec(shown(|drawn| drawn.shows_token), [b, 1, 1])?;
        let mask = self.compute.there(&mask)?;
        let still = self.still_latents(clips, draws, drawn)?;
        let still_mask = Tensor::from_vec(shown(|drawn| drawn.shows_still), [b, 1, 1, 1, 1])?;
        let still = ops::mul_broadcast(&still, &self.compute.there(&still_mask)?)?;
        let added = draws.iter().zip(drawn).map(|(draw, drawn)| {
            let Clip {
                fps, motion_bucket, ..
            } = draw.clip;
            [fps - 1.0, motion_bucket, drawn.still_sigma]
        });
        Ok(Conditions {
            context: ops::mul_broadcast(&token, &mask)?,
            still: ops::repeat(&still, 1, clips.frames)?, // [b, t, h, w, z]
            added: added.collect(),
        })
    }

    /// The token of each clip's clean first frame, `[b, 1, d]`.
    fn tokens(&self, clips: &Clips, draws: &[Draw]) -> Result<Tensor> {
        let size = self.image_encoder.config().image_size;
        let mut pictures = Vec::new();
        for draw in draws {
            let bytes = batch::still_bytes(clips, draw)?;
            let picture = Picture::new(&bytes, clips.height, clips.width)?;
            pictures.push(antialiased(picture, size)?);
        }
        let pictures = ops::concat(&pictures.iter().collect::<Vec<_>>(), 0)?;
        let pictures = self.compute.there(&clip_normalised(&pictures)?)?;
        let embeds = self.image_encoder.forward(&pictures)?; // [b, d]
        Ok(embeds.reshape([draws.len(), 1, embeds.dims()[1]])?)
    }

    /// The latent of each clip's noised first frame, `[b, 1, h, w, z]`. Not scaled: the published
    /// models take the condition as the encoder gives it.
    fn still_latents(&self, clips: &Clips, draws: &mut [Draw], drawn: &[Drawn]) -> Result<Tensor> {
        no_grad(|| {
            let frames = batch::frames(clips, draws, 1)?; // [b, 1, H, W, 3]
            let noise = batch::normal(draws, &frames.dims()[1..])?;
            let b = draws.len();
            let sigmas = drawn.iter().map(|drawn| drawn.still_sigma).collect();
            let sigmas = Tensor::from_vec(sigmas, [b, 1, 1, 1, 1])?;
            let noised = ops::add(&frames, &ops::mul_broadcast(&noise, &sigmas)?)?;
            let pictures = noised.reshape([b, clips.height, clips.width, 3])?;
            let mean = self.vae.encode(&self.compute.there(&pictures)?)?.mean;
            let &[_, h, w, z] = mean.dims() else {
                unreachable!("latents of pictures have four axes")
            };
            Ok(mean.reshape([b, 1, h, w, z])?)
        })
    }
}

/// Pictures in −1..1 as CLIP wants them: in 0..1, less its mean, over its deviation.
///
/// # Shapes
/// `[n, s, s, 3]`, kept.
fn clip_normalised(pictures: &Tensor) -> Result<Tensor> {
    let channel = |f: fn(usize) -> f32| Tensor::from_vec((0..3).map(f).collect(), [1, 1, 1, 3]);
    let factor = channel(|c| 0.5 / CLIP_STD[c])?;
    let shift = channel(|c| (0.5 - CLIP_MEAN[c]) / CLIP_STD[c])?;
    Ok(ops::add_broadcast(
        &ops::mul_broadcast(pictures, &factor)?,
        &shift,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_media::Clip as Place;
    use kinora_tensor::random::Philox;
    use kinora_tensor::testing::assert_close;

    fn config(p: f32) -> config::ImageToVideo {
        let law = config::LogNormal {
            mean: 0.7,
            std: 1.6,
        };
        config::ImageToVideo {
            autoencoder: "../autoencoder".into(),
            keep_latents: false,
            unet: config::UNet {
                block_out_channels: vec![32],
                layers_per_block: 1,
                attention: vec![true],
                attention_heads: vec![1],
                addition_time_embed_dim: 8,
            },
            image_encoder: config::ImageEncoder {
                image_size: 8,
                patch_size: 4,
                hidden_size: 8,
                intermediate_size: 8,
                layers: 1,
                attention_heads: 1,
                projection_dim: 8,
            },
            noise: law,
            still_noise: law,
            condition_dropout: p,
        }
    }

    fn drawn(p: f32) -> Vec<Drawn> {
        let clip = Clip {
            place: Place {
                video: 0,
                start: 0,
                stride: 1,
                frames: 1,
            },
            fps: 7.0,
            motion_bucket: 0.0,
        };
        let draw = |k| Draw {
            random: Philox::new(1, k),
            ..Draw::plain(clip)
        };
        (0..20_000)
            .map(|k| Drawn::new(&config(p), &mut draw(k)))
            .collect()
    }

    #[test]
    fn the_token_goes_alone_the_still_goes_alone_and_both_go_each_with_p() {
        let drawn = drawn(0.1);
        let share = |token: bool, still: bool| {
            let like = |d: &&Drawn| (d.shows_token, d.shows_still) == (token, still);
            drawn.iter().filter(like).count() as f64 / drawn.len() as f64
        };
        for (token, still, expected) in [
            (false, true, 0.1),
            (false, false, 0.1),
            (true, false, 0.1),
            (true, true, 0.7),
        ] {
            let found = share(token, still);
            assert!((found - expected).abs() < 0.01, "{token} {still}: {found}");
        }
    }

    #[test]
    fn without_dropout_everything_is_shown() {
        assert!(drawn(0.0).iter().all(|d| d.shows_token && d.shows_still));
    }

    #[test]
    fn clip_sees_its_mean_colour_as_zero() -> Result<()> {
        let mean: Vec<f32> = CLIP_MEAN.iter().map(|m| 2.0 * m - 1.0).collect();
        let white = [1.0; 3];
        let pictures = Tensor::from_vec([&mean[..], &white[..]].concat(), [2, 1, 1, 3])?;
        let expected = (0..3).map(|c| (1.0 - CLIP_MEAN[c]) / CLIP_STD[c]);
        let expected: Vec<f32> = [0.0; 3].into_iter().chain(expected).collect();
        assert_close(&clip_normalised(&pictures)?.to_vec(), &expected, 1e-6);
        Ok(())
    }
}
