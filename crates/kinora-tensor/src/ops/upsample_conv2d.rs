//! Pictures of twice the size and their convolution, in one.

use super::{Conv2d, conv2d, linear::wide, on_card, upsample_nearest};
use crate::cpu::winograd::{Direction, Grid, OverDoubled, Weight};
use crate::{Result, Tensor, storage};

/// [`conv2d`] of [`upsample_nearest`], 3×3 over every pixel. Where nothing is trained, and there are channels and pixels
/// enough, the processor does not make the doubled pictures: three taps meet two pixels there, so that each quarter of
/// the places has a 2×2 kernel of its own, of sums of taps.
///
/// # Shapes
/// `x` `[n, h, w, i]`, `kernel` `[o, 3, 3, i]` in any element type, `b` `[o]`; the result is `[n, 2h, 2w, o]`.
///
/// # Errors
/// As those of [`upsample_nearest`] and [`conv2d`].
pub fn upsample_conv2d(x: &Tensor, kernel: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let operands: Vec<&Tensor> = [x, kernel].into_iter().chain(b).collect();
    let apart = || conv2d(&upsample_nearest(x)?, kernel, b, Conv2d::same());
    if on_card("upsample_conv2d", &operands)? || operands.iter().any(|x| x.is_tracked()) {
        return apart();
    }
    let (&[n, h, w, i], &[o, 3, 3, from]) = (x.dims(), kernel.dims()) else {
        return apart(); // and be told what is wrong
    };
    if from != i || b.is_some_and(|b| b.dims() != [o]) {
        return apart();
    }
    let bias = b.map(wide);
    let job = OverDoubled {
        grid: Grid::doubled(n, [h, w]),
        pixels: x.as_f32()?,
        weight: Weight::new(kernel, Direction::Forward),
        bias: bias.as_deref(),
        onto: None,
        from: i,
        to: o,
    };
    if !job.pays_undoubled() {
        return apart();
    }
    let mut y = storage::scratch(4 * n * h * w * o);
    job.run(&mut y);
    Tensor::from_vec(y, [n, 2 * h, 2 * w, o])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::testing::{check_gradients, numbers, relative_l2};

    fn operands([n, h, w, i]: [usize; 4], o: usize) -> [Tensor; 3] {
        let x = numbers([n, h, w, i], 1);
        [x, numbers([o, 3, 3, i], 2), numbers([o], 3)]
    }

    fn apart(x: &Tensor, kernel: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
        conv2d(&upsample_nearest(x)?, kernel, b, Conv2d::same())
    }

    #[test]
    fn agrees_with_one_after_the_other() -> Result<()> {
        for (extents, o) in [([1, 1, 1, 1], 1), ([2, 3, 5, 7], 4), ([2, 20, 24, 64], 64)] {
            let [x, kernel, b] = operands(extents, o);
            for b in [None, Some(&b)] {
                let y = upsample_conv2d(&x, &kernel, b)?;
                let expected = apart(&x, &kernel, b)?;
                assert_eq!(y.dims(), expected.dims());
                let error = relative_l2(&y.to_vec(), &expected.to_vec());
                assert!(error < 2e-6, "{extents:?} to {o}: {error:e}");
            }
        }
        Ok(())
    }

    #[test]
    fn weights_in_sixteen_bits_are_widened() -> Result<()> {
        let [x, kernel, _] = operands([2, 20, 24, 64], 64);
        for dtype in [DType::F16, DType::BF16] {
            let kernel = kernel.cast(dtype);
            let y = upsample_conv2d(&x, &kernel, None)?.to_vec();
            let wide = upsample_conv2d(&x, &kernel.cast(DType::F32), None)?.to_vec();
            assert!(y == wide);
        }
        Ok(())
    }

    #[test]
    fn what_is_trained_is_doubled_first() -> Result<()> {
        let [x, kernel, b] = operands([2, 20, 24, 64], 64);
        let doubled = apart(&x, &kernel, Some(&b))?.to_vec();
        assert!(upsample_conv2d(&x, &kernel, Some(&b))?.to_vec() != doubled);
        let kernel = kernel.tracked();
        assert!(upsample_conv2d(&x, &kernel, Some(&b))?.to_vec() == doubled);
        Ok(())
    }

    #[test]
    fn derivative() {
        check_gradients(&operands([1, 2, 3, 2], 3), |inputs| {
            upsample_conv2d(&inputs[0], &inputs[1], Some(&inputs[2]))
        });
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let [x, kernel, b] = operands([1, 2, 3, 2], 3);
        let error = |x: &Tensor, kernel: &Tensor, b: &Tensor| {
            upsample_conv2d(x, kernel, Some(b)).unwrap_err().to_string()
        };
        let other = numbers([3, 3, 3, 4], 1);
        assert_eq!(
            error(&x, &other, &b),
            "conv2d: expected x [n, h, w, 4], found [1, 4, 6, 2]"
        );
        assert_eq!(
            error(&x, &kernel, &numbers([4], 1)),
            "conv2d: expected a bias [3], found [4]"
        );
        assert_eq!(
            error(&b, &kernel, &b),
            "upsample_nearest: expected [n, h, w, c], found [3]"
        );
    }
}
