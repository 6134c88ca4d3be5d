//! The arithmetic of F(4, 3): four results of a three-tap convolution from six products.
//!
//! A polynomial of degree 5 is known by its values at 0, ±A, ±B and ∞. Six neighbouring pixels and
//! three taps are each taken to those six points, multiplied there, and the products are taken back
//! to four results. A = 5/8 and B = 3/2 are exact in binary and their powers stay near 1, which keeps
//! the rounding error at half of what the usual points ±1, ±2 leave.

use pulp::Simd;

/// Values a rule multiplies along one axis.
pub(super) const POINTS: usize = 6;
/// Results it gives along one axis.
pub(super) const RESULTS: usize = 4;
/// Taps it takes along one axis.
pub(super) const TAPS: usize = 3;

const A: f32 = 0.625;
const B: f32 = 1.5;
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

/// Six neighbouring pixels taken to the points.
#[inline(always)]
pub(super) fn pixels_to_points<S: Simd>(simd: S, d: [S::f32s; POINTS]) -> [S::f32s; POINTS] {
    let (even_a, odd_a) = (add(simd, -B2, d[2], d[4]), add(simd, -B2, d[1], d[3]));
    let (even_b, odd_b) = (add(simd, -A2, d[2], d[4]), add(simd, -A2, d[1], d[3]));
    [
        add(simd, A2 * B2, d[0], add(simd, -(A2 + B2), d[2], d[4])),
        add(simd, A, odd_a, even_a),
        add(simd, -A, odd_a, even_a),
        add(simd, B, odd_b, even_b),
        add(simd, -B, odd_b, even_b),
        add(simd, A2 * B2, d[1], add(simd, -(A2 + B2), d[3], d[5])),
    ]
}

/// What takes three taps to each point.
const POINTS_FROM_TAPS: [[f32; TAPS]; POINTS] = {
    const AT_ZERO: f32 = 1.0 / (A2 * B2);
    const AT_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
    const AT_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));
    [
        [AT_ZERO, 0.0, 0.0],
        [AT_A, AT_A * A, AT_A * A2],
        [AT_A, -AT_A * A, AT_A * A2],
        [AT_B, AT_B * B, AT_B * B2],
        [AT_B, -AT_B * B, AT_B * B2],
        [0.0, 0.0, 1.0],
    ]
};

/// Three taps taken to the points.
#[inline(always)]
pub(super) fn taps_to_points<S: Simd>(simd: S, g: [S::f32s; TAPS]) -> [S::f32s; POINTS] {
    const G: [[f32; TAPS]; POINTS] = POINTS_FROM_TAPS;
    let even_a = add(simd, G[1][2], g[2], times(simd, G[1][0], g[0]));
    let even_b = add(simd, G[3][2], g[2], times(simd, G[3][0], g[0]));
    [
        times(simd, G[0][0], g[0]),
        add(simd, G[1][1], g[1], even_a),
        add(simd, G[2][1], g[1], even_a),
        add(simd, G[3][1], g[1], even_b),
        add(simd, G[4][1], g[1], even_b),
        g[2],
    ]
}

/// Three taps taken to one point.
#[inline(always)]
pub(super) fn taps_to_point<S: Simd>(simd: S, g: [S::f32s; TAPS], point: usize) -> S::f32s {
    let [first, second, third] = POINTS_FROM_TAPS[point];
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
    const G: [[f32; TAPS]; POINTS] = POINTS_FROM_TAPS;
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

/// Six products taken back to four results.
#[inline(always)]
pub(super) fn points_to_results<S: Simd>(simd: S, m: [S::f32s; POINTS]) -> [S::f32s; RESULTS] {
    let (even_a, odd_a) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (even_b, odd_b) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(even_a, even_b)),
        add(simd, B, odd_b, times(simd, A, odd_a)),
        add(simd, B2, even_b, times(simd, A2, even_a)),
        simd.add_f32s(m[5], add(simd, B2 * B, odd_b, times(simd, A2 * A, odd_a))),
    ]
}

/// `step` along every row that `read` gives, then, where there are as many rows as `step` takes, along every
/// column; `write` is given what comes of it, by row and column. One row stays one row: the rule of one axis.
/// `room` is for what is half done: made once for many tiles, since clearing it takes as long as a step.
// Loops, not `map` or `from_fn`: those hide a call that would leave the vector instructions behind.
#[inline(always)]
pub(super) fn along_both<
    T: Copy,
    const FROM: usize,
    const TO: usize,
    const ROWS: usize,
    const OUT: usize,
>(
    room: &mut [[T; TO]; ROWS],
    read: impl Fn(usize) -> [T; FROM],
    step: impl Fn([T; FROM]) -> [T; TO],
    mut write: impl FnMut(usize, usize, T),
) {
    for r in 0..ROWS {
        room[r] = step(read(r));
    }
    for column in 0..TO {
        if OUT == 1 {
            write(0, column, room[0][column]);
            continue;
        }
        let mut values = [room[0][column]; FROM];
        for r in 1..ROWS {
            values[r] = room[r][column];
        }
        let values = step(values);
        for r in 0..OUT {
            write(r, column, values[r]);
        }
    }
}
