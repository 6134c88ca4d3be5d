//! The tower itself.

use super::ClipVisionConfig;
use super::block::Block;
use crate::layers::{LayerNorm, Linear, widened};
use crate::params::{Init, Layout, Source};
use crate::{Error, Result};
use kinora_tensor::{Device, Param, Tensor, ops};

/// A vision transformer with a projection: patches become tokens behind a class token, and the class
/// token of the last block is the picture's embedding.
#[derive(Clone, Debug)]
pub struct ClipVision {
    trunk: VisionTrunk,
    last_norm: LayerNorm,
    projection: Linear,
}

impl ClipVision {
    /// A tower of these settings with the parameters of `source`.
    ///
    /// # Errors
    /// When the settings contradict each other, or the source does not hold the parameters.
    pub fn new(source: &Source, config: &ClipVisionConfig) -> Result<Self> {
        let trunk = VisionTrunk::new(source, config)?;
        let (c, eps) = (config.hidden_size, config.layer_norm_eps);
        let norm = source.at("vision_model").at("post_layernorm");
        let last = source.at("visual_projection");
        Ok(ClipVision {
            trunk,
            last_norm: LayerNorm::new(&norm, c, eps)?,
            projection: Linear::without_bias(&last, c, config.projection_dim)?,
        })
    }

    /// The settings.
    pub fn config(&self) -> &ClipVisionConfig {
        &self.trunk.config
    }

    /// Where its parameters are.
    pub fn device(&self) -> Device {
        self.projection.device()
    }

    /// The embeddings of pictures whose channels are normalised by CLIP's means and deviations. The
    /// embeddings themselves are not normalised.
    ///
    /// # Shapes
    /// `images` `[n, s, s, 3]`; the result is `[n, p]`.
    ///
    /// # Errors
    /// When the pictures have another size or other channels.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let class = self.trunk.class_token(images)?;
        self.projection.forward(&self.last_norm.forward(&class)?)
    }
}

/// The tower up to its last block: CoCa pools its tokens in another way.
#[derive(Clone, Debug)]
pub(crate) struct VisionTrunk {
    config: ClipVisionConfig,
    class_embedding: Param,
    patch_embedding: Param,
    position_embedding: Param,
    first_norm: LayerNorm,
    blocks: Vec<Block>,
}

impl VisionTrunk {
    pub(crate) fn new(source: &Source, config: &ClipVisionConfig) -> Result<Self> {
        config.check()?;
        let (c, patch, eps) = (config.hidden_size, config.patch_size, config.layer_norm_eps);
        let vision = source.at("vision_model");
        let embeddings = vision.at("embeddings");
        let patches = [c, patch, patch, config.num_channels];
        let positions = [config.tokens(), c];
        let place = Init::Normal(0.02);
        let layers = vision.at("encoder").at("layers");
        let blocks =
            (0..config.num_hidden_layers).map(|k| Block::new(&layers.at(k), config.block()));
        let (patch_source, position_source) = (
            embeddings.at("patch_embedding"),
            embeddings.at("position_embedding"),
        );
        Ok(VisionTrunk {
            config: config.clone(),
            class_embedding: embeddings.param("class_embedding", &[c], Layout::Plain, place)?,
            patch_embedding: patch_source.param("weight", &patches, Layout::Conv2d, Init::FanIn)?,
            position_embedding: position_source.param(
                "weight",
                &positions,
                Layout::Plain,
                place,
            )?,
            // The published name is spelt so.
            first_norm: LayerNorm::new(&vision.at("pre_layrnorm"), c, eps)?,
            blocks: blocks.collect::<Result<_>>()?,
        })
    }

    /// # Shapes
    /// `images` `[n, s, s, 3]`; the result is `[n, m, c]`, the class token first.
    pub(crate) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.through(images, &self.blocks)
    }

    /// What these of its blocks make of the tokens.
    fn through(&self, images: &Tensor, blocks: &[Block]) -> Result<Tensor> {
        let mut x = self.first_norm.forward(&self.tokens(images)?)?;
        for block in blocks {
            x = block.forward(&x)?;
        }
        Ok(x)
    }

    /// The class token alone: the last block makes none of the others.
    ///
    /// # Shapes
    /// `images` `[n, s, s, 3]`; the result is `[n, c]`.
    fn class_token(&self, images: &Tensor) -> Result<Tensor> {
        let x = match self.blocks.split_last() {
            Some((last, before)) => last.forward_first(&self.through(images, before)?)?,
            None => self.through(images, &[])?,
        };
        let (n, c) = (x.dims()[0], x.shape().last());
        Ok(ops::narrow(&x, 1, 0, 1)?.reshape([n, c])?)
    }

    /// The class token and one token for each patch, each with its place added.
    ///
    /// # Shapes
    /// `images` `[n, s, s, 3]`; the result is `[n, m, c]`.
    fn tokens(&self, images: &Tensor) -> Result<Tensor> {
        let ClipVisionConfig {
            hidden_size: c,
            image_size: side,
            num_channels,
            ..
        } = self.config;
        let n = match *images.dims() {
            [n, h, w, i] if (h, w, i) == (side, side, num_channels) => n,
            ref found => {
                return Err(Error::argument(
                    "clip vision tower",
                    format!(
                        "expected pictures [n, {side}, {side}, {num_channels}], found {found:?}"
                    ),
                ));
            }
        };
        let (patch, m) = (self.config.patch_size, self.config.tokens());
        let walk = ops::Conv2d::patch(patch);
        let patches = ops::conv2d(images, &self.patch_embedding.for_work()?, None, walk)?;
        let patches = patches.reshape([n, m - 1, c])?;
        // Parameters may be f32 beside activations in 16 bits.
        let class = ops::convert(&widened(&self.class_embedding)?, patches.dtype())?;
        let class = class.reshape([1, 1, c])?;
        let class = ops::repeat(&class, 0, n)?; // [n, 1, c]
        let places = ops::convert(&widened(&self.position_embedding)?, patches.dtype())?;
        let places = places.reshape([1, m, c])?;
        let tokens = ops::concat(&[&class, &patches], 1)?;
        Ok(ops::add_broadcast(&tokens, &places)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::testing::{assert_close, numbers};

    #[test]
    fn the_class_token_alone_is_that_of_all_tokens() -> Result<()> {
        for layers in [0, 1, 3] {
            let config = ClipVisionConfig {
                hidden_size: 32,
                intermediate_size: 80,
                num_hidden_layers: layers,
                num_attention_heads: 2,
                image_size: 28,
                patch_size: 7,
                ..ClipVisionConfig::vit_h_14()
            };
            let trunk = VisionTrunk::new(&Source::fresh(1), &config)?;
            let images = numbers([2, 28, 28, 3], 2);
            let alone = trunk.class_token(&images)?.to_vec();
            let all = trunk.forward(&images)?.to_vec();
            let of_picture = config.tokens() * 32;
            for (alone, all) in alone.chunks_exact(32).zip(all.chunks_exact(of_picture)) {
                assert_close(alone, &all[..32], 1e-6);
            }
        }
        Ok(())
    }
}
