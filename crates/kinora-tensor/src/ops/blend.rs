//! The learned mixture of a spatial and a temporal branch.

use super::linear::wide;
use super::on_card;
use crate::cpu::elementwise;
use crate::{DType, Error, Result, Tensor, cuda, storage};

/// σ(mix) · a + (1 − σ(mix)) · b.
///
/// # Shapes
/// `a` and `b` of one shape, `mix` `[1]` in any element type; the result has the shape of `a`.
///
/// # Errors
/// When the shapes do not agree.
pub fn blend(a: &Tensor, b: &Tensor, mix: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() {
        return Err(Error::shape("blend", format!("{:?}", a.dims()), b.dims()));
    }
    if mix.dims() != [1] {
        return Err(Error::shape("blend", "a mix [1]", mix.dims()));
    }
    if on_card("blend", &[a, b, mix])? {
        return blend_on_card(a, b, mix);
    }
    let share = share(mix);
    let rest = 1.0 - share;
    let mut out = storage::scratch(a.elements());
    elementwise::zip(
        a.as_f32()?,
        b.as_f32()?,
        &mut out,
        #[inline(always)]
        |a, b| share * a + rest * b,
    );
    let (a_kept, b_kept) = (a.clone(), b.clone());
    Ok(Tensor::recorded(
        out,
        a.shape(),
        &[a, b, mix],
        move |dy, wanted| {
            let scaled =
                |wanted: bool, factor: f32| wanted.then(|| super::scale(dy, factor)).transpose();
            let dmix = if wanted[2] {
                let product = |x: &Tensor| {
                    let terms = |x: f32, dy: f32| x * dy;
                    Ok::<_, Error>(elementwise::sum_zip(x.as_f32()?, dy.as_f32()?, terms))
                };
                let slope = product(&super::sub(&a_kept, &b_kept)?)?;
                let dmix = slope * f64::from(share) * f64::from(rest);
                Some(Tensor::from_vec(vec![dmix as f32], [1])?)
            } else {
                None
            };
            Ok(vec![
                scaled(wanted[0], share)?,
                scaled(wanted[1], rest)?,
                dmix,
            ])
        },
    ))
}

/// σ(mix), in f64 and not by the approximation of the kernels: one number steers a whole array.
pub(super) fn share(mix: &Tensor) -> f32 {
    (1.0 / (1.0 + (-f64::from(wide(mix)[0])).exp())) as f32
}

fn blend_on_card(a: &Tensor, b: &Tensor, mix: &Tensor) -> Result<Tensor> {
    use cuda::mixing;
    let wide_mix = mix.to_dtype(DType::F32)?;
    let y = mixing::blend(a.array()?, b.array()?, wide_mix.array()?)?;
    let (a_kept, b_kept, dtype) = (a.detach(), b.detach(), mix.dtype());
    Ok(Tensor::recorded(
        y,
        a.shape(),
        &[a, b, mix],
        move |dy, wanted| {
            let mix = wide_mix.array()?;
            let [da, db] = mixing::blend_backward(dy.array()?, mix)?;
            let mut parts = vec![
                Some(Tensor::from_values(da, dy.shape())?),
                Some(Tensor::from_values(db, dy.shape())?),
                None,
            ];
            if wanted[2] {
                let operands = [a_kept.array()?, b_kept.array()?, dy.array()?];
                let dmix = mixing::blend_mix_gradient(operands, mix, dtype)?;
                parts[2] = Some(Tensor::from_values(dmix, [1])?);
            }
            Ok(parts)
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::testing::{assert_close, check_gradients, numbers};

    #[test]
    fn agrees_with_the_loop() -> Result<()> {
        let (a, b) = (numbers([3, 70_001], 1), numbers([3, 70_001], 2));
        for mix in [-2.0f32, 0.0, 0.5, 30.0] {
            let share = 1.0 / (1.0 + (-mix).exp());
            let expected: Vec<f32> = (a.to_vec().iter().zip(b.to_vec()))
                .map(|(a, b)| share * a + (1.0 - share) * b)
                .collect();
            let mix = Tensor::full(mix, [1]);
            assert_close(&blend(&a, &b, &mix)?.to_vec(), &expected, 1e-6);
            let half = blend(&a, &b, &mix.cast(DType::F16))?;
            assert_close(&half.to_vec(), &expected, 1e-6);
        }
        Ok(())
    }

    #[test]
    fn derivative() {
        let inputs = [
            numbers([2, 3, 4], 1),
            numbers([2, 3, 4], 2),
            numbers([1], 3),
        ];
        check_gradients(&inputs, |inputs| blend(&inputs[0], &inputs[1], &inputs[2]));
    }

    #[test]
    fn refuses_shapes_that_do_not_agree() {
        let (a, b, mix) = (numbers([2, 3], 1), numbers([3, 2], 2), numbers([1], 3));
        let error = blend(&a, &b, &mix).unwrap_err();
        assert_eq!(error.to_string(), "blend: expected [2, 3], found [3, 2]");
        assert!(blend(&a, &a, &b).is_err());
    }
}
