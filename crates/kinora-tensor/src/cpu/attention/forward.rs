//! The way forward.

use super::{Buffer, Sizes, Span, TASKS, even_block, spans};
use crate::cpu::matmul::{Cores, MatRef, matmul};
use crate::cpu::softmax::{PAD, exp2_nonpositive_scalar, largest, vectors, weigh};
use crate::storage;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::RangeInclusive;

/// Queries of a tile. The matrix kernel rearranges the keys for every tile, which many queries pay for
/// together: at 128 that is a sixth of the time, at 512 a twentieth.
const QUERIES: RangeInclusive<usize> = 128..=512;
/// Keys of a tile, at most: 512 · 512 scores are 1 MiB, a second-level cache.
const KEYS: usize = 512;

/// Queries of a tile here: fewer where there would be too few tasks.
fn block_of_queries(sizes: Sizes) -> usize {
    let even = sizes.n * sizes.batch * sizes.heads / TASKS;
    even_block(sizes.n, even.clamp(*QUERIES.start(), *QUERIES.end()))
}

/// The attended values, `[batch, n, width]`, and for every head and query the logarithm to base 2 of
/// the sum of its exponentials, `[batch, heads, n]`: all that the way back needs to know of the scores.
pub(crate) fn forward(q: &[f32], k: &[f32], v: &[f32], sizes: Sizes) -> (Vec<f32>, Vec<f32>) {
    let Sizes {
        batch, n, m, heads, ..
    } = sizes;
    let width = sizes.width();
    let mut out = storage::scratch(batch * n * width);
    let mut log_sums = storage::scratch(batch * n * heads);
    if out.is_empty() {
        return (out, log_sums);
    }
    let block = block_of_queries(sizes);
    let tasks: Vec<_> = rows_by_task(&mut out, sizes, block)
        .into_iter()
        .zip(log_sums.chunks_mut(n).flat_map(|row| row.chunks_mut(block)))
        .collect();
    let blocks = n.div_ceil(block);
    tasks.into_par_iter().enumerate().for_each_init(
        || Work::new(sizes),
        |work, (task, (mut out, log_sums))| {
            let (sequence, head, at) =
                (task / blocks / heads, task / blocks % heads, task % blocks);
            let tile = Tile {
                sizes,
                head,
                queries: (at * block, out.len()),
                q: &q[sequence * n * width..][..n * width],
                k: &k[sequence * m * width..][..m * width],
                v: &v[sequence * m * width..][..m * width],
            };
            tile.attend(work, &mut out, log_sums);
        },
    );
    (out, log_sums)
}

/// The channels of each head in each row of `out`, put together by sequence, head and block of rows.
fn rows_by_task(out: &mut [f32], sizes: Sizes, block: usize) -> Vec<Vec<&mut [f32]>> {
    let blocks = sizes.n.div_ceil(block);
    let mut tasks = Vec::with_capacity(sizes.batch * sizes.heads * blocks);
    for sequence in out.chunks_exact_mut(sizes.n * sizes.width()) {
        let first = tasks.len();
        tasks.resize_with(first + sizes.heads * blocks, Vec::new);
        for (i, row) in sequence.chunks_exact_mut(sizes.width()).enumerate() {
            for (head, channels) in row.chunks_exact_mut(sizes.d).enumerate() {
                tasks[first + head * blocks + i / block].push(channels);
            }
        }
    }
    tasks
}

/// What a thread works with.
struct Work {
    scores: Buffer,
    out: Buffer,
    maxima: Vec<f32>,
    sums: Vec<f32>,
}

impl Work {
    fn new(sizes: Sizes) -> Self {
        let queries = block_of_queries(sizes);
        Work {
            scores: Buffer::new(queries * even_block(sizes.m, KEYS).next_multiple_of(PAD)),
            out: Buffer::new(queries * sizes.d),
            maxima: vec![0.0; queries],
            sums: vec![0.0; queries],
        }
    }
}

/// A block of queries of one head.
struct Tile<'a> {
    sizes: Sizes,
    head: usize,
    queries: Span,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
}

impl Tile<'_> {
    fn attend(&self, work: &mut Work, out: &mut [&mut [f32]], log_sums: &mut [f32]) {
        let (sizes, d) = (self.sizes, self.sizes.d);
        let (first_query, rows) = self.queries;
        work.maxima.fill(f32::NEG_INFINITY);
        work.sums.fill(0.0);
        let visible = sizes.visible(first_query + rows);
        for keys in spans(sizes.m, KEYS).take_while(|(start, _)| *start < visible) {
            let (first_key, len) = keys;
            let q = sizes.head(self.q, self.head, self.queries);
            let k = sizes.head(self.k, self.head, keys);
            let stride = len.next_multiple_of(PAD);
            matmul(&mut work.scores.0, stride, q, k.t(), false, Cores::One);
            Arch::new().dispatch(Soften {
                tile: self,
                work,
                keys,
            });
            let weights = MatRef::strided(&work.scores.0, rows, len, stride);
            let v = sizes.head(self.v, self.head, keys);
            matmul(&mut work.out.0, d, weights, v, first_key > 0, Cores::One);
        }
        for (row, (out, log_sum)) in out.iter_mut().zip(log_sums).enumerate() {
            let share = 1.0 / work.sums[row];
            for (out, sum) in out.iter_mut().zip(&work.out.0[row * d..]) {
                *out = sum * share;
            }
            *log_sum = work.maxima[row] * sizes.scale() + work.sums[row].log2();
        }
    }
}

/// The running softmax: scores become weights relative to the largest score so far, and what was
/// summed under an older, smaller one is scaled down.
struct Soften<'a> {
    tile: &'a Tile<'a>,
    work: &'a mut Work,
    keys: Span,
}

impl WithSimd for Soften<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Soften {
            tile,
            work,
            keys: (first_key, len),
        } = self;
        let (sizes, scale) = (tile.sizes, tile.sizes.scale());
        let (first_query, rows) = tile.queries;
        let stride = len.next_multiple_of(PAD);
        for row in 0..rows {
            let scores = &mut work.scores.0[row * stride..][..stride];
            let seen = match sizes.causal {
                true => (first_query + row + 1).saturating_sub(first_key).min(len),
                false => len,
            };
            scores[seen..].fill(f32::NEG_INFINITY);
            let scores = vectors::<S>(scores);
            let old = work.maxima[row];
            let new = largest(simd, scores, old);
            let shrink = exp2_nonpositive_scalar((old - new) * scale);
            work.maxima[row] = new;
            work.sums[row] = work.sums[row] * shrink + weigh(simd, scores, scale, new);
            if first_key > 0 && new > old {
                let out = &mut work.out.0[row * sizes.d..][..sizes.d];
                out.iter_mut().for_each(|out| *out *= shrink);
            }
        }
    }
}
