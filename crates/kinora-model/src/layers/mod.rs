//! The layers that networks are built of, one file each. A layer is built from a
//! [`Source`](crate::params::Source), which knows its parameters by the names diffusers gives them.
//!
//! Legend of the shapes: `b` clips, `t` frames, `n` pictures or tokens, `h w` rows and columns, `s`
//! places, `c` channels, `i o` channels in and out.

mod conv;
mod linear;
mod norm;

mod attention;
mod embedding;
mod feed_forward;

pub(crate) use conv::widened;

pub use attention::{Attended, CrossAttention, SelfAttention};
pub use conv::{Conv2d, TimeConv};
pub use embedding::SinusoidEmbedding;
pub use feed_forward::FeedForward;
pub(crate) use feed_forward::values_held as feed_forward_values;
pub use linear::Linear;
pub use norm::{GroupNorm, LayerNorm};
