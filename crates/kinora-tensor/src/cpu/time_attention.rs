//! Attention over the frames of each place: thousands of tiny problems, too small for the matrix
//! kernels. Frames are read in place; one place and head at a time is brought together in a buffer
//! that stays in the first-level cache.

use super::exp::exp;
use super::vectorised;
use crate::storage;
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

/// Neighbouring places a task works on, so that a row of memory is used whole.
const PLACES: usize = 16;

impl Sizes {
    fn width(&self) -> usize {
        self.heads * self.d
    }

    fn elements(&self) -> usize {
        self.batch * self.t * self.s * self.width()
    }

    fn scale(&self) -> f32 {
        1.0 / (self.d as f32).sqrt()
    }

    /// `out` cut into tasks: for a clip and a block of places, that block in each frame.
    fn tasks<'a>(&self, out: &'a mut [f32]) -> Vec<Vec<&'a mut [f32]>> {
        let blocks = self.s.div_ceil(PLACES);
        let mut tasks = Vec::with_capacity(self.batch * blocks);
        for clip in out.chunks_exact_mut(self.t * self.s * self.width()) {
            let first = tasks.len();
            tasks.resize_with(first + blocks, || Vec::with_capacity(self.t));
            for frame in clip.chunks_exact_mut(self.s * self.width()) {
                for (task, rows) in tasks[first..]
                    .iter_mut()
                    .zip(frame.chunks_mut(PLACES * self.width()))
                {
                    task.push(rows);
                }
            }
        }
        tasks
    }

    /// Where the block of task number `task` begins in frame 0.
    fn start(&self, task: usize) -> usize {
        let blocks = self.s.div_ceil(PLACES);
        let (clip, block) = (task / blocks, task % blocks);
        (clip * self.t * self.s + block * PLACES) * self.width()
    }

    /// Brings the `t` rows of `d` channels that begin at `start`, a frame apart, together.
    #[inline(always)]
    fn gather(&self, x: &[f32], start: usize, out: &mut [f32]) {
        for (frame, out) in out.chunks_exact_mut(self.d).enumerate() {
            out.copy_from_slice(&x[start + frame * self.s * self.width()..][..self.d]);
        }
    }
}

/// The attended values, like `q`.
pub(crate) fn forward(q: &[f32], k: &[f32], v: &[f32], sizes: Sizes) -> Vec<f32> {
    let mut out = storage::scratch(sizes.elements());
    if out.is_empty() {
        return out;
    }
    sizes
        .tasks(&mut out)
        .into_par_iter()
        .enumerate()
        .for_each_init(
            || Work::new(sizes),
            |work, (task, mut out)| {
                let start = sizes.start(task);
                vectorised(
                    #[inline(always)]
                    || {
                        for at in (0..out[0].len()).step_by(sizes.d) {
                            work.load([q, k, v], start + at);
                            work.weigh();
                            work.attend(&mut out, at);
                        }
                    },
                );
            },
        );
    out
}

/// Gradients with respect to q, k and v of `dout`.
pub(crate) fn backward([q, k, v, dout]: [&[f32]; 4], sizes: Sizes) -> [Vec<f32>; 3] {
    let mut gradients = [(); 3].map(|()| storage::scratch(sizes.elements()));
    let [dq, dk, dv] = &mut gradients;
    if dq.is_empty() {
        return gradients;
    }
    let tasks: Vec<_> = sizes
        .tasks(dq)
        .into_iter()
        .zip(sizes.tasks(dk).into_iter().zip(sizes.tasks(dv)))
        .collect();
    tasks.into_par_iter().enumerate().for_each_init(
        || Work::new(sizes),
        |work, (task, (mut dq, (mut dk, mut dv)))| {
            let start = sizes.start(task);
            vectorised(
                #[inline(always)]
                || {
                    for at in (0..dq[0].len()).step_by(sizes.d) {
                        work.load([q, k, v], start + at);
                        work.weigh();
                        sizes.gather(dout, start + at, &mut work.dout);
                        work.back([&mut dq, &mut dk, &mut dv], at);
                    }
                },
            );
        },
    );
    gradients
}

/// One place and head.
struct Work {
    sizes: Sizes,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
    /// Weights of every frame (column) in every frame (row).
    p: Vec<f32>,
    ds: Vec<f32>,
}

impl Work {
    fn new(sizes: Sizes) -> Self {
        let rows = || vec![0.0; sizes.t * sizes.d];
        let square = || vec![0.0; sizes.t * sizes.t];
        Work {
            sizes,
            q: rows(),
            k: rows(),
            v: rows(),
            dout: rows(),
            p: square(),
            ds: square(),
        }
    }

    #[inline(always)]
    fn load(&mut self, [q, k, v]: [&[f32]; 3], start: usize) {
        self.sizes.gather(q, start, &mut self.q);
        self.sizes.gather(k, start, &mut self.k);
        self.sizes.gather(v, start, &mut self.v);
    }

    /// p = softmax(q kᵀ / √d).
    #[inline(always)]
    fn weigh(&mut self) {
        let Sizes { t, d, .. } = self.sizes;
        let scale = self.sizes.scale();
        for i in 0..t {
            let q = &self.q[i * d..][..d];
            let p = &mut self.p[i * t..][..t];
            let mut largest = f32::NEG_INFINITY;
            for j in 0..t {
                p[j] = dot(q, &self.k[j * d..][..d]) * scale;
                largest = if p[j] > largest { p[j] } else { largest };
            }
            let mut sum = 0.0;
            for p in p.iter_mut() {
                *p = exp(*p - largest);
                sum += *p;
            }
            p.iter_mut().for_each(|p| *p *= 1.0 / sum);
        }
    }

    /// Writes p v into the columns of `out` from `at` on.
    #[inline(always)]
    fn attend(&self, out: &mut [&mut [f32]], at: usize) {
        let Sizes { t, d, .. } = self.sizes;
        for i in 0..t {
            let out = &mut out[i][at..][..d];
            combine(out, &self.p[i * t..][..t], 1, &self.v, d);
        }
    }

    /// dv = pᵀ do, dp = do vᵀ, ds = p ∘ (dp − rowsum(p ∘ dp)) / √d, dq = ds k, dk = dsᵀ q.
    #[inline(always)]
    fn back(&mut self, [dq, dk, dv]: [&mut Vec<&mut [f32]>; 3], at: usize) {
        let Sizes { t, d, .. } = self.sizes;
        let scale = self.sizes.scale();
        for i in 0..t {
            let dout = &self.dout[i * d..][..d];
            let (p, ds) = (&self.p[i * t..][..t], &mut self.ds[i * t..][..t]);
            let mut mean = 0.0;
            for j in 0..t {
                ds[j] = dot(dout, &self.v[j * d..][..d]);
                mean += p[j] * ds[j];
            }
            for j in 0..t {
                ds[j] = p[j] * (ds[j] - mean) * scale;
            }
        }
        for i in 0..t {
            combine(&mut dq[i][at..][..d], &self.ds[i * t..][..t], 1, &self.k, d);
            combine(&mut dk[i][at..][..d], &self.ds[i..], t, &self.q, d);
            combine(&mut dv[i][at..][..d], &self.p[i..], t, &self.dout, d);
        }
    }
}

/// Lanes of a running sum: two vectors of eight.
const LANES: usize = 16;

#[inline(always)]
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (x, y) in x.iter().zip(y) {
        for k in 0..LANES {
            sums[k] += x[k] * y[k];
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// `out` = Σⱼ weights[j · stride] · row j of `rows`.
#[inline(always)]
fn combine(out: &mut [f32], weights: &[f32], stride: usize, rows: &[f32], d: usize) {
    out.fill(0.0);
    for (weight, row) in weights.iter().step_by(stride).zip(rows.chunks_exact(d)) {
        for (out, x) in out.iter_mut().zip(row) {
            *out += weight * x;
        }
    }
}
