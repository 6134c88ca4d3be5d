//! The three networks that make a clip.

use crate::clip::{ClipVision, ClipVisionConfig};
use crate::compute::Compute;
use crate::params::Source;
use crate::unet::{UNet, UNetConfig};
use crate::vae::{Vae, VaeConfig};
use crate::weights::{Part, Weights};
use crate::{Error, Result};
use kinora_tensor::{Param, Residency};

/// An image-to-video model.
#[derive(Debug)]
pub struct Model {
    /// Says what is on the still.
    pub clip: ClipVision,
    /// Turns the still into latents and latents into frames.
    pub vae: Vae,
    /// Denoises latents.
    pub unet: UNet,
    /// Where they compute.
    pub compute: Compute,
    /// Where the weights of the denoiser and of the tower are, if they were placed within a budget.
    pub residency: Option<Residency>,
    /// The files that their weights are read from where they lie, if they came from files.
    pub weights: Option<Weights>,
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
    /// Where their weights are and they compute.
    pub compute: Compute,
    /// The files that weights are read from where they lie, if they are: pages of a network that has done
    /// its work are given back.
    pub weights: Option<&'a Weights>,
}

/// The settings of a model's networks: enough to plan a clip before gigabytes are read.
#[derive(Clone, Copy, Debug)]
pub struct Configs<'a> {
    /// Of the tower that says what is on the still.
    pub clip: &'a ClipVisionConfig,
    /// Of the autoencoder.
    pub vae: &'a VaeConfig,
    /// Of the denoiser.
    pub unet: &'a UNetConfig,
}

impl Model {
    /// Builds the networks on the processor from their weights and leaves no array over.
    ///
    /// # Errors
    /// When the weights do not fill the networks, hold more than they take, or the networks do not
    /// fit one another.
    pub fn load(weights: &Weights) -> Result<Self> {
        Self::load_on(weights, Compute::PROCESSOR)
    }

    /// Builds the networks where `compute` says.
    ///
    /// # Errors
    /// As [`Model::load`], and when a card cannot be used or has no memory left.
    pub fn load_on(weights: &Weights, compute: Compute) -> Result<Self> {
        Configs::of(weights).check()?;
        Ok(Model {
            clip: build(&weights.image_encoder, compute, ClipVision::new)?,
            vae: build(&weights.vae, compute, Vae::new)?,
            unet: build(&weights.unet, compute, UNet::new)?,
            compute,
            residency: None,
            weights: Some(weights.clone()),
        })
    }

    /// Builds the networks on a card whose memory has no room for all weights: of those of the denoiser
    /// and of the tower, what does not fit into `budget_bytes` is brought from where it is stored as it
    /// is used.
    ///
    /// # Errors
    /// As [`Model::load_on`], and when the budget has no room for twice the largest weight.
    pub fn load_within(weights: &Weights, compute: Compute, budget_bytes: usize) -> Result<Self> {
        Configs::of(weights).check()?;
        let vae = build(&weights.vae, compute, Vae::new)?;
        let (clip, of_clip) = build_here(&weights.image_encoder, ClipVision::new)?;
        let (unet, mut params) = build_here(&weights.unet, UNet::new)?;
        let once = of_clip.len();
        params.extend(of_clip);
        let there = (compute.device(), Some(compute.dtype()));
        let residency = Residency::place_as(&params, once, there, budget_bytes)?;
        weights.image_encoder.let_go();
        weights.unet.let_go();
        Ok(Model {
            clip,
            vae,
            unet,
            compute,
            residency: Some(residency),
            weights: Some(weights.clone()),
        })
    }

    /// The networks, for [`generate`](super::generate).
    pub fn networks(&self) -> Networks<'_> {
        Networks {
            clip: &self.clip,
            vae: &self.vae,
            unet: &self.unet,
            compute: self.compute,
            weights: self.weights.as_ref(),
        }
    }
}

fn build<C, N>(part: &Part<C>, compute: Compute, new: fn(&Source, &C) -> Result<N>) -> Result<N> {
    let source = part.source().on(compute);
    let network = new(&source, &part.config)?;
    source.check_unused()?;
    // What was copied is not read again, and the rest not before the network's turn.
    part.let_go();
    Ok(network)
}

/// A network on the processor, where it is stored, with its parameters in the order of their use.
fn build_here<C, N>(part: &Part<C>, new: fn(&Source, &C) -> Result<N>) -> Result<(N, Vec<Param>)> {
    let source = part.source();
    let network = new(&source, &part.config)?;
    source.check_unused()?;
    let params = source.params();
    Ok((
        network,
        params.iter().map(|entry| entry.param.clone()).collect(),
    ))
}

impl<'a> Networks<'a> {
    /// Their settings.
    pub fn configs(&self) -> Configs<'a> {
        Configs {
            clip: self.clip.config(),
            vae: self.vae.config(),
            unet: self.unet.config(),
        }
    }
}

impl<'a> Configs<'a> {
    /// The settings of weights that were opened.
    pub fn of(weights: &'a Weights) -> Self {
        Configs {
            clip: &weights.image_encoder.config,
            vae: &weights.vae.config,
            unet: &weights.unet.config,
        }
    }

    /// Refuses networks that were not made for one another.
    ///
    /// # Errors
    /// Naming the two sizes that differ.
    pub fn check(&self) -> Result<()> {
        let Configs { clip, vae, unet } = self;
        let token = clip.projection_dim;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::Preset;

    #[test]
    fn networks_that_were_not_made_for_one_another_are_refused() {
        let preset = Preset::named("svd").expect("in the table");
        let (clip, vae, unet) = (preset.image_encoder(), preset.vae(), preset.unet());
        let refused = |clip: &ClipVisionConfig, vae: &VaeConfig, unet: &UNetConfig| {
            let configs = Configs { clip, vae, unet };
            configs.check().unwrap_err().to_string()
        };
        Configs {
            clip: &clip,
            vae: &vae,
            unet: &unet,
        }
        .check()
        .unwrap();
        let small = Preset::named("small").expect("in the table");
        assert_eq!(
            refused(&small.image_encoder(), &vae, &unet),
            "model: values of a context token: the UNet takes 1024, an image-to-video model with \
             this autoencoder and this CLIP tower gives it 64; use networks that were published \
             together"
        );
        let text_to_video = UNetConfig {
            in_channels: 4,
            ..unet.clone()
        };
        assert!(refused(&clip, &vae, &text_to_video).contains("still's latents: the UNet takes 0"));
        let wide = VaeConfig {
            latent_channels: 16,
            ..vae.clone()
        };
        assert!(refused(&clip, &wide, &unet).contains("channels of a latent: the UNet takes 4"));
        let two = UNetConfig {
            projection_class_embeddings_input_dim: 512,
            ..unet.clone()
        };
        assert!(refused(&clip, &vae, &two).contains("micro-conditions: the UNet takes 2"));
    }
}
