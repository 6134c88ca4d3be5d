//! From weights to points.

use super::rule::{TAPS, Taps, row_taps, taps_to_point, taps_to_points};
use super::{load, store};
use crate::cpu::transpose::{SIDE, transpose};
use crate::{Tensor, storage};
use pulp::Simd;
use std::ops::Range;

/// Which way weights are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the channels in to the channels out.
    Forward,
    /// From a gradient of the channels out to one of the channels in: taps in reverse.
    Backward,
}

/// The weight `[o, taps.., i]` of a convolution, in any element type.
#[derive(Clone, Copy)]
pub(crate) struct Weight<'a> {
    values: &'a Tensor,
    direction: Direction,
    taps: usize,
    /// Channels in.
    inner: usize,
}

impl<'a> Weight<'a> {
    pub(crate) fn new(values: &'a Tensor, direction: Direction) -> Self {
        let dims = values.dims();
        Weight {
            values,
            direction,
            taps: dims[1..dims.len() - 1].iter().product(),
            inner: values.shape().last(),
        }
    }

    /// What leads from the channels `from` to the channels `to`, as `[taps][from][width]`, zero
    /// beyond a short `to`.
    #[inline(always)]
    pub(super) fn gather<S: Simd>(
        &self,
        from: Range<usize>,
        to: Range<usize>,
        width: usize,
        out: &mut [f32],
    ) {
        if to.len() < width {
            out.fill(0.0);
        }
        let mut wide = storage::scratch(SIDE * from.len());
        for (tap, out) in out.chunks_exact_mut(from.len() * width).enumerate() {
            match self.direction {
                Direction::Forward => {
                    self.gather_forward::<S>(tap, (&from, &to), &mut wide, (out, width))
                }
                Direction::Backward => {
                    for (o, out) in from.clone().zip(out.chunks_exact_mut(width)) {
                        let start = (o * self.taps + self.taps - 1 - tap) * self.inner + to.start;
                        self.values.widen_into(start, &mut out[..to.len()]);
                    }
                }
            }
        }
        storage::recycle(wide);
    }

    /// One tap, turned so that the channels out are neighbours. `wide` is room for the weights of a
    /// few channels out.
    #[inline(always)]
    fn gather_forward<S: Simd>(
        &self,
        tap: usize,
        (from, to): (&Range<usize>, &Range<usize>),
        wide: &mut [f32],
        (out, width): (&mut [f32], usize),
    ) {
        let depth = from.len();
        for first in to.clone().step_by(SIDE) {
            let count = SIDE.min(to.end - first);
            let start = |o: usize| (o * self.taps + tap) * self.inner + from.start;
            let f32_values = self.values.as_f32().ok();
            if f32_values.is_none() {
                for (o, run) in (first..first + count).zip(wide.chunks_exact_mut(depth)) {
                    self.values.widen_into(start(o), run);
                }
            }
            let mut rows: [&[f32]; SIDE] = [&[]; SIDE];
            for n in 0..SIDE {
                // Beyond a short `to` the last row is repeated; nobody reads what becomes of it.
                let n_known = n.min(count - 1);
                rows[n] = match f32_values {
                    Some(values) => &values[start(first + n_known)..][..depth],
                    None => &wide[n_known * depth..][..depth],
                };
            }
            transpose::<S>(&rows, &mut out[first - to.start..], width);
        }
    }
}

/// Takes the channels `stretch` of gathered weights `[taps][from][width]` to one row of points, as
/// `[point][panel][channel][lane]`; in one phase, where pictures are doubled.
#[inline(always)]
pub(super) fn row_to_points<S: Simd, const VECTORS: usize, const R: usize, const P: usize>(
    simd: S,
    (gathered, all): (&[f32], usize),
    (row, phase): (usize, Option<[usize; 2]>),
    stretch: Range<usize>,
    panels: &mut [f32],
) {
    let zero = simd.splat_f32s(0.0);
    let row_taps = row_taps(R);
    let tap_stride = gathered.len() / (row_taps * TAPS);
    let (depth, width) = (stretch.len(), VECTORS * S::F32_LANES);
    for (c, channel) in stretch.enumerate() {
        for (v, start) in (0..all).step_by(S::F32_LANES).enumerate() {
            let mut line = [zero; TAPS];
            for k in 0..TAPS {
                let mut column = [zero; TAPS];
                for r in 0..row_taps {
                    let at = (r * TAPS + k) * tap_stride + channel * all + start;
                    column[r] = load(simd, &gathered[at..at + S::F32_LANES]);
                }
                // A single row of taps is at its point already.
                line[k] = if R == 1 {
                    column[0]
                } else {
                    let taps = Taps::new(simd, column, phase.map(|[phase, _]| phase));
                    taps_to_point(simd, taps, row)
                };
            }
            let taps = Taps::new(simd, line, phase.map(|[_, phase]| phase));
            let points: [_; P] = taps_to_points(simd, taps);
            let at = (v / VECTORS * depth + c) * width + v % VECTORS * S::F32_LANES;
            for k in 0..P {
                let panel = &mut panels[k * depth * all + at..][..S::F32_LANES];
                store(simd, panel, points[k]);
            }
        }
    }
}
