//! Sums over rows and rows over sums: what the norms are made of.

use super::vectorised;
use pulp::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// Rows handled together: their values are added in f32 before they meet the f64 totals.
pub(crate) const ROWS: usize = 8;

/// `pictures` stacks of `rows` rows of `channels` neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stack {
    pub pictures: usize,
    pub rows: usize,
    pub channels: usize,
}

impl Stack {
    pub(crate) fn elements(&self) -> usize {
        self.pictures * self.rows * self.channels
    }

    /// Rows one task works on: a second-level cache's worth, yet few enough tasks that their
    /// separate totals stay small. A multiple of `ROWS`.
    fn rows_per_task(&self) -> usize {
        const TASK_VALUES: usize = 16 << 10;
        const MAX_TASKS: usize = 128;
        (TASK_VALUES / self.channels.max(1))
            .max(self.rows.div_ceil(MAX_TASKS))
            .max(1)
            .next_multiple_of(ROWS)
    }

    /// K totals per channel and picture, as `[picture][k][channel]`: `add` adds the rows of a range
    /// (counted through all pictures) to the K · channels totals it is given. Tasks are added in
    /// order.
    pub(crate) fn totals<const K: usize>(
        &self,
        add: impl Fn(usize, Range<usize>, &mut [f64]) + Sync,
    ) -> Vec<f64> {
        let (per_task, width) = (self.rows_per_task(), K * self.channels);
        let tasks = self.rows.div_ceil(per_task);
        let partial: Vec<Vec<f64>> = (0..self.pictures * tasks)
            .into_par_iter()
            .map(|task| {
                let (picture, task) = (task / tasks, task % tasks);
                let start = task * per_task;
                let end = (start + per_task).min(self.rows);
                let first = picture * self.rows;
                let mut totals = vec![0.0; width];
                add(picture, first + start..first + end, &mut totals);
                totals
            })
            .collect();
        let mut totals = vec![0.0; self.pictures * width];
        for (task, partial) in partial.iter().enumerate() {
            let picture = &mut totals[task / tasks * width..][..width];
            picture.iter_mut().zip(partial).for_each(|(t, p)| *t += p);
        }
        totals
    }

    /// Runs `work(picture, rows, out)` over all rows, where `out` holds those rows of the result.
    pub(crate) fn for_rows(
        &self,
        out: &mut [f32],
        work: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
    ) {
        let (per_task, channels) = (self.rows_per_task(), self.channels);
        if self.elements() == 0 {
            return;
        }
        out.par_chunks_mut(self.rows * channels)
            .enumerate()
            .for_each(|(picture, out)| {
                out.par_chunks_mut(per_task * channels)
                    .enumerate()
                    .for_each(|(task, out)| {
                        let start = picture * self.rows + task * per_task;
                        work(picture, start..start + out.len() / channels, out);
                    });
            });
    }
}

/// Adds every row to the sums and its squares to the squares; `totals` holds both, one after the
/// other. All in f64: no cancellation is left when the mean is taken from the mean square.
pub(crate) fn add_moments(rows: &[f32], channels: usize, totals: &mut [f64]) {
    let (sums, squares) = totals.split_at_mut(channels);
    vectorised(
        #[inline(always)]
        || {
            let blocks = rows.chunks_exact(ROWS * channels);
            let rest = blocks.remainder();
            for block in blocks {
                let row: [&[f32]; ROWS] =
                    std::array::from_fn(|r| &block[r * channels..][..channels]);
                let (sums, squares) = (&mut sums[..channels], &mut squares[..channels]);
                for c in 0..channels {
                    let (mut sum, mut square) = (0.0, 0.0);
                    for r in 0..ROWS {
                        let value = f64::from(row[r][c]);
                        sum += value;
                        square += value * value;
                    }
                    sums[c] += sum;
                    squares[c] += square;
                }
            }
            for row in rest.chunks_exact(channels) {
                for c in 0..channels {
                    let value = f64::from(row[c]);
                    sums[c] += value;
                    squares[c] += value * value;
                }
            }
        },
    );
}

/// Σ f(a\[k\], b\[k\], c\[k\]) over the length of `a`, in four interleaved vectors of sums: short chains round
/// little. Where rows end within a vector, it is filled up with `fill`, of which `f` makes zero.
///
/// # Panics
/// When a row is shorter than the first.
#[inline(always)]
pub(crate) fn sum_row<S: Simd>(
    simd: S,
    [a, b, c]: [&[f32]; 3],
    fill: f32,
    f: impl Fn(S::f32s, S::f32s, S::f32s) -> S::f32s,
) -> f32 {
    let n = a.len();
    let ((a, a_tail), (b, b_tail)) = (S::as_simd_f32s(a), S::as_simd_f32s(&b[..n]));
    let (c, c_tail) = S::as_simd_f32s(&c[..n]);
    let ((a4, a1), (b4, b1)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let (c4, c1) = c.as_chunks::<4>();
    let mut sums = [simd.splat_f32s(0.0); 4];
    for ((a, b), c) in a4.iter().zip(b4).zip(c4) {
        for n in 0..4 {
            sums[n] = simd.add_f32s(sums[n], f(a[n], b[n], c[n]));
        }
    }
    for ((a, b), c) in a1.iter().zip(b1).zip(c1) {
        sums[0] = simd.add_f32s(sums[0], f(*a, *b, *c));
    }
    if !a_tail.is_empty() {
        let last = f(
            filled::<S>(a_tail, fill),
            filled::<S>(b_tail, fill),
            filled::<S>(c_tail, fill),
        );
        sums[1] = simd.add_f32s(sums[1], last);
    }
    let [first, second, third, fourth] = sums;
    let halves = [simd.add_f32s(first, second), simd.add_f32s(third, fourth)];
    simd.reduce_sum_f32s(simd.add_f32s(halves[0], halves[1]))
}

/// A vector that begins with these values.
#[inline(always)]
fn filled<S: Simd>(values: &[f32], fill: f32) -> S::f32s {
    let mut room = [fill; 16];
    room[..values.len()].copy_from_slice(values);
    S::as_simd_f32s(&room).0[0]
}

/// out\[k\] = f(out\[k\], a\[k\], b\[k\], c\[k\]).
///
/// # Panics
/// When a row is shorter than `out`.
#[inline(always)]
pub(crate) fn update_row<S: Simd>(
    simd: S,
    out: &mut [f32],
    [a, b, c]: [&[f32]; 3],
    f: impl Fn(S::f32s, S::f32s, S::f32s, S::f32s) -> S::f32s,
) {
    let n = out.len();
    let (out, out_tail) = S::as_mut_simd_f32s(out);
    let ((a, a_tail), (b, b_tail)) = (S::as_simd_f32s(&a[..n]), S::as_simd_f32s(&b[..n]));
    let (c, c_tail) = S::as_simd_f32s(&c[..n]);
    for (((out, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *out = f(*out, *a, *b, *c);
    }
    if !out_tail.is_empty() {
        let [a, b, c] = [a_tail, b_tail, c_tail].map(|tail| simd.partial_load_f32s(tail));
        let last = f(simd.partial_load_f32s(out_tail), a, b, c);
        simd.partial_store_f32s(out_tail, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_cover_every_row_of_every_picture_once() {
        for (pictures, rows, channels) in [(1, 1, 1), (3, 17, 5), (2, 9000, 3), (2, 0, 3)] {
            let stack = Stack {
                pictures,
                rows,
                channels,
            };
            let values: Vec<f32> = (0..stack.elements()).map(|k| (k % 97) as f32).collect();
            let totals = stack.totals::<2>(|_, range, totals| {
                let rows = &values[range.start * channels..range.end * channels];
                add_moments(rows, channels, totals);
            });
            for (picture, totals) in totals.chunks(2 * channels).enumerate() {
                for c in 0..channels {
                    let column = (0..rows).map(|r| values[(picture * rows + r) * channels + c]);
                    let column: Vec<f64> = column.map(f64::from).collect();
                    assert_eq!(totals[c], column.iter().sum::<f64>());
                    let squares: f64 = column.iter().map(|v| v * v).sum();
                    assert_eq!(totals[channels + c], squares);
                }
            }
        }
    }

    struct EveryTermOnce;

    impl pulp::WithSimd for EveryTermOnce {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for n in [0, 1, 15, 16, 17, 31, 32, 33, 64, 100, 131] {
                let row: Vec<f32> = (0..n).map(|k| k as f32).collect();
                let minus_one = simd.splat_f32s(-1.0);
                // Beyond the end 3 · (3 − 3) is added.
                let sum = sum_row(simd, [&row; 3], 3.0, |a, b, _| {
                    let less = simd.sub_f32s(b, simd.splat_f32s(3.0));
                    simd.mul_f32s(a, less)
                });
                let expected: usize = (0..n).map(|k| k * k).sum();
                assert_eq!(sum, expected as f32 - 3.0 * row.iter().sum::<f32>());
                let mut out = row.clone();
                update_row(simd, &mut out, [&row; 3], |out, a, b, c| {
                    simd.mul_add_f32s(
                        a,
                        b,
                        simd.mul_add_f32s(minus_one, c, simd.add_f32s(out, out)),
                    )
                });
                let expected: Vec<f32> = row.iter().map(|k| 2.0 * k + k * k - k).collect();
                assert_eq!(out, expected);
            }
        }
    }

    #[test]
    fn sums_and_updates_cover_every_term_once() {
        pulp::Arch::new().dispatch(EveryTermOnce);
        pulp::Arch::Scalar.dispatch(EveryTermOnce);
    }
}
