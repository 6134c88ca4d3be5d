//! Convolution of pictures.

use super::linear::{fill_rows, layer_on_card, linear, sum_rows, wide};
use super::on_card;
use crate::cpu::conv::{View, Window, convolve, convolve_weight_gradient};
use crate::cpu::matmul::MatRef;
use crate::cpu::onto::Onto;
use crate::cpu::weight_gradient::WeightGradient;
use crate::cpu::winograd::{Direction, GradientOverPictures, Grid, OverPictures, Weight};
use crate::{Error, Result, Tensor, cuda, storage};

/// Rows and columns of zeros around a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    let inputs: Vec<&Tensor> = [x, w].into_iter().chain(b).collect();
    if on_card("conv2d", &inputs)? {
        return conv_on_card(x, w, b, g, vec![g.n, g.oh, g.ow, g.o]);
    }
    let y = g.forward(x.as_f32()?, w, b.map(wide).as_deref(), None);
    let (x_kept, w_kept) = (x.clone(), w.clone());
    let has_bias = b.is_some();
    let dims = [g.n, g.oh, g.ow, g.o];
    Ok(Tensor::recorded(y, dims, &inputs, move |dy, wanted| {
        let dy = dy.as_f32()?;
        let mut parts = vec![None, None];
        if wanted[0] {
            let dx = g.input_gradient(dy, &w_kept);
            parts[0] = Some(Tensor::from_vec(dx, x_kept.shape())?);
        }
        let mut db = (has_bias && wanted[2]).then(|| vec![0.0; g.o]);
        if wanted[1] {
            let dw = g.weight_gradient(x_kept.as_f32()?, dy, db.as_deref_mut());
            parts[1] = Some(Tensor::from_vec(dw, w_kept.shape())?);
        } else if let Some(db) = &mut db {
            *db = sum_rows(dy, g.o);
        }
        if has_bias {
            parts.push(db.map(|db| Tensor::from_vec(db, [g.o])).transpose()?);
        }
        Ok(parts)
    }))
}

/// A convolution on a card, of any kind that `g` describes; the result has the extents `dims`.
pub(super) fn conv_on_card(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    g: Geometry,
    dims: Vec<usize>,
) -> Result<Tensor> {
    use cuda::conv;
    Ok(layer_on_card(
        (conv::forward(x.array()?, w, b, g)?, dims),
        (x, w, b, None),
        move |dy, w| conv::input_gradient(dy, w, g),
        move |x, dy, dtype| conv::weight_gradient(x, dy, g, dtype),
    ))
}

/// The extents of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub i: usize,
    pub o: usize,
    pub kh: usize,
    pub kw: usize,
    pub oh: usize,
    pub ow: usize,
    pub conv: Conv2d,
}

impl Geometry {
    pub(super) fn new(
        x: &Tensor,
        weight: &Tensor,
        b: Option<&Tensor>,
        conv: Conv2d,
    ) -> Result<Self> {
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
    pub(super) fn is_pointwise(&self) -> bool {
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

    pub(crate) fn forward(
        &self,
        x: &[f32],
        w: &Tensor,
        b: Option<&[f32]>,
        onto: Option<Onto<'_>>,
    ) -> Vec<f32> {
        let mut y = storage::scratch(self.n * self.oh * self.ow * self.o);
        if let Some(mut job) = self.minimal(x, w, b, Direction::Forward) {
            job.onto = onto;
            job.run(&mut y);
            return y;
        }
        if let Some(b) = b {
            fill_rows(&mut y, b);
        }
        let view = self.view(x);
        let w = wide(w);
        let weight = MatRef::new(&w, self.o, view.row_len()).t();
        convolve(&mut y, &view, weight, b.is_some());
        if let Some(onto) = onto {
            onto.join(&mut y);
        }
        y
    }

    /// The way with four times fewer multiplications, where it exists and pays.
    fn minimal<'a>(
        &self,
        pixels: &'a [f32],
        w: &'a Tensor,
        bias: Option<&'a [f32]>,
        direction: Direction,
    ) -> Option<OverPictures<'a>> {
        let Pad { top, left, .. } = self.conv.pad;
        if (self.kh, self.kw, self.conv.stride) != (3, 3, 1) || top > 2 || left > 2 {
            return None;
        }
        let (pictures, result) = ([self.h, self.w], [self.oh, self.ow]);
        let (grid, from, to) = match direction {
            Direction::Forward => {
                let grid = Grid::pictures(self.n, pictures, result, [top, left]);
                (grid, self.i, self.o)
            }
            Direction::Backward => {
                let grid = Grid::pictures(self.n, result, pictures, [2 - top, 2 - left]);
                (grid, self.o, self.i)
            }
        };
        let job = OverPictures {
            grid,
            pixels,
            weight: Weight::new(w, direction),
            bias,
            onto: None,
            from,
            to,
        };
        job.pays().then_some(job)
    }

    /// With stride s, the pixels whose row and column leave the same remainders by s are reached by
    /// the same taps: each of these s² classes is a plain convolution of the gradient.
    pub(crate) fn weight_gradient(
        &self,
        x: &[f32],
        dy: &[f32],
        bias: Option<&mut [f32]>,
    ) -> Vec<f32> {
        let mut dw = storage::scratch(self.o * self.kh * self.kw * self.i);
        let Pad { top, left, .. } = self.conv.pad;
        let minimal = GradientOverPictures {
            grid: Grid::pictures(self.n, [self.h, self.w], [self.oh, self.ow], [top, left]),
            pixels: x,
            gradient: dy,
            from: self.i,
            to: self.o,
        };
        let shared = WeightGradient {
            pixels: x,
            gradient: dy,
            n: self.n,
            from: [self.h, self.w],
            to: [self.oh, self.ow],
            taps: [self.kh, self.kw],
            pad: [top, left],
            i: self.i,
            o: self.o,
        };
        if (self.kh, self.kw, self.conv.stride) == (3, 3, 1) && minimal.pays() {
            minimal.run(&mut dw);
        } else if self.conv.stride == 1 && shared.pays() {
            shared.run(&mut dw, bias);
            return dw;
        } else {
            convolve_weight_gradient(&mut dw, &self.view(x), dy);
        }
        if let Some(bias) = bias {
            bias.copy_from_slice(&sum_rows(dy, self.o));
        }
        dw
    }

    pub(crate) fn input_gradient(&self, dy: &[f32], w: &Tensor) -> Vec<f32> {
        let elements = self.n * self.h * self.w * self.i;
        if let Some(job) = self.minimal(dy, w, None, Direction::Backward) {
            let mut dx = storage::scratch(elements);
            job.run(&mut dx);
            return dx;
        }
        let w = &wide(w);
        let s = self.conv.stride;
        let rows = Taps::by_remainder(self.kh, s, self.conv.pad.top);
        let columns = Taps::by_remainder(self.kw, s, self.conv.pad.left);
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
mod tests;
