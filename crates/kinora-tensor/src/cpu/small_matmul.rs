//! Products of matrices so small that they stay in the first-level cache, for loops that have
//! thousands of them: the large kernels would spend their time getting ready.

use pulp::{Simd, WithSimd};

/// A matrix on the left of a product: element (i, k) is `data[i * row + k * column]`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub column: usize,
}

/// Numbers of rows, of terms of a sum, and of columns. Columns are whole vectors.
#[derive(Clone, Copy)]
pub(crate) struct Extents {
    pub rows: usize,
    pub terms: usize,
    pub columns: usize,
}

/// `out = left · right`. The rows of `out` and of `right` are as many elements apart as the number
/// beside them says, a multiple of a vector.
#[inline(always)]
pub(crate) fn multiply<S: Simd>(
    simd: S,
    (out, out_stride): (&mut [f32], usize),
    left: Left<'_>,
    (right, right_stride): (&[f32], usize),
    extents: Extents,
) {
    // A call rather than a copy of the loops below at each place that multiplies.
    simd.vectorize(Product {
        out,
        out_stride,
        left,
        right,
        right_stride,
        extents,
    });
}

struct Product<'a> {
    out: &'a mut [f32],
    out_stride: usize,
    left: Left<'a>,
    right: &'a [f32],
    right_stride: usize,
    extents: Extents,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        self.out_stride /= S::F32_LANES;
        self.right_stride /= S::F32_LANES;
        let vectors = self.extents.columns / S::F32_LANES;
        let mut column = 0;
        while column < vectors {
            // Tiles of about twelve vectors of sums keep the multipliers of most processors busy.
            column += match vectors - column {
                1 => self.columns::<S, 6, 1>(simd, column),
                2 | 3 => self.columns::<S, 6, 2>(simd, column),
                _ => self.columns::<S, 3, 4>(simd, column),
            };
        }
    }
}

/// Strides and columns are counted in vectors from here on.
impl Product<'_> {
    /// `C` columns from number `column` on, in tiles of `R` rows. Gives `C`.
    #[inline(always)]
    fn columns<S: Simd, const R: usize, const C: usize>(
        &mut self,
        simd: S,
        column: usize,
    ) -> usize {
        let whole = self.extents.rows / R * R;
        for row in (0..whole).step_by(R) {
            self.tile::<S, R, C>(simd, row, column);
        }
        for row in whole..self.extents.rows {
            self.tile::<S, 1, C>(simd, row, column);
        }
        C
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
    ) {
        let mut sums = [[simd.splat_f32s(0.0); C]; R];
        let left = &self.left.data[row * self.left.row..];
        let (right, _) = S::as_simd_f32s(self.right);
        for k in 0..self.extents.terms {
            let right = &right[k * self.right_stride + column..][..C];
            let mut factors = [simd.splat_f32s(0.0); R];
            for r in 0..R {
                factors[r] = simd.splat_f32s(left[r * self.left.row + k * self.left.column]);
            }
            // One vector of the right at a time: sums, factors and it just fit sixteen registers.
            for c in 0..C {
                for r in 0..R {
                    sums[r][c] = simd.mul_add_e_f32s(factors[r], right[c], sums[r][c]);
                }
            }
        }
        let (out, _) = S::as_mut_simd_f32s(self.out);
        for r in 0..R {
            out[(row + r) * self.out_stride + column..][..C].copy_from_slice(&sums[r]);
        }
    }
}

/// The transpose of a matrix: `rows` has rows `row_stride` apart, `out` has `columns` rows, `count`
/// apart, and as many columns. Both numbers are multiples of 8.
#[inline(always)]
pub(crate) fn transpose(
    rows: &[f32],
    row_stride: usize,
    out: &mut [f32],
    columns: usize,
    count: usize,
) {
    const B: usize = 8;
    for i in (0..count).step_by(B) {
        for j in (0..columns).step_by(B) {
            let mut block = [[0.0; B]; B];
            for r in 0..B {
                block[r].copy_from_slice(&rows[(i + r) * row_stride + j..][..B]);
            }
            // Written out as fixed loops over arrays, this becomes shuffles of vectors.
            let mut turned = [[0.0; B]; B];
            for r in 0..B {
                for c in 0..B {
                    turned[c][r] = block[r][c];
                }
            }
            for c in 0..B {
                out[(j + c) * count + i..][..B].copy_from_slice(&turned[c]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Arch;

    struct Multiply<'a>(&'a mut [f32], Left<'a>, &'a [f32], Extents);

    impl WithSimd for Multiply<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Multiply(out, left, right, extents) = self;
            let stride = extents.columns + 16;
            multiply(simd, (out, stride), left, (right, stride), extents);
        }
    }

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|k| ((k * 7919) % 101) as f32 - 50.0).collect()
    }

    #[test]
    fn agrees_with_the_triple_loop() {
        for (rows, terms, columns) in [(1, 1, 16), (25, 64, 32), (14, 7, 48), (9, 25, 80)] {
            let stride = columns + 16;
            let (a, b) = (values(rows * terms), values(terms * stride));
            for (row, column) in [(terms, 1), (1, rows)] {
                let mut out = vec![f32::NAN; rows * stride];
                let left = Left {
                    data: &a,
                    row,
                    column,
                };
                let extents = Extents {
                    rows,
                    terms,
                    columns,
                };
                Arch::new().dispatch(Multiply(&mut out, left, &b, extents));
                for i in 0..rows {
                    for j in 0..columns {
                        let term = |k| a[i * row + k * column] * b[k * stride + j];
                        assert_eq!(out[i * stride + j], (0..terms).map(term).sum::<f32>());
                    }
                }
            }
        }
    }

    #[test]
    fn transposes() {
        let rows = values(16 * 30);
        let mut out = vec![f32::NAN; 24 * 16];
        transpose(&rows, 30, &mut out, 24, 16);
        for i in 0..16 {
            for j in 0..24 {
                assert_eq!(out[j * 16 + i], rows[i * 30 + j]);
            }
        }
    }
}
