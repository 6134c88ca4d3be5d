//! What this machine can do at best, measured: the ceiling every stage is held against.

use crate::cpu::vectorised;
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// Lanes of one accumulator: two AVX2 registers or one AVX-512 register.
const LANES: usize = 16;
/// Independent chains, enough to hide the latency of a multiply-add and few enough for 16 registers.
const CHAINS: usize = 6;

/// The rate of f32 multiply-adds in registers on all cores, in GFLOP/s (two to each): the best of
/// `runs` runs of about a tenth of a second.
pub fn multiply_add_gflops(runs: usize) -> f64 {
    let threads = rayon::current_num_threads();
    let rounds = 3_000_000_u64;
    let flop = (rounds as usize * threads * LANES * CHAINS * 2) as f64;
    best(runs, || {
        let sum: f32 = (0..threads)
            .into_par_iter()
            .map(|seed| chains(rounds, seed as f32))
            .sum();
        black_box(sum);
    })
    .map_or(0.0, |seconds| flop / seconds / 1e9)
}

fn chains(rounds: u64, seed: f32) -> f32 {
    vectorised(
        #[inline(always)]
        || {
            let mut sums = [[seed; LANES]; CHAINS];
            let (a, b) = (black_box(0.999_9_f32), black_box(1e-4_f32));
            for _ in 0..rounds {
                for chain in &mut sums {
                    for sum in chain {
                        *sum = sum.mul_add(a, b);
                    }
                }
            }
            sums.iter().flatten().sum()
        },
    )
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

    #[test]
    fn the_chains_do_the_work_they_are_counted_for() {
        // One round from 1: 1·0.9999 + 0.0001 = 1 in every lane.
        let sum = chains(1, 1.0);
        assert!((sum - (LANES * CHAINS) as f32).abs() < 1e-3, "{sum}");
        // The fixed point is 1, so many rounds from 0 approach it.
        assert!((chains(200_000, 0.0) / (LANES * CHAINS) as f32 - 1.0).abs() < 1e-2);
    }
}
