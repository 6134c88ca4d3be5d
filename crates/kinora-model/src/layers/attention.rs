//! Attention: of the tokens of a picture to each other, of a place to itself in other frames, and of
//! tokens to a context.

use super::Linear;
use crate::Result;
use crate::params::Source;
use kinora_tensor::{Tensor, ops};

/// The four projections of an attention. Queries, keys and values have no bias.
#[derive(Clone, Debug)]
struct Projections {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl Projections {
    fn new(source: &Source, channels: usize, context: usize) -> Result<Self> {
        Ok(Projections {
            to_q: Linear::without_bias(&source.at("to_q"), channels, channels)?,
            to_k: Linear::without_bias(&source.at("to_k"), context, channels)?,
            to_v: Linear::without_bias(&source.at("to_v"), context, channels)?,
            to_out: Linear::new(&source.at("to_out").at(0), channels, channels)?,
        })
    }
}

/// Attention of tokens to each other.
#[derive(Clone, Debug)]
pub struct SelfAttention {
    projections: Projections,
    heads: usize,
}

impl SelfAttention {
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn new(source: &Source, channels: usize, heads: usize) -> Result<Self> {
        Ok(SelfAttention {
            projections: Projections::new(source, channels, channels)?,
            heads,
        })
    }

    /// `onto` + what every token gets that attends to all `n` of its picture.
    ///
    /// # Shapes
    /// `x` `[b, n, c]`, `onto` likewise; so is the result.
    ///
    /// # Errors
    /// When the channels of `x` are not the layer's, or `onto` is not like `x`.
    pub fn forward_onto(&self, onto: &Tensor, x: &Tensor) -> Result<Tensor> {
        let (q, k, v) = self.project(x)?;
        let attended = ops::attention(&q, &k, &v, self.heads)?;
        self.projections.to_out.forward_onto(onto, &attended)
    }

    /// `onto` + what every place gets that attends to itself in all `t` frames.
    ///
    /// # Shapes
    /// `x` `[b, t, s, c]`, `onto` likewise; so is the result.
    ///
    /// # Errors
    /// When the channels of `x` are not the layer's, or `onto` is not like `x`.
    pub fn forward_over_time_onto(&self, onto: &Tensor, x: &Tensor) -> Result<Tensor> {
        let (q, k, v) = self.project(x)?;
        let attended = ops::time_attention(&q, &k, &v, self.heads)?;
        self.projections.to_out.forward_onto(onto, &attended)
    }

    fn project(&self, x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        let Projections {
            to_q, to_k, to_v, ..
        } = &self.projections;
        Ok((to_q.forward(x)?, to_k.forward(x)?, to_v.forward(x)?))
    }
}

/// What a cross-attention needs of its context. It depends on neither the tokens nor the noise, so
/// it serves every step of a sampling run.
#[derive(Clone, Debug)]
pub enum Attended {
    /// `[b, 1, c]`. A softmax over one key is 1 whatever the query, so a context of one token
    /// gives every token of the clip the same result, and the query is never needed.
    Constant(Tensor),
    /// Keys and values of a longer context, `[b, m, c]` each.
    KeysAndValues(Tensor, Tensor),
}

/// Attention of a clip's tokens to a context.
///
/// With a context of one token, `to_q` and `to_k` do not influence the result and get no gradient.
#[derive(Clone, Debug)]
pub struct CrossAttention {
    projections: Projections,
    heads: usize,
}

impl CrossAttention {
    /// `context` is the width of the context's tokens.
    ///
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn new(source: &Source, channels: usize, context: usize, heads: usize) -> Result<Self> {
        Ok(CrossAttention {
            projections: Projections::new(source, channels, context)?,
            heads,
        })
    }

    /// The part that depends on the context alone.
    ///
    /// # Shapes
    /// `context` `[b, m, d]`.
    ///
    /// # Errors
    /// When `context` is not tokens of the layer's width.
    pub fn attended(&self, context: &Tensor) -> Result<Attended> {
        let Projections {
            to_k, to_v, to_out, ..
        } = &self.projections;
        let values = to_v.forward(context)?;
        if context.dims().get(1) == Some(&1) {
            return Ok(Attended::Constant(to_out.forward(&values)?));
        }
        Ok(Attended::KeysAndValues(to_k.forward(context)?, values))
    }

    /// x + attention of `normalise`(x) to the context. `x` is only normalised where it matters.
    ///
    /// # Shapes
    /// `x` `[b, n, c]`, all tokens of a clip in a row; the result is like `x`.
    ///
    /// # Errors
    /// When `x` and the context do not have the same clips and channels.
    pub fn add_to(
        &self,
        x: &Tensor,
        attended: &Attended,
        normalise: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        match attended {
            Attended::Constant(constant) => Ok(ops::add_broadcast(x, constant)?),
            Attended::KeysAndValues(keys, values) => {
                let Projections { to_q, to_out, .. } = &self.projections;
                let queries = to_q.forward(&normalise(x)?)?;
                let attended = ops::attention(&queries, keys, values, self.heads)?;
                to_out.forward_onto(x, &attended)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::testing::{assert_close, numbers};

    #[test]
    fn a_context_of_one_token_and_of_the_same_token_twice_are_the_same() -> Result<()> {
        let layer = CrossAttention::new(&Source::fresh(1), 8, 6, 2)?;
        let (x, token) = (numbers([2, 5, 8], 2), numbers([2, 1, 6], 3));
        let (once, twice) = (
            layer.attended(&token)?,
            layer.attended(&ops::repeat(&token, 1, 2)?)?,
        );
        assert!(matches!(once, Attended::Constant(_)));
        let as_it_is = |x: &Tensor| Ok(x.clone());
        let found = layer.add_to(&x, &once, as_it_is)?;
        let expected = layer.add_to(&x, &twice, as_it_is)?;
        assert_close(&found.to_vec(), &expected.to_vec(), 1e-6);
        Ok(())
    }

    #[test]
    fn attention_over_time_is_attention_within_each_place() -> Result<()> {
        let layer = SelfAttention::new(&Source::fresh(1), 8, 2)?;
        let x = numbers([2, 3, 5, 8], 2);
        let onto = numbers([2, 3, 5, 8], 3);
        let found = layer.forward_over_time_onto(&onto, &x)?;
        for place in 0..5 {
            let of_place = |x: &Tensor| ops::narrow(x, 2, place, 1)?.reshape([2, 3, 8]);
            let expected = layer.forward_onto(&of_place(&onto)?, &of_place(&x)?)?;
            assert_close(&of_place(&found)?.to_vec(), &expected.to_vec(), 1e-6);
        }
        Ok(())
    }
}
