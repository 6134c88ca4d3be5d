//! The gradient of a weight that many places share: of a linear layer, and of a narrow convolution.
//!
//! dw\[o, k, l, i\] = Σ dy\[place, o\] · x\[place + (k, l), i\] is, for each tap, a product of two tall and
//! narrow matrices. Gathering what each place looks at, as the other multiplications do, would copy
//! every pixel once for each tap, which here costs more than the products. Instead a few places at a time
//! are copied, their pixels with the padding around them: then every tap is one product over the same two
//! stretches, one of them shifted. What is copied is laid out so that the products read it in order, from
//! a first-level cache.

mod stretch;
mod tile;

pub(crate) use tile::{Lines, Operands, add};

use crate::storage;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;
use stretch::{Band, Stretch};

/// A convolution with stride 1, or a linear layer: one whose only tap is where the place is.
#[derive(Clone, Copy)]
pub(crate) struct WeightGradient<'a> {
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

/// Places that are worked on together: as many as leave two vectors' width of pixels and the gradient of
/// a few channels in a first-level cache.
const PLACES: usize = 128;
/// Columns of places taken together where there are taps beside each other, so that a block of places has
/// rows enough to share the padding.
const COLUMNS: usize = 32;
/// Weights beyond this many go another way: each task holds a gradient of its own.
const MAX_WEIGHTS: usize = 384 << 10;
/// Fewer multiply-adds than this are not worth a task of their own.
const MIN_WORK: usize = 1 << 18;
/// Places of a task at least, while channels out can be shared instead.
const PLACES_OF_A_TASK: usize = 1024;
/// Tasks, each with sums of its own: fixed, so that a result does not depend on the cores.
const TASKS: usize = 8;

impl<'a> WeightGradient<'a> {
    /// Of a linear layer: `pixels` `[rows, i]`, `gradient` `[rows, o]`.
    pub(crate) fn linear(pixels: &'a [f32], gradient: &'a [f32], [rows, o, i]: [usize; 3]) -> Self {
        WeightGradient {
            pixels,
            gradient,
            n: 1,
            from: [1, rows],
            to: [1, rows],
            taps: [1, 1],
            pad: [0, 0],
            i,
            o,
        }
    }

    fn taps(&self) -> usize {
        self.taps[0] * self.taps[1]
    }

    fn weights(&self) -> usize {
        self.o * self.taps() * self.i
    }

    fn places(&self) -> usize {
        self.n * self.to[0] * self.to[1]
    }

    /// Whether this way is the faster one.
    pub(crate) fn pays(&self) -> bool {
        let work = self.places() * self.weights();
        self.weights() <= MAX_WEIGHTS && work >= MIN_WORK && self.places() >= PLACES
    }

    /// Writes the gradient `[o, kh, kw, i]`, every value of it, and that of the bias `[o]` where it is
    /// asked for.
    pub(crate) fn run(&self, out: &mut [f32], bias: Option<&mut [f32]>) {
        let [pixels, places] = [self.from, self.to].map(|[rows, columns]| rows * columns * self.n);
        assert_eq!(self.pixels.len(), pixels * self.i);
        assert_eq!(self.gradient.len(), places * self.o);
        assert_eq!(out.len(), self.weights());
        Arch::new().dispatch(Job {
            of: self,
            out,
            bias,
        });
    }

    /// All places, cut into blocks, and blocks put together into stretches.
    fn stretches(&self) -> Vec<Vec<Band>> {
        let [height, width] = self.to;
        let (rows, columns) = match self.taps {
            [1, 1] => (1, width.min(PLACES)),
            [_, 1] => (height.min(16), (PLACES / height.clamp(1, 16)).min(width)),
            _ => {
                let columns = width.min(COLUMNS);
                ((PLACES / columns.max(1)).clamp(1, height.max(1)), columns)
            }
        };
        let (rows, columns) = (rows.max(1), columns.max(1));
        let places = (0..self.n).flat_map(|picture| {
            (0..height).step_by(rows).flat_map(move |row| {
                (0..width).step_by(columns).map(move |column| Band {
                    picture,
                    rows: row..(row + rows).min(height),
                    columns: column..(column + columns).min(width),
                })
            })
        });
        let bands: Vec<Band> = places.collect();
        let together = (PLACES / (rows * columns)).max(1);
        bands.chunks(together).map(<[Band]>::to_vec).collect()
    }

    /// Some stretches for some of all strips of channels out: where there are few places, the strips are
    /// shared among tasks too, since each task that has them all writes a whole gradient.
    fn tasks<'s>(&self, stretches: &'s [Vec<Band>], strips: usize) -> Vec<Share<'s>> {
        let shares = (self.places() / PLACES_OF_A_TASK).clamp(1, TASKS);
        let parts = (TASKS / shares).clamp(1, strips.max(1));
        let (stretches_each, strips_each) =
            (stretches.len().div_ceil(shares), strips.div_ceil(parts));
        let shares = stretches
            .chunks(stretches_each.max(1))
            .flat_map(|stretches| {
                let firsts = (0..strips).step_by(strips_each.max(1));
                firsts.map(move |first| (stretches, first..(first + strips_each).min(strips)))
            });
        shares.collect()
    }
}

/// What a task goes through.
type Share<'s> = (&'s [Vec<Band>], Range<usize>);

struct Job<'j, 'a> {
    of: &'j WeightGradient<'a>,
    out: &'j mut [f32],
    bias: Option<&'j mut [f32]>,
}

impl WithSimd for Job<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let stretches = self.of.stretches();
        let layout = Layout::of::<S>([self.of.o, self.of.i], self.of.taps());
        let tasks = self.of.tasks(&stretches, layout.strips).into_par_iter();
        let done = tasks.with_max_len(1).map(|(stretches, strips)| {
            let mut sums = Sums::new(&layout, strips);
            simd.vectorize(Task {
                of: self.of,
                layout: &layout,
                stretches,
                sums: &mut sums,
            });
            sums
        });
        let done: Vec<Sums> = done.collect();
        gather(&layout, &done, self.out);
        if let Some(bias) = self.bias {
            bias.fill(0.0);
            for sums in &done {
                let bias = bias[sums.strips.start * layout.lines..].iter_mut();
                bias.zip(&sums.bias).for_each(|(bias, sum)| *bias += sum);
            }
        }
        for sums in done {
            storage::recycle(sums.tiles);
        }
    }
}

/// How the weight lies in tiles: for each panel of channels in, for each strip of channels out, for each tap
/// a tile of as many lines as the strip has channels, each as wide as a panel.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// Channels out of a strip, the last being filled up.
    pub lines: usize,
    pub strips: usize,
    /// Channels in of a panel, the last being filled up.
    pub width: usize,
    pub panels: usize,
    taps: usize,
    i: usize,
}

impl Layout {
    /// Of `o` channels out and `i` channels in.
    pub fn of<S: Simd>([o, i]: [usize; 2], taps: usize) -> Self {
        let lines = tile::lines::<S>();
        // Half as wide where that holds all channels.
        let most = tile::VECTORS * S::F32_LANES;
        let width = most.min(i.next_multiple_of(S::F32_LANES)).max(S::F32_LANES);
        Layout {
            lines,
            strips: o.div_ceil(lines),
            width,
            panels: i.div_ceil(width),
            taps,
            i,
        }
    }

    pub fn tile(&self) -> usize {
        self.lines * self.width
    }

    /// Where the tile of a panel, a strip and a tap begins, where there are so many strips.
    pub fn at(&self, [panel, strip, tap]: [usize; 3], strips: usize) -> usize {
        ((panel * strips + strip) * self.taps + tap) * self.tile()
    }
}

/// What a task has summed.
struct Sums {
    strips: Range<usize>,
    tiles: Vec<f32>,
    /// For each channel of the strips.
    bias: Vec<f32>,
}

impl Sums {
    fn new(layout: &Layout, strips: Range<usize>) -> Self {
        Sums {
            tiles: storage::scratch(layout.at([layout.panels, 0, 0], strips.len())),
            bias: vec![0.0; strips.len() * layout.lines],
            strips,
        }
    }
}

/// Adds up what the tasks have, and takes it out of its tiles.
fn gather(layout: &Layout, done: &[Sums], out: &mut [f32]) {
    let row_len = (layout.taps * layout.i).max(1);
    if done.is_empty() {
        out.fill(0.0);
    }
    let rows = out.par_chunks_mut(row_len).enumerate();
    rows.for_each(|(o, row)| {
        let (strip, line) = (o / layout.lines, o % layout.lines);
        let of_strip = done.iter().filter(|sums| sums.strips.contains(&strip));
        for (number, sums) in of_strip.enumerate() {
            let (strip, strips) = (strip - sums.strips.start, sums.strips.len());
            for (tap, out) in row.chunks_mut(layout.i.max(1)).enumerate() {
                for (panel, out) in out.chunks_mut(layout.width).enumerate() {
                    let tile = layout.at([panel, strip, tap], strips) + line * layout.width;
                    let sums = &sums.tiles[tile..][..out.len()];
                    if number == 0 {
                        out.copy_from_slice(sums);
                    } else {
                        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                    }
                }
            }
        }
    });
}

/// Some stretches, for some strips of channels out.
struct Task<'j, 'a> {
    of: &'j WeightGradient<'a>,
    layout: &'j Layout,
    stretches: &'j [Vec<Band>],
    sums: &'j mut Sums,
}

impl WithSimd for Task<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Task {
            of, layout, sums, ..
        } = self;
        let mut stretch = Stretch::new(of, layout, sums.strips.clone());
        for (number, bands) in self.stretches.iter().enumerate() {
            stretch.bring(bands, &mut sums.bias);
            let mut tiles = sums.tiles.chunks_exact_mut(layout.tile());
            // A panel of pixels stays in the first-level cache for all strips.
            for panel in 0..layout.panels {
                for strip in 0..sums.strips.len() {
                    for tap in 0..layout.taps {
                        let Some(tile) = tiles.next() else { return };
                        let operands = stretch.operands(panel, strip, tap);
                        tile::add(simd, operands, tile, number == 0);
                    }
                }
            }
        }
        stretch.recycle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    fn slow(job: &WeightGradient<'_>) -> Vec<f32> {
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
    const AWKWARD: [[usize; 9]; 12] = [
        [1, 1, 1, 16, 1, 3, 3, 1, 1],
        [3, 5, 7, 16, 5, 3, 3, 1, 1],
        [2, 4, 9, 48, 3, 3, 1, 1, 1],
        [1, 6, 5, 16, 2, 2, 4, 0, 0],
        [1, 4, 4, 32, 7, 3, 3, 2, 2],
        [11, 8, 8, 16, 16, 3, 3, 1, 1],
        [1, 97, 130, 16, 9, 3, 3, 1, 1], // Several blocks of one picture, the last of each row narrower.
        [5, 4, 4, 33, 41, 3, 3, 1, 1],   // Channels beyond whole tiles.
        [2, 8, 300, 5, 3, 3, 1, 1, 1],   // Blocks of columns.
        [1, 40, 7, 19, 20, 3, 1, 1, 1],  // More rows than a block has.
        [1, 1, 1000, 70, 90, 1, 1, 0, 0],
        [1, 0, 7, 3, 2, 1, 1, 0, 0],
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
            let job = WeightGradient {
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
            let mut out = vec![f32::NAN; job.weights()];
            let mut bias = vec![f32::NAN; o];
            job.run(&mut out, Some(&mut bias));
            assert_close(&out, &slow(&job), 2e-6);
            let mut sums = vec![0.0f64; o];
            for row in job.gradient.chunks_exact(o) {
                sums.iter_mut()
                    .zip(row)
                    .for_each(|(sum, dy)| *sum += f64::from(*dy));
            }
            let sums: Vec<f32> = sums.iter().map(|sum| *sum as f32).collect();
            assert_close(&bias, &sums, 2e-6);
        }
    }
}
