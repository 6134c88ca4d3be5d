//! Bytes at rest and frames in memory: pictures, videos, footage, and clips to train on. No tensors.

mod chart;
mod contact_sheet;
mod drawing;
mod error;
mod footage;
mod fps;
mod image;
mod latents;
mod loader;
mod metadata;
mod motion_law;
mod shard;
mod table;
mod tool;
mod unfinished;
mod video;
mod writer;

pub use crate::chart::{Chart, Series, draw_chart, line_chart};
pub use crate::contact_sheet::{SheetRow, SheetStyle, contact_sheet, side_by_side};
pub use crate::error::{Error, Result};
pub use crate::footage::{FootageOptions, Subject, render_footage, render_held_out_shot};
pub use crate::fps::Fps;
pub use crate::image::{MAX_PIXELS, Rgb8Image, read_image};
pub use crate::latents::{ClipLatents, LatentRecipe};
pub use crate::loader::{
    CacheOptions, CachedVideo, Clip, ClipCache, ClipIndex, ShardClips, SkippedFile, VideoFile,
    VideoFolder, clip_frames,
};
pub use crate::metadata::{Metadata, read_metadata};
pub use crate::motion_law::{MOTION_BUCKETS, MotionLaw, MotionMeasure};
pub use crate::shard::{
    CaptionWeights, SampleCaption, SampleDescription, ShardClip, ShardFolder, ShardOptions,
    ShardReader, ShardSample, ShardSummary, ShardWriter, caption_draw,
};
pub use crate::table::{
    ClipRow, CutKind, CutRow, DropRow, IndexRow, JudgeVersions, SourceRow, Status, TableReader,
    TableRow, TableWriter, read_table, write_table,
};
pub use crate::tool::run_tool;
pub use crate::unfinished::{is_unfinished, remove_unfinished};
pub use crate::video::{
    AnalysisFrame, AnalysisOptions, AnalysisReader, CopyOptions, Frame, Packet, PartCopy,
    ReadOptions, Reader, Rotation, VideoInfo, children_cpu_secs, list_packets, probe,
    probe_packets, probe_within, stream_copy,
};
pub use crate::writer::Writer;
