//! Convolution of pictures.

use super::linear::{fill_rows, linear, sum_rows, wide};
use crate::cpu::conv::{View, Window, convolve, convolve_weight_gradient};
use crate::cpu::matmul::MatRef;
use crate::{Error, Result, Tensor, storage};

/// Rows and columns of zeros around a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pad {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns on the left.
    pub left: usize,
    /// Columns on the right.
    pub right: usize,
}

impl Pad {
    /// The same on every side.
    pub fn all(pixels: usize) -> Self {
        Pad {
            top: pixels,
            bottom: pixels,
            left: pixels,
            right: pixels,
        }
    }
}

/// How a kernel walks over a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Pixels from one place of the kernel to the next, both ways.
    pub stride: usize,
    /// Zeros around the picture.
    pub pad: Pad,
}

impl Conv2d {
    /// A 3×3 kernel over every pixel: the picture keeps its size.
    pub fn same() -> Self {
        Conv2d {
            stride: 1,
            pad: Pad::all(1),
        }
    }

    /// A 3×3 kernel over every second pixel, zeros on all sides: half the size, rounded up.
    pub fn down() -> Self {
        Conv2d {
            stride: 2,
            pad: Pad::all(1),
        }
    }

    /// A 3×3 kernel over every second pixel, zeros only below and on the right: half the size,
    /// rounded down.
    pub fn down_asymmetric() -> Self {
        Conv2d {
            stride: 2,
            pad: Pad {
                bottom: 1,
                right: 1,
                ..Pad::default()
            },
        }
    }

    /// An n×n kernel over patches that do not overlap.
    pub fn patch(n: usize) -> Self {
        Conv2d {
            stride: n,
            pad: Pad::default(),
        }
    }
}

/// y\[n, a, b, o\] = Σ x\[n, a·stride + k − top, b·stride + l − left, i\] · w\[o, k, l, i\] + b\[o\],
/// pixels outside the picture being zero.
///
/// # Shapes
/// `x` `[n, h, w, i]`, `w` `[o, kh, kw, i]` in any element type, `b` `[o]`; the result is
/// `[n, h', w', o]` with h' = ⌊(h + top + bottom − kh) / stride⌋ + 1, and w' likewise.
///
/// # Errors
/// When the channels do not agree, the stride is 0, or the kernel is larger than the padded picture.
pub fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, conv: Conv2d) -> Result<Tensor> {
    let g = Geometry::new(x, w, b, conv)?;
    if g.is_pointwise() {
        return linear(x, &w.reshape([g.o, g.i])?, b);
    }
    let y = g.forward(x.as_f32()?, &wide(w), b.map(wide).as_deref());
    let (x_kept, w_kept) = (x.clone(), w.clone());
    let inputs: Vec<&Tensor> = [x, w].into_iter().chain(b).collect();
    let has_bias = b.is_some();
    let dims = [g.n, g.oh, g.ow, g.o];
    Ok(Tensor::recorded(y, dims, &inputs, move |dy, wanted| {
        let dy = dy.as_f32()?;
        let mut parts = vec![None, None];
        if wanted[0] {
            let dx = g.input_gradient(dy, &wide(&w_kept));
            parts[0] = Some(Tensor::from_vec(dx, x_kept.shape())?);
        }
        if wanted[1] {
            let mut dw = storage::scratch(w_kept.elements());
            convolve_weight_gradient(&mut dw, &g.view(x_kept.as_f32()?), dy);
            parts[1] = Some(Tensor::from_vec(dw, w_kept.shape())?);
        }
        if has_bias {
            let db = wanted[2].then(|| Tensor::from_vec(sum_rows(dy, g.o), [g.o]));
            parts.push(db.transpose()?);
        }
        Ok(parts)
    }))
}

/// The extents of one convolution.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    n: usize,
    h: usize,
    w: usize,
    i: usize,
    o: usize,
    kh: usize,
    kw: usize,
    oh: usize,
    ow: usize,
    conv: Conv2d,
}

impl Geometry {
    fn new(x: &Tensor, weight: &Tensor, b: Option<&Tensor>, conv: Conv2d) -> Result<Self> {
        let &[o, kh, kw, i] = weight.dims() else {
            return Err(Error::shape(
                "conv2d",
                "a weight [o, kh, kw, i]",
                weight.dims(),
            ));
        };
        let &[n, h, w, channels] = x.dims() else {
            return Err(Error::shape(
                "conv2d",
                format!("x [n, h, w, {i}]"),
                x.dims(),
            ));
        };
        if channels != i {
            return Err(Error::shape(
                "conv2d",
                format!("x [n, h, w, {i}]"),
                x.dims(),
            ));
        }
        if let Some(b) = b
            && b.dims() != [o]
        {
            return Err(Error::shape("conv2d", format!("a bias [{o}]"), b.dims()));
        }
        let Pad {
            top,
            bottom,
            left,
            right,
        } = conv.pad;
        let (padded_h, padded_w) = (h + top + bottom, w + left + right);
        if conv.stride == 0 || kh == 0 || kw == 0 || padded_h < kh || padded_w < kw {
            return Err(Error::argument(
                "conv2d",
                format!(
                    "a {kh}×{kw} kernel with stride {} finds no place on a picture of \
                     {padded_h}×{padded_w} pixels with its padding; pad it or take a larger picture",
                    conv.stride
                ),
            ));
        }
        Ok(Geometry {
            n,
            h,
            w,
            i,
            o,
            kh,
            kw,
            oh: (padded_h - kh) / conv.stride + 1,
            ow: (padded_w - kw) / conv.stride + 1,
            conv,
        })
    }

    /// A 1×1 kernel over every pixel is a linear layer.
    fn is_pointwise(&self) -> bool {
        (self.kh, self.kw) == (1, 1) && self.conv.stride == 1 && self.conv.pad == Pad::default()
    }

    /// The pictures as the places of the result look at them.
    fn view<'a>(&self, x: &'a [f32]) -> View<'a> {
        let windows = (0..self.kh).map(|k| Window {
            y: k as isize - self.conv.pad.top as isize,
            x: -(self.conv.pad.left as isize),
            len: self.kw,
        });
        View {
            pixels: x,
            height: self.h,
            width: self.w,
            channels: self.i,
            windows: windows.collect(),
            stride: self.conv.stride,
            grid_height: self.oh,
            grid_width: self.ow,
            pictures: self.n,
        }
    }

    fn forward(&self, x: &[f32], w: &[f32], b: Option<&[f32]>) -> Vec<f32> {
        let mut y = storage::scratch(self.n * self.oh * self.ow * self.o);
        if let Some(b) = b {
            fill_rows(&mut y, b);
        }
        let view = self.view(x);
        let weight = MatRef::new(w, self.o, view.row_len()).t();
        convolve(&mut y, &view, weight, b.is_some());
        y
    }

    /// With stride s, the pixels whose row and column leave the same remainders by s are reached by
    /// the same taps: each of these s² classes is a plain convolution of the gradient.
    fn input_gradient(&self, dy: &[f32], w: &[f32]) -> Vec<f32> {
        let s = self.conv.stride;
        let rows = Taps::by_remainder(self.kh, s, self.conv.pad.top);
        let columns = Taps::by_remainder(self.kw, s, self.conv.pad.left);
        let elements = self.n * self.h * self.w * self.i;
        if s == 1 {
            let mut dx = storage::scratch(elements);
            self.input_gradient_class(&mut dx, dy, w, &rows[0], &columns[0], [self.h, self.w]);
            return dx;
        }
        let mut dx = storage::zeros(elements);
        for (y, rows) in rows.iter().enumerate() {
            for (x, columns) in columns.iter().enumerate() {
                let grid = [self.h.saturating_sub(y), self.w.saturating_sub(x)];
                let grid = grid.map(|extent| extent.div_ceil(s));
                if rows.list.is_empty() || columns.list.is_empty() || grid.contains(&0) {
                    continue;
                }
                let mut part = storage::scratch(self.n * grid[0] * grid[1] * self.i);
                self.input_gradient_class(&mut part, dy, w, rows, columns, grid);
                self.spread(&mut dx, &part, [y, x], grid);
                storage::recycle(part);
            }
        }
        dx
    }

    fn input_gradient_class(
        &self,
        dx: &mut [f32],
        dy: &[f32],
        w: &[f32],
        rows: &Taps,
        columns: &Taps,
        [grid_height, grid_width]: [usize; 2],
    ) {
        let windows = (0..rows.list.len()).map(|k| Window {
            y: rows.first + k as isize,
            x: columns.first,
            len: columns.list.len(),
        });
        let view = View {
            pixels: dy,
            height: self.oh,
            width: self.ow,
            channels: self.o,
            windows: windows.collect(),
            stride: 1,
            grid_height,
            grid_width,
            pictures: self.n,
        };
        let weight = self.weight_of_taps(w, rows, columns);
        let weight_ref = MatRef::new(&weight, view.row_len(), self.i);
        convolve(dx, &view, weight_ref, false);
        storage::recycle(weight);
    }

    /// The weight `[o, kh, kw, i]` as `[taps, o, i]`, of the given taps in their order.
    fn weight_of_taps(&self, w: &[f32], rows: &Taps, columns: &Taps) -> Vec<f32> {
        let mut out = storage::scratch(rows.list.len() * columns.list.len() * self.o * self.i);
        let taps = rows
            .list
            .iter()
            .flat_map(|k| columns.list.iter().map(move |l| k * self.kw + l));
        for (tap, out) in taps.zip(out.chunks_exact_mut((self.o * self.i).max(1))) {
            for (o, out) in out.chunks_exact_mut(self.i).enumerate() {
                out.copy_from_slice(&w[(o * self.kh * self.kw + tap) * self.i..][..self.i]);
            }
        }
        out
    }

    /// Writes the gradient of the pixels in rows y, y + s, .. and columns x, x + s, .. to their places.
    fn spread(&self, dx: &mut [f32], part: &[f32], [y, x]: [usize; 2], grid: [usize; 2]) {
        let (s, i) = (self.conv.stride, self.i);
        for (row, part) in part.chunks_exact(grid[1] * i).enumerate() {
            let (picture, line) = (row / grid[0], row % grid[0]);
            let start = (picture * self.h + line * s + y) * self.w;
            for (column, part) in part.chunks_exact(i).enumerate() {
                dx[(start + column * s + x) * i..][..i].copy_from_slice(part);
            }
        }
    }
}

/// The taps along one axis that reach the pixels of one remainder, last tap first, so that they read
/// the gradient forwards.
#[derive(Debug)]
struct Taps {
    list: Vec<usize>,
    /// Where the first of them reads, relative to the pixel's number within its class.
    first: isize,
}

impl Taps {
    fn by_remainder(kernel: usize, stride: usize, pad: usize) -> Vec<Taps> {
        let taps_of = |remainder: usize| {
            let list: Vec<usize> = (0..kernel)
                .rev()
                .filter(|k| (remainder + pad) % stride == k % stride)
                .collect();
            let first = list.first().map_or(0, |k| {
                ((remainder + pad) as isize - *k as isize) / stride as isize
            });
            Taps { list, first }
        };
        (0..stride).map(taps_of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::testing::{assert_close, check_gradients, numbers};

    /// The definition, in f64.
    fn slow(x: &Tensor, w: &Tensor, b: Option<&Tensor>, conv: Conv2d) -> Vec<f32> {
        let (&[n, h, wide, i], &[o, kh, kw, _]) = (x.dims(), w.dims()) else {
            panic!("pictures and a kernel");
        };
        let oh = (h + conv.pad.top + conv.pad.bottom - kh) / conv.stride + 1;
        let ow = (wide + conv.pad.left + conv.pad.right - kw) / conv.stride + 1;
        let (x, w) = (x.to_vec(), w.to_vec());
        let mut out = Vec::new();
        for place in 0..n * oh * ow * o {
            let (p, a, c, f) = (
                place / o / ow / oh,
                place / o / ow % oh,
                place / o % ow,
                place % o,
            );
            let mut sum = b.map_or(0.0, |b| f64::from(b.to_vec()[f]));
            for (k, l) in (0..kh).flat_map(|k| (0..kw).map(move |l| (k, l))) {
                let row = (a * conv.stride + k).wrapping_sub(conv.pad.top);
                let column = (c * conv.stride + l).wrapping_sub(conv.pad.left);
                if row < h && column < wide {
                    let pixel = &x[((p * h + row) * wide + column) * i..][..i];
                    let tap = &w[((f * kh + k) * kw + l) * i..][..i];
                    let products = pixel.iter().zip(tap);
                    sum += products
                        .map(|(x, w)| f64::from(*x) * f64::from(*w))
                        .sum::<f64>();
                }
            }
            out.push(sum as f32);
        }
        out
    }

    /// Pictures and kernels nobody would choose: (n, h, w, i, o, kh, kw, how).
    fn awkward() -> Vec<([usize; 7], Conv2d)> {
        let lopsided = Pad {
            top: 2,
            bottom: 0,
            left: 1,
            right: 3,
        };
        vec![
            ([1, 1, 1, 1, 1, 3, 3], Conv2d::same()),
            ([2, 5, 7, 3, 4, 3, 3], Conv2d::same()),
            ([1, 2, 3, 5, 2, 3, 3], Conv2d::same()),
            ([2, 7, 5, 3, 2, 3, 3], Conv2d::down()),
            ([1, 1, 1, 2, 3, 3, 3], Conv2d::down()),
            ([2, 7, 6, 3, 2, 3, 3], Conv2d::down_asymmetric()),
            ([1, 8, 9, 3, 5, 4, 4], Conv2d::patch(4)),
            ([2, 4, 5, 3, 2, 1, 1], Conv2d::patch(1)),
            ([1, 7, 7, 2, 3, 1, 1], Conv2d::patch(3)),
            (
                [1, 6, 5, 2, 3, 2, 5],
                Conv2d {
                    stride: 3,
                    pad: lopsided,
                },
            ),
            (
                [1, 6, 5, 2, 3, 4, 1],
                Conv2d {
                    stride: 1,
                    pad: lopsided,
                },
            ),
        ]
    }

    fn operands([n, h, w, i, o, kh, kw]: [usize; 7]) -> [Tensor; 3] {
        [
            numbers([n, h, w, i], 1),
            numbers([o, kh, kw, i], 2),
            numbers([o], 3),
        ]
    }

    #[test]
    fn agrees_with_the_definition() -> Result<()> {
        for (extents, conv) in awkward() {
            let [x, w, b] = operands(extents);
            for b in [None, Some(&b)] {
                let y = conv2d(&x, &w, b, conv)?;
                assert_close(&y.to_vec(), &slow(&x, &w, b, conv), 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn agrees_across_several_blocks_of_places() -> Result<()> {
        let [x, w, b] = operands([2, 33, 41, 70, 3, 5, 5]);
        let conv = Conv2d {
            stride: 1,
            pad: Pad::all(2),
        };
        let y = conv2d(&x, &w, Some(&b), conv)?;
        assert_close(&y.to_vec(), &slow(&x, &w, Some(&b), conv), 1e-6);
        Ok(())
    }

    #[test]
    fn derivative() {
        for (extents, conv) in awkward() {
            let [x, w, b] = operands(extents);
            check_gradients(&[x, w, b], |inputs| {
                conv2d(&inputs[0], &inputs[1], Some(&inputs[2]), conv)
            });
        }
    }

    #[test]
    fn weights_in_sixteen_bits_are_widened() -> Result<()> {
        let [x, w, b] = operands([1, 5, 6, 3, 4, 3, 3]);
        for dtype in [DType::F16, DType::BF16] {
            let (w, b) = (w.cast(dtype), b.cast(dtype));
            let y = conv2d(&x, &w, Some(&b), Conv2d::same())?;
            assert_close(&y.to_vec(), &slow(&x, &w, Some(&b), Conv2d::same()), 1e-6);
        }
        Ok(())
    }

    #[test]
    fn a_frozen_weight_gets_no_gradient() -> Result<()> {
        let [x, w, b] = operands([1, 5, 6, 3, 4, 3, 3]);
        let x = x.tracked();
        let gradients = conv2d(&x, &w, Some(&b), Conv2d::same())?.backward()?;
        assert!(gradients.get(&x).is_some());
        assert!(gradients.get(&w).is_none() && gradients.get(&b).is_none());
        Ok(())
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let [x, w, b] = operands([1, 5, 6, 3, 4, 3, 3]);
        let text = |x: &Tensor, w: &Tensor, b: &Tensor, conv| {
            conv2d(x, w, Some(b), conv).unwrap_err().to_string()
        };
        let same = Conv2d::same();
        assert_eq!(
            text(&numbers([1, 5, 6, 2], 1), &w, &b, same),
            "conv2d: expected x [n, h, w, 3], found [1, 5, 6, 2]"
        );
        assert_eq!(
            text(&x, &w, &numbers([3], 1), same),
            "conv2d: expected a bias [4], found [3]"
        );
        assert_eq!(
            text(&x, &numbers([4, 3], 1), &b, same),
            "conv2d: expected a weight [o, kh, kw, i], found [4, 3]"
        );
        assert!(
            text(&numbers([1, 2, 2, 3], 1), &w, &b, Conv2d::patch(2))
                .contains("finds no place on a picture of 2×2")
        );
        assert!(conv2d(&x.cast(DType::F16), &w, None, same).is_err());
    }
}
