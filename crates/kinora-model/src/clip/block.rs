//! The block every tower is a pile of: attention, then a feed-forward layer, each after a norm and
//! added to its input.

use super::HiddenAct;
use crate::Result;
use crate::layers::{LayerNorm, Linear};
use crate::params::Source;
use kinora_tensor::{Tensor, ops};

/// The sizes of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSizes {
    /// Width of a token.
    pub(crate) width: usize,
    /// Width between the two layers of the feed-forward part.
    pub(crate) inner: usize,
    /// Heads of the attention.
    pub(crate) heads: usize,
    /// The activation of the feed-forward part.
    pub(crate) act: HiddenAct,
    /// What is added to a variance before its root is taken.
    pub(crate) eps: f32,
}

/// Attention among the tokens of a sequence, then a feed-forward layer.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    norm: LayerNorm,
    projections: Projections,
    heads: usize,
    mlp: Mlp,
}

impl Block {
    pub(crate) fn new(source: &Source, sizes: BlockSizes) -> Result<Self> {
        let c = sizes.width;
        Ok(Block {
            norm: LayerNorm::new(&source.at("layer_norm1"), c, sizes.eps)?,
            projections: Projections::new(&source.at("self_attn"), c, c)?,
            heads: sizes.heads,
            mlp: Mlp::new(source, sizes)?,
        })
    }

    /// Every token sees every token.
    ///
    /// # Shapes
    /// `x` `[n, m, c]`; the result is like `x`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, |q, k, v| Ok(ops::attention(q, k, v, self.heads)?))
    }

    /// What [`forward`](Self::forward) makes of the first token, and nothing of the others, which are only seen.
    ///
    /// # Shapes
    /// `x` `[n, m, c]`; the result is `[n, 1, c]`.
    pub(crate) fn forward_first(&self, x: &Tensor) -> Result<Tensor> {
        self.first_with(x, 1, |q, k, v| Ok(ops::attention(q, k, v, self.heads)?))
    }

    /// A token sees itself and those before it.
    ///
    /// # Shapes
    /// `x` `[n, m, c]`; the result is like `x`.
    pub(crate) fn forward_causal(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, |q, k, v| Ok(ops::causal_attention(q, k, v, self.heads)?))
    }

    /// The tokens of `x` see those that `seen` gives for their own keys and values: a text that grows
    /// word by word keeps those of the words it has.
    ///
    /// # Shapes
    /// `x` `[n, m, c]`; the result is like `x`.
    pub(crate) fn forward_seeing(
        &self,
        x: &Tensor,
        seen: impl FnOnce(&Tensor, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        self.forward_with(x, |q, k, v| {
            let (keys, values) = seen(k, v)?;
            Ok(ops::attention(q, &keys, &values, self.heads)?)
        })
    }

    fn forward_with(
        &self,
        x: &Tensor,
        attend: impl FnOnce(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        self.first_with(x, x.dims()[1], attend)
    }

    /// What the first `count` tokens become.
    fn first_with(
        &self,
        x: &Tensor,
        count: usize,
        attend: impl FnOnce(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let h = self.norm.forward(x)?;
        let (k, v) = self.projections.keys_and_values(&h)?;
        let q = self.projections.to_q.forward(&first_tokens(&h, count)?)?;
        let attended = attend(&q, &k, &v)?;
        let x = first_tokens(x, count)?;
        let x = self.projections.to_out.forward_onto(&x, &attended)?;
        self.mlp.add_to(&x)
    }
}

/// The first of the tokens `x`, `[n, m, c]`.
fn first_tokens(x: &Tensor, count: usize) -> Result<Tensor> {
    Ok(match x.dims()[1] == count {
        true => x.clone(),
        false => ops::narrow(x, 1, 0, count)?,
    })
}

/// The four projections of an attention, each with a bias, under the names transformers gives them.
#[derive(Clone, Debug)]
pub(crate) struct Projections {
    pub(crate) to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    pub(crate) to_out: Linear,
}

impl Projections {
    /// Tokens of width `c` look at tokens of width `seen`.
    pub(crate) fn new(source: &Source, c: usize, seen: usize) -> Result<Self> {
        Ok(Projections {
            to_q: Linear::new(&source.at("q_proj"), c, c)?,
            to_k: Linear::new(&source.at("k_proj"), seen, c)?,
            to_v: Linear::new(&source.at("v_proj"), seen, c)?,
            to_out: Linear::new(&source.at("out_proj"), c, c)?,
        })
    }

    /// # Shapes
    /// `tokens` `[n, m, seen]`; the keys and the values are `[n, m, c]` each.
    pub(crate) fn keys_and_values(&self, tokens: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.to_k.forward(tokens)?, self.to_v.forward(tokens)?))
    }
}

/// A norm, a wider layer, an activation, and a layer back.
#[derive(Clone, Debug)]
pub(crate) struct Mlp {
    norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
    act: HiddenAct,
}

impl Mlp {
    pub(crate) fn new(source: &Source, sizes: BlockSizes) -> Result<Self> {
        let (c, inner, mlp) = (sizes.width, sizes.inner, source.at("mlp"));
        Ok(Mlp {
            norm: LayerNorm::new(&source.at("layer_norm2"), c, sizes.eps)?,
            widen: Linear::new(&mlp.at("fc1"), c, inner)?,
            narrow: Linear::new(&mlp.at("fc2"), inner, c)?,
            act: sizes.act,
        })
    }

    /// x + what the layers make of x.
    ///
    /// # Shapes
    /// `x` `[.., c]`; the result is like `x`.
    pub(crate) fn add_to(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.widen.forward(&self.norm.forward(x)?)?;
        let h = match self.act {
            HiddenAct::Gelu => ops::gelu(&h)?,
            HiddenAct::QuickGelu => ops::quick_gelu(&h)?,
        };
        self.narrow.forward_onto(x, &h)
    }
}
