//! The spatio-temporal UNet: a still-image UNet in which every residual block and every transformer
//! is followed by a twin that looks along time, the two blended by a learned weight.
//!
//! Legend of the shapes: `b` clips, `t` frames, `h w` rows and columns of the latents, `s` = h·w
//! places, `c` channels, `e` channels of the embedding, `n` tokens of the context, `d` their width.

mod config;
mod config_file;
mod network;

mod frames;
mod level;
mod res_block;
mod selfcheck;
mod stage;
mod transformer;

#[cfg(test)]
mod parity;

pub use config::{LevelKind, NormEps, UNetConfig};
pub use network::{Pass, Prepared, UNet};
pub(crate) use selfcheck::{blocks as selfcheck_blocks, config as selfcheck_config};
