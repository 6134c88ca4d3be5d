//! From latents to pictures, every frame by itself: the stock decoder.

use super::VaeConfig;
use super::blocks::{Middle, SPATIAL_EPS, SpatialBlock, Upsampler};
use super::recompute::Recompute;
use crate::Result;
use crate::layers::{Conv2d, GroupNorm};
use crate::params::Source;
use kinora_tensor::Tensor;

/// One convolution, the middle, then residual blocks, each level but the last doubling rows and
/// columns.
#[derive(Clone, Debug)]
pub(super) struct ImageDecoder {
    pub(super) conv_in: Conv2d,
    pub(super) middle: Middle,
    /// From the coarsest to the finest.
    pub(super) levels: Vec<(Vec<SpatialBlock>, Option<Upsampler>)>,
    pub(super) norm: GroupNorm,
    pub(super) conv_out: Conv2d,
}

impl ImageDecoder {
    pub(super) fn new(source: &Source, config: &VaeConfig) -> Result<Self> {
        let (channels, groups) = (&config.block_out_channels, config.groups());
        let (deepest, finest) = (config.deepest(), channels[0]);
        let mid = source.at("mid_block");
        let levels = config.decoder_levels().map(|level| {
            let source = source.at("up_blocks").at(level.index);
            let blocks = level
                .block_channels()
                .enumerate()
                .map(|(k, (i, o))| SpatialBlock::new(&source.at("resnets").at(k), i, o, groups));
            let up = || Upsampler::new(&source, level.o);
            Ok((
                blocks.collect::<Result<_>>()?,
                level.upsamples.then(up).transpose()?,
            ))
        });
        Ok(ImageDecoder {
            conv_in: Conv2d::same(&source.at("conv_in"), config.latent_channels, deepest)?,
            middle: Middle::new(&mid, deepest, groups, config.has_mid_attention())?,
            levels: levels.collect::<Result<_>>()?,
            norm: GroupNorm::new(&source.at("conv_norm_out"), finest, groups, SPATIAL_EPS)?,
            conv_out: Conv2d::same(&source.at("conv_out"), finest, config.out_channels)?,
        })
    }

    /// # Shapes
    /// `x` `[n, h, w, z]`; the result is `[n, d·h, d·w, o]`.
    pub(super) fn forward(&self, x: &Tensor, recompute: Recompute) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x)?;
        x = recompute.run(&self.middle, &x, Middle::forward)?;
        for (blocks, upsampler) in &self.levels {
            for block in blocks {
                x = recompute.run(block, &x, SpatialBlock::forward)?;
            }
            if let Some(upsampler) = upsampler {
                x = recompute.run(upsampler, &x, Upsampler::forward)?;
            }
        }
        x = self.norm.forward_silu(&x)?;
        self.conv_out.forward(&x)
    }
}
