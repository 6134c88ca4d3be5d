//! AdamW, its learning rate, and the length of gradients.
//!
//! The arithmetic of a step is [`kinora_tensor::optim`]'s, on the processor and on a card.
//!
//! Legend: `m` and `v` the averages of a gradient and of its square, `t` the step counted from 1.

use crate::config::{self, Decay};
use crate::ema::Average;
use crate::trainable::Weight;
use crate::{Error, Result};
use kinora_tensor::optim::{self, Trained};
use kinora_tensor::{DType, Device, Param, Tensor};
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

/// What AdamW keeps of one weight between steps, in f32 where the weight lies.
#[derive(Debug)]
pub struct Moments {
    /// The average of the gradient.
    pub m: Tensor,
    /// The average of its square.
    pub v: Tensor,
}

impl Moments {
    /// Before the first step, on the processor.
    pub fn zeros(len: usize) -> Self {
        Moments {
            m: Tensor::zeros([len]),
            v: Tensor::zeros([len]),
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

    /// Moves one array of weights by one step, see [`optim::adamw`].
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
        let one = Trained {
            param,
            gradient: Some(gradient),
            m: &mut moments.m,
            v: &mut moments.v,
            average: None,
        };
        let pace = Pace {
            learning_rate,
            average_decay: 1.0,
            t,
        };
        Ok(optim::adamw(
            &mut [one],
            &self.numbers(gradient_scale, pace),
        )?)
    }

    fn numbers(&self, gradient_scale: f32, pace: Pace) -> optim::AdamW {
        optim::AdamW {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            learning_rate: pace.learning_rate,
            t: pace.t,
            gradient_scale,
            average_decay: pace.average_decay,
        }
    }
}

/// What changes from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// The learning rate.
    pub learning_rate: f64,
    /// The share of itself that the average of the weights keeps.
    pub average_decay: f64,
    /// The optimiser's own steps, counted from 1.
    pub t: u64,
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

    /// Moves every trained weight by one step and its average towards it, and returns the length of the
    /// gradients before clipping. A weight without a gradient took no part in the loss and stays.
    ///
    /// `step` is the run's, for messages.
    ///
    /// # Errors
    /// When a gradient is not finite, or a device fails; no weight has moved then.
    pub fn step(
        &mut self,
        weights: &[Weight],
        gradients: &[Option<Tensor>],
        average: &mut Average,
        pace: Pace,
        step: u64,
    ) -> Result<f64> {
        let norm = global_norm(gradients.iter().flatten())?;
        if !norm.is_finite() {
            for (weight, gradient) in weights.iter().zip(gradients) {
                if let Some(gradient) = gradient {
                    check_finite(step, &weight.name, gradient)?;
                }
            }
        }
        let numbers = self.adam.numbers(clip_scale(norm, self.longest), pace);
        let kept = self.moments.iter_mut().zip(average.values_mut());
        let all = weights.iter().zip(gradients).zip(kept);
        let trained = all.filter_map(|((weight, gradient), (moments, average))| {
            let Moments { m, v } = moments.as_mut()?;
            Some(Trained {
                param: &weight.param,
                gradient: gradient.as_ref(),
                m,
                v,
                average: Some(average),
            })
        });
        optim::adamw(&mut trained.collect::<Vec<_>>(), &numbers)?;
        Ok(norm)
    }

    /// Brings the moments to `device`.
    ///
    /// # Errors
    /// When it cannot be used, or has no memory left.
    pub(crate) fn move_to(&mut self, device: Device) -> Result<()> {
        for Moments { m, v } in self.moments.iter_mut().flatten() {
            *m = m.to_device(device)?;
            *v = v.to_device(device)?;
        }
        Ok(())
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
/// When a gradient is not f32, or they do not lie on one device.
pub fn global_norm<'a>(gradients: impl IntoIterator<Item = &'a Tensor>) -> Result<f64> {
    let gradients: Vec<&Tensor> = gradients.into_iter().collect();
    Ok(optim::squared_norm(&gradients)?.sqrt())
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
/// When there is one, or a device fails.
pub fn check_weights(step: u64, weights: &[Weight]) -> Result<()> {
    let values: Vec<Tensor> = weights.iter().map(|weight| weight.param.get()).collect();
    // On a card one launch looks at all of them; only where it finds something are they brought here.
    let on_card = |x: &Tensor| x.device() != Device::Cpu && x.dtype() == DType::F32;
    if values.iter().all(on_card) && global_norm(&values)?.is_finite() {
        return Ok(());
    }
    let mut pairs = weights.iter().zip(&values);
    pairs.try_for_each(|(weight, values)| {
        refuse_not_finite(step, values, || format!("`{}`", weight.name))
    })
}

fn refuse_not_finite(step: u64, values: &Tensor, place: impl Fn() -> String) -> Result<()> {
    let here = values.to_device(Device::Cpu)?;
    let found = here
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
