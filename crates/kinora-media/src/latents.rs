//! Latents of clips, encoded once and kept in the shards beside the clips.

use crate::unfinished::write_whole;
use crate::writer::npy_header;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How the latents of a folder of shards were made: all of them alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentRecipe {
    /// Version of this form, 1.
    pub latents: u32,
    /// Fingerprint of the autoencoder's weights.
    pub autoencoder: String,
    /// Width in pixels of the frames that were encoded.
    pub width: usize,
    /// Height of the frames.
    pub height: usize,
    /// Most frames a second that were kept of a clip.
    pub max_fps: u32,
    /// Whether the frames were encoded a second time, as in a mirror.
    pub mirrored: bool,
}

impl LatentRecipe {
    /// Name of its file in a folder of shards.
    pub const FILE: &str = "latents.json";

    /// Version of the written form.
    pub const VERSION: u32 = 1;

    /// Reads the recipe of a folder; none where it has no such file.
    ///
    /// # Errors
    /// When the file cannot be read or says other things.
    pub fn of_folder(folder: &Path) -> Result<Option<LatentRecipe>> {
        let path = folder.join(LatentRecipe::FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let recipe: LatentRecipe = serde_json::from_slice(&text)
            .map_err(|failure| Error::table(&path, failure.to_string()))?;
        if recipe.latents == LatentRecipe::VERSION {
            return Ok(Some(recipe));
        }
        let (expected, found) = (LatentRecipe::VERSION, recipe.latents);
        Err(Error::table(
            &path,
            format!(
                "expected version {expected} of latents, found {found}; write the shards again"
            ),
        ))
    }

    /// Writes the recipe into a folder.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("numbers and words become JSON");
        write_whole(&folder.join(LatentRecipe::FILE), &text)
    }
}

/// The latents of a clip: means of what the encoder gives, not scaled.
///
/// # Shapes
/// `[m, t, h, w, z]`: as the frames are and, where m is 2, as in a mirror; frames, rows, columns,
/// channels.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipLatents {
    /// The extents.
    pub dims: [usize; 5],
    /// The values, the channels of a latent side by side.
    pub values: Vec<f32>,
}

impl ClipLatents {
    /// Ending of the member of a shard that holds them.
    pub const ENDING: &str = "latents.npy";

    /// As a NumPy array of f32.
    #[must_use]
    pub fn to_npy(&self) -> Vec<u8> {
        let mut bytes = npy_header(&self.dims);
        bytes.extend(self.values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    /// Reads what [`ClipLatents::to_npy`] wrote.
    ///
    /// # Errors
    /// In words, when the bytes are another array, shortened, or hold what is no finite number.
    pub fn from_npy(bytes: &[u8]) -> std::result::Result<ClipLatents, String> {
        let dims = dims_of(bytes).ok_or("expected a NumPy array of five extents")?;
        // The same header again: so everything else it might say is what is expected, too.
        let header = npy_header(&dims);
        let Some(values) = bytes.strip_prefix(header.as_slice()) else {
            return Err("expected little-endian f32 in C order".to_owned());
        };
        let count = dims.iter().try_fold(4_usize, |n, d| n.checked_mul(*d));
        if count != Some(values.len()) {
            return Err(format!(
                "expected {dims:?} values of f32, found {} bytes",
                values.len()
            ));
        }
        let values = values.as_chunks::<4>().0.iter();
        let values: Vec<f32> = values.map(|value| f32::from_le_bytes(*value)).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err("a value is NaN or infinite".to_owned());
        }
        Ok(ClipLatents { dims, values })
    }
}

/// The five extents that the header of a NumPy array names.
fn dims_of(bytes: &[u8]) -> Option<[usize; 5]> {
    let header = bytes.get(10..bytes.len().min(256))?;
    let from = header.iter().position(|byte| *byte == b'(')? + 1;
    let to = header.iter().position(|byte| *byte == b')')?;
    let text = std::str::from_utf8(header.get(from..to)?).ok()?;
    let dims: Vec<usize> = text
        .split(',')
        .map(|extent| extent.trim().parse().ok())
        .collect::<Option<_>>()?;
    dims.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latents() -> ClipLatents {
        ClipLatents {
            dims: [2, 1, 1, 2, 2],
            values: vec![0.5, -1.0, f32::MIN_POSITIVE, 3.0, 0.0, -0.0, 1e9, 0.1],
        }
    }

    #[test]
    fn latents_come_back_to_the_bit_from_a_numpy_array() {
        let bytes = latents().to_npy();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let header_bytes = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + header_bytes) % 64, 0);
        let header = std::str::from_utf8(&bytes[10..10 + header_bytes]).unwrap();
        let expected = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1, 1, 2, 2), }";
        assert_eq!(header.trim_end(), expected);
        assert_eq!(bytes.len(), 10 + header_bytes + 4 * 8);
        assert_eq!(ClipLatents::from_npy(&bytes).unwrap(), latents());
    }

    #[test]
    fn what_is_no_such_array_is_refused() {
        let bytes = latents().to_npy();
        let refused = |bytes: &[u8]| ClipLatents::from_npy(bytes).unwrap_err();
        assert!(refused(&bytes[..bytes.len() - 1]).contains("31 bytes"));
        assert!(refused(&bytes[..40]).contains("five extents"));
        assert!(refused(b"").contains("five extents"));
        let changed = |from: &[u8; 3], to: &[u8; 3]| {
            let mut bytes = bytes.clone();
            let at = bytes.windows(3).position(|window| window == from).unwrap();
            bytes[at..at + 3].copy_from_slice(to);
            bytes
        };
        assert!(refused(&changed(b"<f4", b">f4")).contains("little-endian"));
        let mut endless = bytes.clone();
        let last = endless.len() - 4;
        endless[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(refused(&endless).contains("NaN"));
    }
}
