//! Polynomial expansion: around each pixel the picture is taken for a quadratic polynomial, the best
//! fit under a Gaussian weight (Farnebäck 2003, §2).

use super::lanes::{PAD, for_parts, load, of_length, padded, repeat_ends, rows_of_a_task, store};
use pulp::{Arch, Simd, WithSimd};

/// Numbers kept for each pixel: five of them used, so that a pixel is a vector and two neighbours lie
/// side by side.
pub(super) const TERMS: usize = 8;

/// The polynomials of a picture, f(x + d) ≈ c + bᵀd + dᵀA d, as half of what an equation between two
/// pictures needs: ½b₁, ½b₂, ½A₁₁, ½A₂₂, ½A₁₂ and three zeros.
#[derive(Default)]
pub(super) struct Expansion {
    /// `[height, padded width, TERMS]`, and one pixel more.
    pub(super) terms: Vec<f32>,
}

/// The three filters that the fit consists of, each of them applied along one axis and another along
/// the other: for the constant, the slope and the curvature.
///
/// The basis 1, x, y, x² − m₂, y² − m₂, xy is orthogonal under a separable weight (m₂ its second
/// moment), so that each coefficient is one projection, divided by the length of its basis function.
pub(super) struct Expander {
    /// g, for distances 0 to n.
    smooth: Vec<f32>,
    /// x g / m₂.
    slope: Vec<f32>,
    /// (x² − m₂) g / (m₄ − m₂²).
    curvature: Vec<f32>,
}

impl Expander {
    /// For pixels up to `radius` away along each axis, weighted by a Gaussian of `sigma`.
    pub(super) fn new(radius: usize, sigma: f64) -> Self {
        let weight = |x: f64| (-x * x / (2.0 * sigma * sigma)).exp();
        let distances = (0..=radius).map(|x| x as f64);
        let both_sides = |f: &dyn Fn(f64) -> f64| -> f64 {
            distances
                .clone()
                .map(|x| if x == 0.0 { f(x) } else { 2.0 * f(x) })
                .sum()
        };
        let total = both_sides(&weight);
        let g = |x: f64| weight(x) / total;
        let m2 = both_sides(&|x| x * x * g(x));
        let m4 = both_sides(&|x| x.powi(4) * g(x));
        let filter = |f: &dyn Fn(f64) -> f64| distances.clone().map(|x| f(x) as f32).collect();
        Expander {
            smooth: filter(&g),
            slope: filter(&|x| x * g(x) / m2),
            curvature: filter(&|x| (x * x - m2) * g(x) / (m4 - m2 * m2)),
        }
    }

    fn radius(&self) -> usize {
        self.smooth.len() - 1
    }

    /// Expands a picture of `width` by `height` whose rows are padded; beyond its edges the last
    /// pixel goes on.
    pub(super) fn expand(
        &self,
        picture: &[f32],
        (width, height): (usize, usize),
        out: &mut Expansion,
        scratch: &mut Vec<Vec<f32>>,
    ) {
        let stride = padded(width);
        // One more, because a vector may be two pixels and begin at the last one.
        out.terms.resize((height * stride + 1) * TERMS, 0.0);
        let rows = rows_of_a_task(width, height, 1);
        let part = rows * stride * TERMS;
        let terms = &mut out.terms[..height * stride * TERMS];
        for_parts(terms, part, scratch, |number, out, scratch| {
            Arch::new().dispatch(Rows {
                expander: self,
                picture,
                width,
                height,
                first: number * rows,
                out,
                scratch,
            });
        });
    }
}

struct Rows<'a> {
    expander: &'a Expander,
    picture: &'a [f32],
    width: usize,
    height: usize,
    first: usize,
    out: &'a mut [f32],
    scratch: &'a mut Vec<f32>,
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let stride = padded(self.width);
        let margin = self.expander.radius();
        let start = margin.next_multiple_of(PAD);
        let len = start + stride + margin.next_multiple_of(PAD);
        let columns = of_length(self.scratch, 3 * len);
        for (k, out) in self.out.chunks_exact_mut(stride * TERMS).enumerate() {
            let (smooth, rest) = columns.split_at_mut(len);
            let (slope, curvature) = rest.split_at_mut(len);
            self.expander.down(
                simd,
                (self.picture, stride, self.height, self.first + k),
                [
                    &mut smooth[start..],
                    &mut slope[start..],
                    &mut curvature[start..],
                ],
            );
            for line in [&mut *smooth, &mut *slope, &mut *curvature] {
                repeat_ends(line, start, self.width, margin);
            }
            self.expander
                .across(simd, [smooth, slope, curvature], start, out);
        }
    }
}

impl Expander {
    /// The three filters along column by column, for row `y`.
    #[inline(always)]
    fn down<S: Simd>(
        &self,
        simd: S,
        (picture, stride, height, y): (&[f32], usize, usize, usize),
        [smooth, slope, curvature]: [&mut [f32]; 3],
    ) {
        let here = &picture[y * stride..][..stride];
        for at in (0..stride).step_by(S::F32_LANES) {
            let value = load(simd, here, at);
            let mut sum0 = simd.mul_f32s(simd.splat_f32s(self.smooth[0]), value);
            let mut sum1 = simd.splat_f32s(0.0);
            let mut sum2 = simd.mul_f32s(simd.splat_f32s(self.curvature[0]), value);
            for i in 1..=self.radius() {
                let above = load(simd, picture, y.saturating_sub(i) * stride + at);
                let below = load(simd, picture, (y + i).min(height - 1) * stride + at);
                let both = simd.add_f32s(below, above);
                let change = simd.sub_f32s(below, above);
                sum0 = simd.mul_add_f32s(simd.splat_f32s(self.smooth[i]), both, sum0);
                sum1 = simd.mul_add_f32s(simd.splat_f32s(self.slope[i]), change, sum1);
                sum2 = simd.mul_add_f32s(simd.splat_f32s(self.curvature[i]), both, sum2);
            }
            store(simd, smooth, at, sum0);
            store(simd, slope, at, sum1);
            store(simd, curvature, at, sum2);
        }
    }

    /// The filters along the row, which begins at `start`, and the terms in their place.
    #[inline(always)]
    fn across<S: Simd>(&self, simd: S, lines: [&[f32]; 3], start: usize, out: &mut [f32]) {
        let (blocks, _) = out.as_chunks_mut::<{ PAD * TERMS }>();
        for (block, out) in blocks.iter_mut().enumerate() {
            let mut terms = [0.0_f32; 5 * PAD];
            for lane in (0..PAD).step_by(S::F32_LANES) {
                let sums = self.terms(simd, lines, start + block * PAD + lane);
                for term in 0..5 {
                    store(simd, &mut terms, term * PAD + lane, sums[term]);
                }
            }
            interleave(&terms, out);
        }
    }

    /// The five terms of one vector of pixels.
    #[inline(always)]
    fn terms<S: Simd>(&self, simd: S, lines: [&[f32]; 3], at: usize) -> [S::f32s; 5] {
        let [smooth, slope, curvature] = lines;
        let g = simd.splat_f32s(self.smooth[0]);
        let second = simd.splat_f32s(self.curvature[0]);
        let mut b1 = simd.splat_f32s(0.0);
        let mut b2 = simd.mul_f32s(g, load(simd, slope, at));
        let mut a11 = simd.mul_f32s(second, load(simd, smooth, at));
        let mut a22 = simd.mul_f32s(g, load(simd, curvature, at));
        let mut a12 = simd.splat_f32s(0.0);
        for i in 1..=self.radius() {
            let g = simd.splat_f32s(self.smooth[i]);
            let first = simd.splat_f32s(self.slope[i]);
            let second = simd.splat_f32s(self.curvature[i]);
            let (left, right) = (load(simd, smooth, at - i), load(simd, smooth, at + i));
            b1 = simd.mul_add_f32s(first, simd.sub_f32s(right, left), b1);
            a11 = simd.mul_add_f32s(second, simd.add_f32s(right, left), a11);
            let (left, right) = (load(simd, slope, at - i), load(simd, slope, at + i));
            b2 = simd.mul_add_f32s(g, simd.add_f32s(right, left), b2);
            a12 = simd.mul_add_f32s(first, simd.sub_f32s(right, left), a12);
            let (left, right) = (load(simd, curvature, at - i), load(simd, curvature, at + i));
            a22 = simd.mul_add_f32s(g, simd.add_f32s(right, left), a22);
        }
        // The coefficient of xy is twice the element of the matrix.
        let (half, quarter) = (simd.splat_f32s(0.5), simd.splat_f32s(0.25));
        [
            simd.mul_f32s(half, b1),
            simd.mul_f32s(half, b2),
            simd.mul_f32s(half, a11),
            simd.mul_f32s(half, a22),
            simd.mul_f32s(quarter, a12),
        ]
    }
}

/// Five rows of `PAD` values become `PAD` groups of `TERMS`, the last three of each zero.
#[inline(always)]
fn interleave(rows: &[f32; 5 * PAD], out: &mut [f32; PAD * TERMS]) {
    for half in 0..PAD / 8 {
        let mut turned = [[0.0_f32; TERMS]; 8];
        for term in 0..5 {
            let row = &rows[term * PAD + half * 8..][..8];
            for lane in 0..8 {
                turned[lane][term] = row[lane];
            }
        }
        out[half * 8 * TERMS..][..8 * TERMS].copy_from_slice(turned.as_flattened());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quadratic_picture_is_its_own_expansion() {
        // f = 3 + 2x − y + 0.5x² − 0.25y² + 0.125xy: at (x, y) the gradient is
        // (2 + x + 0.125y, −1 − 0.5y + 0.125x) and the matrix constant.
        let (width, height) = (37, 30);
        let stride = padded(width);
        let mut picture = vec![0.0; stride * height];
        for y in 0..height {
            for x in 0..width {
                let (u, v) = (x as f32, y as f32);
                picture[y * stride + x] =
                    3.0 + 2.0 * u - v + 0.5 * u * u - 0.25 * v * v + 0.125 * u * v;
            }
        }
        for (radius, sigma) in [(5, 1.2), (7, 1.5), (2, 0.8)] {
            let mut expansion = Expansion::default();
            Expander::new(radius, sigma).expand(
                &picture,
                (width, height),
                &mut expansion,
                &mut Vec::new(),
            );
            for y in radius..height - radius {
                for x in radius..width - radius {
                    let found = &expansion.terms[(y * stride + x) * TERMS..][..TERMS];
                    let (u, v) = (x as f32, y as f32);
                    let b = [2.0 + u + 0.125 * v, -1.0 - 0.5 * v + 0.125 * u];
                    let expected = [b[0], b[1], 0.5, -0.25, 0.0625].map(|term| term / 2.0);
                    for k in 0..5 {
                        assert!((found[k] - expected[k]).abs() < 2e-3, "{x} {y}: {found:?}");
                    }
                    assert_eq!(found[5..], [0.0; 3]);
                }
            }
        }
    }
}
