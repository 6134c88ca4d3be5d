//! The tables of a curated data set, as Parquet files: one row type for each table, one column for
//! each field, read and written through the column interface of the `parquet` crate.

mod columns;
mod reader;
mod rows;
mod schema;
mod sums;
mod writer;

pub use columns::TableRow;
pub use reader::{TableReader, read_table};
pub use rows::{ClipRow, CutKind, CutRow, DropRow, IndexRow, JudgeVersions, SourceRow, Status};
pub use writer::{TableWriter, write_table};

#[cfg(test)]
mod tests;
