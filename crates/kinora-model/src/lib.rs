//! Everything with weights: the autoencoder, the spatio-temporal UNet, the CLIP tower, the loading
//! and saving of their parameters, and the story that turns a still into a moving picture.

mod error;

pub mod params;
pub mod weights;
pub mod presets;

pub mod layers;
pub mod vae;
pub mod clip;
pub mod unet;

pub mod pixels;
pub mod conditioner;

pub use error::{Error, Result};
