//! Sums over a window around each pixel, with equal or with Gaussian weights.

use super::lanes::{PAD, load, padded, repeat_ends, store};
use pulp::Simd;

/// The five sums whose averages the displacement is solved from: G₁₁, G₁₂, G₂₂, h₁, h₂.
pub(super) const SUMS: usize = 5;

/// Weights of a window that reaches `radius` pixels to every side.
pub(super) struct Window {
    pub(super) radius: usize,
    /// Weights for distances 0 to `radius`; none where all are equal.
    gaussian: Option<Vec<f32>>,
    /// What the sums are multiplied by at the end.
    scale: f32,
    /// Neighbours that are summed first, where all weights are equal.
    step: usize,
}

impl Window {
    /// A window of `size` pixels (one more where that is even) whose weights are all 1 / size².
    pub(super) fn even(size: usize) -> Self {
        let (radius, len) = (size / 2, size / 2 * 2 + 1);
        // A window of n is whole steps of r and a rest; r neighbours are summed once for all.
        let cost = |r: &usize| r + len / r + len % r;
        Window {
            radius,
            gaussian: None,
            scale: 1.0 / (size * size) as f32,
            step: (1..=len).min_by_key(cost).unwrap_or(1),
        }
    }

    /// A window as large whose weights fall off as a Gaussian of sigma 0.3 · radius, of sum one.
    pub(super) fn gaussian(size: usize) -> Self {
        let radius = size / 2;
        let sigma = (0.3 * radius as f64).max(f64::MIN_POSITIVE);
        let weight = |x: usize| (-((x * x) as f64) / (2.0 * sigma * sigma)).exp();
        let total: f64 = weight(0) + 2.0 * (1..=radius).map(weight).sum::<f64>();
        Window {
            radius,
            gaussian: Some((0..=radius).map(|x| (weight(x) / total) as f32).collect()),
            scale: 1.0,
            step: 1,
        }
    }

    /// Where the first pixel of a line stands, so that the window finds its neighbours.
    fn start(&self) -> usize {
        self.radius.next_multiple_of(PAD)
    }

    /// Values of a line: pixels, the window's reach at both sides, and room for a last vector.
    fn line(&self, width: usize) -> usize {
        self.start() + padded(width) + (2 * self.radius).next_multiple_of(PAD)
    }
}

/// The rows that a window looks at, and their sums down the columns.
pub(super) struct Columns<'a> {
    window: &'a Window,
    width: usize,
    height: usize,
    /// The last `slots` rows, `[slots, SUMS, padded width]`.
    ring: &'a mut [f32],
    slots: usize,
    /// Sums down the columns, `[SUMS, line]`.
    lines: &'a mut [f32],
    /// Partial sums along a line.
    steps: &'a mut [f32],
    /// Where in the ring the rows of the window begin, and before them the row that has left it.
    taps: Vec<usize>,
    /// Row after the last one in the ring.
    pub(super) next: usize,
}

impl<'a> Columns<'a> {
    /// Values of scratch that the columns of a picture need.
    pub(super) fn scratch(window: &Window, width: usize) -> usize {
        (2 * window.radius + 2) * SUMS * padded(width) + 2 * SUMS * window.line(width)
    }

    /// Columns whose first row in the ring will be `next`.
    pub(super) fn new(
        window: &'a Window,
        (width, height): (usize, usize),
        next: usize,
        scratch: &'a mut [f32],
    ) -> Self {
        let slots = 2 * window.radius + 2;
        let (ring, rest) = scratch.split_at_mut(slots * SUMS * padded(width));
        let (lines, steps) = rest.split_at_mut(SUMS * window.line(width));
        Columns {
            window,
            width,
            height,
            ring,
            slots,
            lines,
            steps,
            taps: Vec::with_capacity(slots),
            next,
        }
    }

    /// The place of the next row, `[SUMS, padded width]`, to be filled at once.
    #[inline(always)]
    pub(super) fn next_row(&mut self) -> &mut [f32] {
        let len = SUMS * padded(self.width);
        let slot = self.next % self.slots;
        self.next += 1;
        &mut self.ring[slot * len..][..len]
    }

    /// Last row that the window around row `y` looks at.
    pub(super) fn last_row(&self, y: usize) -> usize {
        (y + self.window.radius).min(self.height - 1)
    }

    /// Sums down the columns for row `y`, which follows the row summed before, unless `fresh`.
    #[inline(always)]
    pub(super) fn sum_down<S: Simd>(&mut self, simd: S, y: usize, fresh: bool) {
        let (stride, start) = (padded(self.width), self.window.start());
        let len = self.window.line(self.width);
        let radius = self.window.radius;
        // Rows in the order of their distance from y − radius, held to the picture.
        self.taps.clear();
        for tap in 0..2 * radius + 2 {
            let row = (y + tap).saturating_sub(radius + 1).min(self.height - 1);
            self.taps.push(row % self.slots * SUMS * stride);
        }
        let (before, taps) = (self.taps[0], &self.taps[1..]);
        for sum in 0..SUMS {
            let line = &mut self.lines[sum * len..][..len];
            let ring = &self.ring[sum * stride..];
            for at in (0..stride).step_by(S::F32_LANES) {
                let total = if let Some(weights) = &self.window.gaussian {
                    let mut total = simd.splat_f32s(weights[0]);
                    total = simd.mul_f32s(total, load(simd, ring, taps[radius] + at));
                    for k in 1..=radius {
                        let above = load(simd, ring, taps[radius - k] + at);
                        let both = simd.add_f32s(above, load(simd, ring, taps[radius + k] + at));
                        total = simd.mul_add_f32s(simd.splat_f32s(weights[k]), both, total);
                    }
                    total
                } else if fresh {
                    let mut total = simd.splat_f32s(0.0);
                    for tap in taps {
                        total = simd.add_f32s(total, load(simd, ring, tap + at));
                    }
                    total
                } else {
                    let new = load(simd, ring, taps[2 * radius] + at);
                    let change = simd.sub_f32s(new, load(simd, ring, before + at));
                    simd.add_f32s(load(simd, line, start + at), change)
                };
                store(simd, line, start + at, total);
            }
            repeat_ends(line, start, self.width, radius);
        }
    }

    /// Gets the windows' sums ready for [`Self::across`], once the columns are summed.
    #[inline(always)]
    pub(super) fn sum_steps<S: Simd>(&mut self, simd: S) {
        if self.window.gaussian.is_some() || self.window.step == 1 {
            return;
        }
        let len = self.window.line(self.width);
        let begin = self.window.start() - self.window.radius;
        let reach = padded(self.width) + 2 * self.window.radius + 1 - self.window.step;
        for sum in 0..SUMS {
            let line = &self.lines[sum * len..][..len];
            let steps = &mut self.steps[sum * len..][..len];
            // The last vector may begin early, so that it ends where the line does.
            for at in (0..reach).step_by(S::F32_LANES) {
                let at = at.min(reach - S::F32_LANES.min(reach));
                let mut total = load(simd, line, begin + at);
                for k in 1..self.window.step {
                    total = simd.add_f32s(total, load(simd, line, begin + at + k));
                }
                store(simd, steps, at, total);
            }
        }
    }

    /// The weighted sums over the windows around a vector of pixels, the first of them at column `x`.
    #[inline(always)]
    pub(super) fn across<S: Simd>(&self, simd: S, x: usize) -> [S::f32s; SUMS] {
        let len = self.window.line(self.width);
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        for sum in 0..SUMS {
            let line = &self.lines[sum * len..][..len];
            sums[sum] = match &self.window.gaussian {
                Some(weights) => weighted(
                    simd,
                    weights,
                    &line[self.window.start() - self.window.radius + x..],
                ),
                None => self.even(simd, line, &self.steps[sum * len..][..len], x),
            };
        }
        sums
    }

    /// The sum of a window of equal weights: whole steps, and the pixels that are left.
    #[inline(always)]
    fn even<S: Simd>(&self, simd: S, line: &[f32], steps: &[f32], x: usize) -> S::f32s {
        let begin = self.window.start() - self.window.radius + x;
        let (step, size) = (self.window.step, 2 * self.window.radius + 1);
        let mut total = simd.splat_f32s(0.0);
        let whole = if step > 1 { size / step * step } else { 0 };
        for k in (0..whole).step_by(step) {
            total = simd.add_f32s(total, load(simd, steps, x + k));
        }
        for k in whole..size {
            total = simd.add_f32s(total, load(simd, line, begin + k));
        }
        simd.mul_f32s(total, simd.splat_f32s(self.window.scale))
    }
}

/// The sum of the first values of `line`, each weighted by its distance from the middle one.
#[inline(always)]
fn weighted<S: Simd>(simd: S, weights: &[f32], line: &[f32]) -> S::f32s {
    let radius = weights.len() - 1;
    let mut sum = simd.mul_f32s(simd.splat_f32s(weights[0]), load(simd, line, radius));
    for k in 1..=radius {
        let both = simd.add_f32s(load(simd, line, radius - k), load(simd, line, radius + k));
        sum = simd.mul_add_f32s(simd.splat_f32s(weights[k]), both, sum);
    }
    sum
}
