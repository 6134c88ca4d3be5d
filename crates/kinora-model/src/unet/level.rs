//! The levels of the UNet: stages of one resolution, and the step to the next.

use super::config::{LevelKind, UNetConfig};
use super::frames::each_frame;
use super::stage::{Stage, StageExtents};
use super::transformer::{Constants, Extents};
use crate::layers::Conv2d;
use crate::params::Source;
use crate::{Error, Result};
use kinora_tensor::{Tensor, checkpoint, ops};
use std::sync::Arc;

/// One pass over the stages of a network, in their order.
pub(super) struct Walk<'a> {
    /// `[b, e]`: noise level and micro-conditions, already through SiLU.
    pub(super) embedding: Tensor,
    pub(super) known: Known<'a>,
    /// Leaves out everything that looks along time.
    pub(super) image_only: bool,
    /// Keeps no inner results for the derivative; computes them a second time instead.
    pub(super) recompute: bool,
}

/// What the transformers are told of the context.
pub(super) enum Known<'a> {
    /// The context itself, `[b, n, d]`.
    Context(&'a Tensor),
    /// What each stage in turn had computed from it before.
    Constants(std::slice::Iter<'a, Option<Constants>>),
}

impl Walk<'_> {
    /// The next stage, see [`Stage::forward`].
    fn stage(&mut self, stage: &Arc<Stage>, inputs: &[&Tensor]) -> Result<Tensor> {
        let (embedding, image_only) = (&self.embedding, self.image_only);
        match &mut self.known {
            Known::Constants(each) => {
                let constants = each.next().expect("one entry for each stage");
                stage.forward(inputs, embedding, constants.as_ref(), image_only)
            }
            Known::Context(context) if self.recompute => {
                let mut all = inputs.to_vec();
                all.extend([embedding, *context]);
                recomputed(stage.clone(), &all, image_only)
            }
            Known::Context(context) => from_context(stage, inputs, embedding, context, image_only),
        }
    }
}

fn from_context(
    stage: &Stage,
    inputs: &[&Tensor],
    embedding: &Tensor,
    context: &Tensor,
    image_only: bool,
) -> Result<Tensor> {
    let frames = inputs[0].dims().get(1).copied().unwrap_or(1);
    let constants = stage.constants(context, frames)?;
    stage.forward(inputs, embedding, constants.as_ref(), image_only)
}

/// `all` are the inputs of the stage, then the embedding and the context.
fn recomputed(stage: Arc<Stage>, all: &[&Tensor], image_only: bool) -> Result<Tensor> {
    let block = move |all: &[Tensor]| {
        let [inputs @ .., embedding, context] = all else {
            unreachable!("the embedding and the context are always given");
        };
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        from_context(&stage, &inputs, embedding, context, image_only).map_err(|e| match e {
            Error::Tensor(error) => error,
            other => kinora_tensor::Error::argument("unet", other.to_string()),
        })
    };
    Ok(checkpoint(all, block)?)
}

/// A level on the way down.
#[derive(Debug)]
pub(super) struct DownLevel {
    stages: Vec<Arc<Stage>>,
    down: Option<Conv2d>,
}

impl DownLevel {
    /// `level` counts from the finest; `source` is the whole network's.
    pub(super) fn new(source: &Source, config: &UNetConfig, level: usize) -> Result<Self> {
        let source = source.at("down_blocks").at(level);
        let widths = &config.block_out_channels;
        let o = widths[level];
        let before = widths[level.saturating_sub(1)];
        let kind = config.down_block_types[level];
        let stage = |k: usize| {
            let extents = StageExtents {
                i: if k == 0 { before } else { o },
                o,
                e: config.embedding_channels(),
                eps: config.norm_eps.down(kind),
                transformer: transformer(config, level, kind),
            };
            Stage::new(&source, k, extents).map(Arc::new)
        };
        let stages = (0..config.layers_per_block[level]).map(stage);
        let stages = stages.collect::<Result<_>>()?;
        let scope = source.at("downsamplers").at(0).at("conv");
        let down = (level + 1 < config.levels())
            .then(|| Conv2d::new(&scope, o, o, 3, ops::Conv2d::down()));
        Ok(DownLevel {
            stages,
            down: down.transpose()?,
        })
    }

    pub(super) fn stages(&self) -> &[Arc<Stage>] {
        &self.stages
    }

    /// Every result of the level, the last of which goes on.
    ///
    /// # Shapes
    /// `x` `[b, t, h, w, c]`; the results are `[b, t, h, w, o]`, and the last, where there is a
    /// coarser level, `[b, t, ⌈h/2⌉, ⌈w/2⌉, o]`.
    pub(super) fn forward(&self, x: &Tensor, walk: &mut Walk) -> Result<Vec<Tensor>> {
        let mut results: Vec<Tensor> = Vec::new();
        for stage in &self.stages {
            let y = walk.stage(stage, &[results.last().unwrap_or(x)])?;
            results.push(y);
        }
        if let Some(down) = &self.down {
            let x = results.last().unwrap_or(x);
            results.push(each_frame(x, |frames| down.forward(frames))?);
        }
        Ok(results)
    }
}

/// The coarsest level's own: residual block, transformer, residual block.
#[derive(Debug)]
pub(super) struct MiddleLevel {
    stages: [Arc<Stage>; 2],
}

impl MiddleLevel {
    /// `source` is the whole network's.
    pub(super) fn new(source: &Source, config: &UNetConfig) -> Result<Self> {
        let source = source.at("mid_block");
        let level = config.levels() - 1;
        let o = config.block_out_channels[level];
        let stage = |k: usize, kind: LevelKind| {
            let extents = StageExtents {
                i: o,
                o,
                e: config.embedding_channels(),
                eps: config.norm_eps.middle(),
                transformer: transformer(config, level, kind),
            };
            Stage::new(&source, k, extents).map(Arc::new)
        };
        Ok(MiddleLevel {
            stages: [stage(0, LevelKind::Attends)?, stage(1, LevelKind::Plain)?],
        })
    }

    pub(super) fn stages(&self) -> &[Arc<Stage>] {
        &self.stages
    }

    /// # Shapes
    /// `x` `[b, t, h, w, c]`; the result is like `x`.
    pub(super) fn forward(&self, x: &Tensor, walk: &mut Walk) -> Result<Tensor> {
        let x = walk.stage(&self.stages[0], &[x])?;
        walk.stage(&self.stages[1], &[&x])
    }
}

/// A level on the way up.
#[derive(Debug)]
pub(super) struct UpLevel {
    stages: Vec<Arc<Stage>>,
    up: Option<Conv2d>,
}

impl UpLevel {
    /// `level` counts from the finest; `source` is the whole network's.
    pub(super) fn new(source: &Source, config: &UNetConfig, level: usize) -> Result<Self> {
        let coarsest = config.levels() - 1;
        let turn = coarsest - level; // the levels' own count begins at the coarsest
        let source = source.at("up_blocks").at(turn);
        let widths = &config.block_out_channels;
        let o = widths[level];
        let (coarser, finer) = (
            widths[coarsest.min(level + 1)],
            widths[level.saturating_sub(1)],
        );
        let kind = config.up_block_types[turn];
        let last = config.layers_per_block[level];
        let stage = |k: usize| {
            // The skips of a level on the way down are its results; the last one met on the way up
            // is what it was given.
            let skip = if k == last { finer } else { o };
            let extents = StageExtents {
                i: skip + if k == 0 { coarser } else { o },
                o,
                e: config.embedding_channels(),
                eps: config.norm_eps.up(),
                transformer: transformer(config, level, kind),
            };
            Stage::new(&source, k, extents).map(Arc::new)
        };
        let stages = (0..=last).map(stage).collect::<Result<_>>()?;
        let scope = source.at("upsamplers").at(0).at("conv");
        let up = (level > 0).then(|| Conv2d::same(&scope, o, o));
        Ok(UpLevel {
            stages,
            up: up.transpose()?,
        })
    }

    pub(super) fn stages(&self) -> &[Arc<Stage>] {
        &self.stages
    }

    /// Takes one skip from the end of `skips` for each stage.
    ///
    /// # Shapes
    /// `x` `[b, t, h, w, c]`; the result is `[b, t, h', w', o]` with the rows and columns of the
    /// skip that is then the last, or those of `x` at the finest level.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        skips: &mut Vec<Tensor>,
        walk: &mut Walk,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        for stage in &self.stages {
            let skip = skips.pop().expect("the way down left one for each stage");
            x = walk.stage(stage, &[&x, &skip])?;
        }
        let (Some(up), Some(next)) = (&self.up, skips.last()) else {
            return Ok(x);
        };
        let (h, w) = (next.dims()[2], next.dims()[3]);
        if [2 * x.dims()[2], 2 * x.dims()[3]] == [h, w] {
            return each_frame(&x, |frames| up.forward_doubled(frames));
        }
        each_frame(&x, |frames| {
            up.forward(&cropped(&ops::upsample_nearest(frames)?, h, w)?)
        })
    }
}

/// The first `h` rows and `w` columns: halving rounds up, so doubling may give one too many.
fn cropped(x: &Tensor, h: usize, w: usize) -> Result<Tensor> {
    let mut x = x.clone();
    for (axis, size) in [(1, h), (2, w)] {
        if x.dims()[axis] != size {
            x = ops::narrow(&x, axis, 0, size)?;
        }
    }
    Ok(x)
}

fn transformer(config: &UNetConfig, level: usize, kind: LevelKind) -> Option<Extents> {
    (kind == LevelKind::Attends).then(|| Extents {
        channels: config.block_out_channels[level],
        heads: config.num_attention_heads[level],
        depth: config.transformer_layers_per_block[level],
        context: config.cross_attention_dim[level],
    })
}
