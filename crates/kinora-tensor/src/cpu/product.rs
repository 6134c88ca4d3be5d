//! Products of large matrices, on all cores.
//!
//! One operand is the *vector* operand: its panels of neighbouring lines fill vector registers. The
//! other is read in strips of a few lines, one number at a time. A tile of sums (panel × strip) stays in
//! registers for a stretch of the inner extent; panel and strip come from the second-level cache. Panels are packed once and shared; strips are read where they lie, or copied as they are
//! met where their values are far apart. Values of 16 bits are widened on either way.

mod block;
mod gated;
mod pack;
mod tile;

use super::matmul::MatRef;
use super::shared::Shared;
use crate::storage;
use block::Block;
pub(crate) use gated::{gated, takes as takes_gated};
pub(crate) use pack::Widen;
use pack::{pack_panel, take_line};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// The inner extent is worked off in stretches of at most this many terms, for each of which sums are
/// written and read again. (A strip need not stay in the first-level cache: a tile reads some nine bytes a
/// cycle of panel and strip, and the second-level cache gives several times as much.)
const TERMS: usize = 1280;
/// Panels that a task goes through for each strip hold about this many values: most of a second-level
/// cache.
const BLOCK_VALUES: usize = 192 << 10;
/// Sums that wait for the next stretch of the inner extent are at most about so many.
const SUMS_VALUES: usize = 64 << 10;
/// A task has about this many multiply-adds, or hands out more than it computes.
const TASK_WORK: usize = 4 << 20;

/// Panels start on a cache line: vectors across two of them come at half the rate.
pub(crate) const ALIGNMENT: usize = 16;

/// Where in `values` the first cache line begins.
pub(crate) fn aligned(values: &[f32]) -> usize {
    values.as_ptr().align_offset(ALIGNMENT * size_of::<f32>())
}

/// What the sums are added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Nothing.
    Zero,
    /// What the result holds.
    Result,
    /// One value for each column.
    Row(&'a [f32]),
    /// A matrix, its rows so far apart as those of the result, and a value for each column where there
    /// are some.
    Matrix(&'a [f32], &'a [f32]),
}

impl<'a> Start<'a> {
    /// What a line of the result begins with, `stride` values after the line before it.
    #[inline(always)]
    fn of_line(self, line: usize, stride: usize) -> LineStart<'a> {
        match self {
            Start::Zero => LineStart::Zero,
            Start::Result => LineStart::Result,
            Start::Row(row) => LineStart::Row(row),
            Start::Matrix(values, row) => LineStart::Sum(&values[line * stride..], row),
        }
    }
}

/// What the sums of one line are added to.
#[derive(Clone, Copy)]
enum LineStart<'a> {
    Zero,
    Result,
    Row(&'a [f32]),
    /// Both, or the first alone where the second is empty.
    Sum(&'a [f32], &'a [f32]),
}

/// Which operand fills the vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Along {
    /// The left one: vectors run down the result's columns.
    Rows,
    /// The right one: vectors run along the result's rows.
    Columns,
}

impl Along {
    /// The operand that costs less to pack. Where the inner extent is its faster one, packing transposes,
    /// which takes some three times as long.
    pub(crate) fn cheaper<T>(a: &MatRef<'_>, b: &MatRef<'_, T>) -> Along {
        let rows = a.rows * if a.row_stride == 1 { 1 } else { 3 };
        let columns = b.cols * if b.col_stride == 1 { 1 } else { 3 };
        // A tile of sums along the rows is turned on its way out.
        if rows + a.rows / 8 < columns {
            Along::Rows
        } else {
            Along::Columns
        }
    }

    /// Whether the inner extent is the faster one of the operand that is read in strips; where it is
    /// not, as in the gradient of a weight, strips are dear.
    pub(crate) fn strips_are_cheap<T>(self, a: &MatRef<'_>, b: &MatRef<'_, T>) -> bool {
        match self {
            Along::Rows => b.row_stride == 1,
            Along::Columns => a.col_stride == 1,
        }
    }
}

/// `out = start + a · b`, rows of `out` being `stride` apart. The caller has checked that every operand
/// lies within its slice, and that rows of `out` do not overlap.
pub(crate) fn product<T: Widen>(
    out: &mut [f32],
    stride: usize,
    a: MatRef<'_>,
    b: MatRef<'_, T>,
    start: Start<'_>,
    along: Along,
) {
    Arch::new().dispatch(Product {
        out: Shared::new(out),
        stride,
        a,
        b,
        start,
        along,
    });
}

struct Product<'a, T> {
    out: Shared<'a>,
    stride: usize,
    a: MatRef<'a>,
    b: MatRef<'a, T>,
    start: Start<'a>,
    along: Along,
}

impl<T: Widen> WithSimd for Product<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.along {
            Along::Rows => Job::new(simd, &self, self.a, self.b.t()).run(),
            Along::Columns => Job::new(simd, &self, self.b.t(), self.a).run(),
        }
    }
}

/// The product as lines of the vector operand against lines of the other, both `[lines, terms]`.
struct Job<'j, 'a, S, V, W> {
    simd: S,
    vector: MatRef<'a, V>,
    other: MatRef<'a, W>,
    out: &'j Shared<'a>,
    /// Elements of the result between neighbouring lines of the vector operand, and of the other.
    strides: (usize, usize),
    start: Start<'a>,
    along: Along,
    /// Lines of a panel; the last, or the last two, may have fewer vectors of them.
    width: usize,
    /// Panels before the last two where those have two vectors each, so that none has a single one, which runs at
    /// three quarters of the rate; all of them otherwise.
    wide: usize,
    /// Lines that lie in panels. The few beyond the last whole vector are met one by one.
    whole: usize,
}

impl<'j, 'a, S: Simd, V: Widen, W: Widen> Job<'j, 'a, S, V, W> {
    fn new<T>(
        simd: S,
        product: &'j Product<'a, T>,
        vector: MatRef<'a, V>,
        other: MatRef<'a, W>,
    ) -> Self {
        let beyond = vector.rows % S::F32_LANES;
        let whole = if beyond <= S::F32_LANES / 2 {
            vector.rows - beyond
        } else {
            vector.rows
        };
        let most = tile::most_vectors::<S>();
        let (width, vectors) = (most * S::F32_LANES, whole.div_ceil(S::F32_LANES));
        let panels = vectors.div_ceil(most);
        let pairs = most == 3 && panels > 1 && vectors % most == 1;
        Job {
            simd,
            vector,
            other,
            out: &product.out,
            strides: match product.along {
                Along::Rows => (product.stride, 1),
                Along::Columns => (1, product.stride),
            },
            start: product.start,
            along: product.along,
            width,
            wide: if pairs { panels - 2 } else { panels },
            whole,
        }
    }

    fn run(&self) {
        let terms = self.vector.cols;
        let stretch = terms.div_ceil(terms.div_ceil(TERMS));
        let (panels, loose) = self.packed();
        let strip_lines = tile::strip_lines::<S>();
        let strips = self.other.rows.div_ceil(strip_lines);
        let count = self.whole.div_ceil(self.width);
        let division = Division::of(
            count.max(1),
            (self.width, stretch, terms),
            (strips, strip_lines),
        );
        (0..division.tasks())
            .into_par_iter()
            .with_max_len(1)
            .for_each(|task| {
                let (numbers, strips) = division.task(task);
                self.simd.vectorize(Block {
                    job: self,
                    panels: &panels[aligned(&panels)..],
                    loose: if numbers.start == 0 { &loose } else { &[] },
                    numbers: numbers.start..numbers.end.min(count),
                    strips,
                    stretch,
                });
            });
        storage::recycle(panels);
        storage::recycle(loose);
    }

    /// The lines of a panel.
    #[inline(always)]
    fn panel(&self, number: usize) -> Range<usize> {
        let pairs = number.saturating_sub(self.wide);
        let width = if number < self.wide {
            self.width
        } else {
            2 * S::F32_LANES
        };
        let first = (number - pairs) * self.width + pairs * width;
        first..(first + width).min(self.whole)
    }

    /// The panels of the vector operand, one after the other, and the lines beyond them.
    fn packed(&self) -> (Vec<f32>, Vec<f32>) {
        let (lines, terms) = (self.vector.rows, self.vector.cols);
        let padded = self.whole.next_multiple_of(S::F32_LANES);
        let mut panels = storage::scratch(padded * terms + ALIGNMENT);
        let from = aligned(&panels);
        let values = &mut panels[from..][..padded * terms];
        let wide = self.wide * self.width * terms;
        let (wide, pairs) = values.split_at_mut(wide.min(padded * terms));
        wide.par_chunks_mut(self.width * terms)
            .chain(pairs.par_chunks_mut(2 * S::F32_LANES * terms))
            .enumerate()
            .for_each(|(number, packed)| {
                let width = packed.len() / terms;
                let panel = PackPanel(packed, self.vector, self.panel(number), width);
                self.simd.vectorize(panel);
            });
        let mut loose = storage::scratch((lines - self.whole) * terms);
        for (line, out) in (self.whole..lines).zip(loose.chunks_exact_mut(terms)) {
            take_line(self.vector, line, 0..terms, out);
        }
        (panels, loose)
    }
}

/// How a product is cut into tasks: each has a block of panels and a group of strips.
struct Division {
    panels: usize,
    strips: usize,
    block: usize,
    group: usize,
}

impl Division {
    /// Of panels `width` wide, of which `stretch` of all `terms` are worked off at a time, and strips of
    /// some lines.
    fn of(
        panels: usize,
        (width, stretch, terms): (usize, usize, usize),
        (strips, lines): (usize, usize),
    ) -> Self {
        let block = (BLOCK_VALUES / (width * stretch)).clamp(1, panels);
        let strip_values = block * width * lines;
        let wanted = (20 * rayon::current_num_threads()).div_ceil(panels.div_ceil(block));
        let group = strips
            .div_ceil(wanted)
            .min(SUMS_VALUES / strip_values)
            .max(TASK_WORK.div_ceil(strip_values * terms))
            .min(strips);
        Division {
            panels,
            strips,
            block,
            group,
        }
    }

    fn tasks(&self) -> usize {
        self.panels.div_ceil(self.block) * self.strips.div_ceil(self.group)
    }

    /// The panels and the strips of a task.
    fn task(&self, number: usize) -> (Range<usize>, Range<usize>) {
        let blocks = self.panels.div_ceil(self.block);
        let first = [number % blocks * self.block, number / blocks * self.group];
        (
            first[0]..(first[0] + self.block).min(self.panels),
            first[1]..(first[1] + self.group).min(self.strips),
        )
    }
}

struct PackPanel<'a, T>(&'a mut [f32], MatRef<'a, T>, Range<usize>, usize);

impl<T: Widen> WithSimd for PackPanel<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        pack_panel::<S, T>(self.0, self.1, self.2, self.3);
    }
}

#[cfg(test)]
mod tests;
