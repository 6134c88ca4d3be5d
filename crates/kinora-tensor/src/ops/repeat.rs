//! Repeating the entries of an axis.

use super::on_card;
use crate::cpu::{elementwise::BLOCK, vectorised};
use crate::{Error, Result, Tensor, cuda, storage};
use rayon::prelude::*;

/// Each entry along `axis` `times` in a row: `a b` becomes `a a b b`.
///
/// # Shapes
/// Those of `x` but for `axis`, whose extent is multiplied by `times`.
///
/// # Errors
/// When there is no such axis.
pub fn repeat(x: &Tensor, axis: usize, times: usize) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    if axis >= dims.len() {
        return Err(Error::argument(
            "repeat",
            format!("axis {axis} does not exist in {dims:?}; the first axis is 0"),
        ));
    }
    let run: usize = dims[axis + 1..].iter().product();
    dims[axis] *= times;
    if on_card("repeat", &[x])? {
        let out = cuda::layout::repeat(x.array()?, run, times)?;
        let (shape, count) = (x.shape().clone(), x.elements() / run.max(1));
        return Ok(Tensor::recorded(out, dims, &[x], move |dy, _| {
            let dx = cuda::layout::repeat_backward(dy.array()?, count, run, times)?;
            Ok(vec![Some(Tensor::from_values(dx, &shape)?)])
        }));
    }
    let mut out = storage::scratch(dims.iter().product());
    // A task takes some whole entries: each is read once and written `times`.
    let entries = (BLOCK / (run * times).max(1)).max(1);
    if !out.is_empty() {
        out.par_chunks_mut(entries * times * run)
            .zip(x.as_f32()?.par_chunks(entries * run))
            .for_each(|(out, x)| {
                for (copies, entry) in out.chunks_exact_mut(times * run).zip(x.chunks_exact(run)) {
                    copies
                        .chunks_exact_mut(run)
                        .for_each(|copy| copy.copy_from_slice(entry));
                }
            });
    }
    let shape = x.shape().clone();
    Ok(Tensor::recorded(out, dims, &[x], move |dy, _| {
        let mut dx = storage::zeros(shape.elements());
        if dy.elements() > 0 {
            dx.par_chunks_mut(entries * run)
                .zip(dy.as_f32()?.par_chunks(entries * times * run))
                .for_each(|(dx, dy)| {
                    vectorised(
                        #[inline(always)]
                        || add_copies(dx, dy, run, times),
                    );
                });
        }
        Ok(vec![Some(Tensor::from_vec(dx, &shape)?)])
    }))
}

/// Adds the gradients of an entry's copies into that of the entry.
#[inline(always)]
fn add_copies(dx: &mut [f32], dy: &[f32], run: usize, times: usize) {
    for (dx, copies) in dx.chunks_exact_mut(run).zip(dy.chunks_exact(times * run)) {
        for dy in copies.chunks_exact(run) {
            for (dx, dy) in dx.iter_mut().zip(dy) {
                *dx += dy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, numbers};

    #[test]
    fn repeats_each_entry_in_a_row() -> Result<()> {
        let x = numbers([3, 4, 50], 1);
        let values = x.to_vec();
        for (axis, times) in [(0, 14), (1, 3), (2, 2), (1, 1), (0, 0)] {
            let y = repeat(&x, axis, times)?;
            let mut dims = [3, 4, 50];
            dims[axis] *= times;
            assert_eq!(y.dims(), dims);
            for (at, value) in y.to_vec().into_iter().enumerate() {
                let [_, b, c] = dims;
                let mut place = [at / (b * c), at / c % b, at % c];
                place[axis] /= times;
                assert_eq!(value, values[(place[0] * 4 + place[1]) * 50 + place[2]]);
            }
        }
        Ok(())
    }

    #[test]
    fn derivative() {
        for axis in 0..3 {
            check_gradients(&[numbers([3, 2, 5], 1)], |inputs| {
                repeat(&inputs[0], axis, 3)
            });
        }
    }

    #[test]
    fn refuses_an_axis_that_is_not_there() {
        let error = repeat(&numbers([2, 3], 1), 2, 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "repeat: axis 2 does not exist in [2, 3]; the first axis is 0"
        );
    }
}
