//! The tokens of a picture, gathered by learned queries (Yu et al. 2022, §3.2).

use super::CocaConfig;
use crate::Result;
use crate::clip::block::Projections;
use crate::clip::vision::VisionTrunk;
use crate::layers::{LayerNorm, Linear, widened};
use crate::params::{Init, Layout, Source};
use kinora_tensor::{Param, Tensor, ops};

/// The vision tower and the pooling over its tokens.
#[derive(Clone, Debug)]
pub(super) struct PooledVision {
    trunk: VisionTrunk,
    query: Param,
    norm_query: LayerNorm,
    norm_tokens: LayerNorm,
    projections: Projections,
    heads: usize,
    last_norm: LayerNorm,
    projection: Linear,
}

impl PooledVision {
    pub(super) fn new(source: &Source, config: &CocaConfig) -> Result<Self> {
        let (c, p) = (config.vision.hidden_size, config.vision.projection_dim);
        let eps = config.vision.layer_norm_eps;
        let (pool, last) = (source.at("attn_pool"), source.at("visual_projection"));
        let queries = [config.pool_queries, p];
        let last_norm = source.at("vision_model").at("post_layernorm");
        Ok(PooledVision {
            trunk: VisionTrunk::new(source, &config.vision)?,
            query: pool.param("query", &queries, Layout::Plain, Init::Normal(1.0))?,
            norm_query: LayerNorm::new(&pool.at("ln_q"), p, eps)?,
            norm_tokens: LayerNorm::new(&pool.at("ln_k"), c, eps)?,
            projections: Projections::new(&pool.at("attn"), p, c)?,
            heads: config.pool_heads,
            last_norm: LayerNorm::new(&last_norm, p, eps)?,
            projection: Linear::without_bias(&last, p, p)?,
        })
    }

    /// The pooled tokens of pictures, the one for the embedding first.
    ///
    /// # Shapes
    /// `images` `[n, s, s, 3]`; the result is `[n, q, p]`.
    fn pooled(&self, images: &Tensor) -> Result<Tensor> {
        let tokens = self.norm_tokens.forward(&self.trunk.forward(images)?)?; // [n, m, c]
        let queries = widened(&self.query)?;
        let &[count, p] = queries.dims() else {
            unreachable!("the parameter was asked for as a matrix");
        };
        let queries = self.norm_query.forward(&queries)?;
        let queries = self.projections.to_q.forward(&queries)?;
        let queries = ops::repeat(&queries.reshape([1, count, p])?, 0, tokens.dims()[0])?;
        let (k, v) = self.projections.keys_and_values(&tokens)?;
        let pooled = ops::attention(&queries, &k, &v, self.heads)?;
        let pooled = self.projections.to_out.forward(&pooled)?;
        self.last_norm.forward(&pooled)
    }

    /// What a caption is written from.
    ///
    /// # Shapes
    /// `images` `[n, s, s, 3]`; the result is `[n, q − 1, p]`.
    pub(super) fn tokens(&self, images: &Tensor) -> Result<Tensor> {
        let pooled = self.pooled(images)?;
        Ok(ops::narrow(&pooled, 1, 1, pooled.dims()[1] - 1)?)
    }

    /// What pictures show, not brought to unit length.
    ///
    /// # Shapes
    /// `images` `[n, s, s, 3]`; the result is `[n, p]`.
    pub(super) fn embeddings(&self, images: &Tensor) -> Result<Tensor> {
        let pooled = self.pooled(images)?;
        let (n, p) = (pooled.dims()[0], pooled.dims()[2]);
        let first = ops::narrow(&pooled, 1, 0, 1)?.reshape([n, p])?;
        self.projection.forward(&first)
    }
}
