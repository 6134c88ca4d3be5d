//! One step of a level: a residual block and, in levels that attend, the transformer after it.

use super::res_block::ResBlock;
use super::transformer::{Constants, Extents, Transformer};
use crate::Result;
use crate::params::Source;
use kinora_tensor::{Tensor, ops};

/// A residual block and perhaps a transformer.
#[derive(Debug)]
pub(super) struct Stage {
    res_block: ResBlock,
    transformer: Option<Transformer>,
}

/// The extents of a stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct StageExtents {
    /// Channels in; on the way up, those of the skip included.
    pub(super) i: usize,
    /// Channels out.
    pub(super) o: usize,
    /// Channels of the embedding.
    pub(super) e: usize,
    pub(super) eps: f32,
    pub(super) transformer: Option<Extents>,
}

impl Stage {
    /// The stage number `k` of the level that `level` is the scope of.
    pub(super) fn new(level: &Source, k: usize, extents: StageExtents) -> Result<Self> {
        let StageExtents { i, o, e, eps, .. } = extents;
        let transformer = extents
            .transformer
            .map(|extents| Transformer::new(&level.at("attentions").at(k), extents));
        Ok(Stage {
            res_block: ResBlock::new(&level.at("resnets").at(k), i, o, e, eps)?,
            transformer: transformer.transpose()?,
        })
    }

    /// What the transformer computes from the context alone; `None` where there is no transformer.
    ///
    /// # Shapes
    /// `context` `[b, n, d]`.
    pub(super) fn constants(&self, context: &Tensor, frames: usize) -> Result<Option<Constants>> {
        let transformer = self.transformer.as_ref();
        transformer
            .map(|t| t.constants(context, frames))
            .transpose()
    }

    /// # Shapes
    /// `inputs` are arrays `[b, t, h, w, ·]` whose channels together are the stage's: what came from
    /// the stage before and, on the way up, the skip; `embedding` is `[b, e]`. The result is
    /// `[b, t, h, w, o]`.
    pub(super) fn forward(
        &self,
        inputs: &[&Tensor],
        embedding: &Tensor,
        constants: Option<&Constants>,
        image_only: bool,
    ) -> Result<Tensor> {
        let joined = match inputs {
            [x] => (*x).clone(),
            several => ops::concat(several, 4)?,
        };
        let x = self.res_block.forward(&joined, embedding, image_only)?;
        drop(joined); // the widest array of a level; the transformer does not need it
        match &self.transformer {
            None => Ok(x),
            Some(transformer) => {
                let constants = constants.expect("a transformer's constants come with it");
                transformer.forward(&x, constants, image_only)
            }
        }
    }
}
