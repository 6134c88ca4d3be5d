//! Bytes to arrays and back: the only place where either becomes the other.

use crate::{Error, Result};
use kinora_tensor::{Tensor, ops};

/// The bytes of one picture: red, green, blue; row by row from the top.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    bytes: &'a [u8],
    height: usize,
    width: usize,
}

impl<'a> Picture<'a> {
    /// A picture of `height` rows of `width` pixels.
    ///
    /// # Errors
    /// When the bytes do not fill it, or it has no pixel.
    pub fn new(bytes: &'a [u8], height: usize, width: usize) -> Result<Self> {
        if bytes.is_empty() || Some(bytes.len()) != count(&[height, width]) {
            return Err(Error::argument(
                "picture",
                format!(
                    "expected the 3 × {width} × {height} bytes of a {width}×{height} RGB picture, found {}",
                    bytes.len()
                ),
            ));
        }
        Ok(Picture {
            bytes,
            height,
            width,
        })
    }

    /// The bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }
}

/// RGB bytes as values from −1 to 1.
///
/// # Shapes
/// `extents` are n pictures, h rows, w columns; the result is [n, h, w, 3].
///
/// # Errors
/// When the bytes do not fill the extents.
pub fn tensor_from_rgb8(bytes: &[u8], extents: [usize; 3]) -> Result<Tensor> {
    if Some(bytes.len()) != count(&extents) {
        let [n, h, w] = extents;
        return Err(Error::argument(
            "tensor_from_rgb8",
            format!(
                "expected the 3 × {w} × {h} bytes of {n} pictures, found {}",
                bytes.len()
            ),
        ));
    }
    let table = values_of_bytes();
    let values = bytes.iter().map(|v| table[usize::from(*v)]).collect();
    let [n, h, w] = extents;
    Ok(Tensor::from_vec(values, [n, h, w, 3])?)
}

/// Values from −1 to 1 as values from 0 to 1; what lies outside is clamped.
///
/// # Shapes
/// Any; kept.
///
/// # Errors
/// When `frames` is not f32.
pub fn frames01_from_tensor(frames: &Tensor) -> Result<Tensor> {
    Ok(ops::clamp(&ops::affine(frames, 0.5, 0.5)?, 0.0, 1.0)?)
}

/// Values from −1 to 1 as bytes, clamped and rounded to nearest (ties to even, as numpy does).
///
/// # Shapes
/// Any; the bytes are in the order of the array, so [.., h, w, 3] gives RGB pictures one by one.
///
/// # Errors
/// When `frames` is not f32.
pub fn rgb8_from_tensor(frames: &Tensor) -> Result<Vec<u8>> {
    let unit = frames01_from_tensor(frames)?;
    let byte = |v: &f32| (v * 255.0).round_ties_even() as u8;
    Ok(unit.as_f32()?.iter().map(byte).collect())
}

/// The value from −1 to 1 of every byte.
pub(crate) fn values_of_bytes() -> [f32; 256] {
    // In two roundings, as PyTorch does, so that the values are the same to the last bit.
    std::array::from_fn(|byte| 2.0 * (byte as f32 / 255.0) - 1.0)
}

/// 3 · the product of the extents, unless that is more than there can be.
fn count(extents: &[usize]) -> Option<usize> {
    extents
        .iter()
        .try_fold(3usize, |product, extent| product.checked_mul(*extent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() -> Result<()> {
        let bytes: Vec<u8> = (0..=255).cycle().take(2 * 4 * 96 * 3).collect();
        let there = tensor_from_rgb8(&bytes, [2, 4, 96])?;
        assert_eq!(there.dims(), [2, 4, 96, 3]);
        assert_eq!(rgb8_from_tensor(&there)?, bytes);
        Ok(())
    }

    #[test]
    fn black_is_minus_one_and_white_is_one() -> Result<()> {
        let found = tensor_from_rgb8(&[0, 255, 51], [1, 1, 1])?.to_vec();
        assert_eq!(found[..2], [-1.0, 1.0]);
        assert!((found[2] + 0.6).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn what_lies_outside_is_clamped() -> Result<()> {
        let frames = Tensor::from_vec(vec![-7.0, 0.0, 7.0], [1, 1, 3])?;
        assert_eq!(frames01_from_tensor(&frames)?.to_vec(), [0.0, 0.5, 1.0]);
        assert_eq!(rgb8_from_tensor(&frames)?, [0, 128, 255]);
        Ok(())
    }

    #[test]
    fn refuses_bytes_that_do_not_fill_the_picture() {
        let error = Picture::new(&[0; 11], 2, 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "picture: expected the 3 × 2 × 2 bytes of a 2×2 RGB picture, found 11"
        );
        assert!(Picture::new(&[], 0, 2).is_err());
        assert!(Picture::new(&[0; 12], usize::MAX, 2).is_err());
        assert!(tensor_from_rgb8(&[0; 11], [1, 2, 2]).is_err());
    }
}
