//! The innermost loop: a panel of one operand against a strip of the other.

use super::Start;
use pulp::Simd;

/// Values across the widest panel: three vectors of sixteen.
pub(super) const MOST_WIDTH: usize = 48;
/// Lines of the widest strip.
pub(super) const MOST_LINES: usize = 8;

/// The sums of a tile, a row for each line of the strip.
pub(super) type Sums<const J: usize> = [[f32; MOST_WIDTH]; J];

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

/// `sums[j][v] = Σ_k panel[k][v] · strip[j][k]`.
#[inline(always)]
pub(super) fn multiply<S: Simd, const V: usize, const J: usize>(
    simd: S,
    panel: &[f32],
    strip: &[&[f32]; J],
    out: &mut Sums<J>,
) {
    let (panel, _) = S::as_simd_f32s(panel).0.as_chunks::<V>();
    let rows: [&[f32]; J] = std::array::from_fn(|j| &strip[j][..panel.len()]);
    let mut sums = [[simd.splat_f32s(0.0); V]; J];
    for (k, values) in panel.iter().enumerate() {
        for j in 0..J {
            let factor = simd.splat_f32s(rows[j][k]);
            for v in 0..V {
                sums[j][v] = simd.mul_add_f32s(factor, values[v], sums[j][v]);
            }
        }
    }
    // A copy: written in place, the sums would not stay in registers.
    for (out, sums) in out.iter_mut().zip(&sums) {
        let (out, _) = S::as_mut_simd_f32s(out);
        out[..V].copy_from_slice(sums);
    }
}

/// Writes a row of sums as far as `out` goes; its first column is number `column` of the result.
#[inline(always)]
pub(super) fn put(out: &mut [f32], sums: &[f32], start: Start<'_>, column: usize) {
    match start {
        Start::Zero => out.copy_from_slice(&sums[..out.len()]),
        Start::Result => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
        Start::Row(row) => {
            let sums = sums.iter().zip(&row[column..][..out.len()]);
            for (out, (sum, start)) in out.iter_mut().zip(sums) {
                *out = start + sum;
            }
        }
    }
}

/// Σ_k a[k] · b[k] over the length of `a`.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (S::as_simd_f32s(a), S::as_simd_f32s(&b[..a.len()]));
    let (a4, rest) = a.0.as_chunks::<4>();
    let (b4, b_rest) = b.0.as_chunks::<4>();
    let mut sums = [simd.splat_f32s(0.0); 4];
    for (a, b) in a4.iter().zip(b4) {
        for n in 0..4 {
            sums[n] = simd.mul_add_f32s(a[n], b[n], sums[n]);
        }
    }
    for (a, b) in rest.iter().zip(b_rest) {
        sums[0] = simd.mul_add_f32s(*a, *b, sums[0]);
    }
    let [first, second, third, fourth] = sums;
    let sum = simd.add_f32s(simd.add_f32s(first, second), simd.add_f32s(third, fourth));
    let tail: f32 = a.1.iter().zip(b.1).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sum) + tail
}
