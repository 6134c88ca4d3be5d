//! Functions of one element, of two, and of one element with a smaller array repeated along it.

use super::launch::{Argument, Grid, Kernel, arguments};
use super::sources::Source;
use super::{Array, Board};
use crate::{DType, Error, Result};
use std::sync::Arc;

/// Starts a kernel of `elementwise.cu` that gives every one of `count` elements a thread.
pub(super) fn launch(
    name: &'static str,
    x: &Array,
    count: usize,
    arguments: &[Argument],
) -> Result<()> {
    let kernel = Kernel {
        source: Source::Elementwise,
        name,
        dtype: x.dtype(),
    };
    x.board().launch(kernel, Grid::elements(count), arguments)
}

/// f(x) for the function `name`, which may have two parameters.
pub(crate) fn pointwise(name: &'static str, x: &Array, [a, b]: [f32; 2]) -> Result<Array> {
    let y = x.like(x.len())?;
    launch(name, x, x.len(), arguments![x, &y, x.len(), a, b])?;
    Ok(y)
}

/// dy · f′(x); `name` is that of the derivative's kernel.
pub(crate) fn pointwise_slope(
    name: &'static str,
    x: &Array,
    dy: &Array,
    [a, b]: [f32; 2],
) -> Result<Array> {
    same_type(name, x, dy)?;
    let dx = x.like(x.len())?;
    launch(name, x, x.len(), arguments![x, dy, &dx, x.len(), a, b])?;
    Ok(dx)
}

/// a · x + b.
pub(crate) fn affine(x: &Array, a: f32, b: f32) -> Result<Array> {
    pointwise("affine", x, [a, b])
}

/// f(x, y) for `add`, `sub` and `mul`.
pub(crate) fn zip(name: &'static str, x: &Array, y: &Array) -> Result<Array> {
    same_type(name, x, y)?;
    let z = x.like(x.len())?;
    launch(name, x, x.len(), arguments![x, y, &z, x.len()])?;
    Ok(z)
}

/// f(x, y) for `add_broadcast` and `mul_broadcast`, `y` repeated along its axes of extent 1.
pub(crate) fn broadcast(
    name: &'static str,
    (x, large): (&Array, &[usize]),
    (y, small): (&Array, &[usize]),
) -> Result<Array> {
    same_type(name, x, y)?;
    let pairs = merged(large, small);
    const MOST: usize = 6;
    if pairs.len() > MOST {
        let message = format!("{large:?} with {small:?} alternates over more than {MOST} axes");
        return Err(Error::argument(name, message));
    }
    let (mut extents, mut steps, mut step) = ([1usize; MOST], [0usize; MOST], 1);
    for (place, (large, small)) in (0..MOST).rev().zip(pairs.iter().rev()) {
        extents[place] = *large;
        if *small != 1 {
            steps[place] = step;
            step *= small;
        }
    }
    let z = x.like(x.len())?;
    let members = extents.into_iter().chain(steps).map(Argument::from);
    let mut list = arguments![x, y, &z, x.len()].to_vec();
    list.push(Argument::structure(members));
    launch(name, x, x.len(), &list)?;
    Ok(z)
}

/// Pairs of extents (large, small), neighbours that are both shared or both repeated made one.
pub(super) fn merged(large: &[usize], small: &[usize]) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (&large, &small) in large.iter().zip(small).filter(|(large, _)| **large != 1) {
        match pairs.last_mut() {
            Some(last) if (last.1 == 1) == (small == 1) => {
                last.0 *= large;
                last.1 *= small;
            }
            _ => pairs.push((large, small)),
        }
    }
    pairs
}

/// `len` times one value.
pub(crate) fn fill(board: &Arc<Board>, len: usize, dtype: DType, value: f32) -> Result<Array> {
    let y = Array::new(board, len, dtype)?;
    launch("fill", &y, len, arguments![&y, len, value])?;
    Ok(y)
}

/// The same values in another type, rounded to nearest even.
pub(crate) fn cast(x: &Array, dtype: DType) -> Result<Array> {
    let y = Array::new(x.board(), x.len(), dtype)?;
    let name = match dtype {
        DType::F32 => "cast_to_f32",
        DType::F16 => "cast_to_f16",
        DType::BF16 => "cast_to_bf16",
    };
    launch(name, x, x.len(), arguments![x, &y, x.len()])?;
    Ok(y)
}

pub(super) fn same_type(op: &'static str, x: &Array, y: &Array) -> Result<()> {
    if x.dtype() == y.dtype() {
        return Ok(());
    }
    Err(Error::DType {
        op,
        expected: x.dtype(),
        found: y.dtype(),
    })
}
