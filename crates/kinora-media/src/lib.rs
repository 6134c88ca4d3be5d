//! Bytes at rest and frames in memory: pictures, videos, footage, and clips to train on. No tensors.

mod error;
mod fps;
mod image;
mod unfinished;

pub use crate::error::{Error, Result};
pub use crate::fps::Fps;
pub use crate::image::{MAX_PIXELS, Rgb8Image, read_image};
