//! Every operation that runs on a card, forward and backward, held against the processor's.
//!
//! The tests run it on a machine that stands in for a card; a user runs it on a real one.

mod cases;

use crate::testing::{numbers, relative_l2};
use crate::{DType, Device, Result, Tensor, ops};
use cases::{Case, cases};

/// How one operation came out in one element type.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The operation and the extents it was tried with.
    pub name: String,
    /// The type of the activations. Parameters are in f32 where it is bf16, as in training, and in
    /// the same type otherwise.
    pub dtype: DType,
    /// ‖found − expected‖₂ / ‖expected‖₂ of the result, the processor's being expected.
    pub forward: f64,
    /// The largest such distance among the gradients of the operands.
    pub backward: f64,
    /// What `forward` may be at most.
    pub forward_limit: f64,
    /// What `backward` may be at most.
    pub backward_limit: f64,
}

impl Outcome {
    /// Whether both distances are within the limit.
    pub fn holds(&self) -> bool {
        // A NaN is no distance.
        self.forward <= self.forward_limit && self.backward <= self.backward_limit
    }
}

/// Runs every case on `device` and on the processor, and tells each outcome to `observer`.
///
/// # Errors
/// When the device cannot be used, or an operation refuses.
pub fn check(device: Device, dtype: DType, mut observer: impl FnMut(Outcome)) -> Result<()> {
    for case in cases() {
        observer(compare(&case, device, dtype)?);
    }
    Ok(())
}

/// The operands of one run, tracked, on one device.
fn operands(case: &Case, device: Device, dtype: DType) -> Result<Vec<Tensor>> {
    let place = |(k, input): (usize, &Tensor)| {
        let of_training = k >= case.parameters_from && dtype == DType::BF16;
        let stored = if of_training { DType::F32 } else { dtype };
        // Both sides start from the values as they are stored.
        let rounded = input.to_dtype(stored)?;
        let rounded = match device {
            Device::Cpu => rounded.to_dtype(DType::F32)?,
            _ => rounded.to_device(device)?,
        };
        Ok(rounded.tracked())
    };
    case.inputs.iter().enumerate().map(place).collect()
}

/// The result, and the gradients of the operands under a fixed weighting of the result.
fn run(case: &Case, device: Device, dtype: DType) -> Result<(Vec<f32>, Vec<Vec<f32>>)> {
    let leaves = operands(case, device, dtype)?;
    let y = (case.run)(&leaves)?;
    let weights = numbers(y.shape(), 99).to_dtype(y.dtype())?;
    let weights = weights.to_device(device)?;
    let weights = match device {
        Device::Cpu => weights,
        _ => weights.to_dtype(y.dtype())?,
    };
    let values = y.to_device(Device::Cpu)?.to_vec();
    let gradients = ops::sum(&ops::mul(&y, &weights)?)?.backward()?;
    let of = |leaf: &Tensor| {
        let gradient = gradients.get(leaf);
        let here = gradient.map(|g| g.to_device(Device::Cpu)).transpose()?;
        Ok(here.map_or(Vec::new(), |g| g.to_vec()))
    };
    let gradients = leaves.iter().map(of).collect::<Result<_>>()?;
    Ok((values, gradients))
}

/// The larger of two distances; NaN where one is, which `f64::max` would drop.
pub fn worse(one: f64, other: f64) -> f64 {
    if one.is_nan() || one > other {
        one
    } else {
        other
    }
}

fn compare(case: &Case, device: Device, dtype: DType) -> Result<Outcome> {
    let (expected, expected_gradients) = run(case, Device::Cpu, dtype)?;
    let (found, found_gradients) = run(case, device, dtype)?;
    let distance = |found: &[f32], expected: &[f32]| {
        if found.len() == expected.len() {
            relative_l2(found, expected)
        } else {
            f64::INFINITY
        }
    };
    let backward = found_gradients.iter().zip(&expected_gradients);
    let backward = backward.map(|(found, expected)| distance(found, expected));
    // A rounding of the result, and one of each intermediate array that is stored.
    let limit = match dtype {
        DType::F32 => 5e-6,
        DType::F16 => 3e-3,
        DType::BF16 => 1.5e-2,
    };
    Ok(Outcome {
        name: case.name.clone(),
        dtype,
        forward: distance(&found, &expected),
        backward: backward.fold(0.0, worse),
        forward_limit: limit,
        backward_limit: limit,
    })
}
