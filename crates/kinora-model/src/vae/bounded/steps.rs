//! A decoder as a row of steps that can be taken one frame or band at a time.

use crate::layers::{Conv2d, GroupNorm, Linear, TimeConv};
use crate::vae::blocks::{PixelAttention, SpatialBlock, TemporalBlock, Upsampler};
use crate::vae::image_decoder::ImageDecoder;
use crate::vae::temporal_decoder::TemporalDecoder;
use crate::vae::{VaeConfig, VaeKind};

/// One step: attention, or a residual block with the upsampling that may precede it.
pub(super) enum Step<'a> {
    Attend(&'a PixelAttention),
    Block {
        upsampler: Option<&'a Upsampler>,
        spatial: &'a SpatialBlock,
        temporal: Option<&'a TemporalBlock>,
    },
}

/// A decoder from the first convolution to the last.
pub(in crate::vae) struct Steps<'a> {
    pub(super) post_quant_conv: Option<&'a Linear>,
    pub(super) conv_in: &'a Conv2d,
    pub(super) steps: Vec<Step<'a>>,
    pub(super) norm: &'a GroupNorm,
    pub(super) conv_out: &'a Conv2d,
    pub(super) time_conv_out: Option<&'a TimeConv>,
}

impl<'a> Steps<'a> {
    pub(in crate::vae) fn of_temporal(decoder: &'a TemporalDecoder) -> Self {
        let mut steps = Vec::new();
        for (k, block) in decoder.middle.active().iter().enumerate() {
            steps.extend(decoder.middle.before(k).map(Step::Attend));
            steps.push(Step::Block {
                upsampler: None,
                spatial: &block.spatial,
                temporal: Some(&block.temporal),
            });
        }
        let mut upsampler = None;
        for level in &decoder.levels {
            steps.extend(level.blocks.iter().map(|block| Step::Block {
                upsampler: upsampler.take(),
                spatial: &block.spatial,
                temporal: Some(&block.temporal),
            }));
            upsampler = level.upsampler.as_ref();
        }
        Steps {
            post_quant_conv: None,
            conv_in: &decoder.conv_in,
            steps,
            norm: &decoder.norm,
            conv_out: &decoder.conv_out,
            time_conv_out: Some(&decoder.time_conv_out),
        }
    }

    pub(in crate::vae) fn of_image(
        decoder: &'a ImageDecoder,
        post_quant_conv: Option<&'a Linear>,
    ) -> Self {
        let block = |spatial, upsampler| Step::Block {
            upsampler,
            spatial,
            temporal: None,
        };
        let mut steps = vec![block(&decoder.middle.first, None)];
        steps.extend(decoder.middle.attention.as_ref().map(Step::Attend));
        steps.push(block(&decoder.middle.second, None));
        let mut upsampler = None;
        for (blocks, next) in &decoder.levels {
            steps.extend(
                blocks
                    .iter()
                    .map(|spatial| block(spatial, upsampler.take())),
            );
            upsampler = next.as_ref();
        }
        Steps {
            post_quant_conv,
            conv_in: &decoder.conv_in,
            steps,
            norm: &decoder.norm,
            conv_out: &decoder.conv_out,
            time_conv_out: None,
        }
    }
}

/// The extents of one step: those of [`Steps::steps`], known from the settings alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extents {
    /// Rows and columns of the result.
    pub(super) h: usize,
    pub(super) w: usize,
    /// Channels in and out.
    pub(super) i: usize,
    pub(super) o: usize,
    pub(super) kind: StepKind,
    /// Whether a temporal block follows the spatial one.
    pub(super) temporal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepKind {
    Attend,
    Block,
    UpsamplingBlock,
}

/// The extents of every step for latents of `h` × `w`.
pub(super) fn extents(config: &VaeConfig, mut h: usize, mut w: usize) -> Vec<Extents> {
    let (c, temporal) = (config.deepest(), config.kind == VaeKind::Temporal);
    let middle = |kind| Extents {
        h,
        w,
        i: c,
        o: c,
        kind,
        temporal: temporal && kind != StepKind::Attend,
    };
    let mut all = vec![middle(StepKind::Block)];
    let second = !temporal || config.layers_per_block > 1;
    if second && (temporal || config.has_mid_attention()) {
        all.push(middle(StepKind::Attend));
    }
    if second {
        all.push(middle(StepKind::Block));
    }
    let mut kind = StepKind::Block;
    for level in config.decoder_levels() {
        for (i, o) in level.block_channels() {
            if kind == StepKind::UpsamplingBlock {
                (h, w) = (2 * h, 2 * w);
            }
            all.push(Extents {
                h,
                w,
                i,
                o,
                kind,
                temporal,
            });
            kind = StepKind::Block;
        }
        kind = StepKind::UpsamplingBlock;
    }
    all
}
