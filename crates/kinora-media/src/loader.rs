//! Clips to train on, from a folder of video files or from the shards of a curated set.
//!
//! [`VideoFolder::open`] finds the videos and says of every other file why it is none;
//! [`ShardClips::find`] knows a folder of shards. [`ClipCache::build`] and [`ClipCache::build_from_shards`]
//! decode each video once, at the size wanted, into a file of raw frames; from then on any clip is a few
//! reads, whatever its start and stride. [`ClipCache::clips`] counts the clips that lie within one shot,
//! and [`ClipCache::read`] gives one of them.
//!
//! A clip that runs over a hard cut would teach a model that scenes jump. What comes from shards is one
//! shot already. In other videos cuts are found here by a simple rule (`cuts.rs`): good for hard cuts,
//! blind to fades and dissolves.

mod cache;
mod clips;
mod cuts;
mod folder;
mod shards;
mod source;

pub use cache::{CacheOptions, CachedVideo, ClipCache};
pub use clips::{Clip, ClipIndex};
pub use folder::{SkippedFile, VideoFile, VideoFolder};
pub use shards::{ShardClips, clip_frames};
