//! Pictures of twice the size.

use super::on_card;
use crate::cpu::vectorised;
use crate::{Error, Result, Tensor, cuda, storage};
use rayon::prelude::*;

/// Every pixel becomes a square of four.
///
/// # Shapes
/// `x` `[n, h, w, c]`; the result is `[n, 2h, 2w, c]`.
///
/// # Errors
/// When `x` is not a batch of pictures.
pub fn upsample_nearest(x: &Tensor) -> Result<Tensor> {
    let &[n, h, w, c] = x.dims() else {
        return Err(Error::shape("upsample_nearest", "[n, h, w, c]", x.dims()));
    };
    if on_card("upsample_nearest", &[x])? {
        let y = cuda::layout::upsample(x.array()?, [h, w, c])?;
        let (shape, dims) = (x.shape().clone(), [n, 2 * h, 2 * w, c]);
        return Ok(Tensor::recorded(y, dims, &[x], move |dy, _| {
            let dx = cuda::layout::upsample_backward(dy.array()?, [h, w, c])?;
            Ok(vec![Some(Tensor::from_values(dx, &shape)?)])
        }));
    }
    let mut y = storage::scratch(4 * x.elements());
    let line = (w * c).max(1);
    y.par_chunks_mut(4 * line)
        .zip(x.as_f32()?.par_chunks(line))
        .for_each(|(two_lines, pixels)| {
            let (first, second) = two_lines.split_at_mut(2 * line);
            for (out, pixel) in first.chunks_exact_mut(2 * c).zip(pixels.chunks_exact(c)) {
                out[..c].copy_from_slice(pixel);
                out[c..].copy_from_slice(pixel);
            }
            second.copy_from_slice(first);
        });
    let shape = x.shape().clone();
    Ok(Tensor::recorded(
        y,
        [n, 2 * h, 2 * w, c],
        &[x],
        move |dy, _| {
            let mut dx = storage::scratch(shape.elements());
            dx.par_chunks_mut(line)
                .zip(dy.as_f32()?.par_chunks(4 * line))
                .for_each(|(pixels, two_lines)| {
                    let (first, second) = two_lines.split_at(2 * line);
                    sum_squares_of_four(pixels, first, second, c);
                });
            Ok(vec![Some(Tensor::from_vec(dx, &shape)?)])
        },
    ))
}

/// Each pixel becomes the sum of the square of four it covers in two neighbouring lines.
fn sum_squares_of_four(pixels: &mut [f32], first: &[f32], second: &[f32], c: usize) {
    vectorised(
        #[inline(always)]
        || {
            let squares = first.chunks_exact(2 * c).zip(second.chunks_exact(2 * c));
            for (pixel, (above, below)) in pixels.chunks_exact_mut(c).zip(squares) {
                let (a, b) = above.split_at(c);
                let (d, e) = below.split_at(c);
                for k in 0..c {
                    pixel[k] = (a[k] + b[k]) + (d[k] + e[k]);
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, check_gradients, numbers};

    #[test]
    fn agrees_with_the_definition() -> Result<()> {
        for dims in [[1, 1, 1, 1], [2, 3, 5, 7], [1, 2, 1, 3]] {
            let x = numbers(dims, 1);
            let [n, h, w, c] = dims;
            let values = x.to_vec();
            let mut expected = Vec::new();
            for place in 0..n * 2 * h * 2 * w * c {
                let (rest, k) = (place / c, place % c);
                let (rest, column) = (rest / (2 * w), rest % (2 * w));
                let (picture, line) = (rest / (2 * h), rest % (2 * h));
                expected.push(values[((picture * h + line / 2) * w + column / 2) * c + k]);
            }
            let y = upsample_nearest(&x)?;
            assert_eq!(y.dims(), [n, 2 * h, 2 * w, c]);
            assert_close(&y.to_vec(), &expected, 0.0);
        }
        Ok(())
    }

    #[test]
    fn derivative() {
        check_gradients(&[numbers([2, 3, 5, 3], 1)], |inputs| {
            upsample_nearest(&inputs[0])
        });
    }

    #[test]
    fn refuses_what_is_not_pictures() {
        assert_eq!(
            upsample_nearest(&numbers([2, 3, 4], 1))
                .unwrap_err()
                .to_string(),
            "upsample_nearest: expected [n, h, w, c], found [2, 3, 4]"
        );
    }
}
