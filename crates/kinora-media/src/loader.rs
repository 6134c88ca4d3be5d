//! Clips to train on, from a folder of video files.
//!
//! [`VideoFolder::open`] finds the videos and says of every other file why it is none.
//! [`ClipCache::build`] decodes each once, at the size wanted, into a file of raw frames; from then on
//! any clip is a few reads, whatever its start and stride. [`ClipCache::clips`] counts the clips that
//! lie within one shot, and [`ClipCache::read`] gives one of them.
//!
//! A clip that runs over a hard cut would teach a model that scenes jump. Until a table of clips says
//! where the shots are, cuts are found here by a simple rule (`cuts.rs`): good for hard cuts, blind to
//! fades and dissolves.

mod cache;
mod clips;
mod cuts;
mod folder;

pub use cache::{CacheOptions, CachedVideo, ClipCache};
pub use clips::{Clip, ClipIndex};
pub use folder::{SkippedFile, VideoFile, VideoFolder};
