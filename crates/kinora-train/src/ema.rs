//! The exponential moving average of the weights.
//!
//! A diffusion model's last weights jump with the noise of its last batches; their average over the
//! run does not, and is what samples and finished models are made of.

use crate::Result;
use crate::trainable::Weight;
use kinora_tensor::{Param, Tensor};

/// The average of every parameter of a model, in the order of its parameters, where they lie.
#[derive(Debug)]
pub struct Average {
    params: Vec<Param>,
    values: Vec<Tensor>,
}

impl Average {
    /// An average that begins at the weights as they are.
    pub fn new(weights: &[Weight]) -> Self {
        let params: Vec<Param> = weights.iter().map(|weight| weight.param.clone()).collect();
        // A frozen weight is its own average, so it is only looked at.
        let values = params.iter().map(|param| param.get().detach()).collect();
        Average { params, values }
    }

    /// The share of itself the average keeps at the step `t`, counted from 1, of a run whose decay
    /// is `highest`.
    pub fn decay_at(t: u64, highest: f64) -> f64 {
        let n = t as f64;
        highest.min((1.0 + n) / (10.0 + n))
    }

    /// Runs `work` with the average in the place of the weights, and puts the weights back.
    ///
    /// # Errors
    /// What `work` returns.
    pub fn in_place<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let weights: Vec<Tensor> = self.params.iter().map(Param::get).collect();
        for (param, value) in self.params.iter().zip(&self.values) {
            if param.is_trainable() {
                param.set(value.clone());
            }
        }
        let result = work();
        for (param, weights) in self.params.iter().zip(weights) {
            param.set(weights);
        }
        result
    }

    /// The averages, in the order of the parameters.
    pub fn values(&self) -> &[Tensor] {
        &self.values
    }

    /// The averages for a step to move, in the order of the parameters.
    pub(crate) fn values_mut(&mut self) -> &mut [Tensor] {
        &mut self.values
    }

    /// Brings the averages to the device of the weights.
    ///
    /// # Errors
    /// When it cannot be used, or has no memory left.
    pub(crate) fn follow_weights(&mut self) -> Result<()> {
        for (param, value) in self.params.iter().zip(&mut self.values) {
            let weights = param.get();
            *value = match param.is_trainable() {
                true => value.to_device(weights.device())?,
                false => weights.detach(),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(value: f32) -> Weight {
        Weight {
            name: "w".to_owned(),
            param: Param::new(Tensor::full(value, [2]).tracked()),
        }
    }

    #[test]
    fn the_decay_warms_up() {
        assert_eq!(Average::decay_at(1, 0.999), 2.0 / 11.0);
        assert_eq!(Average::decay_at(100_000, 0.999), 0.999);
    }

    #[test]
    fn the_weights_are_back_after_a_look_through_the_average() -> Result<()> {
        let weight = weight(1.0);
        let average = Average::new(std::slice::from_ref(&weight));
        weight.param.set(Tensor::full(5.0, [2]));
        let seen = average.in_place(|| Ok(weight.param.get().to_vec()))?;
        assert_eq!(seen, [1.0, 1.0]);
        assert_eq!(weight.param.get().to_vec(), [5.0, 5.0]);
        assert!(weight.param.is_trainable());
        Ok(())
    }
}
