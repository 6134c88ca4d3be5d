//! AdamW with a moving average of the weights, and the length of gradients, over all arrays of a model.
//!
//! Not recorded: nothing is derived through a step. On a card each is one launch, however many arrays
//! there are. Everything is f32.
//!
//! Legend: `m` and `v` the averages of a gradient and of its square, `t` the step counted from 1.

use crate::cuda::optim::Row;
use crate::{DType, Device, Error, Param, Result, Tensor, cuda};
use rayon::prelude::*;
use std::collections::HashSet;

/// Elements a task of the processor works on.
const BLOCK: usize = 1 << 14;

/// The numbers of one step of AdamW and of the average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of m.
    pub beta1: f64,
    /// Decay of v.
    pub beta2: f64,
    /// Added to √v.
    pub epsilon: f64,
    /// Share of itself, times the learning rate, that a weight loses.
    pub weight_decay: f64,
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// The step, counted from 1.
    pub t: u64,
    /// What gradients are multiplied by on their way in, which is how clipping costs no pass of its own.
    pub gradient_scale: f32,
    /// The share of itself that the average of the weights keeps.
    pub average_decay: f64,
}

/// One array of weights and what is kept of it between steps, all of one length, in f32 on one device.
#[derive(Debug)]
pub struct Trained<'a> {
    /// The weights.
    pub param: &'a Param,
    /// The gradient; without one the weights, `m` and `v` stay as they are.
    pub gradient: Option<&'a Tensor>,
    /// The average of the gradient.
    pub m: &'a mut Tensor,
    /// The average of its square.
    pub v: &'a mut Tensor,
    /// The average of the weights, where one is kept.
    pub average: Option<&'a mut Tensor>,
}

/// What the loops multiply and divide by, rounded once.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    keep: f32,
    rate: f32,
    root: f32,
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    epsilon: f32,
    gradient_scale: f32,
    average_rest: f32,
}

impl From<&AdamW> for Numbers {
    fn from(step: &AdamW) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(step.t as f64);
        Numbers {
            keep: (1.0 - step.learning_rate * step.weight_decay) as f32,
            rate: (step.learning_rate / correction(step.beta1)) as f32,
            root: correction(step.beta2).sqrt() as f32,
            beta1: step.beta1 as f32,
            beta2: step.beta2 as f32,
            rest1: (1.0 - step.beta1) as f32,
            rest2: (1.0 - step.beta2) as f32,
            epsilon: step.epsilon as f32,
            gradient_scale: step.gradient_scale,
            average_rest: (1.0 - step.average_decay) as f32,
        }
    }
}

/// Moves every array of weights by one step, and its average towards it.
///
/// Loshchilov and Hutter 2019, algorithm 2 without a schedule of its own:
/// w ← (1 − η λ) w − η m̂ / (√v̂ + ε), with m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ); then
/// a ← d a + (1 − d) w.
///
/// # Shapes
/// The arrays of one entry hold equally many values.
///
/// # Errors
/// When arrays of an entry differ in length, device or type, entries lie on different devices, a
/// parameter is given twice, or a card fails. Where that is found out before the step, nothing has
/// moved.
pub fn adamw(trained: &mut [Trained<'_>], step: &AdamW) -> Result<()> {
    let device = check(trained)?;
    let numbers = Numbers::from(step);
    match device {
        None => Ok(()),
        Some(Device::Cpu) => trained.iter_mut().try_for_each(|one| one.step(&numbers)),
        Some(Device::Cuda(ordinal)) => step_on_card(ordinal, trained, &numbers),
    }
}

/// Σ x² over all arrays, summed in f64 and in an order that depends on their lengths alone.
///
/// # Errors
/// When an array is not f32, they lie on different devices, or a card fails.
pub fn squared_norm(arrays: &[&Tensor]) -> Result<f64> {
    let Some(first) = arrays.first() else {
        return Ok(0.0);
    };
    for array in arrays {
        fits("squared_norm", array, first.device(), array.elements())?;
    }
    match first.device() {
        Device::Cpu => {
            let squares = arrays.iter().map(|x| Ok(sum_of_squares(x.as_f32()?)));
            squares.sum()
        }
        Device::Cuda(ordinal) => {
            let row = |x: &&Tensor| -> Result<Row> {
                Ok(Row {
                    gradient: x.array()?.address(),
                    count: x.elements(),
                    ..Row::default()
                })
            };
            let rows: Vec<Row> = arrays.iter().map(row).collect::<Result<_>>()?;
            cuda::optim::sum_of_squares(&cuda::open(ordinal)?, &rows)
        }
    }
}

/// Blocks on all cores, added in order, so that the number of cores changes nothing.
fn sum_of_squares(values: &[f32]) -> f64 {
    let square = |sum: f64, v: &f32| sum + f64::from(*v) * f64::from(*v);
    let blocks: Vec<f64> = values
        .par_chunks(BLOCK)
        .map(|block| block.iter().fold(0.0, square))
        .collect();
    blocks.iter().sum()
}

/// Where all entries lie; nowhere if there are none.
fn check(trained: &[Trained<'_>]) -> Result<Option<Device>> {
    let mut places = HashSet::new();
    let mut device = None;
    for one in trained {
        let weights = one.param.get();
        let here = *device.get_or_insert(weights.device());
        let len = weights.elements();
        let others = [&*one.m, &*one.v].into_iter().chain(one.gradient);
        for array in others.chain(one.average.as_deref()).chain([&weights]) {
            fits("adamw", array, here, len)?;
        }
        // Both would be written at once.
        if !places.insert(one.param.place()) {
            return Err(Error::argument("adamw", "a parameter was given twice"));
        }
    }
    Ok(device)
}

fn fits(op: &'static str, array: &Tensor, device: Device, len: usize) -> Result<()> {
    if array.device() != device {
        return Err(Error::Devices {
            op,
            first: device,
            other: array.device(),
        });
    }
    if array.dtype() != DType::F32 {
        return Err(Error::DType {
            op,
            expected: DType::F32,
            found: array.dtype(),
        });
    }
    if array.elements() != len {
        let expected = format!("{len} values beside the weights");
        return Err(Error::shape(op, expected, array.dims()));
    }
    Ok(())
}

impl Trained<'_> {
    /// The step on the processor.
    fn step(&mut self, numbers: &Numbers) -> Result<()> {
        if let Some(gradient) = self.gradient {
            let gradient = gradient.as_f32()?;
            let (param, v) = (self.param, &mut self.v);
            change(self.m, |m| {
                change(v, |v| param.update(|w| moved(w, m, v, gradient, numbers)))?
            })??;
        }
        let Some(average) = &mut self.average else {
            return Ok(());
        };
        let weights = self.param.get();
        let weights = weights.as_f32()?;
        let rest = numbers.average_rest;
        change(average, |average| {
            average
                .par_chunks_mut(BLOCK)
                .zip(weights.par_chunks(BLOCK))
                .for_each(|(average, weights)| {
                    for (a, w) in average.iter_mut().zip(weights) {
                        *a += rest * (*w - *a);
                    }
                });
        })
    }

    /// Where its arrays lie, none of them shared with anything.
    fn row(&mut self, weights: &mut Tensor) -> Result<Row> {
        weights.make_array_unshared()?;
        self.m.make_array_unshared()?;
        self.v.make_array_unshared()?;
        let average = match &mut self.average {
            None => 0,
            Some(average) => {
                average.make_array_unshared()?;
                average.array()?.address()
            }
        };
        let gradient = self.gradient.map(|gradient| gradient.array());
        Ok(Row {
            weights: weights.array()?.address(),
            gradient: gradient.transpose()?.map_or(0, |array| array.address()),
            m: self.m.array()?.address(),
            v: self.v.array()?.address(),
            average,
            count: weights.elements(),
        })
    }
}

fn moved(weights: &mut [f32], m: &mut [f32], v: &mut [f32], gradient: &[f32], n: &Numbers) {
    let blocks = weights
        .par_chunks_mut(BLOCK)
        .zip(m.par_chunks_mut(BLOCK))
        .zip(v.par_chunks_mut(BLOCK))
        .zip(gradient.par_chunks(BLOCK));
    blocks.for_each(|(((weights, m), v), gradient)| {
        for (((w, m), v), g) in weights.iter_mut().zip(m).zip(v).zip(gradient) {
            let g = g * n.gradient_scale;
            *m = n.beta1 * *m + n.rest1 * g;
            *v = n.beta2 * *v + n.rest2 * g * g;
            *w = n.keep * *w - n.rate * *m / (v.sqrt() / n.root + n.epsilon);
        }
    });
}

/// Changes the values on the processor, in place where nothing else holds them.
fn change<T>(values: &mut Tensor, change: impl FnOnce(&mut [f32]) -> T) -> Result<T> {
    if let Some(values) = values.unshared_mut() {
        return Ok(change(values));
    }
    let mut own = values.to_vec();
    let made = change(&mut own);
    *values = Tensor::from_vec(own, values.shape())?;
    Ok(made)
}

fn step_on_card(ordinal: usize, trained: &mut [Trained<'_>], n: &Numbers) -> Result<()> {
    let params: Vec<&Param> = trained.iter().map(|one| one.param).collect();
    // Held until the launch is queued: nobody sees a place that is written.
    let mut places: Vec<_> = params.iter().map(|param| param.hold()).collect();
    let pairs = trained.iter_mut().zip(&mut places);
    let rows: Vec<Row> = pairs
        .map(|(one, weights)| one.row(weights))
        .collect::<Result<_>>()?;
    let numbers = [
        n.keep,
        n.rate,
        n.root,
        n.beta1,
        n.beta2,
        n.rest1,
        n.rest2,
        n.epsilon,
        n.gradient_scale,
        n.average_rest,
    ];
    cuda::optim::adamw(&cuda::open(ordinal)?, &rows, numbers)
}

#[cfg(test)]
mod tests;
