//! PyTorch's CPU generator, so that a seed means here what it means in diffusers.

use super::box_muller::normal_pair;
use crate::cpu::vectorised;
use crate::{Result, Shape, Tensor, storage};

/// Words of the Mersenne twister's state.
const WORDS: usize = 624;
/// Distance of the words that are mixed.
const MIDDLE: usize = 397;
/// Normal draws made together from as many uniform ones: eight pairs.
const BLOCK: usize = 16;

/// `torch.Generator("cpu").manual_seed(seed)`: the Mersenne twister MT19937 (Matsumoto and Nishimura
/// 1998) and, on top of it, the uniform and normal draws of `torch.rand` and `torch.randn` in f32.
///
/// Equal bit by bit to PyTorch on x86 with AVX2, calls of different sizes in any order included.
#[derive(Clone)]
pub struct TorchCpu {
    state: [u32; WORDS],
    next: usize,
    /// The second half of a pair drawn by a short call, used up by the next short call.
    kept: Option<f64>,
}

impl TorchCpu {
    /// A generator seeded as PyTorch seeds it: by the low 32 bits of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut state = [0; WORDS];
        state[0] = seed as u32;
        for k in 1..WORDS {
            let last: u32 = state[k - 1];
            state[k] = (last ^ (last >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(k as u32);
        }
        TorchCpu {
            state,
            next: WORDS,
            kept: None,
        }
    }

    /// Standard normal draws, as `torch.randn(shape, generator=…)`.
    ///
    /// # Errors
    /// Never for shapes whose number of elements can be counted.
    pub fn randn(&mut self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        let mut out = storage::scratch(shape.elements());
        if out.len() < BLOCK {
            out.fill_with(|| self.normal() as f32);
        } else {
            self.fill_normal(&mut out);
        }
        Tensor::from_vec(out, shape)
    }

    /// Uniform draws from [0, 1), as `torch.rand(shape, generator=…)`.
    ///
    /// # Errors
    /// Never for shapes whose number of elements can be counted.
    pub fn rand(&mut self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        let mut out = storage::scratch(shape.elements());
        out.fill_with(|| self.uniform());
        Tensor::from_vec(out, shape)
    }

    /// The long path: uniform draws everywhere, turned into normal ones sixteen at a time. Where the
    /// length is no multiple of sixteen the last sixteen places are drawn afresh.
    fn fill_normal(&mut self, out: &mut [f32]) {
        out.fill_with(|| self.uniform());
        let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
        vectorised(
            #[inline(always)]
            || blocks.iter_mut().for_each(normal_block),
        );
        if !rest.is_empty() {
            let last = out.last_chunk_mut::<BLOCK>().expect("at least one block");
            last.fill_with(|| self.uniform());
            normal_block(last);
        }
    }

    /// The short path: pairs in double precision, one half kept for the next draw.
    fn normal(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        let (u1, u2) = (self.uniform_double(), self.uniform_double());
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let angle = 2.0 * std::f64::consts::PI * u1;
        self.kept = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// 24 bits in [0, 1).
    fn uniform(&mut self) -> f32 {
        (self.word() & 0x00ff_ffff) as f32 / (1 << 24) as f32
    }

    /// 53 bits in [0, 1), the first word being the upper.
    fn uniform_double(&mut self) -> f64 {
        let word = u64::from(self.word()) << 32 | u64::from(self.word());
        (word & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            self.twist();
        }
        let y = self.state[self.next];
        self.next += 1;
        let y = y ^ (y >> 11);
        let y = y ^ ((y << 7) & 0x9d2c_5680);
        let y = y ^ ((y << 15) & 0xefc6_0000);
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for k in 0..WORDS {
            let (this, after) = (self.state[k], self.state[(k + 1) % WORDS]);
            let joined = (this & 0x8000_0000) | (after & 0x7fff_ffff);
            let mixed = (joined >> 1) ^ if after & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[k] = self.state[(k + MIDDLE) % WORDS] ^ mixed;
        }
        self.next = 0;
    }
}

/// Eight uniform draws and the eight after them become eight normal pairs.
#[inline(always)]
fn normal_block(block: &mut [f32; BLOCK]) {
    for k in 0..BLOCK / 2 {
        let pair = normal_pair(1.0 - block[k], block[k + BLOCK / 2]);
        [block[k], block[k + BLOCK / 2]] = pair;
    }
}

impl std::fmt::Debug for TorchCpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TorchCpu(word {} of {WORDS})", self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    #[test]
    fn the_twister_gives_its_published_numbers() {
        // The C++ standard, [rand.predef]: the 10000th word of the default seed.
        let mut generator = TorchCpu::new(5489);
        let word = (0..10_000).map(|_| generator.word()).last();
        assert_eq!(word, Some(4_123_659_995));
    }

    #[test]
    fn repeats_pytorch_bit_for_bit() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fixtures/torch_random/draws.safetensors"
        );
        let bytes = std::fs::read(path).unwrap();
        let draws = SafeTensors::deserialize(&bytes).unwrap();
        let mut names = draws.names();
        names.sort_unstable();
        let mut sequence: Option<(&str, TorchCpu)> = None;
        for name in &names {
            let words: Vec<&str> = name.split('/').collect();
            let fresh = || TorchCpu::new(words[1].parse().unwrap());
            let size: usize = words.last().unwrap().parse().unwrap();
            let mut generator = match sequence.take() {
                Some((seed, generator)) if words[0] == "sequence" && seed == words[1] => generator,
                _ => fresh(),
            };
            let found = match words[..] {
                ["sequence", _, _, "rand", _] => generator.rand([size]),
                _ => generator.randn([size]),
            };
            let bits = found.unwrap().to_le_bytes();
            assert!(bits == draws.tensor(name).unwrap().data(), "{name}");
            if words[0] == "sequence" {
                sequence = Some((words[1], generator));
            }
        }
        assert_eq!(names.len(), 4 * (8 + 12));
    }

    #[test]
    fn only_the_low_half_of_a_seed_counts() -> Result<()> {
        let draw = |seed| Ok::<_, crate::Error>(TorchCpu::new(seed).randn([20])?.to_vec());
        assert_eq!(draw(5)?, draw((1 << 33) + 5)?);
        assert_ne!(draw(5)?, draw(6)?);
        Ok(())
    }
}
