//! Everything with weights: the autoencoder, the spatio-temporal UNet, the CLIP tower, the loading
//! and saving of their parameters, and the story that turns a still into a moving picture.

mod error;

pub mod layers;
pub mod params;
pub mod weights;

pub mod conditioner;
pub mod pixels;
pub mod unet;

pub use error::{Error, Result};
