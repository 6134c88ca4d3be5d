//! Convolutions of pictures and along time.

use super::linear::bias_init;
use crate::params::{Init, Layout, Source};
use crate::{Error, Result};
use kinora_tensor::{DType, Device, Param, Tensor, ops};

/// A convolution of pictures with a bias.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Param,
    bias: Param,
    walk: ops::Conv2d,
}

impl Conv2d {
    /// A kernel of `kernel` × `kernel` pixels that walks as `walk` says.
    ///
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn new(
        source: &Source,
        i: usize,
        o: usize,
        kernel: usize,
        walk: ops::Conv2d,
    ) -> Result<Self> {
        let dims = [o, kernel, kernel, i];
        Ok(Conv2d {
            weight: source.param("weight", &dims, Layout::Conv2d, Init::FanIn)?,
            bias: source.param("bias", &[o], Layout::Plain, bias_init(kernel * kernel * i))?,
            walk,
        })
    }

    /// 3×3 over every pixel: the picture keeps its size.
    ///
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn same(source: &Source, i: usize, o: usize) -> Result<Self> {
        Self::new(source, i, o, 3, ops::Conv2d::same())
    }

    /// 3×3 over every pixel, giving zero until it is trained.
    ///
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn zeroed(source: &Source, i: usize, o: usize) -> Result<Self> {
        Ok(Conv2d {
            weight: source.param("weight", &[o, 3, 3, i], Layout::Conv2d, Init::Zeros)?,
            bias: source.param("bias", &[o], Layout::Plain, Init::Zeros)?,
            walk: ops::Conv2d::same(),
        })
    }

    /// Where its parameters are.
    pub(crate) fn device(&self) -> Device {
        self.weight.device()
    }

    /// # Shapes
    /// `x` `[n, h, w, i]`; the result is `[n, h', w', o]`, see [`ops::conv2d`].
    ///
    /// # Errors
    /// When the channels of `x` are not the layer's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.for_work()?, self.bias.for_work()?);
        Ok(ops::conv2d(x, &weight, Some(&bias), self.walk)?)
    }

    /// `onto` plus the result of [`forward`](Self::forward), see [`ops::conv2d_onto`].
    ///
    /// # Shapes
    /// `x` `[n, h, w, i]`, `onto` like the result.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and when `onto` has another shape.
    pub fn forward_onto(&self, onto: &Tensor, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.for_work()?, self.bias.for_work()?);
        Ok(ops::conv2d_onto(onto, x, &weight, Some(&bias), self.walk)?)
    }

    /// A 3×3 layer over every pixel of pictures of twice the size.
    ///
    /// # Shapes
    /// `x` `[n, h, w, i]`; the result is `[n, 2h, 2w, o]`, see [`ops::upsample_conv2d`].
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_doubled(&self, x: &Tensor) -> Result<Tensor> {
        debug_assert_eq!(self.walk, ops::Conv2d::same());
        let (weight, bias) = (self.weight.for_work()?, self.bias.for_work()?);
        Ok(ops::upsample_conv2d(x, &weight, Some(&bias))?)
    }

    /// [`forward`](Self::forward) of a part of a picture, with zeros around it only where `pad` says.
    ///
    /// # Shapes
    /// As [`forward`](Self::forward).
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_padded(&self, x: &Tensor, pad: ops::Pad) -> Result<Tensor> {
        let (weight, bias) = (self.weight.for_work()?, self.bias.for_work()?);
        let walk = ops::Conv2d { pad, ..self.walk };
        Ok(ops::conv2d(x, &weight, Some(&bias), walk)?)
    }

    /// The result of [`forward`](Self::forward) plus the shift of the clip at every pixel.
    ///
    /// # Shapes
    /// `x` `[b·t, h, w, i]`, `shift` `[b, o]`; the result is `[b·t, h', w', o]`.
    ///
    /// # Errors
    /// When the channels of `x` or `shift` are not the layer's.
    pub fn forward_shifted(&self, x: &Tensor, shift: &Tensor) -> Result<Tensor> {
        shifted(&self.bias, shift, |bias| {
            Ok(ops::conv2d(
                x,
                &self.weight.for_work()?,
                Some(bias),
                self.walk,
            )?)
        })
    }

    /// What the input channels `start .. start + x's channels` alone contribute, without the bias.
    /// A convolution is linear, so the contributions of all its inputs and the bias add up to it.
    ///
    /// # Shapes
    /// `x` `[n, h, w, part of i]`; the result is `[n, h', w', o]`.
    ///
    /// # Errors
    /// When the layer does not have that many input channels.
    pub fn contribution(&self, x: &Tensor, start: usize, with_bias: bool) -> Result<Tensor> {
        let channels = x.shape().last();
        let weight = ops::narrow(&widened(&self.weight)?, 3, start, channels)?;
        let bias = with_bias.then(|| self.bias.for_work()).transpose()?;
        Ok(ops::conv2d(x, &weight, bias.as_ref(), self.walk)?)
    }
}

/// A convolution along time with a bias: each place of a frame meets itself in the frames around.
#[derive(Clone, Debug)]
pub struct TimeConv {
    weight: Param,
    bias: Param,
}

impl TimeConv {
    /// A kernel of 3 frames.
    ///
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn new(source: &Source, i: usize, o: usize) -> Result<Self> {
        Ok(TimeConv {
            weight: source.param("weight", &[o, 3, i], Layout::TimeConv, Init::FanIn)?,
            bias: source.param("bias", &[o], Layout::Plain, bias_init(3 * i))?,
        })
    }

    /// A kernel of 3 frames that gives zero until it is trained.
    ///
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn zeroed(source: &Source, i: usize, o: usize) -> Result<Self> {
        Ok(TimeConv {
            weight: source.param("weight", &[o, 3, i], Layout::TimeConv, Init::Zeros)?,
            bias: source.param("bias", &[o], Layout::Plain, Init::Zeros)?,
        })
    }

    /// # Shapes
    /// `x` `[b, t, .., i]`; the result is `[b, t, .., o]`.
    ///
    /// # Errors
    /// When the channels of `x` are not the layer's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.for_work()?, self.bias.for_work()?);
        Ok(ops::time_conv(x, &weight, Some(&bias))?)
    }

    /// `x` blended with `x` plus the result of [`forward`](Self::forward) for `h`, see [`ops::time_conv_blend`].
    ///
    /// # Shapes
    /// `h` `[b, t, .., i]`, `x` `[b, t, .., o]`, `mix` one number; the result is like `x`.
    ///
    /// # Errors
    /// When the channels of `h` are not the layer's, or `x` has another shape than the result.
    pub fn forward_blend(
        &self,
        x: &Tensor,
        h: &Tensor,
        mix: &Param,
        weighed: ops::Weighed,
    ) -> Result<Tensor> {
        let (weight, bias) = (self.weight.for_work()?, self.bias.for_work()?);
        let mix = (&mix.for_work()?, weighed);
        Ok(ops::time_conv_blend((x, h), &weight, Some(&bias), mix)?)
    }

    /// The result of [`forward`](Self::forward) plus the shift of the clip everywhere.
    ///
    /// # Shapes
    /// `x` `[b, t, .., i]`, `shift` `[b, o]`; the result is `[b, t, .., o]`.
    ///
    /// # Errors
    /// When the channels of `x` or `shift` are not the layer's.
    pub fn forward_shifted(&self, x: &Tensor, shift: &Tensor) -> Result<Tensor> {
        shifted(&self.bias, shift, |bias| {
            Ok(ops::time_conv(x, &self.weight.for_work()?, Some(bias))?)
        })
    }
}

/// `convolve` plus one row of `shift` for each clip. The shift of a single clip joins the bias and
/// costs nothing; those of several are added in another pass.
fn shifted(
    bias: &Param,
    shift: &Tensor,
    convolve: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let bias = widened(bias)?;
    let &[clips, o] = shift.dims() else {
        return Err(Error::argument(
            "shift",
            format!("expected [clips, channels], found {:?}", shift.dims()),
        ));
    };
    if clips == 1 {
        return convolve(&ops::add(&bias, &shift.reshape([o])?)?);
    }
    let y = convolve(&bias)?;
    let rows = y.elements() / (clips * o).max(1);
    let rows = y.reshape([clips, rows, o])?;
    let sum = ops::add_broadcast(&rows, &shift.reshape([clips, 1, o])?)?;
    Ok(sum.reshape(y.shape())?)
}

/// The parameter in f32. One that is stored in 16 bits is frozen, so nothing is lost by the copy.
pub(crate) fn widened(param: &Param) -> Result<Tensor> {
    let value = param.for_work()?;
    Ok(match value.dtype() {
        DType::F32 => value,
        DType::F16 | DType::BF16 => value.to_dtype(DType::F32)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::testing::{assert_close, numbers};

    #[test]
    fn contributions_of_all_channels_add_up() -> Result<()> {
        let layer = Conv2d::same(&Source::fresh(1), 5, 7)?;
        let x = numbers([2, 4, 3, 5], 2);
        let (first, rest) = (ops::narrow(&x, 3, 0, 2)?, ops::narrow(&x, 3, 2, 3)?);
        let sum = ops::add(
            &layer.contribution(&first, 0, false)?,
            &layer.contribution(&rest, 2, true)?,
        )?;
        assert_close(&sum.to_vec(), &layer.forward(&x)?.to_vec(), 1e-6);
        Ok(())
    }

    #[test]
    fn every_pixel_of_a_clip_is_shifted_by_its_row() -> Result<()> {
        let source = Source::fresh(1);
        let layer = Conv2d::same(&source.at("space"), 3, 4)?;
        let along_time = TimeConv::new(&source.at("time"), 3, 4)?;
        for clips in [1, 2] {
            let x = numbers([clips, 2, 3, 5, 3], 2);
            let shift = numbers([clips, 4], 3);
            let rows = shift.reshape([clips, 1, 1, 1, 4])?;
            let dims = [clips, 2, 3, 5, 4];

            let frames = x.reshape([clips * 2, 3, 5, 3])?;
            let expected = ops::add_broadcast(&layer.forward(&frames)?.reshape(dims)?, &rows)?;
            let found = layer.forward_shifted(&frames, &shift)?;
            assert_close(&found.to_vec(), &expected.to_vec(), 1e-6);

            let expected = ops::add_broadcast(&along_time.forward(&x)?, &rows)?;
            let found = along_time.forward_shifted(&x, &shift)?;
            assert_eq!(found.dims(), dims);
            assert_close(&found.to_vec(), &expected.to_vec(), 1e-6);
        }
        Ok(())
    }
}
