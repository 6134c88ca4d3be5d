//! A stretch of an array along one axis.

use super::on_card;
use crate::cpu::elementwise;
use crate::{Error, Result, Tensor, cuda, storage};
use rayon::prelude::*;

/// The entries `start .. start + len` along `axis`.
///
/// # Shapes
/// Those of `x` but for `axis`, which becomes `len`.
///
/// # Errors
/// When the stretch or the axis does not exist.
pub fn narrow(x: &Tensor, axis: usize, start: usize, len: usize) -> Result<Tensor> {
    let dims = x.dims();
    let fits = axis < dims.len() && start.checked_add(len).is_some_and(|end| end <= dims[axis]);
    if !fits {
        return Err(Error::argument(
            "narrow",
            format!("entries {start}..+{len} along axis {axis} lie outside {dims:?}"),
        ));
    }
    let inner: usize = dims[axis + 1..].iter().product();
    let cut = Cut {
        row: dims[axis] * inner,
        start: start * inner,
        len: len * inner,
    };
    let mut narrow_dims = dims.to_vec();
    narrow_dims[axis] = len;
    if on_card("narrow", &[x])? {
        let outer = dims[..axis].iter().product();
        let (rows, stretch) = ([outer, cut.row], [cut.start, cut.len]);
        let out = cuda::layout::rows(x.array()?, rows, stretch)?;
        let shape = x.shape().clone();
        return Ok(Tensor::recorded(out, narrow_dims, &[x], move |dy, _| {
            let dx = cuda::layout::rows_backward(dy.array()?, rows, stretch)?;
            Ok(vec![Some(Tensor::from_values(dx, &shape)?)])
        }));
    }
    let mut out = storage::scratch(narrow_dims.iter().product());
    cut.take(x.as_f32()?, &mut out);
    let shape = x.shape().clone();
    Ok(Tensor::recorded(out, narrow_dims, &[x], move |dy, _| {
        let mut dx = storage::scratch(shape.elements());
        cut.put(dy.as_f32()?, &mut dx);
        Ok(vec![Some(Tensor::from_vec(dx, &shape)?)])
    }))
}

/// Of every row of `row` elements, `len` from `start` on.
#[derive(Clone, Copy)]
struct Cut {
    row: usize,
    start: usize,
    len: usize,
}

impl Cut {
    fn rows_per_task(&self) -> usize {
        (elementwise::BLOCK / self.row.max(1)).max(1)
    }

    fn take(&self, x: &[f32], out: &mut [f32]) {
        if self.len == 0 || out.is_empty() {
            return;
        }
        if out.len() == self.len {
            return elementwise::map(&x[self.start..][..self.len], out, |x| x);
        }
        let rows = self.rows_per_task();
        out.par_chunks_mut(rows * self.len)
            .zip(x.par_chunks(rows * self.row))
            .for_each(|(out, x)| {
                for (out, x) in out.chunks_exact_mut(self.len).zip(x.chunks_exact(self.row)) {
                    out.copy_from_slice(&x[self.start..][..self.len]);
                }
            });
    }

    /// The stretch back in its place, zeros around it.
    fn put(&self, stretch: &[f32], out: &mut [f32]) {
        if self.len == 0 || out.is_empty() {
            return out.fill(0.0);
        }
        let rows = self.rows_per_task();
        out.par_chunks_mut(rows * self.row)
            .zip(stretch.par_chunks(rows * self.len))
            .for_each(|(out, stretch)| {
                for (out, stretch) in out
                    .chunks_exact_mut(self.row)
                    .zip(stretch.chunks_exact(self.len))
                {
                    let (before, rest) = out.split_at_mut(self.start);
                    let (here, after) = rest.split_at_mut(self.len);
                    before.fill(0.0);
                    here.copy_from_slice(stretch);
                    after.fill(0.0);
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, numbers};

    #[test]
    fn takes_the_right_elements() -> Result<()> {
        let x = numbers([5, 6, 70], 1);
        let values = x.to_vec();
        for (axis, start, len) in [(0, 1, 3), (1, 5, 1), (2, 0, 70), (2, 13, 20), (0, 2, 0)] {
            let y = narrow(&x, axis, start, len)?;
            let mut dims = [5, 6, 70];
            dims[axis] = len;
            assert_eq!(y.dims(), dims);
            for (at, value) in y.to_vec().into_iter().enumerate() {
                let [_, b, c] = dims;
                let mut place = [at / (b * c), at / c % b, at % c];
                place[axis] += start;
                assert_eq!(value, values[(place[0] * 6 + place[1]) * 70 + place[2]]);
            }
        }
        Ok(())
    }

    #[test]
    fn derivative() {
        for axis in 0..3 {
            check_gradients(&[numbers([3, 4, 5], 1)], |inputs| {
                narrow(&inputs[0], axis, 1, 2)
            });
        }
    }

    #[test]
    fn refuses_a_stretch_outside() {
        let error = narrow(&numbers([2, 3], 1), 1, 2, 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "narrow: entries 2..+2 along axis 1 lie outside [2, 3]"
        );
        assert!(narrow(&numbers([2, 3], 1), 2, 0, 1).is_err());
        assert!(narrow(&numbers([2, 3], 1), 0, 1, usize::MAX).is_err());
    }
}
