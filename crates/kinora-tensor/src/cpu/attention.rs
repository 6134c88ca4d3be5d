//! Softmax attention in tiles: scores of a block of queries against a block of keys live in a
//! buffer of the working thread, so memory does not grow with the product of the two lengths.
//!
//! Heads are read and written in place, as columns of rows `width` apart; nothing is transposed.

use super::exp::exp;
use super::matmul::{Cores, MatRef, matmul};
use super::vectorised;
use crate::storage;
use rayon::prelude::*;

/// Queries of a tile.
const QUERIES: usize = 128;
/// Keys of a tile: 128 · 512 scores are 256 KiB, which leave a second-level cache room for the rest.
const KEYS: usize = 512;

/// `batch` sequences of `n` queries against `m` keys, in `heads` heads of `d` channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub batch: usize,
    pub n: usize,
    pub m: usize,
    pub heads: usize,
    pub d: usize,
    /// Query i sees the keys 0..=i only.
    pub causal: bool,
}

impl Sizes {
    /// Channels of a row.
    pub(crate) fn width(&self) -> usize {
        self.heads * self.d
    }

    /// Factor on the scores.
    pub(crate) fn scale(&self) -> f32 {
        1.0 / (self.d as f32).sqrt()
    }

    /// How many of the keys the queries before `end` see between them.
    fn visible(&self, end: usize) -> usize {
        if self.causal { end.min(self.m) } else { self.m }
    }

    /// Rows `start .. start + len` of one head, in a sequence of rows.
    fn head<'a>(&self, rows: &'a [f32], head: usize, start: usize, len: usize) -> MatRef<'a> {
        let from = start * self.width() + head * self.d;
        MatRef::strided(&rows[from..], len, self.d, self.width())
    }
}

/// A buffer of the working thread, given back for reuse.
struct Buffer(Vec<f32>);

impl Buffer {
    fn new(len: usize) -> Self {
        Buffer(storage::scratch(len))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        storage::recycle(std::mem::take(&mut self.0));
    }
}

/// The attended values, `[batch, n, width]`, and for every row and head the logarithm of the sum of
/// its exponentials, `[batch, n, heads]`: all that the way back needs to know of the scores.
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
    out.par_chunks_mut(n * width)
        .zip(log_sums.par_chunks_mut(n * heads))
        .zip(q.par_chunks(n * width))
        .zip(k.par_chunks(m * width).zip(v.par_chunks(m * width)))
        .for_each(|(((out, log_sums), q), (k, v))| {
            out.par_chunks_mut(QUERIES * width)
                .zip(log_sums.par_chunks_mut(QUERIES * heads))
                .enumerate()
                .for_each_init(
                    || Buffer::new(QUERIES.min(n) * KEYS.min(m)),
                    |scores, (block, (out, log_sums))| {
                        let tile = Tile {
                            sizes,
                            start: block * QUERIES,
                            q,
                            k,
                            v,
                        };
                        for head in 0..heads {
                            tile.attend(head, out, log_sums, &mut scores.0);
                        }
                    },
                );
        });
    (out, log_sums)
}

/// A block of queries of one sequence, beginning with number `start`.
struct Tile<'a> {
    sizes: Sizes,
    start: usize,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
}

impl Tile<'_> {
    /// One head of the block, by the running softmax: what was summed under an older maximum is
    /// scaled down when a block of keys brings a larger one.
    fn attend(&self, head: usize, out: &mut [f32], log_sums: &mut [f32], scores: &mut [f32]) {
        let sizes = self.sizes;
        let (width, d) = (sizes.width(), sizes.d);
        let rows = out.len() / width;
        let out = &mut out[head * d..];
        let mut maxima = [f32::NEG_INFINITY; QUERIES];
        let mut sums = [0.0; QUERIES];
        let keys = sizes.visible(self.start + rows);
        for first in (0..keys).step_by(KEYS) {
            let len = KEYS.min(keys - first);
            let q = sizes.head(self.q, head, self.start, rows);
            let k = sizes.head(self.k, head, first, len);
            matmul(scores, len, q, k.t(), false, Cores::One);
            vectorised(
                #[inline(always)]
                || {
                    for row in 0..rows {
                        let scores = &mut scores[row * len..][..len];
                        hide_later(scores, sizes, self.start + row, first);
                        let old = maxima[row];
                        let new = largest_of(scores, old);
                        sums[row] *= exp((old - new) * sizes.scale());
                        sums[row] += exponentials(scores, sizes.scale(), new);
                        maxima[row] = new;
                        if first > 0 && new > old {
                            let shrink = exp((old - new) * sizes.scale());
                            out[row * width..][..d]
                                .iter_mut()
                                .for_each(|o| *o *= shrink);
                        }
                    }
                },
            );
            let v = sizes.head(self.v, head, first, len);
            matmul(
                out,
                width,
                MatRef::new(scores, rows, len),
                v,
                first > 0,
                Cores::One,
            );
        }
        for row in 0..rows {
            let share = 1.0 / sums[row];
            out[row * width..][..d].iter_mut().for_each(|o| *o *= share);
            log_sums[row * sizes.heads + head] = maxima[row] * sizes.scale() + sums[row].ln();
        }
    }
}

/// Where attention is causal, scores of keys after the query weigh nothing.
#[inline(always)]
fn hide_later(scores: &mut [f32], sizes: Sizes, query: usize, first_key: usize) {
    if sizes.causal {
        let seen = (query + 1).saturating_sub(first_key).min(scores.len());
        scores[seen..].fill(f32::NEG_INFINITY);
    }
}

/// Elements a vectorised loop carries along: four vectors of eight.
const LANES: usize = 32;

/// A comparison that compiles to one instruction, as `f32::max` does not.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The largest of `values` and `least`.
#[inline(always)]
fn largest_of(values: &[f32], least: f32) -> f32 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [least; LANES];
    for block in blocks {
        for k in 0..LANES {
            lanes[k] = larger(block[k], lanes[k]);
        }
    }
    lanes.iter().chain(rest).fold(least, |a, b| larger(*b, a))
}

/// Every s becomes exp(scale · (s − largest)); their sum.
#[inline(always)]
fn exponentials(scores: &mut [f32], scale: f32, largest: f32) -> f32 {
    let (blocks, rest) = scores.as_chunks_mut::<LANES>();
    let mut lanes = [0.0; LANES];
    for block in blocks {
        for k in 0..LANES {
            block[k] = exp((block[k] - largest) * scale);
            lanes[k] += block[k];
        }
    }
    let mut sum: f32 = lanes.iter().sum();
    for score in rest {
        *score = exp((*score - largest) * scale);
        sum += *score;
    }
    sum
}

/// What the way forward left, and what comes back.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub out: &'a [f32],
    pub log_sums: &'a [f32],
    pub dout: &'a [f32],
}

/// Gradients with respect to q, k and v. Scores are computed again, tile by tile.
pub(crate) fn backward(saved: Saved<'_>, sizes: Sizes) -> [Vec<f32>; 3] {
    let Sizes {
        batch, n, m, heads, ..
    } = sizes;
    let width = sizes.width();
    let mut dq = storage::scratch(batch * n * width);
    let mut dk = storage::zeros(batch * m * width);
    let mut dv = storage::zeros(batch * m * width);
    if dq.is_empty() {
        return [dq, dk, dv];
    }
    // Few sequences with few heads leave cores idle: each head's queries are then cut in parts,
    // whose gradients of k and v are added in order. The cut depends on sizes alone.
    let parts = (TASKS.div_ceil(batch * heads)).min(n.div_ceil(QUERIES));
    let span = n.div_ceil(parts).next_multiple_of(QUERIES);
    dq.par_chunks_mut(n * width)
        .zip(
            dk.par_chunks_mut(m * width)
                .zip(dv.par_chunks_mut(m * width)),
        )
        .enumerate()
        .for_each(|(sequence, (dq, (dk, dv)))| {
            let saved = saved.sequence(sequence, sizes);
            let tasks: Vec<(usize, usize)> = (0..heads)
                .flat_map(|head| (0..n).step_by(span).map(move |start| (head, start)))
                .collect();
            let partial: Vec<Partial> = tasks
                .par_iter()
                .map(|&(head, start)| Partial::new(saved, sizes, head, start, span))
                .collect();
            for ((head, start), part) in tasks.into_iter().zip(&partial) {
                let from = start * width + head * sizes.d;
                for (dq, part) in dq[from..]
                    .chunks_mut(width)
                    .zip(part.dq.0.chunks_exact(sizes.d))
                {
                    dq[..sizes.d].copy_from_slice(part);
                }
                add_columns(&mut dk[head * sizes.d..], &part.dk.0, width, sizes.d);
                add_columns(&mut dv[head * sizes.d..], &part.dv.0, width, sizes.d);
            }
        });
    [dq, dk, dv]
}

/// Tasks that keep the cores of a large machine busy.
const TASKS: usize = 16;

/// Adds dense rows of `d` onto the first columns of rows `width` apart.
fn add_columns(sum: &mut [f32], more: &[f32], width: usize, d: usize) {
    for (sum, more) in sum.chunks_mut(width).zip(more.chunks_exact(d)) {
        for (sum, more) in sum.iter_mut().zip(more) {
            *sum += more;
        }
    }
}

impl<'a> Saved<'a> {
    fn sequence(&self, index: usize, sizes: Sizes) -> Saved<'a> {
        let width = sizes.width();
        let queries =
            |rows: &'a [f32], width: usize| &rows[index * sizes.n * width..][..sizes.n * width];
        let keys = |rows: &'a [f32]| &rows[index * sizes.m * width..][..sizes.m * width];
        Saved {
            q: queries(self.q, width),
            k: keys(self.k),
            v: keys(self.v),
            out: queries(self.out, width),
            log_sums: queries(self.log_sums, sizes.heads),
            dout: queries(self.dout, width),
        }
    }
}

/// Gradients from one head and a span of queries, dense.
struct Partial {
    dq: Buffer,
    dk: Buffer,
    dv: Buffer,
}

impl Partial {
    fn new(saved: Saved<'_>, sizes: Sizes, head: usize, start: usize, span: usize) -> Self {
        let Sizes { n, m, d, .. } = sizes;
        let span = span.min(n - start);
        let mut part = Partial {
            dq: Buffer(storage::zeros(span * d)),
            dk: Buffer(storage::zeros(m * d)),
            dv: Buffer(storage::zeros(m * d)),
        };
        let tile = QUERIES.min(span) * KEYS.min(m);
        let (mut weights, mut slopes) = (Buffer::new(tile), Buffer::new(tile));
        for first_query in (start..start + span).step_by(QUERIES) {
            let queries = QUERIES.min(start + span - first_query);
            let keys = sizes.visible(first_query + queries);
            for first_key in (0..keys).step_by(KEYS) {
                let tile = BackTile {
                    saved,
                    sizes,
                    head,
                    queries: (first_query, queries),
                    keys: (first_key, KEYS.min(keys - first_key)),
                };
                tile.add_to(&mut part, start, &mut weights.0, &mut slopes.0);
            }
        }
        part
    }
}

/// A block of queries against a block of keys, each given by its first row and length.
struct BackTile<'a> {
    saved: Saved<'a>,
    sizes: Sizes,
    head: usize,
    queries: (usize, usize),
    keys: (usize, usize),
}

impl BackTile<'_> {
    /// With weights P = softmax(S), S = scale · q kᵀ: dv = Pᵀ do, dP = do vᵀ,
    /// dS = P ∘ (dP − rowsum(do ∘ o)), dq = scale · dS k, dk = scale · dSᵀ q.
    fn add_to(&self, part: &mut Partial, start: usize, p: &mut [f32], ds: &mut [f32]) {
        let Saved { q, k, v, dout, .. } = self.saved;
        let d = self.sizes.d;
        let ((first_query, rows), (first_key, len)) = (self.queries, self.keys);
        let queries = |data| self.sizes.head(data, self.head, first_query, rows);
        let keys = |data| self.sizes.head(data, self.head, first_key, len);
        matmul(p, len, queries(q), keys(k).t(), false, Cores::One);
        matmul(ds, len, queries(dout), keys(v).t(), false, Cores::One);
        vectorised(
            #[inline(always)]
            || self.weigh(p, ds),
        );
        let (p, ds) = (MatRef::new(p, rows, len), MatRef::new(ds, rows, len));
        let dk = &mut part.dk.0[first_key * d..];
        matmul(dk, d, ds.t(), queries(q), true, Cores::One);
        let dv = &mut part.dv.0[first_key * d..];
        matmul(dv, d, p.t(), queries(dout), true, Cores::One);
        let dq = &mut part.dq.0[(first_query - start) * d..];
        matmul(dq, d, ds, keys(k), true, Cores::One);
    }

    /// Scores become weights, and gradients of weights become scale · gradients of scores.
    #[inline(always)]
    fn weigh(&self, p: &mut [f32], ds: &mut [f32]) {
        let sizes = self.sizes;
        let ((first_query, rows), (first_key, len)) = (self.queries, self.keys);
        let scale = sizes.scale();
        for row in 0..rows {
            let query = first_query + row;
            let (p, ds) = (&mut p[row * len..][..len], &mut ds[row * len..][..len]);
            hide_later(p, sizes, query, first_key);
            let log_sum = self.saved.log_sums[query * sizes.heads + self.head];
            let at = query * sizes.width() + self.head * sizes.d;
            let (out, dout) = (
                &self.saved.out[at..][..sizes.d],
                &self.saved.dout[at..][..sizes.d],
            );
            let mean: f32 = out.iter().zip(dout).map(|(o, d)| o * d).sum();
            for (p, ds) in p.iter_mut().zip(ds) {
                *p = exp(*p * scale - log_sum);
                *ds = *p * (*ds - mean) * scale;
            }
        }
    }
}
