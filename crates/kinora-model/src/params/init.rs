//! The first values of parameters that no file gives.

use rayon::prelude::*;

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
}

/// The first values of the parameter `name`: a pure function of what is given.
///
/// # Panics
/// When `FanIn` is asked of an array that is not a weight.
pub(crate) fn draw(seed: u64, name: &str, dims: &[usize], init: Init) -> Vec<f32> {
    let count = dims.iter().product();
    match init {
        Init::Zeros => vec![0.0; count],
        Init::Ones => vec![1.0; count],
        Init::Constant(value) => vec![value; count],
        Init::Normal(std) => each(count, seed, name, |a, b| std * normal(a, b)),
        Init::Uniform(bound) => each(count, seed, name, |a, _| bound * (2.0 * a - 1.0)),
        Init::FanIn => {
            assert!(dims.len() > 1, "`{name}` {dims:?} has no fan_in");
            let fan_in: usize = dims[1..].iter().product();
            let bound = 1.0 / (fan_in as f32).sqrt();
            each(count, seed, name, |a, _| bound * (2.0 * a - 1.0))
        }
    }
}

/// Values made each from two uniform numbers in [0, 1), on all cores: the number of cores changes
/// nothing because each value's numbers depend on its place alone.
fn each(count: usize, seed: u64, name: &str, law: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    let stream = mix(seed ^ mix(name_hash(name)));
    let unit = |bits: u64| (bits >> 8) as f32 / (1 << 24) as f32;
    (0..count)
        .into_par_iter()
        .with_min_len(1 << 14)
        .map(|place| {
            let bits = mix(stream.wrapping_add(place as u64));
            law(unit(bits >> 32), unit(bits & 0xFFFF_FFFF))
        })
        .collect()
}

/// A standard normal number from two uniform ones, by Box and Muller.
fn normal(a: f32, b: f32) -> f32 {
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f32::consts::TAU * b).cos()
}

/// FNV-1a: the same on every machine and in every release, which the standard library's is not.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// The finisher of splitmix64: neighbouring numbers come out unrelated.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

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
