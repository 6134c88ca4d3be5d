//! Samplers: ways down the probability-flow ODE, dx/dσ = (x − D(x; σ)) / σ, from noise to data.
//!
//! Each is a function of a denoiser D, the noise to begin with, the noise levels and an observer.
//! The state is f32 throughout: σ falls by five orders of magnitude, and sixteen bits lose the
//! picture on the way.

use crate::{Error, Result};
use kinora_tensor::random::Philox;
use kinora_tensor::{Device, Tensor, ops};
use std::ops::ControlFlow;

/// D(x; σ), the estimate of the data behind `x` at noise level σ. `E` is the network's own error.
pub type Denoise<'a, E> = dyn FnMut(&Tensor, f32) -> std::result::Result<Tensor, E> + 'a;

/// Looks at every step as it is done; `Break` ends the walk with `Error::Stopped`.
pub type Observer<'a> = dyn FnMut(&Step<'_>) -> ControlFlow<()> + 'a;

/// What an observer sees of a step.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Steps done, this one included.
    pub done: usize,
    /// Steps there will be.
    pub steps: usize,
    /// The noise level the step began at.
    pub sigma: f32,
    /// The state after the step.
    pub x: &'a Tensor,
    /// The estimate of the data the step was built on.
    pub denoised: &'a Tensor,
}

/// The samplers by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampler {
    /// First order, one evaluation a step; what Stable Video Diffusion was published with.
    #[default]
    Euler,
    /// Second order, two evaluations a step.
    Heun,
    /// Second order, one evaluation a step.
    DpmPp2M,
}

impl Sampler {
    /// Walks from `x` down the noise levels.
    ///
    /// # Errors
    /// When the levels do not fall, the observer stops, or the denoiser fails.
    pub fn run<E: From<Error>>(
        self,
        denoise: &mut Denoise<'_, E>,
        x: Tensor,
        sigmas: &[f32],
        observer: &mut Observer<'_>,
    ) -> std::result::Result<Tensor, E> {
        match self {
            Sampler::Euler => euler(denoise, x, sigmas, observer),
            Sampler::Heun => heun(denoise, x, sigmas, observer),
            Sampler::DpmPp2M => dpmpp_2m(denoise, x, sigmas, observer),
        }
    }

    /// How often the denoiser is asked in `steps` steps that end at zero.
    pub fn evaluations(self, steps: usize) -> usize {
        match self {
            Sampler::Euler | Sampler::DpmPp2M => steps,
            Sampler::Heun => (2 * steps).saturating_sub(1),
        }
    }
}

/// Noise put back at each step, so that later steps can correct earlier ones.
///
/// Karras et al. 2022, algorithm 2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// How much of the noise level is added, summed over the steps.
    pub s_churn: f32,
    /// Lowest noise level at which noise is added.
    pub s_tmin: f32,
    /// Highest noise level at which noise is added.
    pub s_tmax: f32,
    /// Standard deviation of the added noise; a little over 1 makes up for lost detail.
    pub s_noise: f32,
}

impl Churn {
    /// No noise: the deterministic sampler.
    pub const NONE: Churn = Churn {
        s_churn: 0.0,
        s_tmin: 0.0,
        s_tmax: f32::INFINITY,
        s_noise: 1.0,
    };

    /// By what share σ is raised at a step.
    fn gamma(&self, sigma: f32, steps: usize) -> f32 {
        if (self.s_tmin..=self.s_tmax).contains(&sigma) {
            (self.s_churn / steps as f32).min(std::f32::consts::SQRT_2 - 1.0)
        } else {
            0.0
        }
    }
}

/// Euler's method.
///
/// Karras et al. 2022, algorithm 1 without its correction; what the published model is sampled
/// with. Each step goes straight along the line from x to its estimate.
///
/// # Errors
/// When the levels do not fall, the observer stops, or the denoiser fails.
pub fn euler<E: From<Error>>(
    denoise: &mut Denoise<'_, E>,
    x: Tensor,
    sigmas: &[f32],
    observer: &mut Observer<'_>,
) -> std::result::Result<Tensor, E> {
    // Without churn nothing is ever drawn, so any generator will do.
    let mut unused = Philox::new(0, 0);
    euler_churned(denoise, x, sigmas, observer, &Churn::NONE, &mut unused)
}

/// Euler's method with noise put back before each step.
///
/// Karras et al. 2022, algorithm 2 without its correction. The denoiser sees the raised state at
/// the raised level.
///
/// # Errors
/// When the levels do not fall, the observer stops, or the denoiser fails.
pub fn euler_churned<E: From<Error>>(
    denoise: &mut Denoise<'_, E>,
    mut x: Tensor,
    sigmas: &[f32],
    observer: &mut Observer<'_>,
    churn: &Churn,
    random: &mut Philox,
) -> std::result::Result<Tensor, E> {
    let steps = count_steps(sigmas)?;
    for i in 0..steps {
        let gamma = churn.gamma(sigmas[i], steps);
        let raised = sigmas[i] * (gamma + 1.0);
        if gamma > 0.0 {
            x = noised(&x, sigmas[i], raised, churn.s_noise, random)?;
        }
        let denoised = denoise(&x, raised)?;
        let slope = slope(&x, &denoised, raised)?;
        x = along(&x, &slope, sigmas[i + 1] - raised)?;
        report(observer, i, sigmas, &x, &denoised)?;
    }
    Ok(x)
}

/// Heun's method: an Euler step, then again with the mean of the slopes at both its ends.
///
/// Karras et al. 2022, algorithm 1. The step to zero has no slope at its end and stays Euler's.
///
/// # Errors
/// When the levels do not fall, the observer stops, or the denoiser fails.
pub fn heun<E: From<Error>>(
    denoise: &mut Denoise<'_, E>,
    mut x: Tensor,
    sigmas: &[f32],
    observer: &mut Observer<'_>,
) -> std::result::Result<Tensor, E> {
    let steps = count_steps(sigmas)?;
    for i in 0..steps {
        let (sigma, next) = (sigmas[i], sigmas[i + 1]);
        let denoised = denoise(&x, sigma)?;
        let here = slope(&x, &denoised, sigma)?;
        let mut reached = along(&x, &here, next - sigma)?;
        if next > 0.0 {
            let there = slope(&reached, &denoise(&reached, next)?, next)?;
            reached = along(&x, &mean(&here, &there)?, next - sigma)?;
        }
        x = reached;
        report(observer, i, sigmas, &x, &denoised)?;
    }
    Ok(x)
}

/// DPM-Solver++(2M): exact in the linear part of the ODE, and the estimate continued along the
/// line through this step's and the last one's.
///
/// Lu et al. 2022, algorithm 2, in the data's own scale (α = 1, λ = −ln σ). The first step and the
/// step to zero are of first order.
///
/// # Errors
/// When the levels do not fall, the observer stops, or the denoiser fails.
pub fn dpmpp_2m<E: From<Error>>(
    denoise: &mut Denoise<'_, E>,
    mut x: Tensor,
    sigmas: &[f32],
    observer: &mut Observer<'_>,
) -> std::result::Result<Tensor, E> {
    let steps = count_steps(sigmas)?;
    let mut last: Option<Tensor> = None;
    for i in 0..steps {
        let (sigma, next) = (sigmas[i], sigmas[i + 1]);
        let denoised = denoise(&x, sigma)?;
        let estimate = match &last {
            Some(last) if next > 0.0 => {
                let ratio = (sigmas[i - 1] / sigma).ln() / (sigma / next).ln();
                continued(last, &denoised, 0.5 / ratio)?
            }
            _ => denoised.clone(),
        };
        x = weighted(&x, next / sigma, &estimate, 1.0 - next / sigma)?;
        report(observer, i, sigmas, &x, &denoised)?;
        last = Some(denoised);
    }
    Ok(x)
}

/// The number of steps between the levels, which must fall and not go below zero.
fn count_steps(sigmas: &[f32]) -> Result<usize> {
    let falls = sigmas.windows(2).all(|pair| pair[0] > pair[1]);
    let ends = sigmas.last().is_some_and(|last| *last >= 0.0);
    if sigmas.len() < 2 || !falls || !ends {
        return Err(Error::Schedule {
            found: sigmas.to_vec(),
        });
    }
    Ok(sigmas.len() - 1)
}

fn report(
    observer: &mut Observer<'_>,
    i: usize,
    sigmas: &[f32],
    x: &Tensor,
    denoised: &Tensor,
) -> Result<()> {
    let (done, steps) = (i + 1, sigmas.len() - 1);
    let step = Step {
        done,
        steps,
        sigma: sigmas[i],
        x,
        denoised,
    };
    match observer(&step) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Stopped { done, steps }),
    }
}

/// dx/dσ = (x − D) / σ.
///
/// Divided, not multiplied by 1/σ: x is as large as σ, and the step takes most of it away again, so
/// the last bits of this are seen in the picture, and these are diffusers' own.
fn slope(x: &Tensor, denoised: &Tensor, sigma: f32) -> Result<Tensor> {
    let away = ops::sub(x, denoised)?;
    if away.device() != Device::Cpu {
        // A card's products add up in another order anyway, which is more than this last bit.
        return Ok(ops::scale(&away, 1.0 / sigma)?);
    }
    let slopes = away.as_f32()?.iter().map(|away| away / sigma);
    Ok(Tensor::from_vec(slopes.collect(), x.shape())?)
}

/// x + slope · dσ.
fn along(x: &Tensor, slope: &Tensor, d_sigma: f32) -> Result<Tensor> {
    Ok(ops::add(x, &ops::scale(slope, d_sigma)?)?)
}

fn mean(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(ops::scale(&ops::add(a, b)?, 0.5)?)
}

/// a · x + b · y.
fn weighted(x: &Tensor, a: f32, y: &Tensor, b: f32) -> Result<Tensor> {
    Ok(ops::add(&ops::scale(x, a)?, &ops::scale(y, b)?)?)
}

/// The line from `last` to `now`, gone on by `share` of itself.
fn continued(last: &Tensor, now: &Tensor, share: f32) -> Result<Tensor> {
    Ok(ops::add(now, &ops::scale(&ops::sub(now, last)?, share)?)?)
}

/// `x` with noise added that raises its level from `sigma` to `raised`.
fn noised(
    x: &Tensor,
    sigma: f32,
    raised: f32,
    s_noise: f32,
    random: &mut Philox,
) -> Result<Tensor> {
    let deviation = s_noise * (raised * raised - sigma * sigma).sqrt();
    let noise = random.normal(x.shape())?.to_device(x.device())?;
    let noise = ops::scale(&noise, deviation)?;
    Ok(ops::add(x, &noise)?)
}

#[cfg(test)]
mod tests;
