//! A folder of long videos becomes a table of clips that can be cut: shots, motion, text, what CLIP
//! and captioners say of each, kept as columns; thresholds decide later what stays.

mod error;

#[cfg(feature = "cloud")]
pub mod cloud;
pub mod sources;

pub mod cache;
pub mod content;
pub mod cost;
pub mod latents;
pub mod ledger;
pub mod makers;
pub mod step;

pub mod cuts;

pub mod clipping;

pub mod flow;
pub mod motion;

pub mod text_area;

pub mod scores;

pub mod captions;

pub mod annotate;
pub mod config;
pub mod judges;
pub mod merge;
pub mod run;

pub mod filter;
pub mod report;
pub mod select;

pub use error::{Error, Result};
