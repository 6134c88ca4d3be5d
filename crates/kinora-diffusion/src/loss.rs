//! The loss of one batch of clips, each under one noise level.

use crate::{Error, Result, v_scaling};
use kinora_tensor::{DType, Tensor, ops};

/// What the network is shown and what it should answer.
#[derive(Clone, Debug)]
pub struct Noised {
    /// c_in · (clean + σ · noise), of the clips' shape.
    pub input: Tensor,
    /// ¼ ln σ of each clip.
    pub c_noise: Vec<f32>,
    /// v = (noise − σ · clean) / √(σ² + 1), of the clips' shape.
    pub target: Tensor,
}

impl Noised {
    /// Noises each clip to its own level.
    ///
    /// The noise is plain: the published models dropped offset noise for noise levels high enough
    /// to hide the mean of a picture.
    ///
    /// # Shapes
    /// `clean` and `noise` are [b, ..], of one shape; `sigmas` has b entries, one for all frames
    /// of a clip.
    ///
    /// # Errors
    /// When the shapes differ or the sigmas are not one for each clip.
    pub fn new(clean: &Tensor, noise: &Tensor, sigmas: &[f32]) -> Result<Self> {
        let clips = clean.dims().first().copied().unwrap_or(0);
        if sigmas.len() != clips {
            return Err(Error::SigmaCount {
                what: "noising",
                clips,
                sigmas: sigmas.len(),
            });
        }
        // c_in · σ and c_in are the sine and cosine of one angle: v turns with it.
        let cosine = |sigma: f32| v_scaling(sigma).c_in;
        let sine = |sigma: f32| -v_scaling(sigma).c_out;
        let input = ops::add(
            &times_each(clean, sigmas, cosine)?,
            &times_each(noise, sigmas, sine)?,
        )?;
        let target = ops::sub(
            &times_each(noise, sigmas, cosine)?,
            &times_each(clean, sigmas, sine)?,
        )?;
        Ok(Noised {
            input,
            c_noise: sigmas.iter().map(|s| v_scaling(*s).c_noise).collect(),
            target,
        })
    }
}

/// The mean squared error of v over a batch, `[1]`.
///
/// Equal to the mean of λ(σ) · (D − clean)², since λ · c_out² = 1 (see `v_weighting`). `network`
/// gets the scaled input and the noise labels; whatever else conditions it, its closure adds. The error
/// is taken in f32 where the answer lies, whatever type it is in.
///
/// # Shapes
/// `clean` and `noise` are [b, ..], `sigmas` has b entries; the network returns the clips' shape.
///
/// # Errors
/// When the shapes differ, the sigmas are not one for each clip, or the network fails.
pub fn denoising_loss<E: From<Error>>(
    network: impl FnOnce(&Tensor, &[f32]) -> std::result::Result<Tensor, E>,
    clean: &Tensor,
    noise: &Tensor,
    sigmas: &[f32],
) -> std::result::Result<Tensor, E> {
    let noised = Noised::new(clean, noise, sigmas)?;
    let output = network(&noised.input, &noised.c_noise)?;
    Ok(error_of(&output, &noised.target)?)
}

fn error_of(output: &Tensor, target: &Tensor) -> Result<Tensor> {
    let output = ops::convert(output, DType::F32)?;
    Ok(ops::mse(&output, &target.to_device(output.device())?)?)
}

/// Each clip times its own factor of σ.
fn times_each(clips: &Tensor, sigmas: &[f32], factor: impl Fn(f32) -> f32) -> Result<Tensor> {
    let mut dims = vec![1; clips.dims().len()];
    dims[0] = sigmas.len();
    let factors = Tensor::from_vec(sigmas.iter().map(|s| factor(*s)).collect(), dims)?;
    Ok(ops::mul_broadcast(clips, &factors)?) // [b, 1, ..] over [b, ..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v_weighting;
    use kinora_tensor::testing::{assert_close, numbers};

    const SIGMAS: [f32; 3] = [0.05, 1.0, 20.0];

    #[test]
    fn equals_the_weighted_error_of_the_estimate() -> Result<()> {
        let (clean, noise) = (numbers([3, 2, 4], 1), numbers([3, 2, 4], 2));
        let output = numbers([3, 2, 4], 3);
        let found = denoising_loss(
            |_, _| Ok::<_, Error>(output.clone()),
            &clean,
            &noise,
            &SIGMAS,
        )?;

        let (clean, noise, output) = (clean.to_vec(), noise.to_vec(), output.to_vec());
        let mut expected = 0.0;
        for k in 0..24 {
            let sigma = SIGMAS[k / 8];
            let scaling = v_scaling(sigma);
            let noised = clean[k] + sigma * noise[k];
            let estimate = scaling.c_skip * noised + scaling.c_out * output[k];
            expected += v_weighting(sigma) * (estimate - clean[k]).powi(2) / 24.0;
        }
        assert_close(&found.to_vec(), &[expected], 1e-4);
        Ok(())
    }

    #[test]
    fn is_zero_for_the_network_that_knows_v() -> Result<()> {
        let (clean, noise) = (numbers([3, 5], 1), numbers([3, 5], 2));
        let target = Noised::new(&clean, &noise, &SIGMAS)?.target;
        let found = denoising_loss(|_, _| Ok::<_, Error>(target), &clean, &noise, &SIGMAS)?;
        assert_eq!(found.to_vec(), [0.0]);
        Ok(())
    }

    #[test]
    fn shows_the_network_the_noised_clip_under_its_label() -> Result<()> {
        let (clean, noise) = (numbers([3, 5], 1), numbers([3, 5], 2));
        let noised = Noised::new(&clean, &noise, &SIGMAS)?;
        let (clean, noise) = (clean.to_vec(), noise.to_vec());
        let expected: Vec<f32> = (0..15)
            .map(|k| v_scaling(SIGMAS[k / 5]).c_in * (clean[k] + SIGMAS[k / 5] * noise[k]))
            .collect();
        assert_close(&noised.input.to_vec(), &expected, 1e-6);
        assert_eq!(noised.c_noise, SIGMAS.map(|sigma| 0.25 * sigma.ln()));
        Ok(())
    }

    #[test]
    fn refuses_a_sigma_too_few() {
        let x = numbers([3, 5], 1);
        let error = Noised::new(&x, &x, &[1.0, 2.0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "noising: expected one sigma for each of the 3 clips, found 2"
        );
    }
}
