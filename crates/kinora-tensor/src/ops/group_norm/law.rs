//! What happens to a few channels of a few rows at a time. Channels are counted in vectors; a row's last ones may
//! fill only part of one.

use super::curve::Curve;
use crate::cpu::norm::ROWS;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// z = x · scale + shift for the channels of one picture.
#[derive(Clone, Copy)]
pub(super) struct Law<'a> {
    pub mean: &'a [f32],
    pub scale: &'a [f32],
    pub shift: &'a [f32],
}

/// Work on the vector of channels that begins with channel `k`, in some rows; `WHOLE` where it is full.
pub(super) trait Columns {
    fn columns<S: Simd, const WHOLE: bool>(&mut self, simd: S, rows: Range<usize>, k: usize);
}

/// Runs a kernel over rows, `ROWS` at a time: what belongs to the channels stays in registers meanwhile.
pub(super) struct ByColumns<K> {
    pub rows: usize,
    pub channels: usize,
    pub kernel: K,
}

impl<K: Columns> WithSimd for ByColumns<K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let whole = self.channels / S::F32_LANES * S::F32_LANES;
        for first in (0..self.rows).step_by(ROWS) {
            let rows = first..(first + ROWS).min(self.rows);
            for k in (0..whole).step_by(S::F32_LANES) {
                self.kernel.columns::<S, true>(simd, rows.clone(), k);
            }
            if whole < self.channels {
                self.kernel.columns::<S, false>(simd, rows, whole);
            }
        }
    }
}

/// out = f(z).
pub(super) struct Forward<'a, F> {
    pub law: Law<'a>,
    pub curve: F,
    pub x: &'a [f32],
    pub out: &'a mut [f32],
}

impl<F: Curve> Columns for Forward<'_, F> {
    #[inline(always)]
    fn columns<S: Simd, const WHOLE: bool>(&mut self, simd: S, rows: Range<usize>, k: usize) {
        let c = self.law.scale.len();
        let scale = load::<S, WHOLE>(simd, &self.law.scale[k..]);
        let shift = load::<S, WHOLE>(simd, &self.law.shift[k..]);
        for row in rows {
            let x = load::<S, WHOLE>(simd, &self.x[row * c + k..(row + 1) * c]);
            let z = simd.mul_add_f32s(x, scale, shift);
            let out = &mut self.out[row * c + k..(row + 1) * c];
            store::<S, WHOLE>(simd, out, self.curve.value(simd, z));
        }
    }
}

/// Adds to `totals` of each channel Σ dz, and behind those of all channels Σ dz · (x − mean).
pub(super) struct GradientTotals<'a, F> {
    pub law: Law<'a>,
    pub curve: F,
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub totals: &'a mut [f64],
}

impl<F: Curve> Columns for GradientTotals<'_, F> {
    #[inline(always)]
    fn columns<S: Simd, const WHOLE: bool>(&mut self, simd: S, rows: Range<usize>, k: usize) {
        let c = self.law.scale.len();
        let mean = load::<S, WHOLE>(simd, &self.law.mean[k..]);
        let scale = load::<S, WHOLE>(simd, &self.law.scale[k..]);
        let shift = load::<S, WHOLE>(simd, &self.law.shift[k..]);
        let (mut sum, mut product) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
        for row in rows {
            let x = load::<S, WHOLE>(simd, &self.x[row * c + k..(row + 1) * c]);
            let dy = load::<S, WHOLE>(simd, &self.dy[row * c + k..(row + 1) * c]);
            let z = simd.mul_add_f32s(x, scale, shift);
            let dz = self.curve.back(simd, dy, z);
            sum = simd.add_f32s(sum, dz);
            product = simd.mul_add_f32s(dz, simd.sub_f32s(x, mean), product);
        }
        let (sums, products) = self.totals.split_at_mut(c);
        for (totals, found) in [(sums, sum), (products, product)] {
            let mut lanes = [0.0; 16];
            S::as_mut_simd_f32s(&mut lanes).0[0] = found;
            let width = S::F32_LANES.min(c - k);
            for (total, lane) in totals[k..][..width].iter_mut().zip(lanes) {
                *total += f64::from(lane);
            }
        }
    }
}

/// out = dz · scale + x · slope + constant, where `slope` and `constant` are the picture's.
pub(super) struct InputGradient<'a, F> {
    pub law: Law<'a>,
    pub curve: F,
    pub slope: &'a [f32],
    pub constant: &'a [f32],
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub out: &'a mut [f32],
}

impl<F: Curve> Columns for InputGradient<'_, F> {
    #[inline(always)]
    fn columns<S: Simd, const WHOLE: bool>(&mut self, simd: S, rows: Range<usize>, k: usize) {
        let c = self.law.scale.len();
        let scale = load::<S, WHOLE>(simd, &self.law.scale[k..]);
        let shift = load::<S, WHOLE>(simd, &self.law.shift[k..]);
        let slope = load::<S, WHOLE>(simd, &self.slope[k..]);
        let constant = load::<S, WHOLE>(simd, &self.constant[k..]);
        for row in rows {
            let x = load::<S, WHOLE>(simd, &self.x[row * c + k..(row + 1) * c]);
            let dy = load::<S, WHOLE>(simd, &self.dy[row * c + k..(row + 1) * c]);
            let dz = self
                .curve
                .back(simd, dy, simd.mul_add_f32s(x, scale, shift));
            let rest = simd.mul_add_f32s(x, slope, constant);
            let out = &mut self.out[row * c + k..(row + 1) * c];
            store::<S, WHOLE>(simd, out, simd.mul_add_f32s(dz, scale, rest));
        }
    }
}

/// The first vector of `values`, zero beyond their end.
#[inline(always)]
fn load<S: Simd, const WHOLE: bool>(simd: S, values: &[f32]) -> S::f32s {
    if WHOLE {
        S::as_simd_f32s(values).0[0]
    } else {
        simd.partial_load_f32s(values)
    }
}

/// Writes a vector to the beginning of `out`, as far as it goes.
#[inline(always)]
fn store<S: Simd, const WHOLE: bool>(simd: S, out: &mut [f32], value: S::f32s) {
    if WHOLE {
        S::as_mut_simd_f32s(out).0[0] = value;
    } else {
        simd.partial_store_f32s(out, value);
    }
}
