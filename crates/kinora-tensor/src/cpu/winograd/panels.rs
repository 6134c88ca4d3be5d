//! A small weight, all of it at the points.

use super::micro::panel_vectors;
use super::weight::row_to_points;
use super::{Plan, Winograd};
use crate::storage;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Of every pass and row of points, the panels as a pass multiplies them: `[pass][row][channel in][point, channel
/// out]`, where the channels of one stretch are together.
pub(super) struct Panels {
    values: Vec<f32>,
    /// Values of one channel in of one pass.
    step: usize,
    plan: Plan,
}

impl Panels {
    pub(super) fn new<const R: usize, const P: usize, const Q: usize>(
        job: &Winograd<'_, R, P, Q>,
        plan: Plan,
    ) -> Self {
        let step = P * plan.width;
        let pass = R * plan.channels * step;
        let mut values = storage::scratch(job.to.div_ceil(plan.width) * pass);
        values
            .par_chunks_mut(pass)
            .enumerate()
            .for_each(|(number, out)| {
                Arch::new().dispatch(Fill {
                    job,
                    plan,
                    first: number * plan.width,
                    out,
                });
            });
        Panels { values, step, plan }
    }

    /// The panels of one row of points, from the channels in that a stretch begins with, of the pass whose first
    /// channel out this is.
    #[inline(always)]
    pub(super) fn at(&self, rows: usize, channel_out: usize, row: usize, start: usize) -> &[f32] {
        let pass = channel_out / self.plan.width;
        let at = (pass * rows + row) * self.plan.channels + start;
        &self.values[at * self.step..][..self.plan.depth_at(start) * self.step]
    }
}

impl Drop for Panels {
    fn drop(&mut self) {
        storage::recycle(std::mem::take(&mut self.values));
    }
}

/// Fills the panels of the pass that begins with channel out `first`.
struct Fill<'a, 'b, const R: usize, const P: usize, const Q: usize> {
    job: &'a Winograd<'b, R, P, Q>,
    plan: Plan,
    first: usize,
    out: &'a mut [f32],
}

impl<const R: usize, const P: usize, const Q: usize> WithSimd for Fill<'_, '_, R, P, Q> {
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

impl<const R: usize, const P: usize, const Q: usize> Fill<'_, '_, R, P, Q> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(self, simd: S) {
        let Plan {
            channels, width, ..
        } = self.plan;
        let to = self.first..(self.first + width).min(self.job.to);
        let mut gathered = storage::scratch(Winograd::<R, P, Q>::ALL_TAPS * channels * width);
        let weight = &self.job.weight;
        weight.gather::<S>(0..channels, to, width, &mut gathered);
        let mut out = self.out;
        for row in 0..R {
            for start in (0..channels).step_by(self.plan.depth) {
                let depth = self.plan.depth_at(start);
                let (panels, rest) = out.split_at_mut(depth * P * width);
                let stretch = start..start + depth;
                row_to_points::<S, VECTORS, R, P>(
                    simd,
                    (&gathered, width),
                    (row, None),
                    stretch,
                    panels,
                );
                out = rest;
            }
        }
        storage::recycle(gathered);
    }
}
