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
mod capture;
mod card;
pub(crate) mod conv;
mod copier;
mod elementwise;
mod engine;
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
mod streams;
mod window;

#[cfg(any(test, feature = "host-machine"))]
mod host;
#[cfg(any(test, feature = "host-machine"))]
mod host_products;
#[cfg(any(test, feature = "host-machine"))]
mod host_streams;
#[cfg(test)]
mod tests;

pub(crate) use array::Array;
pub(crate) use attention::{
    attention, attention_backward, time_attention, time_attention_backward,
};
pub(crate) use board::{Board, of_device, open};
pub use buffer::DeviceBuffer;
pub(crate) use capture::Graph;
pub(crate) use copier::Incoming;
pub(crate) use elementwise::{affine, broadcast, cast, fill, pointwise, pointwise_slope, zip};
pub(crate) use norm::{GroupNorm, LayerNorm, channel_totals};
pub(crate) use pool::rounded;
pub(crate) use reduce::repeated_sum;
pub use report::{
    CardMemory, CardReport, card_array_bytes, card_memory, card_working_bytes, cards,
    limit_device_bytes, made_device_bytes, missing_libraries, peak_device_bytes, ready_card,
    synchronize,
};
pub(crate) use streams::Event;

pub(crate) use window::Window;

#[cfg(test)]
pub(crate) use host::fail_copies_after;
#[cfg(any(test, feature = "host-machine"))]
pub use host::{Order, host_device, host_device_with};
