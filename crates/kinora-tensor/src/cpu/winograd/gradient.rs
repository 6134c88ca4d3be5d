//! The gradient of a weight, by the transpose of the same rule.
//!
//! Results are products at the points taken back to places, so the gradient of a weight at the points is the
//! product of the pixels there and of the gradient of the results there, summed over all tiles: of each point
//! one product of two tall matrices, four times fewer multiplications than for the nine taps. A task takes one
//! row of points and some of the tiles: it brings a few tiles to these points, in panels and strips that the
//! innermost loop of the direct way reads in order, adds them, and goes on; so nothing leaves its cache.

use super::rule::{
    POINTS, RESULTS, TAPS, along_both, pixels_to_point, pixels_to_points, points_to_taps,
    results_to_point, results_to_points,
};
use super::{Grid, Winograd, load};
use crate::cpu::weight_gradient::{Layout, Lines, Operands, add};
use crate::storage;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// The gradient of a three-tap weight, over pictures or along time as [`Winograd`] is.
#[derive(Clone, Copy)]
pub(crate) struct Gradient<'a, const R: usize, const RT: usize, const RR: usize> {
    pub grid: Grid,
    /// `[outer, .., from]`.
    pub pixels: &'a [f32],
    /// `[outer, .., to]`.
    pub gradient: &'a [f32],
    pub from: usize,
    pub to: usize,
}

/// Over the two axes of a picture.
pub(crate) type GradientOverPictures<'a> = Gradient<'a, { POINTS }, { TAPS }, { RESULTS }>;
/// Along one axis: the columns of the grid.
pub(crate) type GradientAlongTime<'a> = Gradient<'a, 1, 1, 1>;

/// Tiles that are at a row of points at once: they and what they are added to fill a second-level cache.
const TILES: usize = 48;
/// Values between one panel or strip and the next beyond what they hold, so that they do not all lie in the
/// same places of a cache.
const APART: usize = 16;
/// Tiles of a task at least, and parts of all tiles at most: fixed, so that a result does not depend on the
/// cores.
const TILES_OF_A_TASK: usize = 256;
const PARTS: usize = 4;

impl<const R: usize, const RT: usize, const RR: usize> Gradient<'_, R, RT, RR> {
    /// Whether this way is expected to be faster than the nine (or three) taps' products; counted as for
    /// [`Winograd::pays`].
    pub(crate) fn pays(&self) -> bool {
        const LARGEST: usize = 384 << 10;
        const VALUE: usize = 80; // of one value at one point
        const SUM: usize = 40; // of one value of the weight at one point, in each part
        const DIRECT_PERCENT: usize = 120; // what the direct way takes, beside multiplications alone
        let weights = self.from * self.to;
        let direct = self.grid.outer * self.grid.to.len() * RT * TAPS * weights;
        let values = self.tiles() * R * POINTS;
        let sums = self.parts() * R * POINTS * weights;
        let here = values * (weights + VALUE * (self.from + self.to)) + SUM * sums;
        weights * RT * TAPS <= LARGEST && here < direct / 100 * DIRECT_PERCENT
    }

    fn tiles(&self) -> usize {
        Winograd::<R, POINTS, RESULTS>::tiles_of(&self.grid)
    }

    fn parts(&self) -> usize {
        (self.tiles() / TILES_OF_A_TASK).clamp(1, PARTS * POINTS / R)
    }

    /// Writes the gradient `[to, taps.., from]`, every value of it.
    pub(crate) fn run(&self, out: &mut [f32]) {
        let grid = &self.grid;
        assert_eq!(self.pixels.len(), grid.outer * grid.from.len() * self.from);
        assert_eq!(self.gradient.len(), grid.outer * grid.to.len() * self.to);
        assert_eq!(out.len(), self.to * RT * TAPS * self.from);
        if self.tiles() == 0 {
            return out.fill(0.0);
        }
        Arch::new().dispatch(Job { of: self, out });
    }
}

struct Job<'j, 'a, const R: usize, const RT: usize, const RR: usize> {
    of: &'j Gradient<'a, R, RT, RR>,
    out: &'j mut [f32],
}

impl<const R: usize, const RT: usize, const RR: usize> WithSimd for Job<'_, '_, R, RT, RR> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Job { of, out } = self;
        let layout = &Layout::of::<S>([of.to, of.from], POINTS);
        let parts = of.parts();
        let per_part = of.tiles().div_ceil(parts);
        let tasks = (0..parts * R).into_par_iter().with_max_len(1);
        // Part by part, each with all rows of points.
        let sums: Vec<Vec<f32>> = tasks
            .map(|task| {
                let first = task / R * per_part;
                let mut sums = storage::scratch(layout.at([layout.panels, 0, 0], layout.strips));
                simd.vectorize(Task {
                    of,
                    layout,
                    row: task % R,
                    tiles: first..(first + per_part).min(of.tiles()),
                    sums: &mut sums,
                });
                sums
            })
            .collect();
        let channel_out = RT * TAPS * of.from;
        let rows = out.par_chunks_mut(channel_out.max(1)).enumerate();
        rows.for_each(|(o, out)| {
            simd.vectorize(ToTaps::<R, RT> {
                layout,
                sums: &sums,
                from: of.from,
                o,
                out,
            });
        });
        sums.into_iter().for_each(storage::recycle);
    }
}

/// Some tiles at one row of points.
struct Task<'j, 'a, const R: usize, const RT: usize, const RR: usize> {
    of: &'j Gradient<'a, R, RT, RR>,
    layout: &'j Layout,
    row: usize,
    tiles: Range<usize>,
    sums: &'j mut [f32],
}

impl<const R: usize, const RT: usize, const RR: usize> WithSimd for Task<'_, '_, R, RT, RR> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Layout {
            lines,
            strips,
            width,
            panels,
            ..
        } = *self.layout;
        let (panel, strip) = (TILES * width + APART, TILES * lines + APART);
        let mut pixels = storage::scratch(POINTS * panels * panel);
        let mut gradient = storage::scratch(POINTS * strips * strip);
        if self.tiles.is_empty() {
            self.sums.fill(0.0);
        }
        for first in self.tiles.clone().step_by(TILES) {
            let count = TILES.min(self.tiles.end - first);
            for t in 0..count {
                self.bring_pixels(simd, first + t, &mut pixels[t * width..], panel);
                self.bring_gradient(simd, first + t, &mut gradient[t * lines..], strip);
            }
            let places = [Lines {
                pixel: 0,
                gradient: 0,
                count: 1,
                len: count,
                apart: count,
            }];
            for (j, p, s) in each(POINTS, panels, strips) {
                let operands = Operands {
                    pixels: &pixels[(j * panels + p) * panel..][..panel],
                    tap: [0, 0],
                    gradient: &gradient[(j * strips + s) * strip..][..strip],
                    places: &places,
                    width,
                };
                let tile = &mut self.sums[self.layout.at([p, s, j], strips)..];
                let tile = &mut tile[..self.layout.tile()];
                add(simd, operands, tile, first == self.tiles.start);
            }
        }
        storage::recycle(pixels);
        storage::recycle(gradient);
    }
}

/// Every point, panel and strip: what a strip is multiplied with stays in the first-level cache.
#[inline(always)]
fn each(
    points: usize,
    panels: usize,
    strips: usize,
) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..points)
        .flat_map(move |j| (0..panels).flat_map(move |p| (0..strips).map(move |s| (j, p, s))))
}

impl<const R: usize, const RT: usize, const RR: usize> Task<'_, '_, R, RT, RR> {
    /// The pixels of one tile at the points, `[point][panel]` of `apart` values each.
    #[inline(always)]
    fn bring_pixels<S: Simd>(&self, simd: S, tile: usize, out: &mut [f32], apart: usize) {
        let (of, Layout { width, panels, .. }) = (self.of, *self.layout);
        let corner = Winograd::<R, POINTS, RESULTS>::corner_of(&of.grid, tile);
        let window: [[&[f32]; POINTS]; R] = of
            .grid
            .from
            .window((of.pixels, of.from), of.grid.reads(corner));
        for k in (0..panels * width).step_by(S::F32_LANES) {
            let channels = k.min(of.from)..(k + S::F32_LANES).min(of.from);
            let mut values = [simd.splat_f32s(0.0); POINTS];
            for c in 0..POINTS {
                values[c] = if R == 1 {
                    part(simd, window[0][c], &channels)
                } else {
                    pixels_to_point(
                        simd,
                        #[inline(always)]
                        |r| part(simd, window[r][c], &channels),
                        self.row,
                    )
                };
            }
            let values = pixels_to_points(simd, values);
            let at = k / width * apart + k % width;
            for j in 0..POINTS {
                let out = &mut out[j * panels * apart + at..][..S::F32_LANES];
                S::as_mut_simd_f32s(out).0[0] = values[j];
            }
        }
    }

    /// The gradient of one tile's places at the points, `[point][strip]` of `apart` values each.
    #[inline(always)]
    fn bring_gradient<S: Simd>(&self, simd: S, tile: usize, out: &mut [f32], apart: usize) {
        let (of, Layout { lines, strips, .. }) = (self.of, *self.layout);
        let corner = Winograd::<R, POINTS, RESULTS>::corner_of(&of.grid, tile);
        let window: [[&[f32]; RESULTS]; RR] = of.grid.to.window((of.gradient, of.to), corner);
        let run = lines.min(S::F32_LANES);
        for k in (0..of.to).step_by(S::F32_LANES) {
            let channels = k..(k + S::F32_LANES).min(of.to);
            let mut values = [simd.splat_f32s(0.0); RESULTS];
            for c in 0..RESULTS {
                values[c] = if R == 1 {
                    part(simd, window[0][c], &channels)
                } else {
                    results_to_point(
                        simd,
                        #[inline(always)]
                        |r| part(simd, window[r][c], &channels),
                        self.row,
                    )
                };
            }
            let values = results_to_points(simd, values);
            for j in 0..POINTS {
                let mut room = [0.0; 16];
                S::as_mut_simd_f32s(&mut room).0[0] = values[j];
                for (piece, room) in room[..S::F32_LANES].chunks_exact(run).enumerate() {
                    let channel = k + piece * run;
                    if channel < strips * lines {
                        let at = (j * strips + channel / lines) * apart + channel % lines;
                        out[at..at + run].copy_from_slice(room);
                    }
                }
            }
        }
    }
}

/// Some channels of a pixel; zeros of one outside the grid.
#[inline(always)]
fn part<S: Simd>(simd: S, pixel: &[f32], channels: &Range<usize>) -> S::f32s {
    if pixel.is_empty() {
        simd.splat_f32s(0.0)
    } else {
        load(simd, &pixel[channels.clone()])
    }
}

/// Adds up the parts of one channel out, and takes them back to the taps.
struct ToTaps<'j, const R: usize, const RT: usize> {
    layout: &'j Layout,
    /// Part by part, each with all rows of points.
    sums: &'j [Vec<f32>],
    from: usize,
    o: usize,
    /// `[taps.., from]`.
    out: &'j mut [f32],
}

impl<const R: usize, const RT: usize> WithSimd for ToTaps<'_, R, RT> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let layout = self.layout;
        let (strip, line) = (self.o / layout.lines, self.o % layout.lines);
        let mut room = [[simd.splat_f32s(0.0); TAPS]; R];
        for k in (0..self.from).step_by(S::F32_LANES) {
            let lanes = S::F32_LANES.min(self.from - k);
            let at = line * layout.width + k % layout.width;
            along_both::<_, POINTS, TAPS, R>(
                &mut room,
                #[inline(always)]
                |r| {
                    let mut points = [simd.splat_f32s(0.0); POINTS];
                    for sums in self.sums.iter().skip(r).step_by(R) {
                        for j in 0..POINTS {
                            let tile = layout.at([k / layout.width, strip, j], layout.strips);
                            let sum = load(simd, &sums[tile + at..][..S::F32_LANES]);
                            points[j] = simd.add_f32s(points[j], sum);
                        }
                    }
                    points
                },
                #[inline(always)]
                |m| points_to_taps(simd, m),
                #[inline(always)]
                |r, l, value| {
                    let out = &mut self.out[(r * TAPS + l) * self.from + k..][..lanes];
                    super::store(simd, out, value);
                },
            );
        }
    }
}

#[cfg(test)]
mod tests;
