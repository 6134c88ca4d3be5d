//! Attention over the frames of each place: thousands of tiny problems, too small for the matrix
//! kernels. Frames are read where they lie.
//!
//! Frames are a large power of two apart in memory, more often than not, so that the same place of
//! all frames competes for a handful of cache lines. A task therefore copies a few neighbouring
//! places of each frame at once into rows of its own, and works on those.

use super::attention::Buffer;
use super::small_matmul::{Extents, Left, multiply, transpose};
use super::softmax::{PAD, largest, vectors, weigh};
use crate::storage;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// `batch` clips of `t` frames of `s` places, in `heads` heads of `d` channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub batch: usize,
    pub t: usize,
    pub s: usize,
    pub heads: usize,
    pub d: usize,
}

/// Elements of a frame that a task copies at once, about: 4 KiB, enough for memory to be read in
/// runs, and for all frames to fit a second-level cache.
const RUN: usize = 1024;

impl Sizes {
    fn width(&self) -> usize {
        self.heads * self.d
    }

    fn elements(&self) -> usize {
        self.batch * self.t * self.s * self.width()
    }

    /// Neighbouring places of a task.
    fn places(&self) -> usize {
        (RUN / self.width()).clamp(1, self.s)
    }

    /// Channels of a head, padded to whole vectors.
    fn channels(&self) -> usize {
        self.d.next_multiple_of(PAD)
    }

    /// Frames of a clip, padded to whole vectors.
    fn frames(&self) -> usize {
        self.t.next_multiple_of(PAD)
    }

    /// Distance of the rows of a task: an odd number of cache lines, lest they compete for the same.
    fn stride(&self) -> usize {
        ((self.places() * self.heads * self.channels() / PAD) | 1) * PAD
    }

    /// `out` cut into tasks: for a clip and a block of places, that block in each frame.
    fn tasks<'a>(&self, out: &'a mut [f32]) -> Vec<Vec<&'a mut [f32]>> {
        let blocks = self.s.div_ceil(self.places());
        let mut tasks = Vec::with_capacity(self.batch * blocks);
        for clip in out.chunks_exact_mut(self.t * self.s * self.width()) {
            let first = tasks.len();
            tasks.resize_with(first + blocks, || Vec::with_capacity(self.t));
            for frame in clip.chunks_exact_mut(self.s * self.width()) {
                let places = frame.chunks_mut(self.places() * self.width());
                for (task, places) in tasks[first..].iter_mut().zip(places) {
                    task.push(places);
                }
            }
        }
        tasks
    }

    /// The places of task number `task` in each frame of `x`, `len` elements of each, copied to rows
    /// of our own, each head padded.
    fn bring(&self, x: &[f32], task: usize, len: usize, rows: &mut [f32]) {
        let blocks = self.s.div_ceil(self.places());
        let (clip, block) = (task / blocks, task % blocks);
        let frame = self.s * self.width();
        let start = clip * self.t * frame + block * self.places() * self.width();
        for (t, row) in rows
            .chunks_exact_mut(self.stride())
            .take(self.t)
            .enumerate()
        {
            let x = &x[start + t * frame..][..len];
            if self.d == self.channels() {
                row[..len].copy_from_slice(x);
            } else {
                for (head, x) in row
                    .chunks_exact_mut(self.channels())
                    .zip(x.chunks_exact(self.d))
                {
                    head[..self.d].copy_from_slice(x);
                }
            }
        }
    }

    /// The way back.
    fn take(&self, rows: &[f32], out: &mut [&mut [f32]]) {
        for (row, out) in rows.chunks_exact(self.stride()).zip(out) {
            if self.d == self.channels() {
                out.copy_from_slice(&row[..out.len()]);
            } else {
                for (head, out) in row
                    .chunks_exact(self.channels())
                    .zip(out.chunks_exact_mut(self.d))
                {
                    out.copy_from_slice(&head[..self.d]);
                }
            }
        }
    }
}

/// The attended values, like `q`.
pub(crate) fn forward(inputs: [&[f32]; 3], sizes: Sizes) -> Vec<f32> {
    let mut out = storage::scratch(sizes.elements());
    if out.is_empty() {
        return out;
    }
    let tasks = sizes.tasks(&mut out).into_par_iter().enumerate();
    tasks.for_each_init(
        || {
            (
                Work::new(sizes),
                Rows::<3>::new(sizes),
                Rows::<1>::new(sizes),
            )
        },
        |(work, brought, made), (task, mut out)| {
            let len = out[0].len();
            for (x, rows) in inputs.iter().zip(&mut brought.0) {
                sizes.bring(x, task, len, &mut rows.0);
            }
            let [Buffer(made)] = &mut made.0;
            Arch::new().dispatch(Forward {
                work,
                inputs: brought.each(),
                out: made,
                units: len / sizes.d,
            });
            sizes.take(made, &mut out);
        },
    );
    out
}

/// Gradients with respect to q, k and v, given those three and that of the result.
pub(crate) fn backward(inputs: [&[f32]; 4], sizes: Sizes) -> [Vec<f32>; 3] {
    let mut gradients = [(); 3].map(|()| storage::scratch(sizes.elements()));
    let [dq, dk, dv] = &mut gradients;
    if dq.is_empty() {
        return gradients;
    }
    let keys_and_values = sizes.tasks(dk).into_iter().zip(sizes.tasks(dv));
    let tasks: Vec<_> = sizes.tasks(dq).into_iter().zip(keys_and_values).collect();
    tasks.into_par_iter().enumerate().for_each_init(
        || {
            (
                Work::new(sizes),
                Rows::<4>::new(sizes),
                Rows::<3>::new(sizes),
            )
        },
        |(work, brought, made), (task, (dq, (dk, dv)))| {
            let len = dq[0].len();
            for (x, rows) in inputs.iter().zip(&mut brought.0) {
                sizes.bring(x, task, len, &mut rows.0);
            }
            Arch::new().dispatch(Backward {
                work,
                inputs: brought.each(),
                gradients: made.0.each_mut().map(|rows| &mut rows.0[..]),
                units: len / sizes.d,
            });
            for (rows, mut out) in made.0.iter().zip([dq, dk, dv]) {
                sizes.take(&rows.0, &mut out);
            }
        },
    );
    gradients
}

/// `N` arrays of a task's rows, one for each frame; those beyond the last frame, and the padding of
/// heads, are zero.
struct Rows<const N: usize>([Buffer; N]);

impl<const N: usize> Rows<N> {
    fn new(sizes: Sizes) -> Self {
        Rows([(); N].map(|()| Buffer::zeros(sizes.frames() * sizes.stride())))
    }

    fn each(&self) -> [&[f32]; N] {
        self.0.each_ref().map(|rows| &rows.0[..])
    }
}

/// What one place and head is worked out in.
struct Work {
    sizes: Sizes,
    /// Keys or values, with a row for each channel.
    turned: Vec<f32>,
    /// Weights of every frame (column) in every frame (row).
    weights: Vec<f32>,
    /// Gradients of the scaled scores, likewise.
    slopes: Vec<f32>,
}

impl Work {
    fn new(sizes: Sizes) -> Self {
        let square = || vec![0.0; sizes.t * sizes.frames()];
        Work {
            sizes,
            turned: vec![0.0; sizes.channels() * sizes.frames()],
            weights: square(),
            slopes: square(),
        }
    }

    /// left · rightᵀ of two arrays of rows, into `out`.
    #[inline(always)]
    fn products<S: Simd>(&mut self, simd: S, left: &[f32], right: &[f32], which: Square) {
        let (sizes, frames) = (self.sizes, self.sizes.frames());
        transpose(
            right,
            sizes.stride(),
            &mut self.turned,
            sizes.channels(),
            frames,
        );
        let out = match which {
            Square::Weights => &mut self.weights,
            Square::Slopes => &mut self.slopes,
        };
        let left = Left {
            data: left,
            row: sizes.stride(),
            column: 1,
        };
        let extents = Extents {
            rows: sizes.t,
            terms: sizes.d,
            columns: frames,
        };
        multiply(simd, (out, frames), left, (&self.turned, frames), extents);
    }

    /// weights = softmax(q kᵀ / √d).
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, simd: S, q: &[f32], k: &[f32]) {
        let Sizes { t, d, .. } = self.sizes;
        self.products(simd, q, k, Square::Weights);
        let scale = std::f32::consts::LOG2_E / (d as f32).sqrt();
        for row in self.weights.chunks_exact_mut(self.sizes.frames()) {
            row[t..].fill(f32::NEG_INFINITY);
            let row = vectors::<S>(row);
            let largest = largest(simd, row, f32::NEG_INFINITY);
            let share = simd.splat_f32s(1.0 / weigh(simd, row, scale, largest));
            row.iter_mut().for_each(|w| *w = simd.mul_f32s(*w, share));
        }
    }

    /// slopes = P ∘ (dP − rowsum(P ∘ dP)) / √d with dP = do vᵀ and the weights P.
    #[inline(always)]
    fn slope<S: Simd>(&mut self, simd: S, dout: &[f32], v: &[f32]) {
        self.products(simd, dout, v, Square::Slopes);
        let frames = self.sizes.frames();
        let root = simd.splat_f32s(1.0 / (self.sizes.d as f32).sqrt());
        let rows = self.weights.chunks_exact_mut(frames);
        for (weights, slopes) in rows.zip(self.slopes.chunks_exact_mut(frames)) {
            let (weights, slopes) = (vectors::<S>(weights), vectors::<S>(slopes));
            let mut sum = simd.splat_f32s(0.0);
            for (weight, slope) in weights.iter().zip(&*slopes) {
                sum = simd.mul_add_e_f32s(*weight, *slope, sum);
            }
            let mean = simd.splat_f32s(simd.reduce_sum_f32s(sum));
            for (weight, slope) in weights.iter().zip(slopes) {
                let rooted = simd.mul_f32s(*weight, root);
                *slope = simd.mul_f32s(rooted, simd.sub_f32s(*slope, mean));
            }
        }
    }

    /// `out` = square · rows, or its transpose · rows.
    #[inline(always)]
    fn combine<S: Simd>(
        &self,
        simd: S,
        which: Square,
        turned: bool,
        rows: &[f32],
        out: &mut [f32],
    ) {
        let (sizes, stride) = (self.sizes, self.sizes.stride());
        let square = match which {
            Square::Weights => &self.weights,
            Square::Slopes => &self.slopes,
        };
        let (row, column) = match turned {
            false => (sizes.frames(), 1),
            true => (1, sizes.frames()),
        };
        let left = Left {
            data: square,
            row,
            column,
        };
        let extents = Extents {
            rows: sizes.t,
            terms: sizes.t,
            columns: sizes.channels(),
        };
        multiply(simd, (out, stride), left, (rows, stride), extents);
    }
}

/// One of the two arrays with an element for each pair of frames.
#[derive(Clone, Copy)]
enum Square {
    Weights,
    Slopes,
}

/// A block of places, forwards.
struct Forward<'a> {
    work: &'a mut Work,
    inputs: [&'a [f32]; 3],
    out: &'a mut [f32],
    /// Places times heads.
    units: usize,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.work.sizes.channels();
        for at in (0..self.units).map(|unit| unit * channels) {
            let [q, k, v] = self.inputs.map(|rows| &rows[at..]);
            self.work.weigh(simd, q, k);
            self.work
                .combine(simd, Square::Weights, false, v, &mut self.out[at..]);
        }
    }
}

/// A block of places, backwards.
struct Backward<'a> {
    work: &'a mut Work,
    inputs: [&'a [f32]; 4],
    gradients: [&'a mut [f32]; 3],
    units: usize,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    /// dq = dS k, dk = dSᵀ q, dv = Pᵀ do.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.work.sizes.channels();
        let [dq, dk, dv] = self.gradients;
        for at in (0..self.units).map(|unit| unit * channels) {
            let [q, k, v, dout] = self.inputs.map(|rows| &rows[at..]);
            self.work.weigh(simd, q, k);
            self.work.slope(simd, dout, v);
            self.work
                .combine(simd, Square::Slopes, false, k, &mut dq[at..]);
            self.work
                .combine(simd, Square::Slopes, true, q, &mut dk[at..]);
            self.work
                .combine(simd, Square::Weights, true, dout, &mut dv[at..]);
        }
    }
}
