//! CLIP: a vision tower makes one vector of a picture, a text tower one of a text, and their cosine
//! tells how well the two fit. The vision tower alone tells the UNet what a still shows; both
//! together judge clips.
//!
//! Legend of the shapes: `n` pictures or texts, `s` side of a picture, `m` tokens, `c` their width,
//! `p` width of the embedding.

pub(crate) mod block;

mod config;
pub(crate) mod vision;

mod text;
mod text_config;
mod tokenizer;

mod model;
mod preprocess;
mod selfcheck;

pub use config::{ClipVisionConfig, HiddenAct};
pub use model::{Clip, ClipConfig};
pub use preprocess::{CLIP_MEAN, CLIP_STD, Crop, Preprocess};
pub(crate) use selfcheck::blocks as selfcheck_blocks;
pub use text::ClipText;
pub use text_config::ClipTextConfig;
pub use tokenizer::{Dialect, Tokenizer, Tokens};
pub use vision::ClipVision;
