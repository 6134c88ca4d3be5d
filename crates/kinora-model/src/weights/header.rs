//! The strict reader of a safetensors header. A weights file may come from anyone, so nothing in it
//! is believed before it is checked: every array's bytes must lie inside the file, fill its extents
//! exactly, and the arrays together must cover the file without a hole or an overlap.

use crate::{Error, Result};
use kinora_tensor::DType;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::path::Path;

/// As the format's own reader: a longer header is an attack or a broken file.
const HEADER_LIMIT_BYTES: u64 = 100_000_000;

/// One array as a header describes it, checked against the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Described {
    pub(super) name: String,
    /// As the file spells it: `F16`, `I64`.
    pub(super) dtype: String,
    pub(super) dims: Vec<usize>,
    /// Where the values begin and end in the file.
    pub(super) begin: usize,
    pub(super) end: usize,
}

impl Described {
    /// The element type, if it is one that weights are computed with.
    pub(super) fn dtype(&self) -> Option<DType> {
        match self.dtype.as_str() {
            "F32" => Some(DType::F32),
            "F16" => Some(DType::F16),
            "BF16" => Some(DType::BF16),
            _ => None,
        }
    }
}

/// Reads and checks the header of the file `path` whose bytes are `file`, in the order of the data.
///
/// # Errors
/// When the file is something else, is cut short, or its header lies.
pub(super) fn read(path: &Path, file: &[u8]) -> Result<Vec<Described>> {
    let refuse = |message: String| Error::file(path, message);
    super::stranger::refuse_strangers(path, file)?;
    let (length, rest) = file.split_first_chunk::<8>().ok_or_else(|| {
        refuse(format!(
            "a safetensors file begins with 8 bytes that give its header's length, and this one has \
             {} bytes in all; {AGAIN}",
            file.len()
        ))
    })?;
    let length = u64::from_le_bytes(*length);
    if length > HEADER_LIMIT_BYTES {
        return Err(refuse(format!(
            "the header says it is {length} bytes long, more than the {HEADER_LIMIT_BYTES} the \
             format allows; this is no safetensors file, or a broken one: {AGAIN}"
        )));
    }
    // At most 10⁸, which fits every usize.
    let length = length as usize;
    let header = rest.get(..length).ok_or_else(|| {
        refuse(format!(
            "the header is {length} bytes long but the file ends after {} of them; {AGAIN}",
            rest.len()
        ))
    })?;
    let Header(entries) = serde_json::from_slice(header)
        .map_err(|error| refuse(format!("the header cannot be read: {error}; {AGAIN}")))?;
    let mut arrays = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        arrays.push(check_entry(name, entry, rest.len() - length, 8 + length).map_err(refuse)?);
    }
    arrays.sort_by_key(|array| (array.begin, array.end));
    check_cover(&arrays, 8 + length, file.len()).map_err(refuse)?;
    Ok(arrays)
}

const AGAIN: &str = "download or convert it again";

/// One array against the `data` bytes that follow the header, which begin at `start`.
fn check_entry(
    name: String,
    entry: Entry,
    data: usize,
    start: usize,
) -> std::result::Result<Described, String> {
    let Entry {
        dtype,
        shape,
        data_offsets: [begin, end],
    } = entry;
    if end < begin {
        return Err(format!(
            "`{name}` ends at byte {end}, before it begins at {begin}; {AGAIN}"
        ));
    }
    if end > data {
        return Err(format!(
            "`{name}` ends at byte {end} of the data, which has only {data}: the file is cut short \
             by at least {} bytes; {AGAIN}",
            end - data
        ));
    }
    check_size(&name, &dtype, &shape, end - begin)?;
    Ok(Described {
        name,
        dtype,
        dims: shape,
        begin: start + begin,
        end: start + end,
    })
}

/// Whether the extents take exactly the bytes that the header gives the array.
fn check_size(
    name: &str,
    dtype: &str,
    shape: &[usize],
    given: usize,
) -> std::result::Result<(), String> {
    let Some(bits) = bits_of(dtype) else {
        return Ok(());
    };
    let elements = shape
        .iter()
        .try_fold(1usize, |product, d| product.checked_mul(*d));
    let bits = elements.and_then(|elements| elements.checked_mul(bits));
    let taken = bits.map(|bits| bits.div_ceil(8));
    if taken == Some(given) {
        return Ok(());
    }
    let taken = taken.map_or("more than 2⁶⁰".to_owned(), |bytes| bytes.to_string());
    Err(format!(
        "`{name}` {dtype} {shape:?} takes {taken} bytes, and the header gives it {given}; {AGAIN}"
    ))
}

/// Whether the arrays, in order, cover `start .. end` without a hole or an overlap.
fn check_cover(arrays: &[Described], start: usize, end: usize) -> std::result::Result<(), String> {
    let mut covered = start;
    let mut before = "the header".to_owned();
    for array in arrays {
        let Described { name, begin, .. } = array;
        if *begin < covered {
            return Err(format!("`{name}` overlaps {before}; {AGAIN}"));
        }
        if *begin > covered {
            return Err(format!(
                "{} bytes between {before} and `{name}` belong to no array; {AGAIN}",
                begin - covered
            ));
        }
        covered = array.end;
        before = format!("`{name}`");
    }
    if covered != end {
        return Err(format!(
            "{} bytes after {before} belong to no array; {AGAIN}",
            end - covered
        ));
    }
    Ok(())
}

/// Bits of one element, for the types the format defines. One that is not among them is not checked
/// here, and refused if a network wants it.
fn bits_of(dtype: &str) -> Option<usize> {
    Some(match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        _ => return None,
    })
}

#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The entries of a header in the order of the text. A map type would keep the last of two entries
/// of one name, so that a checker and a loader could see different files.
struct Header(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object with one entry for each array")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Header, A::Error> {
                let mut entries = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        let message = format!("`{name}` is described twice");
                        return Err(serde::de::Error::custom(message));
                    }
                    if name == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                        continue;
                    }
                    entries.push((name, map.next_value()?));
                }
                Ok(Header(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}
