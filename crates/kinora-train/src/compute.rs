//! Where a run computes, and in which type: data are read on the processor and go there.

use crate::{Error, Result};
pub use kinora_model::compute::Compute;
use kinora_tensor::{DType, Device};

/// Where a run computes: on this device, in this type or in the device's own, f32 on the processor and bf16
/// on a card. Weights, their moments and averages, gradients, losses and the numbers of noise are f32
/// whatever the type: this is mixed precision as usual, and bf16, which has the range of f32, needs no
/// scaling of the loss.
///
/// # Errors
/// When the processor is to compute in 16 bits, or anything is to train in f16.
pub fn training_on(device: Device, dtype: Option<DType>) -> Result<Compute> {
    let dtype = dtype.unwrap_or(match device {
        Device::Cpu => DType::F32,
        _ => DType::BF16,
    });
    let message = match (device, dtype) {
        (_, DType::F16) => {
            "expected bf16 or f32, found f16: gradients of this model leave the range of f16, \
             and every card kinora uses computes as fast in bf16, which has the range of f32"
        }
        (Device::Cpu, DType::BF16) => {
            "expected f32, the type the processor computes in, found bf16; take a card for \
             bf16 (checkpoints are f32 in both, and go on in either)"
        }
        _ => return Ok(Compute::new(device, dtype)?),
    };
    Err(Error::Compute {
        message: message.to_owned(),
    })
}

/// What stands in the memory of the device through the whole run, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// All weights, f32: the trained, the frozen and those of a finished autoencoder.
    pub weights_bytes: usize,
    /// Both moments of AdamW of what is trained.
    pub moments_bytes: usize,
    /// The averages of the trained weights.
    pub averages_bytes: usize,
    /// Gradients; twice where those of several batches are summed.
    pub gradients_bytes: usize,
}

impl Standing {
    /// All of it.
    pub fn bytes(&self) -> usize {
        self.weights_bytes + self.moments_bytes + self.averages_bytes + self.gradients_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_its_type_and_refuses_others() -> Result<()> {
        assert_eq!(training_on(Device::Cpu, None)?, Compute::PROCESSOR);
        let card = training_on(Device::Cuda(1), None)?;
        assert_eq!(card.to_string(), "cuda:1 in bf16");
        assert_eq!(
            training_on(Device::Cuda(1), Some(DType::F32))?.dtype(),
            DType::F32
        );
        for device in [Device::Cpu, Device::Cuda(0)] {
            let error = training_on(device, Some(DType::F16)).unwrap_err();
            assert!(error.to_string().starts_with("dtype: expected bf16 or f32"));
        }
        let error = training_on(Device::Cpu, Some(DType::BF16)).unwrap_err();
        assert!(error.to_string().starts_with("dtype: expected f32"));
        Ok(())
    }
}
