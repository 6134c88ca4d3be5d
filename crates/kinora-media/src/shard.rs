//! Clips with captions and scores in tar files, as WebDataset has them, and an index.
//!
//! A folder of shards holds `NAME-000000.tar`, `NAME-000001.tar`, …, `index.parquet` and, where motion
//! was judged, `motion_law.json`. In a shard each clip is a few members that share a key, the clip's id:
//!
//! | member | what it is |
//! |---|---|
//! | `KEY.json` | scores, versions of the judges, captions with the weights to draw them by |
//! | `KEY.txt` | one caption, where the clip has any |
//! | `KEY.mp4` (or the clip's own ending) | the clip, byte for byte |
//! | `KEY.latents.npy`, `KEY.latents.safetensors` | cached latents, where they were given |
//!
//! The small members come first, so that a reader that streams can pass a clip over early. Times,
//! owners and rights are fixed and clips lie in the order of their ids: equal input, equal bytes.

mod captions;
mod member;
mod reader;
mod sample;
mod writer;

pub(crate) use captions::drawn;
pub use captions::{CaptionWeights, caption_draw};
pub use reader::{ShardFolder, ShardReader};
pub use sample::{SampleCaption, SampleDescription, ShardSample};
pub use writer::{ShardClip, ShardOptions, ShardSummary, ShardWriter};

/// File name of the index in a folder of shards.
const INDEX: &str = "index.parquet";

#[cfg(test)]
mod tests;
