//! Arithmetic element by element, and along axes of extent one.

use super::on_card;
use crate::cpu::elementwise;
use crate::storage::Values;
use crate::{DType, Device, Error, Result, Shape, Tensor, cuda, storage};
use rayon::prelude::*;

fn same_shape(op: &'static str, x: &Tensor, y: &Tensor) -> Result<()> {
    if x.dims() == y.dims() {
        Ok(())
    } else {
        Err(Error::shape(
            op,
            format!("{:?} on both sides", x.dims()),
            y.dims(),
        ))
    }
}

fn zipped(
    op: &'static str,
    x: &Tensor,
    y: &Tensor,
    f: impl Fn(f32, f32) -> f32 + Sync + Copy,
) -> Result<Values> {
    if on_card(op, &[x, y])? {
        return Ok(cuda::zip(op, x.array()?, y.array()?)?.into());
    }
    let mut out = storage::scratch(x.elements());
    elementwise::zip(x.as_f32()?, y.as_f32()?, &mut out, f);
    Ok(out.into())
}

/// x + y, of one shape.
///
/// # Errors
/// When the shapes differ.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    same_shape("add", x, y)?;
    let out = zipped("add", x, y, |x, y| x + y)?;
    Ok(Tensor::recorded(out, x.shape(), &[x, y], |dz, _| {
        Ok(vec![Some(dz.clone()), Some(dz.clone())])
    }))
}

/// x − y, of one shape.
///
/// # Errors
/// When the shapes differ.
pub fn sub(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    same_shape("sub", x, y)?;
    let out = zipped("sub", x, y, |x, y| x - y)?;
    Ok(Tensor::recorded(out, x.shape(), &[x, y], |dz, wanted| {
        Ok(vec![
            Some(dz.clone()),
            wanted[1].then(|| scale(dz, -1.0)).transpose()?,
        ])
    }))
}

/// x · y element by element, of one shape.
///
/// # Errors
/// When the shapes differ.
pub fn mul(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    same_shape("mul", x, y)?;
    let out = zipped("mul", x, y, |x, y| x * y)?;
    let (x_kept, y_kept) = (x.clone(), y.clone());
    Ok(Tensor::recorded(
        out,
        x.shape(),
        &[x, y],
        move |dz, wanted| {
            Ok(vec![
                wanted[0].then(|| mul(dz, &y_kept)).transpose()?,
                wanted[1].then(|| mul(dz, &x_kept)).transpose()?,
            ])
        },
    ))
}

/// a · x.
///
/// # Errors
/// When `x` is not f32.
pub fn scale(x: &Tensor, a: f32) -> Result<Tensor> {
    affine(x, a, 0.0)
}

/// a · x + b.
///
/// # Errors
/// When `x` is not f32.
pub fn affine(x: &Tensor, a: f32, b: f32) -> Result<Tensor> {
    let out: Values = if on_card("affine", &[x])? {
        cuda::affine(x.array()?, a, b)?.into()
    } else {
        let mut out = storage::scratch(x.elements());
        elementwise::map(x.as_f32()?, &mut out, move |x| a * x + b);
        out.into()
    };
    Ok(Tensor::recorded(out, x.shape(), &[x], move |dz, _| {
        Ok(vec![Some(scale(dz, a)?)])
    }))
}

/// x + y, where `y` has the rank of `x` and an extent of 1 along every axis it is repeated over.
///
/// # Errors
/// When `y` does not fit so.
pub fn add_broadcast(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let repeat = Repeat::new("add_broadcast", x, y)?;
    let out = repeat.combine("add_broadcast", x, y, |x, y| x + y)?;
    let dtype = y.dtype();
    Ok(Tensor::recorded(
        out,
        x.shape(),
        &[x, y],
        move |dz, wanted| {
            let dy = wanted[1].then(|| repeat.sum(dz, dtype)).transpose()?;
            Ok(vec![Some(dz.clone()), dy])
        },
    ))
}

/// x · y, where `y` has the rank of `x` and an extent of 1 along every axis it is repeated over.
///
/// # Errors
/// When `y` does not fit so.
pub fn mul_broadcast(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let repeat = Repeat::new("mul_broadcast", x, y)?;
    let out = repeat.combine("mul_broadcast", x, y, |x, y| x * y)?;
    let (x_kept, y_kept) = (x.clone(), y.clone());
    Ok(Tensor::recorded(
        out,
        x.shape(),
        &[x, y],
        move |dz, wanted| {
            let dx = wanted[0].then(|| mul_broadcast(dz, &y_kept)).transpose()?;
            let dy = wanted[1]
                .then(|| repeat.sum(&mul(dz, &x_kept)?, y_kept.dtype()))
                .transpose()?;
            Ok(vec![dx, dy])
        },
    ))
}

/// How a small array is repeated over a large one of the same rank.
struct Repeat {
    large: Shape,
    small: Shape,
    /// Extent of the innermost axes that both share in full: a run of neighbours.
    run: usize,
}

impl Repeat {
    fn new(op: &'static str, x: &Tensor, y: &Tensor) -> Result<Self> {
        let fits = x.dims().len() == y.dims().len()
            && x.dims()
                .iter()
                .zip(y.dims())
                .all(|(x, y)| x == y || *y == 1);
        if !fits {
            return Err(Error::shape(
                op,
                format!("{:?} with some extents 1", x.dims()),
                y.dims(),
            ));
        }
        let shared = x
            .dims()
            .iter()
            .zip(y.dims())
            .rev()
            .take_while(|(x, y)| x == y);
        Ok(Repeat {
            large: x.shape().clone(),
            small: y.shape().clone(),
            run: shared.map(|(x, _)| x).product(),
        })
    }

    /// Where in the small array the run number `row` of the large one begins.
    fn offset(&self, row: usize) -> usize {
        let (mut place, mut stride, mut offset) = (row * self.run, 1, 0);
        for (large, small) in self.large.iter().zip(self.small.iter()).rev() {
            if *small != 1 {
                offset += place % large * stride;
                stride *= small;
            }
            place /= large;
        }
        offset
    }

    fn combine(
        &self,
        op: &'static str,
        x: &Tensor,
        y: &Tensor,
        f: impl Fn(f32, f32) -> f32 + Sync + Copy,
    ) -> Result<Values> {
        if on_card(op, &[x, y])? {
            // What is repeated may be a parameter in another type than the activations.
            let y = y.to_dtype(x.dtype())?;
            let large = (x.array()?, x.dims());
            return Ok(cuda::broadcast(op, large, (y.array()?, y.dims()))?.into());
        }
        let (x, y) = (x.as_f32()?, y.as_f32()?);
        let mut out = storage::scratch(x.len());
        let run = self.run.max(1);
        let rows = (elementwise::BLOCK / run).max(1);
        out.par_chunks_mut(rows * run)
            .enumerate()
            .for_each(|(block, out)| {
                for (k, out) in out.chunks_exact_mut(run).enumerate() {
                    let row = block * rows + k;
                    let (x, y) = (&x[row * run..][..run], &y[self.offset(row)..][..run]);
                    out.iter_mut()
                        .zip(x.iter().zip(y))
                        .for_each(|(out, (x, y))| *out = f(*x, *y));
                }
            });
        Ok(out.into())
    }

    /// The sum of a large array over every repeated axis, in the shape of the small one and, on a
    /// card, in its type.
    fn sum(&self, large: &Tensor, dtype: DType) -> Result<Tensor> {
        if large.device() != Device::Cpu {
            let sum = cuda::repeated_sum(large.array()?, &self.large, &self.small, dtype)?;
            return Tensor::from_values(sum, &self.small);
        }
        let large = large.as_f32()?;
        let mut small = storage::zeros(self.small.elements());
        for (row, values) in large.chunks_exact(self.run.max(1)).enumerate() {
            let start = self.offset(row);
            small[start..][..values.len()]
                .iter_mut()
                .zip(values)
                .for_each(|(sum, v)| *sum += v);
        }
        Tensor::from_vec(small, &self.small)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, check_gradients, numbers};

    #[test]
    fn agrees_with_the_loop() -> Result<()> {
        let (x, y) = (numbers([3, 4], 1), numbers([3, 4], 2));
        let pairs: Vec<(f32, f32)> = x.to_vec().into_iter().zip(y.to_vec()).collect();
        let expect =
            |f: fn(f32, f32) -> f32| pairs.iter().map(|(x, y)| f(*x, *y)).collect::<Vec<_>>();
        assert_close(&add(&x, &y)?.to_vec(), &expect(|x, y| x + y), 0.0);
        assert_close(&sub(&x, &y)?.to_vec(), &expect(|x, y| x - y), 0.0);
        assert_close(&mul(&x, &y)?.to_vec(), &expect(|x, y| x * y), 0.0);
        assert_close(
            &affine(&x, 3.0, 2.0)?.to_vec(),
            &expect(|x, _| 3.0 * x + 2.0),
            0.0,
        );
        Ok(())
    }

    #[test]
    fn repeats_along_every_choice_of_axes() -> Result<()> {
        let x = numbers([2, 3, 4, 5], 1);
        for small in [
            [2, 1, 1, 5],
            [1, 3, 4, 5],
            [1, 1, 1, 1],
            [2, 3, 1, 1],
            [1, 3, 1, 5],
            [2, 3, 4, 5],
        ] {
            let y = numbers(small, 2);
            let (xs, ys) = (x.to_vec(), y.to_vec());
            let mut expected = Vec::new();
            for (k, x) in xs.iter().enumerate() {
                let place = [k / 60, k / 20 % 3, k / 5 % 4, k % 5];
                let index = place
                    .iter()
                    .zip(small)
                    .fold(0, |at, (p, d)| at * d + if d == 1 { 0 } else { *p });
                expected.push(x + ys[index]);
            }
            assert_close(&add_broadcast(&x, &y)?.to_vec(), &expected, 0.0);
        }
        Ok(())
    }

    #[test]
    fn derivatives() {
        let pair = [numbers([3, 4], 1), numbers([3, 4], 2)];
        check_gradients(&pair, |inputs| add(&inputs[0], &inputs[1]));
        check_gradients(&pair, |inputs| sub(&inputs[0], &inputs[1]));
        check_gradients(&pair, |inputs| mul(&inputs[0], &inputs[1]));
        check_gradients(&pair[..1], |inputs| affine(&inputs[0], 3.0, 2.0));
        let pair = [numbers([2, 3, 4], 1), numbers([2, 1, 4], 2)];
        check_gradients(&pair, |inputs| add_broadcast(&inputs[0], &inputs[1]));
        check_gradients(&pair, |inputs| mul_broadcast(&inputs[0], &inputs[1]));
    }
}
