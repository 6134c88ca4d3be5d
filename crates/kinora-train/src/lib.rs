//! Videos and a configuration in, a checkpoint out.
//!
//! Legend of the shapes: `b` clips, `t` frames, `h w` rows and columns.

mod error;

pub mod compute;
pub mod config;

pub mod batch;
pub mod clips;

pub mod autoencoder;
pub mod image_to_video;
pub mod task;

pub mod trainable;

pub mod ema;
pub mod optim;

pub mod checkpoint;
pub mod log;
mod samples;

mod trainer;

#[cfg(test)]
mod testing;

pub use checkpoint::Origin;
pub use compute::Compute;
pub use config::Config;
pub use error::{Error, Result};
pub use trainer::{Event, Outcome, Places, Progress, run};
