//! From points to places.

use super::micro::{TILES, multiply, panel_vectors};
use super::panels::Panels;
use super::rule::{along_both, points_to_results};
use super::weight::row_to_points;
use super::{Plan, Winograd, load, odd_lines, store};
use crate::cpu::{onto::Onto, shared::Shared};
use crate::storage;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Some channels out of some groups of tiles.
pub(super) struct Pass<'a, 'b, const R: usize, const P: usize, const Q: usize> {
    pub job: &'a Winograd<'b, R, P, Q>,
    pub plan: Plan,
    /// The first group of the block, and the groups of it that are meant.
    pub first: usize,
    pub groups: Range<usize>,
    /// Which of the places are meant, where those of one result are several.
    pub phase: usize,
    pub points: &'a [f32],
    /// The weight at the points, where that was made before.
    pub panels: Option<&'a Panels>,
    /// Channels out, at most `plan.width`.
    pub channels: Range<usize>,
    pub out: &'a Shared<'a>,
}

impl<const R: usize, const P: usize, const Q: usize> WithSimd for Pass<'_, '_, R, P, Q> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if panel_vectors::<S>(self.plan.width) == 4 {
            self.run::<S, 4>(simd);
        } else {
            self.run::<S, 2>(simd);
        }
    }
}

impl<const R: usize, const P: usize, const Q: usize> Pass<'_, '_, R, P, Q> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(&self, simd: S) {
        let stride = odd_lines(self.groups.len() * TILES * self.plan.width);
        let mut sums = storage::scratch(R * P * stride);
        match self.panels {
            Some(panels) => {
                for row in 0..R {
                    let sums = &mut sums[row * P * stride..];
                    for start in (0..self.job.from).step_by(self.plan.depth) {
                        let panels = panels.at(R, self.channels.start, row, start);
                        self.multiply_row::<S, VECTORS>(simd, row, start, panels, sums, stride);
                    }
                }
            }
            None => self.sum::<S, VECTORS>(simd, &mut sums, stride),
        }
        let mut room = [[simd.splat_f32s(0.0); Q]; R];
        for k in 0..self.groups.len() {
            self.write(simd, k, (&sums, stride), &mut room);
        }
        storage::recycle(sums);
    }

    /// Sums over all channels in, their weights taken to the points on the way.
    #[inline(always)]
    fn sum<S: Simd, const VECTORS: usize>(&self, simd: S, sums: &mut [f32], stride: usize) {
        // Weights of one tap that are gathered at a time, of channels in and out: more of them and they
        // leave the second-level cache before the last row of points, fewer and the sums come by too often.
        const GATHERED: usize = 256 * 32;
        let (plan, from, width) = (self.plan, self.job.from, self.plan.width);
        let part = (GATHERED / width / plan.depth).max(1) * plan.depth;
        let mut gathered = storage::scratch(Winograd::<R, P, Q>::ALL_TAPS * part.min(from) * width);
        let mut panels = storage::scratch(P * plan.depth * width);
        if from == 0 {
            sums.fill(0.0); // Nothing will be summed.
        }
        let phase = self.job.grid.phase(self.phase);
        for start in (0..from).step_by(part) {
            let part = start..(start + part).min(from);
            let gathered = &mut gathered[..Winograd::<R, P, Q>::ALL_TAPS * part.len() * width];
            self.job
                .weight
                .gather::<S>(part.clone(), self.channels.clone(), width, gathered);
            for row in 0..R {
                let sums = &mut sums[row * P * stride..];
                for start in part.clone().step_by(plan.depth) {
                    let at = start - part.start;
                    let stretch = at..at + plan.depth_at(start);
                    let from = (&*gathered, width);
                    row_to_points::<S, VECTORS, R, P>(
                        simd,
                        from,
                        (row, phase),
                        stretch,
                        &mut panels,
                    );
                    self.multiply_row::<S, VECTORS>(simd, row, start, &panels, sums, stride);
                }
            }
        }
        for buffer in [gathered, panels] {
            storage::recycle(buffer);
        }
    }

    /// Adds the stretch of channels from `start` to the sums of one row of points, `[point][group]
    /// [tile][channel]`, points `stride` apart.
    #[inline(always)]
    fn multiply_row<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        row: usize,
        start: usize,
        panels: &[f32],
        sums: &mut [f32],
        stride: usize,
    ) {
        let (depth, width) = (self.plan.depth_at(start), VECTORS * S::F32_LANES);
        let all = self.plan.width;
        let used = self.channels.len().div_ceil(width);
        for k in 0..P {
            let panels = &panels[k * depth * all..][..depth * all];
            let sums = &mut sums[k * stride..][..stride];
            for (n, group) in self.groups.clone().enumerate() {
                let at = self.plan.at(start, row * P + k, group, 0);
                let tiles = &self.points[at..][..TILES * depth];
                let sums = &mut sums[n * TILES * all..][..TILES * all];
                for (panel, values) in panels.chunks_exact(depth * width).take(used).enumerate() {
                    let (vectors, _) = S::as_simd_f32s(values).0.as_chunks::<VECTORS>();
                    let sums = (&mut sums[panel * width..], all);
                    multiply(simd, sums, tiles, vectors, start > 0);
                }
            }
        }
    }

    /// Takes the sums of the k-th group to the places of its tiles.
    #[inline(always)]
    fn write<S: Simd>(
        &self,
        simd: S,
        k: usize,
        (sums, stride): (&[f32], usize),
        room: &mut [[S::f32s; Q]; R],
    ) {
        let (width, lanes) = (self.plan.width, S::F32_LANES);
        let first = (self.first + self.groups.start + k) * TILES;
        for t in 0..TILES.min(self.job.tiles() - first) {
            let places = self.places(self.job.corner(first + t));
            for start in (0..self.channels.len()).step_by(lanes) {
                let at = (k * TILES + t) * width + start;
                let (to, lanes) = (
                    self.channels.start + start,
                    lanes.min(self.channels.len() - start),
                );
                let bias = match self.job.bias {
                    Some(bias) => load(simd, &bias[to..to + lanes]),
                    None => simd.splat_f32s(0.0),
                };
                along_both::<_, P, Q, R>(
                    room,
                    #[inline(always)]
                    |r| {
                        let mut products = [bias; P];
                        for j in 0..P {
                            let at = (r * P + j) * stride + at;
                            products[j] = load(simd, &sums[at..at + S::F32_LANES]);
                        }
                        products
                    },
                    #[inline(always)]
                    |m| points_to_results(simd, m),
                    #[inline(always)]
                    |r, k, result| {
                        if let Some(place) = places[r][k] {
                            // SAFETY: no other task writes these channels of this place.
                            #[allow(unsafe_code)]
                            let out = unsafe { self.out.slice(place + to, lanes) };
                            let result = simd.add_f32s(result, bias);
                            store(simd, out, self.joined(simd, place + to, lanes, result));
                        }
                    },
                );
            }
        }
    }

    /// A vector of the result with what is there to join it.
    #[inline(always)]
    fn joined<S: Simd>(&self, simd: S, at: usize, lanes: usize, result: S::f32s) -> S::f32s {
        match self.job.onto {
            Some(Onto { values, share }) => {
                let values = load(simd, &values[at..at + lanes]);
                simd.mul_add_f32s(simd.splat_f32s(share), result, values)
            }
            None => result,
        }
    }

    /// Where the channels of each place of a tile begin in the result; `None` outside the grid.
    #[inline(always)]
    fn places(&self, [outer, row, column]: [usize; 3]) -> [[Option<usize>; Q]; Q] {
        let grid = &self.job.grid;
        let mut places = [[None; Q]; Q];
        for r in 0..Winograd::<R, P, Q>::ROW_RESULTS {
            for k in 0..Q {
                if let Some(at) = grid.place([row + r, column + k], self.phase) {
                    places[r][k] = Some((outer * grid.to.len() + at) * self.job.to);
                }
            }
        }
        places
    }
}
