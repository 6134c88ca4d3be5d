//! The search for values that no trained network has.

use super::archive::Stored;
use crate::{Error, Result};
use half::{bf16, f16};
use kinora_tensor::DType;
use rayon::prelude::*;

/// Refuses the first array, in the order given, that holds a NaN or an infinity. All cores read; the
/// cost is that of reading the file once, which loading would pay anyway.
///
/// # Errors
/// When there is one, naming it.
pub(super) fn refuse_not_finite<'a>(
    arrays: impl Iterator<Item = &'a Stored>,
    remedy: &str,
) -> Result<()> {
    for stored in arrays {
        if has_not_finite(stored) {
            return Err(describe(stored, remedy));
        }
        // Not all of them are needed together.
        stored.let_go();
    }
    Ok(())
}

/// A value is finite unless all bits of its exponent are set, so a mask decides, and the loop has no
/// branch to stop it from being vectorised.
fn has_not_finite(stored: &Stored) -> bool {
    const CHUNK_BYTES: usize = 1 << 18;
    let mask = match stored.dtype {
        DType::F32 => 0x7F80_0000,
        DType::F16 => 0x7C00,
        DType::BF16 => 0x7F80,
    };
    stored
        .bytes()
        .par_chunks(CHUNK_BYTES)
        .any(|bytes| match stored.dtype {
            DType::F32 => bytes.as_chunks::<4>().0.iter().fold(false, |bad, bits| {
                bad | (u32::from_le_bytes(*bits) & mask == mask)
            }),
            DType::F16 | DType::BF16 => bytes.as_chunks::<2>().0.iter().fold(false, |bad, bits| {
                bad | (u16::from_le_bytes(*bits) & mask as u16 == mask as u16)
            }),
        })
}

fn describe(stored: &Stored, remedy: &str) -> Error {
    let bytes = stored.bytes();
    let values: Box<dyn Iterator<Item = f32>> = match stored.dtype {
        DType::F32 => Box::new(
            bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b)),
        ),
        DType::F16 => {
            let values = bytes.as_chunks::<2>().0.iter();
            Box::new(values.map(|b| f16::from_le_bytes(*b).to_f32()))
        }
        DType::BF16 => {
            let values = bytes.as_chunks::<2>().0.iter();
            Box::new(values.map(|b| bf16::from_le_bytes(*b).to_f32()))
        }
    };
    let mut bad = values.enumerate().filter(|(_, value)| !value.is_finite());
    let (index, value) = bad.next().expect("the scan found one");
    Error::NotFinite {
        name: stored.file_name.clone(),
        file: stored.file.path.clone(),
        count: 1 + bad.count(),
        elements: stored.elements(),
        index,
        value,
        remedy: remedy.to_owned(),
    }
}
