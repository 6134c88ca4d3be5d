//! The layers of CRAFT as they compute once trained.

use crate::Result;
use crate::params::{Init, Layout, Source};
use kinora_tensor::{Tensor, ops};
use rayon::prelude::*;

/// What batch norms add to a variance before its root is taken.
const EPSILON: f64 = 1e-5;

/// A convolution over every pixel that keeps the size, with the batch norm behind it folded in.
#[derive(Debug)]
pub(super) struct Convolution {
    /// [o, kernel, kernel, i]
    weight: Tensor,
    /// [o]
    bias: Tensor,
}

impl Convolution {
    /// A kernel of `kernel` × `kernel` from `source`.
    pub(super) fn new(source: &Source, i: usize, o: usize, kernel: usize) -> Result<Self> {
        let dims = [o, kernel, kernel, i];
        Ok(Convolution {
            weight: source
                .param("weight", &dims, Layout::Conv2d, Init::FanIn)?
                .get(),
            bias: source
                .param("bias", &[o], Layout::Plain, Init::Zeros)?
                .get(),
        })
    }

    /// The same followed by the batch norm in `norm`, in its settled state: with γ, β, mean and
    /// variance, y = γ (w∗x + b − mean) / √(variance + ε) + β = (s w)∗x + s (b − mean) + β for
    /// s = γ / √(variance + ε).
    pub(super) fn normed(
        source: &Source,
        norm: &Source,
        i: usize,
        o: usize,
        kernel: usize,
    ) -> Result<Self> {
        let plain = Self::new(source, i, o, kernel)?;
        let of_norm = |name: &str, init| -> Result<Vec<f32>> {
            Ok(norm.param(name, &[o], Layout::Plain, init)?.get().to_vec())
        };
        let gamma = of_norm("weight", Init::Ones)?;
        let beta = of_norm("bias", Init::Zeros)?;
        let mean = of_norm("running_mean", Init::Zeros)?;
        let variance = of_norm("running_var", Init::Ones)?;
        let mut weight = plain.weight.to_vec();
        let mut bias = plain.bias.to_vec();
        for (k, kernels) in weight.chunks_exact_mut(kernel * kernel * i).enumerate() {
            let s = f64::from(gamma[k]) / (f64::from(variance[k]) + EPSILON).sqrt();
            for value in kernels {
                *value = (f64::from(*value) * s) as f32;
            }
            let shifted = f64::from(bias[k]) - f64::from(mean[k]);
            bias[k] = (s * shifted + f64::from(beta[k])) as f32;
        }
        Ok(Convolution {
            weight: Tensor::from_vec(weight, plain.weight.dims())?,
            bias: Tensor::from_vec(bias, [o])?,
        })
    }

    /// # Shapes
    /// `x` [n, h, w, i]; the result is [n, h, w, o].
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let pad = ops::Pad::all(self.weight.dims()[1] / 2);
        let walk = ops::Conv2d { stride: 1, pad };
        Ok(ops::conv2d(x, &self.weight, Some(&self.bias), walk)?)
    }

    /// The same with `dilation` pixels from one place of the kernel to the next.
    ///
    /// Pixels whose rows and columns leave the same remainders by `dilation` meet only each other.
    /// So the picture falls into `dilation`² pictures of every `dilation`-th pixel, which are
    /// convolved as usual, and is put together again.
    ///
    /// # Shapes
    /// `x` [1, h, w, i]; the result is [1, h, w, o].
    pub(super) fn forward_dilated(&self, x: &Tensor, dilation: usize) -> Result<Tensor> {
        let &[1, h, w, i] = x.dims() else {
            unreachable!("one picture, found {:?}", x.dims());
        };
        let (rows, columns) = (h.div_ceil(dilation), w.div_ceil(dilation));
        let o = self.weight.dims()[0];
        let values = x.as_f32()?;
        // Beyond the picture are zeros, as beyond the edge of any convolution here.
        let mut parts = vec![0f32; dilation * dilation * rows * columns * i];
        for_each_pixel(h, w, dilation, |place, pixel| {
            let place = place * i;
            parts[place..place + i].copy_from_slice(&values[pixel * i..][..i]);
        });
        let parts = Tensor::from_vec(parts, [dilation * dilation, rows, columns, i])?;
        let parts = self.forward(&parts)?;
        let parts = parts.as_f32()?;
        let mut y = vec![0f32; h * w * o];
        for_each_pixel(h, w, dilation, |place, pixel| {
            y[pixel * o..][..o].copy_from_slice(&parts[place * o..][..o]);
        });
        Ok(Tensor::from_vec(y, [1, h, w, o])?)
    }
}

/// Tells of each pixel its place among the pictures of every `dilation`-th pixel, and its own.
fn for_each_pixel(h: usize, w: usize, dilation: usize, mut tell: impl FnMut(usize, usize)) {
    let (rows, columns) = (h.div_ceil(dilation), w.div_ceil(dilation));
    for row in 0..h {
        for column in 0..w {
            let picture = (row % dilation) * dilation + column % dilation;
            let place = (picture * rows + row / dilation) * columns + column / dilation;
            tell(place, row * w + column);
        }
    }
}

/// max(x, 0).
pub(super) fn relu(x: &Tensor) -> Result<Tensor> {
    Ok(ops::clamp(x, 0.0, f32::INFINITY)?)
}

/// The largest value of each square of `size` × `size` pixels, one every `stride` pixels, `pad`
/// pixels beyond each edge counting for nothing.
///
/// # Shapes
/// `x` [1, h, w, c]; the result is [1, ⌊(h + 2 pad − size) / stride⌋ + 1, .., c].
pub(super) fn max_pool(x: &Tensor, size: usize, stride: usize, pad: usize) -> Result<Tensor> {
    let &[1, h, w, c] = x.dims() else {
        unreachable!("one picture, found {:?}", x.dims());
    };
    let out = |side: usize| (side + 2 * pad - size) / stride + 1;
    let (rows, columns) = (out(h), out(w));
    let values = x.as_f32()?;
    let window = |at: usize, side: usize| {
        let start = at * stride;
        start.saturating_sub(pad)..(start + size - pad).min(side)
    };
    let mut y = vec![f32::NEG_INFINITY; rows * columns * c];
    y.par_chunks_mut(columns * c)
        .enumerate()
        .for_each(|(row, line)| {
            for (column, largest) in line.chunks_exact_mut(c).enumerate() {
                for y in window(row, h) {
                    for x in window(column, w) {
                        let pixel = &values[(y * w + x) * c..][..c];
                        for (largest, value) in largest.iter_mut().zip(pixel) {
                            *largest = largest.max(*value);
                        }
                    }
                }
            }
        });
    Ok(Tensor::from_vec(y, [1, rows, columns, c])?)
}

/// `x` in another size by linear interpolation between the centres of pixels, held at the edges.
///
/// # Shapes
/// `x` [1, h, w, c]; the result is [1, rows, columns, c].
pub(super) fn upsampled(x: &Tensor, rows: usize, columns: usize) -> Result<Tensor> {
    let &[1, h, w, c] = x.dims() else {
        unreachable!("one picture, found {:?}", x.dims());
    };
    let taps = |from: usize, to: usize| -> Vec<(usize, usize, f32)> {
        let scale = from as f32 / to as f32;
        let tap = |at: usize| {
            let place = ((at as f32 + 0.5) * scale - 0.5).max(0.0);
            let first = (place as usize).min(from - 1);
            (first, (first + 1).min(from - 1), place - first as f32)
        };
        (0..to).map(tap).collect()
    };
    let (down, along) = (taps(h, rows), taps(w, columns));
    let values = x.as_f32()?;
    let mut y = vec![0f32; rows * columns * c];
    y.par_chunks_mut(columns * c)
        .zip(&down)
        .for_each(|(line, &(upper, lower, down))| {
            for (pixel, &(left, right, along)) in line.chunks_exact_mut(c).zip(&along) {
                let at = |row: usize, column: usize| &values[(row * w + column) * c..][..c];
                let (a, b) = (at(upper, left), at(upper, right));
                let (d, e) = (at(lower, left), at(lower, right));
                for k in 0..c {
                    let above = (1.0 - along) * a[k] + along * b[k];
                    let below = (1.0 - along) * d[k] + along * e[k];
                    pixel[k] = (1.0 - down) * above + down * below;
                }
            }
        });
    Ok(Tensor::from_vec(y, [1, rows, columns, c])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::testing::{assert_close, numbers};

    #[test]
    fn a_dilated_convolution_is_the_sum_by_its_definition() -> Result<()> {
        for (h, w) in [(7, 9), (6, 12), (1, 3)] {
            let (i, o, dilation) = (3, 4, 6);
            let layer = Convolution::new(&Source::fresh(3), i, o, 3)?;
            let x = numbers([1, h, w, i], 1);
            let (values, weight) = (x.to_vec(), layer.weight.to_vec());
            let mut expected = vec![0f32; h * w * o];
            for (place, y) in expected.iter_mut().enumerate() {
                let (row, column, k) = (place / o / w, place / o % w, place % o);
                for (dy, dx) in (0..9).map(|tap| (tap / 3, tap % 3)) {
                    let row = (row + dy * dilation).wrapping_sub(dilation);
                    let column = (column + dx * dilation).wrapping_sub(dilation);
                    if row < h && column < w {
                        for c in 0..i {
                            *y += values[(row * w + column) * i + c]
                                * weight[((k * 3 + dy) * 3 + dx) * i + c];
                        }
                    }
                }
            }
            let y = layer.forward_dilated(&x, dilation)?;
            assert_eq!(y.dims(), [1, h, w, o]);
            assert_close(&y.to_vec(), &expected, 1e-5);
        }
        Ok(())
    }

    #[test]
    fn a_folded_norm_is_the_norm_of_the_convolution() -> Result<()> {
        let (i, o) = (3, 5);
        let source = Source::fresh(7);
        let plain = Convolution::new(&source.at("plain"), i, o, 3)?;
        // Fresh norms do nothing but divide by √(1 + ε).
        let normed =
            Convolution::normed(&Source::fresh(7).at("plain"), &source.at("norm"), i, o, 3)?;
        let x = numbers([1, 5, 6, i], 2);
        let scale = 1.0 / (1.0 + EPSILON as f32).sqrt();
        let expected: Vec<f32> = plain
            .forward(&x)?
            .to_vec()
            .iter()
            .map(|y| y * scale)
            .collect();
        assert_close(&normed.forward(&x)?.to_vec(), &expected, 1e-6);
        Ok(())
    }

    #[test]
    fn pools_take_the_largest() -> Result<()> {
        let x = Tensor::from_vec((0..20).map(|v| -(v as f32)).collect(), [1, 4, 5, 1])?;
        let halved = max_pool(&x, 2, 2, 0)?;
        assert_eq!(halved.dims(), [1, 2, 2, 1]); // the fifth column is left over
        assert_eq!(halved.to_vec(), [0.0, -2.0, -10.0, -12.0]);
        // All values are below 0: a padding of zeros would win at every edge.
        let same = max_pool(&x, 3, 1, 1)?;
        assert_eq!(same.dims(), x.dims());
        assert_eq!(same.to_vec()[..5], [0.0, 0.0, -1.0, -2.0, -3.0]);
        assert_eq!(same.to_vec()[19], -13.0);
        Ok(())
    }

    #[test]
    fn upsampling_keeps_ramps_and_holds_edges() -> Result<()> {
        let x = Tensor::from_vec(vec![0.0, 4.0, 8.0, 12.0], [1, 1, 4, 1])?;
        let y = upsampled(&x, 2, 8)?;
        let line = [0.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 12.0];
        assert_eq!(y.to_vec(), [line, line].concat());
        assert_close(&upsampled(&x, 1, 4)?.to_vec(), &x.to_vec(), 0.0);
        Ok(())
    }
}
