//! Attention over tokens in one kernel, on tensor cores: which attentions it serves, and its launches.

use super::Array;
use super::elementwise::same_type;
use super::launch::{Argument, Grid, Kernel, arguments};
use super::sources::Source;
use crate::cpu::attention::Sizes;
use crate::{DType, Result};

/// Channels of the heads it is made for; `HEAD` in `fused_attention.cu`.
const HEAD: usize = 64;
/// Rows of a block of threads; `BLOCK_ROWS` in `fused_attention.cu`.
const BLOCK_ROWS: usize = 128;
/// Fewer keys than the rows of one product of a tensor core leave most of a tile empty.
const LEAST_KEYS: usize = 16;

/// Whether this attention is computed without its scores ever being in memory: heads of 64 channels in
/// 16 bits, against 16 keys at least, counted in 32 bits. All others take chunks of scores; f32 does,
/// since tensor cores would round its operands.
pub(super) fn serves(dtype: DType, sizes: Sizes) -> bool {
    let Sizes { n, m, heads, d, .. } = sizes;
    // Blocks, rows, and one tile past the last row are counted in an `int`.
    let blocks = n.max(m).div_ceil(BLOCK_ROWS) * sizes.batch * heads;
    let counted = n.max(m).max(heads * HEAD).max(blocks) < i32::MAX as usize / 2;
    dtype != DType::F32 && d == HEAD && m >= LEAST_KEYS && counted
}

fn launch(name: &'static str, q: &Array, grid: Grid, arguments: &[Argument]) -> Result<()> {
    let kernel = Kernel {
        source: Source::FusedAttention,
        name,
        dtype: q.dtype(),
    };
    q.board().launch(kernel, grid, arguments)
}

/// `struct Tokens` of `fused_attention.cu`.
fn tokens(sizes: Sizes) -> Argument {
    let Sizes {
        n,
        m,
        heads,
        d,
        causal,
        ..
    } = sizes;
    let extents = [n, m, heads].map(|extent| Argument::from(extent as i32));
    let causal = Argument::from(i32::from(causal));
    let factor = 1.0 / (d as f32).sqrt();
    let factors = [factor, std::f32::consts::LOG2_E * factor].map(Argument::from);
    Argument::structure(extents.into_iter().chain([causal]).chain(factors))
}

/// Blocks that take `rows` rows of every head.
fn blocks(rows: usize, sizes: Sizes) -> Grid {
    let blocks = rows.div_ceil(BLOCK_ROWS) * sizes.batch * sizes.heads;
    Grid([blocks as u32, 1])
}

/// The result, and for each row, `[batch, heads, n]` in f32, the logarithm to base 2 of the sum of its
/// exponentials.
pub(super) fn attention([q, k, v]: [&Array; 3], sizes: Sizes) -> Result<(Array, Array)> {
    same_type("attention", q, k)?;
    same_type("attention", q, v)?;
    let out = q.like(q.len())?;
    let log_sums = q.f32_like(sizes.batch * sizes.heads * sizes.n)?;
    let mut list = arguments![q, k, v, &out, &log_sums].to_vec();
    list.push(tokens(sizes));
    launch("fused_attention", q, blocks(sizes.n, sizes), &list)?;
    Ok((out, log_sums))
}

/// Gradients of q, k and v.
pub(super) fn attention_backward(
    [q, k, v]: [&Array; 3],
    (out, log_sums): (&Array, &Array),
    dout: &Array,
    sizes: Sizes,
) -> Result<[Array; 3]> {
    same_type("attention", q, dout)?;
    let [dq, dk, dv] = [q.like(q.len())?, k.like(k.len())?, v.like(v.len())?];
    let means = q.f32_like(log_sums.len())?;
    let mut list = arguments![q, k, v, out, dout, log_sums, &dq, &means].to_vec();
    list.push(tokens(sizes));
    launch("fused_attention_queries", q, blocks(sizes.n, sizes), &list)?;
    let mut list = arguments![q, k, v, dout, log_sums, &means, &dk, &dv].to_vec();
    list.push(tokens(sizes));
    launch("fused_attention_keys", q, blocks(sizes.m, sizes), &list)?;
    Ok([dq, dk, dv])
}

#[cfg(test)]
mod tests;
