//! Arrays and operations on an NVIDIA card.
//!
//! The operations check their shapes in `ops` and come here when their operands lie on a card. What
//! runs is a closed set of kernels in CUDA C++ (`kernels/`, compiled at run time) and, on a card,
//! NVIDIA's libraries for products. All of it goes through a [`Board`]: a card, or, in tests, a
//! machine of our own that runs the same kernel sources on the processor.

mod array;
mod attention;
mod board;
mod buffer;
mod cache;
mod card;
pub(crate) mod conv;
mod elementwise;
mod fused_attention;
mod launch;
pub(crate) mod layout;
mod libraries;
pub(crate) mod mixing;
mod norm;
mod nvrtc;
pub(crate) mod optim;
mod pool;
pub(crate) mod product;
mod reduce;
mod report;
mod sources;

#[cfg(any(test, feature = "host-machine"))]
mod host;
#[cfg(any(test, feature = "host-machine"))]
mod host_products;
#[cfg(test)]
mod tests;

pub(crate) use array::Array;
pub(crate) use attention::{
    attention, attention_backward, time_attention, time_attention_backward,
};
pub(crate) use board::{Board, open};
pub use buffer::DeviceBuffer;
pub(crate) use elementwise::{affine, broadcast, cast, fill, pointwise, pointwise_slope, zip};
pub(crate) use norm::{GroupNorm, LayerNorm, channel_totals};
pub(crate) use reduce::repeated_sum;
pub use report::{
    CardMemory, CardReport, card_array_bytes, card_memory, card_working_bytes, cards,
    missing_libraries, ready_card, synchronize,
};

#[cfg(any(test, feature = "host-machine"))]
pub use host::host_device;
