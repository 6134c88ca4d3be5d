//! The trained weights and what the optimiser keeps of them, in memory's order of axes: one file, the
//! same wherever the run computes.

use super::Started;
use crate::optim::Optimiser;
use crate::trainable::Weight;
use crate::{Error, Result};
use kinora_tensor::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::path::Path;
use std::sync::OnceLock;

/// Values on their way into a file, brought from where they lie and made into bytes when their turn
/// comes: main memory never holds the whole of a card's state.
struct Values<'a> {
    values: Tensor,
    dims: [usize; 1],
    failed: &'a OnceLock<kinora_tensor::Error>,
}

impl View for Values<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.dims
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = match self.values.to_device(Device::Cpu) {
            Ok(here) => here.to_le_bytes(),
            // The writer knows no errors: it is told after it, and the file never gets its name.
            Err(error) => {
                let _ = self.failed.set(error);
                vec![0; self.data_len()]
            }
        };
        bytes.into()
    }

    fn data_len(&self) -> usize {
        size_of::<f32>() * self.dims[0]
    }
}

/// Writes them.
///
/// # Errors
/// When the file system refuses, or a card fails.
pub(super) fn write(path: &Path, started: &Started) -> Result<()> {
    let failed = OnceLock::new();
    let mut entries = Vec::new();
    for (weight, moments) in started.weights.iter().zip(&started.optimiser.moments) {
        let Some(moments) = moments else { continue };
        let kinds = [
            ("weight", weight.param.get()),
            ("m", moments.m.clone()),
            ("v", moments.v.clone()),
        ];
        for (kind, values) in kinds {
            let values = Values {
                dims: [values.elements()],
                values,
                failed: &failed,
            };
            entries.push((format!("{kind}/{}", weight.name), values));
        }
    }
    safetensors::serialize_to_file(entries, None, path)
        .map_err(|error| Error::checkpoint(path, format!("could not be written: {error}")))?;
    match failed.into_inner() {
        None => Ok(()),
        Some(error) => Err(error.into()),
    }
}

/// Puts the weights and the optimiser's state of a checkpoint in place, on the processor.
///
/// # Errors
/// When the file cannot be read, or holds other weights.
pub(super) fn restore(
    checkpoint: &Path,
    weights: &[Weight],
    optimiser: &mut Optimiser,
) -> Result<()> {
    let path = checkpoint.join("training.safetensors");
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| {
        Error::checkpoint(
            &path,
            format!(
                "cannot be read ({error}); remove this checkpoint to go on from the one before it"
            ),
        )
    })?;
    for (weight, moments) in weights.iter().zip(&mut optimiser.moments) {
        let Some(moments) = moments else { continue };
        let load = |kind: &str| values(&file, &path, (kind, &weight.name), weight);
        (moments.m, moments.v) = (load("m")?, load("v")?);
        let value = load("weight")?.reshape(weight.param.get().shape())?;
        weight.param.set(value);
    }
    Ok(())
}

/// One list of a file, as long as the weight, flat.
fn values(
    file: &SafeTensors<'_>,
    path: &Path,
    (kind, name): (&str, &str),
    weight: &Weight,
) -> Result<Tensor> {
    let key = format!("{kind}/{name}");
    let len = weight.param.get().elements();
    let refuse = |found: String| {
        Error::checkpoint(
            path,
            format!(
                "`{key}`: expected {len} f32 values, found {found}; optimiser.trainable and [model] must be those of the run it came from"
            ),
        )
    };
    let view = file
        .tensor(&key)
        .map_err(|_| refuse("nothing".to_owned()))?;
    if view.dtype() != Dtype::F32 || view.data().len() != size_of::<f32>() * len {
        return Err(refuse(format!("{:?} {:?}", view.dtype(), view.shape())));
    }
    let values = view.data().as_chunks::<4>().0.iter();
    let values = values.map(|bytes| f32::from_le_bytes(*bytes));
    Ok(Tensor::from_vec(values.collect(), [len])?)
}
