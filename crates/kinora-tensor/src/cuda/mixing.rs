//! Blends, gated units and losses on a card.

use super::Array;
use super::elementwise::{cast, launch, same_type};
use super::launch::arguments;
use super::reduce::{all, distance};
use super::sources::Source;
use crate::{DType, Result};

/// σ(mix) · a + (1 − σ(mix)) · b; `mix` is f32.
pub(crate) fn blend(a: &Array, b: &Array, mix: &Array) -> Result<Array> {
    same_type("blend", a, b)?;
    let y = a.like(a.len())?;
    launch("blend", a, a.len(), arguments![a, b, mix, &y, a.len()])?;
    Ok(y)
}

/// Gradients of a and b.
pub(crate) fn blend_backward(dy: &Array, mix: &Array) -> Result<[Array; 2]> {
    let [da, db] = [dy.like(dy.len())?, dy.like(dy.len())?];
    let list = arguments![dy, mix, &da, &db, dy.len()];
    launch("blend_backward", dy, dy.len(), list)?;
    Ok([da, db])
}

/// The gradient of the mix, `[1]` in the type `dtype`.
pub(crate) fn blend_mix_gradient(
    [a, b, dy]: [&Array; 3],
    mix: &Array,
    dtype: DType,
) -> Result<Array> {
    same_type("blend", a, dy)?;
    let kernel = (Source::Reduce, "sum_product_of_difference");
    let total = all(a).sums(kernel, 1, &[a, b, dy], &[])?;
    let dmix = mix.f32_like(1)?;
    launch("blend_mix_gradient", a, 1, arguments![&total, mix, &dmix])?;
    cast(&dmix, dtype)
}

/// First half of the channels · GELU(second half); a row of `x` is `2d` wide.
pub(crate) fn geglu(x: &Array, d: usize) -> Result<Array> {
    let y = x.like(x.len() / 2)?;
    launch("geglu", x, y.len(), arguments![x, &y, y.len() / d, d])?;
    Ok(y)
}

pub(crate) fn geglu_backward(x: &Array, dy: &Array, d: usize) -> Result<Array> {
    same_type("geglu", x, dy)?;
    let dx = x.like(x.len())?;
    let list = arguments![x, dy, &dx, dy.len() / d, d];
    launch("geglu_backward", x, dy.len(), list)?;
    Ok(dx)
}

/// The mean of (x − y)² or of |x − y|, `[1]` in f32.
pub(crate) fn mean_distance(x: &Array, y: &Array, squared: bool) -> Result<Array> {
    let total = distance(x, y, squared)?;
    super::affine(&total, 1.0 / x.len() as f32, 0.0)
}

/// Its gradient with respect to `x` (`sign` 1) or `y` (`sign` −1); `dy` is `[1]` in f32.
pub(crate) fn mean_distance_backward(
    [x, y, dy]: [&Array; 3],
    squared: bool,
    sign: f32,
) -> Result<Array> {
    let dx = x.like(x.len())?;
    let list = arguments![x, y, dy, &dx, x.len(), i32::from(squared), sign];
    launch("distance_backward", x, x.len(), list)?;
    Ok(dx)
}

/// factor · Σ x, `[1]` in f32.
pub(crate) fn scaled_sum(x: &Array, factor: f32) -> Result<Array> {
    super::affine(&all(x).sum(x)?, factor, 0.0)
}

/// Its gradient: factor · dy everywhere, in the type and length of `like`.
pub(crate) fn scaled_sum_backward(dy: &Array, factor: f32, like: &Array) -> Result<Array> {
    let dx = like.like(like.len())?;
    launch(
        "fill_from",
        like,
        dx.len(),
        arguments![dy, factor, &dx, dx.len()],
    )?;
    Ok(dx)
}
