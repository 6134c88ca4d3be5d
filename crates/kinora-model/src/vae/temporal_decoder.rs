//! From the latents of a clip to its frames: the decoder that does not flicker.

use super::VaeConfig;
use super::blocks::{
    PixelAttention, SPATIAL_EPS, SpatioTemporalBlock, Upsampler, clip_dims, clip_from_frames,
    frames_from_clip,
};
use super::recompute::Recompute;
use crate::Result;
use crate::layers::{Conv2d, GroupNorm, TimeConv};
use crate::params::Source;
use kinora_tensor::Tensor;

/// The stock decoder with every residual block followed by one along time, and one convolution along
/// time at the end.
#[derive(Clone, Debug)]
pub(super) struct TemporalDecoder {
    pub(super) conv_in: Conv2d,
    pub(super) middle: TemporalMiddle,
    /// From the coarsest to the finest.
    pub(super) levels: Vec<TemporalLevel>,
    pub(super) norm: GroupNorm,
    pub(super) conv_out: Conv2d,
    pub(super) time_conv_out: TimeConv,
}

impl TemporalDecoder {
    pub(super) fn new(source: &Source, config: &VaeConfig) -> Result<Self> {
        let (deepest, finest) = (config.deepest(), config.block_out_channels[0]);
        let (groups, o) = (config.groups(), config.out_channels);
        let levels = config.decoder_levels().map(|level| {
            let source = source.at("up_blocks").at(level.index);
            let blocks = level.block_channels().enumerate().map(|(k, (i, o))| {
                SpatioTemporalBlock::new(&source.at("resnets").at(k), i, o, groups)
            });
            let up = || Upsampler::new(&source, level.o);
            Ok(TemporalLevel {
                blocks: blocks.collect::<Result<_>>()?,
                upsampler: level.upsamples.then(up).transpose()?,
            })
        });
        Ok(TemporalDecoder {
            conv_in: Conv2d::same(&source.at("conv_in"), config.latent_channels, deepest)?,
            middle: TemporalMiddle::new(&source.at("mid_block"), config)?,
            levels: levels.collect::<Result<_>>()?,
            norm: GroupNorm::new(&source.at("conv_norm_out"), finest, groups, SPATIAL_EPS)?,
            conv_out: Conv2d::same(&source.at("conv_out"), finest, o)?,
            time_conv_out: TimeConv::new(&source.at("time_conv_out"), o, o)?,
        })
    }

    /// # Shapes
    /// `x` `[b, t, h, w, z]`; the result is `[b, t, d·h, d·w, o]`.
    pub(super) fn forward(&self, x: &Tensor, recompute: Recompute) -> Result<Tensor> {
        let clip = clip_dims(x)?;
        let mut x = self.conv_in.forward(&frames_from_clip(x)?)?;
        x = clip_from_frames(&x, clip)?;
        x = self.middle.forward(x, recompute)?;
        for level in &self.levels {
            x = level.forward(x, recompute)?;
        }
        x = self.norm.forward_silu(&frames_from_clip(&x)?)?;
        x = self.conv_out.forward(&x)?;
        self.time_conv_out.forward(&clip_from_frames(&x, clip)?)
    }
}

/// The middle: a block, attention, a block.
#[derive(Clone, Debug)]
pub(super) struct TemporalMiddle {
    pub(super) blocks: Vec<SpatioTemporalBlock>,
    attention: PixelAttention,
}

impl TemporalMiddle {
    pub(super) fn new(source: &Source, config: &VaeConfig) -> Result<Self> {
        let (c, groups) = (config.deepest(), config.groups());
        let blocks = (0..config.layers_per_block)
            .map(|k| SpatioTemporalBlock::new(&source.at("resnets").at(k), c, c, groups));
        Ok(TemporalMiddle {
            blocks: blocks.collect::<Result<_>>()?,
            attention: PixelAttention::new(&source.at("attentions").at(0), c, groups)?,
        })
    }

    /// Whether and by what the block number `k` is preceded: attention stands before the second
    /// block. With one block to a level there is no second, and attention has parameters but no
    /// say; with three the third is idle. Published weights have two; this is how files of other
    /// sizes are meant.
    pub(super) fn before(&self, k: usize) -> Option<&PixelAttention> {
        (k == 1).then_some(&self.attention)
    }

    /// How many of the blocks are run.
    pub(super) fn active(&self) -> &[SpatioTemporalBlock] {
        &self.blocks[..self.blocks.len().min(2)]
    }

    /// # Shapes
    /// `x` `[b, t, h, w, c]`; the result is like `x`.
    pub(super) fn forward(&self, mut x: Tensor, recompute: Recompute) -> Result<Tensor> {
        let clip = clip_dims(&x)?;
        for (k, block) in self.active().iter().enumerate() {
            if let Some(attention) = self.before(k) {
                x = frames_from_clip(&x)?;
                x = recompute.run(attention, &x, PixelAttention::forward)?;
                x = clip_from_frames(&x, clip)?;
            }
            x = block.forward(x, recompute)?;
        }
        Ok(x)
    }
}

/// Residual blocks, then twice the size.
#[derive(Clone, Debug)]
pub(super) struct TemporalLevel {
    pub(super) blocks: Vec<SpatioTemporalBlock>,
    pub(super) upsampler: Option<Upsampler>,
}

impl TemporalLevel {
    /// # Shapes
    /// `x` `[b, t, h, w, i]`; the result is `[b, t, 2h, 2w, o]`, of the same size at the finest level.
    pub(super) fn forward(&self, mut x: Tensor, recompute: Recompute) -> Result<Tensor> {
        let clip = clip_dims(&x)?;
        for block in &self.blocks {
            x = block.forward(x, recompute)?;
        }
        if let Some(upsampler) = &self.upsampler {
            x = frames_from_clip(&x)?;
            x = recompute.run(upsampler, &x, Upsampler::forward)?;
            x = clip_from_frames(&x, clip)?;
        }
        Ok(x)
    }
}
