//! Arrays and operations on an NVIDIA card.
//!
//! The operations check their shapes in `ops` and come here when their operands lie on a card. What
//! runs is a closed set of kernels in CUDA C++ (`kernels/`, compiled at run time) and, on a card,
//! NVIDIA's libraries for products. All of it goes through a [`Board`]: a card, or, in tests, a
//! machine of our own that runs the same kernel sources on the processor.

mod array;
mod board;
mod cache;
mod card;
mod elementwise;
mod launch;
pub(crate) mod layout;
mod libraries;
pub(crate) mod mixing;
mod norm;
mod nvrtc;
mod pool;
mod reduce;
mod sources;

#[cfg(any(test, feature = "host-machine"))]
mod host;
#[cfg(test)]
mod tests;

pub(crate) use array::Array;
pub(crate) use board::{Board, open};
pub(crate) use elementwise::{affine, broadcast, cast, fill, pointwise, pointwise_slope, zip};
pub(crate) use norm::{GroupNorm, LayerNorm};
pub(crate) use reduce::repeated_sum;

#[cfg(any(test, feature = "host-machine"))]
pub use host::host_device;
