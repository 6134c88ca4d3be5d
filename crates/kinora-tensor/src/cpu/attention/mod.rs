//! Softmax attention in tiles: scores of a block of queries against a block of keys live in a
//! buffer of the working thread, so memory does not grow with the product of the two lengths.
//!
//! Heads are read in place, as columns of rows `width` apart; nothing is transposed. A task is one
//! block of queries of one head; what it makes is kept dense while it works.

mod backward;
mod forward;

pub(crate) use backward::{Saved, backward};
pub(crate) use forward::forward;

use super::matmul::MatRef;
use super::softmax::PAD;
use crate::storage;

/// `batch` sequences of `n` queries against `m` keys, in `heads` heads of `d` channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub batch: usize,
    pub n: usize,
    pub m: usize,
    pub heads: usize,
    pub d: usize,
    /// Query i sees the keys 0..=i only.
    pub causal: bool,
}

impl Sizes {
    /// Channels of a row.
    fn width(&self) -> usize {
        self.heads * self.d
    }

    /// Factor on the products of queries and keys, for weights that are powers of two rather than
    /// of e: log₂e / √d.
    fn scale(&self) -> f32 {
        std::f32::consts::LOG2_E / (self.d as f32).sqrt()
    }

    /// How many of the keys the queries before `end` see between them.
    fn visible(&self, end: usize) -> usize {
        if self.causal { end.min(self.m) } else { self.m }
    }

    /// Rows `start .. start + len` of one head, in the rows of a sequence.
    fn head<'a>(&self, rows: &'a [f32], head: usize, (start, len): Span) -> MatRef<'a> {
        let from = start * self.width() + head * self.d;
        MatRef::strided(&rows[from..], len, self.d, self.width())
    }
}

/// First row and number of rows.
type Span = (usize, usize);

/// The blocks of at most `block` rows that `rows` rows are cut into, as even as can be.
fn spans(rows: usize, block: usize) -> impl Iterator<Item = Span> + Clone {
    let len = even_block(rows, block);
    (0..rows)
        .step_by(len)
        .map(move |start| (start, len.min(rows - start)))
}

/// The length of those blocks, the last excepted: whole vectors where there is more than one.
fn even_block(rows: usize, block: usize) -> usize {
    let blocks = rows.div_ceil(block).max(1);
    rows.div_ceil(blocks)
        .next_multiple_of(PAD)
        .min(block)
        .max(1)
}

/// Tasks that keep the cores of a large machine busy. The number of cores at hand is not asked for, so
/// that results do not depend on it.
const TASKS: usize = 32;

/// A buffer of the working thread, given back for reuse.
pub(crate) struct Buffer(pub Vec<f32>);

impl Buffer {
    pub(crate) fn new(len: usize) -> Self {
        Buffer(storage::scratch(len))
    }

    pub(crate) fn zeros(len: usize) -> Self {
        Buffer(storage::zeros(len))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        storage::recycle(std::mem::take(&mut self.0));
    }
}
