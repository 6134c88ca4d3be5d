//! Every block of the model where its arrays lie on a card, forward and backward, held against the
//! processor's f32.
//!
//! The operations have a check of their own, [`kinora_tensor::selfcheck`]. This one finds what shows only
//! when they meet: types that change on the way, parameters that stay in f32 beside 16 bits, gradients
//! that several layers add to. The tests run it on a machine that stands in for a card; a user runs it on
//! a real one.

mod blocks;
mod pipeline;

pub use pipeline::{PipelineOutcome, pipeline, psnr_db};

use crate::Result;
use crate::params::{Params, Source};
use kinora_tensor::testing::{numbers, relative_l2};
use kinora_tensor::{DType, Device, Tensor, no_grad, ops, selfcheck};
use selfcheck::{Outcome, worse};

type Run = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// One block with parameters and inputs of its own.
pub(crate) struct Block {
    name: String,
    params: Params,
    /// The values of the parameters, in f32 on the processor.
    values: Vec<Tensor>,
    inputs: Vec<Input>,
    run: Run,
}

/// What goes into a block.
pub(crate) struct Input {
    values: Tensor,
    /// Embeddings of the noise level stay in f32 whatever the activations are.
    stays_f32: bool,
}

impl Input {
    /// Activations.
    pub(crate) fn new(shape: &[usize], seed: u64) -> Self {
        Input {
            values: numbers(shape, seed),
            stays_f32: false,
        }
    }

    /// An embedding.
    pub(crate) fn f32(shape: &[usize], seed: u64) -> Self {
        Input {
            stays_f32: true,
            ..Input::new(shape, seed)
        }
    }
}

impl Block {
    /// A block built from `source`, a fresh one that nothing else was built from.
    pub(crate) fn new(
        name: &str,
        source: &Source,
        inputs: Vec<Input>,
        run: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
    ) -> Result<Self> {
        let params = source.params();
        Ok(Block {
            name: name.to_owned(),
            values: moved_off_constants(&params)?,
            params,
            inputs,
            run: Box::new(run),
        })
    }

    /// Puts the parameters there in the type `stored`, and gives them.
    fn place_params(&self, device: Device, stored: DType, trained: bool) -> Result<Vec<Tensor>> {
        let places = self.params.iter().zip(&self.values).map(|(entry, values)| {
            entry.param.set_trainable(trained);
            entry.param.set(placed(values, device, stored)?);
            Ok(entry.param.get())
        });
        places.collect()
    }

    fn place_inputs(&self, device: Device, dtype: DType) -> Result<Vec<Tensor>> {
        let place = |input: &Input| match input.stays_f32 {
            true => placed(&input.values, device, DType::F32),
            false => placed(&input.values, device, dtype),
        };
        self.inputs.iter().map(place).collect()
    }

    /// The result as in use, where parameters are frozen and of the type of the activations.
    fn result(&self, device: Device, dtype: DType) -> Result<Vec<f32>> {
        self.place_params(device, dtype, false)?;
        let inputs = self.place_inputs(device, dtype)?;
        let y = no_grad(|| (self.run)(&inputs))?;
        Ok(y.to_device(Device::Cpu)?.to_vec())
    }

    /// As in training, where parameters are f32: the result, and the gradients of parameters and inputs
    /// under a fixed weighting of the result.
    fn trained(&self, device: Device, dtype: DType) -> Result<Found> {
        let params = self.place_params(device, DType::F32, true)?;
        let inputs = self.place_inputs(device, dtype)?;
        let inputs: Vec<Tensor> = inputs.iter().map(Tensor::tracked).collect();
        let y = (self.run)(&inputs)?;
        // Rounded on both sides, or a gradient would differ by the rounding of its weights.
        let weights = placed(&numbers(y.shape(), 99), device, dtype)?.to_dtype(y.dtype())?;
        let gradients = ops::sum(&ops::mul(&y, &weights)?)?.backward()?;
        let of = |leaf: &Tensor| -> Result<Option<Vec<f32>>> {
            let gradient = gradients.get(leaf).map(|g| g.to_device(Device::Cpu));
            Ok(gradient.transpose()?.map(|g| g.to_vec()))
        };
        Ok(Found {
            result: y.to_device(Device::Cpu)?.to_vec(),
            gradients: params
                .iter()
                .chain(&inputs)
                .map(of)
                .collect::<Result<_>>()?,
        })
    }
}

/// The values of parameters that were drawn; those that begin as constants are moved off them.
fn moved_off_constants(params: &Params) -> Result<Vec<Tensor>> {
    // What begins as zero would hide what is before it, and what begins as one whether it is used.
    let moved = (1..).zip(params).map(|(seed, entry)| {
        let value = entry.param.get();
        let stored = value.to_vec();
        if stored.iter().any(|v| *v != stored[0]) {
            return Ok(value);
        }
        let small = ops::scale(&numbers(value.shape(), seed), 0.1)?;
        Ok(ops::add(&value, &small)?)
    });
    moved.collect()
}

/// The values rounded to `stored`, from which both sides start; the processor computes with them in f32.
fn placed(values: &Tensor, device: Device, stored: DType) -> Result<Tensor> {
    let rounded = values.to_dtype(stored)?;
    Ok(match device {
        Device::Cpu => rounded.to_dtype(DType::F32)?,
        _ => rounded.to_device(device)?,
    })
}

/// What one run of a block gave.
struct Found {
    result: Vec<f32>,
    /// `None` where nothing depends on the leaf.
    gradients: Vec<Option<Vec<f32>>>,
}

/// Runs every block on `device` and on the processor, and tells each outcome to `observer`.
///
/// # Errors
/// When the device cannot be used, or a block refuses.
pub fn check(device: Device, dtype: DType, mut observer: impl FnMut(Outcome)) -> Result<()> {
    for block in blocks::blocks()? {
        observer(compare(&block, device, dtype)?);
    }
    Ok(())
}

/// What distances may be at most, forward and backward.
///
/// A block stores some dozens of arrays one after the other, each rounded by 2⁻¹² of a value on average in
/// f16 and by 2⁻⁹ in bf16; roundings of many values point everywhere, so their sum grows with the root of
/// their number. The way back walks through as many again, and begins from activations that are rounded
/// already. In f32 it is sums in another order that differ. The machine of the tests, whose products and
/// convolutions are the processor's, comes to half of the limits in 16 bits (a whole autoencoder forward) and
/// to a quarter in f32; an indexing mistake, or a sum kept in 16 bits, is far past them.
fn limits(dtype: DType) -> [f64; 2] {
    match dtype {
        DType::F32 => [1e-5, 1e-4],
        DType::F16 => [5e-3, 2e-2],
        DType::BF16 => [4e-2, 1.5e-1],
    }
}

fn compare(block: &Block, device: Device, dtype: DType) -> Result<Outcome> {
    let expected = block.trained(Device::Cpu, dtype)?;
    let found = block.trained(device, dtype)?;
    let in_use = apart(
        &block.result(device, dtype)?,
        &block.result(Device::Cpu, dtype)?,
    );
    let [forward_limit, backward_limit] = limits(dtype);
    Ok(Outcome {
        name: block.name.clone(),
        dtype,
        forward: worse(apart(&found.result, &expected.result), in_use),
        backward: farthest(&found.gradients, &expected.gradients),
        forward_limit,
        backward_limit,
    })
}

/// The relative distance of two results; infinite where they are not equally long.
fn apart(found: &[f32], expected: &[f32]) -> f64 {
    match found.len() == expected.len() {
        true => relative_l2(found, expected),
        false => f64::INFINITY,
    }
}

/// A gradient that is shorter than this share of the longest counts as if it were that long: the bias of
/// keys, and one before a norm, have none but for roundings.
const LEAST_SHARE: f64 = 1e-2;

/// The largest relative distance of a gradient; infinite where only one side has it.
fn farthest(found: &[Option<Vec<f32>>], expected: &[Option<Vec<f32>>]) -> f64 {
    let norm = |values: &[f32]| {
        values
            .iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let longest = expected
        .iter()
        .flatten()
        .map(|g| norm(g))
        .fold(0.0, f64::max);
    let apart = |(found, expected): (&Option<Vec<f32>>, &Option<Vec<f32>>)| match (found, expected)
    {
        (None, None) => 0.0,
        (Some(found), Some(expected)) if found.len() == expected.len() => {
            let apart: Vec<f32> = found.iter().zip(expected).map(|(f, e)| f - e).collect();
            norm(&apart)
                / norm(expected)
                    .max(LEAST_SHARE * longest)
                    .max(f64::MIN_POSITIVE)
        }
        _ => f64::INFINITY,
    };
    found.iter().zip(expected).map(apart).fold(0.0, worse)
}

#[cfg(test)]
mod tests;
