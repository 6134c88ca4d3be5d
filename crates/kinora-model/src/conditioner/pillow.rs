//! Resizing of bytes, bit for bit as Pillow does it: Lanczos in front of the autoencoder, bicubic in
//! front of the CLIP that judges.
//!
//! Pillow is what stands between the user's picture and the autoencoder in diffusers, so a picture
//! of another size gives the same latents only if every rounding is the same: weights in 22-bit
//! fixed point, and bytes again between the two passes, so that their order matters too. The order
//! is that of Pillow 13; up to 12 the width always came first.

use crate::pixels::Picture;
use rayon::prelude::*;
use std::borrow::Cow;
use std::f64::consts::PI;

/// Fraction bits of a weight: 32 less the 8 of a byte, the sign, and one for what overshoots.
const FRACTION_BITS: u32 = 22;

/// How many zero crossings of the sinc the Lanczos filter reaches to.
const LOBES: f64 = 3.0;

/// Sharpness of the bicubic filter; Pillow's choice.
const CUBIC_A: f64 = -0.5;

/// What weighs the neighbours of a place.
#[derive(Clone, Copy, Debug)]
enum Filter {
    Lanczos,
    Bicubic,
}

impl Filter {
    /// How far it reaches.
    fn support(self) -> f64 {
        match self {
            Filter::Lanczos => LOBES,
            Filter::Bicubic => 2.0,
        }
    }

    /// The weight at distance `x`.
    fn weight(self, x: f64) -> f64 {
        match self {
            Filter::Lanczos => lanczos_weight(x),
            Filter::Bicubic => cubic_weight(x),
        }
    }
}

/// The picture resized to `height` × `width` by Lanczos' filter, RGB bytes row by row.
pub fn lanczos(picture: Picture<'_>, height: usize, width: usize) -> Vec<u8> {
    resized(picture, height, width, Filter::Lanczos)
}

/// The picture resized to `height` × `width` by the bicubic filter, RGB bytes row by row.
pub fn bicubic(picture: Picture<'_>, height: usize, width: usize) -> Vec<u8> {
    resized(picture, height, width, Filter::Bicubic)
}

fn resized<'a>(picture: Picture<'a>, height: usize, width: usize, filter: Filter) -> Vec<u8> {
    let (from_height, from_width) = (picture.height(), picture.width());
    let narrow = |bytes: Cow<'a, [u8]>| {
        if width == from_width {
            bytes
        } else {
            resize_rows(&bytes, &taps(from_width, width, filter), from_width).into()
        }
    };
    let shorten = |bytes: Cow<'a, [u8]>, width: usize| {
        if height == from_height {
            bytes
        } else {
            resize_columns(&bytes, &taps(from_height, height, filter), width).into()
        }
    };
    let bytes = Cow::Borrowed(picture.bytes());
    let resized = if rows_first(from_height, height, from_width, width) {
        narrow(shorten(bytes, from_width))
    } else {
        shorten(narrow(bytes), width)
    };
    resized.into_owned()
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
fn taps(input: usize, output: usize, filter: Filter) -> Vec<Taps> {
    let scale = input as f64 / output as f64;
    // Shrinking widens the filter, so that every input pixel counts; enlarging does not narrow it.
    let widening = scale.max(1.0);
    let support = filter.support() * widening;
    let narrowing = 1.0 / widening; // multiplied, not divided by: the last bit is Pillow's too
    let one = |place: usize| {
        let centre = (place as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(input);
        let position = |at: usize| (at as f64 - centre + 0.5) * narrowing;
        let weights: Vec<f64> = (first..end).map(|at| filter.weight(position(at))).collect();
        let total: f64 = weights.iter().sum();
        Taps {
            first,
            weights: weights.iter().map(|w| fixed_point(w / total)).collect(),
        }
    };
    (0..output).map(one).collect()
}

/// sinc(x) · sinc(x / 3) within three lobes.
fn lanczos_weight(x: f64) -> f64 {
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

/// The cubic of Keys (1981) that is 1 at 0 and 0 at every other whole number.
fn cubic_weight(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((CUBIC_A + 2.0) * x - (CUBIC_A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * CUBIC_A
    } else {
        0.0
    }
}

/// Rounded to nearest, halves away from zero.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1u32 << FRACTION_BITS);
    (scaled + 0.5_f64.copysign(weight)) as i32
}

/// Each row of `from` pixels becomes one of as many as there are taps.
fn resize_rows(bytes: &[u8], taps: &[Taps], from: usize) -> Vec<u8> {
    let to = taps.len();
    let mut out = vec![0; bytes.len() / from * to];
    out.par_chunks_mut(3 * to)
        .zip(bytes.par_chunks(3 * from))
        .for_each(|(out, row)| {
            for (pixel, taps) in out.chunks_exact_mut(3).zip(taps) {
                for (c, out) in pixel.iter_mut().enumerate() {
                    *out = taps.apply(|k| row[3 * (taps.first + k) + c]);
                }
            }
        });
    out
}

/// Rows of `width` pixels become as many rows as there are taps.
fn resize_columns(bytes: &[u8], taps: &[Taps], width: usize) -> Vec<u8> {
    let row = 3 * width;
    let mut out = vec![0; row * taps.len()];
    out.par_chunks_mut(row).zip(taps).for_each(|(out, taps)| {
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
            for taps in [Filter::Lanczos, Filter::Bicubic]
                .map(|f| taps(input, output, f))
                .into_iter()
                .flatten()
            {
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
    fn the_filters_are_one_at_zero_and_zero_at_every_other_whole_number() {
        for filter in [Filter::Lanczos, Filter::Bicubic] {
            assert_eq!(filter.weight(0.0), 1.0);
            for x in [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0] {
                assert!(filter.weight(x).abs() < 1e-15);
            }
        }
    }
}
