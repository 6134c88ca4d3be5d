//! Sums and means over everything.

use super::on_card;
use crate::cpu::elementwise;
use crate::{Result, Tensor, cuda};

/// The sum of all elements, accumulated in f64. The result is `[1]`.
///
/// # Errors
/// When `x` is not f32.
pub fn sum(x: &Tensor) -> Result<Tensor> {
    scaled_sum(x, 1.0)
}

/// The mean of all elements, accumulated in f64. The result is `[1]`.
///
/// # Errors
/// When `x` is not f32.
pub fn mean(x: &Tensor) -> Result<Tensor> {
    scaled_sum(x, 1.0 / x.elements() as f64)
}

fn scaled_sum(x: &Tensor, factor: f64) -> Result<Tensor> {
    if on_card("sum", &[x])? {
        let total = cuda::mixing::scaled_sum(x.array()?, factor as f32)?;
        let kept = x.detach();
        return Ok(Tensor::recorded(total, [1], &[x], move |dy, _| {
            let (dy, x) = (dy.array()?, kept.array()?);
            let dx = cuda::mixing::scaled_sum_backward(dy, factor as f32, x)?;
            Ok(vec![Some(Tensor::from_values(dx, kept.shape())?)])
        }));
    }
    let total = elementwise::sum(x.as_f32()?, |v| v) * factor;
    let shape = x.shape().clone();
    Ok(Tensor::recorded(
        vec![total as f32],
        [1],
        &[x],
        move |dy, _| {
            Ok(vec![Some(Tensor::full(
                dy.as_f32()?[0] * factor as f32,
                &shape,
            ))])
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, check_gradients, numbers};

    #[test]
    fn agrees_with_the_loop() -> Result<()> {
        let x = numbers([3, 70_001], 4);
        let expected: f64 = x.to_vec().iter().map(|v| f64::from(*v)).sum();
        assert_close(&sum(&x)?.to_vec(), &[expected as f32], 1e-6);
        assert_close(&mean(&x)?.to_vec(), &[(expected / 210_003.0) as f32], 1e-6);
        Ok(())
    }

    #[test]
    fn derivative() {
        check_gradients(&[numbers([3, 4], 1)], |inputs| sum(&inputs[0]));
        check_gradients(&[numbers([3, 4], 1)], |inputs| mean(&inputs[0]));
    }
}
