//! The transformer that follows a residual block: over the places of each frame, then along time.

use super::config::GROUPS;
use super::frames::each_frame;
use super::res_block::mix_factor;
use crate::Result;
use crate::layers::{
    Attended, CrossAttention, FeedForward, GroupNorm, LayerNorm, Linear, SelfAttention,
    SinusoidEmbedding,
};
use crate::params::Source;
use kinora_tensor::{Param, Tensor, ops};

/// Epsilon of the layer norms.
const LAYER_EPS: f32 = 1e-5;
/// Epsilon of the group norm at the entrance, the same in both reference codes.
const ENTRANCE_EPS: f32 = 1e-6;

/// The extents of a transformer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    pub(super) channels: usize,
    pub(super) heads: usize,
    pub(super) depth: usize,
    /// Width of the context's tokens.
    pub(super) context: usize,
}

/// What a transformer computes from the context and the number of frames alone.
#[derive(Clone, Debug)]
pub(super) struct Constants {
    /// `[1, t, 1, c]`: where each frame stands in the clip.
    frames: Tensor,
    /// For each layer of depth, the spatial and the temporal cross-attention.
    attended: Vec<[Attended; 2]>,
}

/// Self-attention over the places of a frame, cross-attention, feed-forward.
#[derive(Debug)]
struct SpatialLayer {
    norm1: LayerNorm,
    attn1: SelfAttention,
    norm2: LayerNorm,
    attn2: CrossAttention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl SpatialLayer {
    fn new(source: &Source, extents: Extents) -> Result<Self> {
        let Extents {
            channels: c,
            heads,
            context,
            ..
        } = extents;
        Ok(SpatialLayer {
            norm1: LayerNorm::new(&source.at("norm1"), c, LAYER_EPS)?,
            attn1: SelfAttention::new(&source.at("attn1"), c, heads)?,
            norm2: LayerNorm::new(&source.at("norm2"), c, LAYER_EPS)?,
            attn2: CrossAttention::new(&source.at("attn2"), c, context, heads)?,
            norm3: LayerNorm::new(&source.at("norm3"), c, LAYER_EPS)?,
            ff: FeedForward::new(&source.at("ff"), c)?,
        })
    }

    /// `x` `[b, t, s, c]`; the result is like `x`.
    fn forward(&self, x: &Tensor, attended: &Attended) -> Result<Tensor> {
        let &[b, t, s, c] = x.dims() else {
            unreachable!("the transformer makes tokens of four axes");
        };
        let frames = x.reshape([b * t, s, c])?;
        let normed = self.norm1.forward(&frames)?;
        let frames = self.attn1.forward_onto(&frames, &normed)?;
        let clips = frames.reshape([b, t * s, c])?;
        let clips = self
            .attn2
            .add_to(&clips, attended, |x| self.norm2.forward(x))?;
        let y = self.ff.forward_onto(&clips, &self.norm3.forward(&clips)?)?;
        Ok(y.reshape(x.shape())?)
    }
}

/// Feed-forward, self-attention over the frames of a place, cross-attention, feed-forward.
#[derive(Debug)]
struct TemporalLayer {
    norm_in: LayerNorm,
    ff_in: FeedForward,
    norm1: LayerNorm,
    attn1: SelfAttention,
    norm2: LayerNorm,
    attn2: CrossAttention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl TemporalLayer {
    fn new(source: &Source, extents: Extents) -> Result<Self> {
        let Extents {
            channels: c,
            heads,
            context,
            ..
        } = extents;
        Ok(TemporalLayer {
            norm_in: LayerNorm::new(&source.at("norm_in"), c, LAYER_EPS)?,
            ff_in: FeedForward::new(&source.at("ff_in"), c)?,
            norm1: LayerNorm::new(&source.at("norm1"), c, LAYER_EPS)?,
            attn1: SelfAttention::new(&source.at("attn1"), c, heads)?,
            norm2: LayerNorm::new(&source.at("norm2"), c, LAYER_EPS)?,
            attn2: CrossAttention::new(&source.at("attn2"), c, context, heads)?,
            norm3: LayerNorm::new(&source.at("norm3"), c, LAYER_EPS)?,
            ff: FeedForward::new(&source.at("ff"), c)?,
        })
    }

    /// `x` `[b, t, s, c]`; the result is like `x`.
    fn forward(&self, x: &Tensor, attended: &Attended) -> Result<Tensor> {
        let &[b, t, s, c] = x.dims() else {
            unreachable!("the transformer makes tokens of four axes");
        };
        let x = &self.ff_in.forward_onto(x, &self.norm_in.forward(x)?)?;
        let normed = self.norm1.forward(x)?;
        let moved = self.attn1.forward_over_time_onto(x, &normed)?;
        let clips = moved.reshape([b, t * s, c])?;
        let clips = self
            .attn2
            .add_to(&clips, attended, |x| self.norm2.forward(x))?;
        let y = self.ff.forward_onto(&clips, &self.norm3.forward(&clips)?)?;
        Ok(y.reshape(x.shape())?)
    }
}

/// The spatio-temporal transformer.
#[derive(Debug)]
pub(super) struct Transformer {
    norm: GroupNorm,
    proj_in: Linear,
    layers: Vec<(SpatialLayer, TemporalLayer)>,
    position: SinusoidEmbedding,
    /// σ(mix) is the weight of the spatial half; all layers of depth share it.
    mix: Param,
    proj_out: Linear,
}

impl Transformer {
    pub(super) fn new(source: &Source, extents: Extents) -> Result<Self> {
        let c = extents.channels;
        let (spatial, temporal) = (
            source.at("transformer_blocks"),
            source.at("temporal_transformer_blocks"),
        );
        let layer = |k: usize| -> Result<_> {
            Ok((
                SpatialLayer::new(&spatial.at(k), extents)?,
                TemporalLayer::new(&temporal.at(k), extents)?,
            ))
        };
        Ok(Transformer {
            norm: GroupNorm::new(&source.at("norm"), c, GROUPS, ENTRANCE_EPS)?,
            proj_in: Linear::new(&source.at("proj_in"), c, c)?,
            layers: (0..extents.depth).map(layer).collect::<Result<_>>()?,
            position: SinusoidEmbedding::new(&source.at("time_pos_embed"), 1, c, 4 * c, c)?,
            mix: mix_factor(source)?,
            proj_out: Linear::zeroed(&source.at("proj_out"), c, c)?,
        })
    }

    /// What depends on neither the latents nor the noise level.
    ///
    /// # Shapes
    /// `context` `[b, n, d]`.
    pub(super) fn constants(&self, context: &Tensor, frames: usize) -> Result<Constants> {
        let numbers: Vec<f32> = (0..frames).map(|frame| frame as f32).collect();
        let positions = self.position.forward(&numbers, frames)?; // [t, c]
        let attended = |(spatial, temporal): &(SpatialLayer, TemporalLayer)| {
            Ok([
                spatial.attn2.attended(context)?,
                temporal.attn2.attended(context)?,
            ])
        };
        Ok(Constants {
            frames: positions.reshape([1, frames, 1, positions.shape().last()])?,
            attended: self.layers.iter().map(attended).collect::<Result<_>>()?,
        })
    }

    /// # Shapes
    /// `x` `[b, t, h, w, c]`; the result is like `x`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        constants: &Constants,
        image_only: bool,
    ) -> Result<Tensor> {
        let tokens = each_frame(x, |frames| {
            self.proj_in.forward(&self.norm.forward(frames)?)
        })?;
        let &[b, t, h, w, c] = x.dims() else {
            unreachable!("each_frame refuses all else");
        };
        let mut tokens = tokens.reshape([b, t, h * w, c])?;
        for ((spatial, temporal), attended) in self.layers.iter().zip(&constants.attended) {
            tokens = spatial.forward(&tokens, &attended[0])?;
            if !image_only {
                let placed = ops::add_broadcast(&tokens, &constants.frames)?;
                let moved = temporal.forward(&placed, &attended[1])?;
                tokens = ops::blend(&tokens, &moved, &self.mix.for_work()?)?;
            }
        }
        self.proj_out.forward_onto(x, &tokens)
    }
}
