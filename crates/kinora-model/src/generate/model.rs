//! The three networks that make a clip.

use crate::clip::ClipVision;
use crate::params::Source;
use crate::unet::UNet;
use crate::vae::Vae;
use crate::weights::{Part, Weights};
use crate::{Error, Result};

/// An image-to-video model.
#[derive(Debug)]
pub struct Model {
    /// Says what is on the still.
    pub clip: ClipVision,
    /// Turns the still into latents and latents into frames.
    pub vae: Vae,
    /// Denoises latents.
    pub unet: UNet,
}

/// The networks of a model, borrowed: those of a [`Model`], or those a trainer holds.
#[derive(Clone, Copy, Debug)]
pub struct Networks<'a> {
    /// Says what is on the still.
    pub clip: &'a ClipVision,
    /// Turns the still into latents and latents into frames.
    pub vae: &'a Vae,
    /// Denoises latents.
    pub unet: &'a UNet,
}

impl Model {
    /// Builds the networks from their weights and leaves no array over.
    ///
    /// # Errors
    /// When the weights do not fill the networks, hold more than they take, or the networks do not
    /// fit one another.
    pub fn load(weights: &Weights) -> Result<Self> {
        let model = Model {
            clip: build(&weights.image_encoder, ClipVision::new)?,
            vae: build(&weights.vae, Vae::new)?,
            unet: build(&weights.unet, UNet::new)?,
        };
        model.networks().check()?;
        Ok(model)
    }

    /// The networks, for [`generate`](super::generate).
    pub fn networks(&self) -> Networks<'_> {
        Networks {
            clip: &self.clip,
            vae: &self.vae,
            unet: &self.unet,
        }
    }
}

fn build<C, N>(part: &Part<C>, new: fn(&Source, &C) -> Result<N>) -> Result<N> {
    let source = part.source();
    let network = new(&source, &part.config)?;
    source.check_unused()?;
    Ok(network)
}

impl Networks<'_> {
    /// Refuses networks that were not made for one another.
    ///
    /// # Errors
    /// Naming the two sizes that differ.
    pub fn check(&self) -> Result<()> {
        let (unet, vae) = (self.unet.config(), self.vae.config());
        let token = self.clip.config().projection_dim;
        let widths = &unet.cross_attention_dim;
        for (what, expected, found) in [
            (
                "channels of a latent",
                vae.latent_channels,
                unet.out_channels,
            ),
            (
                "channels of the still's latents",
                vae.latent_channels,
                unet.condition_channels(),
            ),
            ("micro-conditions", 3, unet.added_values()),
            (
                "values of a context token",
                token,
                widths
                    .iter()
                    .copied()
                    .find(|w| *w != token)
                    .unwrap_or(token),
            ),
        ] {
            if expected != found {
                return Err(Error::config(
                    "model",
                    format!(
                        "{what}: the UNet takes {found}, an image-to-video model with this \
                         autoencoder and this CLIP tower gives it {expected}; use networks that \
                         were published together"
                    ),
                ));
            }
        }
        Ok(())
    }
}
