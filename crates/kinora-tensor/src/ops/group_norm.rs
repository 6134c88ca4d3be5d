//! Group normalisation, with the SiLU that follows it in the same pass.

mod law;

use super::linear::wide;
use super::on_card;
use crate::cpu::exp::sigmoid;
use crate::cpu::norm::{ROWS, Stack, add_moments};
use crate::cpu::vectorised;
use crate::{DType, Error, Result, Tensor, cuda, storage};
use law::{LANES, Law};

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
                Activation::None => tables.backward(
                    x,
                    dy,
                    wanted[0],
                    #[inline(always)]
                    |dy, _| dy,
                ),
                Activation::Silu => tables.backward(x, dy, wanted[0], silu_backward),
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

/// dy · d(z σ(z))/dz.
#[inline(always)]
fn silu_backward(dy: f32, z: f32) -> f32 {
    let s = sigmoid(z);
    dy * (s * (1.0 + z * (1.0 - s)))
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
/// result = f((x − mean) · scale + beta).
pub(super) struct Tables {
    stack: Stack,
    groups: usize,
    mean: Vec<f32>,
    rate: Vec<f32>,
    scale: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
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
            gamma: wide(gamma).into_owned(),
            beta: wide(beta).into_owned(),
        };
        let width = c / groups;
        for (mean, rate) in group_statistics(totals, rows, c, groups, eps) {
            tables.mean.extend(std::iter::repeat_n(mean, width));
            tables.rate.extend(std::iter::repeat_n(rate, width));
        }
        let rates = tables.rate.chunks_exact(c);
        tables.scale = rates
            .flat_map(|rate| {
                rate.iter()
                    .zip(&tables.gamma)
                    .map(|(rate, gamma)| rate * gamma)
            })
            .collect();
        tables
    }

    fn of_picture<'a>(&self, table: &'a [f32], picture: usize) -> &'a [f32] {
        &table[picture * self.stack.channels..][..self.stack.channels]
    }

    pub(super) fn activated(&self, x: &[f32], activation: Activation) -> Vec<f32> {
        match activation {
            Activation::None => self.forward(
                x,
                #[inline(always)]
                |z| z,
            ),
            Activation::Silu => self.forward(
                x,
                #[inline(always)]
                |z| z * sigmoid(z),
            ),
        }
    }

    fn forward(&self, x: &[f32], f: impl Fn(f32) -> f32 + Sync + Copy) -> Vec<f32> {
        let c = self.stack.channels;
        let mut y = storage::scratch(x.len());
        self.stack.for_rows(&mut y, |picture, rows, out| {
            let law = self.law(picture);
            let x = &x[rows.start * c..rows.end * c];
            vectorised(
                #[inline(always)]
                || {
                    for (out, x) in out.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                        for k in (0..c / LANES * LANES).step_by(LANES) {
                            law.apply::<LANES>(x, k, out, f);
                        }
                        for k in c / LANES * LANES..c {
                            law.apply::<1>(x, k, out, f);
                        }
                    }
                },
            );
        });
        y
    }

    /// Gradients of x, gamma and beta. `before` takes the gradient of the result and z back to the
    /// gradient of z, the value before the activation; it is computed twice rather than stored.
    fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        wants_x: bool,
        before: impl Fn(f32, f32) -> f32 + Sync + Copy,
    ) -> (Option<Vec<f32>>, Vec<f32>, Vec<f32>) {
        let c = self.stack.channels;
        // Per picture and channel: Σ dz and Σ dz · normalised.
        let totals = self.stack.totals::<2>(|picture, rows, totals| {
            let stretch = rows.start * c..rows.end * c;
            self.add_gradient_totals(picture, &x[stretch.clone()], &dy[stretch], totals, before);
        });
        let mut dgamma = vec![0.0f64; c];
        let mut dbeta = vec![0.0f64; c];
        for totals in totals.chunks_exact(2 * c) {
            for k in 0..c {
                dbeta[k] += totals[k];
                dgamma[k] += totals[c + k];
            }
        }
        let narrow = |sums: Vec<f64>| sums.into_iter().map(|v| v as f32).collect();
        let dx = wants_x.then(|| self.input_gradient(x, dy, &totals, before));
        (dx, narrow(dgamma), narrow(dbeta))
    }

    fn add_gradient_totals(
        &self,
        picture: usize,
        x: &[f32],
        dy: &[f32],
        totals: &mut [f64],
        before: impl Fn(f32, f32) -> f32 + Copy,
    ) {
        let c = self.stack.channels;
        let law = self.law(picture);
        let rate = self.of_picture(&self.rate, picture);
        let (sums, products) = totals.split_at_mut(c);
        vectorised(
            #[inline(always)]
            || {
                for (x, dy) in x.chunks(ROWS * c).zip(dy.chunks(ROWS * c)) {
                    for k in (0..c / LANES * LANES).step_by(LANES) {
                        let found = law.gradient_sums::<LANES>(x, dy, k, before);
                        for (lane, (sum, product)) in found.into_iter().enumerate() {
                            sums[k + lane] += f64::from(sum);
                            products[k + lane] += f64::from(product * rate[k + lane]);
                        }
                    }
                    for k in c / LANES * LANES..c {
                        let [(sum, product)] = law.gradient_sums::<1>(x, dy, k, before);
                        sums[k] += f64::from(sum);
                        products[k] += f64::from(product * rate[k]);
                    }
                }
            },
        );
    }

    /// dx = rate · (gamma dz − mean(gamma dz) − normalised · mean(gamma dz · normalised)), the means
    /// over the group.
    fn input_gradient(
        &self,
        x: &[f32],
        dy: &[f32],
        totals: &[f64],
        before: impl Fn(f32, f32) -> f32 + Sync + Copy,
    ) -> Vec<f32> {
        let c = self.stack.channels;
        let (mut constant, mut slope) = self.group_means(totals);
        for (k, rate) in self.rate.iter().enumerate() {
            constant[k] *= rate;
            slope[k] *= rate * rate;
        }
        let mut dx = storage::scratch(x.len());
        self.stack.for_rows(&mut dx, |picture, rows, out| {
            let stretch = rows.start * c..rows.end * c;
            let (x, dy) = (&x[stretch.clone()], &dy[stretch]);
            let law = self.law(picture);
            let constant = self.of_picture(&constant, picture);
            let slope = self.of_picture(&slope, picture);
            vectorised(
                #[inline(always)]
                || {
                    let rows = x.chunks_exact(c).zip(dy.chunks_exact(c));
                    for (out, (x, dy)) in out.chunks_exact_mut(c).zip(rows) {
                        for k in (0..c / LANES * LANES).step_by(LANES) {
                            law.gradient::<LANES>(x, dy, k, [constant, slope], out, before);
                        }
                        for k in c / LANES * LANES..c {
                            law.gradient::<1>(x, dy, k, [constant, slope], out, before);
                        }
                    }
                },
            );
        });
        dx
    }

    fn law(&self, picture: usize) -> Law<'_> {
        Law {
            mean: self.of_picture(&self.mean, picture),
            scale: self.of_picture(&self.scale, picture),
            beta: &self.beta,
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
