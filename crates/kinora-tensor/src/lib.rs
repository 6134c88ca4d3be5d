//! Dense arrays, a closed list of operations with hand-written derivatives, and the graph between them.
//!
//! Arrays are row-major and channels last: pictures are `[n, h, w, c]`, clips `[b, t, h, w, c]`,
//! tokens `[b, n, c]`, so a clip becomes tokens by a reshape and nothing is ever transposed on the
//! way. Activations are f32; weights may rest in f16 or bf16 and are widened while they are used.
//!
//! ```
//! use kinora_tensor::{Tensor, ops};
//!
//! let w = Tensor::from_vec(vec![1.0, 2.0], [1, 2])?.tracked();
//! let x = Tensor::from_vec(vec![3.0, 4.0], [1, 2])?;
//! let y = ops::linear(&x, &w, None)?; // 1·3 + 2·4
//! assert_eq!(y.to_vec(), vec![11.0]);
//! let gradients = ops::sum(&y)?.backward()?;
//! assert_eq!(gradients.get(&w).unwrap().to_vec(), vec![3.0, 4.0]);
//! # Ok::<(), kinora_tensor::Error>(())
//! ```

mod error;

mod device;
mod dtype;
mod shape;
mod storage;
mod tensor;

mod cores;
mod grad;
mod param;
mod residency;

pub mod graph;
pub mod machine;
pub mod ops;
pub mod optim;
pub mod random;
pub mod selfcheck;
pub mod testing;

mod cpu;
mod cuda;

pub use cores::on_the_cores;
pub use cuda::{
    CardMemory, CardReport, DeviceBuffer, card_array_bytes, card_memory, card_working_bytes, cards,
    limit_device_bytes, made_device_bytes, missing_libraries, peak_device_bytes, ready_card,
    synchronize,
};
#[cfg(any(test, feature = "host-machine"))]
pub use cuda::{Order, host_device, host_device_with};
pub use device::Device;
pub use dtype::DType;
pub use error::{Error, Result};
pub use grad::{Gradients, checkpoint, is_recording, no_grad};
pub use param::Param;
pub use residency::{Residency, ResidencyPlan, WeightBytes};
pub use shape::Shape;
pub use storage::Mapped;
pub use tensor::Tensor;
