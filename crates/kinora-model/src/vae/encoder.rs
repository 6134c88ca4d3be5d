//! From pictures to the moments of their latents.

use super::blocks::{Middle, SPATIAL_EPS, SpatialBlock};
use super::recompute::Recompute;
use super::{VaeConfig, VaeKind};
use crate::Result;
use crate::layers::{Conv2d, GroupNorm};
use crate::params::Source;
use kinora_tensor::{Device, Tensor, ops};

/// The stock encoder: residual blocks, each level but the last halving rows and columns, then the
/// middle, then one convolution.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    conv_in: Conv2d,
    levels: Vec<Level>,
    middle: Middle,
    norm: GroupNorm,
    conv_out: Conv2d,
}

#[derive(Clone, Debug)]
struct Level {
    blocks: Vec<SpatialBlock>,
    down: Option<Conv2d>,
}

impl Encoder {
    pub(super) fn new(source: &Source, config: &VaeConfig) -> Result<Self> {
        let (channels, groups) = (&config.block_out_channels, config.groups());
        let deepest = config.deepest();
        let attends = config.kind == VaeKind::Temporal || config.has_mid_attention();
        let levels = (0..channels.len()).map(|level| Level::new(source, config, level));
        Ok(Encoder {
            conv_in: Conv2d::same(&source.at("conv_in"), config.in_channels, channels[0])?,
            levels: levels.collect::<Result<_>>()?,
            middle: Middle::new(&source.at("mid_block"), deepest, groups, attends)?,
            norm: GroupNorm::new(&source.at("conv_norm_out"), deepest, groups, SPATIAL_EPS)?,
            conv_out: Conv2d::same(&source.at("conv_out"), deepest, 2 * config.latent_channels)?,
        })
    }

    pub(super) fn device(&self) -> Device {
        self.conv_in.device()
    }

    /// # Shapes
    /// `x` `[n, h, w, i]`; the result is `[n, h/d, w/d, 2z]`.
    pub(super) fn forward(&self, x: &Tensor, recompute: Recompute) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x)?;
        for level in &self.levels {
            for block in &level.blocks {
                x = recompute.run(block, &x, SpatialBlock::forward)?;
            }
            if let Some(down) = &level.down {
                x = down.forward(&x)?;
            }
        }
        x = recompute.run(&self.middle, &x, Middle::forward)?;
        x = self.norm.forward_silu(&x)?;
        self.conv_out.forward(&x)
    }
}

impl Level {
    fn new(source: &Source, config: &VaeConfig, level: usize) -> Result<Self> {
        let (channels, groups) = (&config.block_out_channels, config.groups());
        let source = source.at("down_blocks").at(level);
        let o = channels[level];
        let blocks = (0..config.layers_per_block).map(|k| {
            let i = if k == 0 {
                channels[level.saturating_sub(1)]
            } else {
                o
            };
            SpatialBlock::new(&source.at("resnets").at(k), i, o, groups)
        });
        let down = || {
            let conv = source.at("downsamplers").at(0).at("conv");
            Conv2d::new(&conv, o, o, 3, ops::Conv2d::down_asymmetric())
        };
        Ok(Level {
            blocks: blocks.collect::<Result<_>>()?,
            down: (level + 1 < channels.len()).then(down).transpose()?,
        })
    }
}
