//! One refinement of a displacement field (Farnebäck 2003, §3): from the polynomials of two pictures
//! and the displacement believed so far to the least-squares displacement of each neighbourhood.

use super::expansion::{Expansion, TERMS};
use super::lanes::{PAD, for_parts, load, of_length, padded, rows_of_a_task, store};
use super::window::{Columns, SUMS, Window};
use pulp::{Arch, Simd, WithSimd};

/// Rows after which running sums begin anew: their rounding errors stay small, and a result does not
/// depend on where a task begins. The halves of 144, 360 and 720 rows are whole multiples.
const BAND: usize = 36;

/// Trust in the five outermost pixels, whose polynomials rest on pixels beyond the edge. These
/// are OpenCV's.
const EDGE: [f32; 5] = [0.14, 0.14, 0.4472, 0.4472, 0.4472];

/// Added to the determinant, so that a flat neighbourhood stands still.
const REGULAR: f32 = 1e-3;

/// Values of scratch for the terms of `PAD` pixels, pixel by pixel (and room for one more) and term
/// by term.
const WORK: usize = (2 * PAD + 1) * TERMS;

/// The slopes are subtracted, so that h = AᵀΔb points forward, and the matrices added; for two pixels.
const SIGN: [f32; 2 * TERMS] = [
    -1.0, -1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, -1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0,
];

/// The numbers of lanes.
const LANE: [f32; 2 * TERMS] = [
    0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
];

/// What a pixel counts for whose partner is not in the second picture.
const ALONE: [f32; TERMS] = [1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0];

/// The two planes of a displacement field, row by row: `[height, 2, padded width]`.
pub(super) const PLANES: usize = 2;

/// Trust in each of `len` rows or columns.
pub(super) fn trust(len: usize) -> Vec<f32> {
    let edge = |k: usize| EDGE.get(k).copied().unwrap_or(1.0);
    let mut trust: Vec<f32> = (0..len).map(|k| edge(k) * edge(len - 1 - k)).collect();
    trust.resize(padded(len), 0.0);
    trust
}

/// The two pictures of a refinement.
pub(super) struct Pair<'a> {
    pub(super) size: (usize, usize),
    pub(super) first: &'a Expansion,
    pub(super) second: &'a Expansion,
    pub(super) trust_of_column: &'a [f32],
    pub(super) trust_of_row: &'a [f32],
    pub(super) window: &'a Window,
}

impl Pair<'_> {
    /// Refines the displacements `believed` into `out`, both `[height, 2, padded width]`.
    pub(super) fn refine(&self, believed: &[f32], out: &mut [f32], scratch: &mut Vec<Vec<f32>>) {
        let (width, height) = self.size;
        let rows = rows_of_a_task(width, height, BAND);
        let part = rows * PLANES * padded(width);
        for_parts(out, part, scratch, |number, out, scratch| {
            let len = WORK + Columns::scratch(self.window, width);
            Arch::new().dispatch(Rows {
                pair: self,
                believed,
                first: number * rows,
                out,
                scratch: of_length(scratch, len),
            });
        });
    }
}

struct Rows<'a> {
    pair: &'a Pair<'a>,
    believed: &'a [f32],
    first: usize,
    out: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let pair = self.pair;
        let stride = padded(pair.size.0);
        let next = self.first.saturating_sub(pair.window.radius);
        let (work, scratch) = self.scratch.split_at_mut(WORK);
        let mut columns = Columns::new(pair.window, pair.size, next, scratch);
        for (k, out) in self.out.chunks_exact_mut(PLANES * stride).enumerate() {
            let y = self.first + k;
            while columns.next <= columns.last_row(y) {
                let row = columns.next;
                pair.equations(simd, self.believed, row, work, columns.next_row());
            }
            columns.sum_down(simd, y, y.is_multiple_of(BAND));
            columns.sum_steps(simd);
            solve(simd, &columns, out);
        }
    }
}

/// The least-squares displacement G⁻¹h of each neighbourhood of a row (equation 5).
#[inline(always)]
fn solve<S: Simd>(simd: S, columns: &Columns<'_>, out: &mut [f32]) {
    let (out_x, out_y) = out.split_at_mut(out.len() / PLANES);
    let zero = simd.splat_f32s(0.0);
    for at in (0..out_x.len()).step_by(S::F32_LANES) {
        let [g11, g12, g22, h1, h2] = columns.across(simd, at);
        // Never below zero but for rounding, which along an edge would turn the flow around.
        let determinant = simd.max_f32s(products(simd, [g11, g22], [g12, g12]), zero);
        let determinant = simd.add_f32s(determinant, simd.splat_f32s(REGULAR));
        let x = products(simd, [g22, h1], [g12, h2]);
        let y = products(simd, [g11, h2], [g12, h1]);
        store(simd, out_x, at, simd.div_f32s(x, determinant));
        store(simd, out_y, at, simd.div_f32s(y, determinant));
    }
}

/// ab − cd, right to the last digits also where the products nearly cancel (Kahan): along a straight
/// edge they do.
#[inline(always)]
fn products<S: Simd>(simd: S, [a, b]: [S::f32s; 2], [c, d]: [S::f32s; 2]) -> S::f32s {
    let product = simd.mul_f32s(c, d);
    let rounding = simd.negate_mul_add_f32s(c, d, product);
    let difference = simd.mul_add_f32s(a, b, simd.sub_f32s(simd.splat_f32s(0.0), product));
    simd.add_f32s(difference, rounding)
}

impl Pair<'_> {
    /// AᵀA and AᵀΔb of every pixel of a row (equations 9 to 12), `[SUMS, padded width]`.
    #[inline(always)]
    fn equations<S: Simd>(
        &self,
        simd: S,
        believed: &[f32],
        y: usize,
        work: &mut [f32],
        out: &mut [f32],
    ) {
        let stride = padded(self.size.0);
        let believed = &believed[y * PLANES * stride..][..PLANES * stride];
        let (believed_x, believed_y) = believed.split_at(stride);
        for x in (0..stride).step_by(PAD) {
            let (pixels, terms) = work.split_at_mut((PAD + 1) * TERMS);
            let places = self.places(x, y, &believed_x[x..][..PAD], &believed_y[x..][..PAD]);
            self.combine(simd, x, y, &places, pixels);
            transpose(pixels, terms);
            for lane in (0..PAD).step_by(S::F32_LANES) {
                let at = x + lane;
                let b1 = load(simd, terms, lane);
                let b2 = load(simd, terms, PAD + lane);
                let a11 = load(simd, terms, 2 * PAD + lane);
                let a22 = load(simd, terms, 3 * PAD + lane);
                let a12 = load(simd, terms, 4 * PAD + lane);
                let (dx, dy) = (load(simd, believed_x, at), load(simd, believed_y, at));
                let b1 = simd.mul_add_f32s(a11, dx, simd.mul_add_f32s(a12, dy, b1));
                let b2 = simd.mul_add_f32s(a12, dx, simd.mul_add_f32s(a22, dy, b2));
                let trust = load(simd, self.trust_of_column, at);
                let trust = simd.mul_f32s(trust, simd.splat_f32s(self.trust_of_row[y]));
                let trust = simd.mul_f32s(trust, trust);
                let first = [a11, a12];
                let second = [a12, a22];
                let slopes = [b1, b2];
                let products = [
                    (first, first),
                    (first, second),
                    (second, second),
                    (first, slopes),
                    (second, slopes),
                ];
                for k in 0..SUMS {
                    let ([a, b], [c, d]) = products[k];
                    let sum = simd.mul_add_f32s(a, c, simd.mul_f32s(b, d));
                    store(simd, out, k * stride + at, simd.mul_f32s(trust, sum));
                }
            }
        }
    }

    /// Where in the second picture the pixels from (x, y) on have gone.
    #[inline(always)]
    fn places(&self, x: usize, y: usize, dx: &[f32], dy: &[f32]) -> Places {
        let (width, height) = self.size;
        let (right, bottom) = (width as f32 - 2.0, height as f32 - 2.0);
        let stride = padded(width) as u32;
        let mut places = Places::default();
        for k in 0..PAD {
            let to_x = (x + k) as f32 + dx[k];
            let to_y = y as f32 + dy[k];
            let (left, top) = (to_x.floor(), to_y.floor());
            let inside = (left >= 0.0) & (left <= right) & (top >= 0.0) & (top <= bottom);
            let (column, row) = if inside { (left, top) } else { (0.0, 0.0) };
            places.inside[k] = u32::from(inside);
            places.pixel[k] = whole(row).wrapping_mul(stride).wrapping_add(whole(column));
            places.part_x[k] = to_x - left;
            places.part_y[k] = to_y - top;
        }
        places
    }

    /// The mean of the two pictures' matrices and half the difference of their slopes, the second
    /// picture's read between its pixels; a pixel that left the picture is compared with nothing.
    /// `pixels` comes out as `[PAD, TERMS]`.
    #[inline(always)]
    fn combine<S: Simd>(&self, simd: S, x: usize, y: usize, places: &Places, pixels: &mut [f32]) {
        let stride = padded(self.size.0);
        let first = &self.first.terms[(y * stride + x) * TERMS..];
        let second = &self.second.terms;
        for k in 0..PAD {
            let here = &first[k * TERMS..];
            let pixel = &mut pixels[k * TERMS..];
            if places.inside[k] == 0 {
                for term in 0..TERMS {
                    pixel[term] = here[term] * ALONE[term];
                }
                continue;
            }
            let at = places.pixel[k] as usize * TERMS;
            let (above, below) = (&second[at..], &second[at + stride * TERMS..]);
            let (u, v) = (places.part_x[k], places.part_y[k]);
            let weights = [(1.0 - u) * (1.0 - v), u * (1.0 - v), (1.0 - u) * v, u * v];
            if S::F32_LANES == 2 * TERMS {
                // A vector is two pixels side by side. What its second half writes is the next pixel's
                // place, which comes next.
                let left = simd.less_than_f32s(load(simd, &LANE, 0), simd.splat_f32s(TERMS as f32));
                let [a, b, c, d] = weights;
                let (a, b) = (simd.splat_f32s(a), simd.splat_f32s(b));
                let (c, d) = (simd.splat_f32s(c), simd.splat_f32s(d));
                let sum = simd.mul_f32s(simd.select_f32s(left, a, b), load(simd, above, 0));
                let low = simd.select_f32s(left, c, d);
                let sum = simd.mul_add_f32s(low, load(simd, below, 0), sum);
                let there = simd.add_f32s(sum, simd.rotate_right_f32s(sum, TERMS));
                let sign = load(simd, &SIGN, 0);
                store(
                    simd,
                    pixel,
                    0,
                    simd.mul_add_f32s(there, sign, load(simd, here, 0)),
                );
                continue;
            }
            for term in (0..TERMS).step_by(S::F32_LANES) {
                let [a, b, c, d] = weights;
                let mut sum = simd.mul_f32s(simd.splat_f32s(a), load(simd, above, term));
                let mut right = simd.mul_f32s(simd.splat_f32s(b), load(simd, above, TERMS + term));
                sum = simd.mul_add_f32s(simd.splat_f32s(c), load(simd, below, term), sum);
                right =
                    simd.mul_add_f32s(simd.splat_f32s(d), load(simd, below, TERMS + term), right);
                let there = simd.add_f32s(sum, right);
                let sign = load(simd, &SIGN, term);
                store(
                    simd,
                    pixel,
                    term,
                    simd.mul_add_f32s(there, sign, load(simd, here, term)),
                );
            }
        }
    }
}

/// `PAD` groups of `TERMS` values become `TERMS` rows of `PAD`.
#[inline(always)]
fn transpose(pixels: &[f32], terms: &mut [f32]) {
    for half in (0..PAD).step_by(8) {
        let (block, _) = pixels[half * TERMS..].as_chunks::<TERMS>();
        // Written out as fixed loops over arrays, this becomes shuffles of vectors.
        let mut turned = [[0.0_f32; 8]; TERMS];
        for lane in 0..8 {
            for term in 0..TERMS {
                turned[term][lane] = block[lane][term];
            }
        }
        for term in 0..TERMS {
            terms[term * PAD + half..][..8].copy_from_slice(&turned[term]);
        }
    }
}

/// A whole number below 2²³ as an integer: the low bits of its sum with 2²³. The plain conversion looks
/// out for numbers that do not fit, one by one.
#[inline(always)]
fn whole(number: f32) -> u32 {
    (number + 8_388_608.0).to_bits() & 0x7f_ffff
}

/// Places between the pixels of a picture: the pixel at their upper left, and how far beyond it.
#[derive(Default)]
struct Places {
    /// 1 or 0, as wide as the others, so that all are vectors.
    inside: [u32; PAD],
    pixel: [u32; PAD],
    part_x: [f32; PAD],
    part_y: [f32; PAD],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::expansion::Expander;
    use pulp::Scalar;

    /// A noisy picture's expansion.
    fn expansion((width, height): (usize, usize), seed: u32) -> Expansion {
        let noise = |k: usize| (k as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24;
        let picture: Vec<f32> = (0..padded(width) * height)
            .map(|k| noise(k) as f32)
            .collect();
        let mut expansion = Expansion::default();
        let expander = Expander::new(5, 1.2);
        expander.expand(&picture, (width, height), &mut expansion, &mut Vec::new());
        expansion
    }

    #[test]
    fn vectors_of_any_width_give_the_same_bits() {
        let size = (53, 80);
        let (first, second) = (expansion(size, 1), expansion(size, 77));
        let len = PLANES * padded(size.0) * size.1;
        // Some pixels leave the picture, some stay, some move by whole pixels.
        let believed: Vec<f32> = (0..len).map(|k| (k % 41) as f32 * 0.25 - 5.0).collect();
        for window in [Window::even(15), Window::even(4), Window::gaussian(9)] {
            let (columns, rows) = (trust(size.0), trust(size.1));
            let pair = Pair {
                size,
                first: &first,
                second: &second,
                trust_of_column: &columns,
                trust_of_row: &rows,
                window: &window,
            };
            let refine = |run: &dyn Fn(Rows<'_>)| {
                let mut out = vec![0.0; len];
                let mut scratch = vec![0.0; WORK + Columns::scratch(&window, size.0)];
                run(Rows {
                    pair: &pair,
                    believed: &believed,
                    first: 0,
                    out: &mut out,
                    scratch: &mut scratch,
                });
                let inside = |row: &[f32]| row[..size.0].to_vec();
                out.chunks(padded(size.0))
                    .flat_map(inside)
                    .collect::<Vec<f32>>()
            };
            let widest = refine(&|rows| Arch::new().dispatch(rows));
            assert!(widest.iter().any(|d| d.abs() > 0.1));
            assert!(widest == refine(&|rows| rows.with_simd(Scalar)));
            #[cfg(target_arch = "x86_64")]
            if let Some(narrower) = pulp::x86::V3::try_new() {
                assert!(widest == refine(&|rows| pulp::Simd::vectorize(narrower, rows)));
            }
        }
    }

    #[test]
    fn nearly_equal_products_keep_their_difference() {
        // (1 + e)(1 − e) − 1 = −e², which plain f32 products lose for e = 2⁻¹³.
        let e = 2.0_f32.powi(-13);
        assert_eq!((1.0 + e) * (1.0 - e) - 1.0, 0.0);
        assert_eq!(products(Scalar, [1.0 + e, 1.0 - e], [1.0, 1.0]), -e * e);
    }
}
