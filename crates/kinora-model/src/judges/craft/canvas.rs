//! A picture as the network sees it: magnified, normalised, padded.

use super::CraftSettings;
use crate::pixels::Picture;
use crate::{Error, Result};
use kinora_tensor::Tensor;
use rayon::prelude::*;

/// Mean and standard deviation of ImageNet's red, green and blue.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// The sides are padded to multiples of this: four halvings, and the maps have half the size.
const MULTIPLE: usize = 32;

/// The canvas of `picture`, and by how much it is magnified.
///
/// # Shapes
/// The result is [1, h, w, 3] with h and w multiples of 32.
///
/// # Errors
/// When a setting makes no sense.
pub(super) fn canvas_of(picture: Picture<'_>, settings: &CraftSettings) -> Result<(Tensor, f32)> {
    let magnification = settings.magnification;
    if settings.canvas_pixels == 0 || !(magnification > 0.0 && magnification.is_finite()) {
        return Err(Error::argument(
            "CRAFT",
            format!(
                "expected a canvas of at least 1 pixel and a magnification above 0, found {} and \
                 {magnification}",
                settings.canvas_pixels
            ),
        ));
    }
    let longest = picture.height().max(picture.width()) as f64;
    let target = (f64::from(magnification) * longest).min(settings.canvas_pixels as f64);
    let ratio = target / longest;
    // Rounded down, as the public program does.
    let side = |pixels: usize| ((pixels as f64 * ratio) as usize).max(1);
    let (height, width) = (side(picture.height()), side(picture.width()));
    let seen = resized(picture, height, width);
    let (rows, columns) = (
        height.next_multiple_of(MULTIPLE),
        width.next_multiple_of(MULTIPLE),
    );
    let mut values = vec![0f32; rows * columns * 3];
    // What is padded is black and normalised like the rest.
    for (row, line) in values.chunks_exact_mut(columns * 3).enumerate() {
        for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
            for c in 0..3 {
                let byte = match row < height && column < width {
                    true => seen[(row * width + column) * 3 + c],
                    false => 0,
                };
                pixel[c] = (f32::from(byte) - MEAN[c] * 255.0) / (DEVIATION[c] * 255.0);
            }
        }
    }
    Ok((
        Tensor::from_vec(values, [1, rows, columns, 3])?,
        ratio as f32,
    ))
}

/// Between which two of `from` places the centre of each of `to` lies, and how far past the first.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|at| {
            let place = (at as f64 + 0.5) * scale - 0.5;
            let place = place.clamp(0.0, (from - 1) as f64);
            let first = place.floor() as usize;
            (
                first,
                (first + 1).min(from - 1),
                (place - first as f64) as f32,
            )
        })
        .collect()
}

/// The picture in another size by linear interpolation between neighbouring pixels, rounded to
/// bytes. Shrinking does not average more than that, because the public program's does not.
pub(super) fn resized(picture: Picture<'_>, height: usize, width: usize) -> Vec<u8> {
    let (rows, columns) = (taps(picture.height(), height), taps(picture.width(), width));
    let bytes = picture.bytes();
    let line = picture.width() * 3;
    let mut out = vec![0u8; height * width * 3];
    out.par_chunks_mut(width * 3)
        .zip(&rows)
        .for_each(|(out, &(upper, lower, down))| {
            let (upper, lower) = (
                &bytes[upper * line..][..line],
                &bytes[lower * line..][..line],
            );
            for (pixel, &(left, right, along)) in out.chunks_exact_mut(3).zip(&columns) {
                for c in 0..3 {
                    let between = |line: &[u8]| {
                        let (a, b) = (
                            f32::from(line[left * 3 + c]),
                            f32::from(line[right * 3 + c]),
                        );
                        a + (b - a) * along
                    };
                    let (a, b) = (between(upper), between(lower));
                    pixel[c] = (a + (b - a) * down).round() as u8;
                }
            }
        });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(canvas_pixels: usize, magnification: f32) -> CraftSettings {
        CraftSettings {
            canvas_pixels,
            magnification,
            ..CraftSettings::default()
        }
    }

    #[test]
    fn a_ramp_stays_a_ramp() {
        let bytes: Vec<u8> = (0..10).flat_map(|x| [10 * x; 3]).collect();
        let picture = Picture::new(&bytes, 1, 10).unwrap();
        // Centres of twice as many pixels lie at ±1/4 of the old ones: steps of 5, held at the ends.
        let twice = resized(picture, 1, 20);
        let red: Vec<u8> = twice.iter().step_by(3).copied().collect();
        assert_eq!(&red[..5], [0, 3, 8, 13, 18]);
        assert_eq!(red[19], 90);
        assert_eq!(resized(picture, 1, 10), bytes);
    }

    #[test]
    fn the_canvas_is_magnified_and_padded_with_black() {
        let bytes = vec![255u8; 40 * 60 * 3];
        let picture = Picture::new(&bytes, 40, 60).unwrap();
        let (canvas, ratio) = canvas_of(picture, &settings(1280, 1.5)).unwrap();
        assert_eq!(ratio, 1.5);
        assert_eq!(canvas.dims(), [1, 64, 96, 3]); // 60 × 90, padded
        let values = canvas.as_f32().unwrap();
        let white = (1.0 - 0.485) / 0.229;
        let black = -0.485 / 0.229;
        let red = |row: usize, column: usize| values[(row * 96 + column) * 3];
        assert!((red(59, 89) - white).abs() < 1e-5);
        assert!((red(60, 0) - black).abs() < 1e-5 && (red(0, 90) - black).abs() < 1e-5);
    }

    #[test]
    fn a_large_picture_is_shrunk_to_the_canvas() {
        let bytes = vec![0u8; 300 * 100 * 3];
        let picture = Picture::new(&bytes, 100, 300).unwrap();
        let (canvas, ratio) = canvas_of(picture, &settings(128, 1.5)).unwrap();
        assert!((ratio - 128.0 / 300.0).abs() < 1e-6);
        assert_eq!(canvas.dims(), [1, 64, 128, 3]); // 42 × 128, padded
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let picture = Picture::new(&[0; 3], 1, 1).unwrap();
        for wrong in [settings(0, 1.5), settings(64, 0.0), settings(64, f32::NAN)] {
            assert!(canvas_of(picture, &wrong).is_err());
        }
    }
}
