//! The law from which training draws noise levels.

use kinora_tensor::random::Philox;

/// ln σ ~ N(`mean`, `std`²), one draw for each clip.
///
/// Karras et al. 2022, table 1; the two numbers of every training stage of Stable Video Diffusion
/// are in Blattmann et al. 2023, appendices D.2 to D.6. They move up with resolution, since a larger
/// picture keeps more of itself under the same noise: from (−1.2, 1) at 256×384 to (1, 1.6) at
/// 576×1024.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogNormal {
    /// Mean of ln σ.
    pub mean: f32,
    /// Standard deviation of ln σ.
    pub std: f32,
}

impl LogNormal {
    /// The noise level of one clip, all of its frames alike.
    pub fn sample(&self, random: &mut Philox) -> f32 {
        (self.mean + self.std * random.next_normal()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_has_the_given_mean_and_deviation() {
        let law = LogNormal {
            mean: 0.7,
            std: 1.6,
        };
        let mut random = Philox::new(3, 0);
        const N: usize = 40_000;
        let logs: Vec<f64> = (0..N)
            .map(|_| f64::from(law.sample(&mut random).ln()))
            .collect();
        let mean = logs.iter().sum::<f64>() / N as f64;
        let variance = logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / N as f64;
        // Five standard errors of each estimate.
        assert!((mean - 0.7).abs() < 0.04, "{mean}");
        assert!((variance.sqrt() - 1.6).abs() < 0.03, "{variance}");
    }

    #[test]
    fn without_spread_every_clip_gets_the_median() {
        let law = LogNormal {
            mean: -1.2,
            std: 0.0,
        };
        let mut random = Philox::new(3, 0);
        assert_eq!(law.sample(&mut random), (-1.2_f32).exp());
    }
}
