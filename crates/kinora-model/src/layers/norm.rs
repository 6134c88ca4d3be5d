//! Normalisation over groups of channels and over rows.

use crate::params::{Init, Layout, Source};
use crate::{Error, Result};
use kinora_tensor::{Param, Tensor, ops};

/// Normalises groups of channels over a whole picture or clip, then scales and shifts each channel.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Param,
    bias: Param,
    groups: usize,
    eps: f32,
}

impl GroupNorm {
    /// # Errors
    /// When the groups do not divide the channels, or the source does not hold its parameters.
    pub fn new(source: &Source, channels: usize, groups: usize, eps: f32) -> Result<Self> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(Error::argument(
                "GroupNorm",
                format!(
                    "{channels} channels are not {groups} equal groups; take a multiple of {groups}"
                ),
            ));
        }
        Ok(GroupNorm {
            weight: source.param("weight", &[channels], Layout::Plain, Init::Ones)?,
            bias: source.param("bias", &[channels], Layout::Plain, Init::Zeros)?,
            groups,
            eps,
        })
    }

    /// Statistics are taken for each entry of the first axis, over all axes between it and the
    /// channels: `[b·t, h, w, c]` normalises each frame by itself, `[b, t, h, w, c]` each clip.
    ///
    /// # Shapes
    /// `x` `[n, .., c]`; the result is like `x`.
    ///
    /// # Errors
    /// When the channels of `x` are not the layer's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, ops::Activation::None)
    }

    /// The same followed by SiLU, in one pass.
    ///
    /// # Shapes
    /// `x` `[n, .., c]`; the result is like `x`.
    ///
    /// # Errors
    /// When the channels of `x` are not the layer's.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, ops::Activation::Silu)
    }

    /// The norm of a part of a picture or clip, followed by SiLU, `moments` being those of the whole.
    /// Nothing is recorded.
    ///
    /// # Shapes
    /// `x` `[n, .., c]`, with moments for each of the n; the result is like `x`.
    ///
    /// # Errors
    /// When the channels of `x` or the moments are not the layer's.
    pub fn forward_silu_with(&self, x: &Tensor, moments: &[ops::Moments]) -> Result<Tensor> {
        let (weight, bias) = (self.weight.for_work()?, self.bias.for_work()?);
        Ok(ops::group_norm_with(
            x,
            moments,
            &weight,
            &bias,
            self.groups,
            self.eps,
            ops::Activation::Silu,
        )?)
    }

    fn apply(&self, x: &Tensor, activation: ops::Activation) -> Result<Tensor> {
        let (weight, bias) = (self.weight.for_work()?, self.bias.for_work()?);
        Ok(ops::group_norm(
            x,
            &weight,
            &bias,
            self.groups,
            self.eps,
            activation,
        )?)
    }
}

/// Normalises each row of channels, then scales and shifts each channel.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Param,
    bias: Param,
    eps: f32,
}

impl LayerNorm {
    /// # Errors
    /// When the source does not hold its parameters in these extents.
    pub fn new(source: &Source, channels: usize, eps: f32) -> Result<Self> {
        Ok(LayerNorm {
            weight: source.param("weight", &[channels], Layout::Plain, Init::Ones)?,
            bias: source.param("bias", &[channels], Layout::Plain, Init::Zeros)?,
            eps,
        })
    }

    /// # Shapes
    /// `x` `[.., c]`; the result is like `x`.
    ///
    /// # Errors
    /// When the channels of `x` are not the layer's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(ops::layer_norm(
            x,
            &self.weight.for_work()?,
            &self.bias.for_work()?,
            self.eps,
        )?)
    }
}
