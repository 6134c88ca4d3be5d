//! Pictures made smaller after a blur, and flow made larger: both are one small filter along each axis.

use super::lanes::{self, for_parts, load, of_length, padded, rows_of_a_task, store};
use pulp::{Arch, Simd, WithSimd};

/// A blur and a linear interpolation along one axis, in one: element i of the result is the sum of
/// the sources `first[i] + k`, each times `weights[i · taps + k]`.
struct Axis {
    /// May lie outside by up to `margin`, where the source is mirrored.
    first: Vec<isize>,
    weights: Vec<f32>,
    taps: usize,
    /// Taps that can have a weight; the others are there to make whole blocks.
    used: usize,
    margin: usize,
}

/// Sources of a dot product taken at once; more than four taps are padded to a multiple of it.
const DOT: usize = 8;

impl Axis {
    /// From `from` elements to `to`: blurred with `kernel` (of odd length), then read at the places
    /// where the elements of the result have their centres; beyond the ends the last value holds.
    fn new(from: usize, to: usize, kernel: &[f64]) -> Self {
        let radius = kernel.len() / 2;
        let used = kernel.len() + usize::from(from != to);
        let taps = if from == to || used <= 4 {
            used
        } else {
            used.next_multiple_of(DOT)
        };
        let scale = from as f64 / to as f64;
        let mut first = Vec::with_capacity(to);
        let mut weights = vec![0.0; to * taps];
        for (i, weights) in weights.chunks_exact_mut(taps).enumerate() {
            let place = ((i as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64);
            let (whole, part) = (place.floor(), place.fract());
            first.push(whole as isize - radius as isize);
            for (k, value) in kernel.iter().enumerate() {
                weights[k] += (value * (1.0 - part)) as f32;
                if part > 0.0 {
                    weights[k + 1] += (value * part) as f32;
                }
            }
        }
        Axis {
            first,
            weights,
            taps,
            used,
            margin: radius,
        }
    }

    fn weights(&self, i: usize) -> &[f32] {
        &self.weights[i * self.taps..][..self.taps]
    }
}

/// The index inside `0..len` that `index` is the mirror image of; the ends are not repeated.
fn mirrored(index: isize, len: usize) -> usize {
    if len == 1 {
        return 0;
    }
    let period = 2 * (len as isize - 1);
    let index = index.rem_euclid(period);
    index.min(period - index) as usize
}

/// A change of size of whole planes.
pub(super) struct Resample {
    from: (usize, usize),
    to: (usize, usize),
    down: Axis,
    across: Axis,
    gain: f32,
}

impl Resample {
    /// Widths and heights before and after, and the blur that comes first, along both axes.
    pub(super) fn new(from: (usize, usize), to: (usize, usize), kernel: &[f64]) -> Self {
        Resample {
            from,
            to,
            down: Axis::new(from.1, to.1, kernel),
            across: Axis::new(from.0, to.0, kernel),
            gain: 1.0,
        }
    }

    /// The same with every value multiplied by `gain`.
    pub(super) fn with_gain(self, gain: f32) -> Self {
        Resample { gain, ..self }
    }

    /// Row y of plane p begins at `(y · planes + p) ·` the padded width, in `source` and in `out`.
    pub(super) fn run(
        &self,
        planes: usize,
        source: &[f32],
        out: &mut [f32],
        scratch: &mut Vec<Vec<f32>>,
    ) {
        let row = planes * padded(self.to.0);
        let rows = rows_of_a_task(self.from.0.max(self.to.0), self.to.1, 1);
        for_parts(out, rows * row, scratch, |part, out, scratch| {
            Arch::new().dispatch(Rows {
                resample: self,
                planes,
                source,
                first: part * rows,
                out,
                scratch,
            });
        });
    }
}

struct Rows<'a> {
    resample: &'a Resample,
    planes: usize,
    source: &'a [f32],
    first: usize,
    out: &'a mut [f32],
    scratch: &'a mut Vec<f32>,
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (width, across) = (self.resample.from.0, &self.resample.across);
        let start = across.margin.next_multiple_of(lanes::PAD);
        let len = start + padded(width) + across.margin + DOT;
        let line = of_length(self.scratch, len);
        let stride = padded(self.resample.to.0);
        for (k, out) in self.out.chunks_exact_mut(stride).enumerate() {
            let (y, plane) = (self.first + k / self.planes, k % self.planes);
            self.resample
                .sum_rows(simd, self.source, self.planes, plane, y, &mut line[start..]);
            for i in 1..=across.margin {
                line[start - i] = line[start + mirrored(-(i as isize), width)];
                line[start + width - 1 + i] =
                    line[start + mirrored((width - 1 + i) as isize, width)];
            }
            // Weightless taps read what is here.
            line[start + width + across.margin..].fill(0.0);
            across.sum_columns(simd, line, start, width == self.resample.to.0, out);
        }
    }
}

impl Resample {
    /// The weighted sum of the source rows that make row `y`.
    #[inline(always)]
    fn sum_rows<S: Simd>(
        &self,
        simd: S,
        source: &[f32],
        planes: usize,
        plane: usize,
        y: usize,
        line: &mut [f32],
    ) {
        let stride = padded(self.from.0);
        let weights = self.down.weights(y);
        // A few taps at a time, so that their sum stays in registers.
        for from in (0..self.down.used).step_by(DOT) {
            let taps = DOT.min(self.down.used - from);
            let mut begins = [0; DOT];
            for (k, begin) in begins[..taps].iter_mut().enumerate() {
                let row = mirrored(self.down.first[y] + (from + k) as isize, self.from.1);
                *begin = (row * planes + plane) * stride;
            }
            for at in (0..stride).step_by(S::F32_LANES) {
                let mut sum = simd.splat_f32s(0.0);
                if from > 0 {
                    sum = load(simd, line, at);
                }
                for k in 0..taps {
                    let weight = simd.splat_f32s(weights[from + k] * self.gain);
                    sum = simd.mul_add_f32s(weight, load(simd, source, begins[k] + at), sum);
                }
                store(simd, line, at, sum);
            }
        }
    }
}

impl Axis {
    /// The weighted sums of `line`, whose element 0 stands at `start`.
    #[inline(always)]
    fn sum_columns<S: Simd>(
        &self,
        simd: S,
        line: &[f32],
        start: usize,
        same_size: bool,
        out: &mut [f32],
    ) {
        if same_size {
            // Every element has the same weights, so that a vector of them is made at once.
            let weights = self.weights(0);
            for at in (0..out.len()).step_by(S::F32_LANES) {
                let mut sum = simd.splat_f32s(0.0);
                for (tap, weight) in weights.iter().enumerate() {
                    let value = load(simd, line, start + at + tap - self.margin);
                    sum = simd.mul_add_f32s(simd.splat_f32s(*weight), value, sum);
                }
                store(simd, out, at, sum);
            }
            return;
        }
        match self.taps {
            2 => self.sum_few::<2>(line, start, out),
            4 => self.sum_few::<4>(line, start, out),
            _ => {
                for (i, (first, out)) in self.first.iter().zip(out).enumerate() {
                    let values = &line[(start as isize + first) as usize..][..self.taps];
                    *out = dot(values, self.weights(i));
                }
            }
        }
    }

    /// The same for `TAPS` taps.
    #[inline(always)]
    fn sum_few<const TAPS: usize>(&self, line: &[f32], start: usize, out: &mut [f32]) {
        let (weights, _) = self.weights.as_chunks::<TAPS>();
        for ((first, weights), out) in self.first.iter().zip(weights).zip(out) {
            let values = &line[(start as isize + first) as usize..][..TAPS];
            let mut sum = 0.0;
            for k in 0..TAPS {
                sum = values[k].mul_add(weights[k], sum);
            }
            *out = sum;
        }
    }
}

/// The sum of products, in a fixed order.
#[inline(always)]
fn dot(values: &[f32], weights: &[f32]) -> f32 {
    let (values, _) = values.as_chunks::<DOT>();
    let (weights, _) = weights.as_chunks::<DOT>();
    let mut sums = [0.0_f32; DOT];
    for (values, weights) in values.iter().zip(weights) {
        for k in 0..DOT {
            sums[k] = values[k].mul_add(weights[k], sums[k]);
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resampled(
        from: (usize, usize),
        to: (usize, usize),
        kernel: &[f64],
        f: impl Fn(f32, f32) -> f32,
    ) -> Vec<f32> {
        let mut source = vec![f32::NAN; padded(from.0) * from.1];
        for y in 0..from.1 {
            for x in 0..from.0 {
                source[y * padded(from.0) + x] = f(x as f32, y as f32);
            }
            source[y * padded(from.0) + from.0..(y + 1) * padded(from.0)].fill(0.0);
        }
        let mut out = vec![0.0; padded(to.0) * to.1];
        Resample::new(from, to, kernel).run(1, &source, &mut out, &mut Vec::new());
        out
    }

    #[test]
    fn a_ramp_stays_a_ramp_at_the_centres_of_the_new_pixels() {
        // Linear interpolation and a symmetrical blur leave a linear function as it is; away from
        // the ends, pixel i of the result has its centre at (i + ½) · 3 − ½ of the source.
        let out = resampled((90, 60), (30, 20), &[0.25, 0.5, 0.25], |x, y| 2.0 * x - y);
        for y in 1..19 {
            for x in 1..29 {
                let expected = 2.0 * (x as f32 * 3.0 + 1.0) - (y as f32 * 3.0 + 1.0);
                assert!((out[y * 32 + x] - expected).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn weights_of_every_pixel_add_to_one_and_mirrors_stay_inside() {
        for (from, to) in [
            ((7, 5), (7, 5)),
            ((33, 18), (17, 9)),
            ((5, 1), (9, 2)),
            ((1, 1), (1, 1)),
        ] {
            let kernel = [0.1, 0.2, 0.4, 0.2, 0.1];
            let out = resampled(from, to, &kernel, |_, _| 3.0);
            for y in 0..to.1 {
                for x in 0..to.0 {
                    assert!((out[y * padded(to.0) + x] - 3.0).abs() < 1e-5);
                }
            }
        }
        assert_eq!(
            [-2, -1, 0, 3, 4, 5].map(|i| mirrored(i, 4)),
            [2, 1, 0, 3, 2, 1]
        );
    }
}
