//! Layer normalisation.

use super::group_norm::norm_on_card;
use super::linear::wide;
use super::on_card;
use crate::cpu::norm::{ROWS, Stack, sum_row, update_row};
use crate::{Error, Result, Tensor, cuda, storage};
use pulp::{Arch, Simd, WithSimd};

/// y = (x − μ) / √(σ² + eps) · gamma + beta, where μ and σ² are the mean and the variance of each row of
/// channels.
///
/// # Shapes
/// `x` `[.., c]`, `gamma` and `beta` `[c]`; the result is like `x`.
///
/// # Errors
/// When `gamma` or `beta` does not have one value for each channel.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f32) -> Result<Tensor> {
    let c = x.shape().last();
    for values in [gamma, beta] {
        if values.dims() != [c] {
            return Err(Error::shape(
                "layer_norm",
                format!("gamma and beta [{c}]"),
                values.dims(),
            ));
        }
    }
    if on_card("layer_norm", &[x, gamma, beta])? {
        let (y, norm) = cuda::LayerNorm::forward(x.array()?, gamma, beta, eps)?;
        return norm_on_card(y, [x, gamma, beta], move |x, dy, wanted, types| {
            norm.backward(x, dy, wanted, types)
        });
    }
    let norm = Norm {
        stack: Stack {
            pictures: 1,
            rows: x.elements() / c.max(1),
            channels: c,
        },
        gamma: wide(gamma).into_owned(),
        eps,
    };
    let y = norm.forward(x.as_f32()?, &wide(beta));
    let x_kept = x.clone();
    Ok(Tensor::recorded(
        y,
        x.shape(),
        &[x, gamma, beta],
        move |dy, wanted| {
            let (x, dy) = (x_kept.as_f32()?, dy.as_f32()?);
            let dx =
                wanted[0].then(|| Tensor::from_vec(norm.input_gradient(x, dy), x_kept.shape()));
            let mut parts = vec![dx.transpose()?, None, None];
            if wanted[1] || wanted[2] {
                let totals = norm.gradient_totals(x, dy);
                let (dbeta, dgamma) = totals.split_at(c);
                for (part, values) in parts[1..].iter_mut().zip([dgamma, dbeta]) {
                    let values = values.iter().map(|v| *v as f32).collect();
                    *part = Some(Tensor::from_vec(values, [c])?);
                }
            }
            Ok(parts)
        },
    ))
}

struct Norm {
    stack: Stack,
    gamma: Vec<f32>,
    eps: f32,
}

impl Norm {
    fn forward(&self, x: &[f32], beta: &[f32]) -> Vec<f32> {
        let c = self.stack.channels;
        let mut y = storage::scratch(x.len());
        self.stack.for_rows(&mut y, |_, rows, out| {
            let x = &x[rows.start * c..rows.end * c];
            let norm = self;
            Arch::new().dispatch(Forward { norm, x, beta, out });
        });
        y
    }

    /// dx = rate · (gamma dy − mean(gamma dy) − normalised · mean(gamma dy · normalised)).
    fn input_gradient(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let c = self.stack.channels;
        let mut dx = storage::scratch(x.len());
        self.stack.for_rows(&mut dx, |_, rows, out| {
            let stretch = rows.start * c..rows.end * c;
            let (norm, x, dy) = (self, &x[stretch.clone()], &dy[stretch]);
            Arch::new().dispatch(InputGradient { norm, x, dy, out });
        });
        dx
    }

    /// Per channel Σ dy, then Σ dy · normalised.
    fn gradient_totals(&self, x: &[f32], dy: &[f32]) -> Vec<f64> {
        let c = self.stack.channels;
        self.stack.totals::<2>(|_, rows, totals| {
            let stretch = rows.start * c..rows.end * c;
            let (norm, x, dy) = (self, &x[stretch.clone()], &dy[stretch]);
            Arch::new().dispatch(Totals {
                norm,
                x,
                dy,
                totals,
            });
        })
    }
}

/// The mean and 1 / √(σ² + eps) of one row. The row is in the nearest cache by then, so the
/// deviations are squared about the mean itself.
#[inline(always)]
fn moments<S: Simd>(simd: S, row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = sum_row(
        simd,
        [row; 3],
        0.0,
        #[inline(always)]
        |x, _, _| x,
    ) / n;
    let means = simd.splat_f32s(mean);
    let squares = sum_row(
        simd,
        [row; 3],
        mean,
        #[inline(always)]
        |x, _, _| {
            let centred = simd.sub_f32s(x, means);
            simd.mul_f32s(centred, centred)
        },
    );
    (mean, 1.0 / (squares / n + eps).sqrt())
}

/// Normalises some rows.
struct Forward<'a> {
    norm: &'a Norm,
    x: &'a [f32],
    beta: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (c, gamma) = (self.norm.stack.channels, &self.norm.gamma[..]);
        for (out, x) in self.out.chunks_exact_mut(c).zip(self.x.chunks_exact(c)) {
            let (mean, rate) = moments(simd, x, self.norm.eps);
            let (mean, rate) = (simd.splat_f32s(mean), simd.splat_f32s(rate));
            update_row(
                simd,
                out,
                [x, gamma, self.beta],
                #[inline(always)]
                |_, x, gamma, beta| {
                    let normalised = simd.mul_f32s(simd.sub_f32s(x, mean), rate);
                    simd.mul_add_f32s(normalised, gamma, beta)
                },
            );
        }
    }
}

/// Takes the gradients of some rows back.
struct InputGradient<'a> {
    norm: &'a Norm,
    x: &'a [f32],
    dy: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for InputGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (c, gamma) = (self.norm.stack.channels, &self.norm.gamma[..]);
        let rows = self.x.chunks_exact(c).zip(self.dy.chunks_exact(c));
        for (out, (x, dy)) in self.out.chunks_exact_mut(c).zip(rows) {
            let (mean, rate) = moments(simd, x, self.norm.eps);
            let means = simd.splat_f32s(mean);
            let rows = [x, gamma, dy];
            let constant = sum_row(
                simd,
                rows,
                0.0,
                #[inline(always)]
                |_, gamma, dy| simd.mul_f32s(gamma, dy),
            );
            let slope = sum_row(
                simd,
                rows,
                0.0,
                #[inline(always)]
                |x, gamma, dy| simd.mul_f32s(simd.mul_f32s(gamma, dy), simd.sub_f32s(x, means)),
            );
            let constant = simd.splat_f32s(-constant / c as f32);
            let slope = simd.splat_f32s(-slope * rate * rate / c as f32);
            let rate = simd.splat_f32s(rate);
            update_row(
                simd,
                out,
                rows,
                #[inline(always)]
                |_, x, gamma, dy| {
                    let level = simd.mul_add_f32s(gamma, dy, constant);
                    simd.mul_f32s(
                        rate,
                        simd.mul_add_f32s(simd.sub_f32s(x, means), slope, level),
                    )
                },
            );
        }
    }
}

/// Adds some rows to the totals of the channels.
struct Totals<'a> {
    norm: &'a Norm,
    x: &'a [f32],
    dy: &'a [f32],
    totals: &'a mut [f64],
}

impl WithSimd for Totals<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let c = self.norm.stack.channels;
        let mut narrow = vec![0.0f32; 2 * c];
        let blocks = self.x.chunks(ROWS * c).zip(self.dy.chunks(ROWS * c));
        for (x, dy) in blocks {
            let (sum, product) = narrow.split_at_mut(c);
            for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
                let (mean, rate) = moments(simd, x, self.norm.eps);
                let (mean, rate) = (simd.splat_f32s(mean), simd.splat_f32s(rate));
                update_row(
                    simd,
                    sum,
                    [dy; 3],
                    #[inline(always)]
                    |sum, dy, _, _| simd.add_f32s(sum, dy),
                );
                update_row(
                    simd,
                    product,
                    [x, dy, dy],
                    #[inline(always)]
                    |product, x, dy, _| {
                        let normalised = simd.mul_f32s(simd.sub_f32s(x, mean), rate);
                        simd.mul_add_f32s(dy, normalised, product)
                    },
                );
            }
            for (total, value) in self.totals.iter_mut().zip(&mut narrow) {
                *total += f64::from(std::mem::take(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::testing::{assert_close, check_gradients, numbers};

    /// The definition, in f64.
    fn slow(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f32) -> Vec<f32> {
        let c = x.shape().last();
        let (gamma, beta) = (gamma.to_vec(), beta.to_vec());
        let mut out = Vec::new();
        for row in x.to_vec().chunks(c) {
            let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
            let mean = row.iter().sum::<f64>() / c as f64;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / c as f64;
            for k in 0..c {
                let normalised = (row[k] - mean) / (variance + f64::from(eps)).sqrt();
                out.push((normalised * f64::from(gamma[k]) + f64::from(beta[k])) as f32);
            }
        }
        out
    }

    fn operands(dims: &[usize]) -> [Tensor; 3] {
        let c = dims[dims.len() - 1];
        [numbers(dims, 1), numbers([c], 2), numbers([c], 3)]
    }

    const AWKWARD: [&[usize]; 6] = [
        &[1, 1],
        &[5],
        &[2, 3, 7],
        &[1, 33],
        &[300, 65],
        &[2, 2, 2, 4],
    ];

    #[test]
    fn agrees_with_the_definition() -> Result<()> {
        for dims in AWKWARD {
            let [x, gamma, beta] = operands(dims);
            let y = layer_norm(&x, &gamma, &beta, 1e-5)?;
            assert_close(&y.to_vec(), &slow(&x, &gamma, &beta, 1e-5), 1e-6);
        }
        Ok(())
    }

    #[test]
    fn derivative() {
        // The first case is a single value, normalised to a constant: its derivative to x is 0.
        for dims in AWKWARD {
            check_gradients(&operands(dims), |inputs| {
                layer_norm(&inputs[0], &inputs[1], &inputs[2], 0.1)
            });
        }
    }

    #[test]
    fn weights_in_sixteen_bits_are_widened() -> Result<()> {
        let [x, gamma, beta] = operands(&[4, 6]);
        for dtype in [DType::F16, DType::BF16] {
            let (gamma, beta) = (gamma.cast(dtype), beta.cast(dtype));
            let y = layer_norm(&x, &gamma, &beta, 1e-5)?;
            assert_close(&y.to_vec(), &slow(&x, &gamma, &beta, 1e-5), 1e-6);
        }
        Ok(())
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let error = layer_norm(
            &numbers([2, 3], 1),
            &numbers([3], 1),
            &numbers([2], 1),
            1e-5,
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "layer_norm: expected gamma and beta [3], found [2]"
        );
    }
}
