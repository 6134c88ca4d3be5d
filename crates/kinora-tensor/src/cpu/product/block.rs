//! A task: some lines of one operand against some strips of the other.

use super::pack::{Ahead, LINE_BYTES, Strip, Widen, fetch_to_write};
use super::tile::{self, MOST_WIDTH, Sums};
use super::{Along, Job, LineStart, Start};
use crate::cpu::transpose::{SIDE, transpose};
use crate::storage;
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Some lines of the vector operand against some strips of the other.
pub(super) struct Block<'j, 'a, S, V, W> {
    pub job: &'j Job<'j, 'a, S, V, W>,
    pub panels: &'j [f32],
    pub loose: &'j [f32],
    /// The numbers of the panels that hold its lines.
    pub numbers: Range<usize>,
    pub strips: Range<usize>,
    /// Terms of the inner extent at a time.
    pub stretch: usize,
}

impl<S: Simd, V: Widen, W: Widen> WithSimd for Block<'_, '_, S, V, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<R: Simd>(self, simd: R) {
        if tile::strip_lines::<R>() == 8 {
            self.run::<R, 8>(simd);
        } else {
            self.run::<R, 6>(simd);
        }
    }
}

impl<S: Simd, V: Widen, W: Widen> Block<'_, '_, S, V, W> {
    #[inline(always)]
    fn run<R: Simd, const J: usize>(&self, simd: R) {
        let (job, all) = (self.job, self.job.vector.cols);
        let others = |strip: usize| strip * J..(strip * J + J).min(job.other.rows);
        let (mut strip, mut sums, width) = (Strip::<J>::new(), Sums::<J>::new(), job.width);
        let panels = self.numbers.len();
        // Where the inner extent has several stretches, sums wait here from one to the next.
        let waiting = if all > self.stretch {
            self.strips.len() * panels * J * width
        } else {
            0
        };
        let mut waiting = storage::scratch(waiting);
        for first in (0..all).step_by(self.stretch) {
            let terms = first..(first + self.stretch).min(all);
            for (n, number) in self.strips.clone().enumerate() {
                let next = others((number + 1).min(self.strips.end - 1));
                let mut ahead = Ahead::new(job.other, next, terms.clone());
                let strip = strip.take(job.other, others(number), terms.clone());
                for panel in 0..panels {
                    ahead.fetch_share(panels, J);
                    let tile = Tile {
                        lines: job.panel(self.numbers.start + panel),
                        others: others(number),
                        terms: terms.clone(),
                    };
                    let at = (n * panels + panel) * J * width;
                    let waiting = waiting.get_mut(at..at + J * width);
                    match tile.lines.len().div_ceil(R::F32_LANES) {
                        1 => self.tile::<R, 1, J>(simd, &strip, tile, &mut sums, waiting),
                        2 => self.tile::<R, 2, J>(simd, &strip, tile, &mut sums, waiting),
                        _ => self.tile::<R, 3, J>(simd, &strip, tile, &mut sums, waiting),
                    }
                }
                self.loose_lines::<R, J>(simd, &strip, others(number), terms.clone());
            }
        }
        storage::recycle(waiting);
    }

    /// One tile of the result, over one stretch of the inner extent.
    #[inline(always)]
    fn tile<R: Simd, const N: usize, const J: usize>(
        &self,
        simd: R,
        strip: &[&[f32]; J],
        tile: Tile,
        sums: &mut Sums<J>,
        waiting: Option<&mut [f32]>,
    ) {
        let (job, all, width) = (self.job, self.job.vector.cols, N * R::F32_LANES);
        let at = tile.lines.start * all + tile.terms.start * width;
        let panel = &self.panels[at..][..tile.terms.len() * width];
        let usual = tile.lines.len() == width && tile.others.len() == J && waiting.is_none();
        if usual && job.along == Along::Columns && !matches!(job.start, Start::Result) {
            return self.straight::<R, N, J>(simd, panel, strip, tile);
        }
        tile::multiply::<R, N, J>(simd, panel, strip, sums);
        if let Some(waiting) = waiting {
            if tile.terms.start > 0 {
                tile::add_waiting(simd, sums, waiting, width);
            }
            if tile.terms.end < all {
                for (waiting, sums) in waiting.chunks_exact_mut(width).zip(&sums.0) {
                    waiting.copy_from_slice(&sums[..width]);
                }
                return;
            }
        }
        self.write::<R, J>(tile, sums);
    }

    /// A whole tile, summed and written without a stop on the way.
    #[inline(always)]
    fn straight<R: Simd, const N: usize, const J: usize>(
        &self,
        simd: R,
        panel: &[f32],
        strip: &[&[f32]; J],
        tile: Tile,
    ) {
        let (job, width) = (self.job, N * R::F32_LANES);
        let at = |j: usize| (tile.others.start + j) * job.strides.1 + tile.lines.start;
        let out: [&mut [f32]; J] = std::array::from_fn(|j| self.out(at(j), width));
        // A result comes from memory before it is overwritten: it is asked for now, and here by the end.
        for j in 0..J {
            for k in (0..width).step_by(LINE_BYTES / size_of::<f32>()) {
                fetch_to_write(&out[j][k]);
            }
            fetch_to_write(&out[j][width - 1]); // It may begin within a line.
        }
        let row = match job.start {
            Start::Row(row) | Start::Matrix(_, row) if !row.is_empty() => &row[tile.lines.clone()],
            _ => &[],
        };
        let onto = match job.start {
            Start::Matrix(values, _) => Some(std::array::from_fn(|j| &values[at(j)..][..width])),
            _ => None,
        };
        tile::multiply_to::<R, N, J>(simd, panel, strip, (row, onto), out);
    }

    /// Takes the sums of a tile to the result.
    #[inline(always)]
    fn write<R: Simd, const J: usize>(&self, tile: Tile, sums: &Sums<J>) {
        let job = self.job;
        match job.along {
            Along::Columns => {
                for (line, sums) in tile.others.zip(&sums.0) {
                    let at = line * job.strides.1 + tile.lines.start;
                    let out = self.out(at, tile.lines.len());
                    let start = job.start.of_line(line, job.strides.1);
                    tile::put::<MOST_WIDTH>(out, sums, start, tile.lines.start);
                }
            }
            // Vectors run down the columns of the result: they are turned on their way there.
            Along::Rows => {
                let mut turned = [[0.0; SIDE]; MOST_WIDTH];
                // Beyond the lines of a strip the first is repeated, and never read.
                let lines = std::array::from_fn(|j| &sums.0[j * usize::from(j < J)][..]);
                transpose::<R>(&lines, turned.as_flattened_mut(), SIDE);
                for (line, sums) in tile.lines.zip(&turned) {
                    let at = line * job.strides.0 + tile.others.start;
                    let out = self.out(at, tile.others.len());
                    let start = job.start.of_line(line, job.strides.0);
                    tile::put::<SIDE>(out, sums, start, tile.others.start);
                }
            }
        }
    }

    /// The lines beyond the panels, against the same strip.
    #[inline(always)]
    fn loose_lines<R: Simd, const J: usize>(
        &self,
        simd: R,
        strip: &[&[f32]; J],
        others: Range<usize>,
        terms: Range<usize>,
    ) {
        let job = self.job;
        for (n, values) in self.loose.chunks_exact(job.vector.cols).enumerate() {
            let line = job.whole + n;
            let sums = tile::dots(simd, &values[terms.clone()], strip);
            for (other, sum) in others.clone().zip(sums) {
                let out = self.out(line * job.strides.0 + other * job.strides.1, 1);
                let (row, column, stride) = match job.along {
                    Along::Columns => (other, line, job.strides.1),
                    Along::Rows => (line, other, job.strides.0),
                };
                let start = match terms.start {
                    0 => job.start.of_line(row, stride),
                    _ => LineStart::Result,
                };
                tile::put::<1>(out, &[sum], start, column);
            }
        }
    }

    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    fn out(&self, at: usize, len: usize) -> &mut [f32] {
        // SAFETY: no other task has these lines and these strips, and this one holds one stretch of
        // them at a time.
        #[allow(unsafe_code)]
        unsafe {
            self.job.out.slice(at, len)
        }
    }
}

/// Where a tile lies: lines of both operands, and terms of the inner extent.
struct Tile {
    lines: Range<usize>,
    others: Range<usize>,
    terms: Range<usize>,
}
