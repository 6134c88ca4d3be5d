//! Convolutions of pictures on a card. Time is a picture's height there, so those along time come here
//! too.

use super::Array;
use super::layout::Frame;
use super::product::add_bias;
use crate::ops::{Conv2d, Geometry, Pad};
use crate::{DType, Device, Error, Result, Tensor};

/// Which of the three products a board is to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pass {
    /// (x, w) → y.
    Forward,
    /// (dy, w) → dx.
    Input,
    /// (x, dy) → dw.
    Weight,
}

/// A convolution with as many zeros on one side as on the other, and the zeros that are put around
/// the pictures before where it was not so.
struct Even {
    geometry: Geometry,
    frame: Option<Frame>,
}

/// Refuses arrays whose values cuDNN cannot count: its descriptors are of 32 bits. All kernels of our own
/// count in 64.
fn check_countable(device: Device, g: &Geometry) -> Result<()> {
    let Geometry { n, h, w, i, o, .. } = *g;
    let arrays = [[n, h, w, i], [n, g.oh, g.ow, o], [o, g.kh, g.kw, i]];
    let values = arrays.map(|extents| extents.into_iter().product::<usize>());
    let largest = values.into_iter().max().unwrap_or(0);
    if largest <= i32::MAX as usize {
        return Ok(());
    }
    Err(Error::Device {
        device,
        message: format!(
            "conv2d: an array of {largest} values is more than cuDNN counts, {}; convolve fewer or \
             smaller pictures at a time (an exact decode in bounds does)",
            i32::MAX
        ),
    })
}

impl Even {
    fn of(g: Geometry) -> Self {
        let Pad {
            top,
            bottom,
            left,
            right,
        } = g.conv.pad;
        if top == bottom && left == right {
            return Even {
                geometry: g,
                frame: None,
            };
        }
        let padded = [g.h + top + bottom, g.w + left + right];
        Even {
            geometry: Geometry {
                h: padded[0],
                w: padded[1],
                conv: Conv2d {
                    pad: Pad::default(),
                    ..g.conv
                },
                ..g
            },
            frame: Some(Frame {
                picture: [g.h, g.w, g.i],
                top,
                left,
                padded,
            }),
        }
    }

    fn padded(&self, x: &Array) -> Result<Option<Array>> {
        self.frame.map(|frame| frame.pad(x)).transpose()
    }
}

pub(crate) fn forward(x: &Array, w: &Tensor, b: Option<&Tensor>, g: Geometry) -> Result<Array> {
    let even = Even::of(g);
    check_countable(x.board().device(), &even.geometry)?;
    let padded = even.padded(x)?;
    let w = w.to_dtype(x.dtype())?;
    let y = x.like(g.n * g.oh * g.ow * g.o)?;
    let x = padded.as_ref().unwrap_or(x);
    let board = x.board();
    board.convolve(Pass::Forward, &even.geometry, [x, w.array()?], &y)?;
    if let Some(b) = b {
        add_bias(&y, b)?;
    }
    Ok(y)
}

pub(crate) fn input_gradient(dy: &Array, w: &Tensor, g: Geometry) -> Result<Array> {
    let even = Even::of(g);
    check_countable(dy.board().device(), &even.geometry)?;
    let w = w.to_dtype(dy.dtype())?;
    let wide = &even.geometry;
    let dx = dy.like(wide.n * wide.h * wide.w * wide.i)?;
    dy.board()
        .convolve(Pass::Input, wide, [dy, w.array()?], &dx)?;
    match even.frame {
        Some(frame) => frame.crop(&dx),
        None => Ok(dx),
    }
}

/// In the type `dtype`.
pub(crate) fn weight_gradient(x: &Array, dy: &Array, g: Geometry, dtype: DType) -> Result<Array> {
    let even = Even::of(g);
    check_countable(x.board().device(), &even.geometry)?;
    let padded = even.padded(x)?;
    let dw = x.like(g.o * g.kh * g.kw * g.i)?;
    let x = padded.as_ref().unwrap_or(x);
    x.board()
        .convolve(Pass::Weight, &even.geometry, [x, dy], &dw)?;
    if dw.dtype() == dtype {
        return Ok(dw);
    }
    super::cast(&dw, dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cudnn_cannot_count_is_refused() {
        let pictures = |n| Geometry {
            n,
            h: 576,
            w: 1024,
            i: 128,
            o: 256,
            kh: 3,
            kw: 3,
            oh: 576,
            ow: 1024,
            conv: Conv2d::same(),
        };
        // 576 · 1024 · 256 · 14 are 2.11e9.
        check_countable(Device::Cuda(0), &pictures(14)).unwrap();
        let error = check_countable(Device::Cuda(0), &pictures(15)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("2264924160 values is more than cuDNN counts, 2147483647"),
            "{text}"
        );
    }
}
