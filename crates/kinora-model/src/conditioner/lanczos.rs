//! Lanczos resizing of bytes, bit for bit as Pillow does it.
//!
//! Pillow is what stands between the user's picture and the autoencoder in diffusers, so a picture
//! of another size gives the same latents only if every rounding is the same: weights in 22-bit
//! fixed point, and bytes again between the two passes, so that their order matters too. The order
//! is that of Pillow 13; up to 12 the width always came first.

use crate::pixels::Picture;
use rayon::prelude::*;
use std::f64::consts::PI;

/// Fraction bits of a weight: 32 less the 8 of a byte, the sign, and one for what overshoots.
const FRACTION_BITS: u32 = 22;

/// How many zero crossings of the sinc the filter reaches to.
const LOBES: f64 = 3.0;

/// The picture resized to `height` × `width`, RGB bytes row by row.
pub fn lanczos(picture: Picture<'_>, height: usize, width: usize) -> Vec<u8> {
    let (from_height, from_width) = (picture.height(), picture.width());
    let narrow = |bytes: Vec<u8>| {
        if width == from_width {
            bytes
        } else {
            resize_rows(&bytes, from_width, width)
        }
    };
    let shorten = |bytes: Vec<u8>, width: usize| {
        if height == from_height {
            bytes
        } else {
            resize_columns(&bytes, width, from_height, height)
        }
    };
    let bytes = picture.bytes().to_vec();
    if rows_first(from_height, height, from_width, width) {
        narrow(shorten(bytes, from_width))
    } else {
        shorten(narrow(bytes), width)
    }
}

/// Whether the height shrinks by so many more rows than the width by columns that it is changed
/// first.
fn rows_first(from_height: usize, height: usize, from_width: usize, width: usize) -> bool {
    let fewer_rows = from_height.saturating_sub(height);
    let fewer_columns = from_width.saturating_sub(width);
    fewer_rows > 2 * fewer_columns
}

/// What one place of the output is made of.
struct Taps {
    /// The first place of the input.
    first: usize,
    /// Fixed-point weights of it and the places after it.
    weights: Vec<i32>,
}

impl Taps {
    /// The sum of weighted bytes, rounded; `byte` counts from the first place.
    fn apply(&self, byte: impl Fn(usize) -> u8) -> u8 {
        let half = 1 << (FRACTION_BITS - 1);
        let weighted = self.weights.iter().enumerate();
        let sum = weighted.fold(half, |sum, (k, w)| sum + i32::from(byte(k)) * w);
        (sum >> FRACTION_BITS).clamp(0, 255) as u8
    }
}

/// The taps of every output place along one axis.
fn taps(input: usize, output: usize) -> Vec<Taps> {
    let scale = input as f64 / output as f64;
    // Shrinking widens the filter, so that every input pixel counts; enlarging does not narrow it.
    let widening = scale.max(1.0);
    let support = LOBES * widening;
    let narrowing = 1.0 / widening; // multiplied, not divided by: the last bit is Pillow's too
    let one = |place: usize| {
        let centre = (place as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(input);
        let position = |at: usize| (at as f64 - centre + 0.5) * narrowing;
        let weights: Vec<f64> = (first..end).map(|at| filter(position(at))).collect();
        let total: f64 = weights.iter().sum();
        Taps {
            first,
            weights: weights.iter().map(|w| fixed_point(w / total)).collect(),
        }
    };
    (0..output).map(one).collect()
}

/// sinc(x) · sinc(x / 3) within three lobes.
fn filter(x: f64) -> f64 {
    let sinc = |x: f64| {
        if x == 0.0 {
            1.0
        } else {
            (x * PI).sin() / (x * PI)
        }
    };
    if (-LOBES..LOBES).contains(&x) {
        sinc(x) * sinc(x / LOBES)
    } else {
        0.0
    }
}

/// Rounded to nearest, halves away from zero.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1u32 << FRACTION_BITS);
    (scaled + 0.5_f64.copysign(weight)) as i32
}

/// Each row of `from` pixels becomes one of `to`.
fn resize_rows(bytes: &[u8], from: usize, to: usize) -> Vec<u8> {
    let taps = taps(from, to);
    let mut out = vec![0; bytes.len() / from * to];
    out.par_chunks_mut(3 * to)
        .zip(bytes.par_chunks(3 * from))
        .for_each(|(out, row)| {
            for (pixel, taps) in out.chunks_exact_mut(3).zip(&taps) {
                for (c, out) in pixel.iter_mut().enumerate() {
                    *out = taps.apply(|k| row[3 * (taps.first + k) + c]);
                }
            }
        });
    out
}

/// `from` rows of `width` pixels become `to` rows.
fn resize_columns(bytes: &[u8], width: usize, from: usize, to: usize) -> Vec<u8> {
    let (taps, row) = (taps(from, to), 3 * width);
    let mut out = vec![0; row * to];
    out.par_chunks_mut(row).zip(&taps).for_each(|(out, taps)| {
        for (x, out) in out.iter_mut().enumerate() {
            *out = taps.apply(|k| bytes[(taps.first + k) * row + x]);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_within_their_rounding() {
        for (input, output) in [(7, 3), (3, 7), (1024, 224), (5, 5), (1, 4)] {
            for taps in taps(input, output) {
                let sum: i32 = taps.weights.iter().sum();
                let slack = taps.weights.len() as i32;
                assert!((sum - (1 << FRACTION_BITS)).abs() <= slack);
            }
        }
    }

    #[test]
    fn one_colour_stays_that_colour() {
        let bytes: Vec<u8> = [13, 200, 255].repeat(9 * 5);
        let picture = Picture::new(&bytes, 9, 5).unwrap();
        for (height, width) in [(4, 16), (16, 2), (9, 5)] {
            let expected: Vec<u8> = [13, 200, 255].repeat(height * width);
            assert_eq!(lanczos(picture, height, width), expected);
        }
    }

    #[test]
    fn the_height_comes_first_only_where_it_shrinks_much_more() {
        assert!(rows_first(200, 64, 31, 64));
        assert!(rows_first(200, 64, 99, 32));
        assert!(!rows_first(200, 64, 100, 32));
        assert!(!rows_first(7, 24, 5, 16));
        assert!(!rows_first(24, 24, 16, 40));
    }

    #[test]
    fn the_filter_is_one_at_zero_and_zero_at_every_other_whole_number() {
        assert_eq!(filter(0.0), 1.0);
        for x in [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0] {
            assert!(filter(x).abs() < 1e-15);
        }
    }
}
