//! Products and convolutions of the test machine: the processor's own, on copies of the arrays. What
//! is tested with them is which product is asked for.

use super::Array;
use super::board::failed;
use super::conv::Pass;
use super::product::{Matrix, Product};
use crate::cpu::matmul::{Cores, MatRef, matmul};
use crate::ops::Geometry;
use crate::{Result, Tensor};

/// The values as f32.
fn values(array: &Array) -> Result<Vec<f32>> {
    let values = crate::storage::Values::from_le_bytes(&array.to_bytes()?, array.dtype());
    Ok(Tensor::from_values(values, [array.len()])?.to_vec())
}

/// Rounds the values to the array's type and puts them there.
fn put(array: &Array, values: Vec<f32>) -> Result<()> {
    let values = Tensor::from_vec(values, [array.len()])?;
    let bytes = values.to_dtype(array.dtype())?.to_le_bytes();
    array.board().upload(array.address(), &bytes)
}

fn part<'a>(values: &'a [f32], matrix: &Matrix<'_>, number: usize) -> MatRef<'a> {
    let from = &values[matrix.start + number * matrix.next..];
    let here = MatRef::strided(from, matrix.rows, matrix.columns, matrix.stride);
    if matrix.turned { here.t() } else { here }
}

pub(super) fn multiply(product: &Product<'_>) -> Result<()> {
    let [m, _, n] = product.extents();
    let (a, b) = (values(product.a.array)?, values(product.b.array)?);
    let mut out = values(product.out.array)?;
    let bias = product.bias.map(values).transpose()?;
    for number in 0..product.batch {
        let mut dense = vec![0.0; m * n];
        let (a, b) = (part(&a, &product.a, number), part(&b, &product.b, number));
        matmul(&mut dense, n, a, b, false, Cores::One);
        for (row, dense) in dense.chunks_exact(n).enumerate() {
            let place = product.out.start + number * product.out.next + row * product.out.stride;
            for (column, (out, value)) in out[place..][..n].iter_mut().zip(dense).enumerate() {
                let before = if product.accumulate { *out } else { 0.0 };
                let bias = bias.as_ref().map_or(0.0, |bias| bias[column]);
                *out = before + product.factor * value + bias;
            }
        }
    }
    put(product.out.array, out)
}

pub(super) fn convolve(
    ordinal: usize,
    pass: Pass,
    g: &Geometry,
    [first, second]: [&Array; 2],
    out: &Array,
) -> Result<()> {
    let pad = g.conv.pad;
    if pad.top != pad.bottom || pad.left != pad.right || first.dtype() != second.dtype() {
        return Err(failed(ordinal, "a convolution that no library makes"));
    }
    let (x, y) = (values(first)?, values(second)?);
    let weight = |values: Vec<f32>| Tensor::from_vec(values, [g.o, g.kh, g.kw, g.i]);
    let made = match pass {
        Pass::Forward => g.forward(&x, &weight(y)?, None),
        Pass::Input => g.input_gradient(&x, &weight(y)?),
        Pass::Weight => g.weight_gradient(&x, &y),
    };
    put(out, made)
}
