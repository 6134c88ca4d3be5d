//! The safetensors format: eight bytes that give the length of a JSON header, the header, the values
//! end to end. The reader is strict, because a file may come from anyone; what it refuses is listed
//! at [`read`].

use crate::{Error, Result};
use half::{bf16, f16};
use kinora_tensor::DType;
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// An array to be written, its values made only when their turn comes: a network of gigabytes needs
/// the memory of its largest array.
pub(crate) struct Entry<'a> {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Box<dyn FnOnce() -> Vec<f32> + 'a>,
}

impl Entry<'_> {
    fn size_bytes(&self) -> usize {
        self.dims.iter().product::<usize>() * self.dtype.size_bytes()
    }
}

/// Writes a file that appears whole or not at all.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn write(path: &Path, mut entries: Vec<Entry>) -> Result<()> {
    // Wider types first, so that every array is aligned to its own type; then by name, so that
    // equal content gives equal bytes.
    entries.sort_by(|a, b| {
        let width = |entry: &Entry| std::cmp::Reverse(entry.dtype.size_bytes());
        width(a).cmp(&width(b)).then_with(|| a.name.cmp(&b.name))
    });
    let beside = temporary_beside(path);
    let written = write_new(&beside, entries).and_then(|()| {
        std::fs::rename(&beside, path).map_err(|source| Error::io(path, "write", source))
    });
    if written.is_err() {
        // The first error is the one worth telling.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn write_new(path: &Path, entries: Vec<Entry>) -> Result<()> {
    let refused = |source| Error::io(path, "write", source);
    let header = header_text(&entries);
    let file = File::create(path).map_err(refused)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&(header.len() as u64).to_le_bytes())
        .and_then(|()| out.write_all(header.as_bytes()))
        .map_err(refused)?;
    for entry in entries {
        let (expected, dtype) = (entry.size_bytes(), entry.dtype);
        let bytes = bytes_of(&(entry.values)(), dtype);
        assert_eq!(bytes.len(), expected, "values fill their extents");
        out.write_all(&bytes).map_err(refused)?;
    }
    let file = out
        .into_inner()
        .map_err(|error| refused(error.into_error()))?;
    // After a crash the new name must not stand for values that never reached the disk.
    file.sync_all().map_err(refused)
}

fn header_text(entries: &[Entry]) -> String {
    let mut header = serde_json::Map::new();
    // Readers in PyTorch refuse a file that does not say so.
    header.insert(
        "__metadata__".to_owned(),
        serde_json::json!({"format": "pt"}),
    );
    let mut offset = 0;
    for entry in entries {
        let end = offset + entry.size_bytes();
        let dtype = match entry.dtype {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
        };
        let described = serde_json::json!({
            "dtype": dtype, "shape": entry.dims, "data_offsets": [offset, end],
        });
        header.insert(entry.name.clone(), described);
        offset = end;
    }
    let mut text = serde_json::Value::Object(header).to_string();
    let padded = text.len().next_multiple_of(8);
    text.extend(std::iter::repeat_n(' ', padded - text.len()));
    text
}

fn bytes_of(values: &[f32], dtype: DType) -> Vec<u8> {
    fn each<const N: usize>(values: &[f32], to_bytes: impl Fn(f32) -> [u8; N] + Sync) -> Vec<u8> {
        let mut bytes = vec![0; values.len() * N];
        let out = bytes.as_chunks_mut::<N>().0;
        out.par_iter_mut()
            .with_min_len(1 << 14)
            .zip(values)
            .for_each(|(out, value)| *out = to_bytes(*value));
        bytes
    }
    match dtype {
        DType::F32 => each(values, f32::to_le_bytes),
        DType::F16 => each(values, |value| f16::from_f32(value).to_le_bytes()),
        DType::BF16 => each(values, |value| bf16::from_f32(value).to_le_bytes()),
    }
}

/// A name in the same folder that no other process takes: a rename is atomic only within a file
/// system.
fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}
