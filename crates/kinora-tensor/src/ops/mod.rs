//! The closed list of operations. One file each: forward, derivative, and two tests (a finite
//! difference and a slow, obvious reference).
//!
//! Legend of the shapes: `b` clips, `t` frames, `n` pictures, `h w` rows and columns, `s` places,
//! `c` channels, `i o` channels in and out.

mod activation;
mod attention;
mod blend;
mod concat;
mod conv2d;
mod conv_onto;
mod convert;
mod elementwise;
mod embedding;
mod geglu;
mod group_norm;
mod layer_norm;
mod linear;
mod loss;
mod moments;
mod narrow;
mod permute;
mod reduce;
mod repeat;
mod sinusoid;
mod time_attention;
mod time_conv;
mod upsample;
mod upsample_conv2d;

use crate::{Device, Error, Result, Tensor};

pub use activation::{abs, clamp, exp, gelu, quick_gelu, sigmoid, silu, square};
pub use attention::{attention, causal_attention};
pub use blend::blend;
pub use concat::concat;
pub use conv_onto::{Weighed, conv2d_onto, time_conv_blend};
pub(crate) use conv2d::Geometry;
pub use conv2d::{Conv2d, Pad, conv2d};
pub use convert::convert;
pub use elementwise::{add, add_broadcast, affine, mul, mul_broadcast, scale, sub};
pub use embedding::embedding;
pub use geglu::{geglu, linear_geglu};
pub(crate) use group_norm::group_statistics;
pub use group_norm::{Activation, group_norm};
pub use layer_norm::layer_norm;
pub use linear::{linear, linear_onto};
pub use loss::{l1, mse};
pub use moments::{Moments, group_norm_with};
pub use narrow::narrow;
pub use permute::permute;
pub use reduce::{mean, sum};
pub use repeat::repeat;
pub use sinusoid::sinusoid;
pub use time_attention::time_attention;
pub use time_conv::time_conv;
pub use upsample::upsample_nearest;
pub use upsample_conv2d::upsample_conv2d;

/// Whether the operands lie on a card rather than on the processor; refused where they lie apart.
fn on_card(op: &'static str, operands: &[&Tensor]) -> Result<bool> {
    let first = operands.first().map_or(Device::Cpu, |x| x.device());
    let mut others = operands.iter().map(|operand| operand.device());
    match others.find(|other| *other != first) {
        Some(other) => Err(Error::Devices { op, first, other }),
        None => Ok(first != Device::Cpu),
    }
}
