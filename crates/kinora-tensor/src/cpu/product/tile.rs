//! The innermost loop: a panel of one operand against a strip of the other.

use super::LineStart;
use pulp::Simd;

/// Values across the widest panel: three vectors of sixteen.
pub(super) const MOST_WIDTH: usize = 48;
/// Lines of the widest strip.
const MOST_LINES: usize = 8;

/// The sums of a tile, a row for each line of the strip.
#[repr(align(64))]
pub(super) struct Sums<const J: usize>(pub [[f32; MOST_WIDTH]; J]);

impl<const J: usize> Sums<J> {
    #[inline(always)]
    pub fn new() -> Self {
        Sums([[0.0; MOST_WIDTH]; J])
    }
}

/// Vectors across a panel at most: with a strip's lines of sums each, they fill the registers.
#[inline(always)]
pub(super) const fn most_vectors<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 3 } else { 2 }
}

/// Lines of a strip.
#[inline(always)]
pub(super) const fn strip_lines<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 {
        MOST_LINES
    } else {
        6
    }
}

/// Gives `finish` the sum j, v, `Σ_k panel[k][v] · strip[j][k]`, once for every j and v; every line of the
/// strip has as many terms as the panel.
#[inline(always)]
fn sum_up<S: Simd, const V: usize, const J: usize>(
    simd: S,
    panel: &[f32],
    strip: &[&[f32]; J],
    mut finish: impl FnMut(usize, usize, S::f32s),
) {
    let (panel, _) = S::as_simd_f32s(panel).0.as_chunks::<V>();
    let rows: [&[f32]; J] = std::array::from_fn(|j| &strip[j][..panel.len()]);
    let mut sums = [[simd.splat_f32s(0.0); V]; J];
    for (k, values) in panel.iter().enumerate() {
        for j in 0..J {
            // SAFETY: k is below the length of `panel`, which is that of every row. A check for each
            // row is dear here: their pointers would no longer all fit in registers.
            #[allow(unsafe_code)]
            let factor = simd.splat_f32s(unsafe { *rows[j].get_unchecked(k) });
            for v in 0..V {
                sums[j][v] = simd.mul_add_f32s(factor, values[v], sums[j][v]);
            }
        }
    }
    for j in 0..J {
        for v in 0..V {
            finish(j, v, sums[j][v]);
        }
    }
}

/// The sums of a tile, in memory.
#[inline(always)]
pub(super) fn multiply<S: Simd, const V: usize, const J: usize>(
    simd: S,
    panel: &[f32],
    strip: &[&[f32]; J],
    out: &mut Sums<J>,
) {
    sum_up::<S, V, J>(
        simd,
        panel,
        strip,
        #[inline(always)]
        |j, v, sum| S::as_mut_simd_f32s(&mut out.0[j]).0[v] = sum,
    );
}

/// The sums of a whole tile, added to `start` and to the rows of `onto`, and written to the rows of the
/// result without a stop on the way. Rows have V vectors; `start` has as many, or none.
#[inline(always)]
pub(super) fn multiply_to<S: Simd, const V: usize, const J: usize>(
    simd: S,
    panel: &[f32],
    strip: &[&[f32]; J],
    (start, onto): (&[f32], Option<[&[f32]; J]>),
    mut out: [&mut [f32]; J],
) {
    let start = S::as_simd_f32s(start).0.first_chunk::<V>();
    let start = start.copied().unwrap_or([simd.splat_f32s(0.0); V]);
    if let Some(onto) = onto {
        return sum_up::<S, V, J>(
            simd,
            panel,
            strip,
            #[inline(always)]
            |j, v, sum| {
                let before = simd.add_f32s(start[v], S::as_simd_f32s(onto[j]).0[v]);
                S::as_mut_simd_f32s(&mut *out[j]).0[v] = simd.add_f32s(before, sum);
            },
        );
    }
    sum_up::<S, V, J>(
        simd,
        panel,
        strip,
        #[inline(always)]
        |j, v, sum| S::as_mut_simd_f32s(&mut *out[j]).0[v] = simd.add_f32s(start[v], sum),
    );
}

/// Adds to each row of sums, `width` values of it, what waits from the stretches before.
#[inline(always)]
pub(super) fn add_waiting<S: Simd, const J: usize>(
    simd: S,
    sums: &mut Sums<J>,
    waiting: &[f32],
    width: usize,
) {
    for (sums, waiting) in sums.0.iter_mut().zip(waiting.chunks_exact(width)) {
        let (sums, waiting) = (S::as_mut_simd_f32s(sums).0, S::as_simd_f32s(waiting).0);
        for (sum, before) in sums.iter_mut().zip(waiting) {
            *sum = simd.add_f32s(*sum, *before);
        }
    }
}

/// Writes a row of sums as far as `out` goes, at most USUAL values; its first column is number `column`
/// of the result.
#[inline(always)]
pub(super) fn put<const USUAL: usize>(
    out: &mut [f32],
    sums: &[f32],
    start: LineStart<'_>,
    column: usize,
) {
    // Of a length known beforehand, all of this is a few vectors.
    if let (Some(out), Some(sums)) = (out.first_chunk_mut::<USUAL>(), sums.first_chunk::<USUAL>()) {
        match start {
            LineStart::Zero => *out = *sums,
            LineStart::Result => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
            LineStart::Row(row) | LineStart::Sum(row, []) => {
                let row = &row[column..][..USUAL];
                for n in 0..USUAL {
                    out[n] = row[n] + sums[n];
                }
            }
            LineStart::Sum(first, second) => {
                let (first, second) = (&first[column..][..USUAL], &second[column..][..USUAL]);
                for n in 0..USUAL {
                    out[n] = second[n] + first[n] + sums[n];
                }
            }
        }
        return;
    }
    match start {
        LineStart::Zero => out.copy_from_slice(&sums[..out.len()]),
        LineStart::Result => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
        LineStart::Row(row) | LineStart::Sum(row, []) => {
            let sums = sums.iter().zip(&row[column..][..out.len()]);
            for (out, (sum, start)) in out.iter_mut().zip(sums) {
                *out = start + sum;
            }
        }
        LineStart::Sum(first, second) => {
            for (n, out) in out.iter_mut().enumerate() {
                *out = second[column + n] + first[column + n] + sums[n];
            }
        }
    }
}

/// Σ_k line[k] · strip[j][k] over the length of `line`, for each line j of a strip: each vector of `line` is loaded once
/// for all of them.
#[inline(always)]
pub(super) fn dots<S: Simd, const J: usize>(
    simd: S,
    line: &[f32],
    strip: &[&[f32]; J],
) -> [f32; J] {
    let (vectors, tail) = S::as_simd_f32s(line);
    let mut sums = [simd.splat_f32s(0.0); J];
    let rows: [&[S::f32s]; J] =
        std::array::from_fn(|j| &S::as_simd_f32s(strip[j]).0[..vectors.len()]);
    for (k, factor) in vectors.iter().enumerate() {
        for j in 0..J {
            sums[j] = simd.mul_add_f32s(*factor, rows[j][k], sums[j]);
        }
    }
    let mut out = [0.0; J];
    for j in 0..J {
        let rest = &strip[j][line.len() - tail.len()..line.len()];
        let beyond: f32 = tail.iter().zip(rest).map(|(a, b)| a * b).sum();
        out[j] = simd.reduce_sum_f32s(sums[j]) + beyond;
    }
    out
}
