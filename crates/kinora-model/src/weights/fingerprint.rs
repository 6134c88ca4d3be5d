//! A short name for weights, by their content.

use sha2::{Digest as _, Sha256};

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
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
