//! The gradient of a narrow convolution's weight.
//!
//! dw\[o, k, l, i\] = Σ dy\[place, o\] · x\[place + (k, l), i\] is, for each tap, a product of two tall
//! and narrow matrices. Gathering what each place looks at, as the other multiplications do, would
//! copy every pixel once for each tap, which here costs more than the products. Instead a few rows of
//! pixels are copied once with their padding, and the gradient beside them with zeros where the
//! padding is: then every tap is one product over the same two stretches, one of them shifted.

use crate::storage;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// A convolution with stride 1.
#[derive(Clone, Copy)]
pub(crate) struct Narrow<'a> {
    /// `[n, h, w, i]`.
    pub pixels: &'a [f32],
    /// `[n, oh, ow, o]`.
    pub gradient: &'a [f32],
    pub n: usize,
    /// Rows and columns of pixels.
    pub from: [usize; 2],
    /// Rows and columns of places.
    pub to: [usize; 2],
    /// Rows and columns of taps.
    pub taps: [usize; 2],
    /// Rows and columns of zeros before the first pixel.
    pub pad: [usize; 2],
    pub i: usize,
    pub o: usize,
}

/// Values of pixels and gradient that are worked on together: a part of a second-level cache.
const STRETCH_VALUES: usize = 48 << 10;
/// Weights beyond this many go another way: each task holds a gradient of its own.
const MAX_WEIGHTS: usize = 192 << 10;
/// Tasks, each with sums of its own: fixed, so that a result does not depend on the cores.
const TASKS: usize = 8;
/// Channels in come in vectors, the longest of which hold so many.
const LANES: usize = 16;

/// Some rows of places of one picture.
#[derive(Clone, Copy)]
struct Band {
    picture: usize,
    first: usize,
    rows: usize,
}

impl Narrow<'_> {
    fn weights(&self) -> usize {
        self.o * self.taps[0] * self.taps[1] * self.i
    }

    /// Whether this way is the faster one.
    pub(crate) fn pays(&self) -> bool {
        self.i.is_multiple_of(LANES) && self.weights() <= MAX_WEIGHTS && self.taps != [1, 1]
    }

    /// Pixels of a padded row.
    fn width(&self) -> usize {
        self.to[1] + self.taps[1] - 1
    }

    /// Writes the gradient `[o, kh, kw, i]`, every value of it.
    pub(crate) fn run(&self, out: &mut [f32]) {
        assert_eq!(
            self.pixels.len(),
            self.n * self.from[0] * self.from[1] * self.i
        );
        assert_eq!(
            self.gradient.len(),
            self.n * self.to[0] * self.to[1] * self.o
        );
        assert_eq!(out.len(), self.weights());
        let stretches = self.stretches();
        let per_task = stretches.len().div_ceil(TASKS).max(1);
        let sums: Vec<Vec<f32>> = stretches
            .par_chunks(per_task)
            .map(|stretches| {
                let mut sums = storage::zeros(self.weights());
                Arch::new().dispatch(Task {
                    job: self,
                    stretches,
                    sums: &mut sums,
                });
                sums
            })
            .collect();
        out.fill(0.0);
        const BLOCK: usize = 4096;
        out.par_chunks_mut(BLOCK)
            .enumerate()
            .for_each(|(block, out)| {
                for sums in &sums {
                    for (out, sum) in out.iter_mut().zip(&sums[block * BLOCK..]) {
                        *out += sum;
                    }
                }
            });
        sums.into_iter().for_each(storage::recycle);
    }

    /// All places, cut into stretches of about the same number of values.
    fn stretches(&self) -> Vec<Vec<Band>> {
        let row_values = self.width() * (self.i + self.o);
        let padding = self.taps[0] - 1;
        let rows = (STRETCH_VALUES / row_values.max(1)).saturating_sub(padding);
        let rows = rows.clamp(1, self.to[0].max(1));
        let pictures = (0..self.n).flat_map(|picture| {
            (0..self.to[0]).step_by(rows).map(move |first| Band {
                picture,
                first,
                rows: rows.min(self.to[0] - first),
            })
        });
        let bands: Vec<Band> = pictures.collect();
        let together = STRETCH_VALUES / ((rows + padding) * row_values).max(1);
        bands
            .chunks(together.max(1))
            .map(<[Band]>::to_vec)
            .collect()
    }

    /// Copies what the places of a band look at, with its padding, and the gradient of the places
    /// with zeros beside and below it.
    fn bring(&self, band: Band, pixels: &mut [f32], gradient: &mut [f32]) {
        let (width, [height, across]) = (self.width(), self.from);
        let lines = pixels.chunks_exact_mut(width * self.i);
        for (line, out) in lines.enumerate() {
            let row = (band.first + line).wrapping_sub(self.pad[0]);
            if row >= height {
                out.fill(0.0);
                continue;
            }
            let left = self.pad[1] * self.i;
            let len = (across * self.i).min(out.len() - left);
            let start = (band.picture * height + row) * across * self.i;
            out[..left].fill(0.0);
            out[left..left + len].copy_from_slice(&self.pixels[start..start + len]);
            out[left + len..].fill(0.0);
        }
        let len = self.to[1] * self.o;
        for (line, out) in gradient.chunks_exact_mut(width * self.o).enumerate() {
            if line >= band.rows {
                out.fill(0.0);
                continue;
            }
            let start = (band.picture * self.to[0] + band.first + line) * len;
            out[..len].copy_from_slice(&self.gradient[start..start + len]);
            out[len..].fill(0.0);
        }
    }
}

/// Some stretches, added to the sums of one task.
struct Task<'a, 'b> {
    job: &'a Narrow<'b>,
    stretches: &'a [Vec<Band>],
    /// `[o, kh, kw, i]`.
    sums: &'a mut [f32],
}

impl WithSimd for Task<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Narrow { i, o, taps, .. } = *self.job;
        let width = self.job.width();
        let lines = |stretch: &Vec<Band>| -> usize {
            stretch.iter().map(|band| band.rows + taps[0] - 1).sum()
        };
        let most = self.stretches.iter().map(lines).max().unwrap_or(0) * width;
        let mut pixels = storage::scratch(most * i);
        let mut gradient = storage::scratch(most * o);
        for stretch in self.stretches {
            let mut at = 0;
            for band in stretch {
                let len = (band.rows + taps[0] - 1) * width;
                let (pixels, gradient) = (&mut pixels[at * i..], &mut gradient[at * o..]);
                self.job
                    .bring(*band, &mut pixels[..len * i], &mut gradient[..len * o]);
                at += len;
            }
            // Behind the last place there is nothing to add, and the last tap must not look there.
            let terms = at - (taps[0] - 1) * width - (taps[1] - 1);
            for tap in 0..taps[0] * taps[1] {
                let shift = tap / taps[1] * width + tap % taps[1];
                simd.vectorize(Product {
                    pixels: &pixels[shift * i..][..terms * i],
                    gradient: &gradient[..terms * o],
                    channels: [o, i],
                    sums: &mut self.sums[tap * i..],
                    stride: taps[0] * taps[1] * i,
                });
            }
        }
        for buffer in [pixels, gradient] {
            storage::recycle(buffer);
        }
    }
}

/// sums\[o\]\[i\] += Σ gradient\[place\]\[o\] · pixels\[place\]\[i\], rows of `sums` being `stride` apart.
struct Product<'a> {
    pixels: &'a [f32],
    gradient: &'a [f32],
    /// Channels out and in, the latter whole vectors.
    channels: [usize; 2],
    sums: &'a mut [f32],
    stride: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let vectors = self.channels[1] / S::F32_LANES;
        for column in (0..vectors / 2 * 2).step_by(2) {
            self.columns::<S, 2>(simd, column);
        }
        if vectors % 2 == 1 {
            self.columns::<S, 1>(simd, vectors - 1);
        }
    }
}

impl Product<'_> {
    /// `C` vectors of channels in, all channels out.
    #[inline(always)]
    fn columns<S: Simd, const C: usize>(&mut self, simd: S, column: usize) {
        let o = self.channels[0];
        let mut row = 0;
        // Sixteen sums where the registers hold them: more would leave none for what is multiplied.
        if S::REGISTER_COUNT >= 32 {
            while row + 8 <= o {
                self.tile::<S, 8, C>(simd, row, column);
                row += 8;
            }
        }
        while row + 4 <= o {
            self.tile::<S, 4, C>(simd, row, column);
            row += 4;
        }
        while row < o {
            self.tile::<S, 1, C>(simd, row, column);
            row += 1;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
    ) {
        let [o, i] = self.channels;
        let mut sums = [[simd.splat_f32s(0.0); C]; R];
        let places = self
            .gradient
            .chunks_exact(o)
            .zip(self.pixels.chunks_exact(i));
        for (gradient, pixel) in places {
            let gradient = &gradient[row..row + R];
            let pixel = &S::as_simd_f32s(pixel).0[column..column + C];
            for r in 0..R {
                let factor = simd.splat_f32s(gradient[r]);
                for c in 0..C {
                    sums[r][c] = simd.mul_add_f32s(factor, pixel[c], sums[r][c]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let out = &mut self.sums[(row + r) * self.stride..][..i];
            let out = &mut S::as_mut_simd_f32s(out).0[column..column + C];
            for c in 0..C {
                out[c] = simd.add_f32s(out[c], sums[c]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    fn slow(job: &Narrow<'_>) -> Vec<f32> {
        let ([h, w], [oh, ow], [kh, kw]) = (job.from, job.to, job.taps);
        let mut out = vec![0.0f64; job.weights()];
        for place in 0..job.n * oh * ow {
            let (n, row, column) = (place / ow / oh, place / ow % oh, place % ow);
            for (k, l) in (0..kh).flat_map(|k| (0..kw).map(move |l| (k, l))) {
                let y = (row + k).wrapping_sub(job.pad[0]);
                let x = (column + l).wrapping_sub(job.pad[1]);
                if y >= h || x >= w {
                    continue;
                }
                for (o, i) in (0..job.o).flat_map(|o| (0..job.i).map(move |i| (o, i))) {
                    let dy = f64::from(job.gradient[place * job.o + o]);
                    let pixel = f64::from(job.pixels[((n * h + y) * w + x) * job.i + i]);
                    out[((o * kh + k) * kw + l) * job.i + i] += dy * pixel;
                }
            }
        }
        out.into_iter().map(|v| v as f32).collect()
    }

    /// Pictures, rows, columns, channels in, channels out, rows and columns of taps, their padding
    /// before and after.
    const AWKWARD: [[usize; 9]; 7] = [
        [1, 1, 1, 16, 1, 3, 3, 1, 1],
        [3, 5, 7, 16, 5, 3, 3, 1, 1],
        [2, 4, 9, 48, 3, 3, 1, 1, 1],
        [1, 6, 5, 16, 2, 2, 4, 0, 0],
        [1, 4, 4, 32, 7, 3, 3, 2, 2],
        [11, 8, 8, 16, 16, 3, 3, 1, 1],
        [1, 97, 130, 16, 9, 3, 3, 1, 1], // Several bands of one picture.
    ];

    #[test]
    fn agrees_with_the_definition() {
        for [n, h, w, i, o, kh, kw, before, after] in AWKWARD {
            let pad = [before.min(kh - 1), before.min(kw - 1)];
            let to = [
                h + pad[0] + after.min(kh - 1) + 1 - kh,
                w + pad[1] + after.min(kw - 1) + 1 - kw,
            ];
            let (x, dy) = (numbers([n, h, w, i], 1), numbers([n, to[0], to[1], o], 2));
            let job = Narrow {
                pixels: x.as_f32().unwrap(),
                gradient: dy.as_f32().unwrap(),
                n,
                from: [h, w],
                to,
                taps: [kh, kw],
                pad,
                i,
                o,
            };
            assert!(job.pays());
            let mut out = vec![f32::NAN; job.weights()];
            job.run(&mut out);
            assert_close(&out, &slow(&job), 2e-6);
        }
    }
}
