//! Sums over rows, in a fixed order: chunks of rows side by side, then the chunks' sums.

use super::Array;
use super::elementwise::{merged, same_type};
use super::launch::{Argument, Grid, Kernel, THREADS, WARP, arguments};
use super::sources::Source;
use crate::cpu::norm::Stack;
use crate::{DType, Result};

/// An array seen as `[outer, rows, columns]`, to be summed over its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub outer: usize,
    pub rows: usize,
    pub columns: usize,
}

/// How the rows are cut. It depends on the extents alone, so a sum is always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    lanes: usize,
    chunk_rows: usize,
    chunks: usize,
    grid: Grid,
}

impl Rows {
    /// The rows of each picture of a stack.
    pub(super) fn of_pictures(stack: Stack) -> Self {
        Rows {
            outer: stack.pictures,
            rows: stack.rows,
            columns: stack.channels,
        }
    }

    fn cut(&self) -> Cut {
        // A warp reads neighbouring columns; a block of few rows takes more of them.
        let lines = self.rows.next_power_of_two().clamp(1, THREADS / WARP);
        let lanes = self.columns.next_power_of_two().min(THREADS / lines);
        let lines = THREADS / lanes;
        let blocks = self.outer * self.columns.div_ceil(lanes);
        // Enough blocks for the largest card, each with eight rows a thread at least.
        const ENOUGH: usize = 4096;
        let wanted = (ENOUGH / blocks.max(1)).max(1);
        let chunks = self.rows.div_ceil(8 * lines).clamp(1, wanted);
        let chunk_rows = self.rows.div_ceil(chunks).max(1);
        let chunks = self.rows.div_ceil(chunk_rows).max(1);
        Cut {
            lanes,
            chunk_rows,
            chunks,
            grid: Grid([blocks as u32, chunks as u32]),
        }
    }

    /// What the kernel `name`, built on `column_sums`, adds up: `[outer, terms, columns]` in f32. It
    /// takes `operands`, the result, the cut, and `more`.
    pub(super) fn sums(
        self,
        (source, name): (Source, &'static str),
        terms: usize,
        operands: &[&Array],
        more: &[Argument],
    ) -> Result<Array> {
        let cut = self.cut();
        let first = operands[0];
        let len = self.outer * cut.chunks * terms * self.columns;
        let partial = first.f32_like(len)?;
        let mut list: Vec<Argument> = operands.iter().map(|o| Argument::from(*o)).collect();
        list.extend_from_slice(arguments![
            &partial,
            self.rows,
            self.columns,
            cut.chunk_rows,
            cut.lanes as i32,
        ]);
        list.extend_from_slice(more);
        let kernel = Kernel {
            source,
            name,
            dtype: first.dtype(),
        };
        first.board().launch(kernel, cut.grid, &list)?;
        if cut.chunks == 1 {
            return Ok(partial);
        }
        let again = Rows {
            outer: self.outer,
            rows: cut.chunks,
            columns: terms * self.columns,
        };
        again.sums((Source::Reduce, "sum_rows"), 1, &[&partial], &[])
    }

    /// The plain sum, in f32.
    pub(super) fn sum(self, x: &Array) -> Result<Array> {
        self.sums((Source::Reduce, "sum_rows"), 1, &[x], &[])
    }
}

/// Everything as one column.
pub(super) fn all(x: &Array) -> Rows {
    Rows {
        outer: 1,
        rows: x.len(),
        columns: 1,
    }
}

/// The sum of a large array over every axis along which a small one has extent 1, in the type `dtype`.
pub(crate) fn repeated_sum(
    x: &Array,
    large: &[usize],
    small: &[usize],
    dtype: DType,
) -> Result<Array> {
    let mut pairs = merged(large, small);
    let mut sum: Option<Array> = None;
    // From the innermost repeated axes outwards: what is inside them is small by then.
    while let Some(place) = pairs.iter().rposition(|(large, small)| large != small) {
        let extent = |pairs: &[(usize, usize)]| pairs.iter().map(|pair| pair.0).product();
        let rows = Rows {
            outer: extent(&pairs[..place]),
            rows: pairs[place].0,
            columns: extent(&pairs[place + 1..]),
        };
        sum = Some(rows.sum(sum.as_ref().unwrap_or(x))?);
        pairs.remove(place);
    }
    super::cast(sum.as_ref().unwrap_or(x), dtype)
}

/// Σ (x − y)² or Σ |x − y|, `[1]` in f32.
pub(crate) fn distance(x: &Array, y: &Array, squared: bool) -> Result<Array> {
    same_type("distance", x, y)?;
    let kernel = (Source::Reduce, "sum_distance");
    all(x).sums(kernel, 1, &[x, y], arguments![i32::from(squared)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_covers_every_row_and_column() {
        for (outer, rows, columns) in [
            (1, 1, 1),
            (1, 1_000_000, 1),
            (3, 17, 5),
            (2, 2880, 320),
            (50, 2, 700),
            (1, 0, 3),
            (25 * 72 * 128, 4, 33),
        ] {
            let cut = Rows {
                outer,
                rows,
                columns,
            }
            .cut();
            assert!(cut.chunks * cut.chunk_rows >= rows, "{cut:?}");
            assert!(
                cut.chunks == 1 || (cut.chunks - 1) * cut.chunk_rows < rows,
                "{cut:?}"
            );
            assert!(
                cut.lanes.is_power_of_two() && cut.lanes <= THREADS,
                "{cut:?}"
            );
            assert!(cut.grid.0[1] < 1 << 16, "{cut:?}");
        }
    }
}
