//! Functions of one element.

use super::on_card;
use crate::cpu::{elementwise, exp};
use crate::{Error, Result, Tensor, cuda, storage};

/// The names of a function's kernels on a card.
#[derive(Clone, Copy)]
struct Op {
    forward: &'static str,
    backward: &'static str,
}

/// Kernels `name` and `name_backward` without parameters.
macro_rules! kernels {
    ($name:literal) => {
        kernels!($name, [0.0, 0.0])
    };
    ($name:literal, $parameters:expr) => {
        (
            Op {
                forward: $name,
                backward: concat!($name, "_backward"),
            },
            $parameters,
        )
    };
}

/// f(x) element by element, with its derivative `slope`; on a card, the kernels of that name and
/// their two parameters.
fn pointwise(
    (op, parameters): (Op, [f32; 2]),
    x: &Tensor,
    f: impl Fn(f32) -> f32 + Sync + Copy,
    slope: impl Fn(f32) -> f32 + Send + Sync + Copy + 'static,
) -> Result<Tensor> {
    let kept = x.clone();
    if on_card(op.forward, &[x])? {
        let out = cuda::pointwise(op.forward, x.array()?, parameters)?;
        return Ok(Tensor::recorded(out, x.shape(), &[x], move |dy, _| {
            let (x, dy) = (kept.array()?, dy.array()?);
            let dx = cuda::pointwise_slope(op.backward, x, dy, parameters)?;
            Ok(vec![Some(Tensor::from_values(dx, kept.shape())?)])
        }));
    }
    let mut out = storage::scratch(x.elements());
    elementwise::map(x.as_f32()?, &mut out, f);
    Ok(Tensor::recorded(out, x.shape(), &[x], move |dy, _| {
        let mut dx = storage::scratch(kept.elements());
        elementwise::zip(
            kept.as_f32()?,
            dy.as_f32()?,
            &mut dx,
            #[inline(always)]
            move |x, dy| slope(x) * dy,
        );
        Ok(vec![Some(Tensor::from_vec(dx, kept.shape())?)])
    }))
}

/// x · σ(x), the swish.
///
/// # Shapes
/// Any; the result has that of `x`.
///
/// # Errors
/// When `x` is not f32.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    pointwise(
        kernels!("silu"),
        x,
        #[inline(always)]
        |x| x * exp::sigmoid(x),
        #[inline(always)]
        |x| {
            let s = exp::sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        },
    )
}

/// x · Φ(x) with Φ the normal distribution function: the exact GELU, not the tanh form.
///
/// # Shapes
/// Any; the result has that of `x`.
///
/// # Errors
/// When `x` is not f32.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    pointwise(kernels!("gelu"), x, exp::gelu, gelu_slope)
}

#[inline(always)]
pub(super) fn gelu_slope(x: f32) -> f32 {
    exp::normal_cdf(x) + x * exp::normal_density(x)
}

/// x · σ(1.702 x), the approximation CLIP's first towers were trained with.
///
/// # Shapes
/// Any; the result has that of `x`.
///
/// # Errors
/// When `x` is not f32.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    const A: f32 = 1.702;
    pointwise(
        kernels!("quick_gelu"),
        x,
        #[inline(always)]
        |x| x * exp::sigmoid(A * x),
        #[inline(always)]
        |x| {
            let s = exp::sigmoid(A * x);
            s * (1.0 + A * x * (1.0 - s))
        },
    )
}

/// σ(x) = 1 / (1 + e⁻ˣ).
///
/// # Shapes
/// Any; the result has that of `x`.
///
/// # Errors
/// When `x` is not f32.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    pointwise(
        kernels!("sigmoid_map"),
        x,
        exp::sigmoid,
        #[inline(always)]
        |x| {
            let s = exp::sigmoid(x);
            s * (1.0 - s)
        },
    )
}

/// eˣ.
///
/// # Shapes
/// Any; the result has that of `x`.
///
/// # Errors
/// When `x` is not f32.
pub fn exp(x: &Tensor) -> Result<Tensor> {
    pointwise(kernels!("exp_map"), x, exp::exp, exp::exp)
}

/// x².
///
/// # Shapes
/// Any; the result has that of `x`.
///
/// # Errors
/// When `x` is not f32.
pub fn square(x: &Tensor) -> Result<Tensor> {
    pointwise(
        kernels!("square"),
        x,
        #[inline(always)]
        |x| x * x,
        #[inline(always)]
        |x| 2.0 * x,
    )
}

/// |x|. The derivative at 0 is taken as 0.
///
/// # Shapes
/// Any; the result has that of `x`.
///
/// # Errors
/// When `x` is not f32.
pub fn abs(x: &Tensor) -> Result<Tensor> {
    pointwise(
        kernels!("abs_map"),
        x,
        #[inline(always)]
        |x| x.abs(),
        sign,
    )
}

/// −1, 0 or 1; 0 at 0, unlike `f32::signum`.
#[inline(always)]
pub(super) fn sign(x: f32) -> f32 {
    f32::from(x > 0.0) - f32::from(x < 0.0)
}

/// x held between `low` and `high`. The derivative is 1 between them, bounds included, 0 outside.
///
/// # Shapes
/// Any; the result has that of `x`.
///
/// # Errors
/// When `low` is not at most `high`, or `x` is not f32.
pub fn clamp(x: &Tensor, low: f32, high: f32) -> Result<Tensor> {
    if !matches!(low.partial_cmp(&high), Some(order) if order.is_le()) {
        return Err(Error::argument(
            "clamp",
            format!("expected low ≤ high, found {low} and {high}; give the lower bound first"),
        ));
    }
    pointwise(
        kernels!("clamp", [low, high]),
        x,
        #[inline(always)]
        // Comparisons rather than `max` and `min`, so that a NaN stays one.
        move |x| match x {
            x if x < low => low,
            x if x > high => high,
            x => x,
        },
        #[inline(always)]
        move |x| f32::from(x >= low && x <= high),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, check_gradients, numbers};
    use crate::{DType, ops};

    /// Values in [−6, 6), where every function here still bends.
    fn wide_numbers() -> Tensor {
        ops::scale(&numbers([3, 7, 11], 1), 6.0).unwrap()
    }

    #[test]
    fn agree_with_their_formulas_in_double_precision() -> Result<()> {
        let x = wide_numbers();
        type Case = (fn(&Tensor) -> Result<Tensor>, fn(f64) -> f64);
        let cases: [Case; 6] = [
            (silu, |x| x / (1.0 + (-x).exp())),
            (quick_gelu, |x| x / (1.0 + (-1.702 * x).exp())),
            (sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
            (exp, f64::exp),
            (square, |x| x * x),
            (abs, f64::abs),
        ];
        for (op, formula) in cases {
            let expected: Vec<f32> = x
                .to_vec()
                .iter()
                .map(|x| formula(f64::from(*x)) as f32)
                .collect();
            assert_eq!(op(&x)?.dims(), x.dims());
            assert_close(&op(&x)?.to_vec(), &expected, 2e-7);
        }
        let expected: Vec<f32> = x.to_vec().iter().map(|x| x.clamp(-0.5, 2.0)).collect();
        assert_eq!(clamp(&x, -0.5, 2.0)?.to_vec(), expected);
        Ok(())
    }

    #[test]
    fn gelu_meets_known_values() -> Result<()> {
        // Φ(1) = 0.8413447460685429, Φ(2) = 0.9772498680518208, Φ(3) = 0.9986501019683699.
        let x = Tensor::from_vec(vec![-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, -20.0, 20.0], [9])?;
        let expected = [
            -0.004_049_694,
            -0.045_500_264,
            -0.158_655_25,
            0.0,
            0.841_344_8,
            1.954_499_7,
            2.995_950_3,
            0.0,
            20.0,
        ];
        for (found, expected) in gelu(&x)?.to_vec().iter().zip(expected) {
            assert!((found - expected).abs() < 2e-6, "{found} {expected}");
        }
        Ok(())
    }

    #[test]
    fn derivatives() {
        let x = [wide_numbers()];
        for op in [silu, gelu, quick_gelu, sigmoid, square] {
            check_gradients(&x, |inputs| op(&inputs[0]));
        }
        check_gradients(&[numbers([3, 7], 2)], |inputs| exp(&inputs[0]));
    }

    #[test]
    fn derivatives_with_a_corner() -> Result<()> {
        let x = Tensor::from_vec(vec![-3.0, -0.5, 0.0, 0.25, 2.0, 7.0], [6])?.tracked();
        let slopes = |y: Tensor| Ok::<_, Error>(y.backward()?.get(&x).unwrap().to_vec());
        assert_eq!(slopes(abs(&x)?)?, vec![-1.0, -1.0, 0.0, 1.0, 1.0, 1.0]);
        assert_eq!(
            slopes(clamp(&x, -0.5, 2.0)?)?,
            vec![0.0, 1.0, 1.0, 1.0, 1.0, 0.0]
        );
        Ok(())
    }

    #[test]
    fn a_nan_stays_one() -> Result<()> {
        let x = Tensor::from_vec(vec![f32::NAN], [1])?;
        for op in [silu, gelu, quick_gelu, sigmoid, exp, square, abs] {
            assert!(op(&x)?.to_vec()[0].is_nan());
        }
        assert!(clamp(&x, 0.0, 1.0)?.to_vec()[0].is_nan());
        Ok(())
    }

    #[test]
    fn refuse_what_they_cannot_take() {
        let half = numbers([2], 1).cast(DType::F16);
        assert!(silu(&half).is_err());
        let error = clamp(&numbers([2], 1), 1.0, 0.0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "clamp: expected low ≤ high, found 1 and 0; give the lower bound first"
        );
        assert!(clamp(&numbers([2], 1), f32::NAN, 0.0).is_err());
    }
}
