//! Weights at rest: the published layouts, opened by memory map and checked.

pub(crate) mod archive;
pub(crate) mod safetensors;

pub mod hub;

mod clip;
mod clip_keys;
mod coca;
mod describe;
pub(crate) mod fingerprint;
mod folder;
mod header;
mod keys;
mod open;
pub(crate) mod open_clip_config;
mod original;
mod part;
mod scan;
mod stranger;

pub use clip::open_clip_model;
pub use coca::open_coca_model;
pub use describe::{Description, PartDescription, describe};
pub use folder::{Model, save_image_encoder, save_model, save_unet, save_vae};
pub use open::{Format, Weights, open_arrays, open_image_encoder, open_unet, open_vae};
pub use part::{Opening, Part, Variant};
