//! The noise levels a sampler walks down.

/// `n` noise levels from `sigma_max` down to `sigma_min`, evenly spaced in σ^(1/ρ), then zero.
///
/// Karras et al. 2022, equation 5. Computed in f64 and rounded once, so the f32 values are those
/// of diffusers. With n = 1 there is only `sigma_max`, then zero.
pub fn karras(n: usize, sigma_min: f64, sigma_max: f64, rho: f64) -> Vec<f32> {
    let (first, last) = (sigma_max.powf(1.0 / rho), sigma_min.powf(1.0 / rho));
    // The ramp multiplies by the rounded step instead of dividing each index, as numpy does.
    let step = 1.0 / (n.max(2) - 1) as f64;
    let ramp = |i: usize| {
        if i > 0 && i == n - 1 {
            1.0
        } else {
            i as f64 * step
        }
    };
    (0..n)
        .map(|i| (first + ramp(i) * (last - first)).powf(rho) as f32)
        .chain([0.0])
        .collect()
}

/// The standard deviation of a clip at the first noise level, data of unit variance included:
/// √(σ² + 1). Standard normal draws times this are where sampling starts.
pub fn initial_deviation(sigma_max: f32) -> f32 {
    (sigma_max * sigma_max + 1.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published sampler: 700 → 0.002, ρ = 7.
    fn svd(n: usize) -> Vec<f32> {
        karras(n, 0.002, 700.0, 7.0)
    }

    #[test]
    fn begins_and_ends_where_told_and_falls() {
        for n in [2, 3, 25, 100] {
            let sigmas = svd(n);
            assert_eq!(sigmas.len(), n + 1);
            assert!((sigmas[0] - 700.0).abs() < 1e-3);
            assert!((sigmas[n - 1] - 0.002).abs() < 1e-8);
            assert_eq!(sigmas[n], 0.0);
            assert!(sigmas.windows(2).all(|pair| pair[1] < pair[0]));
        }
        assert_eq!(svd(1).len(), 2);
        assert_eq!(svd(0), [0.0]);
    }

    #[test]
    fn rho_one_is_a_straight_line() {
        let sigmas = karras(5, 1.0, 9.0, 1.0);
        assert_eq!(sigmas, [9.0, 7.0, 5.0, 3.0, 1.0, 0.0]);
    }

    #[test]
    fn gives_the_known_values_of_25_steps() {
        let known = [
            700.0, 545.729, 421.569, 322.454, 244.023, 182.547, 134.854, 98.2671, 70.5408, 49.8098,
            34.5367, 23.4675, 15.59, 10.0971, 6.35427, 3.8697, 2.26912, 1.27318, 0.678146,
            0.339378, 0.157405, 0.0663991, 0.0248026, 0.0078825, 0.002, 0.0,
        ];
        for (found, known) in svd(25).iter().zip(known) {
            assert!((found - known).abs() <= 5e-6 * known, "{found} {known}");
        }
    }

    #[test]
    fn gives_the_known_values_of_30_steps() {
        let known = [
            700.0, 570.027, 461.313, 370.878, 296.086, 234.613, 184.421, 143.729, 110.989, 84.8619,
            64.1942, 48.0003, 35.4422, 25.8125, 18.5185, 13.0677, 9.05426, 6.14739, 4.08018,
            2.63993, 1.65944, 1.00925, 0.5909, 0.330954, 0.175904, 0.0878048, 0.0405951, 0.017056,
            0.00633785, 0.002, 0.0,
        ];
        for (found, known) in svd(30).iter().zip(known) {
            assert!((found - known).abs() <= 5e-6 * known, "{found} {known}");
        }
    }

    #[test]
    fn starts_a_little_wider_than_sigma_max() {
        assert!((initial_deviation(700.0) - 700.000_7).abs() < 1e-4);
        assert_eq!(initial_deviation(0.0), 1.0);
    }
}
