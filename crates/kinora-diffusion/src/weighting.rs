//! How much each noise level counts in the loss.

/// The weight of the squared error of the estimate at noise level σ, λ(σ) = (1 + σ²) / σ².
///
/// Blattmann et al. 2023, appendix D.1. It undoes c_out, λ · c_out² = 1, so the weighted error of
/// the estimate is the plain error of v; `loss` uses the latter, which cannot overflow as σ → 0.
pub fn v_weighting(sigma: f32) -> f32 {
    let variance = sigma * sigma;
    (1.0 + variance) / variance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v_scaling;

    #[test]
    fn undoes_the_output_scale() {
        for sigma in [0.002, 0.05, 1.0, 7.0, 700.0] {
            let c_out = v_scaling(sigma).c_out;
            assert!((v_weighting(sigma) * c_out * c_out - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn pure_noise_counts_once() {
        assert!((v_weighting(1e4) - 1.0).abs() < 1e-6);
        assert_eq!(v_weighting(1.0), 2.0);
    }
}
