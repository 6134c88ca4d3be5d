//! Group normalisation, with the SiLU that follows it in the same pass.

use super::linear::wide;
use crate::cpu::exp::sigmoid;
use crate::cpu::norm::{ROWS, Stack, add_moments};
use crate::cpu::vectorised;
use crate::{Error, Result, Tensor, storage};

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
                Activation::None => tables.backward(x, dy, wanted[0], |dy, _| dy),
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
        let count = (rows * width) as f64;
        for totals in totals.chunks_exact(2 * c) {
            let (sums, squares) = totals.split_at(c);
            for (sums, squares) in sums.chunks(width).zip(squares.chunks(width)) {
                let mean = sums.iter().sum::<f64>() / count;
                let variance = (squares.iter().sum::<f64>() / count - mean * mean).max(0.0);
                let rate = (1.0 / (variance + f64::from(eps)).sqrt()) as f32;
                tables.mean.extend(std::iter::repeat_n(mean as f32, width));
                tables.rate.extend(std::iter::repeat_n(rate, width));
            }
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
            Activation::None => self.forward(x, |z| z),
            Activation::Silu => self.forward(x, |z| z * sigmoid(z)),
        }
    }

    fn forward(&self, x: &[f32], f: impl Fn(f32) -> f32 + Sync + Copy) -> Vec<f32> {
        let c = self.stack.channels;
        let mut y = storage::scratch(x.len());
        self.stack.for_rows(&mut y, |picture, rows, out| {
            let mean = self.of_picture(&self.mean, picture);
            let scale = self.of_picture(&self.scale, picture);
            let beta = &self.beta[..c];
            let x = &x[rows.start * c..rows.end * c];
            vectorised(
                #[inline(always)]
                || {
                    for (out, x) in out.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                        for k in 0..c {
                            out[k] = f((x[k] - mean[k]) * scale[k] + beta[k]);
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
        let mean = self.of_picture(&self.mean, picture);
        let rate = self.of_picture(&self.rate, picture);
        let (gamma, beta) = (&self.gamma[..c], &self.beta[..c]);
        let (sums, products) = totals.split_at_mut(c);
        vectorised(
            #[inline(always)]
            || {
                for (x, dy) in x.chunks(ROWS * c).zip(dy.chunks(ROWS * c)) {
                    for k in 0..c {
                        let (mut sum, mut product) = (0.0, 0.0);
                        for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
                            let normalised = (x[k] - mean[k]) * rate[k];
                            let dz = before(dy[k], normalised * gamma[k] + beta[k]);
                            sum += dz;
                            product += dz * normalised;
                        }
                        sums[k] += f64::from(sum);
                        products[k] += f64::from(product);
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
        let (constant, slope) = self.group_means(totals);
        let mut dx = storage::scratch(x.len());
        self.stack.for_rows(&mut dx, |picture, rows, out| {
            let stretch = rows.start * c..rows.end * c;
            let (x, dy) = (&x[stretch.clone()], &dy[stretch]);
            let mean = self.of_picture(&self.mean, picture);
            let rate = self.of_picture(&self.rate, picture);
            let constant = self.of_picture(&constant, picture);
            let slope = self.of_picture(&slope, picture);
            let (gamma, beta) = (&self.gamma[..c], &self.beta[..c]);
            vectorised(
                #[inline(always)]
                || {
                    let rows = x.chunks_exact(c).zip(dy.chunks_exact(c));
                    for (out, (x, dy)) in out.chunks_exact_mut(c).zip(rows) {
                        for k in 0..c {
                            let normalised = (x[k] - mean[k]) * rate[k];
                            let dz = before(dy[k], normalised * gamma[k] + beta[k]);
                            out[k] =
                                rate[k] * (gamma[k] * dz - constant[k] - normalised * slope[k]);
                        }
                    }
                },
            );
        });
        dx
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
mod tests {
    use super::*;
    use crate::DType;
    use crate::testing::{assert_close, check_gradients, numbers};

    /// The definition, in f64 and two passes over each group.
    fn slow(
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        groups: usize,
        eps: f32,
        activation: Activation,
    ) -> Vec<f32> {
        let (n, c) = (x.dims()[0], x.shape().last());
        let rows = x.elements() / (n * c);
        let values: Vec<f64> = x.to_vec().into_iter().map(f64::from).collect();
        let (gamma, beta) = (gamma.to_vec(), beta.to_vec());
        let width = c / groups;
        let mut out = vec![0.0; x.elements()];
        for (picture, group) in (0..n).flat_map(|p| (0..groups).map(move |g| (p, g))) {
            let places: Vec<usize> = (0..rows * width)
                .map(|k| (picture * rows + k / width) * c + group * width + k % width)
                .collect();
            let count = places.len() as f64;
            let mean = places.iter().map(|p| values[*p]).sum::<f64>() / count;
            let variance = places
                .iter()
                .map(|p| (values[*p] - mean).powi(2))
                .sum::<f64>()
                / count;
            for p in places {
                let z = (values[p] - mean) / (variance + f64::from(eps)).sqrt()
                    * f64::from(gamma[p % c])
                    + f64::from(beta[p % c]);
                out[p] = match activation {
                    Activation::None => z,
                    Activation::Silu => z / (1.0 + (-z).exp()),
                } as f32;
            }
        }
        out
    }

    const AWKWARD: [(&[usize], usize); 7] = [
        (&[1, 1, 1, 2], 1),
        (&[2, 3, 5, 6], 3),
        (&[1, 2, 3, 7, 4], 4),
        (&[2, 5, 4], 2),
        (&[3, 12], 2),
        (&[1, 300, 70], 35),
        (&[2, 11, 1], 1),
    ];

    fn operands(dims: &[usize]) -> [Tensor; 3] {
        let c = dims[dims.len() - 1];
        [numbers(dims, 1), numbers([c], 2), numbers([c], 3)]
    }

    #[test]
    fn agrees_with_the_definition() -> Result<()> {
        for (dims, groups) in AWKWARD {
            for activation in [Activation::None, Activation::Silu] {
                let [x, gamma, beta] = operands(dims);
                let y = group_norm(&x, &gamma, &beta, groups, 1e-5, activation)?;
                let expected = slow(&x, &gamma, &beta, groups, 1e-5, activation);
                assert_close(&y.to_vec(), &expected, 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn a_large_mean_does_not_drown_the_variance() -> Result<()> {
        let [x, gamma, beta] = operands(&[1, 4000, 8]);
        let x = crate::ops::affine(&x, 1.0, 1000.0)?;
        let y = group_norm(&x, &gamma, &beta, 4, 1e-5, Activation::None)?;
        let expected = slow(&x, &gamma, &beta, 4, 1e-5, Activation::None);
        // One unit in the last place of the mean is 1e-4 of the deviation; the variance adds nothing.
        assert_close(&y.to_vec(), &expected, 1e-4);
        Ok(())
    }

    #[test]
    fn derivative() {
        // Where a group holds two values its result hardly moves, and f32 differences see only noise.
        for (dims, groups) in &AWKWARD[1..6] {
            for activation in [Activation::None, Activation::Silu] {
                check_gradients(&operands(dims), |inputs| {
                    group_norm(&inputs[0], &inputs[1], &inputs[2], *groups, 0.1, activation)
                });
            }
        }
    }

    #[test]
    fn weights_in_sixteen_bits_are_widened() -> Result<()> {
        let [x, gamma, beta] = operands(&[2, 3, 4, 6]);
        for dtype in [DType::F16, DType::BF16] {
            let (gamma, beta) = (gamma.cast(dtype), beta.cast(dtype));
            let y = group_norm(&x, &gamma, &beta, 2, 1e-5, Activation::Silu)?;
            let expected = slow(&x, &gamma, &beta, 2, 1e-5, Activation::Silu);
            assert_close(&y.to_vec(), &expected, 1e-6);
        }
        Ok(())
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let [x, gamma, beta] = operands(&[2, 3, 4, 6]);
        let text = |gamma: &Tensor, groups| {
            group_norm(&x, gamma, &beta, groups, 1e-5, Activation::None)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            text(&gamma, 4),
            "group_norm: 4 groups do not divide 6 channels; take a divisor"
        );
        assert_eq!(
            text(&numbers([5], 1), 2),
            "group_norm: expected gamma and beta [6], found [5]"
        );
    }
}
