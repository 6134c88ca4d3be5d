//! Everything with weights: the autoencoder, the spatio-temporal UNet, the CLIP tower, the loading
//! and saving of their parameters, and the story that turns a still into a moving picture.

mod error;

pub mod http;
pub mod params;
pub mod presets;
pub mod weights;

pub mod layers;

pub mod clip;
pub mod compute;
pub mod judges;
pub mod unet;
pub mod vae;

pub mod conditioner;
pub mod flops;
pub mod generate;
pub mod pixels;
pub mod plan;
pub mod selfcheck;

pub use error::{Error, Result};
