//! The tables of a curated data set, as Parquet files.

mod rows;

pub use rows::{ClipRow, CutKind, CutRow, JudgeVersions, SourceRow, Status};
