//! The autoencoder: pictures to latents, one for each 8×8 pixels, and latents to pictures.
//!
//! Legend of the shapes: `n` pictures, `b` clips, `t` frames, `h w` rows and columns, `d` the
//! downscale, `c` channels, `z` channels of a latent.

mod config;

mod blocks;
mod recompute;

mod encoder;
mod image_decoder;
mod temporal_decoder;

mod bounded;
mod selfcheck;

pub use bounded::{Decoding, can_decode, decode_peak_bytes};
pub use config::{VaeConfig, VaeKind};
pub(crate) use selfcheck::blocks as selfcheck_blocks;

use crate::layers::Linear;
use crate::params::Source;
use crate::{Error, Result};
use bounded::Steps;
use encoder::Encoder;
use image_decoder::ImageDecoder;
use kinora_tensor::{Device, Tensor, no_grad, ops};
use recompute::Recompute;
use std::ops::ControlFlow;
use temporal_decoder::TemporalDecoder;

/// An autoencoder. Nothing in it is scaled: latents that are diffused are `scaling_factor` times what
/// `encode` gives, and are divided by it before `decode`.
#[derive(Clone, Debug)]
pub struct Vae {
    config: VaeConfig,
    encoder: Encoder,
    quant_conv: Option<Linear>,
    decoder: Decoder,
    recompute: Recompute,
}

#[derive(Clone, Debug)]
// There is one decoder in a process: a pointer between would save nothing.
#[allow(clippy::large_enum_variant)]
enum Decoder {
    Temporal(TemporalDecoder),
    Image {
        post_quant_conv: Option<Linear>,
        decoder: ImageDecoder,
    },
}

impl Decoder {
    fn steps(&self) -> Steps<'_> {
        match self {
            Decoder::Temporal(decoder) => Steps::of_temporal(decoder),
            Decoder::Image {
                post_quant_conv,
                decoder,
            } => Steps::of_image(decoder, post_quant_conv.as_ref()),
        }
    }
}

/// The normal law of a picture's latents.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Its mean, `[n, h/d, w/d, z]`: what a condition frame is given as.
    pub mean: Tensor,
    /// The logarithm of its variance, within −30 and 20, of the same shape.
    pub logvar: Tensor,
}

impl Moments {
    /// mean + exp(logvar / 2) · `noise`.
    ///
    /// # Errors
    /// When the noise has another shape.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        let std = ops::exp(&ops::scale(&self.logvar, 0.5)?)?;
        Ok(ops::add(&self.mean, &ops::mul(&std, noise)?)?)
    }

    /// The divergence from the standard normal law, ½ (mean² + var − 1 − logvar), as a mean over all
    /// latents: `[1]`.
    ///
    /// # Errors
    /// When the mean and the variance have different shapes.
    pub fn divergence(&self) -> Result<Tensor> {
        let var = ops::exp(&self.logvar)?;
        let sum = ops::add(&ops::square(&self.mean)?, &ops::sub(&var, &self.logvar)?)?;
        Ok(ops::affine(&ops::mean(&sum)?, 0.5, -0.5)?)
    }
}

impl Vae {
    /// An autoencoder of these settings with the parameters of `source`. Fresh ones are drawn as
    /// PyTorch draws them, and the temporal blocks change nothing until they are trained.
    ///
    /// # Errors
    /// When the settings contradict each other, or the source does not hold the parameters.
    pub fn new(source: &Source, config: &VaeConfig) -> Result<Self> {
        config.check()?;
        let z = config.latent_channels;
        let point = |name, width| Linear::point(&source.at(name), width, width);
        let decoder = match config.kind {
            VaeKind::Temporal => {
                Decoder::Temporal(TemporalDecoder::new(&source.at("decoder"), config)?)
            }
            VaeKind::Image => Decoder::Image {
                post_quant_conv: config
                    .has_post_quant_conv()
                    .then(|| point("post_quant_conv", z))
                    .transpose()?,
                decoder: ImageDecoder::new(&source.at("decoder"), config)?,
            },
        };
        let quant_conv = config.has_quant_conv().then(|| point("quant_conv", 2 * z));
        Ok(Vae {
            config: config.clone(),
            encoder: Encoder::new(&source.at("encoder"), config)?,
            quant_conv: quant_conv.transpose()?,
            decoder,
            recompute: Recompute::Nothing,
        })
    }

    /// The same network, which while training keeps only what goes into its blocks and computes the
    /// rest again in the backward pass. Gradients are the same to the bit.
    pub fn recomputing(mut self) -> Self {
        self.recompute = Recompute::Blocks;
        self
    }

    /// The settings.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Where its parameters are.
    pub fn device(&self) -> Device {
        self.encoder.device()
    }

    /// The law of the latents of pictures in −1..1.
    ///
    /// # Shapes
    /// `images` `[n, h, w, 3]`, h and w best multiples of the downscale; the moments are
    /// `[n, h/d, w/d, z]`.
    ///
    /// # Errors
    /// When the images have other channels or are smaller than one latent.
    pub fn encode(&self, images: &Tensor) -> Result<Moments> {
        self.check_input("encode", images, 4, self.config.in_channels)?;
        let mut x = self.encoder.forward(images, self.recompute)?;
        if let Some(quant_conv) = &self.quant_conv {
            x = quant_conv.forward(&x)?;
        }
        let (z, last) = (self.config.latent_channels, 3);
        Ok(Moments {
            mean: ops::narrow(&x, last, 0, z)?,
            logvar: ops::clamp(&ops::narrow(&x, last, z, z)?, -30.0, 20.0)?,
        })
    }

    /// The frames of clips, about in −1..1, all at once.
    ///
    /// # Shapes
    /// `latents` `[b, t, h, w, z]`, divided by the scaling factor; the result is
    /// `[b, t, d·h, d·w, 3]`.
    ///
    /// # Errors
    /// When the latents are not clips of the network's channels.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        self.check_input("decode", latents, 5, self.config.latent_channels)?;
        match &self.decoder {
            Decoder::Temporal(decoder) => decoder.forward(latents, self.recompute),
            Decoder::Image {
                post_quant_conv,
                decoder,
            } => {
                let mut x = blocks::frames_from_clip(latents)?;
                if let Some(post_quant_conv) = post_quant_conv {
                    x = post_quant_conv.forward(&x)?;
                }
                let x = decoder.forward(&x, self.recompute)?;
                blocks::clip_from_frames(&x, blocks::clip_dims(latents)?)
            }
        }
    }

    /// What diffusers gives for `decode_chunk_size`: the frames of all clips in a row are cut into
    /// runs that are decoded as clips of their own. A run sees no frame outside it, so other numbers
    /// come out than from [`decode`](Self::decode), unless a run holds everything.
    ///
    /// # Shapes
    /// As [`decode`](Self::decode).
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and when a run has no frames.
    pub fn decode_chunked(&self, latents: &Tensor, frames_per_chunk: usize) -> Result<Tensor> {
        self.check_input("decode", latents, 5, self.config.latent_channels)?;
        if frames_per_chunk == 0 {
            return Err(Error::argument(
                "decode_chunked",
                "a chunk of 0 frames decodes nothing; give at least 1",
            ));
        }
        let clip = blocks::clip_dims(latents)?;
        let frames = blocks::frames_from_clip(latents)?; // [b·t, h, w, z]
        let count = clip[0] * clip[1];
        let runs = (0..count).step_by(frames_per_chunk).map(|first| {
            let len = frames_per_chunk.min(count - first);
            let run = ops::narrow(&frames, 0, first, len)?;
            let run = run.reshape([&[1], run.dims()].concat())?; // [1, len, h, w, z]
            blocks::frames_from_clip(&self.decode(&run)?)
        });
        let runs = runs.collect::<Result<Vec<_>>>()?;
        let all = ops::concat(&runs.iter().collect::<Vec<_>>(), 0)?;
        blocks::clip_from_frames(&all, clip)
    }

    /// The frames of [`decode`](Self::decode), equal but for rounding (a few units in the last place),
    /// handed out in order as they are finished, while activations take at most `budget_bytes` on top
    /// of the weights. See [`decode_peak_bytes`] for what that can be. Where the budget is too small
    /// for the activations of a clip, they wait in a nameless file in the folder for temporary files.
    ///
    /// `sink` gets the number of the first frame it is given, counted through all clips, and the
    /// frames, `[n, d·h, d·w, 3]`; it may stop the decoding. Nothing is recorded.
    ///
    /// # Shapes
    /// `latents` as [`decode`](Self::decode).
    ///
    /// # Errors
    /// As [`decode`](Self::decode); when the budget is below the least there is; when the disk is
    /// full; and what `sink` returns.
    pub fn decode_bounded(
        &self,
        latents: &Tensor,
        budget_bytes: usize,
        mut sink: impl FnMut(usize, Tensor) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.check_input("decode_bounded", latents, 5, self.config.latent_channels)?;
        no_grad(|| {
            let frames = blocks::frames_from_clip(latents)?; // [b·t, h, w, z]
            let steps = self.decoder.steps();
            // Without a temporal decoder every frame is a clip.
            let clip_len = match self.config.kind {
                VaeKind::Temporal => latents.dims()[1],
                VaeKind::Image => 1,
            };
            for first in (0..frames.dims()[0]).step_by(clip_len) {
                let clip = ops::narrow(&frames, 0, first, clip_len)?;
                let mut sink = |number, frame| sink(first + number, frame);
                let flow = bounded::decode(&steps, &self.config, &clip, budget_bytes, &mut sink)?;
                if flow.is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn check_input(&self, what: &'static str, x: &Tensor, rank: usize, c: usize) -> Result<()> {
        let dims = x.dims();
        if dims.len() == rank && dims[rank - 1] == c && !dims.contains(&0) {
            return Ok(());
        }
        let expected = if rank == 4 {
            "[n, h, w,"
        } else {
            "[b, t, h, w,"
        };
        Err(Error::argument(
            what,
            format!("expected {expected} {c}] with nothing empty, found {dims:?}"),
        ))
    }
}

#[cfg(test)]
mod tests;
