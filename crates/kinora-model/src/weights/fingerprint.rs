//! A short name for weights, by their content.

use crate::{Error, Result};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Bytes read from each end of an array.
const SAMPLE_BYTES: usize = 4096;

/// What is told apart of one array.
pub(super) struct Sampled<'a> {
    pub(super) name: String,
    pub(super) dtype: String,
    pub(super) dims: &'a [usize],
    pub(super) bytes: &'a [u8],
}

/// A hash of the arrays given, in that order: 64 hexadecimal digits.
///
/// It covers every array's name, type and extents and the first and last 4 KiB of its values, which
/// of a file of 9.6 GB is 18 MB: cheap enough to be taken at every run. Training moves every array,
/// so it tells models apart; it does not prove that two files are equal to the last byte. It does
/// not depend on how the arrays are spread over files.
pub(super) fn fingerprint<'a>(arrays: impl Iterator<Item = Sampled<'a>>) -> String {
    let mut hash = Sha256::new();
    // Lengths go before texts, so that no two lists of arrays give one stream of bytes.
    let text = |hash: &mut Sha256, text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    for array in arrays {
        text(&mut hash, &array.name);
        text(&mut hash, &array.dtype);
        text(&mut hash, &format!("{:?}", array.dims));
        let bytes = array.bytes;
        if bytes.len() <= 2 * SAMPLE_BYTES {
            hash.update(bytes);
        } else {
            hash.update(&bytes[..SAMPLE_BYTES]);
            hash.update(&bytes[bytes.len() - SAMPLE_BYTES..]);
        }
    }
    hex(&hash.finalize())
}

/// SHA-256 of a file's bytes, 64 hexadecimal digits.
pub(crate) fn hash_of_file(path: &Path) -> Result<String> {
    const BLOCK_BYTES: usize = 1 << 18;
    let mut file = File::open(path).map_err(|error| Error::io(path, "open", error))?;
    let (mut hash, mut block) = (Sha256::new(), vec![0; BLOCK_BYTES]);
    loop {
        let read = file.read(&mut block);
        match read.map_err(|error| Error::io(path, "read", error))? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&block[..read]),
        }
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
