//! The resize in front of CLIP: a Gaussian blur, then bicubic interpolation between aligned corners.
//!
//! It is a linear map along each axis, so blur and interpolation are multiplied out beforehand into
//! one short list of weights for each output place, and no blurred picture is ever made.

use crate::Result;
use crate::pixels::{self, Picture};
use kinora_tensor::Tensor;
use rayon::prelude::*;

/// Sharpness of the cubic kernel; PyTorch's choice.
const CUBIC_A: f32 = -0.75;

/// The picture as values around −1 to 1 at `size` × `size`. Bicubic interpolation overshoots at
/// edges; nothing is clamped.
///
/// # Shapes
/// The result is [1, size, size, 3].
///
/// # Errors
/// None beyond those of the arrays.
pub fn antialiased(picture: Picture<'_>, size: usize) -> Result<Tensor> {
    let (height, width) = (picture.height(), picture.width());
    let across = taps(width, size);
    let down = taps(height, size);
    let narrowed = resize_rows(picture.bytes(), width, &across);
    Tensor::from_vec(
        resize_columns(&narrowed, 3 * size, &down),
        [1, size, size, 3],
    )
    .map_err(Into::into)
}

/// What one place of the output is made of.
struct Taps {
    /// The first place of the input.
    first: usize,
    /// The weights of it and the places after it.
    weights: Vec<f32>,
}

/// The taps of every output place along one axis.
fn taps(input: usize, output: usize) -> Vec<Taps> {
    let blur = gaussian(input as f64 / output as f64);
    let radius = blur.len() / 2;
    // In f32, as PyTorch: a thousand pixels in, the fraction of the position has lost four digits,
    // and agreeing with it means losing the same ones.
    let scale = (input - 1) as f32 / (output.max(2) - 1) as f32;
    let one = |place: usize| {
        let position = scale * place as f32;
        let base = (position as usize).min(input - 1);
        let cubic = cubic((position - base as f32).clamp(0.0, 1.0));
        let first = base.saturating_sub(1 + radius);
        let end = (base + 3 + radius).min(input);
        let mut weights = vec![0.0_f64; end - first];
        for (k, cubic) in cubic.iter().enumerate() {
            let centre = (base + k).saturating_sub(1).min(input - 1);
            for (j, blur) in blur.iter().enumerate() {
                let at = reflected(centre + j, radius, input);
                weights[at - first] += f64::from(*cubic) * blur;
            }
        }
        Taps {
            first,
            weights: weights.iter().map(|w| *w as f32).collect(),
        }
    };
    (0..output).map(one).collect()
}

/// The place `shifted − radius`, reflected at both ends without repeating them.
fn reflected(shifted: usize, radius: usize, len: usize) -> usize {
    // A single pixel has no neighbour to reflect.
    if len == 1 {
        return 0;
    }
    let at = shifted.abs_diff(radius);
    if at < len { at } else { 2 * (len - 1) - at }
}

/// The blur for shrinking by `factor`: σ = (factor − 1) / 2 over an odd number of samples, about
/// four σ of them. Enlarging does not blur.
fn gaussian(factor: f64) -> Vec<f64> {
    let sigma = ((factor - 1.0) / 2.0).max(0.001);
    let taps = (4.0 * sigma).max(3.0) as usize | 1;
    let sample = |k: usize| {
        let x = k as f64 - (taps / 2) as f64;
        (-x * x / (2.0 * sigma * sigma)).exp()
    };
    let total: f64 = (0..taps).map(sample).sum();
    (0..taps).map(|k| sample(k) / total).collect()
}

/// Weights of the four neighbours of a place that lies `t` past the second.
fn cubic(t: f32) -> [f32; 4] {
    let near = |x: f32| ((CUBIC_A + 2.0) * x - (CUBIC_A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((CUBIC_A * x - 5.0 * CUBIC_A) * x + 8.0 * CUBIC_A) * x - 4.0 * CUBIC_A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

/// Rows of `width` pixels become rows of as many values as there are taps. The bytes become values
/// on the way: a photograph's would be four times its size, and most of it is dropped here.
fn resize_rows(bytes: &[u8], width: usize, taps: &[Taps]) -> Vec<f32> {
    let values = pixels::values_of_bytes();
    let mut out = vec![0.0; bytes.len() / width * taps.len()];
    out.par_chunks_mut(3 * taps.len())
        .zip(bytes.par_chunks(3 * width))
        .for_each(|(out, row)| {
            for (pixel, taps) in out.chunks_exact_mut(3).zip(taps) {
                let places = row[3 * taps.first..].chunks_exact(3);
                for (weight, place) in taps.weights.iter().zip(places) {
                    for (out, byte) in pixel.iter_mut().zip(place) {
                        *out += weight * values[usize::from(*byte)];
                    }
                }
            }
        });
    out
}

/// Rows of `row` values become as many rows as there are taps.
fn resize_columns(values: &[f32], row: usize, taps: &[Taps]) -> Vec<f32> {
    let mut out = vec![0.0; row * taps.len()];
    out.par_chunks_mut(row).zip(taps).for_each(|(out, taps)| {
        let rows = values[taps.first * row..].chunks_exact(row);
        for (weight, values) in taps.weights.iter().zip(rows) {
            for (out, value) in out.iter_mut().zip(values) {
                *out += weight * value;
            }
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blur_of_the_published_size_is_the_known_one() {
        // 576×1024 to 224: σ = 0.7857 and 1.7857 over 3 and 7 samples.
        assert_eq!(gaussian(576.0 / 224.0).len(), 3);
        let blur = gaussian(1024.0 / 224.0);
        assert_eq!(blur.len(), 7);
        let falls = (-1.0 / (2.0 * 1.785_714_f64.powi(2))).exp();
        assert!((blur[4] / blur[3] - falls).abs() < 1e-6);
    }

    #[test]
    fn weights_sum_to_one() {
        for input in [1, 2, 3, 100, 224, 225, 448, 1024, 5000] {
            for taps in taps(input, 224) {
                let sum: f32 = taps.weights.iter().sum();
                assert!((sum - 1.0).abs() < 1e-5, "{input}: {sum}");
                assert!(taps.first + taps.weights.len() <= input);
            }
        }
    }

    #[test]
    fn corners_stay_where_they_are() {
        // Enlarging does not blur, so the ends of the output are the ends of the input.
        let taps = taps(9, 224);
        assert_eq!(taps[0].first, 0);
        assert!((taps[0].weights[0] - 1.0).abs() < 1e-6);
        let last = &taps[223];
        let end = last.weights.last().unwrap();
        assert_eq!(last.first + last.weights.len(), 9);
        assert!((end - 1.0).abs() < 1e-5);
    }

    #[test]
    fn cubic_weights_pass_through_the_samples() {
        assert_eq!(cubic(0.0), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(cubic(1.0), [0.0, 0.0, 1.0, 0.0]);
        let half = cubic(0.5);
        assert_eq!(half[0], half[3]);
        assert!((half.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
