//! Where networks compute, and in which type their activations are.

use crate::{Error, Result};
use kinora_tensor::{DType, Device, Tensor, WeightBytes, card_working_bytes};

/// A device and the element type of activations on it.
///
/// The processor computes in f32, and takes weights in any type. On a card weights and activations
/// are of this type, and sums are f32 whatever it is; the sampler's state, noise levels, embeddings of
/// numbers and statistics of norms stay f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compute {
    device: Device,
    dtype: DType,
}

impl Default for Compute {
    fn default() -> Self {
        Compute::PROCESSOR
    }
}

/// What the engine keeps on the processor of freed arrays beside what was once in use together.
const PROCESSOR_POOL_BYTES: usize = 512 << 20;

/// The code of NVIDIA's libraries, which they put into a card's memory as it is needed. An allowance,
/// not yet measured on a card.
const LIBRARIES_BYTES: usize = 512 << 20;

impl Compute {
    /// The processor, in f32.
    pub const PROCESSOR: Compute = Compute {
        device: Device::Cpu,
        dtype: DType::F32,
    };

    /// This device in this type.
    ///
    /// # Errors
    /// When the processor is to compute in another type than f32.
    pub fn new(device: Device, dtype: DType) -> Result<Self> {
        if device == Device::Cpu && dtype != DType::F32 {
            return Err(Error::argument(
                "dtype",
                format!(
                    "expected f32, the type the processor computes in, found {dtype}; weights may be \
                     stored in 16 bits (see --variant) and are widened while they are used"
                ),
            ));
        }
        Ok(Compute { device, dtype })
    }

    /// Where.
    pub fn device(self) -> Device {
        self.device
    }

    /// In which type.
    pub fn dtype(self) -> DType {
        self.dtype
    }

    /// Whether it is a card.
    pub fn is_on_card(self) -> bool {
        self.device != Device::Cpu
    }

    /// An array where networks take it, in the type they take it in.
    ///
    /// # Errors
    /// When the device cannot be used, or has no memory left.
    pub fn there(self, x: &Tensor) -> Result<Tensor> {
        Ok(x.to_device(self.device)?.to_dtype(self.dtype)?)
    }

    /// An array in f32 on the processor, whatever it was.
    ///
    /// # Errors
    /// When a card failed at the work that leads to it.
    pub fn back(x: &Tensor) -> Result<Tensor> {
        Ok(x.to_dtype(DType::F32)?.to_device(Device::Cpu)?)
    }

    /// Bytes of one activation.
    pub(crate) fn value_bytes(self) -> usize {
        self.dtype.size_bytes()
    }

    /// What arrays of so many bytes that are alive together take with what the engine keeps beside
    /// them: of freed arrays on the processor; on a card those are given up before memory runs out,
    /// and an array may take an eighth more than its values.
    pub(crate) fn held_bytes(self, alive_bytes: usize) -> usize {
        match self.is_on_card() {
            false => alive_bytes + alive_bytes.min(PROCESSOR_POOL_BYTES),
            true => alive_bytes + alive_bytes / 8,
        }
    }

    /// What a weight of so many values takes that lies in a file in the type `stored`.
    pub(crate) fn weight_bytes(self, values: usize, stored: DType) -> WeightBytes {
        match self.is_on_card() {
            false => {
                let bytes = values * stored.size_bytes();
                WeightBytes {
                    staying: bytes,
                    passing: bytes,
                }
            }
            true => WeightBytes::new(values, stored, self.dtype),
        }
    }

    /// What is held through the whole work beside weights and activations: on a card, working memory
    /// of products and convolutions, and the code of NVIDIA's libraries.
    pub fn reserve_bytes(self) -> usize {
        match self.is_on_card() {
            false => 0,
            true => card_working_bytes() + LIBRARIES_BYTES,
        }
    }

    /// What NVIDIA's libraries keep for themselves of a card's memory, beside all that is asked of it.
    pub fn libraries_bytes(self) -> usize {
        match self.is_on_card() {
            false => 0,
            true => LIBRARIES_BYTES,
        }
    }

    /// The most values that one array may hold: cuDNN counts them in 31 bits.
    pub(crate) fn most_values(self) -> usize {
        match self.is_on_card() {
            false => usize::MAX,
            true => i32::MAX as usize,
        }
    }
}

impl std::fmt::Display for Compute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.device, self.dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_computes_in_f32_alone() {
        assert_eq!(
            Compute::new(Device::Cpu, DType::F32).unwrap(),
            Compute::PROCESSOR
        );
        let error = Compute::new(Device::Cpu, DType::BF16)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("dtype: expected f32, the type the processor"),
            "{error}"
        );
    }

    #[test]
    fn a_card_holds_weights_in_the_type_it_computes_in() {
        let half = Compute::new(Device::Cuda(0), DType::BF16).unwrap();
        let of = |compute: Compute| compute.weight_bytes(1 << 20, DType::F32);
        let found = of(half);
        assert_eq!((found.staying, found.passing), (2 << 20, 4 << 20));
        assert_eq!(of(Compute::PROCESSOR).staying, 4 << 20);
        assert!(half.reserve_bytes() > card_working_bytes());
        assert_eq!(Compute::PROCESSOR.reserve_bytes(), 0);
        assert_eq!(half.to_string(), "cuda:0 in bf16");
    }
}
