//! Whether a block's inner results are kept for the backward pass or computed again.

use crate::{Error, Result};
use kinora_tensor::{Tensor, checkpoint};

/// Memory or time, while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Recompute {
    /// Inner results are kept.
    #[default]
    Nothing,
    /// Only what goes into a block is kept; the rest is computed again on the way back.
    Blocks,
}

impl Recompute {
    /// The result of one block.
    pub(super) fn run<B>(
        self,
        block: &B,
        x: &Tensor,
        forward: fn(&B, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor>
    where
        B: Clone + Send + Sync + 'static,
    {
        match self {
            Recompute::Nothing => forward(block, x),
            Recompute::Blocks => {
                // Cloning a block shares its parameters.
                let block = block.clone();
                let again =
                    move |inputs: &[Tensor]| forward(&block, &inputs[0]).map_err(tensor_error);
                Ok(checkpoint(&[x], again)?)
            }
        }
    }
}

/// The graph knows errors of operations only; another kind is told in words.
fn tensor_error(error: Error) -> kinora_tensor::Error {
    match error {
        Error::Tensor(error) => error,
        other => kinora_tensor::Error::argument("recomputed block", other.to_string()),
    }
}
