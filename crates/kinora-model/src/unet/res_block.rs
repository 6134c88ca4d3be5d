//! The residual block: over the pixels of each frame, then along time, the two blended.

use super::config::GROUPS;
use super::frames::each_frame;
use crate::Result;
use crate::layers::{Conv2d, GroupNorm, Linear, TimeConv};
use crate::params::{Init, Layout, Source};
use kinora_tensor::ops::Weighed;
use kinora_tensor::{Param, Tensor};

/// Norm, SiLU, convolution, embedding; norm, SiLU, convolution; plus the input.
#[derive(Debug)]
struct SpatialBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    embedding: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Linear>,
}

impl SpatialBlock {
    fn new(source: &Source, i: usize, o: usize, e: usize, eps: f32) -> Result<Self> {
        let shortcut = source.at("conv_shortcut");
        Ok(SpatialBlock {
            norm1: GroupNorm::new(&source.at("norm1"), i, GROUPS, eps)?,
            conv1: Conv2d::same(&source.at("conv1"), i, o)?,
            embedding: Linear::new(&source.at("time_emb_proj"), e, o)?,
            norm2: GroupNorm::new(&source.at("norm2"), o, GROUPS, eps)?,
            conv2: Conv2d::zeroed(&source.at("conv2"), o, o)?,
            shortcut: (i != o)
                .then(|| Linear::point(&shortcut, i, o))
                .transpose()?,
        })
    }

    /// `x` `[b, t, h, w, i]`, `embedding` `[b, e]`; the result is `[b, t, h, w, o]`.
    fn forward(&self, x: &Tensor, embedding: &Tensor) -> Result<Tensor> {
        let shift = self.embedding.forward(embedding)?; // [b, o]
        each_frame(x, |frames| {
            // One name for all, so that each array is let go as soon as the next one is there.
            let mut h = self.norm1.forward_silu(frames)?;
            h = self.conv1.forward_shifted(&h, &shift)?;
            h = self.norm2.forward_silu(&h)?;
            match &self.shortcut {
                None => self.conv2.forward_onto(frames, &h),
                Some(shortcut) => {
                    h = self.conv2.forward(&h)?;
                    shortcut.forward_onto(&h, frames)
                }
            }
        })
    }
}

/// The same along time: statistics are those of the whole clip, kernels are 3 frames of one pixel.
#[derive(Debug)]
struct TemporalBlock {
    norm1: GroupNorm,
    conv1: TimeConv,
    embedding: Linear,
    norm2: GroupNorm,
    conv2: TimeConv,
}

impl TemporalBlock {
    fn new(source: &Source, channels: usize, e: usize, eps: f32) -> Result<Self> {
        Ok(TemporalBlock {
            norm1: GroupNorm::new(&source.at("norm1"), channels, GROUPS, eps)?,
            conv1: TimeConv::new(&source.at("conv1"), channels, channels)?,
            embedding: Linear::new(&source.at("time_emb_proj"), e, channels)?,
            norm2: GroupNorm::new(&source.at("norm2"), channels, GROUPS, eps)?,
            conv2: TimeConv::zeroed(&source.at("conv2"), channels, channels)?,
        })
    }

    /// `x` blended with itself plus what becomes of it; `x` `[b, t, h, w, c]`, `embedding` `[b, e]`, the result is
    /// like `x`.
    fn forward(&self, x: &Tensor, embedding: &Tensor, mix: &Param) -> Result<Tensor> {
        let shift = self.embedding.forward(embedding)?; // [b, c]
        let mut h = self.norm1.forward_silu(x)?;
        h = self.conv1.forward_shifted(&h, &shift)?;
        h = self.norm2.forward_silu(&h)?;
        self.conv2.forward_blend(x, &h, mix, Weighed::Spatial)
    }
}

/// The spatio-temporal residual block.
#[derive(Debug)]
pub(super) struct ResBlock {
    spatial: SpatialBlock,
    temporal: TemporalBlock,
    /// σ(mix) is the weight of the spatial half.
    mix: Param,
}

impl ResBlock {
    /// From `i` to `o` channels, with an embedding of `e`.
    pub(super) fn new(source: &Source, i: usize, o: usize, e: usize, eps: f32) -> Result<Self> {
        Ok(ResBlock {
            spatial: SpatialBlock::new(&source.at("spatial_res_block"), i, o, e, eps)?,
            temporal: TemporalBlock::new(&source.at("temporal_res_block"), o, e, eps)?,
            mix: mix_factor(source)?,
        })
    }

    /// # Shapes
    /// `x` `[b, t, h, w, i]`, `embedding` `[b, e]`, already through SiLU; the result is
    /// `[b, t, h, w, o]`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        embedding: &Tensor,
        image_only: bool,
    ) -> Result<Tensor> {
        let spatial = self.spatial.forward(x, embedding)?;
        if image_only {
            return Ok(spatial);
        }
        self.temporal.forward(&spatial, embedding, &self.mix)
    }
}

/// The learned weight of a blend. σ(0.5) = 0.62 leaves the larger share to the spatial half at first.
pub(super) fn mix_factor(source: &Source) -> Result<Param> {
    let source = source.at("time_mixer");
    source.param("mix_factor", &[1], Layout::Plain, Init::Constant(0.5))
}
