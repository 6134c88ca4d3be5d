//! From pixels to points.

use super::micro::TILES;
use super::rule::{POINTS, along_both, pixels_to_points};
use super::{Plan, Winograd, load, store};
use crate::cpu::shared::Shared;
use pulp::{Simd, WithSimd};

/// Takes the pixels of one group of tiles to the points.
pub(super) struct ToPoints<'a, 'b, const R: usize, const RT: usize, const RR: usize> {
    pub job: &'a Winograd<'b, R, RT, RR>,
    pub plan: Plan,
    /// The first group of the block, and the group of it that is meant.
    pub first: usize,
    pub group: usize,
    /// At least `plan.len()` values.
    pub points: &'a Shared<'a>,
}

/// For each pixel a tile looks at, its channels; none outside the grid.
type Window<'a, const R: usize> = [[&'a [f32]; POINTS]; R];

impl<const R: usize, const RT: usize, const RR: usize> WithSimd for ToPoints<'_, '_, R, RT, RR> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for t in 0..TILES {
            let window = self.window((self.first + self.group) * TILES + t);
            for start in (0..self.job.from).step_by(self.plan.depth) {
                self.stretch(simd, &window, start, t);
            }
        }
    }
}

impl<const R: usize, const RT: usize, const RR: usize> ToPoints<'_, '_, R, RT, RR> {
    fn window(&self, tile: usize) -> Window<'_, R> {
        let (grid, channels) = (&self.job.grid, self.job.from);
        let mut window: Window<'_, R> = [[&[]; POINTS]; R];
        // The last group may be short of tiles; it computes with zeros and writes nothing.
        if tile >= self.job.tiles() {
            return window;
        }
        let [outer, row, column] = self.job.corner(tile);
        for r in 0..R {
            for k in 0..POINTS {
                let row = (row + r).wrapping_sub(grid.pad[0]);
                let column = (column + k).wrapping_sub(grid.pad[1]);
                if let Some(at) = grid.from.at(row, column) {
                    let pixel = outer * grid.from.len() + at;
                    window[r][k] = &self.job.pixels[pixel * channels..][..channels];
                }
            }
        }
        window
    }

    /// One stretch of channels of one tile.
    #[inline(always)]
    fn stretch<S: Simd>(&self, simd: S, window: &Window<'_, R>, start: usize, t: usize) {
        let zero = simd.splat_f32s(0.0);
        let depth = self.plan.depth_at(start);
        for done in (0..depth).step_by(S::F32_LANES) {
            let lanes = S::F32_LANES.min(depth - done);
            let mut pixels = [[zero; POINTS]; R];
            for r in 0..R {
                for k in 0..POINTS {
                    if !window[r][k].is_empty() {
                        pixels[r][k] = load(simd, &window[r][k][start + done..][..lanes]);
                    }
                }
            }
            let points: [[S::f32s; POINTS]; R] = along_both(
                pixels,
                zero,
                #[inline(always)]
                |d| pixels_to_points(simd, d),
            );
            for (point, value) in points.as_flattened().iter().enumerate() {
                let at = self.plan.at(start, point, self.group, t) + done;
                // SAFETY: no other task writes this group's part of the block.
                #[allow(unsafe_code)]
                let out = unsafe { self.points.slice(at, lanes) };
                store(simd, out, *value);
            }
        }
    }
}
