//! Attention on a card: over tokens by the fused kernel where it serves, otherwise in chunks of queries
//! whose scores exist in full and are made again on the way back; over frames by kernels of their own.

use super::elementwise::same_type;
use super::launch::{Argument, Grid, Kernel, arguments};
use super::product::{Matrix, Product, heads};
use super::sources::Source;
use super::{Array, cast, fill, fused_attention};
use crate::cpu::attention::Sizes;
use crate::cpu::time_attention::Sizes as TimeSizes;
use crate::{DType, Error, Result};

fn launch(name: &'static str, x: &Array, grid: Grid, arguments: &[Argument]) -> Result<()> {
    let kernel = Kernel {
        source: Source::Attention,
        name,
        dtype: x.dtype(),
    };
    x.board().launch(kernel, grid, arguments)
}

/// Scores of one chunk, in f32, take about this much.
const CHUNK_BYTES: usize = 256 << 20;

/// Some queries of one sequence, against all its keys.
#[derive(Clone, Copy)]
struct Chunk {
    sizes: Sizes,
    sequence: usize,
    first: usize,
    queries: usize,
}

impl Chunk {
    /// All chunks, sequence after sequence.
    fn all(sizes: Sizes, bytes: usize) -> impl Iterator<Item = Chunk> {
        let most = (bytes / (4 * sizes.heads * sizes.m).max(1)).max(1);
        (0..sizes.batch).flat_map(move |sequence| {
            (0..sizes.n).step_by(most).map(move |first| Chunk {
                sizes,
                sequence,
                first,
                queries: most.min(sizes.n - first),
            })
        })
    }

    fn factor(&self) -> f32 {
        1.0 / (self.sizes.d as f32).sqrt()
    }

    fn rows(&self) -> usize {
        self.sizes.heads * self.queries
    }

    /// The chunk's rows of an array of queries, head by head.
    fn of_queries<'a>(&self, array: &'a Array) -> Matrix<'a> {
        let Sizes { n, heads: h, d, .. } = self.sizes;
        let first = self.sequence * n + self.first;
        heads(array, [first, self.queries], [h * d, d])
    }

    /// The sequence's rows of an array of keys, head by head.
    fn of_keys<'a>(&self, array: &'a Array) -> Matrix<'a> {
        let Sizes { m, heads: h, d, .. } = self.sizes;
        heads(array, [self.sequence * m, m], [h * d, d])
    }

    /// An array of scores, `[heads, queries, m]`.
    fn of_scores<'a>(&self, array: &'a Array) -> Matrix<'a> {
        let dense = Matrix::dense(array, self.queries, self.sizes.m);
        Matrix {
            next: self.queries * self.sizes.m,
            ..dense
        }
    }

    fn product(&self, a: Matrix<'_>, b: Matrix<'_>, out: Matrix<'_>, more: bool) -> Result<()> {
        Product {
            batch: self.sizes.heads,
            accumulate: more,
            ..Product::new(a, b, out)
        }
        .run()
    }

    /// The softmax of the scores, in the type of the operands.
    fn weights(&self, q: &Array, k: &Array) -> Result<Array> {
        let (rows, m) = (self.rows(), self.sizes.m);
        let scores = q.f32_like(rows * m)?;
        let (queries, keys) = (self.of_queries(q), self.of_keys(k).turned());
        self.product(queries, keys, self.of_scores(&scores), false)?;
        let weights = q.like(rows * m)?;
        let causal = i32::from(self.sizes.causal);
        let (first, factor) = (self.first, self.factor());
        let list = arguments![&scores, &weights, self.queries, m, first, causal, factor];
        launch("softmax", q, Grid([rows as u32, 1]), list)?;
        Ok(weights)
    }
}

/// The result and, where the fused kernel made it, the logarithm of the sum of each row's exponentials
/// for the way back.
pub(crate) fn attention(operands: [&Array; 3], sizes: Sizes) -> Result<(Array, Option<Array>)> {
    if fused_attention::serves(operands[0].dtype(), sizes) {
        let (out, log_sums) = fused_attention::attention(operands, sizes)?;
        return Ok((out, Some(log_sums)));
    }
    Ok((chunked_attention(operands, sizes, CHUNK_BYTES)?, None))
}

pub(super) fn chunked_attention(
    [q, k, v]: [&Array; 3],
    sizes: Sizes,
    chunk_bytes: usize,
) -> Result<Array> {
    same_type("attention", q, k)?;
    same_type("attention", q, v)?;
    let out = q.like(q.len())?;
    for chunk in Chunk::all(sizes, chunk_bytes) {
        let weights = chunk.weights(q, k)?;
        let (weights, values) = (chunk.of_scores(&weights), chunk.of_keys(v));
        chunk.product(weights, values, chunk.of_queries(&out), false)?;
    }
    Ok(out)
}

/// Gradients of q, k and v; `fused` is what [`attention`] gave, where it gave the logarithms.
pub(crate) fn attention_backward(
    operands: [&Array; 3],
    fused: Option<(&Array, &Array)>,
    dout: &Array,
    sizes: Sizes,
) -> Result<[Array; 3]> {
    match fused {
        Some(saved) => fused_attention::attention_backward(operands, saved, dout, sizes),
        None => chunked_backward(operands, dout, sizes, CHUNK_BYTES),
    }
}

pub(super) fn chunked_backward(
    [q, k, v]: [&Array; 3],
    dout: &Array,
    sizes: Sizes,
    chunk_bytes: usize,
) -> Result<[Array; 3]> {
    same_type("attention", q, dout)?;
    let dq = q.like(q.len())?;
    // Every chunk adds to these: in f32, or what is small would be rounded away.
    let [dk, dv] = [k, v].map(|x| fill(x.board(), x.len(), DType::F32, 0.0));
    let (dk, dv) = (dk?, dv?);
    for chunk in Chunk::all(sizes, chunk_bytes) {
        let weights = chunk.weights(q, k)?;
        let scores = chunk.of_scores(&weights);
        let gradient = chunk.of_queries(dout);
        chunk.product(scores.turned(), gradient, chunk.of_keys(&dv), true)?;
        let dweights = q.f32_like(weights.len())?;
        let values = chunk.of_keys(v).turned();
        chunk.product(gradient, values, chunk.of_scores(&dweights), false)?;
        let dscores = q.like(weights.len())?;
        let list = arguments![&weights, &dweights, &dscores, sizes.m, chunk.factor()];
        launch("softmax_backward", q, Grid([chunk.rows() as u32, 1]), list)?;
        let dscores = chunk.of_scores(&dscores);
        chunk.product(dscores, chunk.of_keys(k), chunk.of_queries(&dq), false)?;
        let queries = chunk.of_queries(q);
        chunk.product(dscores.turned(), queries, chunk.of_keys(&dk), true)?;
    }
    Ok([dq, cast(&dk, k.dtype())?, cast(&dv, v.dtype())?])
}

/// Channels of a head that a warp holds; `WARP · CHANNELS` in `attention.cu`.
const MOST_CHANNELS: usize = 256;

/// `struct Frames` of `attention.cu`.
fn frames(sizes: TimeSizes) -> Argument {
    let TimeSizes {
        batch,
        t,
        s,
        heads,
        d,
    } = sizes;
    let extents = [batch, t, s, heads, d].map(Argument::from);
    let factor = Argument::from(1.0 / (d as f32).sqrt());
    Argument::structure(extents.into_iter().chain([factor]))
}

fn warps(sizes: TimeSizes) -> Grid {
    Grid::warps(sizes.batch * sizes.s * sizes.heads * sizes.t)
}

/// The result, and the logarithm of the sum of each row's exponentials for the way back.
pub(crate) fn time_attention([q, k, v]: [&Array; 3], sizes: TimeSizes) -> Result<(Array, Array)> {
    same_type("time_attention", q, k)?;
    same_type("time_attention", q, v)?;
    if sizes.d > MOST_CHANNELS {
        let message = format!("heads of {} channels are over {MOST_CHANNELS}", sizes.d);
        return Err(Error::argument("time_attention", message));
    }
    let out = q.like(q.len())?;
    let log_sums = q.f32_like(q.len() / sizes.d)?;
    let mut list = arguments![q, k, v, &out, &log_sums].to_vec();
    list.push(frames(sizes));
    launch("time_attention", q, warps(sizes), &list)?;
    Ok((out, log_sums))
}

/// Gradients of q, k and v.
pub(crate) fn time_attention_backward(
    [q, k, v]: [&Array; 3],
    (out, log_sums): (&Array, &Array),
    dout: &Array,
    sizes: TimeSizes,
) -> Result<[Array; 3]> {
    same_type("time_attention", q, dout)?;
    let [dq, dk, dv] = [q.like(q.len())?, q.like(q.len())?, q.like(q.len())?];
    let means = q.f32_like(log_sums.len())?;
    let mut list = arguments![q, k, v, out, dout, log_sums, &dq, &means].to_vec();
    list.push(frames(sizes));
    launch("time_attention_queries", q, warps(sizes), &list)?;
    let mut list = arguments![q, k, v, dout, log_sums, &means, &dk, &dv].to_vec();
    list.push(frames(sizes));
    launch("time_attention_keys", q, warps(sizes), &list)?;
    Ok([dq, dk, dv])
}
