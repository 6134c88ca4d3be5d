//! The gated linear unit of transformer feed-forwards.

use super::activation::gelu_slope;
use super::{linear, on_card};
use crate::cpu::matmul::MatRef;
use crate::cpu::{elementwise::BLOCK, exp, product, vectorised};
use crate::storage::{self, Stored};
use crate::{Error, Result, Tensor, cuda, is_recording};
use rayon::prelude::*;

/// First half of the channels · GELU(second half), in one pass.
///
/// # Shapes
/// `x` `[.., 2d]`; the result is `[.., d]`.
///
/// # Errors
/// When the channels are not an even number, or `x` is not f32.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    let width = x.shape().last();
    if x.dims().is_empty() || width == 0 || !width.is_multiple_of(2) {
        return Err(Error::shape(
            "geglu",
            "an even number of channels, values then gates",
            x.dims(),
        ));
    }
    let d = width / 2;
    let mut dims = x.dims().to_vec();
    *dims.last_mut().expect("checked") = d;
    let kept = x.clone();
    if on_card("geglu", &[x])? {
        let out = cuda::mixing::geglu(x.array()?, d)?;
        return Ok(Tensor::recorded(out, dims, &[x], move |dy, _| {
            let dx = cuda::mixing::geglu_backward(kept.array()?, dy.array()?, d)?;
            Ok(vec![Some(Tensor::from_values(dx, kept.shape())?)])
        }));
    }
    let mut out = storage::scratch(x.elements() / 2);
    let rows = (BLOCK / width).max(1);
    out.par_chunks_mut(rows * d)
        .zip(x.as_f32()?.par_chunks(rows * width))
        .for_each(|(out, x)| {
            vectorised(
                #[inline(always)]
                || forward_rows(out, x, d),
            );
        });
    Ok(Tensor::recorded(out, dims, &[x], move |dy, _| {
        let mut dx = storage::scratch(kept.elements());
        dx.par_chunks_mut(rows * width)
            .zip(kept.as_f32()?.par_chunks(rows * width))
            .zip(dy.as_f32()?.par_chunks(rows * d))
            .for_each(|((dx, x), dy)| {
                vectorised(
                    #[inline(always)]
                    || backward_rows(dx, x, dy, d),
                );
            });
        Ok(vec![Some(Tensor::from_vec(dx, kept.shape())?)])
    }))
}

/// A linear layer and [`geglu`] of what it gives. Where nothing is recorded, and there are rows enough, the
/// processor gates each part of the layer's result as soon as it is summed, and writes no more than that.
///
/// # Shapes
/// `x` `[.., i]`, `w` `[2d, i]` in any element type, `b` `[2d]`; the result is `[.., d]`.
///
/// # Errors
/// As those of [`ops::linear`](super::linear) and [`geglu`].
pub fn linear_geglu(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (i, o) = linear::check(x, w, b)?;
    let (rows, d) = (x.elements() / i.max(1), o / 2);
    let operands: Vec<&Tensor> = [x, w].into_iter().chain(b).collect();
    let apart =
        is_recording() || !o.is_multiple_of(2) || d == 0 || !product::takes_gated(rows, i, d);
    if on_card("linear_geglu", &operands)? || apart {
        return geglu(&super::linear(x, w, b)?);
    }
    let mut out = storage::scratch(rows * d);
    let x_rows = MatRef::new(x.as_f32()?, rows, i);
    let bias = b.map(linear::wide);
    let bias = bias.as_deref().unwrap_or(&[]);
    match w.stored() {
        Stored::F32(w) => product::gated(&mut out, x_rows, MatRef::new(w, o, i), bias),
        Stored::F16(w) => product::gated(&mut out, x_rows, MatRef::new(w, o, i), bias),
        Stored::BF16(w) => product::gated(&mut out, x_rows, MatRef::new(w, o, i), bias),
    }
    let mut dims = x.dims().to_vec();
    *dims.last_mut().expect("checked") = d;
    Tensor::from_vec(out, dims)
}

#[inline(always)]
fn forward_rows(out: &mut [f32], x: &[f32], d: usize) {
    for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(2 * d)) {
        let (value, gate) = x.split_at(d);
        for ((out, value), gate) in out.iter_mut().zip(value).zip(gate) {
            *out = value * exp::gelu(*gate);
        }
    }
}

#[inline(always)]
fn backward_rows(dx: &mut [f32], x: &[f32], dy: &[f32], d: usize) {
    for ((dx, x), dy) in dx
        .chunks_exact_mut(2 * d)
        .zip(x.chunks_exact(2 * d))
        .zip(dy.chunks_exact(d))
    {
        let (dvalue, dgate) = dx.split_at_mut(d);
        let (value, gate) = x.split_at(d);
        for k in 0..d {
            dvalue[k] = dy[k] * exp::gelu(gate[k]);
            dgate[k] = dy[k] * value[k] * gelu_slope(gate[k]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::no_grad;
    use crate::ops::{gelu, linear, mul, narrow};
    use crate::testing::{assert_close, check_gradients, numbers};

    #[test]
    fn agrees_with_its_parts() -> Result<()> {
        for dims in [vec![1, 2], vec![3, 5, 14], vec![300, 130], vec![2, 40_000]] {
            let x = numbers(dims, 1);
            let axis = x.dims().len() - 1;
            let d = x.shape().last() / 2;
            let expected = mul(&narrow(&x, axis, 0, d)?, &gelu(&narrow(&x, axis, d, d)?)?)?;
            let y = geglu(&x)?;
            assert_eq!(y.dims(), expected.dims());
            assert_close(&y.to_vec(), &expected.to_vec(), 1e-7);
        }
        Ok(())
    }

    #[test]
    fn a_layer_gated_as_it_is_summed_agrees_with_both_operations() -> Result<()> {
        for (dims, d) in [([2, 40, 33], 50), ([1, 3, 5], 3), ([1, 7, 20], 30)] {
            let (x, w) = (numbers(dims, 1), numbers([2 * d, dims[2]], 2));
            let b = numbers([2 * d], 3);
            for b in [None, Some(&b)] {
                let expected = geglu(&linear(&x, &w, b)?)?;
                let y = no_grad(|| linear_geglu(&x, &w, b))?;
                assert_eq!(y.dims(), expected.dims());
                assert_close(&y.to_vec(), &expected.to_vec(), 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn a_gated_layer_has_the_derivative_of_both() {
        let inputs = [numbers([2, 3, 5], 1), numbers([8, 5], 2), numbers([8], 3)];
        check_gradients(&inputs, |inputs| {
            linear_geglu(&inputs[0], &inputs[1], Some(&inputs[2]))
        });
    }

    #[test]
    fn a_layer_of_an_odd_number_of_channels_is_refused() {
        let (x, w) = (numbers([2, 3], 1), numbers([5, 3], 2));
        let error = no_grad(|| linear_geglu(&x, &w, None)).unwrap_err();
        assert!(error.to_string().contains("an even number of channels"));
    }

    #[test]
    fn derivative() {
        check_gradients(&[numbers([2, 3, 10], 1)], |inputs| geglu(&inputs[0]));
    }

    #[test]
    fn refuses_an_odd_number_of_channels() {
        let error = geglu(&numbers([2, 3], 1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "geglu: expected an even number of channels, values then gates, found [2, 3]"
        );
    }
}
