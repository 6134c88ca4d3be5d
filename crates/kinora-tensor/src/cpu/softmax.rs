//! The pieces of a softmax, written in vectors of the processor at hand.

use pulp::{Scalar, Simd};

/// Rows of scores are padded to a multiple of this many elements, which is whole vectors on every
/// processor, and the padding is −∞: rows then have no ragged ends.
pub(crate) const PAD: usize = 16;

/// The row of scores `row`, seen as vectors.
#[inline(always)]
pub(crate) fn vectors<S: Simd>(row: &mut [f32]) -> &mut [S::f32s] {
    let (vectors, rest) = S::as_mut_simd_f32s(row);
    debug_assert!(rest.is_empty(), "rows are padded to whole vectors");
    vectors
}

/// 2ᵗ within 2 units in the last place, for t ≤ 0 (or barely above).
///
/// 0 below −127, NaN at NaN. Multiply-adds are fused where the processor can.
#[inline(always)]
pub(crate) fn exp2_nonpositive<S: Simd>(simd: S, t: S::f32s) -> S::f32s {
    // A selection rather than a maximum, which on some processors swallows a NaN.
    let low = simd.splat_f32s(-127.0);
    let t = simd.select_f32s(simd.less_than_f32s(t, low), low, t);
    // Adding 1.5 · 2²³ rounds to a whole number n and leaves it in the low bits, and 127 makes them
    // n + 127, the exponent field of 2ⁿ.
    let round = simd.splat_f32s(12_582_912.0 + 127.0);
    let shifted = simd.add_f32s(t, round);
    let r = simd.sub_f32s(t, simd.sub_f32s(shifted, round));
    // (2ʳ − 1) / r on |r| ≤ ½: ln 2 is given, the others are fitted for the least largest relative
    // error of 2ʳ, 1e-7.
    let p = simd.splat_f32s(0.001_330_026_5);
    let p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(0.009_669_709));
    let p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(0.055_505_6));
    let p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(0.240_222_81));
    let p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(std::f32::consts::LN_2));
    let p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(1.0));
    let bits = simd.transmute_u32s_f32s(shifted);
    let power = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23));
    simd.mul_f32s(p, simd.transmute_f32s_u32s(power))
}

/// The same for one number.
#[inline(always)]
pub(crate) fn exp2_nonpositive_scalar(t: f32) -> f32 {
    exp2_nonpositive(Scalar, t)
}

/// The largest element of `row` and `least`.
#[inline(always)]
pub(crate) fn largest<S: Simd>(simd: S, row: &[S::f32s], least: f32) -> f32 {
    let (blocks, rest) = row.as_chunks::<4>();
    let mut lanes = [simd.splat_f32s(least); 4];
    for block in blocks {
        for k in 0..4 {
            lanes[k] = simd.max_f32s(lanes[k], block[k]);
        }
    }
    for (lane, vector) in lanes.iter_mut().zip(rest) {
        *lane = simd.max_f32s(*lane, *vector);
    }
    let [a, b, c, d] = lanes;
    simd.reduce_max_f32s(simd.max_f32s(simd.max_f32s(a, b), simd.max_f32s(c, d)))
}

/// Every score s becomes 2^(scale · (s − largest)); their sum.
#[inline(always)]
pub(crate) fn weigh<S: Simd>(simd: S, row: &mut [S::f32s], scale: f32, largest: f32) -> f32 {
    let (scale, largest) = (simd.splat_f32s(scale), simd.splat_f32s(largest));
    let (blocks, rest) = row.as_chunks_mut::<4>();
    let mut sums = [simd.splat_f32s(0.0); 4];
    for block in blocks {
        for k in 0..4 {
            block[k] = weight(simd, block[k], scale, largest);
            sums[k] = simd.add_f32s(sums[k], block[k]);
        }
    }
    for (sum, vector) in sums.iter_mut().zip(rest) {
        *vector = weight(simd, *vector, scale, largest);
        *sum = simd.add_f32s(*sum, *vector);
    }
    let [a, b, c, d] = sums;
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))
}

/// 2^(scale · (score − largest)).
#[inline(always)]
fn weight<S: Simd>(simd: S, score: S::f32s, scale: S::f32s, largest: S::f32s) -> S::f32s {
    exp2_nonpositive(simd, simd.mul_f32s(simd.sub_f32s(score, largest), scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    struct Exp2<'a>(&'a mut [f32]);

    impl WithSimd for Exp2<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for t in vectors::<S>(self.0) {
                *t = exp2_nonpositive(simd, *t);
            }
        }
    }

    #[test]
    fn exp2_is_within_two_units_in_the_last_place() {
        let inputs: Vec<f32> = (0..1_258_992).map(|k| k as f32 * -1e-4).collect();
        let mut found = inputs.clone();
        Arch::new().dispatch(Exp2(&mut found));
        for (t, found) in inputs.into_iter().zip(found) {
            let expected = f64::from(t).exp2();
            for found in [found, exp2_nonpositive_scalar(t)] {
                let error = ((f64::from(found) - expected) / expected).abs();
                assert!(error < 2.4e-7, "{t}: {error:e}");
            }
        }
    }

    #[test]
    fn exp2_at_its_ends() {
        let mut values = [0.0; PAD];
        values[..5].copy_from_slice(&[0.0, -127.0, -1e30, f32::NEG_INFINITY, f32::NAN]);
        let mut found = values;
        Arch::new().dispatch(Exp2(&mut found));
        for found in [found, values.map(exp2_nonpositive_scalar)] {
            assert_eq!(found[..4], [1.0, 0.0, 0.0, 0.0]);
            assert!(found[4].is_nan());
        }
    }

    struct Softmax<'a>(&'a mut [f32]);

    impl WithSimd for Softmax<'_> {
        type Output = (f32, f32);

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> (f32, f32) {
            let row = vectors::<S>(self.0);
            let largest = largest(simd, row, f32::NEG_INFINITY);
            (largest, weigh(simd, row, 0.5, largest))
        }
    }

    #[test]
    fn padding_weighs_nothing_in_rows_of_any_length() {
        for len in 1..100usize {
            let mut row = vec![f32::NEG_INFINITY; len.next_multiple_of(PAD)];
            let scores: Vec<f32> = (0..len).map(|k| ((k * 7919) % 100) as f32 * 0.1).collect();
            row[..len].copy_from_slice(&scores);
            let (largest, sum) = Arch::new().dispatch(Softmax(&mut row));
            let most = scores.iter().copied().fold(0.0, f32::max);
            let weights = scores.iter().map(|s| f64::from((s - most) * 0.5).exp2());
            assert_eq!(largest, most);
            assert!((f64::from(sum) - weights.clone().sum::<f64>()).abs() < 1e-4);
            for (found, expected) in row.iter().zip(weights) {
                assert!((f64::from(*found) - expected).abs() < 1e-6);
            }
            assert!(row[len..].iter().all(|weight| *weight == 0.0));
        }
    }
}
