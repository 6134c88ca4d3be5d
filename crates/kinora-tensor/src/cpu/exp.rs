//! Exponentials written so that the compiler turns a loop over them into vector instructions: no
//! branch, no table, no library call, and no fused multiply-add, which without hardware support
//! becomes a call for each element.

/// eˣ within 2 units in the last place.
///
/// 0 below −87 (where the true value is under 2e-38, so no subnormal slows the loop), ∞ above
/// 88.73, NaN at NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Comparisons rather than `max` and `min`, which would swallow a NaN.
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    // x = n ln 2 + r with n whole and |r| ≤ ln 2 / 2. Adding 1.5 · 2²³ rounds to a whole number and
    // leaves it in the low bits; ln 2 in two parts keeps r exact.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    // (eʳ − 1 − r) / r², fitted for the least largest relative error of eʳ: 3e-9.
    let p = 0.001_381_459_6;
    let p = p * r + 0.008_368_718;
    let p = p * r + 0.041_668_39;
    let p = p * r + 0.166_665_2;
    let p = p * r + 0.499_999_94;
    let p = p * (r * r) + r + 1.0;
    // 2ⁿ⁻¹ from its bits, then doubled: n = 128 still has an exponent, and n = −126 becomes 0.
    let bits = shifted.to_bits().wrapping_sub(ROUND.to_bits() - 126) << 23;
    (p * 2.0) * f32::from_bits(bits)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The error function 2/√π ∫₀ˣ exp(−u²) du, within 5e-7.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    // Beyond ±3.84 it is ±1 to within 6e-8.
    const LAST: f32 = 3.84;
    let x = if x < -LAST { -LAST } else { x };
    let x = if x > LAST { LAST } else { x };
    // x · P(x²) / Q(x²), fitted for the least largest error: 1.2e-8 before rounding.
    let u = x * x;
    let p = 2.098_802_2e-6;
    let p = p * u + 2.876_544e-4;
    let p = p * u + 3.748_043_3e-3;
    let p = p * u + 5.270_529_5e-2;
    let p = p * u + 1.895_856_3e-1;
    let p = p * u + std::f32::consts::FRAC_2_SQRT_PI;
    let q = 3.873_851e-5;
    let q = q * u + 1.164_147_5e-3;
    let q = q * u + 1.493_144_3e-2;
    let q = q * u + 1.138_295_5e-1;
    let q = q * u + 5.013_479_7e-1;
    let q = q * u + 1.0;
    x * p / q
}

/// The normal distribution function Φ(x) = (1 + erf(x / √2)) / 2.
#[inline(always)]
pub(crate) fn normal_cdf(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// x · Φ(x): GELU, Hendrycks and Gimpel 2016.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    x * normal_cdf(x)
}

/// The normal density φ(x) = exp(−x² / 2) / √(2π).
#[inline(always)]
pub(crate) fn normal_density(x: f32) -> f32 {
    const FACTOR: f32 = 0.398_942_3;
    FACTOR * exp(-0.5 * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for k in -8_680_000i32..=8_872_000 {
            let x = k as f32 * 1e-5;
            let expected = f64::from(x).exp();
            worst = worst.max(((f64::from(exp(x)) - expected) / expected).abs());
        }
        // The relative size of a unit in the last place is between half an epsilon and a whole one.
        assert!(worst < f64::from(f32::EPSILON), "{worst:e}");
    }

    #[test]
    fn exp_at_its_ends() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(88.72).is_finite());
        assert_eq!(exp(88.75), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    /// erf by its Taylor series (small x) or the continued fraction of erfc (large x), in f64.
    fn erf_slow(x: f64) -> f64 {
        if x.abs() < 3.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..100 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return sum * std::f64::consts::FRAC_2_SQRT_PI;
        }
        let tail = (1..=60)
            .rev()
            .fold(x.abs(), |tail, n| x.abs() + f64::from(n) / 2.0 / tail);
        let erfc = (-x * x).exp() / tail / std::f64::consts::PI.sqrt();
        x.signum() * (1.0 - erfc)
    }

    #[test]
    fn erf_is_within_five_ten_millionths() {
        assert!((erf_slow(0.5) - 0.520_499_877_813_046_5).abs() < 1e-15);
        assert!((erf_slow(3.5) - 0.999_999_256_901_627_7).abs() < 1e-15);
        let mut worst = 0.0f64;
        for k in -60_000..=60_000 {
            let x = k as f32 * 1e-4;
            worst = worst.max((f64::from(erf(x)) - erf_slow(f64::from(x))).abs());
        }
        assert!(worst < 5e-7, "{worst:e}");
        assert_eq!(erf(0.0), 0.0);
        assert!(erf(f32::NAN).is_nan());
        assert!((erf(f32::INFINITY) - 1.0).abs() < 2e-7);
    }

    #[test]
    fn sigmoid_and_the_normal_law_meet_their_closed_forms() {
        for k in -1000..=1000 {
            let x = k as f32 * 0.01;
            assert!((sigmoid(x) + sigmoid(-x) - 1.0).abs() < 3e-7);
            assert!((normal_cdf(x) + normal_cdf(-x) - 1.0).abs() < 3e-7);
            // dΦ/dx = φ.
            let slope = (normal_cdf(x + 0.05) - normal_cdf(x - 0.05)) / 0.1;
            assert!((slope - normal_density(x)).abs() < 3e-4);
        }
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
    }
}
