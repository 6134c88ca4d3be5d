//! Some places at a time, copied so that products read them in order.

use super::tile::{Lines, Operands};
use super::{Layout, WeightGradient};
use crate::cpu::product::{ALIGNMENT, aligned};
use crate::storage;
use std::ops::Range;

/// A block of places of one picture.
#[derive(Clone, Debug)]
pub(super) struct Band {
    pub picture: usize,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

/// Values between panels and between strips beyond what they hold: were they a power of two apart, all of
/// them would lie in the same places of a cache.
const APART: usize = 16;

/// The places of one stretch: their pixels in panels of channels in, with the padding around them, and
/// their gradients in strips of channels out.
pub(super) struct Stretch<'j, 'a> {
    of: &'j WeightGradient<'a>,
    layout: &'j Layout,
    strips: Range<usize>,
    pixels: Vec<f32>,
    gradient: Vec<f32>,
    /// Values from one panel to the next, and from one strip to the next.
    panel: usize,
    strip: usize,
    places: Vec<Lines>,
}

impl<'j, 'a> Stretch<'j, 'a> {
    pub(super) fn new(
        of: &'j WeightGradient<'a>,
        layout: &'j Layout,
        strips: Range<usize>,
    ) -> Self {
        Stretch {
            of,
            layout,
            strips,
            pixels: Vec::new(),
            gradient: Vec::new(),
            panel: 0,
            strip: 0,
            places: Vec::new(),
        }
    }

    /// Copies the places of some bands, and adds their gradients to those of the bias.
    #[inline(always)]
    pub(super) fn bring(&mut self, bands: &[Band], bias: &mut [f32]) {
        let [down, across] = self.of.taps;
        self.places.clear();
        let (mut pixel, mut gradient) = (0, 0);
        for band in bands {
            let (rows, columns) = (band.rows.len(), band.columns.len());
            let apart = columns + across - 1;
            // Without taps beside each other, one line follows the other without a gap.
            let (count, len) = if across == 1 {
                (1, rows * columns)
            } else {
                (rows, columns)
            };
            self.places.push(Lines {
                pixel,
                gradient,
                count,
                len,
                apart,
            });
            pixel += (rows + down - 1) * apart;
            gradient += rows * columns;
        }
        let layout = self.layout;
        self.panel = (pixel * layout.width).next_multiple_of(ALIGNMENT) + APART;
        self.strip = (gradient * layout.lines).next_multiple_of(ALIGNMENT) + APART;
        room(&mut self.pixels, layout.panels * self.panel);
        room(&mut self.gradient, self.strips.len() * self.strip);
        for (number, band) in bands.iter().enumerate() {
            let Lines {
                pixel, gradient, ..
            } = self.places[number];
            self.bring_pixels(band, pixel);
            self.bring_gradient(band, gradient, bias);
        }
    }

    /// What the tile of a panel, a strip and a tap is summed from.
    #[inline(always)]
    pub(super) fn operands(&self, panel: usize, strip: usize, tap: usize) -> Operands<'_> {
        let Layout { width, .. } = *self.layout;
        let pixels = &self.pixels[aligned(&self.pixels) + panel * self.panel..][..self.panel];
        let gradient = &self.gradient[aligned(&self.gradient) + strip * self.strip..];
        Operands {
            pixels,
            tap: [tap / self.of.taps[1], tap % self.of.taps[1]],
            gradient: &gradient[..self.strip],
            places: &self.places,
            width,
        }
    }

    pub(super) fn recycle(self) {
        storage::recycle(self.pixels);
        storage::recycle(self.gradient);
    }

    /// The pixels that the places of a band look at, with zeros outside the picture, from pixel `at` on.
    #[inline(always)]
    fn bring_pixels(&mut self, band: &Band, at: usize) {
        let WeightGradient {
            taps,
            pad,
            i,
            from: [height, width],
            pixels,
            ..
        } = *self.of;
        let first = aligned(&self.pixels);
        let mut at = first + at * self.layout.width;
        for row in band.rows.start..band.rows.end + taps[0] - 1 {
            let row = row.wrapping_sub(pad[0]);
            for column in band.columns.start..band.columns.end + taps[1] - 1 {
                let column = column.wrapping_sub(pad[1]);
                let pixel = if row < height && column < width {
                    let start = ((band.picture * height + row) * width + column) * i;
                    &pixels[start..start + i]
                } else {
                    &[]
                };
                spread(
                    pixel,
                    &mut self.pixels[at..],
                    self.panel,
                    [self.layout.panels, self.layout.width],
                );
                at += self.layout.width;
            }
        }
    }

    /// The gradients of the places of a band, from place `at` on.
    #[inline(always)]
    fn bring_gradient(&mut self, band: &Band, at: usize, bias: &mut [f32]) {
        let WeightGradient {
            o,
            to: [height, width],
            gradient,
            ..
        } = *self.of;
        let Layout { lines, .. } = *self.layout;
        let channels = self.strips.start * lines..(self.strips.end * lines).min(o);
        let mut at = aligned(&self.gradient) + at * lines;
        for row in band.rows.clone() {
            for column in band.columns.clone() {
                let start = ((band.picture * height + row) * width + column) * o;
                let values = &gradient[start..start + o][channels.clone()];
                spread(
                    values,
                    &mut self.gradient[at..],
                    self.strip,
                    [self.strips.len(), lines],
                );
                for (bias, value) in bias.iter_mut().zip(values) {
                    *bias += value;
                }
                at += lines;
            }
        }
    }
}

/// Cuts the channels of one place into `count` pieces, which lie `apart`; the last is filled up with zeros,
/// and so is what is not there at all.
#[inline(always)]
fn spread(values: &[f32], out: &mut [f32], apart: usize, [count, width]: [usize; 2]) {
    match width {
        4 => spread_as::<4>(values, out, apart, count),
        8 => spread_as::<8>(values, out, apart, count),
        16 => spread_as::<16>(values, out, apart, count),
        32 => spread_as::<32>(values, out, apart, count),
        _ => {
            for piece in 0..count {
                let from = (piece * width).min(values.len());
                let len = width.min(values.len() - from);
                let out = &mut out[piece * apart..][..width];
                out[..len].copy_from_slice(&values[from..from + len]);
                out[len..].fill(0.0);
            }
        }
    }
}

#[inline(always)]
fn spread_as<const W: usize>(values: &[f32], out: &mut [f32], apart: usize, count: usize) {
    let (whole, rest) = values.as_chunks::<W>();
    for (piece, values) in whole.iter().enumerate() {
        out[piece * apart..][..W].copy_from_slice(values);
    }
    for piece in whole.len()..count {
        let out = &mut out[piece * apart..][..W];
        out.fill(0.0);
        if piece == whole.len() {
            out[..rest.len()].copy_from_slice(rest);
        }
    }
}

/// Makes `values` hold so many, from a cache line on.
fn room(values: &mut Vec<f32>, len: usize) {
    if values.len() < len + ALIGNMENT {
        storage::recycle(std::mem::replace(values, storage::scratch(len + ALIGNMENT)));
    }
}
