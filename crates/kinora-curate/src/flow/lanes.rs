//! Vectors of the processor at hand over rows of numbers, and how rows are shared among the cores.

use pulp::Simd;
use rayon::prelude::*;

/// Rows are padded to a multiple of this many elements, which is whole vectors on every processor.
pub(super) const PAD: usize = 16;

/// Pixels below which handing a part to another core costs more than it brings.
const TASK_PIXELS: usize = 48 << 10;

/// The vector of `row` that begins at element `at`.
#[inline(always)]
pub(super) fn load<S: Simd>(_: S, row: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&row[at..][..S::F32_LANES]).0[0]
}

/// Writes a vector to the elements of `row` from `at` on.
#[inline(always)]
pub(super) fn store<S: Simd>(_: S, row: &mut [f32], at: usize, vector: S::f32s) {
    S::as_mut_simd_f32s(&mut row[at..][..S::F32_LANES]).0[0] = vector;
}

/// Columns of a picture padded to whole vectors.
pub(super) fn padded(width: usize) -> usize {
    width.next_multiple_of(PAD)
}

/// Writes `margin` copies of the first and of the last of `width` values that begin at `start`
/// before and behind them.
#[inline(always)]
pub(super) fn repeat_ends(row: &mut [f32], start: usize, width: usize, margin: usize) {
    let (first, last) = (row[start], row[start + width - 1]);
    row[start - margin..start].fill(first);
    row[start + width..][..margin].fill(last);
}

/// Rows of a task: all of them where the picture is small, and a multiple of `multiple`.
///
/// The number of cores decides here, which is only right because no row's result depends on which
/// task it is in.
pub(super) fn rows_of_a_task(width: usize, height: usize, multiple: usize) -> usize {
    let tasks = (width * height / TASK_PIXELS).min(rayon::current_num_threads());
    height.div_ceil(tasks.max(1)).next_multiple_of(multiple)
}

/// Cuts `out` into parts of `part` values, and gives each its number and a scratch of its own.
pub(super) fn for_parts(
    out: &mut [f32],
    part: usize,
    scratch: &mut Vec<Vec<f32>>,
    work: impl Fn(usize, &mut [f32], &mut Vec<f32>) + Sync,
) {
    let parts = out.len().div_ceil(part);
    if scratch.len() < parts {
        scratch.resize_with(parts, Vec::new);
    }
    if parts <= 1 {
        // A pool's other threads wake up for every hand-over, and their waiting is time of the processor.
        return work(0, out, &mut scratch[0]);
    }
    out.par_chunks_mut(part)
        .zip(scratch.par_iter_mut())
        .enumerate()
        .for_each(|(number, (out, scratch))| work(number, out, scratch));
}

/// `len` values of scratch; what they hold is left from before.
pub(super) fn of_length(scratch: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if scratch.len() < len {
        scratch.resize(len, 0.0);
    }
    &mut scratch[..len]
}
