//! The product of a gated layer: a tile of values and the tile of their gates are summed one after the
//! other and leave as one, so that neither is ever written.

use super::pack::{Ahead, Strip};
use super::tile::{self, MOST_WIDTH, Sums};
use super::{ALIGNMENT, Division, PackPanel, TERMS, Widen, aligned};
use crate::cpu::exp;
use crate::cpu::matmul::MatRef;
use crate::cpu::shared::Shared;
use crate::storage;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Whether a gated layer `[rows, terms]` → d is worked off here: weights fill the vectors, which packs
/// them all, and sums are never put off to another stretch of the inner extent.
pub(crate) fn takes(rows: usize, terms: usize, d: usize) -> bool {
    (1..=TERMS).contains(&terms) && rows >= d
}

/// `out = values · GELU(gates)`, where each row of `x · wᵀ + bias` is d values and then d gates. `x` and `w`
/// have rows of neighbours, and `out` rows of d.
///
/// # Panics
/// When the extents do not agree, or [`takes`] refuses them.
pub(crate) fn gated<T: Widen>(out: &mut [f32], x: MatRef<'_>, w: MatRef<'_, T>, bias: &[f32]) {
    let d = w.rows / 2;
    assert!(takes(x.rows, x.cols, d) && w.cols == x.cols && w.rows == 2 * d);
    assert!(x.data.len() >= x.rows * x.cols && w.data.len() >= w.rows * w.cols);
    assert!(out.len() == x.rows * d && (bias.is_empty() || bias.len() == 2 * d));
    let out = &Shared::new(out);
    Arch::new().dispatch(Gated { out, x, w, bias, d });
}

struct Gated<'a, T> {
    out: &'a Shared<'a>,
    x: MatRef<'a>,
    w: MatRef<'a, T>,
    /// For values and gates, or none.
    bias: &'a [f32],
    d: usize,
}

impl<T: Widen> WithSimd for Gated<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = tile::most_vectors::<S>() * S::F32_LANES;
        let (strip_lines, pairs) = (tile::strip_lines::<S>(), self.d.div_ceil(width));
        let panels = self.packed(simd, width);
        let strips = self.x.rows.div_ceil(strip_lines);
        let pair = (2 * width, self.x.cols, self.x.cols);
        let division = Division::of(pairs, pair, (strips, strip_lines));
        let tasks = (0..division.tasks()).into_par_iter().with_max_len(1);
        tasks.for_each(|task| {
            let (pairs, strips) = division.task(task);
            let panels = &panels[aligned(&panels)..];
            simd.vectorize(Task {
                job: &self,
                panels,
                pairs,
                strips,
                width,
            });
        });
        storage::recycle(panels);
    }
}

impl<T: Widen> Gated<'_, T> {
    /// Panel after panel of weights, each of values before that of their gates.
    #[inline(always)]
    fn packed<S: Simd>(&self, simd: S, width: usize) -> Vec<f32> {
        let (terms, d) = (self.x.cols, self.d);
        let len = 2 * d.next_multiple_of(S::F32_LANES) * terms;
        let mut panels = storage::scratch(len + ALIGNMENT);
        let from = aligned(&panels);
        panels[from..][..len]
            .par_chunks_mut(2 * width * terms)
            .enumerate()
            .for_each(|(pair, packed)| {
                let half = packed.len() / 2;
                let (values, gates) = packed.split_at_mut(half);
                let lines = pair * width..((pair + 1) * width).min(d);
                let of_gates = d + lines.start..d + lines.end;
                simd.vectorize(PackPanel(values, self.w, lines, half / terms));
                simd.vectorize(PackPanel(gates, self.w, of_gates, half / terms));
            });
        panels
    }
}

/// Some pairs of panels against some strips of rows.
struct Task<'j, 'a, T> {
    job: &'j Gated<'a, T>,
    panels: &'j [f32],
    pairs: Range<usize>,
    strips: Range<usize>,
    /// Columns of a panel; the last may have fewer.
    width: usize,
}

impl<T: Widen> WithSimd for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if tile::strip_lines::<S>() == 8 {
            self.run::<S, 8>(simd);
        } else {
            self.run::<S, 6>(simd);
        }
    }
}

impl<T: Widen> Task<'_, '_, T> {
    #[inline(always)]
    fn run<S: Simd, const J: usize>(&self, simd: S) {
        let (x, d) = (self.job.x, self.job.d);
        let rows_of = |strip: usize| strip * J..(strip * J + J).min(x.rows);
        let mut strip = Strip::<J>::new();
        let mut sums = [Sums::<J>::new(), Sums::<J>::new()];
        for number in self.strips.clone() {
            let next = rows_of((number + 1).min(self.strips.end - 1));
            let mut ahead = Ahead::new(x, next, 0..x.cols);
            let strip = strip.take(x, rows_of(number), 0..x.cols);
            for pair in self.pairs.clone() {
                ahead.fetch_share(self.pairs.len(), J);
                let columns = pair * self.width..((pair + 1) * self.width).min(d);
                match columns.len().div_ceil(S::F32_LANES) {
                    1 => self.tile::<S, 1, J>(simd, &strip, &columns, &mut sums),
                    2 => self.tile::<S, 2, J>(simd, &strip, &columns, &mut sums),
                    _ => self.tile::<S, 3, J>(simd, &strip, &columns, &mut sums),
                }
                self.write(rows_of(number), columns, &mut sums);
            }
        }
    }

    /// The sums of the values and those of the gates.
    #[inline(always)]
    fn tile<S: Simd, const N: usize, const J: usize>(
        &self,
        simd: S,
        strip: &[&[f32]; J],
        columns: &Range<usize>,
        sums: &mut [Sums<J>; 2],
    ) {
        let terms = self.job.x.cols;
        let half = N * S::F32_LANES * terms;
        let panels = &self.panels[2 * columns.start * terms..][..2 * half];
        for (panel, sums) in panels.chunks_exact(half).zip(sums) {
            tile::multiply::<S, N, J>(simd, panel, strip, sums);
        }
    }

    /// Gates the values and takes them to the result.
    #[inline(always)]
    fn write<const J: usize>(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        [values, gates]: &mut [Sums<J>; 2],
    ) {
        let (d, len) = (self.job.d, columns.len());
        let (mut of_values, mut of_gates) = ([0.0; MOST_WIDTH], [0.0; MOST_WIDTH]);
        if !self.job.bias.is_empty() {
            of_values[..len].copy_from_slice(&self.job.bias[columns.clone()]);
            of_gates[..len].copy_from_slice(&self.job.bias[d..][columns.clone()]);
        }
        for (row, (values, gates)) in rows.zip(values.0.iter_mut().zip(&gates.0)) {
            for n in 0..MOST_WIDTH {
                let gate = gates[n] + of_gates[n];
                values[n] = (values[n] + of_values[n]) * exp::gelu(gate);
            }
            // SAFETY: no other task has these rows of these columns, and this one holds one row at a time.
            #[allow(unsafe_code)]
            let out = unsafe { self.job.out.slice(row * d + columns.start, len) };
            out.copy_from_slice(&values[..len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};
    use half::{bf16, f16};

    /// Fewer columns than a vector, panels short of one and past one; strips short of lines; several blocks.
    const CASES: [[usize; 3]; 6] = [
        [1, 1, 1],
        [9, 3, 7],
        [50, 65, 50],
        [131, 40, 97],
        [100, 1280, 48],
        [900, 320, 850],
    ];

    fn slow([rows, terms, d]: [usize; 3], x: &[f32], w: &[f32], bias: &[f32]) -> Vec<f32> {
        let sum = |row: usize, column: usize| -> f64 {
            let products = (0..terms)
                .map(|k| f64::from(x[row * terms + k]) * f64::from(w[column * terms + k]));
            products.sum::<f64>() + bias.get(column).map_or(0.0, |b| f64::from(*b))
        };
        (0..rows * d)
            .map(|at| {
                let (row, column) = (at / d, at % d);
                sum(row, column) as f32 * exp::gelu(sum(row, d + column) as f32)
            })
            .collect()
    }

    #[test]
    fn agrees_with_sums_that_are_gated_one_by_one() {
        for [rows, terms, d] in CASES {
            let x = numbers([rows, terms], 1).to_vec();
            let w = numbers([2 * d, terms], 2).to_vec();
            let with_bias = numbers([2 * d], 3).to_vec();
            for bias in [&with_bias[..], &[]] {
                let mut out = vec![f32::NAN; rows * d];
                let (x_rows, w_rows) =
                    (MatRef::new(&x, rows, terms), MatRef::new(&w, 2 * d, terms));
                gated(&mut out, x_rows, w_rows, bias);
                assert_close(&out, &slow([rows, terms, d], &x, &w, bias), 1e-6);
            }
        }
    }

    #[test]
    fn weights_of_sixteen_bits_are_widened_exactly() {
        fn of<T: Widen>(w: &[T], x: &[f32]) -> Vec<f32> {
            let mut out = vec![0.0; 70 * 50];
            gated(
                &mut out,
                MatRef::new(x, 70, 33),
                MatRef::new(w, 100, 33),
                &[],
            );
            out
        }
        let x = numbers([70, 33], 1).to_vec();
        let w = numbers([100, 33], 2).to_vec();
        let halves: Vec<f16> = w.iter().map(|w| f16::from_f32(*w)).collect();
        let wide: Vec<f32> = halves.iter().map(|w| w.to_f32()).collect();
        assert_eq!(of(&halves, &x), of(&wide, &x));
        let brains: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
        let wide: Vec<f32> = brains.iter().map(|w| w.to_f32()).collect();
        assert_eq!(of(&brains, &x), of(&wide, &x));
    }
}
