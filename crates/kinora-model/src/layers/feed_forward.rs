//! The gated feed-forward layer of a transformer.

use super::Linear;
use crate::Result;
use crate::params::Source;
use kinora_tensor::{Tensor, ops};

/// Widens four times, gates by GELU, and narrows again: GEGLU, Shazeer 2020.
#[derive(Clone, Debug)]
pub struct FeedForward {
    widen: Linear,
    narrow: Linear,
}

impl FeedForward {
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn new(source: &Source, channels: usize) -> Result<Self> {
        let source = source.at("net");
        let inner = 4 * channels;
        Ok(FeedForward {
            widen: Linear::new(&source.at(0).at("proj"), channels, 2 * inner)?,
            narrow: Linear::new(&source.at(2), inner, channels)?,
        })
    }

    /// # Shapes
    /// `x` `[.., c]`; the result is like `x`.
    ///
    /// # Errors
    /// When the channels of `x` are not the layer's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.narrow.forward(&ops::geglu(&self.widen.forward(x)?)?)
    }
}
