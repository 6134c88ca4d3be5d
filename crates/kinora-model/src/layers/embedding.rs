//! Numbers as vectors a network can use.

use super::Linear;
use crate::Result;
use crate::params::Source;
use kinora_tensor::{Tensor, ops};

/// Sinusoids of a number, then linear, SiLU, linear.
#[derive(Clone, Debug)]
pub struct SinusoidEmbedding {
    first: Linear,
    second: Linear,
    dim: usize,
}

impl SinusoidEmbedding {
    /// Each number becomes `dim` sinusoids; the sinusoids of `count` numbers together become one
    /// vector of `o`, by way of `inner` channels.
    ///
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn new(source: &Source, count: usize, dim: usize, inner: usize, o: usize) -> Result<Self> {
        Ok(SinusoidEmbedding {
            first: Linear::new(&source.at("linear_1"), count * dim, inner)?,
            second: Linear::new(&source.at("linear_2"), inner, o)?,
            dim,
        })
    }

    /// # Shapes
    /// `values` holds the numbers of `rows` vectors, one vector after the other; the result is
    /// `[rows, o]`.
    ///
    /// # Errors
    /// When the numbers are not `count` for each row.
    pub fn forward(&self, values: &[f32], rows: usize) -> Result<Tensor> {
        let x = ops::sinusoid(values, self.dim)?; // [rows · count, dim]
        // The waves are made on the processor, in f32, and stay f32 through the two layers.
        let x = x.to_device(self.first.device())?;
        let x = x.reshape([rows, x.elements() / rows.max(1)])?; // [rows, count · dim]
        self.second.forward(&ops::silu(&self.first.forward(&x)?)?)
    }
}
