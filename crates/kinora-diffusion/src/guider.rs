//! Guidance that grows over the frames of a clip.

use crate::Result;
use kinora_tensor::{Error, Tensor, ops};

/// Classifier-free guidance whose scale rises evenly from the first frame to the last.
///
/// Blattmann et al. 2023, section 4.3 and figure 16: frames far from the condition need more of it,
/// frames near to it are oversaturated by as much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearGuider {
    /// Scale at the first frame.
    pub min: f32,
    /// Scale at the last frame.
    pub max: f32,
}

impl LinearGuider {
    /// Whether the unconditional branch is needed at all: a last scale up to 1 means none.
    pub fn is_active(&self) -> bool {
        self.max > 1.0
    }

    /// The scale of each frame; a lone frame has the first. Rounded as PyTorch rounds its even
    /// spacing, from both ends towards the middle.
    pub fn scales(&self, frames: usize) -> Vec<f32> {
        let step = (self.max - self.min) / (frames.max(2) - 1) as f32;
        let scale = |frame: usize| {
            if frame < frames / 2 || frames == 1 {
                step.mul_add(frame as f32, self.min)
            } else {
                step.mul_add(-((frames - 1 - frame) as f32), self.max)
            }
        };
        (0..frames).map(scale).collect()
    }

    /// uncond + w · (cond − uncond), w the scale of the frame.
    ///
    /// Guiding the network's outputs guides the estimates, since both share c_skip, c_out and x.
    ///
    /// # Shapes
    /// `uncond`, `cond` and the result are [b, t, ..]: clips, then frames.
    ///
    /// # Errors
    /// When the two differ in shape or have no frame axis.
    pub fn combine(&self, uncond: &Tensor, cond: &Tensor) -> Result<Tensor> {
        let dims = cond.dims();
        if dims.len() < 2 {
            return Err(Error::shape("guidance", "[b, t, ..]", dims).into());
        }
        let mut scale_dims = vec![1; dims.len()];
        scale_dims[1] = dims[1];
        let scales = Tensor::from_vec(self.scales(dims[1]), scale_dims)?; // [1, t, 1, ..]
        let scales = scales.to_device(cond.device())?;
        let push = ops::mul_broadcast(&ops::sub(cond, uncond)?, &scales)?;
        Ok(ops::add(uncond, &push)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::testing::{assert_close, numbers};

    #[test]
    fn rises_evenly_from_the_first_frame_to_the_last() {
        let guider = LinearGuider { min: 1.0, max: 3.0 };
        assert_eq!(guider.scales(5), [1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!(guider.scales(2), [1.0, 3.0]);
        assert_eq!(guider.scales(1), [1.0]);
        let steps = guider.scales(25);
        let even = |pair: &[f32]| (pair[1] - pair[0] - 2.0 / 24.0).abs() < 1e-6;
        assert!(steps.windows(2).all(even));
    }

    #[test]
    fn scale_one_is_the_condition_and_scale_zero_is_none() -> Result<()> {
        let (uncond, cond) = (numbers([2, 3, 4], 1), numbers([2, 3, 4], 2));
        let one = LinearGuider { min: 1.0, max: 1.0 }.combine(&uncond, &cond)?;
        assert_close(&one.to_vec(), &cond.to_vec(), 1e-6);
        let none = LinearGuider { min: 0.0, max: 0.0 }.combine(&uncond, &cond)?;
        assert_close(&none.to_vec(), &uncond.to_vec(), 0.0);
        Ok(())
    }

    #[test]
    fn each_frame_is_pushed_by_its_own_scale() -> Result<()> {
        let (uncond, cond) = (numbers([2, 3, 1, 2, 4], 1), numbers([2, 3, 1, 2, 4], 2));
        let found = LinearGuider { min: 1.0, max: 3.0 }.combine(&uncond, &cond)?;
        let pairs = uncond.to_vec().into_iter().zip(cond.to_vec());
        let expected: Vec<f32> = pairs
            .enumerate()
            .map(|(k, (u, c))| u + (1.0 + (k / 8 % 3) as f32) * (c - u))
            .collect();
        assert_close(&found.to_vec(), &expected, 1e-6);
        Ok(())
    }

    #[test]
    fn refuses_an_array_without_frames() {
        let x = numbers([3], 1);
        let guider = LinearGuider { min: 1.0, max: 2.0 };
        let error = guider.combine(&x, &x).unwrap_err().to_string();
        assert_eq!(error, "guidance: expected [b, t, ..], found [3]");
    }
}
