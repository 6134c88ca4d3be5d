//! Rows to a Parquet file, one group of rows at a time.

use super::columns::{Cell, Column, Kind, TableRow};
use super::schema::schema;
use super::sums;
use crate::error::{Error, Result};
use crate::unfinished::UnfinishedFile;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of a group at most: small enough to be held while it is written, large enough to read fast.
const GROUP_ROWS: usize = 65_536;
/// Bytes of captions and embeddings of a group at most.
const GROUP_LONG_BYTES: usize = if cfg!(test) { 1 << 20 } else { 64 << 20 };
/// Said of every file; a version of the program would change the bytes of equal tables.
const CREATED_BY: &str = "kinora version 1";

/// A table on its way to its name. Rows are given one by one and held a group at a time, so that
/// memory stays bounded however long the table becomes; the file has its name when
/// [`TableWriter::finish`] returns, and dropping the writer before that leaves nothing behind.
pub struct TableWriter<R> {
    path: PathBuf,
    columns: Vec<Box<dyn Column<R>>>,
    unfinished: UnfinishedFile,
    file: SerializedFileWriter<File>,
    group: Vec<R>,
    long_bytes: usize,
    rows: u64,
}

/// Writes a table in one go, under a temporary name that is then changed to `path`. Equal rows make
/// equal bytes.
///
/// # Errors
/// When the file cannot be written.
pub fn write_table<R: TableRow>(path: &Path, rows: &[R]) -> Result<()> {
    let mut writer = TableWriter::create(path)?;
    for row in rows {
        writer.push(row.clone())?;
    }
    writer.finish()?;
    Ok(())
}

impl<R: TableRow> TableWriter<R> {
    /// Begins a table that will replace what is at `path`.
    ///
    /// # Errors
    /// When no file can be made beside `path`.
    pub fn create(path: &Path) -> Result<TableWriter<R>> {
        let (unfinished, file) = UnfinishedFile::create(path)?;
        let columns = R::columns();
        let properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.to_owned())
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        let file = SerializedFileWriter::new(file, schema(&columns), Arc::new(properties))
            .map_err(refusal(path))?;
        Ok(TableWriter {
            path: path.to_path_buf(),
            columns,
            unfinished,
            file,
            group: Vec::new(),
            long_bytes: 0,
            rows: 0,
        })
    }

    /// Adds a row after the others.
    ///
    /// # Errors
    /// When the disk refuses, or a number is too large for its column.
    pub fn push(&mut self, row: R) -> Result<()> {
        self.long_bytes += row.long_bytes();
        self.group.push(row);
        self.rows += 1;
        if self.group.len() >= GROUP_ROWS || self.long_bytes >= GROUP_LONG_BYTES {
            self.write_group()?;
        }
        Ok(())
    }

    /// Writes what is left and gives the file its name; hands back how many rows it has.
    ///
    /// # Errors
    /// When the disk refuses, or a number is too large for its column.
    pub fn finish(mut self) -> Result<u64> {
        if !self.group.is_empty() {
            self.write_group()?;
        }
        self.file.flush().map_err(Error::io("write", &self.path))?;
        let written = File::open(self.unfinished.path()).map_err(Error::io("open", &self.path))?;
        let sums = sums::of_groups(&written, self.file.flushed_row_groups())
            .map_err(Error::io("read back", &self.path))?;
        self.file
            .append_key_value_metadata(sums::as_metadata(&sums));
        self.file.close().map_err(refusal(&self.path))?;
        self.unfinished.finish()?;
        Ok(self.rows)
    }

    fn write_group(&mut self) -> Result<()> {
        let mut group = self.file.next_row_group().map_err(refusal(&self.path))?;
        for column in &self.columns {
            let cells = self.group.iter().map(|row| column.cell(row));
            let buffers = Buffers::filled(column.as_ref(), cells)
                .map_err(|message| Error::table(&self.path, message))?;
            let mut writer = group
                .next_column()
                .map_err(refusal(&self.path))?
                .expect("the schema has a column for each of ours");
            buffers.write(&mut writer).map_err(refusal(&self.path))?;
            writer.close().map_err(refusal(&self.path))?;
        }
        group.close().map_err(refusal(&self.path))?;
        self.group.clear();
        self.long_bytes = 0;
        Ok(())
    }
}

fn refusal(path: &Path) -> impl FnOnce(parquet::errors::ParquetError) -> Error {
    let path = path.to_path_buf();
    move |error| Error::table(&path, format!("the table could not be written: {error}"))
}

/// The columns of a group as Parquet takes them: values without gaps, and levels that say where the
/// gaps are (Parquet's format documents, "Nested Encoding").
#[derive(Default)]
struct Buffers {
    optional: bool,
    levels: Vec<i16>,
    repeats: Option<Vec<i16>>,
    values: Values,
}

#[derive(Default)]
enum Values {
    #[default]
    None,
    Text(Vec<ByteArray>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
}

impl Buffers {
    fn filled<'a, R>(
        column: &dyn Column<R>,
        cells: impl Iterator<Item = Cell<'a>>,
    ) -> std::result::Result<Buffers, String> {
        let is_list = column.kind() == Kind::Floats;
        let mut buffers = Buffers {
            optional: column.optional(),
            repeats: is_list.then(Vec::new),
            values: match column.kind() {
                Kind::Text => Values::Text(Vec::new()),
                Kind::Int32 => Values::Int32(Vec::new()),
                Kind::Int64 => Values::Int64(Vec::new()),
                Kind::Float | Kind::Floats => Values::Float(Vec::new()),
                Kind::Double => Values::Double(Vec::new()),
            },
            ..Buffers::default()
        };
        for cell in cells {
            buffers
                .push(cell)
                .map_err(|message| format!("column {}: {message}", column.name()))?;
        }
        Ok(buffers)
    }

    fn push(&mut self, cell: Cell<'_>) -> std::result::Result<(), String> {
        let filled = i16::from(self.optional);
        match (&mut self.values, cell) {
            (_, Cell::Empty) => {
                self.levels.push(0);
                if let Some(repeats) = &mut self.repeats {
                    repeats.push(0);
                }
                return Ok(());
            }
            (Values::Float(values), Cell::Floats(list)) => {
                let repeats = self.repeats.get_or_insert_default();
                if list.is_empty() {
                    self.levels.push(filled);
                    repeats.push(0);
                }
                for (index, &value) in list.iter().enumerate() {
                    self.levels.push(filled + 1);
                    repeats.push(i16::from(index > 0));
                    values.push(value);
                }
                return Ok(());
            }
            (Values::Text(values), Cell::Text(words)) => {
                values.push(ByteArray::from(words.as_bytes().to_vec()));
            }
            (Values::Int32(values), Cell::Integer(value)) => values.push(narrowed(value)?),
            (Values::Int64(values), Cell::Integer(value)) => values.push(narrowed(value)?),
            (Values::Float(values), Cell::Real(value)) => values.push(value as f32),
            (Values::Double(values), Cell::Real(value)) => values.push(value),
            (_, cell) => unreachable!("a column's kind is that of its cells, found {cell:?}"),
        }
        self.levels.push(filled);
        Ok(())
    }

    fn write(&self, writer: &mut SerializedColumnWriter<'_>) -> parquet::errors::Result<()> {
        let repeats = self.repeats.as_deref();
        let levels = (self.optional || repeats.is_some()).then_some(self.levels.as_slice());
        match &self.values {
            Values::None => unreachable!("filled by `filled`"),
            Values::Text(values) => writer
                .typed::<ByteArrayType>()
                .write_batch(values, levels, repeats)?,
            Values::Int32(values) => writer
                .typed::<Int32Type>()
                .write_batch(values, levels, repeats)?,
            Values::Int64(values) => writer
                .typed::<Int64Type>()
                .write_batch(values, levels, repeats)?,
            Values::Float(values) => writer
                .typed::<FloatType>()
                .write_batch(values, levels, repeats)?,
            Values::Double(values) => writer
                .typed::<DoubleType>()
                .write_batch(values, levels, repeats)?,
        };
        Ok(())
    }
}

fn narrowed<T: TryFrom<u64>>(value: u64) -> std::result::Result<T, String> {
    T::try_from(value).map_err(|_| format!("{value} does not fit its signed whole number"))
}
