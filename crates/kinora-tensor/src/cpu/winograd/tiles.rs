//! From pixels to points.

use super::micro::TILES;
use super::rule::{along_both, pixels_to_points};
use super::{Plan, Winograd, load, store};
use crate::cpu::shared::Shared;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Takes the pixels of one group of tiles to the points.
pub(super) struct ToPoints<'a, 'b, const R: usize, const P: usize, const Q: usize> {
    pub job: &'a Winograd<'b, R, P, Q>,
    pub plan: Plan,
    /// The first group of the block, and the group of it that is meant.
    pub first: usize,
    pub group: usize,
    /// At least `plan.len()` values.
    pub points: &'a Shared<'a>,
}

/// For each pixel a tile looks at, its channels; none outside the grid.
type Window<'a, const R: usize, const P: usize> = [[&'a [f32]; P]; R];

impl<const R: usize, const P: usize, const Q: usize> WithSimd for ToPoints<'_, '_, R, P, Q> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut room = [[simd.splat_f32s(0.0); P]; R];
        for t in 0..TILES {
            let window = self.window((self.first + self.group) * TILES + t);
            for start in (0..self.job.from).step_by(self.plan.depth) {
                let depth = self.plan.depth_at(start);
                let to = self.plan.at(start, 0, self.group, t);
                let whole = depth / S::F32_LANES * S::F32_LANES;
                for done in (0..whole).step_by(S::F32_LANES) {
                    let from = start + done..start + done + S::F32_LANES;
                    self.vector(simd, &window, from, to + done, &mut room);
                }
                if whole < depth {
                    let from = start + whole..start + depth;
                    self.vector(simd, &window, from, to + whole, &mut room);
                }
            }
        }
    }
}

impl<const R: usize, const P: usize, const Q: usize> ToPoints<'_, '_, R, P, Q> {
    fn window(&self, tile: usize) -> Window<'_, R, P> {
        // The last group may be short of tiles; it computes with zeros and writes nothing.
        if tile >= self.job.tiles() {
            return [[&[]; P]; R];
        }
        let (grid, pixels) = (&self.job.grid, (self.job.pixels, self.job.from));
        grid.from.window(pixels, grid.reads(self.job.corner(tile)))
    }

    /// The channels `from`, at most a vector, of one tile; at point 0 they lie from `to` on.
    #[inline(always)]
    fn vector<S: Simd>(
        &self,
        simd: S,
        window: &Window<'_, R, P>,
        from: Range<usize>,
        to: usize,
        room: &mut [[S::f32s; P]; R],
    ) {
        let zero = simd.splat_f32s(0.0);
        let (lanes, stride) = (from.len(), self.plan.point_stride());
        along_both::<_, P, P, R>(
            room,
            #[inline(always)]
            |r| {
                let mut pixels = [zero; P];
                for k in 0..P {
                    if !window[r][k].is_empty() {
                        pixels[k] = load(simd, &window[r][k][from.clone()]);
                    }
                }
                pixels
            },
            #[inline(always)]
            |d| pixels_to_points(simd, d),
            #[inline(always)]
            |r, k, value| {
                let at = to + (r * P + k) * stride;
                // SAFETY: no other task writes this group's part of the block.
                #[allow(unsafe_code)]
                let out = unsafe { self.points.slice(at, lanes) };
                store(simd, out, value);
            },
        );
    }
}
