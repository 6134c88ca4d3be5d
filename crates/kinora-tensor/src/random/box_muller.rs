//! Normal draws from uniform ones (Box and Muller 1958), rounded the same on every machine.
//!
//! The logarithm, sine and cosine are the single-precision polynomials of Moshier's Cephes library,
//! with every multiply-add rounded once. PyTorch computes its normal draws so on x86, which is why a
//! seed gives the same picture here; and since only exactly rounded operations are used, it gives it
//! on processors and accelerators of any kind.

use std::f32::consts::{FRAC_1_SQRT_2, PI};

/// The pair √(−2 ln u₁) · (cos 2πu₂, sin 2πu₂), for u₁ in (0, 1] and u₂ in [0, 1).
#[inline(always)]
pub(super) fn normal_pair(u1: f32, u2: f32) -> [f32; 2] {
    let radius = (-2.0 * ln(u1)).sqrt();
    let (sin, cos) = sin_cos((2.0 * PI) * u2);
    // Adding 0 makes −0 positive, as PyTorch's "times deviation plus mean" does.
    [radius * cos + 0.0, radius * sin + 0.0]
}

/// c[0] xⁿ + … + c[n], one rounding a step.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    for c in &coefficients[1..] {
        sum = sum.mul_add(x, *c);
    }
    sum
}

/// ln x for positive, normal x.
#[inline(always)]
fn ln(x: f32) -> f32 {
    // x = m · 2ᵉ with √½ ≤ m < √2.
    let bits = x.to_bits();
    let half = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let low = half < FRAC_1_SQRT_2;
    let e = ((bits >> 23) as i32 - if low { 127 } else { 126 }) as f32;
    let r = if low { (half - 1.0) + half } else { half - 1.0 };
    // ln(1 + r) = r − r²/2 + r³ · p(r); e · ln 2 is added in two parts, the small one first.
    let p = polynomial(
        r,
        [
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    );
    let square = r * r;
    let tail = (p * r).mul_add(square, e * -2.121_944_4e-4) - 0.5 * square;
    e.mul_add(0.693_359_4, r + tail)
}

/// (sin x, cos x) for x from 0 to some thousands.
#[inline(always)]
fn sin_cos(x: f32) -> (f32, f32) {
    // x = j · π/4 + r with j even and |r| ≤ π/4; π/4 is taken off in three parts.
    let j = ((x * (4.0 / PI)) as i32 + 1) & !1;
    let n = j as f32;
    let r = n.mul_add(-0.785_156_25, x);
    let r = n.mul_add(-2.418_756_5e-4, r);
    let r = n.mul_add(-3.774_895e-8, r);
    let square = r * r;
    let sin = polynomial(square, [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]) * square;
    let sin = sin.mul_add(r, r);
    let cos = polynomial(square, [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]) * square;
    let cos = cos.mul_add(square, -0.5 * square) + 1.0;
    // Quarter turns exchange the two and set their signs.
    let (sin, cos) = if j & 2 == 0 { (sin, cos) } else { (cos, sin) };
    let sin = if j & 4 == 0 { sin } else { -sin };
    let cos = if (j + 2) & 4 == 0 { cos } else { -cos };
    (sin, cos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_is_within_two_units_in_the_last_place() {
        for k in 1..=1_000_000u32 {
            let x = k as f32 / 1e6;
            let expected = f64::from(x).ln();
            let error = (f64::from(ln(x)) - expected).abs();
            assert!(error <= expected.abs() * 1.2e-7 + 1e-9, "{x} {error:e}");
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn sine_and_cosine_are_within_a_ten_millionth() {
        for k in 0..1_000_000u32 {
            let x = k as f32 * 6.283_185e-6;
            let (sin, cos) = sin_cos(x);
            assert!((f64::from(sin) - f64::from(x).sin()).abs() < 1.2e-7, "{x}");
            assert!((f64::from(cos) - f64::from(x).cos()).abs() < 1.2e-7, "{x}");
        }
    }

    #[test]
    fn the_ends_of_the_range_are_finite() {
        assert_eq!(normal_pair(1.0, 0.5), [0.0, 0.0]);
        let [a, b] = normal_pair(f32::EPSILON / 2.0, 0.0);
        assert!((a - (48.0 * std::f32::consts::LN_2).sqrt()).abs() < 1e-5 && b == 0.0);
    }
}
