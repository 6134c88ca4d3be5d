//! Group and layer normalisation on a card.

use super::launch::{Argument, Grid, Kernel, arguments};
use super::reduce::Rows;
use super::sources::Source;
use super::{Array, elementwise};
use crate::cpu::norm::Stack;
use crate::ops::group_statistics;
use crate::{DType, Device, Result, Tensor};

fn launch(name: &'static str, x: &Array, grid: Grid, arguments: &[Argument]) -> Result<()> {
    let kernel = Kernel {
        source: Source::Norm,
        name,
        dtype: x.dtype(),
    };
    x.board().launch(kernel, grid, arguments)
}

/// What one group normalisation takes from its statistics: kept for the way back.
pub(crate) struct GroupNorm {
    stack: Stack,
    /// Channels of a group.
    width: usize,
    silu: bool,
    /// `[n, groups]` each.
    mean: Array,
    rate: Array,
    /// `[c]` each, in f32.
    gamma: Tensor,
    beta: Tensor,
}

impl GroupNorm {
    pub(crate) fn new(
        x: &Array,
        stack: Stack,
        gamma: &Tensor,
        beta: &Tensor,
        groups: usize,
        eps: f32,
        silu: bool,
    ) -> Result<Self> {
        let (n, c) = (stack.pictures, stack.channels);
        let width = c / groups;
        let rows = Rows::of_pictures(stack);
        let kernel = (Source::Norm, "group_moments");
        let totals = rows.sums(kernel, 2, &[x], arguments![width])?;
        let (mean, rate) = (x.f32_like(n * groups)?, x.f32_like(n * groups)?);
        let list = arguments![x, &totals, &mean, &rate, n, groups, stack.rows, width, eps];
        launch("group_statistics", x, Grid::elements(n * groups), list)?;
        Ok(GroupNorm {
            stack,
            width,
            silu,
            mean,
            rate,
            gamma: gamma.to_dtype(DType::F32)?,
            beta: beta.to_dtype(DType::F32)?,
        })
    }

    /// With the statistics of a whole of which `x` is a part: f64 sums and sums of squares of each
    /// channel, `[n, 2, c]`, over so many rows.
    pub(crate) fn of_totals(
        x: &Array,
        stack: Stack,
        (rows, totals): (usize, &[f64]),
        [gamma, beta]: [&Tensor; 2],
        groups: usize,
        eps: f32,
        silu: bool,
    ) -> Result<Self> {
        let found = group_statistics(totals, rows, stack.channels, groups, eps);
        let (mean, rate): (Vec<f32>, Vec<f32>) = found.into_iter().unzip();
        let table = |values: Vec<f32>| {
            let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
            Array::from_bytes(x.board(), &bytes, DType::F32, "group_norm_with")
        };
        Ok(GroupNorm {
            stack,
            width: stack.channels / groups,
            silu,
            mean: table(mean)?,
            rate: table(rate)?,
            gamma: gamma.to_dtype(DType::F32)?,
            beta: beta.to_dtype(DType::F32)?,
        })
    }

    /// `struct GroupNorm` of `norm.cu`.
    fn argument(&self) -> Result<Argument> {
        Ok(Argument::structure([
            Argument::from(&self.mean),
            Argument::from(&self.rate),
            Argument::from(self.gamma.array()?),
            Argument::from(self.beta.array()?),
            Argument::from(self.stack.rows),
            Argument::from(self.stack.channels),
            Argument::from(self.width),
            Argument::from(i32::from(self.silu)),
        ]))
    }

    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        let y = x.like(x.len())?;
        let mut list = arguments![x, &y, x.len()].to_vec();
        list.push(self.argument()?);
        launch("group_norm", x, Grid::elements(x.len()), &list)?;
        Ok(y)
    }

    /// Gradients of x, gamma and beta, those that are wanted; the last two in the types given.
    pub(crate) fn backward(
        &self,
        x: &Array,
        dy: &Array,
        wanted: &[bool],
        types: [DType; 2],
    ) -> Result<[Option<Array>; 3]> {
        elementwise::same_type("group_norm", x, dy)?;
        let (n, c) = (self.stack.pictures, self.stack.channels);
        let rows = Rows::of_pictures(self.stack);
        let kernel = (Source::Norm, "group_gradient_sums");
        let totals = rows.sums(kernel, 2, &[x, dy], &[self.argument()?])?;
        let dx = match wanted[0] {
            true => Some(self.input_gradient(x, dy, &totals)?),
            false => None,
        };
        if !wanted[1] && !wanted[2] {
            return Ok([dx, None, None]);
        }
        let whole = Rows {
            outer: 1,
            rows: n,
            columns: 2 * c,
        };
        let [dbeta, dgamma] = halves(&whole.sum(&totals)?, [types[1], types[0]])?;
        Ok([dx, Some(dgamma), Some(dbeta)])
    }

    fn input_gradient(&self, x: &Array, dy: &Array, totals: &Array) -> Result<Array> {
        let count = self.mean.len();
        let means = x.f32_like(2 * count)?;
        let mut list = arguments![totals, &means, self.stack.pictures].to_vec();
        list.push(self.argument()?);
        launch("group_gradient_means", x, Grid::elements(count), &list)?;
        let dx = x.like(x.len())?;
        let mut list = arguments![x, dy, &means, &dx, x.len()].to_vec();
        list.push(self.argument()?);
        launch("group_input_gradient", x, Grid::elements(x.len()), &list)?;
        Ok(dx)
    }
}

/// Sums and sums of squares of each channel of each picture, `[n, 2, c]`, on the processor in f64: the
/// card sums about a value of the channel itself.
pub(crate) fn channel_totals(x: &Array, stack: Stack) -> Result<Vec<f64>> {
    let (n, c) = (stack.pictures, stack.channels);
    if x.len() == 0 {
        return Ok(vec![0.0; 2 * n * c]);
    }
    let rows = Rows::of_pictures(stack);
    let totals = rows.sums((Source::Norm, "group_moments"), 2, &[x], arguments![1usize])?;
    let pivots = super::layout::rows(x, [n, stack.rows * c], [0, c])?;
    let here = |array: Array| -> Result<Vec<f64>> {
        let values = Tensor::from_values(array, [n, c])?;
        let values = values.to_dtype(DType::F32)?.to_device(Device::Cpu)?;
        Ok(values.as_f32()?.iter().map(|v| f64::from(*v)).collect())
    };
    let halves = [0, 1].map(|k| super::layout::rows(&totals, [n, 2 * c], [k * c, c]));
    let [sums, squares] = halves;
    let (sums, squares, pivots) = (here(sums?)?, here(squares?)?, here(pivots)?);
    let (count, mut found) = (stack.rows as f64, vec![0.0; 2 * n * c]);
    for (k, pivot) in pivots.iter().enumerate() {
        let place = k / c * 2 * c + k % c;
        found[place] = sums[k] + count * pivot;
        found[place + c] = squares[k] + 2.0 * pivot * sums[k] + count * pivot * pivot;
    }
    Ok(found)
}

/// The two halves of an f32 array, each in a type of its own.
fn halves(x: &Array, types: [DType; 2]) -> Result<[Array; 2]> {
    let c = x.len() / 2;
    let half = |number: usize, dtype: DType| {
        let part = super::layout::rows(x, [1, 2 * c], [number * c, c])?;
        elementwise::cast(&part, dtype)
    };
    Ok([half(0, types[0])?, half(1, types[1])?])
}

/// What one layer normalisation keeps for the way back.
pub(crate) struct LayerNorm {
    rows: usize,
    c: usize,
    gamma: Tensor,
    /// Mean and 1 / √(σ² + eps) of each row, `[rows, 2]`.
    statistics: Array,
}

impl LayerNorm {
    /// The result, and what the way back needs.
    pub(crate) fn forward(
        x: &Array,
        gamma: &Tensor,
        beta: &Tensor,
        eps: f32,
    ) -> Result<(Array, Self)> {
        let c = gamma.elements();
        let norm = LayerNorm {
            rows: x.len() / c.max(1),
            c,
            gamma: gamma.to_dtype(DType::F32)?,
            statistics: x.f32_like(2 * (x.len() / c.max(1)))?,
        };
        let beta = beta.to_dtype(DType::F32)?;
        let y = x.like(x.len())?;
        let (gamma, statistics) = (norm.gamma.array()?, &norm.statistics);
        let list = arguments![x, gamma, beta.array()?, &y, statistics, norm.rows, c, eps];
        launch("layer_norm", x, Grid::warps(norm.rows), list)?;
        Ok((y, norm))
    }

    pub(crate) fn backward(
        &self,
        x: &Array,
        dy: &Array,
        wanted: &[bool],
        types: [DType; 2],
    ) -> Result<[Option<Array>; 3]> {
        elementwise::same_type("layer_norm", x, dy)?;
        let (rows, c) = (self.rows, self.c);
        let mut dx = None;
        if wanted[0] {
            let made = x.like(x.len())?;
            let (gamma, statistics) = (self.gamma.array()?, &self.statistics);
            let list = arguments![x, dy, gamma, statistics, &made, rows, c];
            launch("layer_norm_input_gradient", x, Grid::warps(rows), list)?;
            dx = Some(made);
        }
        if !wanted[1] && !wanted[2] {
            return Ok([dx, None, None]);
        }
        let whole = Rows {
            outer: 1,
            rows,
            columns: c,
        };
        let kernel = (Source::Norm, "layer_norm_gradient_sums");
        let totals = whole.sums(kernel, 2, &[x, dy, &self.statistics], &[])?;
        let [dbeta, dgamma] = halves(&totals, [types[1], types[0]])?;
        Ok([dx, Some(dgamma), Some(dbeta)])
    }
}
