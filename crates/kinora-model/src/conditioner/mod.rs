//! What the user's picture and numbers become before the UNet sees them.
//!
//! Legend of the shapes: `h w` rows and columns of the latents, `c` their channels, `d`
//! the width of a context token.

mod antialias;
mod pillow;

pub use antialias::antialiased;
pub use pillow::{bicubic, lanczos};

use crate::Result;
use crate::clip::{CLIP_MEAN, CLIP_STD, ClipVision};
use crate::compute::Compute;
use crate::pixels::{self, Picture};
use crate::vae::Vae;
use kinora_tensor::{Tensor, ops};

/// All that the UNet is told about one clip beside its noisy latents.
///
/// Blattmann et al. 2023, appendix D.4.
#[derive(Clone, Debug)]
pub struct Conditioning {
    /// What is on the still: one token, `[1, 1, d]`.
    pub context: Tensor,
    /// Where it is: the still's latents, the same for every frame, `[1, 1, h, w, c]`.
    pub concat: Tensor,
    /// Frames a second less one, motion bucket, noise on the still.
    pub added: [f32; 3],
}

impl Conditioning {
    /// The same clip with nothing known of the still: the unconditional branch of guidance. The
    /// numbers stay, they were never dropped in training.
    pub fn without_still(&self) -> Conditioning {
        Conditioning {
            context: Tensor::zeros(self.context.shape()),
            concat: Tensor::zeros(self.concat.shape()),
            added: self.added,
        }
    }

    /// The same where the UNet takes it.
    ///
    /// # Errors
    /// When the device cannot be used, or has no memory left.
    pub fn on(&self, compute: Compute) -> Result<Conditioning> {
        Ok(Conditioning {
            context: compute.there(&self.context)?,
            concat: compute.there(&self.concat)?,
            added: self.added,
        })
    }
}

/// The token that says what is on the picture, where the tower is and in f32, in which a still is
/// looked at and encoded on any device: it is done once. It is the embedding as the tower gives it, not
/// brought to unit length.
///
/// # Shapes
/// The result is `[1, 1, d]`.
///
/// # Errors
/// When the tower fails.
pub fn context_from_picture(clip: &ClipVision, picture: Picture<'_>) -> Result<Tensor> {
    let size = clip.config().image_size;
    let resized = antialiased(picture, size)?; // [1, size, size, 3]
    let unit = ops::affine(&resized, 0.5, 0.5)?;
    let offset = Tensor::from_vec(CLIP_MEAN.map(|m| -m).to_vec(), [1, 1, 1, 3])?;
    let factor = Tensor::from_vec(CLIP_STD.map(|s| 1.0 / s).to_vec(), [1, 1, 1, 3])?;
    let normalised = ops::mul_broadcast(&ops::add_broadcast(&unit, &offset)?, &factor)?;
    // A picture is resized and normalised on the processor, once.
    let token = clip.forward(&normalised.to_device(clip.device())?)?; // [1, d]
    let d = token.elements();
    Ok(token.reshape([1, 1, d])?)
}

/// The picture at the size of the clip, as values from −1 to 1. Its proportions give way: nothing is
/// cropped, as in diffusers.
///
/// # Shapes
/// The result is `[1, height, width, 3]`.
///
/// # Errors
/// None beyond those of the arrays.
pub fn still_from_picture(picture: Picture<'_>, height: usize, width: usize) -> Result<Tensor> {
    pixels::tensor_from_rgb8(&lanczos(picture, height, width), [1, height, width])
}

/// The latents of the noised still: the mean of their law, and not scaled, unlike the latents that are
/// diffused.
///
/// A little noise keeps the model from copying the still's grain into every frame.
///
/// # Shapes
/// `still` and `noise` are `[1, h', w', 3]`; the result is `[1, 1, h, w, c]`, where the autoencoder is,
/// in f32.
///
/// # Errors
/// When the shapes differ or the encoder fails.
pub fn concat_from_still(
    vae: &Vae,
    still: &Tensor,
    noise: &Tensor,
    noise_aug: f32,
) -> Result<Tensor> {
    let noised = ops::add(still, &ops::scale(noise, noise_aug)?)?;
    let latents = vae.encode(&noised.to_device(vae.device())?)?.mean; // [1, h, w, c]
    Ok(latents.reshape([&[1], latents.dims()].concat())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Source;
    use crate::presets::Preset;
    use kinora_tensor::testing::{assert_close, numbers};

    #[test]
    fn the_noised_still_is_encoded_to_the_mean_of_its_law() -> Result<()> {
        let preset = Preset::named("tiny").expect("in the table");
        let vae = Vae::new(&Source::fresh(3), &preset.vae())?;
        let (still, noise) = (numbers([1, 16, 24, 3], 1), numbers([1, 16, 24, 3], 2));
        let concat = concat_from_still(&vae, &still, &noise, 0.5)?;
        assert_eq!(concat.dims(), [1, 1, 4, 6, 4]);
        let noised = ops::add(&still, &ops::scale(&noise, 0.5)?)?;
        let expected = vae.encode(&noised)?.mean;
        assert_close(&concat.to_vec(), &expected.to_vec(), 0.0);
        Ok(())
    }

    #[test]
    fn the_unconditional_branch_keeps_the_numbers_only() {
        let conditioning = Conditioning {
            context: numbers([1, 1, 4], 1),
            concat: numbers([1, 1, 3, 3, 4], 2),
            added: [6.0, 127.0, 0.02],
        };
        let none = conditioning.without_still();
        assert_eq!(none.added, conditioning.added);
        assert!(none.context.to_vec().iter().all(|v| *v == 0.0));
        assert_eq!(none.concat.dims(), conditioning.concat.dims());
        assert!(none.concat.to_vec().iter().all(|v| *v == 0.0));
    }
}
