//! Checksums of the chunks of a Parquet file, in its footer: the format has them for pages, but the
//! library writes none, and a flipped bit in a number would otherwise be read as another number.

use parquet::file::metadata::{KeyValue, RowGroupMetaData};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Under this key the footer holds the CRC-32 of every chunk in hexadecimal: columns in order within
/// groups in order, commas between columns, semicolons between groups.
pub const KEY: &str = "kinora.crc32";

/// CRC-32 of the bytes of every column of every group.
pub fn of_groups<'a>(
    file: &File,
    groups: impl IntoIterator<Item = &'a RowGroupMetaData>,
) -> io::Result<Vec<Vec<u32>>> {
    groups
        .into_iter()
        .map(|group| {
            let columns = group.columns().iter();
            columns
                .map(|column| of_range(file, column.byte_range()))
                .collect()
        })
        .collect()
}

/// CRC-32 of a range (offset, length) of a file.
pub fn of_range(file: &File, (offset, length): (u64, u64)) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    let mut done = 0;
    while done < length {
        let part = buffer.len().min((length - done) as usize);
        file.read_exact_at(&mut buffer[..part], offset + done)?;
        hasher.update(&buffer[..part]);
        done += part as u64;
    }
    Ok(hasher.finalize())
}

/// The sums as the footer holds them.
pub fn as_metadata(sums: &[Vec<u32>]) -> KeyValue {
    let groups: Vec<String> = sums
        .iter()
        .map(|columns| {
            let columns: Vec<String> = columns.iter().map(|sum| format!("{sum:08x}")).collect();
            columns.join(",")
        })
        .collect();
    KeyValue::new(KEY.to_owned(), groups.join(";"))
}

/// The sums of a footer that has them: none in a table that another program wrote.
///
/// # Errors
/// Where they are not for `groups` groups of `columns` columns.
pub fn from_metadata(
    metadata: Option<&Vec<KeyValue>>,
    groups: usize,
    columns: usize,
) -> Result<Option<Vec<Vec<u32>>>, String> {
    let entry = metadata.and_then(|entries| entries.iter().find(|entry| entry.key == KEY));
    let Some(words) = entry.and_then(|entry| entry.value.as_deref()) else {
        return Ok(None);
    };
    let parsed: Option<Vec<Vec<u32>>> = words
        .split(';')
        .filter(|group| !group.is_empty())
        .map(|group| {
            let sums = group
                .split(',')
                .map(|sum| u32::from_str_radix(sum, 16).ok());
            sums.collect::<Option<Vec<u32>>>()
        })
        .collect();
    match parsed {
        Some(sums) if sums.len() == groups && sums.iter().all(|sums| sums.len() == columns) => {
            Ok(Some(sums))
        }
        _ => Err(format!(
            "its checksums are not those of {groups} groups of {columns} columns"
        )),
    }
}
