//! The first values of parameters that no file gives.

use crate::Result;
use kinora_tensor::random::Philox;
use kinora_tensor::{Tensor, ops};

/// The law of a parameter's first values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// All the same.
    Constant(f32),
    /// Normal of mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform between minus and plus this bound.
    Uniform(f32),
    /// What PyTorch gives the weight of a linear layer or a convolution: uniform within
    /// ±1/√fan_in, fan_in being the number of values that lead to one output. A bias has no
    /// fan_in of its own; it takes `Uniform(1.0 / (fan_in as f32).sqrt())`.
    FanIn,
    /// Uniform within ±√(3/fan_in), so that what goes in keeps its variance (LeCun et al. 1998): √3 times as wide as
    /// `FanIn`.
    KeepVariance,
}

/// The first values of the parameter `name`: a pure function of what is given.
///
/// # Errors
/// Never for extents whose number of elements can be counted.
///
/// # Panics
/// When `FanIn` or `KeepVariance` is asked of an array that is not a weight.
pub(crate) fn draw(seed: u64, name: &str, dims: &[usize], init: Init) -> Result<Tensor> {
    let mut random = Philox::new(seed, name_hash(name));
    Ok(match init {
        Init::Zeros => Tensor::zeros(dims),
        Init::Ones => Tensor::full(1.0, dims),
        Init::Constant(value) => Tensor::full(value, dims),
        Init::Normal(std) => ops::scale(&random.normal(dims)?, std)?,
        Init::Uniform(bound) => ops::affine(&random.uniform(dims)?, 2.0 * bound, -bound)?,
        Init::FanIn | Init::KeepVariance => {
            assert!(dims.len() > 1, "`{name}` {dims:?} has no fan_in");
            let fan_in: usize = dims[1..].iter().product();
            let squared = if init == Init::FanIn { 1.0 } else { 3.0 };
            let bound = (squared / fan_in as f32).sqrt();
            ops::affine(&random.uniform(dims)?, 2.0 * bound, -bound)?
        }
    })
}

/// FNV-1a: the same on every machine and in every release, which the standard library's is not.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::Init;

    fn draw(seed: u64, name: &str, dims: &[usize], init: Init) -> Vec<f32> {
        super::draw(seed, name, dims, init).unwrap().to_vec()
    }

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let squares = values.iter().map(|v| (f64::from(*v) - mean).powi(2));
        (mean, (squares.sum::<f64>() / n).sqrt())
    }

    #[test]
    fn normal_draws_have_their_mean_and_deviation() {
        let (mean, std) = moments(&draw(1, "w", &[200_000], Init::Normal(0.5)));
        assert!(mean.abs() < 5e-3, "{mean}");
        assert!((std - 0.5).abs() < 5e-3, "{std}");
    }

    #[test]
    fn fan_in_draws_fill_their_bound() {
        let values = draw(1, "w", &[64, 3, 3, 32], Init::FanIn); // fan_in 3·3·32
        let bound = 1.0 / (3.0 * 3.0 * 32.0f32).sqrt();
        let widest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(widest <= bound && widest > 0.999 * bound);
        let (mean, std) = moments(&values);
        assert!(mean.abs() < 0.02 * f64::from(bound));
        assert!((std / (f64::from(bound) / 3f64.sqrt()) - 1.0).abs() < 0.02);
    }

    #[test]
    fn draws_that_keep_the_variance_have_one_over_fan_in_of_it() {
        let values = draw(1, "w", &[64, 3, 3, 32], Init::KeepVariance);
        let (mean, std) = moments(&values);
        assert!(mean.abs() < 1e-3, "{mean}");
        assert!((std * 288f64.sqrt() - 1.0).abs() < 0.02, "{std}");
    }

    #[test]
    fn a_draw_depends_on_the_seed_and_the_name_alone() {
        let values = |seed, name| draw(seed, name, &[50_000], Init::Normal(1.0));
        assert_eq!(values(1, "a"), values(1, "a"));
        assert_ne!(values(1, "a"), values(2, "a"));
        assert_ne!(values(1, "a"), values(1, "b"));
    }

    #[test]
    #[should_panic(expected = "`bias` [3] has no fan_in")]
    fn a_bias_has_no_fan_in() {
        draw(0, "bias", &[3], Init::FanIn);
    }
}
