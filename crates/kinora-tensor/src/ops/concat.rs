//! Joining arrays along an axis.

use super::on_card;
use crate::cpu::elementwise;
use crate::storage::Values;
use crate::{Error, Result, Tensor, cuda, ops, storage};
use rayon::prelude::*;

/// The arrays one after the other along `axis`.
///
/// # Shapes
/// Equal in every axis but `axis`, whose extents add up.
///
/// # Errors
/// When there are none, they differ elsewhere than along `axis`, or there is no such axis.
pub fn concat(parts: &[&Tensor], axis: usize) -> Result<Tensor> {
    let dims = joined_dims(parts, axis)?;
    let inner: usize = dims[axis + 1..].iter().product();
    // Each part seen as rows: all of it along `axis` and below.
    let runs: Vec<usize> = parts.iter().map(|p| p.dims()[axis] * inner).collect();
    let out = joined(parts, &runs, dims.iter().product())?;
    let extents: Vec<usize> = parts.iter().map(|p| p.dims()[axis]).collect();
    Ok(Tensor::recorded(out, dims, parts, move |dy, wanted| {
        let mut start = 0;
        let mut gradients = Vec::with_capacity(extents.len());
        for (extent, wanted) in extents.iter().zip(wanted) {
            let gradient = wanted.then(|| ops::narrow(dy, axis, start, *extent));
            gradients.push(gradient.transpose()?);
            start += extent;
        }
        Ok(gradients)
    }))
}

/// Row after row, the next `runs[k]` values of each part.
fn joined(parts: &[&Tensor], runs: &[usize], elements: usize) -> Result<Values> {
    let total: usize = runs.iter().sum();
    if on_card("concat", parts)? {
        let arrays: Vec<_> = parts.iter().map(|p| p.array()).collect::<Result<_>>()?;
        let pairs: Vec<_> = arrays.into_iter().zip(runs.iter().copied()).collect();
        return Ok(cuda::layout::concat(&pairs, elements / total.max(1))?.into());
    }
    let sources: Vec<&[f32]> = parts.iter().map(|p| p.as_f32()).collect::<Result<_>>()?;
    let mut out = storage::scratch(elements);
    if out.len() == total {
        let mut rest = &mut out[..];
        for source in &sources {
            let (here, after) = rest.split_at_mut(source.len());
            elementwise::map(source, here, |x| x);
            rest = after;
        }
    } else {
        let rows = (elementwise::BLOCK / total.max(1)).max(1);
        out.par_chunks_mut(rows * total.max(1))
            .enumerate()
            .for_each(|(block, out)| {
                for (k, mut out) in out.chunks_exact_mut(total).enumerate() {
                    let row = block * rows + k;
                    for (source, run) in sources.iter().zip(runs) {
                        let (here, after) = out.split_at_mut(*run);
                        here.copy_from_slice(&source[row * run..][..*run]);
                        out = after;
                    }
                }
            });
    }
    Ok(out.into())
}

fn joined_dims(parts: &[&Tensor], axis: usize) -> Result<Vec<usize>> {
    let Some(first) = parts.first() else {
        return Err(Error::argument(
            "concat",
            "expected one array at least, found none",
        ));
    };
    let mut dims = first.dims().to_vec();
    if axis >= dims.len() {
        return Err(Error::argument(
            "concat",
            format!("axis {axis} does not exist in {dims:?}; the first axis is 0"),
        ));
    }
    dims[axis] = 0;
    for part in parts {
        let fits = part.dims().len() == dims.len()
            && (0..dims.len()).all(|k| k == axis || part.dims()[k] == first.dims()[k]);
        if !fits {
            let expected = format!("{:?} but for axis {axis}", first.dims());
            return Err(Error::shape("concat", expected, part.dims()));
        }
        dims[axis] += part.dims()[axis];
    }
    Ok(dims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, numbers};

    #[test]
    fn puts_every_element_in_its_place() -> Result<()> {
        for axis in 0..3 {
            let mut dims = [[3, 4, 50]; 3];
            for (k, dims) in dims.iter_mut().enumerate() {
                dims[axis] = [1, 7, 2][k];
            }
            let parts: Vec<Tensor> = (0..3).map(|k| numbers(dims[k], k as u64)).collect();
            let joined = concat(&[&parts[0], &parts[1], &parts[2]], axis)?;
            let mut expected_dims = dims[0];
            expected_dims[axis] = 10;
            assert_eq!(joined.dims(), expected_dims);
            let [_, b, c] = expected_dims;
            for (at, value) in joined.to_vec().into_iter().enumerate() {
                let mut place = [at / (b * c), at / c % b, at % c];
                let part = [1, 8, 10]
                    .iter()
                    .position(|end| place[axis] < *end)
                    .unwrap();
                place[axis] -= [0, 1, 8][part];
                let [_, b, c] = dims[part];
                let expected = parts[part].to_vec()[(place[0] * b + place[1]) * c + place[2]];
                assert_eq!(value, expected);
            }
        }
        Ok(())
    }

    #[test]
    fn derivative() {
        let inputs = [
            numbers([2, 3, 4], 1),
            numbers([2, 1, 4], 2),
            numbers([2, 2, 4], 3),
        ];
        check_gradients(&inputs, |inputs| {
            concat(&[&inputs[0], &inputs[1], &inputs[2]], 1)
        });
        check_gradients(&inputs[..1], |inputs| concat(&[&inputs[0], &inputs[0]], 0));
    }

    #[test]
    fn refuses_what_does_not_join() {
        let (a, b) = (numbers([2, 3], 1), numbers([3, 3], 2));
        let error = concat(&[&a, &b], 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "concat: expected [2, 3] but for axis 1, found [3, 3]"
        );
        assert!(concat(&[&a, &b], 2).is_err());
        assert!(concat(&[], 0).is_err());
    }
}
