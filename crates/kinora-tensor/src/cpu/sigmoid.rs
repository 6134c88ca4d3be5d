//! The logistic function, written in vectors of the processor at hand.

use super::softmax::exp2_nonpositive;
use pulp::Simd;

/// 1 / (1 + e⁻ˣ), within 1.2e-7; of its own size, within 4e-7 + 1e-7 · |x|. NaN at NaN.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Of −|x|, of which nothing overflows: σ(x) = e⁻|ˣ| / (1 + e⁻|ˣ|) where x is negative.
    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    let rate = simd.splat_f32s(-std::f32::consts::LOG2_E);
    let e = exp2_nonpositive(simd, simd.mul_f32s(simd.abs_f32s(x), rate));
    let above = simd.select_f32s(simd.less_than_f32s(x, zero), e, one);
    simd.div_f32s(above, simd.add_f32s(one, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::softmax::{PAD, vectors};
    use pulp::{Arch, WithSimd};

    struct Sigmoid<'a>(&'a mut [f32]);

    impl WithSimd for Sigmoid<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for x in vectors::<S>(self.0) {
                *x = sigmoid(simd, *x);
            }
        }
    }

    fn run(arch: Arch, values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        values.resize(values.len().next_multiple_of(PAD), 0.0);
        arch.dispatch(Sigmoid(&mut values));
        values
    }

    #[test]
    fn it_is_the_closed_form() {
        let inputs: Vec<f32> = (-200_000..200_000).map(|k| k as f32 * 1e-4).collect();
        for arch in [Arch::new(), Arch::Scalar] {
            for (x, found) in inputs.iter().zip(run(arch, &inputs)) {
                let expected = 1.0 / (1.0 + (-f64::from(*x)).exp());
                let error = (f64::from(found) - expected).abs();
                assert!(error < 1.2e-7, "{x}: {error:e}");
                assert!(
                    error < (4e-7 + 1e-7 * f64::from(x.abs())) * expected,
                    "{x}: {error:e}"
                );
            }
        }
    }

    #[test]
    fn its_ends() {
        let ends = [f32::NEG_INFINITY, -1e30, f32::INFINITY, 0.0, f32::NAN];
        for arch in [Arch::new(), Arch::Scalar] {
            let found = run(arch, &ends);
            assert_eq!(found[..4], [0.0, 0.0, 1.0, 0.5]);
            assert!(found[4].is_nan());
        }
    }
}
