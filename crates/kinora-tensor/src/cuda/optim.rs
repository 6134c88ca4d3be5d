//! What is done to all arrays of a model at once, from a table of where they lie.

use super::launch::{Argument, Grid, Kernel, arguments};
use super::sources::Source;
use super::{Array, Board};
use crate::{DType, Result};
use std::sync::Arc;

/// Values a block takes; `CHUNK` in `kernels/optim.cu`.
const CHUNK: usize = 16_384;

/// Addresses of one array of a model, of f32 values; 0 stands for what there is not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    pub weights: u64,
    pub gradient: u64,
    pub m: u64,
    pub v: u64,
    pub average: u64,
    pub count: usize,
}

/// The table as the kernels read it, and how many blocks it takes.
struct Table {
    array: Array,
    rows: usize,
    chunks: usize,
}

impl Table {
    fn new(board: &Arc<Board>, rows: &[Row]) -> Result<Self> {
        // A block looks for its array by where that begins, so an empty one must not be there.
        let rows = rows.iter().filter(|row| row.count > 0);
        let (mut words, mut chunks, mut count) = (Vec::new(), 0, 0);
        for row in rows {
            words.extend([row.weights, row.gradient, row.m, row.v, row.average]);
            words.extend([row.count as u64, chunks as u64]);
            chunks += row.count.div_ceil(CHUNK);
            count += 1;
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Ok(Table {
            array: Array::from_bytes(board, &bytes, DType::F32, "optim")?,
            rows: count,
            chunks,
        })
    }

    fn launch(&self, name: &'static str, more: Argument) -> Result<()> {
        let kernel = Kernel {
            source: Source::Optim,
            name,
            dtype: DType::F32,
        };
        let mut list = arguments![&self.array, self.rows].to_vec();
        list.push(more);
        let grid = Grid([self.chunks as u32, 1]);
        self.array.board().launch(kernel, grid, &list)
    }
}

/// One step of AdamW and of the average over all rows; the numbers are `Numbers` in the kernel.
pub(crate) fn adamw(board: &Arc<Board>, rows: &[Row], numbers: [f32; 10]) -> Result<()> {
    let numbers = Argument::structure(numbers.map(Argument::from));
    Table::new(board, rows)?.launch("adamw", numbers)
}

/// Σ g² over the gradients of all rows, in f64 and always in the same order.
pub(crate) fn sum_of_squares(board: &Arc<Board>, rows: &[Row]) -> Result<f64> {
    let table = Table::new(board, rows)?;
    // Two places of four bytes hold one f64.
    let partial = Array::new(board, 2 * table.chunks, DType::F32)?;
    table.launch("sum_of_squares", Argument::from(&partial))?;
    let bytes = partial.to_bytes()?;
    let sums = bytes.as_chunks::<8>().0.iter();
    Ok(sums.map(|bytes| f64::from_ne_bytes(*bytes)).sum())
}
