//! Loops over whole arrays.

use super::vectorised;
use rayon::prelude::*;

/// Elements a task works on: 64 KiB of f32, well inside a second-level cache.
pub(crate) const BLOCK: usize = 16 << 10;

/// `out[i] = f(x[i])`.
pub(crate) fn map(x: &[f32], out: &mut [f32], f: impl Fn(f32) -> f32 + Sync + Copy) {
    assert_eq!(x.len(), out.len());
    out.par_chunks_mut(BLOCK)
        .zip(x.par_chunks(BLOCK))
        .for_each(|(out, x)| {
            vectorised(
                #[inline(always)]
                || {
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = f(*x);
                    }
                },
            );
        });
}

/// `out[i] = f(x[i], y[i])`.
pub(crate) fn zip(
    x: &[f32],
    y: &[f32],
    out: &mut [f32],
    f: impl Fn(f32, f32) -> f32 + Sync + Copy,
) {
    assert_eq!(x.len(), out.len());
    assert_eq!(y.len(), out.len());
    out.par_chunks_mut(BLOCK)
        .zip(x.par_chunks(BLOCK).zip(y.par_chunks(BLOCK)))
        .for_each(|(out, (x, y))| {
            vectorised(
                #[inline(always)]
                || {
                    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                        *out = f(*x, *y);
                    }
                },
            );
        });
}

/// `sum[i] += more[i]`.
pub(crate) fn add_assign(sum: &mut [f32], more: &[f32]) {
    zip_assign(
        sum,
        more,
        #[inline(always)]
        |sum, more| sum + more,
    );
}

/// `x[i] = f(x[i], y[i])`.
pub(crate) fn zip_assign(x: &mut [f32], y: &[f32], f: impl Fn(f32, f32) -> f32 + Sync + Copy) {
    assert_eq!(x.len(), y.len());
    x.par_chunks_mut(BLOCK)
        .zip(y.par_chunks(BLOCK))
        .for_each(|(x, y)| {
            vectorised(
                #[inline(always)]
                || {
                    for (x, y) in x.iter_mut().zip(y) {
                        *x = f(*x, *y);
                    }
                },
            );
        });
}

/// Sum of `f(i)`-th terms of `x`, block by block in a fixed order, the blocks in f64.
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f32 + Sync + Copy) -> f64 {
    let partial: Vec<f64> = x
        .par_chunks(BLOCK)
        .map(|x| x.iter().map(|v| f64::from(f(*v))).sum::<f64>())
        .collect();
    partial.iter().sum()
}

/// Sum of `f(x[i], y[i])`, block by block in a fixed order, accumulated in f64.
pub(crate) fn sum_zip(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32 + Sync + Copy) -> f64 {
    assert_eq!(x.len(), y.len());
    let partial: Vec<f64> = x
        .par_chunks(BLOCK)
        .zip(y.par_chunks(BLOCK))
        .map(|(x, y)| {
            vectorised(
                #[inline(always)]
                || sum_block(x, y, f),
            )
        })
        .collect();
    partial.iter().sum()
}

/// Eight running sums, so that additions need not wait for one another.
#[inline(always)]
fn sum_block(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    let mut sums = [0.0f64; 8];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    for (x, y) in x.iter().zip(y) {
        for k in 0..8 {
            sums[k] += f64::from(f(x[k], y[k]));
        }
    }
    let rest = x_rest.iter().zip(y_rest).map(|(x, y)| f64::from(f(*x, *y)));
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}
