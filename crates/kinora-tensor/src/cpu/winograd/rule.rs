//! The arithmetic of F(Q, 3): Q results of a three-tap convolution from P = Q + 2 products; and of F(P − 1, 2), which
//! takes two taps to the same points.
//!
//! P neighbouring pixels and three taps are each taken to the points of a rule (`points`), multiplied there, and the
//! products are taken back to Q results. Over pictures that is F(4, 3) along both axes; along one axis F(7, 3) is
//! there too, which rounds half as much again as F(4, 3) along both.

use super::points::Points;
use pulp::Simd;

/// Values that F(4, 3) multiplies along one axis.
pub(super) const POINTS: usize = 6;
/// Results it gives along one axis.
pub(super) const RESULTS: usize = 4;
/// Taps of a rule along one axis.
pub(super) const TAPS: usize = 3;

/// Rows of taps, where there are so many rows of points: one stays one.
pub(super) const fn row_taps(rows: usize) -> usize {
    if rows == 1 { 1 } else { TAPS }
}

const A: f32 = Points::<POINTS>::POWERS[0][1];
const B: f32 = Points::<POINTS>::POWERS[1][1];
const A2: f32 = A * A;
const B2: f32 = B * B;

/// factor · x + y.
#[inline(always)]
fn add<S: Simd>(simd: S, factor: f32, x: S::f32s, y: S::f32s) -> S::f32s {
    simd.mul_add_f32s(simd.splat_f32s(factor), x, y)
}

/// factor · x.
#[inline(always)]
fn times<S: Simd>(simd: S, factor: f32, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), x)
}

/// Σ coefficients\[k\] · values\[first + 2k\] over k up to `last`, whose coefficient is 1.
#[inline(always)]
fn every_other<S: Simd, const P: usize>(
    simd: S,
    coefficients: &[f32],
    values: &[S::f32s; P],
    first: usize,
    last: usize,
) -> S::f32s {
    let mut sum = values[first + 2 * last];
    for k in (0..last).rev() {
        sum = add(simd, coefficients[k], values[first + 2 * k], sum);
    }
    sum
}

/// P neighbouring pixels taken to the points.
#[inline(always)]
pub(super) fn pixels_to_points<S: Simd, const P: usize>(simd: S, d: [S::f32s; P]) -> [S::f32s; P] {
    let (zero, pairs) = (Points::<P>::ZERO, Points::<P>::PAIRS);
    let all = &Points::<P>::ALL;
    let mut points = d;
    if zero == 1 {
        points[0] = every_other(simd, all, &d, 0, pairs);
    }
    for i in 0..pairs {
        let others = &Points::<P>::OTHERS[i];
        let p = Points::<P>::POWERS[i][1];
        let even = every_other(simd, others, &d, zero + 1, pairs - 1);
        let odd = every_other(simd, others, &d, zero, pairs - 1);
        points[zero + 2 * i] = add(simd, p, odd, even);
        points[zero + 2 * i + 1] = add(simd, -p, odd, even);
    }
    points[P - 1] = every_other(simd, all, &d, zero, pairs);
    points
}

/// Taps as they meet pixels.
#[derive(Clone, Copy)]
pub(super) struct Taps<T> {
    /// Zeros after the last.
    each: [T; TAPS],
    /// The last, which is what they are at ∞.
    last: T,
}

impl<T: Copy> Taps<T> {
    /// Three taps; or in one of two phases, what two pixels are multiplied with that stand twice each: the taps meet the
    /// first, the second and the second, or the first, the first and the second.
    #[inline(always)]
    pub(super) fn new<S: Simd<f32s = T>>(simd: S, g: [T; TAPS], phase: Option<usize>) -> Self {
        let two = match phase {
            None => {
                return Taps {
                    each: g,
                    last: g[2],
                };
            }
            Some(0) => [g[0], simd.add_f32s(g[1], g[2])],
            Some(_) => [simd.add_f32s(g[0], g[1]), g[2]],
        };
        Taps {
            each: [two[0], two[1], simd.splat_f32s(0.0)],
            last: two[1],
        }
    }
}

/// Taps taken to the points.
#[inline(always)]
pub(super) fn taps_to_points<S: Simd, const P: usize>(
    simd: S,
    Taps { each: g, last }: Taps<S::f32s>,
) -> [S::f32s; P] {
    let zero = Points::<P>::ZERO;
    let mut points = [last; P];
    if zero == 1 {
        points[0] = times(simd, Points::<P>::FROM_TAPS[0][0], g[0]);
    }
    for i in 0..Points::<P>::PAIRS {
        let [first, second, third] = Points::<P>::FROM_TAPS[zero + 2 * i];
        let even = add(simd, third, g[2], times(simd, first, g[0]));
        let odd = times(simd, second, g[1]);
        points[zero + 2 * i] = simd.add_f32s(even, odd);
        points[zero + 2 * i + 1] = if zero == 1 {
            simd.sub_f32s(even, odd)
        } else {
            simd.sub_f32s(odd, even)
        };
    }
    points
}

/// Taps taken to one of six points.
#[inline(always)]
pub(super) fn taps_to_point<S: Simd>(
    simd: S,
    Taps { each: g, last }: Taps<S::f32s>,
    point: usize,
) -> S::f32s {
    if point == POINTS - 1 {
        return last;
    }
    let [first, second, third] = Points::<POINTS>::FROM_TAPS[point];
    add(
        simd,
        third,
        g[2],
        add(simd, second, g[1], times(simd, first, g[0])),
    )
}

/// The pixels that lead to each point, with their factors: what `pixels_to_points` does, a point at a time.
const POINT_FROM_PIXELS: [[(usize, f32); 4]; POINTS] = [
    [(0, A2 * B2), (2, -(A2 + B2)), (4, 1.0), (4, 0.0)],
    [(1, -A * B2), (2, -B2), (3, A), (4, 1.0)],
    [(1, A * B2), (2, -B2), (3, -A), (4, 1.0)],
    [(1, -B * A2), (2, -A2), (3, B), (4, 1.0)],
    [(1, B * A2), (2, -A2), (3, -B), (4, 1.0)],
    [(1, A2 * B2), (3, -(A2 + B2)), (5, 1.0), (5, 0.0)],
];

/// Six neighbouring pixels taken to one point.
#[inline(always)]
pub(super) fn pixels_to_point<S: Simd>(
    simd: S,
    pixel: impl Fn(usize) -> S::f32s,
    point: usize,
) -> S::f32s {
    let [(first, factor), rest @ ..] = POINT_FROM_PIXELS[point];
    let mut sum = times(simd, factor, pixel(first));
    for (row, factor) in rest {
        sum = add(simd, factor, pixel(row), sum);
    }
    sum
}

/// The gradient of four results taken to the points: the transpose of `points_to_results`.
#[inline(always)]
pub(super) fn results_to_points<S: Simd>(simd: S, d: [S::f32s; RESULTS]) -> [S::f32s; POINTS] {
    let (even_a, even_b) = (add(simd, A2, d[2], d[0]), add(simd, B2, d[2], d[0]));
    let odd_a = add(simd, A2 * A, d[3], times(simd, A, d[1]));
    let odd_b = add(simd, B2 * B, d[3], times(simd, B, d[1]));
    [
        d[0],
        simd.add_f32s(even_a, odd_a),
        simd.sub_f32s(even_a, odd_a),
        simd.add_f32s(even_b, odd_b),
        simd.sub_f32s(even_b, odd_b),
        d[3],
    ]
}

/// The gradient of four results taken to one point.
#[inline(always)]
pub(super) fn results_to_point<S: Simd>(
    simd: S,
    result: impl Fn(usize) -> S::f32s,
    point: usize,
) -> S::f32s {
    let at = match point {
        0 => return result(0),
        1 => A,
        2 => -A,
        3 => B,
        4 => -B,
        _ => return result(3),
    };
    // The polynomial with these coefficients, by Horner's rule.
    let sum = add(simd, at, result(3), result(2));
    let at = simd.splat_f32s(at);
    let sum = simd.mul_add_f32s(at, sum, result(1));
    simd.mul_add_f32s(at, sum, result(0))
}

/// The gradient of six products' factors taken back to three taps: the transpose of `taps_to_points`.
#[inline(always)]
pub(super) fn points_to_taps<S: Simd>(simd: S, m: [S::f32s; POINTS]) -> [S::f32s; TAPS] {
    const G: [[f32; TAPS]; POINTS] = Points::<POINTS>::FROM_TAPS;
    let mut taps = [simd.splat_f32s(0.0); TAPS];
    for k in 0..TAPS {
        for p in 0..POINTS {
            if G[p][k] != 0.0 {
                taps[k] = add(simd, G[p][k], m[p], taps[k]);
            }
        }
    }
    taps
}

/// P products taken back to Q results.
#[inline(always)]
pub(super) fn points_to_results<S: Simd, const P: usize, const Q: usize>(
    simd: S,
    m: [S::f32s; P],
) -> [S::f32s; Q] {
    let (zero, pairs) = (Points::<P>::ZERO, Points::<P>::PAIRS);
    let (mut even, mut odd) = (m, m);
    for i in 0..pairs {
        let [plus, minus] = [m[zero + 2 * i], m[zero + 2 * i + 1]];
        even[i] = simd.add_f32s(plus, minus);
        odd[i] = simd.sub_f32s(plus, minus);
    }
    let mut results = [m[0]; Q];
    for j in 0..Q {
        let parts = if j % 2 == 0 { &even } else { &odd };
        let powers = &Points::<P>::POWERS;
        let mut sum = parts[0];
        if j > 0 {
            sum = times(simd, powers[0][j], sum);
        }
        for i in 1..pairs {
            sum = match j {
                0 => simd.add_f32s(parts[i], sum),
                _ => add(simd, powers[i][j], parts[i], sum),
            };
        }
        if j == 0 && zero == 1 {
            sum = simd.add_f32s(m[0], sum);
        }
        if j == Q - 1 {
            sum = simd.add_f32s(m[P - 1], sum);
        }
        results[j] = sum;
    }
    results
}

/// `step` along every row that `read` gives, then, where there are as many rows as `step` takes, along every
/// column; `write` is given what comes of it, by row and column. One row stays one row: the rule of one axis.
/// `room` is for what is half done: made once for many tiles, since clearing it takes as long as a step.
// Loops, not `map` or `from_fn`: those hide a call that would leave the vector instructions behind.
#[inline(always)]
pub(super) fn along_both<T: Copy, const FROM: usize, const TO: usize, const ROWS: usize>(
    room: &mut [[T; TO]; ROWS],
    read: impl Fn(usize) -> [T; FROM],
    step: impl Fn([T; FROM]) -> [T; TO],
    mut write: impl FnMut(usize, usize, T),
) {
    for r in 0..ROWS {
        room[r] = step(read(r));
    }
    for column in 0..TO {
        if ROWS == 1 {
            write(0, column, room[0][column]);
            continue;
        }
        let mut values = [room[0][column]; FROM];
        for r in 1..ROWS {
            values[r] = room[r][column];
        }
        let values = step(values);
        for r in 0..TO {
            write(r, column, values[r]);
        }
    }
}
