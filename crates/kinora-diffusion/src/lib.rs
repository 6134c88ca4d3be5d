//! The equations between noise and data: preconditioning, noise laws, weights, the loss, schedules,
//! guidance and samplers. No network and no file is known here; a denoiser is a closure.
//!
//! Letters: `sigma` the noise level, `x` the noised clip at that level, D its estimate of the data.
//! Clips are [b, t, h, w, c].
//!
//! ```
//! use kinora_diffusion::{Error, karras, sampler};
//! use kinora_tensor::Tensor;
//! use std::ops::ControlFlow;
//!
//! // All data is the point 3, so the best estimate is 3 whatever the noise.
//! let noise = Tensor::from_vec(vec![-40.0, 60.0], [2])?;
//! let sigmas = karras(5, 0.01, 50.0, 7.0);
//! let mut denoise = |x: &Tensor, _sigma: f32| Ok::<_, Error>(Tensor::full(3.0, x.shape()));
//! let sample = sampler::euler(&mut denoise, noise, &sigmas, &mut |_| ControlFlow::Continue(()))?;
//! assert!(sample.to_vec().iter().all(|v| (v - 3.0).abs() < 1e-3));
//! # Ok::<(), Error>(())
//! ```

mod error;

mod scaling;
mod schedule;
mod sigma;
mod weighting;

mod guider;
mod loss;
pub mod sampler;

pub use error::{Error, Result};
pub use guider::LinearGuider;
pub use loss::{Noised, denoising_loss};
pub use sampler::Sampler;
pub use scaling::{Scaling, v_scaling};
pub use schedule::{initial_deviation, karras};
pub use sigma::LogNormal;
pub use weighting::v_weighting;
