//! Group normalisation, with the SiLU that follows it in the same pass.

mod curve;
mod law;

use super::linear::wide;
use super::on_card;
use crate::cpu::norm::{Stack, add_moments};
use crate::{DType, Error, Result, Tensor, cuda, storage};
use curve::{Curve, Identity, Silu};
use law::{ByColumns, Columns, Forward, GradientTotals, InputGradient, Law};
use pulp::Arch;
use std::ops::Range;

/// What is applied to a normalised array on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// z · σ(z).
    Silu,
}

/// y = f((x − μ) / √(σ² + eps) · gamma + beta), where μ and σ² are the mean and the variance over all
/// middle axes and the channels of a group, and f is the activation.
///
/// # Shapes
/// `x` `[n, .., c]`, `gamma` and `beta` `[c]`; the result is like `x`.
///
/// # Errors
/// When the groups do not divide the channels, or `gamma` or `beta` does not have one value for each.
pub fn group_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    groups: usize,
    eps: f32,
    activation: Activation,
) -> Result<Tensor> {
    let stack = check(x, gamma, beta, groups)?;
    if on_card("group_norm", &[x, gamma, beta])? {
        let silu = activation == Activation::Silu;
        let norm = cuda::GroupNorm::new(x.array()?, stack, gamma, beta, groups, eps, silu)?;
        let y = norm.forward(x.array()?)?;
        return norm_on_card(y, [x, gamma, beta], move |x, dy, wanted, types| {
            norm.backward(x, dy, wanted, types)
        });
    }
    let tables = Tables::new(x.as_f32()?, stack, gamma, beta, groups, eps);
    let y = tables.activated(x.as_f32()?, activation);
    let x_kept = x.clone();
    Ok(Tensor::recorded(
        y,
        x.shape(),
        &[x, gamma, beta],
        move |dy, wanted| {
            let (x, dy) = (x_kept.as_f32()?, dy.as_f32()?);
            let (dx, dgamma, dbeta) = match activation {
                Activation::None => tables.backward(x, dy, wanted[0], Identity),
                Activation::Silu => tables.backward(x, dy, wanted[0], Silu),
            };
            let c = tables.stack.channels;
            let channels =
                |wanted: bool, values| wanted.then(|| Tensor::from_vec(values, [c])).transpose();
            Ok(vec![
                dx.map(|dx| Tensor::from_vec(dx, x_kept.shape()))
                    .transpose()?,
                channels(wanted[1], dgamma)?,
                channels(wanted[2], dbeta)?,
            ])
        },
    ))
}

/// Records a normalisation on a card, whose way back gives the gradients of x, gamma and beta.
pub(super) fn norm_on_card(
    y: cuda::Array,
    inputs: [&Tensor; 3],
    backward: impl Fn(
        &cuda::Array,
        &cuda::Array,
        &[bool],
        [DType; 2],
    ) -> Result<[Option<cuda::Array>; 3]>
    + Send
    + Sync
    + 'static,
) -> Result<Tensor> {
    let kept = inputs.map(Tensor::detach);
    Ok(Tensor::recorded(
        y,
        inputs[0].shape(),
        &inputs,
        move |dy, wanted| {
            let types = [kept[1].dtype(), kept[2].dtype()];
            let found = backward(kept[0].array()?, dy.array()?, wanted, types)?;
            let parts = found.into_iter().zip(&kept);
            parts
                .map(|(part, input)| {
                    part.map(|p| Tensor::from_values(p, input.shape()))
                        .transpose()
                })
                .collect()
        },
    ))
}

pub(super) fn check(x: &Tensor, gamma: &Tensor, beta: &Tensor, groups: usize) -> Result<Stack> {
    let &[n, ref middle @ .., channels] = x.dims() else {
        return Err(Error::shape("group_norm", "x [n, .., c]", x.dims()));
    };
    for values in [gamma, beta] {
        if values.dims() != [channels] {
            return Err(Error::shape(
                "group_norm",
                format!("gamma and beta [{channels}]"),
                values.dims(),
            ));
        }
    }
    if groups == 0 || channels % groups != 0 {
        return Err(Error::argument(
            "group_norm",
            format!("{groups} groups do not divide {channels} channels; take a divisor"),
        ));
    }
    Ok(Stack {
        pictures: n,
        rows: middle.iter().product(),
        channels,
    })
}

/// Of each group of each picture, the mean and 1 / √(σ² + eps), from `[n, 2, c]` over `rows` rows.
pub(crate) fn group_statistics(
    totals: &[f64],
    rows: usize,
    c: usize,
    groups: usize,
    eps: f32,
) -> Vec<(f32, f32)> {
    let width = c / groups;
    let count = (rows * width) as f64;
    let mut found = Vec::new();
    for totals in totals.chunks_exact(2 * c) {
        let (sums, squares) = totals.split_at(c);
        for (sums, squares) in sums.chunks(width).zip(squares.chunks(width)) {
            let mean = sums.iter().sum::<f64>() / count;
            let variance = (squares.iter().sum::<f64>() / count - mean * mean).max(0.0);
            let rate = 1.0 / (variance + f64::from(eps)).sqrt();
            found.push((mean as f32, rate as f32));
        }
    }
    found
}

/// What normalises each channel of each picture, `[n, c]` each: normalised = (x − mean) · rate,
/// result = f(x · scale + shift).
pub(super) struct Tables {
    stack: Stack,
    groups: usize,
    mean: Vec<f32>,
    rate: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    gamma: Vec<f32>,
}

impl Tables {
    fn new(
        x: &[f32],
        stack: Stack,
        gamma: &Tensor,
        beta: &Tensor,
        groups: usize,
        eps: f32,
    ) -> Self {
        let c = stack.channels;
        let totals = stack.totals::<2>(|_, rows, totals| {
            add_moments(&x[rows.start * c..rows.end * c], c, totals);
        });
        Self::from_totals(&totals, stack.rows, stack, gamma, beta, groups, eps)
    }

    /// From the sums and the sums of squares of each channel of each picture, `[n, 2, c]`, over
    /// `rows` rows, which may be more than the stack has.
    pub(super) fn from_totals(
        totals: &[f64],
        rows: usize,
        stack: Stack,
        gamma: &Tensor,
        beta: &Tensor,
        groups: usize,
        eps: f32,
    ) -> Self {
        let c = stack.channels;
        let mut tables = Tables {
            stack,
            groups,
            mean: Vec::with_capacity(stack.pictures * c),
            rate: Vec::with_capacity(stack.pictures * c),
            scale: Vec::with_capacity(stack.pictures * c),
            shift: Vec::with_capacity(stack.pictures * c),
            gamma: wide(gamma).into_owned(),
        };
        let beta = wide(beta);
        let width = c / groups;
        for (group, (mean, rate)) in group_statistics(totals, rows, c, groups, eps)
            .into_iter()
            .enumerate()
        {
            for k in group % groups * width..(group % groups + 1) * width {
                let scale = rate * tables.gamma[k];
                tables.mean.push(mean);
                tables.rate.push(rate);
                tables.scale.push(scale);
                tables.shift.push(beta[k] - mean * scale);
            }
        }
        tables
    }

    fn of_picture<'a>(&self, table: &'a [f32], picture: usize) -> &'a [f32] {
        &table[picture * self.stack.channels..][..self.stack.channels]
    }

    pub(super) fn activated(&self, x: &[f32], activation: Activation) -> Vec<f32> {
        match activation {
            Activation::None => self.forward(x, Identity),
            Activation::Silu => self.forward(x, Silu),
        }
    }

    fn forward(&self, x: &[f32], curve: impl Curve) -> Vec<f32> {
        let mut y = storage::scratch(x.len());
        self.stack.for_rows(&mut y, |picture, rows, out| {
            let (law, x) = (self.law(picture), self.stretch(x, &rows));
            let kernel = Forward { law, curve, x, out };
            self.run(rows.len(), kernel);
        });
        y
    }

    /// Gradients of x, gamma and beta, from that of f(z); the gradient of z is computed twice rather than
    /// stored.
    fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        wants_x: bool,
        curve: impl Curve,
    ) -> (Option<Vec<f32>>, Vec<f32>, Vec<f32>) {
        let c = self.stack.channels;
        // Per picture and channel: Σ dz and Σ dz · normalised.
        let mut totals = self.stack.totals::<2>(|picture, rows, totals| {
            let (x, dy) = (self.stretch(x, &rows), self.stretch(dy, &rows));
            let law = self.law(picture);
            let kernel = GradientTotals {
                law,
                curve,
                x,
                dy,
                totals,
            };
            self.run(rows.len(), kernel);
        });
        let (mut dgamma, mut dbeta) = (vec![0.0f64; c], vec![0.0f64; c]);
        for (totals, rate) in totals
            .chunks_exact_mut(2 * c)
            .zip(self.rate.chunks_exact(c))
        {
            for k in 0..c {
                totals[c + k] *= f64::from(rate[k]);
                dbeta[k] += totals[k];
                dgamma[k] += totals[c + k];
            }
        }
        let narrow = |sums: Vec<f64>| sums.into_iter().map(|v| v as f32).collect();
        let dx = wants_x.then(|| self.input_gradient(x, dy, &totals, curve));
        (dx, narrow(dgamma), narrow(dbeta))
    }

    /// dx = rate · (gamma dz − mean(gamma dz) − normalised · mean(gamma dz · normalised)), the means
    /// over the group.
    fn input_gradient(&self, x: &[f32], dy: &[f32], totals: &[f64], curve: impl Curve) -> Vec<f32> {
        let (mut constant, mut slope) = self.group_means(totals);
        for (k, rate) in self.rate.iter().enumerate() {
            slope[k] *= -rate * rate;
            constant[k] = -constant[k] * rate - self.mean[k] * slope[k];
        }
        let mut dx = storage::scratch(x.len());
        self.stack.for_rows(&mut dx, |picture, rows, out| {
            let kernel = InputGradient {
                law: self.law(picture),
                curve,
                slope: self.of_picture(&slope, picture),
                constant: self.of_picture(&constant, picture),
                x: self.stretch(x, &rows),
                dy: self.stretch(dy, &rows),
                out,
            };
            self.run(rows.len(), kernel);
        });
        dx
    }

    fn run(&self, rows: usize, kernel: impl Columns) {
        Arch::new().dispatch(ByColumns {
            rows,
            channels: self.stack.channels,
            kernel,
        });
    }

    /// Some rows of all.
    fn stretch<'a>(&self, values: &'a [f32], rows: &Range<usize>) -> &'a [f32] {
        &values[rows.start * self.stack.channels..rows.end * self.stack.channels]
    }

    fn law(&self, picture: usize) -> Law<'_> {
        Law {
            mean: self.of_picture(&self.mean, picture),
            scale: self.of_picture(&self.scale, picture),
            shift: self.of_picture(&self.shift, picture),
        }
    }

    /// The two means of `input_gradient`, repeated for each channel of their group.
    fn group_means(&self, totals: &[f64]) -> (Vec<f32>, Vec<f32>) {
        let c = self.stack.channels;
        let width = c / self.groups;
        let count = (self.stack.rows * width) as f64;
        let (mut constant, mut slope) = (Vec::new(), Vec::new());
        for totals in totals.chunks_exact(2 * c) {
            for group in 0..self.groups {
                let channels = group * width..(group + 1) * width;
                let mean = |offset: usize| {
                    let terms = channels.clone();
                    let sum: f64 = terms
                        .map(|k| f64::from(self.gamma[k]) * totals[offset + k])
                        .sum();
                    std::iter::repeat_n((sum / count) as f32, width)
                };
                constant.extend(mean(0));
                slope.extend(mean(c));
            }
        }
        (constant, slope)
    }
}

#[cfg(test)]
mod tests;
