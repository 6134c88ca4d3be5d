//! The tables of a curated data set, as Parquet files.

mod caption_choice;
mod rows;

pub use caption_choice::{CaptionChoice, CaptionKind};
pub use rows::{ClipRow, CutKind, CutRow, JudgeVersions, SourceRow, Status};
