//! Another order of the axes.

use super::on_card;
use crate::cpu::elementwise::BLOCK;
use crate::storage::Values;
use crate::{Error, Result, Tensor, cuda, storage};
use rayon::prelude::*;

/// Axis `k` of the result is axis `axes[k]` of `x`. Every element moves: for borders between
/// layouts (weight files, other programs' goldens), not for hot paths.
///
/// # Shapes
/// `x` of any rank; the result has the extents in the order of `axes`.
///
/// # Errors
/// When `axes` does not name every axis once.
pub fn permute(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let rank = x.dims().len();
    let inverse: Vec<usize> = (0..rank)
        .map_while(|axis| axes.iter().position(|a| *a == axis))
        .collect();
    if axes.len() != rank || inverse.len() != rank {
        return Err(Error::argument(
            "permute",
            format!("expected each of the axes 0..{rank} once, found {axes:?}"),
        ));
    }
    let dims: Vec<usize> = axes.iter().map(|axis| x.dims()[*axis]).collect();
    let strides: Vec<usize> = axes
        .iter()
        .map(|axis| x.dims()[axis + 1..].iter().product())
        .collect();
    let out: Values = if on_card("permute", &[x])? {
        cuda::layout::permute(x.array()?, &dims, &strides)?.into()
    } else {
        let mut out = storage::scratch(x.elements());
        gather(x.as_f32()?, &mut out, &dims, &strides);
        out.into()
    };
    Ok(Tensor::recorded(out, dims, &[x], move |dy, _| {
        Ok(vec![Some(permute(dy, &inverse)?)])
    }))
}

/// `out`, dense with extents `dims`, from places `strides` apart in `x`.
fn gather(x: &[f32], out: &mut [f32], dims: &[usize], strides: &[usize]) {
    let (Some((&run, outer_dims)), Some((&step, outer_strides))) =
        (dims.split_last(), strides.split_last())
    else {
        return out.copy_from_slice(x);
    };
    if out.is_empty() {
        return;
    }
    let rows = (BLOCK / run).max(1);
    out.par_chunks_mut(rows * run)
        .enumerate()
        .for_each(|(block, out)| {
            for (k, out) in out.chunks_exact_mut(run).enumerate() {
                let (mut place, mut start) = (block * rows + k, 0);
                for (extent, stride) in outer_dims.iter().zip(outer_strides).rev() {
                    start += place % extent * stride;
                    place /= extent;
                }
                out.iter_mut()
                    .zip(x[start..].iter().step_by(step))
                    .for_each(|(out, x)| *out = *x);
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, numbers};

    #[test]
    fn moves_every_element_to_its_place() -> Result<()> {
        let x = numbers([2, 3, 4, 50], 1);
        let (values, dims) = (x.to_vec(), [2, 3, 4, 50]);
        for axes in [[0, 1, 2, 3], [0, 3, 1, 2], [3, 2, 1, 0], [2, 0, 1, 3]] {
            let y = permute(&x, &axes)?;
            let out_dims = axes.map(|axis| dims[axis]);
            assert_eq!(y.dims(), out_dims);
            for (at, value) in y.to_vec().into_iter().enumerate() {
                let [_, b, c, d] = out_dims;
                let place = [at / (b * c * d), at / (c * d) % b, at / d % c, at % d];
                let mut source = [0; 4];
                for (k, axis) in axes.into_iter().enumerate() {
                    source[axis] = place[k];
                }
                let source = source.iter().zip(dims).fold(0, |at, (p, d)| at * d + p);
                assert_eq!(value, values[source]);
            }
        }
        Ok(())
    }

    #[test]
    fn derivative() {
        check_gradients(&[numbers([2, 3, 4], 1)], |inputs| {
            permute(&inputs[0], &[2, 0, 1])
        });
    }

    #[test]
    fn refuses_axes_that_are_not_an_order() {
        let x = numbers([2, 3], 1);
        let error = permute(&x, &[0, 0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "permute: expected each of the axes 0..2 once, found [0, 0]"
        );
        for axes in [&[0][..], &[0, 2], &[0, 1, 1]] {
            assert!(permute(&x, axes).is_err());
        }
    }
}
