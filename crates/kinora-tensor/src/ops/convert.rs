//! The same values in another element type, with the way back.

use crate::{DType, Result, Tensor};

/// `x` stored as `dtype`, rounded to nearest even; its gradient comes back in the type of `x`. This is
/// where a network that computes in 16 bits meets a loss in f32.
///
/// # Shapes
/// Any; kept.
///
/// # Errors
/// When a card fails or has no memory left.
pub fn convert(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let before = x.dtype();
    if before == dtype {
        return Ok(x.clone());
    }
    let made = x.to_dtype(dtype)?;
    Ok(Tensor::recorded_as(&made, x, move |dy, _| {
        Ok(vec![Some(dy.to_dtype(before)?)])
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;
    use crate::testing::{check_gradients, numbers};

    #[test]
    fn rounds_as_a_cast_does() -> Result<()> {
        let x = numbers([3, 5], 1);
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let found = convert(&x, dtype)?;
            assert_eq!((found.dtype(), found.dims()), (dtype, x.dims()));
            let expected: Vec<f32> = match dtype {
                DType::F32 => x.to_vec(),
                DType::F16 => {
                    let round = |v: f32| half::f16::from_f32(v).to_f32();
                    x.to_vec().into_iter().map(round).collect()
                }
                DType::BF16 => {
                    let round = |v: f32| half::bf16::from_f32(v).to_f32();
                    x.to_vec().into_iter().map(round).collect()
                }
            };
            assert_eq!(found.to_vec(), expected);
        }
        Ok(())
    }

    #[test]
    fn derivative() -> Result<()> {
        check_gradients(&[numbers([3, 4], 1)], |inputs| {
            convert(&inputs[0], DType::F32)
        });
        // Through 16 bits a finite difference would see steps; the gradient is that of the identity.
        let x = numbers([3, 4], 1).tracked();
        let there = convert(&x, DType::BF16)?;
        assert!(there.is_tracked());
        let back = convert(&there, DType::F32)?;
        let gradients = ops::sum(&ops::scale(&back, 0.5)?)?.backward()?;
        let found = gradients.get(&x).expect("a gradient");
        assert_eq!((found.dtype(), found.to_vec()), (DType::F32, vec![0.5; 12]));
        Ok(())
    }
}
