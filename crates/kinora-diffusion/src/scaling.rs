//! The preconditioner: what stands around the network so that it sees unit variance and predicts v.

use crate::Result;
use kinora_tensor::{Tensor, ops};

/// The four letters around a network F:
/// D(x; σ) = `c_skip` · x + `c_out` · F(`c_in` · x; `c_noise`).
///
/// Karras et al. 2022, equation 7.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    /// Weight of the noised input in the estimate.
    pub c_skip: f32,
    /// Weight of the network's output in the estimate.
    pub c_out: f32,
    /// Factor on the network's input.
    pub c_in: f32,
    /// The noise level as the network is told it.
    pub c_noise: f32,
}

/// The scaling of Stable Video Diffusion: EDM's with data of unit variance and the output's sign
/// turned, so that the network predicts v (Salimans and Ho 2022), with EDM's noise label.
///
/// Blattmann et al. 2023, appendix D.1: c_skip = 1/(σ²+1), c_out = −σ/√(σ²+1), c_in = 1/√(σ²+1),
/// c_noise = ¼ ln σ.
pub fn v_scaling(sigma: f32) -> Scaling {
    let variance = sigma * sigma + 1.0;
    let deviation = variance.sqrt();
    Scaling {
        c_skip: 1.0 / variance,
        c_out: -sigma / deviation,
        c_in: 1.0 / deviation,
        c_noise: 0.25 * sigma.ln(),
    }
}

impl Scaling {
    /// The network's input, c_in · x, where x is the noised clip.
    ///
    /// # Errors
    /// When `noised` is not f32.
    pub fn input(&self, noised: &Tensor) -> Result<Tensor> {
        Ok(ops::scale(noised, self.c_in)?)
    }

    /// The estimate of the data, c_skip · x + c_out · F.
    ///
    /// # Shapes
    /// `noised` and `output` are of one shape, and so is the result.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn denoised(&self, noised: &Tensor, output: &Tensor) -> Result<Tensor> {
        let skipped = ops::scale(noised, self.c_skip)?;
        Ok(ops::add(&skipped, &ops::scale(output, self.c_out)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::testing::{assert_close, numbers};

    #[test]
    fn without_noise_the_input_is_the_data() {
        let scaling = v_scaling(1e-6);
        assert_eq!((scaling.c_skip, scaling.c_in), (1.0, 1.0));
        assert_eq!(scaling.c_out, -1e-6);
    }

    #[test]
    fn in_pure_noise_the_network_predicts_the_negated_data() {
        let scaling = v_scaling(1e6);
        assert!(scaling.c_skip < 1e-11);
        assert!((scaling.c_out + 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_input_has_unit_variance() {
        // Data of variance 1 under noise of variance σ²: c_in² (1 + σ²) = 1.
        for sigma in [0.002, 0.1, 1.0, 3.0, 700.0] {
            let c_in = v_scaling(sigma).c_in;
            assert!((c_in * c_in * (1.0 + sigma * sigma) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn the_noise_label_is_a_quarter_of_the_logarithm() {
        assert_eq!(v_scaling(1.0).c_noise, 0.0);
        assert!((v_scaling(700.0).c_noise - 1.63777).abs() < 1e-5);
        assert!((v_scaling(0.002).c_noise + 1.55365).abs() < 1e-5);
    }

    #[test]
    fn a_network_that_knows_v_gives_the_data_back() -> Result<()> {
        let (clean, noise) = (numbers([2, 3], 1), numbers([2, 3], 2));
        for sigma in [0.01_f32, 1.0, 50.0] {
            let noised = ops::add(&clean, &ops::scale(&noise, sigma)?)?;
            let deviation = (sigma * sigma + 1.0).sqrt();
            let v = ops::sub(
                &ops::scale(&noise, 1.0 / deviation)?,
                &ops::scale(&clean, sigma / deviation)?,
            )?;
            let found = v_scaling(sigma).denoised(&noised, &v)?;
            assert_close(&found.to_vec(), &clean.to_vec(), 2e-5);
        }
        Ok(())
    }
}
