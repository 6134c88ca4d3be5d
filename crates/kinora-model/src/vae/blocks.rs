//! What encoder and decoders are built of.
//!
//! A picture's blocks see one frame; a clip's second half sees each pixel in the frames around it.

use super::recompute::Recompute;
use crate::layers::{Conv2d, GroupNorm, Linear, TimeConv};
use crate::params::{Init, Layout, Source};
use crate::{Error, Result};
use kinora_tensor::{Param, Tensor, ops};

/// Added to variances taken over one picture.
pub(super) const SPATIAL_EPS: f32 = 1e-6;
/// Added to variances taken over a whole clip.
pub(super) const TEMPORAL_EPS: f32 = 1e-5;

/// Norm, SiLU, convolution, twice; plus the input.
#[derive(Clone, Debug)]
pub(super) struct SpatialBlock {
    pub(super) norm1: GroupNorm,
    pub(super) conv1: Conv2d,
    pub(super) norm2: GroupNorm,
    pub(super) conv2: Conv2d,
    pub(super) shortcut: Option<Linear>,
    /// Channels out.
    pub(super) o: usize,
}

impl SpatialBlock {
    pub(super) fn new(source: &Source, i: usize, o: usize, groups: usize) -> Result<Self> {
        let shortcut = source.at("conv_shortcut");
        Ok(SpatialBlock {
            norm1: GroupNorm::new(&source.at("norm1"), i, groups, SPATIAL_EPS)?,
            conv1: Conv2d::same(&source.at("conv1"), i, o)?,
            norm2: GroupNorm::new(&source.at("norm2"), o, groups, SPATIAL_EPS)?,
            conv2: Conv2d::same(&source.at("conv2"), o, o)?,
            shortcut: (i != o)
                .then(|| Linear::point(&shortcut, i, o))
                .transpose()?,
            o,
        })
    }

    /// # Shapes
    /// `x` `[n, h, w, i]`; the result is `[n, h, w, o]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut h = self.norm1.forward_silu(x)?;
        h = self.conv1.forward(&h)?;
        h = self.norm2.forward_silu(&h)?;
        match &self.shortcut {
            None => self.conv2.forward_onto(x, &h),
            Some(shortcut) => {
                h = self.conv2.forward(&h)?;
                shortcut.forward_onto(&h, x)
            }
        }
    }

    /// The input, widened or narrowed to the block's channels, plus what the block made of it.
    pub(super) fn add_input(&self, x: &Tensor, inner: &Tensor) -> Result<Tensor> {
        Ok(match &self.shortcut {
            None => ops::add(x, inner)?,
            Some(shortcut) => shortcut.forward_onto(inner, x)?,
        })
    }
}

/// Norm over the clip, SiLU, convolution along time, twice; plus the input; blended with the input.
/// Fresh, its second convolution gives zero and it changes nothing.
#[derive(Clone, Debug)]
pub(super) struct TemporalBlock {
    pub(super) norm1: GroupNorm,
    pub(super) conv1: TimeConv,
    pub(super) norm2: GroupNorm,
    pub(super) conv2: TimeConv,
    mix_factor: Param,
}

impl TemporalBlock {
    /// `source` is that of the spatio-temporal block: the mix factor lies beside the time layers.
    fn new(source: &Source, channels: usize, groups: usize) -> Result<Self> {
        let (layers, mixer) = (source.at("temporal_res_block"), source.at("time_mixer"));
        let norm = |name| GroupNorm::new(&layers.at(name), channels, groups, TEMPORAL_EPS);
        Ok(TemporalBlock {
            norm1: norm("norm1")?,
            conv1: TimeConv::new(&layers.at("conv1"), channels, channels)?,
            norm2: norm("norm2")?,
            conv2: TimeConv::zeroed(&layers.at("conv2"), channels, channels)?,
            mix_factor: mixer.param("mix_factor", &[1], Layout::Plain, Init::Zeros)?,
        })
    }

    /// # Shapes
    /// `x` `[b, t, h, w, c]`; the result is like `x`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut h = self.norm1.forward_silu(x)?;
        h = self.conv1.forward(&h)?;
        h = self.norm2.forward_silu(&h)?;
        self.blend(x, &h)
    }

    /// a · (x + y) + (1 − a) · x with a = σ(mix factor) and y the second convolution of `h`: here, other than in the
    /// UNet, the factor weighs the temporal side.
    pub(super) fn blend(&self, x: &Tensor, h: &Tensor) -> Result<Tensor> {
        let weighed = ops::Weighed::Temporal;
        self.conv2.forward_blend(x, h, &self.mix_factor, weighed)
    }
}

/// A picture's block followed by a clip's.
#[derive(Clone, Debug)]
pub(super) struct SpatioTemporalBlock {
    pub(super) spatial: SpatialBlock,
    pub(super) temporal: TemporalBlock,
}

impl SpatioTemporalBlock {
    pub(super) fn new(source: &Source, i: usize, o: usize, groups: usize) -> Result<Self> {
        Ok(SpatioTemporalBlock {
            spatial: SpatialBlock::new(&source.at("spatial_res_block"), i, o, groups)?,
            temporal: TemporalBlock::new(source, o, groups)?,
        })
    }

    /// The array that comes in is let go when the first half is done with it.
    ///
    /// # Shapes
    /// `x` `[b, t, h, w, i]`; the result is `[b, t, h, w, o]`.
    pub(super) fn forward(&self, mut x: Tensor, recompute: Recompute) -> Result<Tensor> {
        let clip = clip_dims(&x)?;
        x = frames_from_clip(&x)?;
        x = recompute.run(&self.spatial, &x, SpatialBlock::forward)?;
        x = clip_from_frames(&x, clip)?;
        recompute.run(&self.temporal, &x, TemporalBlock::forward)
    }
}

/// Attention of one head among the pixels of a picture, plus its input.
#[derive(Clone, Debug)]
pub(super) struct PixelAttention {
    norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl PixelAttention {
    pub(super) fn new(source: &Source, channels: usize, groups: usize) -> Result<Self> {
        let linear = |name| Linear::new(&source.at(name), channels, channels);
        Ok(PixelAttention {
            norm: GroupNorm::new(&source.at("group_norm"), channels, groups, SPATIAL_EPS)?,
            to_q: linear("to_q")?,
            to_k: linear("to_k")?,
            to_v: linear("to_v")?,
            to_out: linear("to_out.0")?,
        })
    }

    /// # Shapes
    /// `x` `[n, h, w, c]`; the result is like `x`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let &[n, h, w, c] = x.dims() else {
            return Err(Error::argument("vae attention", "expected [n, h, w, c]"));
        };
        let attended = {
            let tokens = self.norm.forward(x)?.reshape([n, h * w, c])?;
            let (q, k, v) = (
                self.to_q.forward(&tokens)?,
                self.to_k.forward(&tokens)?,
                self.to_v.forward(&tokens)?,
            );
            ops::attention(&q, &k, &v, 1)?
        };
        self.to_out.forward_onto(x, &attended)
    }
}

/// The middle of an encoder or a stock decoder.
#[derive(Clone, Debug)]
pub(super) struct Middle {
    pub(super) first: SpatialBlock,
    pub(super) attention: Option<PixelAttention>,
    pub(super) second: SpatialBlock,
}

impl Middle {
    pub(super) fn new(source: &Source, c: usize, groups: usize, attends: bool) -> Result<Self> {
        let block = |k| SpatialBlock::new(&source.at("resnets").at(k), c, c, groups);
        let attention = || PixelAttention::new(&source.at("attentions").at(0), c, groups);
        Ok(Middle {
            first: block(0)?,
            attention: attends.then(attention).transpose()?,
            second: block(1)?,
        })
    }

    /// # Shapes
    /// `x` `[n, h, w, c]`; the result is like `x`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.first.forward(x)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x)?;
        }
        self.second.forward(&x)
    }
}

/// Twice the size, then a convolution.
#[derive(Clone, Debug)]
pub(super) struct Upsampler(pub(super) Conv2d);

impl Upsampler {
    pub(super) fn new(source: &Source, channels: usize) -> Result<Self> {
        let conv = source.at("upsamplers").at(0).at("conv");
        Conv2d::same(&conv, channels, channels).map(Upsampler)
    }

    /// # Shapes
    /// `x` `[n, h, w, c]`; the result is `[n, 2h, 2w, c]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward_doubled(x)
    }
}

/// The extents of a clip.
pub(super) fn clip_dims(x: &Tensor) -> Result<[usize; 5]> {
    x.dims().try_into().map_err(|_| {
        let found = x.dims();
        Error::argument(
            "vae",
            format!("expected a clip [b, t, h, w, c], found {found:?}"),
        )
    })
}

/// `[b, t, h, w, c]` as pictures `[b·t, h, w, c]`.
pub(super) fn frames_from_clip(x: &Tensor) -> Result<Tensor> {
    let [b, t, h, w, c] = clip_dims(x)?;
    Ok(x.reshape([b * t, h, w, c])?)
}

/// Pictures `[b·t, h, w, c]` as clips again, b and t being those of `clip`.
pub(super) fn clip_from_frames(x: &Tensor, clip: [usize; 5]) -> Result<Tensor> {
    let dims = [&clip[..2], &x.dims()[1..]].concat();
    Ok(x.reshape(dims)?)
}
