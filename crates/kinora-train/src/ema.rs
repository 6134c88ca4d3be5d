//! The exponential moving average of the weights.
//!
//! A diffusion model's last weights jump with the noise of its last batches; their average over the
//! run does not, and is what samples and finished models are made of.

use crate::Result;
use crate::trainable::Weight;
use kinora_tensor::{Param, Tensor};
use rayon::prelude::*;

/// The average of every parameter of a model, in the order of its parameters.
#[derive(Debug)]
pub struct Average {
    params: Vec<Param>,
    values: Vec<Vec<f32>>,
}

impl Average {
    /// An average that begins at the weights as they are.
    pub fn new(weights: &[Weight]) -> Self {
        let params: Vec<Param> = weights.iter().map(|weight| weight.param.clone()).collect();
        let values = params.iter().map(|param| param.get().to_vec()).collect();
        Average { params, values }
    }

    /// The share of itself the average keeps at the step `t`, counted from 1, of a run whose decay
    /// is `highest`.
    pub fn decay_at(t: u64, highest: f64) -> f64 {
        let n = t as f64;
        highest.min((1.0 + n) / (10.0 + n))
    }

    /// Moves the average towards the weights: a ← d a + (1 − d) w.
    ///
    /// # Errors
    /// When a trained weight is not f32.
    pub fn update(&mut self, decay: f64) -> Result<()> {
        const BLOCK: usize = 1 << 14;
        let rest = (1.0 - decay) as f32;
        for (param, values) in self.params.iter().zip(&mut self.values) {
            if !param.is_trainable() {
                continue; // A frozen weight is its own average.
            }
            let weights = param.get();
            values
                .par_chunks_mut(BLOCK)
                .zip(weights.as_f32()?.par_chunks(BLOCK))
                .for_each(|(values, weights)| {
                    for (a, w) in values.iter_mut().zip(weights) {
                        *a += rest * (*w - *a);
                    }
                });
        }
        Ok(())
    }

    /// Runs `work` with the average in the place of the weights, and puts the weights back.
    ///
    /// # Errors
    /// What `work` returns, and when the average does not fit the weights.
    pub fn in_place<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let weights: Vec<Tensor> = self.params.iter().map(Param::get).collect();
        let result = self.put().and_then(|()| work());
        for (param, weights) in self.params.iter().zip(weights) {
            param.set(weights);
        }
        result
    }

    fn put(&self) -> Result<()> {
        for (param, values) in self.params.iter().zip(&self.values) {
            if param.is_trainable() {
                param.set(Tensor::from_slice(values, param.get().shape())?);
            }
        }
        Ok(())
    }

    /// The averages, in the order of the parameters.
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// Takes over averages saved earlier, in the order of the parameters.
    pub fn restore(&mut self, values: Vec<Vec<f32>>) {
        assert_eq!(values.len(), self.values.len(), "one average a parameter");
        self.values = values;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::testing::assert_close;

    fn weight(value: f32) -> Weight {
        Weight {
            name: "w".to_owned(),
            param: Param::new(Tensor::full(value, [2]).tracked()),
        }
    }

    #[test]
    fn after_n_steps_at_one_place_the_first_weights_have_faded_to_decay_to_the_n() -> Result<()> {
        let weight = weight(1.0);
        let mut average = Average::new(std::slice::from_ref(&weight));
        weight.param.set(Tensor::full(5.0, [2]));
        for _ in 0..6 {
            average.update(0.9)?;
        }
        let expected = 5.0 + (1.0 - 5.0) * 0.9_f32.powi(6);
        assert_close(&average.values()[0], &[expected; 2], 1e-6);
        Ok(())
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
