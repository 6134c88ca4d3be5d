//! Convolution as multiplication: the pixels each place looks at are gathered into rows, a block of
//! places at a time, and every block meets the whole weight at once.

use super::matmul::{Cores, MatRef, matmul};
use crate::storage;
use rayon::prelude::*;

/// A stretch of neighbouring pixels of one picture row that a place looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Row of the stretch, relative to the place's own corner.
    pub y: isize,
    /// First column of the stretch, likewise.
    pub x: isize,
    /// Pixels in the stretch.
    pub len: usize,
}

/// Pictures `[n, height, width, channels]` seen from a grid of places; pixels outside are zero.
pub(crate) struct View<'a> {
    pub pixels: &'a [f32],
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub windows: Vec<Window>,
    /// The place in row a, column b has its corner at pixel (a · stride, b · stride).
    pub stride: usize,
    pub grid_height: usize,
    pub grid_width: usize,
    pub pictures: usize,
}

/// A block holds about this many values, and no fewer than `MIN_PLACES` places: enough for the
/// multiplication to run at full rate, little beside the pictures themselves.
const BLOCK_VALUES: usize = 2 << 20;
const MIN_PLACES: usize = 512;

impl View<'_> {
    /// Values in the row gathered for one place.
    pub(crate) fn row_len(&self) -> usize {
        self.windows
            .iter()
            .map(|window| window.len * self.channels)
            .sum()
    }

    /// Places in all pictures.
    pub(crate) fn places(&self) -> usize {
        self.pictures * self.grid_height * self.grid_width
    }

    fn block_places(&self) -> usize {
        (BLOCK_VALUES / self.row_len().max(1))
            .max(MIN_PLACES)
            .min(self.places())
    }

    /// Gathers the rows of the places `first ..`, as many as fit into `rows`.
    fn gather(&self, first: usize, rows: &mut [f32]) {
        const TASK_VALUES: usize = 32 << 10;
        let row_len = self.row_len();
        let per_task = (TASK_VALUES / row_len).max(1);
        rows.par_chunks_mut(per_task * row_len)
            .enumerate()
            .for_each(|(task, rows)| {
                for (k, row) in rows.chunks_exact_mut(row_len).enumerate() {
                    self.gather_row(first + task * per_task + k, row);
                }
            });
    }

    fn gather_row(&self, place: usize, mut row: &mut [f32]) {
        let (rest, column) = (place / self.grid_width, place % self.grid_width);
        let (picture, line) = (rest / self.grid_height, rest % self.grid_height);
        let picture_len = self.height * self.width * self.channels;
        let pixels = &self.pixels[picture * picture_len..][..picture_len];
        for window in &self.windows {
            let (part, after) = row.split_at_mut(window.len * self.channels);
            row = after;
            let y = (line * self.stride) as isize + window.y;
            let x = (column * self.stride) as isize + window.x;
            if y < 0 || y >= self.height as isize {
                part.fill(0.0);
                continue;
            }
            self.copy_stretch(&pixels[y as usize * self.width * self.channels..], x, part);
        }
    }

    /// Copies the pixels `x ..` of one picture row, zeros where they lie outside it.
    fn copy_stretch(&self, line: &[f32], x: isize, part: &mut [f32]) {
        let len = (part.len() / self.channels) as isize;
        let width = self.width as isize;
        let inside_from = (-x).clamp(0, len);
        let inside_to = (width - x).clamp(inside_from, len);
        let (from, to) = (
            inside_from as usize * self.channels,
            inside_to as usize * self.channels,
        );
        part[..from].fill(0.0);
        part[to..].fill(0.0);
        if from < to {
            let start = (x + inside_from) as usize * self.channels;
            part[from..to].copy_from_slice(&line[start..][..to - from]);
        }
    }
}

/// `out = rows · weight`, or `out += …` where `accumulate`: one row of `out` for each place of the
/// view. `weight` is `[row_len, channels out]`.
pub(crate) fn convolve(out: &mut [f32], view: &View<'_>, weight: MatRef<'_>, accumulate: bool) {
    let width = weight.cols;
    let mut start = 0;
    for_blocks(view, |rows, places| {
        matmul(
            &mut out[start * width..][..places * width],
            width,
            MatRef::new(rows, places, view.row_len()),
            weight,
            accumulate,
            Cores::All,
        );
        start += places;
    });
}

/// `out = gradientᵀ · rows`: the gradient of a weight `[channels out, row_len]`.
pub(crate) fn convolve_weight_gradient(out: &mut [f32], view: &View<'_>, gradient: &[f32]) {
    let row_len = view.row_len();
    let width = out.len() / row_len.max(1);
    let mut start = 0;
    for_blocks(view, |rows, places| {
        let gradient = &gradient[start * width..][..places * width];
        matmul(
            out,
            row_len,
            MatRef::new(gradient, places, width).t(),
            MatRef::new(rows, places, row_len),
            start > 0,
            Cores::All,
        );
        start += places;
    });
    if start == 0 {
        out.fill(0.0);
    }
}

/// Hands out the gathered rows block by block, in order.
fn for_blocks(view: &View<'_>, mut work: impl FnMut(&[f32], usize)) {
    let (all, row_len) = (view.places(), view.row_len());
    if all == 0 || row_len == 0 {
        return;
    }
    let block = view.block_places();
    let mut rows = storage::scratch(block * row_len);
    for first in (0..all).step_by(block) {
        let places = block.min(all - first);
        let rows = &mut rows[..places * row_len];
        view.gather(first, rows);
        work(rows, places);
    }
    storage::recycle(rows);
}
