//! The whole network.

use super::config::{GROUPS, UNetConfig};
use super::frames::each_frame;
use super::level::{DownLevel, Known, MiddleLevel, UpLevel, Walk};
use super::transformer::Constants;
use crate::layers::{Conv2d, GroupNorm, SinusoidEmbedding};
use crate::params::Source;
use crate::{Error, Result};
use kinora_tensor::graph::Repeated;
use kinora_tensor::{Tensor, ops};

/// Epsilon of the last norm, the same in both reference codes.
const EXIT_EPS: f32 = 1e-5;

/// The spatio-temporal UNet.
#[derive(Debug)]
pub struct UNet {
    config: UNetConfig,
    conv_in: Conv2d,
    noise_embedding: SinusoidEmbedding,
    added_embedding: SinusoidEmbedding,
    down: Vec<DownLevel>,
    middle: MiddleLevel,
    /// From the coarsest to the finest.
    up: Vec<UpLevel>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// How a training pass is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Leaves out everything that looks along time: every frame is an image of its own. The
    /// temporal parameters then get no gradient.
    pub image_only: bool,
    /// Computes each block a second time for its derivative instead of keeping its inner results:
    /// about a third more time for a fraction of the memory.
    pub recompute: bool,
}

/// All that stays the same over the steps of a sampling run, computed once.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// `[b, e]`.
    added: Tensor,
    /// One entry for each stage of the network, in order.
    constants: Vec<Option<Constants>>,
    /// `[b, t, h, w, c]`, or one frame for all: the first convolution's bias and its half of the
    /// condition.
    condition: Option<Tensor>,
    clips: usize,
    frames: usize,
    /// On a card, all that comes after the embedding is captured.
    step: Repeated,
}

impl Prepared {
    /// The repeated step: whether it is captured, and if not, why.
    pub fn step(&self) -> &Repeated {
        &self.step
    }
}

impl UNet {
    /// # Errors
    /// When the settings contradict each other, or the source does not hold the parameters.
    pub fn new(source: &Source, config: &UNetConfig) -> Result<Self> {
        config.check()?;
        let (first, e) = (config.block_out_channels[0], config.embedding_channels());
        let dim = config.addition_time_embed_dim;
        let added = source.at("add_embedding");
        let levels = 0..config.levels();
        Ok(UNet {
            config: config.clone(),
            conv_in: Conv2d::same(&source.at("conv_in"), config.in_channels, first)?,
            noise_embedding: SinusoidEmbedding::new(&source.at("time_embedding"), 1, first, e, e)?,
            added_embedding: SinusoidEmbedding::new(&added, config.added_values(), dim, e, e)?,
            down: levels
                .clone()
                .map(|level| DownLevel::new(source, config, level))
                .collect::<Result<_>>()?,
            middle: MiddleLevel::new(source, config)?,
            up: levels
                .rev()
                .map(|level| UpLevel::new(source, config, level))
                .collect::<Result<_>>()?,
            norm_out: GroupNorm::new(&source.at("conv_norm_out"), first, GROUPS, EXIT_EPS)?,
            conv_out: Conv2d::zeroed(&source.at("conv_out"), first, config.out_channels)?,
        })
    }

    /// The settings it was built from.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// The network's answer F to noised clips, for training: everything is recorded.
    ///
    /// `c_noise` is the noise level of each clip as its scaling gives it, and `added` the
    /// micro-conditions of each clip, as plain numbers. Where the context is a single token, the
    /// query and key projections of the cross-attentions, and the norms before them, do not
    /// influence the result and get no gradient.
    ///
    /// # Shapes
    /// `x` `[b, t, h, w, in_channels]`, noisy latents first, then the condition; `c_noise` and
    /// `added` one entry for each clip; `context` `[b, n, d]`; the result is
    /// `[b, t, h, w, out_channels]`.
    ///
    /// # Errors
    /// When an extent is not the network's, or the clips are not equally many everywhere.
    pub fn forward(
        &self,
        x: &Tensor,
        c_noise: &[f32],
        context: &Tensor,
        added: &[impl AsRef<[f32]>],
        pass: Pass,
    ) -> Result<Tensor> {
        let clips = self.check_clips("x", x, self.config.in_channels)?;
        self.check_context(context, clips)?;
        let added = self.embed_added(added, clips)?;
        let x = each_frame(x, |frames| self.conv_in.forward(frames))?;
        let walk = Walk {
            embedding: self.embedding(c_noise, &added)?,
            known: Known::Context(context),
            image_only: pass.image_only,
            recompute: pass.recompute,
        };
        self.between_convolutions(x, walk)
    }

    /// What [`forward_prepared`](Self::forward_prepared) needs of the conditions of a sampling run
    /// of clips of `frames` frames.
    ///
    /// # Shapes
    /// `context` `[b, n, d]`; `added` one entry for each clip; `condition`
    /// `[b, t, h, w, in_channels − out_channels]`, or `[b, 1, ..]` where it is the same in every
    /// frame, or nothing where the network takes none.
    ///
    /// # Errors
    /// When an extent is not the network's, or the clips are not equally many everywhere.
    pub fn prepare(
        &self,
        context: &Tensor,
        added: &[impl AsRef<[f32]>],
        condition: Option<&Tensor>,
        frames: usize,
    ) -> Result<Prepared> {
        let clips = added.len();
        self.check_context(context, clips)?;
        let down = self.down.iter().flat_map(|level| level.stages());
        let up = self.up.iter().flat_map(|level| level.stages());
        let stages = down.chain(self.middle.stages()).chain(up);
        let constants = stages.map(|stage| stage.constants(context, frames));
        Ok(Prepared {
            added: self.embed_added(added, clips)?,
            constants: constants.collect::<Result<_>>()?,
            condition: self.convolve_condition(condition, clips, frames)?,
            clips,
            frames,
            step: Repeated::default(),
        })
    }

    /// The network's answer F to noised clips under prepared conditions. It is what
    /// [`forward`](Self::forward) gives for the noisy latents and the condition together.
    ///
    /// # Shapes
    /// `noisy` `[b, t, h, w, out_channels]`; the result is like `noisy`.
    ///
    /// # Errors
    /// When the extents of `noisy` are not those that were prepared.
    pub fn forward_prepared(
        &self,
        prepared: &Prepared,
        noisy: &Tensor,
        c_noise: &[f32],
    ) -> Result<Tensor> {
        let clips = self.check_clips("noisy latents", noisy, self.config.out_channels)?;
        if (clips, noisy.dims()[1]) != (prepared.clips, prepared.frames) {
            return Err(Error::argument(
                "noisy latents",
                format!(
                    "expected the {} clips of {} frames that were prepared, found {:?}",
                    prepared.clips,
                    prepared.frames,
                    noisy.dims()
                ),
            ));
        }
        // The sinusoids are made on the processor, so the embedding is an input of what is captured.
        let embedding = self.embedding(c_noise, &prepared.added)?;
        let step = &prepared.step;
        step.run(&[noisy, &embedding], |inputs| {
            self.step(prepared, &inputs[0], &inputs[1])
        })
    }

    /// The rest of [`forward_prepared`](Self::forward_prepared), which is the same work at every step.
    fn step(&self, prepared: &Prepared, noisy: &Tensor, embedding: &Tensor) -> Result<Tensor> {
        let own_bias = prepared.condition.is_none();
        let mut x = each_frame(noisy, |x| self.conv_in.contribution(x, 0, own_bias))?;
        if let Some(condition) = &prepared.condition {
            x = ops::add_broadcast(&x, condition)?;
        }
        let walk = Walk {
            embedding: embedding.clone(),
            known: Known::Constants(prepared.constants.iter()),
            image_only: false,
            recompute: false,
        };
        self.between_convolutions(x, walk)
    }

    /// Everything after the first convolution.
    fn between_convolutions(&self, x: Tensor, mut walk: Walk) -> Result<Tensor> {
        let mut skips = vec![x];
        for level in &self.down {
            let x = skips.last().expect("begins with one").clone();
            skips.extend(level.forward(&x, &mut walk)?);
        }
        let coarsest = skips.last().expect("begins with one").clone();
        let mut x = self.middle.forward(&coarsest, &mut walk)?;
        drop(coarsest);
        for level in &self.up {
            x = level.forward(&x, &mut skips, &mut walk)?;
        }
        each_frame(&x, |frames| {
            self.conv_out.forward(&self.norm_out.forward_silu(frames)?)
        })
    }

    /// `[b, e]`, through SiLU: every block begins with it, so it is applied once.
    fn embedding(&self, c_noise: &[f32], added: &Tensor) -> Result<Tensor> {
        let clips = added.dims()[0];
        if c_noise.len() != clips {
            return Err(Error::argument(
                "c_noise",
                format!(
                    "expected one value for each of {clips} clips, found {}",
                    c_noise.len()
                ),
            ));
        }
        let noise = self.noise_embedding.forward(c_noise, clips)?;
        Ok(ops::silu(&ops::add(&noise, added)?)?)
    }

    fn embed_added(&self, added: &[impl AsRef<[f32]>], clips: usize) -> Result<Tensor> {
        let expected = self.config.added_values();
        let values: Vec<&[f32]> = added.iter().map(AsRef::as_ref).collect();
        if values.len() != clips || values.iter().any(|values| values.len() != expected) {
            return Err(Error::argument(
                "added",
                format!(
                    "expected {expected} micro-conditions for each of {clips} clips, found {:?}",
                    values.iter().map(|values| values.len()).collect::<Vec<_>>()
                ),
            ));
        }
        self.added_embedding.forward(&values.concat(), clips)
    }

    fn convolve_condition(
        &self,
        condition: Option<&Tensor>,
        clips: usize,
        frames: usize,
    ) -> Result<Option<Tensor>> {
        let channels = self.config.condition_channels();
        let Some(condition) = condition else {
            return match channels {
                0 => Ok(None),
                _ => Err(Error::argument(
                    "condition",
                    format!("this network needs condition latents of {channels} channels"),
                )),
            };
        };
        let found = self.check_clips("condition", condition, channels)?;
        if found != clips || ![1, frames].contains(&condition.dims()[1]) {
            return Err(Error::argument(
                "condition",
                format!(
                    "expected {clips} clips of {frames} frames, or of one for all, found {:?}",
                    condition.dims()
                ),
            ));
        }
        let start = self.config.out_channels;
        each_frame(condition, |x| self.conv_in.contribution(x, start, true)).map(Some)
    }

    /// The number of clips in `x`.
    fn check_clips(&self, what: &'static str, x: &Tensor, channels: usize) -> Result<usize> {
        match x.dims() {
            &[b, t, h, w, c] if c == channels && b * t * h * w > 0 => Ok(b),
            other => Err(Error::argument(
                what,
                format!("expected clips [b, t, h, w, {channels}], found {other:?}"),
            )),
        }
    }

    fn check_context(&self, context: &Tensor, clips: usize) -> Result<()> {
        match context.dims() {
            &[b, n, _] if b == clips && n > 0 => Ok(()),
            other => Err(Error::argument(
                "context",
                format!("expected tokens [{clips}, n, d] with n ≥ 1, found {other:?}"),
            )),
        }
    }
}
