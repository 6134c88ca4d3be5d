//! What CLIP's own code does to a picture: the short side to the tower's size, the middle cut out,
//! each channel brought to the mean and deviation of the pictures it was trained on.

use crate::conditioner::bicubic;
use crate::pixels::{self, Picture};
use crate::{Error, Result};
use kinora_tensor::{Tensor, ops};

/// Mean of each channel, red first, over the pictures CLIP was trained on.
pub const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];

/// Standard deviation of each channel over them.
pub const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Where the middle lies when it cannot be cut evenly: the two publishers' code differs by a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Crop {
    /// The margin rounded to nearest, halves to even: open_clip (torchvision's `CenterCrop`).
    Nearest,
    /// The margin rounded down: transformers.
    Down,
}

/// How pictures are made ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocess {
    /// Mean of each channel, of values from 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
    /// How the middle is found.
    pub crop: Crop,
}

impl Preprocess {
    /// With the means and deviations of the published models.
    pub fn new(crop: Crop) -> Self {
        Preprocess {
            mean: CLIP_MEAN,
            std: CLIP_STD,
            crop,
        }
    }

    /// Refuses what cannot be.
    ///
    /// # Errors
    /// When a number is not finite or a deviation not above 0.
    pub fn check(&self) -> Result<()> {
        let good = self.mean.iter().all(|mean| mean.is_finite())
            && self.std.iter().all(|std| std.is_finite() && *std > 0.0);
        if good {
            return Ok(());
        }
        let message = format!(
            "expected finite means and deviations above 0, found {:?} and {:?}",
            self.mean, self.std
        );
        Err(Error::config("clip preprocessing", message))
    }

    /// Pictures ready for the tower.
    ///
    /// # Shapes
    /// The result is `[n, side, side, 3]`.
    ///
    /// # Errors
    /// None beyond those of the arrays.
    pub fn images(&self, pictures: &[Picture<'_>], side: usize) -> Result<Tensor> {
        let mut bytes = Vec::with_capacity(pictures.len() * side * side * 3);
        for picture in pictures {
            bytes.extend(self.middle(*picture, side));
        }
        let images = pixels::tensor_from_rgb8(&bytes, [pictures.len(), side, side])?; // −1 to 1
        let row = |values: [f32; 3]| Tensor::from_vec(values.to_vec(), [1, 1, 1, 3]);
        // (v / 2 + 1 / 2 − mean) / std
        let factor = row(self.std.map(|std| 0.5 / std))?;
        let offset = row([0, 1, 2].map(|k| (0.5 - self.mean[k]) / self.std[k]))?;
        Ok(ops::add_broadcast(
            &ops::mul_broadcast(&images, &factor)?,
            &offset,
        )?)
    }

    /// The short side resized to `side`, the middle cut out, RGB bytes row by row.
    fn middle(&self, picture: Picture<'_>, side: usize) -> Vec<u8> {
        let (height, width) = (picture.height(), picture.width());
        let (resized_height, resized_width) = match height < width {
            true => (side, long_side(side, width, height)),
            false => (long_side(side, height, width), side),
        };
        let resized = bicubic(picture, resized_height, resized_width);
        let top = self.crop.margin(resized_height - side);
        let left = self.crop.margin(resized_width - side);
        let rows = resized.chunks_exact(3 * resized_width);
        rows.skip(top)
            .take(side)
            .flat_map(|row| &row[3 * left..3 * (left + side)])
            .copied()
            .collect()
    }
}

/// The long side where the short one becomes `side`, rounded down.
fn long_side(side: usize, long: usize, short: usize) -> usize {
    // In f64, as in Python, whose division is not always that of whole numbers: what matters is to
    // agree with it.
    ((side as f64 * long as f64 / short as f64) as usize).max(side)
}

impl Crop {
    /// Pixels left out before the middle, where `excess` are left out altogether.
    fn margin(self, excess: usize) -> usize {
        match self {
            Crop::Nearest => (excess as f64 / 2.0).round_ties_even() as usize,
            Crop::Down => excess / 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_rules_differ_where_a_half_is_rounded_up_to_an_even_number() {
        let margins = |crop: Crop| (0..8).map(|excess| crop.margin(excess)).collect::<Vec<_>>();
        assert_eq!(margins(Crop::Nearest), [0, 0, 1, 2, 2, 2, 3, 4]);
        assert_eq!(margins(Crop::Down), [0, 0, 1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn one_colour_becomes_its_distance_from_the_mean_in_deviations() -> Result<()> {
        let bytes: Vec<u8> = [255, 0, 51].repeat(9 * 30);
        let picture = Picture::new(&bytes, 9, 30)?;
        let found = Preprocess::new(Crop::Nearest).images(&[picture], 8)?;
        assert_eq!(found.dims(), [1, 8, 8, 3]);
        let expected: Vec<f32> = [1.0, 0.0, 0.2]
            .iter()
            .zip(CLIP_MEAN.iter().zip(CLIP_STD))
            .map(|(v, (mean, std))| (v - mean) / std)
            .collect();
        for pixel in found.to_vec().chunks_exact(3) {
            for (found, expected) in pixel.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5);
            }
        }
        Ok(())
    }
}
