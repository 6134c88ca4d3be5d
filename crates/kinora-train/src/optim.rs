//! AdamW, its learning rate, and the length of gradients.
//!
//! Legend: `m` and `v` the averages of a gradient and of its square, `t` the step counted from 1.

use crate::config::{self, Decay};
use crate::trainable::Weight;
use crate::{Error, Result};
use kinora_tensor::{Param, Tensor};
use rayon::prelude::*;

/// The numbers of AdamW that stay the same over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of m.
    pub beta1: f64,
    /// Decay of v.
    pub beta2: f64,
    /// Added to √v.
    pub epsilon: f64,
    /// Share of itself, times the learning rate, that a weight loses at each step.
    pub weight_decay: f64,
}

/// What AdamW keeps of one weight between steps, in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// The average of the gradient.
    pub m: Vec<f32>,
    /// The average of its square.
    pub v: Vec<f32>,
}

impl Moments {
    /// Before the first step.
    pub fn zeros(len: usize) -> Self {
        Moments {
            m: vec![0.0; len],
            v: vec![0.0; len],
        }
    }
}

impl AdamW {
    /// The numbers a configuration gives.
    pub fn new(config: &config::Optimiser) -> Self {
        AdamW {
            beta1: config.beta1,
            beta2: config.beta2,
            epsilon: config.epsilon,
            weight_decay: config.weight_decay,
        }
    }

    /// Moves one array of weights by one step.
    ///
    /// Loshchilov and Hutter 2019, algorithm 2 without a schedule of its own:
    /// w ← (1 − η λ) w − η m̂ / (√v̂ + ε), with m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ).
    /// The gradient is multiplied by `gradient_scale` on the way in, which is how clipping costs no
    /// pass of its own.
    ///
    /// # Errors
    /// When the weights or the gradient are not f32.
    pub fn step(
        &self,
        param: &Param,
        moments: &mut Moments,
        gradient: &Tensor,
        gradient_scale: f32,
        learning_rate: f64,
        t: u64,
    ) -> Result<()> {
        let gradient = gradient.as_f32()?;
        let correction = |beta: f64| 1.0 - beta.powf(t as f64);
        let keep = (1.0 - learning_rate * self.weight_decay) as f32;
        let rate = (learning_rate / correction(self.beta1)) as f32;
        let root = correction(self.beta2).sqrt() as f32;
        let (beta1, beta2) = (self.beta1 as f32, self.beta2 as f32);
        let (rest1, rest2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        let epsilon = self.epsilon as f32;
        const BLOCK: usize = 1 << 14;
        param.update(|weights| {
            let blocks = weights
                .par_chunks_mut(BLOCK)
                .zip(moments.m.par_chunks_mut(BLOCK))
                .zip(moments.v.par_chunks_mut(BLOCK))
                .zip(gradient.par_chunks(BLOCK));
            blocks.for_each(|(((weights, m), v), gradient)| {
                for (((w, m), v), g) in weights.iter_mut().zip(m).zip(v).zip(gradient) {
                    let g = g * gradient_scale;
                    *m = beta1 * *m + rest1 * g;
                    *v = beta2 * *v + rest2 * g * g;
                    *w = keep * *w - rate * *m / (v.sqrt() / root + epsilon);
                }
            });
        })?;
        Ok(())
    }
}

/// AdamW over all weights of a model.
#[derive(Debug)]
pub struct Optimiser {
    adam: AdamW,
    longest: f64,
    /// What is kept of each weight, in their order; nothing of frozen ones.
    pub moments: Vec<Option<Moments>>,
}

impl Optimiser {
    /// Before the first step.
    pub fn new(config: &config::Optimiser, weights: &[Weight]) -> Self {
        let moments = weights.iter().map(|Weight { param, .. }| {
            param
                .is_trainable()
                .then(|| Moments::zeros(param.get().elements()))
        });
        Optimiser {
            adam: AdamW::new(config),
            longest: config.clip_norm,
            moments: moments.collect(),
        }
    }

    /// Moves every trained weight by one step and returns the length of the gradients before
    /// clipping. A weight without a gradient took no part in the loss and stays.
    ///
    /// `step` is the run's, for messages; `t` counts the optimiser's own steps from 1.
    ///
    /// # Errors
    /// When a gradient is not finite; no weight has moved then.
    pub fn step(
        &mut self,
        weights: &[Weight],
        gradients: &[Option<Tensor>],
        learning_rate: f64,
        step: u64,
        t: u64,
    ) -> Result<f64> {
        let norm = global_norm(gradients.iter().flatten())?;
        if !norm.is_finite() {
            for (weight, gradient) in weights.iter().zip(gradients) {
                if let Some(gradient) = gradient {
                    check_finite(step, &weight.name, gradient)?;
                }
            }
        }
        let scale = clip_scale(norm, self.longest);
        for ((weight, moments), gradient) in weights.iter().zip(&mut self.moments).zip(gradients) {
            if let (Some(moments), Some(gradient)) = (moments, gradient) {
                self.adam
                    .step(&weight.param, moments, gradient, scale, learning_rate, t)?;
            }
        }
        Ok(norm)
    }
}

/// The learning rate of each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    /// The highest.
    pub highest: f64,
    /// Steps over which it rises to that.
    pub warm_up_steps: u64,
    /// How it falls afterwards.
    pub decay: Decay,
    /// Steps of the run.
    pub steps: u64,
}

impl LearningRate {
    /// What a configuration gives.
    pub fn new(config: &config::Config) -> Self {
        LearningRate {
            highest: config.optimiser.learning_rate,
            warm_up_steps: config.optimiser.warm_up_steps,
            decay: config.optimiser.decay,
            steps: config.run.steps,
        }
    }

    /// The learning rate of step `t`, counted from 1.
    pub fn at(&self, t: u64) -> f64 {
        if t < self.warm_up_steps {
            return self.highest * t as f64 / self.warm_up_steps as f64;
        }
        match self.decay {
            Decay::Constant => self.highest,
            Decay::Cosine { last_share } => {
                let falling = self.steps.saturating_sub(self.warm_up_steps).max(1);
                let done = ((t - self.warm_up_steps) as f64 / falling as f64).min(1.0);
                let share = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                self.highest * (last_share + (1.0 - last_share) * share)
            }
        }
    }
}

/// The length of all gradients as one vector, summed in f64.
///
/// # Errors
/// When a gradient is not f32.
pub fn global_norm<'a>(gradients: impl IntoIterator<Item = &'a Tensor>) -> Result<f64> {
    let mut squares = 0.0;
    for gradient in gradients {
        squares += sum_of_squares(gradient.as_f32()?);
    }
    Ok(squares.sqrt())
}

/// Blocks on all cores, added in order, so that the number of cores changes nothing.
fn sum_of_squares(values: &[f32]) -> f64 {
    const BLOCK: usize = 1 << 14;
    let square = |sum: f64, v: &f32| sum + f64::from(*v) * f64::from(*v);
    let blocks: Vec<f64> = values
        .par_chunks(BLOCK)
        .map(|block| block.iter().fold(0.0, square))
        .collect();
    blocks.iter().sum()
}

/// The factor that shortens gradients of length `norm` to at most `longest`.
pub fn clip_scale(norm: f64, longest: f64) -> f32 {
    if norm > longest {
        (longest / norm) as f32
    } else {
        1.0
    }
}

/// The first gradient that holds NaN or an infinity, as an error that names it.
///
/// # Errors
/// When there is one.
pub fn check_finite(step: u64, name: &str, gradient: &Tensor) -> Result<()> {
    refuse_not_finite(step, gradient, || format!("the gradient of `{name}`"))
}

/// Refuses weights that a step has made NaN or infinite, before anything is made of them: where another
/// step follows its loss tells, but after the last one there is none.
///
/// # Errors
/// When there is one.
pub fn check_weights(step: u64, weights: &[Weight]) -> Result<()> {
    weights.iter().try_for_each(|weight| {
        refuse_not_finite(step, &weight.param.get(), || format!("`{}`", weight.name))
    })
}

fn refuse_not_finite(step: u64, values: &Tensor, place: impl Fn() -> String) -> Result<()> {
    let found = values
        .as_f32()?
        .par_chunks(1 << 14)
        .find_map_first(|block| block.iter().copied().find(|value| !value.is_finite()));
    match found {
        None => Ok(()),
        Some(value) => Err(Error::NotFinite {
            step,
            place: place(),
            value,
        }),
    }
}

#[cfg(test)]
mod tests;
