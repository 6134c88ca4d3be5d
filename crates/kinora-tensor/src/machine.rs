//! What this machine can do at best, measured: the ceiling every stage is held against.

use crate::random::Philox;
use crate::{DType, Device, Result, Tensor, ops, synchronize};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// Independent chains: enough to hide the latency of a multiply-add on two units, few enough for 16
/// registers.
const CHAINS: usize = 12;

/// The rate of f32 multiply-adds in registers on all cores, in GFLOP/s (two to each): the best of
/// `runs` runs of some hundredths of a second. No kernel can pass it.
pub fn multiply_add_gflops(runs: usize) -> f64 {
    const ROUNDS: u64 = 20_000_000;
    let lanes = Arch::new().dispatch(Lanes);
    let threads = rayon::current_num_threads();
    let flop = (ROUNDS as usize * threads * lanes * CHAINS * 2) as f64;
    best(runs, || {
        black_box(rayon::broadcast(|context| {
            Arch::new().dispatch(Chains {
                rounds: ROUNDS,
                start: context.index() as f32,
            })
        }));
    })
    .map_or(0.0, |seconds| flop / seconds / 1e9)
}

/// How many f32 values a vector of this processor holds.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// Multiply-adds that only wait for their own chain: x becomes 0.9999 x + 0.0001.
struct Chains {
    rounds: u64,
    start: f32,
}

impl WithSimd for Chains {
    /// The mean over all lanes of all chains.
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (factor, more) = (simd.splat_f32s(0.9999), simd.splat_f32s(1e-4));
        // Each chain starts elsewhere, or the compiler would keep only one of them.
        let mut sums: [S::f32s; CHAINS] =
            std::array::from_fn(|chain| simd.splat_f32s(self.start + chain as f32 * 1e-6));
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, factor, more);
            }
        }
        let total: f32 = sums.iter().map(|sum| simd.reduce_sum_f32s(*sum)).sum();
        total / (CHAINS * S::F32_LANES) as f32
    }
}

/// The rate at which all cores together read one large array and write another, in GB/s (both
/// counted): the best of `runs` runs.
pub fn copy_bandwidth_gbs(runs: usize) -> f64 {
    const ELEMENTS: usize = 32 << 20; // 128 MiB each way, well past any cache.
    let from = vec![1.0_f32; ELEMENTS];
    let mut to = vec![0.0_f32; ELEMENTS];
    best(runs, || {
        to.par_chunks_mut(1 << 18)
            .zip(from.par_chunks(1 << 18))
            .for_each(|(to, from)| {
                to.copy_from_slice(from);
            });
        black_box(&to);
    })
    .map_or(0.0, |seconds| (ELEMENTS * 8) as f64 / seconds / 1e9)
}

/// The rate at which a device multiplies square matrices of `side` rows, in GFLOP/s: the best of `runs`
/// runs, each waited for. What a card does at best, in the type its networks compute in.
///
/// # Errors
/// When the device cannot be used or has no room for three such matrices.
pub fn matmul_gflops(device: Device, dtype: DType, side: usize, runs: usize) -> Result<f64> {
    let matrix = |seed| {
        let values = Philox::new(seed, 0).normal([side, side])?;
        values.to_device(device)?.to_dtype(dtype)
    };
    let (x, w) = (matrix(1)?, matrix(2)?);
    let seconds = best_on(device, runs, || ops::linear(&x, &w, None))?;
    Ok(seconds.map_or(0.0, |seconds| 2.0 * (side as f64).powi(3) / seconds / 1e9))
}

/// The rate at which a device reads one array of `elements` f32 values and writes another, in GB/s
/// (both counted): the best of `runs` runs, each waited for.
///
/// # Errors
/// When the device cannot be used or has no room for both arrays.
pub fn device_copy_gbs(device: Device, elements: usize, runs: usize) -> Result<f64> {
    let x = Tensor::full(1.0, [elements]).to_device(device)?;
    let seconds = best_on(device, runs, || ops::scale(&x, 1.0))?;
    Ok(seconds.map_or(0.0, |seconds| (elements * 8) as f64 / seconds / 1e9))
}

/// As [`best`], of work that a device does after it was asked for it.
fn best_on(
    device: Device,
    runs: usize,
    mut work: impl FnMut() -> Result<Tensor>,
) -> Result<Option<f64>> {
    let mut outcome = Ok(());
    let seconds = best(runs, || {
        // The result is let go when the device is done with it.
        let done = work().and_then(|_result| synchronize(device));
        outcome = std::mem::replace(&mut outcome, Ok(())).and(done);
    });
    outcome.map(|()| seconds)
}

/// Seconds of the fastest of `runs` runs, one more being run first to warm up.
fn best(runs: usize, mut work: impl FnMut()) -> Option<f64> {
    work();
    (0..runs)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed().as_secs_f64()
        })
        .min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains(rounds: u64, start: f32) -> f32 {
        Arch::new().dispatch(Chains { rounds, start })
    }

    #[test]
    fn a_device_is_measured_or_refuses() -> Result<()> {
        let mut devices = vec![Device::Cpu];
        devices.extend(crate::host_device(1 << 20));
        for device in devices {
            assert!(matmul_gflops(device, DType::F32, 32, 2)? > 0.0);
            assert!(device_copy_gbs(device, 1 << 10, 2)? > 0.0);
        }
        if let Some(small) = crate::host_device(1 << 10) {
            let error = device_copy_gbs(small, 1 << 20, 1).unwrap_err().to_string();
            assert!(error.contains("out of memory"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn the_chains_do_the_work_they_are_counted_for() {
        // One round from 1: 1·0.9999 + 0.0001 = 1 in every lane.
        assert!((chains(1, 1.0) - 1.0).abs() < 1e-3);
        // Its distance from the fixed point shrinks by 0.9999 a round: half of it is left after 6931.
        assert!((chains(6931, 0.0) - 0.5).abs() < 1e-3);
        assert!((chains(200_000, 0.0) - 1.0).abs() < 1e-2);
    }
}
