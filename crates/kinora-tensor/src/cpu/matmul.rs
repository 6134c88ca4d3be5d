//! Matrix multiplication: by our own product where it is the faster one, else by the `gemm` kernels.

pub(crate) use super::product::Start;
use super::product::{Along, Widen, product};
use gemm_common::Parallelism;

/// A matrix inside a slice: element (i, j) is `data[i * row_stride + j * col_stride]`.
pub(crate) struct MatRef<'a, T = f32> {
    pub data: &'a [T],
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<T> Clone for MatRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MatRef<'_, T> {}

impl<'a, T> MatRef<'a, T> {
    /// A dense row-major matrix.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows of `cols` neighbours, `row_stride` apart.
    pub(crate) fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        MatRef {
            data,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    /// The transpose; nothing moves.
    pub(crate) fn t(self) -> Self {
        MatRef {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    fn reach(&self) -> usize {
        reach(self.rows, self.cols, self.row_stride, self.col_stride)
    }
}

/// One past the last element touched.
fn reach(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    if rows == 0 || cols == 0 {
        0
    } else {
        (rows - 1) * row_stride + (cols - 1) * col_stride + 1
    }
}

/// Whether a multiplication may use all cores or must stay on the calling one (inside a parallel
/// loop).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    All,
    One,
}

/// `out = a · b`, or `out += a · b` where `accumulate`; `out` has rows `out_stride` apart.
pub(crate) fn matmul(
    out: &mut [f32],
    out_stride: usize,
    a: MatRef<'_>,
    b: MatRef<'_>,
    accumulate: bool,
    cores: Cores,
) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    // Below about a hundred microseconds of work the hand-over costs more than it brings.
    let shared = cores == Cores::All && m * n * k > 1 << 18;
    let ours = shared && Along::cheaper(&a, &b).strips_are_cheap(&a, &b);
    if ours || m * n * k == 0 {
        let start = if accumulate {
            Start::Result
        } else {
            Start::Zero
        };
        return matmul_from(out, out_stride, a, b, start);
    }
    check(out, out_stride, &a, &b);
    let kernel = gemm_f32::gemm::f32::get_gemm_fn();
    // The kernel writes columns, so the transposed product is asked for: outᵀ = bᵀ · aᵀ.
    // SAFETY: `check` bounds every element the strides can reach, `out` is a
    // unique borrow, and its rows do not overlap.
    #[allow(unsafe_code)]
    unsafe {
        kernel(
            n,
            m,
            k,
            out.as_mut_ptr(),
            out_stride as isize,
            1,
            accumulate,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.col_stride as isize,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.col_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            if shared {
                Parallelism::Rayon(0)
            } else {
                Parallelism::None
            },
        );
    }
}

/// `out = start + a · b` on all cores, `b` being stored in any type; `out` has rows `out_stride` apart.
pub(crate) fn matmul_from<T: Widen>(
    out: &mut [f32],
    out_stride: usize,
    a: MatRef<'_>,
    b: MatRef<'_, T>,
    start: Start<'_>,
) {
    check(out, out_stride, &a, &b);
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    if a.cols == 0 {
        for (line, row) in out.chunks_mut(out_stride).take(a.rows).enumerate() {
            match start {
                Start::Zero => row[..b.cols].fill(0.0),
                Start::Result => {}
                Start::Row(values) => row[..b.cols].copy_from_slice(values),
                Start::Matrix(values, second) => {
                    row[..b.cols].copy_from_slice(&values[line * out_stride..][..b.cols]);
                    let row = row.iter_mut().zip(second);
                    row.for_each(|(out, value)| *out += value);
                }
            }
        }
        return;
    }
    product(out, out_stride, a, b, start, Along::cheaper(&a, &b));
}

fn check<T>(out: &[f32], out_stride: usize, a: &MatRef<'_>, b: &MatRef<'_, T>) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert_eq!(k, b.rows, "inner extents {k} and {} differ", b.rows);
    assert!(out_stride >= n || m <= 1, "rows of the result overlap");
    assert!(a.reach() <= a.data.len(), "left operand outside its slice");
    assert!(b.reach() <= b.data.len(), "right operand outside its slice");
    assert!(
        reach(m, n, out_stride, 1) <= out.len(),
        "result outside its slice"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(a: MatRef<'_>, b: MatRef<'_>) -> Vec<f32> {
        let at = |m: &MatRef<'_>, i: usize, j: usize| m.data[i * m.row_stride + j * m.col_stride];
        let mut out = vec![0.0; a.rows * b.cols];
        for i in 0..a.rows {
            for j in 0..b.cols {
                let sum: f64 = (0..a.cols)
                    .map(|k| f64::from(at(&a, i, k)) * f64::from(at(&b, k, j)))
                    .sum();
                out[i * b.cols + j] = sum as f32;
            }
        }
        out
    }

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn agrees_with_the_triple_loop_in_every_orientation() {
        for (m, k, n) in [
            (1, 1, 1),
            (3, 5, 7),
            (16, 33, 17),
            (129, 64, 65),
            (1, 300, 40),
            (70, 1, 9),
            (257, 1030, 70),
            (50, 517, 331),
        ] {
            let (x, y) = (numbers(m * k, 1), numbers(k * n, 2));
            let a = [MatRef::new(&x, m, k), MatRef::new(&x, k, m).t()];
            let b = [MatRef::new(&y, k, n), MatRef::new(&y, n, k).t()];
            for a in a {
                for b in b {
                    let mut out = vec![f32::NAN; m * n];
                    matmul(&mut out, n, a, b, false, Cores::All);
                    let expected = slow(a, b);
                    let worst = out
                        .iter()
                        .zip(&expected)
                        .map(|(x, y)| (x - y).abs())
                        .fold(0.0, f32::max);
                    assert!(worst < 1e-4, "{m}x{k}x{n}: {worst}");
                    matmul(&mut out, n, a, b, true, Cores::One);
                    assert!(
                        out.iter()
                            .zip(&expected)
                            .all(|(x, y)| (x - 2.0 * y).abs() < 2e-4)
                    );
                }
            }
        }
    }
}
