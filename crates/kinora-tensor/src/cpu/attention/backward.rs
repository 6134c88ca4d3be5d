//! The way back. Scores are computed again, tile by tile; tiles lie with a row for each key, so that
//! sums over queries read them in the order they are stored in.

use super::{Buffer, Sizes, Span, TASKS, spans};
use crate::cpu::matmul::{Cores, MatRef, matmul};
use crate::cpu::softmax::{PAD, exp2_nonpositive, vectors};
use crate::cpu::vectorised;
use crate::storage;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Queries and keys of a tile, at most: two tiles of 256 KiB and eight blocks of rows between them
/// fill a second-level cache.
const QUERIES: usize = 256;
const KEYS: usize = 256;

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

/// Gradients with respect to q, k and v.
pub(crate) fn backward(saved: Saved<'_>, sizes: Sizes) -> [Vec<f32>; 3] {
    let Sizes {
        batch,
        n,
        m,
        heads,
        d,
        ..
    } = sizes;
    let width = sizes.width();
    let mut dq = storage::scratch(batch * n * width);
    let mut dk = storage::zeros(batch * m * width);
    let mut dv = storage::zeros(batch * m * width);
    if dq.is_empty() {
        return [dq, dk, dv];
    }
    // Few sequences with few heads would leave cores idle: each head's queries are then cut in parts,
    // whose gradients of k and v are added in order. The cut depends on sizes alone.
    let parts = TASKS.div_ceil(batch * heads);
    let part = n.div_ceil(parts).next_multiple_of(QUERIES);
    let tasks: Vec<(usize, Span)> = (0..heads)
        .flat_map(|head| spans(n, part).map(move |span| (head, span)))
        .collect();
    dq.par_chunks_mut(n * width)
        .zip(
            dk.par_chunks_mut(m * width)
                .zip(dv.par_chunks_mut(m * width)),
        )
        .enumerate()
        .for_each(|(sequence, (dq, (dk, dv)))| {
            let saved = saved.sequence(sequence, sizes);
            let partial: Vec<Partial> = tasks
                .par_iter()
                .map(|&(head, span)| Partial::new(saved, sizes, head, span))
                .collect();
            for ((head, (start, _)), part) in tasks.iter().zip(partial) {
                add_columns(&mut dk[head * d..], &part.dk.0, width, d);
                add_columns(&mut dv[head * d..], &part.dv.0, width, d);
                let dq = &mut dq[start * width + head * d..];
                for (dq, part) in dq.chunks_mut(width).zip(part.dq.0.chunks_exact(d)) {
                    dq[..d].copy_from_slice(part);
                }
            }
        });
    [dq, dk, dv]
}

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
        let part = |rows: &'a [f32], len: usize| &rows[index * len..][..len];
        let (queries, keys) = (sizes.n * sizes.width(), sizes.m * sizes.width());
        Saved {
            q: part(self.q, queries),
            k: part(self.k, keys),
            v: part(self.v, keys),
            out: part(self.out, queries),
            log_sums: part(self.log_sums, sizes.n * sizes.heads),
            dout: part(self.dout, queries),
        }
    }
}

/// Gradients from one head and a span of its queries, dense.
struct Partial {
    dq: Buffer,
    dk: Buffer,
    dv: Buffer,
}

impl Partial {
    fn new(saved: Saved<'_>, sizes: Sizes, head: usize, (start, len): Span) -> Self {
        let Sizes { m, d, .. } = sizes;
        let mut part = Partial {
            dq: Buffer::new(len * d),
            dk: Buffer::zeros(m * d),
            dv: Buffer::zeros(m * d),
        };
        let mut work = Work::new(sizes);
        for (first, rows) in spans(len, QUERIES) {
            let tile = Tile {
                saved,
                sizes,
                head,
                queries: (start + first, rows),
            };
            tile.add_to(&mut part, &mut work);
            // The gradient of these queries was gathered with a row for each channel.
            for (row, dq) in part.dq.0[first * d..]
                .chunks_exact_mut(d)
                .take(rows)
                .enumerate()
            {
                for (c, dq) in dq.iter_mut().enumerate() {
                    *dq = work.dq.0[c * rows + row];
                }
            }
        }
        part
    }
}

/// What a thread works with.
struct Work {
    /// Weights, a row for each key.
    weights: Buffer,
    /// Gradients of the scaled scores, likewise.
    slopes: Buffer,
    /// Gradient of the queries, a row for each channel.
    dq: Buffer,
    /// For each query, the logarithm of its sum and the mean of the gradients of its weights.
    log_sums: Vec<f32>,
    means: Vec<f32>,
}

impl Work {
    fn new(sizes: Sizes) -> Self {
        let queries = QUERIES.min(sizes.n).next_multiple_of(PAD);
        let tile = queries * KEYS.min(sizes.m);
        Work {
            weights: Buffer::new(tile),
            slopes: Buffer::new(tile),
            dq: Buffer::new(queries * sizes.d),
            log_sums: vec![0.0; queries],
            means: vec![0.0; queries],
        }
    }
}

/// A block of queries of one head.
struct Tile<'a> {
    saved: Saved<'a>,
    sizes: Sizes,
    head: usize,
    queries: Span,
}

impl Tile<'_> {
    /// With weights P = softmax(S), S = q kᵀ / √d: dv = Pᵀ do, dP = do vᵀ,
    /// dS = P ∘ (dP − rowsum(do ∘ o)), dq = dS k / √d, dk = dSᵀ q / √d.
    fn add_to(&self, part: &mut Partial, work: &mut Work) {
        let (sizes, d, head) = (self.sizes, self.sizes.d, self.head);
        let (first_query, rows) = self.queries;
        let stride = rows.next_multiple_of(PAD);
        let log_sums = &self.saved.log_sums[head * sizes.n + first_query..][..rows];
        work.log_sums[..rows].copy_from_slice(log_sums);
        vectorised(
            #[inline(always)]
            || self.find_means(&mut work.means),
        );
        let q = sizes.head(self.saved.q, head, self.queries);
        let dout = sizes.head(self.saved.dout, head, self.queries);
        let visible = sizes.visible(first_query + rows);
        for keys in spans(sizes.m, KEYS).take_while(|(start, _)| *start < visible) {
            let (first_key, len) = keys;
            let k = sizes.head(self.saved.k, head, keys);
            let v = sizes.head(self.saved.v, head, keys);
            matmul(&mut work.weights.0, stride, k, q.t(), false, Cores::One);
            matmul(&mut work.slopes.0, stride, v, dout.t(), false, Cores::One);
            Arch::new().dispatch(Weigh {
                tile: self,
                work,
                keys,
            });
            let weights = MatRef::strided(&work.weights.0, len, rows, stride);
            let slopes = MatRef::strided(&work.slopes.0, len, rows, stride);
            matmul(
                &mut part.dv.0[first_key * d..],
                d,
                weights,
                dout,
                true,
                Cores::One,
            );
            matmul(
                &mut part.dk.0[first_key * d..],
                d,
                slopes,
                q,
                true,
                Cores::One,
            );
            matmul(
                &mut work.dq.0,
                rows,
                k.t(),
                slopes,
                first_key > 0,
                Cores::One,
            );
        }
    }

    /// rowsum(do ∘ o), which equals the mean of dP under the weights.
    #[inline(always)]
    fn find_means(&self, means: &mut [f32]) {
        let (width, d) = (self.sizes.width(), self.sizes.d);
        let (first_query, rows) = self.queries;
        for (row, mean) in means[..rows].iter_mut().enumerate() {
            let at = (first_query + row) * width + self.head * d;
            let (out, dout) = (&self.saved.out[at..][..d], &self.saved.dout[at..][..d]);
            *mean = out.iter().zip(dout).map(|(out, dout)| out * dout).sum();
        }
    }
}

/// Products of keys and queries become weights, and gradients of weights those of scores.
struct Weigh<'a> {
    tile: &'a Tile<'a>,
    work: &'a mut Work,
    keys: Span,
}

impl WithSimd for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Weigh {
            tile,
            work,
            keys: (first_key, len),
        } = self;
        let sizes = tile.sizes;
        let (first_query, rows) = tile.queries;
        let stride = rows.next_multiple_of(PAD);
        let scale = simd.splat_f32s(sizes.scale());
        let root = simd.splat_f32s(1.0 / (sizes.d as f32).sqrt());
        let log_sums = vectors::<S>(&mut work.log_sums[..stride]);
        let means = vectors::<S>(&mut work.means[..stride]);
        for key in 0..len {
            let weights = &mut work.weights.0[key * stride..][..stride];
            if sizes.causal {
                let hidden = (first_key + key).saturating_sub(first_query).min(rows);
                weights[..hidden].fill(f32::NEG_INFINITY);
            }
            let weights = vectors::<S>(weights);
            let slopes = vectors::<S>(&mut work.slopes.0[key * stride..][..stride]);
            let queries = weights
                .iter_mut()
                .zip(slopes)
                .zip(log_sums.iter().zip(&*means));
            for ((weight, slope), (log_sum, mean)) in queries {
                let t = simd.sub_f32s(simd.mul_f32s(*weight, scale), *log_sum);
                *weight = exp2_nonpositive(simd, t);
                let rooted = simd.mul_f32s(*weight, root);
                *slope = simd.mul_f32s(rooted, simd.sub_f32s(*slope, *mean));
            }
        }
    }
}
