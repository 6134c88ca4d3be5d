//! The CLIP vision tower: a picture becomes one vector that names what is on it.
//!
//! Legend of the shapes: `n` pictures, `s` side of a picture, `m` tokens, `c` their width, `p` width
//! of the embedding.

mod config;
mod vision;

pub use config::{ClipVisionConfig, HiddenAct};
pub use vision::ClipVision;
