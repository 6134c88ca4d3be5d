//! Distances between a prediction and its target.

use super::activation::sign;
use super::on_card;
use crate::cpu::elementwise;
use crate::{Error, Result, Tensor, cuda, storage};

/// The mean of (x − y)². The result is `[1]`.
///
/// # Shapes
/// `x` and `y` of one shape.
///
/// # Errors
/// When the shapes differ or nothing is in them.
pub fn mse(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    mean_distance(
        "mse",
        x,
        y,
        #[inline(always)]
        |d| d * d,
        #[inline(always)]
        |d| 2.0 * d,
    )
}

/// The mean of |x − y|. The result is `[1]`.
///
/// # Shapes
/// `x` and `y` of one shape.
///
/// # Errors
/// When the shapes differ or nothing is in them.
pub fn l1(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    mean_distance(
        "l1",
        x,
        y,
        #[inline(always)]
        |d| d.abs(),
        sign,
    )
}

fn mean_distance(
    op: &'static str,
    x: &Tensor,
    y: &Tensor,
    distance: impl Fn(f32) -> f32 + Sync + Copy,
    slope: impl Fn(f32) -> f32 + Send + Sync + Copy + 'static,
) -> Result<Tensor> {
    if x.dims() != y.dims() {
        return Err(Error::shape(
            op,
            format!("{:?} on both sides", x.dims()),
            y.dims(),
        ));
    }
    let count = x.elements();
    if count == 0 {
        return Err(Error::shape(op, "one element at least", x.dims()));
    }
    if on_card(op, &[x, y])? {
        return mean_distance_on_card(x, y, op == "mse");
    }
    let total = elementwise::sum_zip(
        x.as_f32()?,
        y.as_f32()?,
        #[inline(always)]
        |x, y| distance(x - y),
    );
    let mean = (total / count as f64) as f32;
    let (x_kept, y_kept) = (x.clone(), y.clone());
    Ok(Tensor::recorded(
        vec![mean],
        [1],
        &[x, y],
        move |dy, wanted| {
            let factor = dy.as_f32()?[0] / count as f32;
            let mut dx = storage::scratch(count);
            elementwise::zip(
                x_kept.as_f32()?,
                y_kept.as_f32()?,
                &mut dx,
                #[inline(always)]
                move |x, y| factor * slope(x - y),
            );
            let dx = Tensor::from_vec(dx, x_kept.shape())?;
            let dy = wanted[1].then(|| super::scale(&dx, -1.0)).transpose()?;
            Ok(vec![wanted[0].then_some(dx), dy])
        },
    ))
}

fn mean_distance_on_card(x: &Tensor, y: &Tensor, squared: bool) -> Result<Tensor> {
    use cuda::mixing;
    let mean = mixing::mean_distance(x.array()?, y.array()?, squared)?;
    let (x_kept, y_kept) = (x.detach(), y.detach());
    Ok(Tensor::recorded(mean, [1], &[x, y], move |dy, wanted| {
        let operands = [x_kept.array()?, y_kept.array()?, dy.array()?];
        let part = |wanted: bool, sign: f32| {
            let found = wanted.then(|| {
                let dx = mixing::mean_distance_backward(operands, squared, sign)?;
                Tensor::from_values(dx, x_kept.shape())
            });
            found.transpose()
        };
        Ok(vec![part(wanted[0], 1.0)?, part(wanted[1], -1.0)?])
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, check_gradients, numbers};

    #[test]
    fn agree_with_the_loop() -> Result<()> {
        let (x, y) = (numbers([3, 70_001], 1), numbers([3, 70_001], 2));
        let mean = |f: fn(f64) -> f64| {
            let pairs = x.to_vec().into_iter().zip(y.to_vec());
            pairs
                .map(|(x, y)| f(f64::from(x) - f64::from(y)))
                .sum::<f64>()
                / 210_003.0
        };
        assert_close(&mse(&x, &y)?.to_vec(), &[mean(|d| d * d) as f32], 1e-6);
        assert_close(&l1(&x, &y)?.to_vec(), &[mean(f64::abs) as f32], 1e-6);
        assert_eq!(mse(&x, &x)?.to_vec(), [0.0]);
        Ok(())
    }

    #[test]
    fn derivatives() {
        let pair = [numbers([3, 4], 1), numbers([3, 4], 2)];
        check_gradients(&pair, |inputs| mse(&inputs[0], &inputs[1]));
        check_gradients(&pair, |inputs| l1(&inputs[0], &inputs[1]));
    }

    #[test]
    fn refuse_shapes_that_differ() {
        let (x, y) = (numbers([2, 3], 1), numbers([3, 2], 2));
        for (name, op) in [("mse", mse as fn(&_, &_) -> _), ("l1", l1)] {
            let error: Error = op(&x, &y).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{name}: expected [2, 3] on both sides, found [3, 2]")
            );
            assert!(op(&numbers([0], 1), &numbers([0], 1)).is_err());
        }
    }
}
