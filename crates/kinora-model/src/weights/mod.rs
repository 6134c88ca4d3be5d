//! Weights at rest: the published layouts, opened by memory map and checked.

pub(crate) mod archive;
pub(crate) mod safetensors;

mod header;
mod keys;
mod open;
mod part;
mod scan;
mod stranger;

pub use open::{Format, Weights, open_image_encoder, open_unet, open_vae};
pub use part::{Opening, Part, Variant};
