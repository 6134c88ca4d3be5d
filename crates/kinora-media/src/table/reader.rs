//! A Parquet file to rows, a batch at a time, only the columns that are asked for.

use super::columns::{Cell, Kind, TableRow};
use super::schema::{Place, matched};
use super::sums;
use crate::error::{Error, Result};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Rows decoded at a time: enough to pay for the calls, few enough to hold with their embeddings.
const BATCH_ROWS: usize = 2048;

/// The rows of a table, in order. Only a batch is in memory.
///
/// A table must have exactly the columns of `R`, each of its type; who wrote it does not matter. In
/// a table of ours every byte that is read is checked against a checksum first.
pub struct TableReader<R> {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    file: File,
    sums: Option<Vec<Vec<u32>>>,
    columns: Vec<Place<R>>,
    next_group: usize,
    open: Vec<ColumnReader>,
    left_in_group: usize,
    batch: std::vec::IntoIter<R>,
    rows_before: u64,
    ended: bool,
}

/// Reads a whole table.
///
/// # Errors
/// As [`TableReader::open`], and where the file is damaged.
pub fn read_table<R: TableRow>(path: &Path) -> Result<Vec<R>> {
    TableReader::open(path)?.collect()
}

impl<R: TableRow> TableReader<R> {
    /// Opens a table to read all its columns.
    ///
    /// # Errors
    /// When the file is missing, is not Parquet, or has other columns than the rows `R`.
    pub fn open(path: &Path) -> Result<TableReader<R>> {
        Self::opened(path, None)
    }

    /// Opens a table to read only the columns named; all other fields keep their default values.
    ///
    /// # Errors
    /// As [`TableReader::open`], and when a name is none of the table's columns.
    pub fn open_columns(path: &Path, names: &[&str]) -> Result<TableReader<R>> {
        Self::opened(path, Some(names))
    }

    /// The names of the columns, in their order.
    #[must_use]
    pub fn column_names() -> Vec<&'static str> {
        R::columns().iter().map(|column| column.name()).collect()
    }

    /// How many rows the table has.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.reader.metadata().file_metadata().num_rows().max(0) as u64
    }

    fn opened(path: &Path, names: Option<&[&str]>) -> Result<TableReader<R>> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let again = file.try_clone().map_err(Error::io("open", path))?;
        let reader = guarded(|| SerializedFileReader::new(again)).map_err(|reason| {
            let message = format!(
                "expected a Parquet table of {}, found something else or a damaged file ({reason}); make the table again",
                R::TABLE
            );
            Error::table(path, message)
        })?;
        let metadata = reader.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let mut columns = matched::<R>(schema).map_err(|message| Error::table(path, message))?;
        let sums = sums::from_metadata(
            metadata.file_metadata().key_value_metadata(),
            metadata.num_row_groups(),
            schema.num_columns(),
        )
        .map_err(|reason| damaged::<R>(path, &reason))?;
        if let Some(names) = names {
            check_names::<R>(&columns, names)?;
            columns.retain(|place| names.contains(&place.column.name()));
        }
        Ok(TableReader {
            path: path.to_path_buf(),
            reader,
            file,
            sums,
            columns,
            next_group: 0,
            open: Vec::new(),
            left_in_group: 0,
            batch: Vec::new().into_iter(),
            rows_before: 0,
            ended: false,
        })
    }

    /// The next batch of rows; empty at the end.
    fn read_batch(&mut self) -> std::result::Result<Vec<R>, String> {
        while self.left_in_group == 0 {
            if self.next_group == self.reader.num_row_groups() {
                return Ok(Vec::new());
            }
            self.open_group()?;
        }
        let count = self.left_in_group.min(BATCH_ROWS);
        let mut rows = vec![R::default(); count];
        for (place, reader) in self.columns.iter().zip(&mut self.open) {
            let fill = || read_cells(place, reader, &mut rows, self.rows_before);
            guarded(fill).map_err(|reason| format!("column {}: {reason}", place.column.name()))?;
        }
        self.left_in_group -= count;
        self.rows_before += count as u64;
        Ok(rows)
    }

    fn open_group(&mut self) -> std::result::Result<(), String> {
        let index = self.next_group;
        let group = guarded(|| self.reader.get_row_group(index))?;
        self.open.clear();
        for Place {
            column,
            index: place,
            ..
        } in &self.columns
        {
            if let Some(sums) = &self.sums {
                let range =
                    guarded(|| Ok::<_, String>(group.metadata().column(*place).byte_range()))?;
                let found = sums::of_range(&self.file, range).map_err(|error| error.to_string())?;
                if found != sums[index][*place] {
                    return Err(format!(
                        "column {} of group {index}: its bytes have the checksum {found:08x}, written was {:08x}",
                        column.name(),
                        sums[index][*place]
                    ));
                }
            }
            self.open.push(guarded(|| group.get_column_reader(*place))?);
        }
        self.left_in_group = usize::try_from(group.metadata().num_rows())
            .map_err(|_| "a group has a negative number of rows".to_owned())?;
        self.next_group += 1;
        Ok(())
    }
}

impl<R: TableRow> Iterator for TableReader<R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.batch.len() == 0 && !self.ended {
            match self.read_batch() {
                Ok(rows) => {
                    self.ended = rows.is_empty();
                    self.batch = rows.into_iter();
                }
                Err(reason) => {
                    self.ended = true;
                    return Some(Err(damaged::<R>(&self.path, &reason)));
                }
            }
        }
        self.batch.next().map(Ok)
    }
}

/// Runs a call of the Parquet library, for which damaged bytes can be an assertion that fails.
fn guarded<T, E: std::fmt::Display>(
    call: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("its bytes contradict each other".to_owned()),
    }
}

fn damaged<R: TableRow>(path: &Path, reason: &str) -> Error {
    let message = format!(
        "the table of {} is damaged ({reason}); make it again",
        R::TABLE
    );
    Error::table(path, message)
}

fn check_names<R: TableRow>(columns: &[Place<R>], names: &[&str]) -> Result<()> {
    for name in names {
        let mut known = columns.iter().map(|place| place.column.name());
        if !known.clone().any(|column| column == *name) {
            let known: Vec<_> = known.by_ref().collect();
            return Err(Error::argument(
                "columns",
                format!(
                    "the table of {} has no column {name:?}; it has {}",
                    R::TABLE,
                    known.join(", ")
                ),
            ));
        }
    }
    Ok(())
}

/// Reads the next cells of a column into `rows`; `before` rows of the table came earlier.
fn read_cells<R>(
    place: &Place<R>,
    reader: &mut ColumnReader,
    rows: &mut [R],
    before: u64,
) -> std::result::Result<(), String> {
    let (column, count) = (&place.column, rows.len());
    let mut next = 0;
    let mut put = |cell: Cell<'static>| {
        let row = before + next as u64;
        let result = column.put(&mut rows[next], cell);
        next += 1;
        result.map_err(|message| format!("row {row}: {message}"))
    };
    match reader {
        ColumnReader::ByteArrayColumnReader(reader) => scalars(reader, count, &mut |value| {
            put(value.map_or(Ok(Cell::Empty), |bytes| words(bytes.data()))?)
        }),
        ColumnReader::Int32ColumnReader(reader) => scalars(reader, count, &mut |value| {
            put(counted(value.map(i64::from))?)
        }),
        ColumnReader::Int64ColumnReader(reader) => {
            scalars(reader, count, &mut |value| put(counted(value)?))
        }
        ColumnReader::DoubleColumnReader(reader) => scalars(reader, count, &mut |value| {
            put(value.map_or(Cell::Empty, Cell::Real))
        }),
        ColumnReader::FloatColumnReader(reader) if column.kind() == Kind::Floats => {
            lists(reader, count, place.full, &mut put)
        }
        ColumnReader::FloatColumnReader(reader) => scalars(reader, count, &mut |value| {
            put(value.map_or(Cell::Empty, |value| Cell::Real(f64::from(value))))
        }),
        _ => Err("a type that no column of ours has".to_owned()),
    }
}

fn words(bytes: &[u8]) -> std::result::Result<Cell<'static>, String> {
    let words = String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())?;
    Ok(Cell::Text(Cow::Owned(words)))
}

fn counted(value: Option<i64>) -> std::result::Result<Cell<'static>, String> {
    let Some(value) = value else {
        return Ok(Cell::Empty);
    };
    let value = u64::try_from(value)
        .map_err(|_| format!("expected a number not below zero, found {value}"))?;
    Ok(Cell::Integer(value))
}

/// Reads `count` cells of a flat column.
fn scalars<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    count: usize,
    put: &mut dyn FnMut(Option<T::T>) -> std::result::Result<(), String>,
) -> std::result::Result<(), String> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (records, found, _) = reader
        .read_records(count, Some(&mut levels), None, &mut values)
        .map_err(|error| error.to_string())?;
    if records != count {
        return Err(format!("expected {count} more rows, found {records}"));
    }
    let mut values = values.into_iter();
    if levels.is_empty() {
        // A required column has no levels.
        if found != count {
            return Err(format!("expected {count} values, found {found}"));
        }
        return values.try_for_each(|value| put(Some(value)));
    }
    for level in levels {
        let value = match level {
            0 => None,
            _ => Some(values.next().ok_or("fewer values than levels")?),
        };
        put(value)?;
    }
    Ok(())
}

/// Reads `count` cells of a column of lists.
fn lists(
    reader: &mut ColumnReaderImpl<parquet::data_type::FloatType>,
    count: usize,
    full: i16,
    put: &mut dyn FnMut(Cell<'static>) -> std::result::Result<(), String>,
) -> std::result::Result<(), String> {
    let (mut levels, mut repeats, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (records, _, _) = reader
        .read_records(count, Some(&mut levels), Some(&mut repeats), &mut values)
        .map_err(|error| error.to_string())?;
    if records != count {
        return Err(format!("expected {count} more rows, found {records}"));
    }
    let mut values = values.into_iter();
    let mut at = 0;
    while at < levels.len() {
        let end = (at + 1..levels.len())
            .find(|&next| repeats[next] == 0)
            .unwrap_or(levels.len());
        // At level 0 there is no list; where there is one, its numbers are at the full level, and
        // one entry below it stands for a list without any.
        let cell = if levels[at] == 0 {
            Cell::Empty
        } else if levels[at..end].iter().all(|&level| level == full) {
            Cell::Floats(Cow::Owned(values.by_ref().take(end - at).collect()))
        } else if end == at + 1 && levels[at] == 1 {
            Cell::Floats(Cow::Owned(Vec::new()))
        } else {
            return Err("a list has an empty number".to_owned());
        };
        put(cell)?;
        at = end;
    }
    if values.next().is_some() {
        return Err("more numbers than lists have room for".to_owned());
    }
    Ok(())
}
