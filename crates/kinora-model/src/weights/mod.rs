//! Weights at rest: the published layouts, opened by memory map and checked.

pub(crate) mod archive;
pub(crate) mod safetensors;
