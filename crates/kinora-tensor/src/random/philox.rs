//! The generator of training: any draw can be found again from its number.

use super::box_muller::normal_pair;
use crate::cpu::vectorised;
use crate::{Result, Shape, Tensor, storage};
use rayon::prelude::*;

/// Philox4x32 with ten rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
///
/// Word number `p` of a stream is a function of seed, stream and `p` alone: the position is the whole
/// state, so it is all a checkpoint needs, and arrays are filled on all cores with the same result.
#[derive(Clone, Debug)]
pub struct Philox {
    key: [u32; 2],
    stream: u64,
    position: u64,
    /// The four words around `position`, and the number of that block.
    block: (u64, [u32; 4]),
}

/// Draws a task makes.
const DRAWS: usize = 1 << 14;

impl Philox {
    /// Stream number `stream` of `seed`, at its beginning. Streams of a seed are independent.
    pub fn new(seed: u64, stream: u64) -> Self {
        let key = [seed as u32, (seed >> 32) as u32];
        Philox {
            key,
            stream,
            position: 0,
            block: (0, block(key, stream, 0)),
        }
    }

    /// How many 32-bit words have been drawn: a uniform draw takes one, a normal draw two.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Continues as if `position` words had been drawn.
    pub fn set_position(&mut self, position: u64) {
        self.position = position;
    }

    /// The next 32 bits.
    #[inline(always)]
    pub fn next_u32(&mut self) -> u32 {
        let number = self.position / 4;
        if number != self.block.0 {
            self.block = (number, block(self.key, self.stream, number));
        }
        let word = self.block.1[(self.position % 4) as usize];
        self.position = self.position.wrapping_add(1);
        word
    }

    /// A uniform draw from [0, 1), of 24 bits.
    #[inline(always)]
    pub fn next_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// A standard normal draw. Only one of a Box–Muller pair is used: nothing is left over that a
    /// position could not tell.
    #[inline(always)]
    pub fn next_normal(&mut self) -> f32 {
        // All 32 bits of the first word, and never 0: the tail reaches 6.7 deviations.
        let u1 = (self.next_u32() as f32).mul_add(0.5f32.powi(32), 0.5f32.powi(33));
        let u2 = self.next_f32();
        normal_pair(u1, u2)[0]
    }

    /// Standard normal draws: what as many calls of [`Philox::next_normal`] would give.
    ///
    /// # Errors
    /// Never for shapes whose number of elements can be counted.
    pub fn normal(&mut self, shape: impl Into<Shape>) -> Result<Tensor> {
        self.fill(shape.into(), 2, Philox::next_normal)
    }

    /// Uniform draws from [0, 1): what as many calls of [`Philox::next_f32`] would give.
    ///
    /// # Errors
    /// Never for shapes whose number of elements can be counted.
    pub fn uniform(&mut self, shape: impl Into<Shape>) -> Result<Tensor> {
        self.fill(shape.into(), 1, Philox::next_f32)
    }

    /// Draws of `words` words each, on all cores.
    fn fill(
        &mut self,
        shape: Shape,
        words: u64,
        draw: impl Fn(&mut Philox) -> f32 + Sync,
    ) -> Result<Tensor> {
        let mut out = storage::scratch(shape.elements());
        let skip = |draws: usize| self.position.wrapping_add(draws as u64 * words);
        out.par_chunks_mut(DRAWS)
            .enumerate()
            .for_each(|(task, out)| {
                let mut generator = self.clone();
                generator.set_position(skip(task * DRAWS));
                vectorised(
                    #[inline(always)]
                    || out.fill_with(|| draw(&mut generator)),
                );
            });
        self.position = skip(out.len());
        Tensor::from_vec(out, shape)
    }
}

/// Four words from key and counter.
#[inline(always)]
fn block(key: [u32; 2], stream: u64, number: u64) -> [u32; 4] {
    let halves = |x: u64| [x as u32, (x >> 32) as u32];
    let ([a, b], [c, d]) = (halves(number), halves(stream));
    rounds([a, b, c, d], key)
}

#[inline(always)]
fn rounds(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let [mut k, mut l] = key;
    for _ in 0..10 {
        let left = u64::from(a) * 0xd251_1f53;
        let right = u64::from(c) * 0xcd9e_8d57;
        (a, b, c, d) = (
            (right >> 32) as u32 ^ b ^ k,
            right as u32,
            (left >> 32) as u32 ^ d ^ l,
            left as u32,
        );
        k = k.wrapping_add(0x9e37_79b9);
        l = l.wrapping_add(0xbb67_ae85);
    }
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meets_the_published_vectors() {
        // From the authors' Random123 distribution, kat_vectors.
        let known = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in known {
            assert_eq!(rounds(counter, key), expected);
        }
    }

    #[test]
    fn an_array_is_a_row_of_single_draws_wherever_it_begins() -> Result<()> {
        for start in [0, 1, 3, 4_000_000_001] {
            let mut whole = Philox::new(7, 3);
            whole.set_position(start);
            let mut single = whole.clone();
            let array = whole.normal([3, DRAWS])?.to_vec();
            assert!(array.iter().all(|x| *x == single.next_normal()));
            assert_eq!(whole.position(), single.position());
            let array = whole.uniform([17])?.to_vec();
            assert!(array.iter().all(|x| *x == single.next_f32()));
            assert_eq!(whole.position(), start + 6 * DRAWS as u64 + 17);
        }
        Ok(())
    }

    #[test]
    fn continues_from_a_saved_position() -> Result<()> {
        let mut first = Philox::new(1, 2);
        first.normal([101])?;
        first.next_u32();
        let mut again = Philox::new(1, 2);
        again.set_position(first.position());
        assert_eq!(first.normal([50])?.to_vec(), again.normal([50])?.to_vec());
        Ok(())
    }

    #[test]
    fn does_not_depend_on_the_number_of_threads() -> Result<()> {
        let draw = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let draw = || Ok::<_, crate::Error>(Philox::new(5, 0).normal([100_001])?.to_vec());
            pool.unwrap().install(draw)
        };
        assert_eq!(draw(1)?, draw(3)?);
        Ok(())
    }

    /// Mean of `f` over `values`.
    fn mean(values: &[f32], f: impl Fn(f64) -> f64) -> f64 {
        values.iter().map(|v| f(f64::from(*v))).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn normal_draws_have_the_moments_and_tails_of_the_normal_law() -> Result<()> {
        let n = 1_000_000;
        let x = Philox::new(2, 0).normal([n])?.to_vec();
        // Each bound is five standard errors of its estimate.
        let bound = |variance: f64| 5.0 * (variance / n as f64).sqrt();
        assert!(mean(&x, |x| x).abs() < bound(1.0));
        assert!((mean(&x, |x| x * x) - 1.0).abs() < bound(2.0));
        assert!(mean(&x, |x| x.powi(3)).abs() < bound(15.0));
        assert!((mean(&x, |x| x.powi(4)) - 3.0).abs() < bound(96.0));
        for (limit, outside) in [(1.0, 0.317_310_5), (2.0, 0.045_500_3), (3.0, 0.002_699_8)] {
            let found = mean(&x, |x| f64::from(x.abs() > limit));
            assert!((found - outside).abs() < bound(outside * (1.0 - outside)));
        }
        let neighbours: Vec<f32> = x.windows(2).map(|pair| pair[0] * pair[1]).collect();
        assert!(mean(&neighbours, |x| x).abs() < bound(1.0));
        Ok(())
    }

    #[test]
    fn uniform_draws_fill_the_interval_evenly() -> Result<()> {
        let n = 1_000_000;
        let x = Philox::new(3, 0).uniform([n])?.to_vec();
        assert!(x.iter().all(|x| (0.0..1.0).contains(x)));
        let mut counts = [0u32; 100];
        x.iter().for_each(|x| counts[(x * 100.0) as usize] += 1);
        // χ² with 99 degrees of freedom: mean 99, deviation √198.
        let expected = n as f64 / 100.0;
        let chi2: f64 = counts
            .iter()
            .map(|count| (f64::from(*count) - expected).powi(2) / expected)
            .sum();
        assert!((chi2 - 99.0).abs() < 5.0 * 198f64.sqrt(), "{chi2}");
        Ok(())
    }

    #[test]
    fn streams_and_seeds_do_not_repeat_one_another() -> Result<()> {
        let draw = |seed, stream| Philox::new(seed, stream).normal([8]);
        let draws = [
            draw(0, 0)?,
            draw(1, 0)?,
            draw(0, 1)?,
            draw(1 << 32, 0)?,
            draw(0, 1 << 32)?,
        ];
        for (k, a) in draws.iter().enumerate() {
            for b in &draws[..k] {
                assert_ne!(a.to_vec(), b.to_vec());
            }
        }
        Ok(())
    }
}
