//! Videos and a configuration in, a checkpoint out.

mod error;

pub mod config;

pub mod trainable;

pub mod ema;
pub mod optim;

pub mod log;

pub use config::Config;
pub use error::{Error, Result};
