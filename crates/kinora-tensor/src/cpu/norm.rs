//! Sums over rows and rows over sums: what the norms are made of.

use super::vectorised;
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

/// Σ f(k) for k in 0..n, in 32 interleaved sums: short chains round little and fill the vector
/// units.
#[inline(always)]
pub(crate) fn interleaved_sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    const LANES: usize = 32;
    let mut lanes = [0.0f32; LANES];
    let whole = n / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for lane in 0..LANES {
            lanes[lane] += f(start + lane);
        }
    }
    let mut sum: f32 = (whole..n).map(&f).sum();
    for half in [16, 8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    sum += lanes[0];
    sum
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

    #[test]
    fn interleaved_sums_cover_every_term_once() {
        for n in [0, 1, 31, 32, 33, 100] {
            let expected = (n * n.max(1) - n) / 2;
            assert_eq!(interleaved_sum(n, |k| k as f32), expected as f32);
        }
    }
}
