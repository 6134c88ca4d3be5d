//! Random numbers that depend on nothing but a seed, a stream and how many were drawn.

/// A counter run through the mixing function of SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Random {
    key: u64,
    drawn: u64,
}

/// The golden ratio in 64 bits: successive multiples are far apart.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Random {
    /// The numbers of one stream of a seed.
    pub fn new(seed: u64, stream: u64) -> Random {
        Random {
            key: mixed(seed ^ mixed(stream.wrapping_add(STEP))),
            drawn: 0,
        }
    }

    fn next(&mut self) -> u64 {
        self.drawn += 1;
        mixed(self.key.wrapping_add(self.drawn.wrapping_mul(STEP)))
    }

    /// Uniform from `low` up to `high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1u64 << 24) as f32;
        low + unit * (high - low)
    }

    /// One of `count` numbers from zero.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    /// One of two.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_even_repeatable_and_apart() {
        let draw = |seed, stream| -> Vec<f32> {
            let mut random = Random::new(seed, stream);
            (0..2000).map(|_| random.between(0.0, 1.0)).collect()
        };
        let draws = draw(1, 2);
        assert_eq!(draws, draw(1, 2));
        assert!(draws != draw(1, 3) && draws != draw(2, 2));
        let mean: f32 = draws.iter().sum::<f32>() / 2000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert!(draws.iter().all(|value| (0.0..1.0).contains(value)));
        let mut random = Random::new(0, 0);
        assert!((0..500).map(|_| random.below(3)).all(|value| value < 3));
    }
}
