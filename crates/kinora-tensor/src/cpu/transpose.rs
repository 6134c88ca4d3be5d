//! Lines turned into columns, eight by eight.

use pulp::Simd;

/// Lines that are turned together.
pub(crate) const SIDE: usize = 8;

/// `out[c · stride + n] = lines[n][c]` for the eight lines n, all as long as the first, and each c.
#[inline(always)]
pub(crate) fn transpose<S: Simd>(lines: &[&[f32]; SIDE], out: &mut [f32], stride: usize) {
    let len = lines[0].len();
    let whole = len / SIDE * SIDE;
    for c in (0..whole).step_by(SIDE) {
        let mut square = [&[0.0; SIDE]; SIDE];
        for n in 0..SIDE {
            if let Some(values) = lines[n][c..].first_chunk() {
                square[n] = values;
            }
        }
        let out = &mut out[c * stride..][..(SIDE - 1) * stride + SIDE];
        turn::<S>(&square, out, stride);
    }
    for c in whole..len {
        for n in 0..SIDE {
            out[c * stride + n] = lines[n][c];
        }
    }
}

#[inline(always)]
#[cfg_attr(target_arch = "x86_64", allow(unsafe_code))]
fn turn<S: Simd>(square: &[&[f32; SIDE]; SIDE], out: &mut [f32], stride: usize) {
    assert!(out.len() >= (SIDE - 1) * stride + SIDE);
    #[cfg(target_arch = "x86_64")]
    if S::F32_LANES >= SIDE {
        // SAFETY: on this processor only AVX2 and what includes it have eight lanes or more, and whoever holds
        // an `S` has found it there. Rows of `out` end within it, as was just checked.
        return unsafe { avx2::turn(square, out.as_mut_ptr(), stride) };
    }
    for k in 0..SIDE {
        for n in 0..SIDE {
            out[k * stride + n] = square[n][k];
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2 {
    use super::SIDE;
    use std::arch::x86_64::{
        __m256, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
        _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };

    /// # Safety
    /// The processor has AVX2; eight rows of eight values, `stride` apart, can be written from `out`.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub unsafe fn turn(square: &[&[f32; SIDE]; SIDE], out: *mut f32, stride: usize) {
        // SAFETY: each row has eight values.
        let line = |n: usize| unsafe { _mm256_loadu_ps(square[n].as_ptr()) };
        let (a, b) = (
            four([line(0), line(1), line(2), line(3)]),
            four([line(4), line(5), line(6), line(7)]),
        );
        for k in 0..SIDE / 2 {
            // SAFETY: the caller's promise.
            unsafe {
                _mm256_storeu_ps(
                    out.add(k * stride),
                    _mm256_permute2f128_ps::<0x20>(a[k], b[k]),
                );
                let far = out.add((k + SIDE / 2) * stride);
                _mm256_storeu_ps(far, _mm256_permute2f128_ps::<0x31>(a[k], b[k]));
            }
        }
    }

    /// Turns both halves of four lines: vector k has column k in its lower half and column 4 + k in its upper.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn four(lines: [__m256; 4]) -> [__m256; 4] {
        let [a, b, c, d] = lines;
        let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
        [
            _mm256_shuffle_ps::<0x44>(ab, cd),
            _mm256_shuffle_ps::<0xEE>(ab, cd),
            _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
            _mm256_shuffle_ps::<0xEE>(ab_high, cd_high),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, Scalar, WithSimd};

    struct Turn<'a>(&'a [&'a [f32]; SIDE], &'a mut [f32], usize);

    impl WithSimd for Turn<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            transpose::<S>(self.0, self.1, self.2);
        }
    }

    #[test]
    fn lines_become_columns_and_nothing_else_is_written() {
        for (len, stride) in [(0, 8), (1, 8), (7, 9), (8, 8), (21, 11), (64, 48)] {
            let values: Vec<f32> = (0..SIDE * len).map(|n| n as f32).collect();
            let lines: [&[f32]; SIDE] = std::array::from_fn(|n| &values[n * len..][..len]);
            let (mut fast, mut plain) = (vec![-1.0; len * stride], vec![-1.0; len * stride]);
            Arch::new().dispatch(Turn(&lines, &mut fast, stride));
            Turn(&lines, &mut plain, stride).with_simd(Scalar::new());
            for c in 0..len {
                for n in 0..stride {
                    let expected = if n < SIDE { lines[n][c] } else { -1.0 };
                    assert_eq!(fast[c * stride + n], expected, "{len} {stride} {c} {n}");
                }
            }
            assert_eq!(fast, plain);
        }
    }
}
