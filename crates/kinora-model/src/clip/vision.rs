//! The tower itself.

use super::ClipVisionConfig;
use super::block::Block;
use crate::layers::{LayerNorm, Linear, widened};
use crate::params::{Init, Layout, Source};
use crate::{Error, Result};
use kinora_tensor::{Param, Tensor, ops};

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

    /// The embeddings of pictures whose channels are normalised by CLIP's means and deviations. The
    /// embeddings themselves are not normalised.
    ///
    /// # Shapes
    /// `images` `[n, s, s, 3]`; the result is `[n, p]`.
    ///
    /// # Errors
    /// When the pictures have another size or other channels.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let x = self.trunk.forward(images)?;
        let (n, c) = (x.dims()[0], x.shape().last());
        let class = ops::narrow(&x, 1, 0, 1)?.reshape([n, c])?;
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
        let mut x = self.first_norm.forward(&self.tokens(images)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        Ok(x)
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
        let patches = ops::conv2d(images, &self.patch_embedding.get(), None, walk)?;
        let patches = patches.reshape([n, m - 1, c])?;
        // The class token joins the places, which stay in f32: patches may be in 16 bits.
        let (dtype, device) = (patches.dtype(), patches.device());
        let zeros = |dims: [usize; 3]| Tensor::zeros(dims).to_device(device);
        let class = widened(&self.class_embedding).reshape([1, 1, c])?;
        let class = ops::concat(&[&class, &zeros([1, m - 1, c])?], 1)?;
        let places = widened(&self.position_embedding).reshape([1, m, c])?;
        let places = ops::add(&class, &places)?;
        let tokens = ops::concat(&[&zeros([n, 1, c])?.to_dtype(dtype)?, &patches], 1)?;
        Ok(ops::add_broadcast(&tokens, &places)?)
    }
}
