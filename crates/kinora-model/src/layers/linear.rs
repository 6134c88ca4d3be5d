//! The linear layer, which is also the 1×1 convolution.

use crate::Result;
use crate::params::{Init, Layout, Source};
use kinora_tensor::{Device, Param, Tensor, ops};

/// y = x · weightᵀ + bias.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Param,
    bias: Option<Param>,
}

impl Linear {
    /// A layer with a bias.
    ///
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn new(source: &Source, i: usize, o: usize) -> Result<Self> {
        Ok(Linear {
            weight: source.param("weight", &[o, i], Layout::Plain, Init::FanIn)?,
            bias: Some(source.param("bias", &[o], Layout::Plain, bias_init(i))?),
        })
    }

    /// A layer without a bias.
    ///
    /// # Errors
    /// When the source does not hold its weight in these extents.
    pub fn without_bias(source: &Source, i: usize, o: usize) -> Result<Self> {
        Ok(Linear {
            weight: source.param("weight", &[o, i], Layout::Plain, Init::FanIn)?,
            bias: None,
        })
    }

    /// A layer with a bias that gives zero until it is trained, so that the residual branch it ends
    /// begins as nothing.
    ///
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn zeroed(source: &Source, i: usize, o: usize) -> Result<Self> {
        Ok(Linear {
            weight: source.param("weight", &[o, i], Layout::Plain, Init::Zeros)?,
            bias: Some(source.param("bias", &[o], Layout::Plain, Init::Zeros)?),
        })
    }

    /// A layer with a bias that files keep as a 1×1 convolution.
    ///
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn point(source: &Source, i: usize, o: usize) -> Result<Self> {
        Ok(Linear {
            weight: source.param("weight", &[o, i], Layout::Point, Init::FanIn)?,
            bias: Some(source.param("bias", &[o], Layout::Plain, bias_init(i))?),
        })
    }

    /// Where its parameters are.
    pub(crate) fn device(&self) -> Device {
        self.weight.device()
    }

    /// # Shapes
    /// `x` `[.., i]`; the result is `[.., o]`.
    ///
    /// # Errors
    /// When the channels of `x` are not the layer's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Param::for_work).transpose()?;
        Ok(ops::linear(x, &self.weight.for_work()?, bias.as_ref())?)
    }

    /// Half of what it makes of `x`, gated by the other half: GEGLU.
    ///
    /// # Shapes
    /// `x` `[.., i]`; the result is `[.., o/2]`.
    ///
    /// # Errors
    /// When the channels of `x` are not the layer's, or o is odd.
    pub fn forward_gated(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Param::for_work).transpose()?;
        Ok(ops::linear_geglu(
            x,
            &self.weight.for_work()?,
            bias.as_ref(),
        )?)
    }

    /// `onto` + what it makes of `x`, in one pass.
    ///
    /// # Shapes
    /// `x` `[.., i]`, `onto` as many rows of o values in any shape; the result is like `onto`.
    ///
    /// # Errors
    /// When the channels of `x` are not the layer's, or `onto` has other rows or channels.
    pub fn forward_onto(&self, onto: &Tensor, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Param::for_work).transpose()?;
        let weight = self.weight.for_work()?;
        Ok(ops::linear_onto(onto, x, &weight, bias.as_ref())?)
    }
}

/// What PyTorch draws the bias of a layer from, when `fan_in` values lead to one output.
pub(super) fn bias_init(fan_in: usize) -> Init {
    Init::Uniform(1.0 / (fan_in as f32).sqrt())
}
