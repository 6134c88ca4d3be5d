//! Bytes at rest and frames in memory: pictures, videos, footage, and clips to train on. No tensors.

mod chart;
mod contact_sheet;
mod drawing;
mod error;
mod footage;
mod fps;
mod image;
mod loader;
mod metadata;
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
pub use crate::loader::{
    CacheOptions, CachedVideo, Clip, ClipCache, ClipIndex, SkippedFile, VideoFile, VideoFolder,
};
pub use crate::metadata::{Metadata, read_metadata};
pub use crate::table::{
    CaptionChoice, CaptionKind, ClipRow, CutKind, CutRow, JudgeVersions, SourceRow, Status,
};
pub use crate::tool::run_tool;
pub use crate::video::{
    AnalysisFrame, Frame, ReadOptions, Reader, Rotation, VideoInfo, probe, probe_within,
};
pub use crate::writer::Writer;
