//! The linear layer, and the 1×1 convolution, which is the same thing when channels come last.

use super::on_card;
use crate::cpu::matmul::{Cores, MatRef, Start, matmul, matmul_from};
use crate::cpu::product::Widen;
use crate::cpu::weight_gradient::WeightGradient;
use crate::storage::{self, Stored};
use crate::{DType, Error, Result, Tensor, cuda};
use rayon::prelude::*;
use std::borrow::Cow;

/// y = x · wᵀ + b.
///
/// # Shapes
/// `x` `[.., i]`, `w` `[o, i]` in any element type, `b` `[o]`; the result is `[.., o]`.
///
/// # Errors
/// When the channels of `x`, `w` and `b` do not agree.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    layer(x, w, b, None)
}

/// y = onto + x · wᵀ + b, as a residual branch ends, in one pass over the result.
///
/// # Shapes
/// As [`linear`]; `onto` has as many values as the result and its last extent, and gives it its shape.
///
/// # Errors
/// As [`linear`], and when `onto` has other rows or channels.
pub fn linear_onto(onto: &Tensor, x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    layer(x, w, b, Some(onto))
}

fn layer(x: &Tensor, w: &Tensor, b: Option<&Tensor>, onto: Option<&Tensor>) -> Result<Tensor> {
    let (i, o) = check(x, w, b)?;
    let rows = x.elements() / i.max(1);
    let mut dims = x.dims().to_vec();
    *dims.last_mut().expect("checked") = o;
    if let Some(onto) = onto {
        if onto.dims().last() != Some(&o) || onto.elements() != rows * o {
            let expected = format!("{rows} rows of {o} values to add to");
            return Err(Error::shape("linear_onto", expected, onto.dims()));
        }
        dims = onto.dims().to_vec();
    }
    let inputs: Vec<&Tensor> = [x, w].into_iter().chain(b).chain(onto).collect();
    if on_card("linear", &inputs)? {
        return linear_on_card((x, w, b, onto), dims, [rows, o, i]);
    }
    let mut y = storage::scratch(rows * o);
    let bias = b.map(wide);
    let start = match (onto, bias.as_deref()) {
        (Some(onto), bias) => Start::Matrix(onto.as_f32()?, bias.unwrap_or(&[])),
        (None, Some(bias)) => Start::Row(bias),
        (None, None) => Start::Zero,
    };
    times_weight(&mut y, MatRef::new(x.as_f32()?, rows, i), w, true, start);

    let (x_kept, w_kept) = (x.clone(), w.clone());
    let (bias, adds) = (b.cloned(), onto.is_some());
    Ok(Tensor::recorded(y, dims, &inputs, move |dy, wanted| {
        let dy_values = dy.as_f32()?;
        let dx = if wanted[0] {
            let mut dx = storage::scratch(rows * i);
            let dy = MatRef::new(dy_values, rows, o);
            times_weight(&mut dx, dy, &w_kept, false, Start::Zero);
            Some(Tensor::from_vec(dx, x_kept.shape())?)
        } else {
            None
        };
        let (dw, db) = weight_gradient(
            (x_kept.as_f32()?, dy_values, [rows, o, i]),
            [wanted[1], bias.is_some() && wanted[2]],
        );
        let mut parts = vec![dx, dw.map(|dw| Tensor::from_vec(dw, [o, i])).transpose()?];
        if let Some(bias) = &bias {
            parts.push(
                db.map(|db| Tensor::from_vec(db, bias.shape()))
                    .transpose()?,
            );
        }
        if adds {
            parts.push(Some(dy.clone()));
        }
        Ok(parts)
    }))
}

/// The gradient of the weight and that of the bias, those that are wanted.
fn weight_gradient(
    (x, dy, [rows, o, i]): (&[f32], &[f32], [usize; 3]),
    [weight, bias]: [bool; 2],
) -> (Option<Vec<f32>>, Option<Vec<f32>>) {
    let sums = || bias.then(|| sum_rows(dy, o));
    if !weight {
        return (None, sums());
    }
    let mut dw = storage::scratch(o * i);
    let tall = WeightGradient::linear(x, dy, [rows, o, i]);
    if tall.pays() {
        let mut db = bias.then(|| vec![0.0; o]);
        tall.run(&mut dw, db.as_deref_mut());
        return (Some(dw), db);
    }
    let (x, dy) = (MatRef::new(x, rows, i), MatRef::new(dy, rows, o));
    matmul(&mut dw, i, dy.t(), x, false, Cores::All);
    (Some(dw), sums())
}

/// `out = start + x · w`, or `x · wᵀ` where `transposed`: the weight is read in its own type.
fn times_weight(out: &mut [f32], x: MatRef<'_>, w: &Tensor, transposed: bool, start: Start<'_>) {
    fn times<T: Widen>(
        out: &mut [f32],
        x: MatRef<'_>,
        w: MatRef<'_, T>,
        transposed: bool,
        start: Start<'_>,
    ) {
        let w = if transposed { w.t() } else { w };
        matmul_from(out, w.cols, x, w, start);
    }
    let (o, i) = (w.dims()[0], w.dims()[1]);
    match w.stored() {
        Stored::F32(w) => times(out, x, MatRef::new(w, o, i), transposed, start),
        Stored::F16(w) => times(out, x, MatRef::new(w, o, i), transposed, start),
        Stored::BF16(w) => times(out, x, MatRef::new(w, o, i), transposed, start),
    }
}

fn linear_on_card(
    (x, w, b, onto): (&Tensor, &Tensor, Option<&Tensor>, Option<&Tensor>),
    dims: Vec<usize>,
    extents: [usize; 3],
) -> Result<Tensor> {
    use cuda::product;
    let rows = extents[0];
    let onto_array = onto.map(Tensor::array).transpose()?;
    Ok(layer_on_card(
        (product::linear(x.array()?, w, b, onto_array, rows)?, dims),
        (x, w, b, onto),
        move |dy, w| product::linear_input_gradient(dy, w, rows),
        move |x, dy, dtype| product::linear_weight_gradient(x, dy, extents, dtype),
    ))
}

/// Records a layer with a weight and perhaps a bias on a card, perhaps added to something, from its result
/// and extents: it is given how dx follows from dy and w, and dw, in the type of w, from x and dy.
pub(super) fn layer_on_card(
    (y, dims): (cuda::Array, Vec<usize>),
    (x, w, b, onto): (&Tensor, &Tensor, Option<&Tensor>, Option<&Tensor>),
    input_gradient: impl Fn(&cuda::Array, &Tensor) -> Result<cuda::Array> + Send + Sync + 'static,
    weight_gradient: impl Fn(&cuda::Array, &cuda::Array, DType) -> Result<cuda::Array>
    + Send
    + Sync
    + 'static,
) -> Tensor {
    let inputs: Vec<&Tensor> = [x, w].into_iter().chain(b).chain(onto).collect();
    let adds = onto.is_some();
    let (x, w, b) = (x.detach(), w.detach(), b.map(Tensor::detach));
    Tensor::recorded(y, dims, &inputs, move |gradient, wanted| {
        let dy = gradient.array()?;
        let mut parts = vec![None, None];
        if wanted[0] {
            let dx = input_gradient(dy, &w)?;
            parts[0] = Some(Tensor::from_values(dx, x.shape())?);
        }
        if wanted[1] {
            let dw = weight_gradient(x.array()?, dy, w.dtype())?;
            parts[1] = Some(Tensor::from_values(dw, w.shape())?);
        }
        if let Some(b) = &b {
            let db = wanted[2].then(|| cuda::product::bias_gradient(dy, b.elements(), b.dtype()));
            let db = db.transpose()?.map(|db| Tensor::from_values(db, b.shape()));
            parts.push(db.transpose()?);
        }
        if adds {
            parts.push(Some(gradient.clone()));
        }
        Ok(parts)
    })
}

pub(super) fn check(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<(usize, usize)> {
    let &[o, i] = w.dims() else {
        return Err(Error::shape("linear", "a weight [o, i]", w.dims()));
    };
    if x.dims().last() != Some(&i) {
        return Err(Error::shape("linear", format!("x [.., {i}]"), x.dims()));
    }
    match b {
        Some(b) if b.dims() != [o] => {
            Err(Error::shape("linear", format!("a bias [{o}]"), b.dims()))
        }
        _ => Ok((i, o)),
    }
}

/// The values in f32: borrowed where they are that already, widened otherwise.
pub(crate) fn wide(x: &Tensor) -> Cow<'_, [f32]> {
    match x.dtype() {
        DType::F32 => Cow::Borrowed(x.as_f32().expect("f32 by its dtype")),
        DType::F16 | DType::BF16 => Cow::Owned(x.to_vec()),
    }
}

/// Every row of `out` becomes `row`.
pub(crate) fn fill_rows(out: &mut [f32], row: &[f32]) {
    out.par_chunks_mut(row.len().max(1) * 64).for_each(|rows| {
        rows.chunks_exact_mut(row.len())
            .for_each(|out| out.copy_from_slice(row));
    });
}

/// The sum of all rows of width `width`: the gradient of a bias. Blocks of rows are summed on all
/// cores and added in order.
pub(crate) fn sum_rows(rows: &[f32], width: usize) -> Vec<f32> {
    const ROWS: usize = 256;
    let add = |mut sum: Vec<f32>, row: &[f32]| {
        sum.iter_mut()
            .zip(row)
            .for_each(|(sum, value)| *sum += value);
        sum
    };
    let partial: Vec<Vec<f32>> = rows
        .par_chunks(width * ROWS)
        .map(|rows| rows.chunks_exact(width).fold(vec![0.0; width], add))
        .collect();
    partial
        .iter()
        .fold(vec![0.0; width], |sum, part| add(sum, part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::add;
    use crate::testing::{assert_close, check_gradients, numbers};

    #[test]
    fn agrees_with_the_double_loop() -> Result<()> {
        let (x, w, b) = (numbers([2, 3, 5], 1), numbers([4, 5], 2), numbers([4], 3));
        let y = linear(&x, &w, Some(&b))?;
        assert_eq!(y.dims(), [2, 3, 4]);
        let (x, w, b) = (x.to_vec(), w.to_vec(), b.to_vec());
        let mut expected = Vec::new();
        for row in x.chunks(5) {
            for o in 0..4 {
                expected.push(b[o] + (0..5).map(|i| row[i] * w[o * 5 + i]).sum::<f32>());
            }
        }
        assert_close(&y.to_vec(), &expected, 1e-6);
        Ok(())
    }

    #[test]
    fn weights_in_sixteen_bits_are_widened() -> Result<()> {
        let (x, w) = (numbers([7, 9], 1), numbers([3, 9], 2));
        for dtype in [DType::F16, DType::BF16] {
            let w = w.cast(dtype);
            let expected = linear(&x, &w.cast(DType::F32), None)?;
            assert_close(&linear(&x, &w, None)?.to_vec(), &expected.to_vec(), 1e-6);
        }
        Ok(())
    }

    #[test]
    fn derivative() {
        check_gradients(
            &[numbers([2, 3, 5], 1), numbers([4, 5], 2), numbers([4], 3)],
            |inputs| linear(&inputs[0], &inputs[1], Some(&inputs[2])),
        );
    }

    #[test]
    fn what_it_is_added_to_is_as_a_sum_of_its_own_in_every_size() -> Result<()> {
        for [rows, i, o] in [
            [1, 1, 1],
            [7, 5, 3],
            [100, 64, 96],
            [97, 600, 50],
            [300, 1400, 40],
        ] {
            let (x, w, b) = (numbers([rows, i], 1), numbers([o, i], 2), numbers([o], 3));
            let onto = numbers([1, rows, o], 4);
            for bias in [None, Some(&b)] {
                let expected = add(&onto, &linear(&x, &w, bias)?.reshape([1, rows, o])?)?;
                let found = linear_onto(&onto, &x, &w, bias)?;
                assert_eq!(found.dims(), onto.dims());
                assert_close(&found.to_vec(), &expected.to_vec(), 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn derivative_of_what_it_is_added_to() {
        let inputs = [
            numbers([3, 4], 4),
            numbers([3, 5], 1),
            numbers([4, 5], 2),
            numbers([4], 3),
        ];
        check_gradients(&inputs, |inputs| {
            linear_onto(&inputs[0], &inputs[1], &inputs[2], Some(&inputs[3]))
        });
    }

    #[test]
    fn refuses_to_be_added_to_other_extents() {
        let (x, w) = (numbers([2, 5], 1), numbers([4, 5], 2));
        let error = linear_onto(&numbers([3, 4], 1), &x, &w, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "linear_onto: expected 2 rows of 4 values to add to, found [3, 4]"
        );
    }

    #[test]
    fn refuses_channels_that_do_not_agree() {
        let error = linear(&numbers([2, 3], 1), &numbers([4, 5], 2), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "linear: expected x [.., 5], found [2, 3]"
        );
    }
}
