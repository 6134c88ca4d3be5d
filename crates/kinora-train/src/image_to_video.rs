//! Training a denoiser of latent clips that is told a still.
//!
//! Legend of the shapes: `b` clips, `t` frames, `h w` rows and columns of latents, `z` channels of a
//! latent, `d` width of the context token.

mod conditions;
mod latents;
mod sample;

use crate::batch::{self, Draw};
use crate::checkpoint::write_text;
use crate::clips::Clips;
use crate::compute::Compute;
use crate::config;
use crate::{Error, Result};
use conditions::{Conditions, Drawn};
use kinora_diffusion::denoising_loss;
use kinora_model::clip::{ClipVision, ClipVisionConfig, HiddenAct};
use kinora_model::params::{Params, Source};
use kinora_model::unet::{LevelKind, NormEps, Pass, UNet, UNetConfig};
use kinora_model::vae::{Vae, VaeConfig};
use kinora_model::weights::{
    Model, Opening, Part, open_image_encoder, open_unet, open_vae, save_model,
};
use kinora_tensor::{DType, Tensor, ops};
use std::path::Path;

/// A denoiser and its image encoder under training, with the finished autoencoder they work in.
#[derive(Debug)]
pub struct ImageToVideoTask {
    config: config::ImageToVideo,
    sampling: config::Sampling,
    recompute: bool,
    compute: Compute,
    vae: Vae,
    vae_params: Params,
    /// A name for the weights of `vae` by their content.
    vae_fingerprint: String,
    unet: UNet,
    image_encoder: ClipVision,
    /// The parameters of the denoiser.
    pub unet_params: Params,
    /// The parameters of the image encoder.
    pub image_encoder_params: Params,
    /// The scaled latents of every video, plain and mirrored, where they are kept: `[n, h, w, z]`.
    latents: Vec<[Option<Tensor>; 2]>,
    /// Whether the latents in the shards are those that `vae` would make.
    takes_latents: bool,
}

impl ImageToVideoTask {
    /// Fresh weights, in the autoencoder at `autoencoder`.
    ///
    /// # Errors
    /// When there is no autoencoder, or the sizes contradict each other.
    pub fn fresh(config: &config::Config, autoencoder: &Path, compute: Compute) -> Result<Self> {
        let model = own(config)?;
        let vae = open_vae(autoencoder, &Opening::default())?;
        let sizes = unet_config(model, vae.config.latent_channels, config.data.frames);
        let tower = tower_config(&model.image_encoder);
        let (unet, encoder) = (
            Source::fresh(config.seed).keeping_variance(),
            Source::fresh(config.seed),
        );
        let parts = ((&unet, &sizes), (&encoder, &tower));
        Self::build(config, compute, &vae, parts)
    }

    /// The weights of a model folder, its own autoencoder among them.
    ///
    /// # Errors
    /// When the folder holds no such model, or one of other sizes.
    pub fn open(config: &config::Config, path: &Path, compute: Compute) -> Result<Self> {
        let (model, frames) = (own(config)?, config.data.frames);
        let vae = open_vae(path, &Opening::default())?;
        let unet = open_unet(path, &Opening::default())?;
        let tower = open_image_encoder(path, &Opening::default())?;
        let sizes = UNetConfig {
            sample_size: unet.config.sample_size,
            ..unet_config(model, vae.config.latent_channels, frames)
        };
        // A model of fewer frames may be trained on to more: 14 became 25 so.
        let found = UNetConfig {
            num_frames: frames,
            ..unet.config.clone()
        };
        if found != sizes || tower.config != tower_config(&model.image_encoder) {
            return Err(Error::checkpoint(
                path,
                "expected a model of the sizes in [model.unet] and [model.image_encoder], found others; compare with unet/config.json and image_encoder/config.json there and make them say the same",
            ));
        }
        let sources = (unet.source(), tower.source());
        let parts = ((&sources.0, &sizes), (&sources.1, &tower.config));
        Self::build(config, compute, &vae, parts)
    }

    fn build(
        config: &config::Config,
        compute: Compute,
        vae: &Part<VaeConfig>,
        ((unet, unet_config), (tower, tower_config)): (
            (&Source, &UNetConfig),
            (&Source, &ClipVisionConfig),
        ),
    ) -> Result<Self> {
        let vae_source = vae.source();
        let task = ImageToVideoTask {
            config: own(config)?.clone(),
            sampling: config.run.sampling.expect("checked with the configuration"),
            recompute: config.run.recompute,
            compute,
            vae: Vae::new(&vae_source, &vae.config)?,
            vae_params: vae_source.params(),
            vae_fingerprint: vae.fingerprint(),
            unet: UNet::new(unet, unet_config)?,
            image_encoder: ClipVision::new(tower, tower_config)?,
            unet_params: unet.params(),
            image_encoder_params: tower.params(),
            latents: Vec::new(),
            takes_latents: false,
        };
        unet.check_unused()?;
        tower.check_unused()?;
        Ok(task)
    }

    /// The parameters of all its networks, the frozen autoencoder's among them.
    pub(crate) fn all_params(&self) -> Vec<&Params> {
        vec![
            &self.unet_params,
            &self.image_encoder_params,
            &self.vae_params,
        ]
    }

    /// The loss of a batch: the error of v, each clip at a noise level of its own.
    ///
    /// # Errors
    /// None beyond those of the arrays.
    pub fn loss(&self, clips: &Clips, draws: &mut [Draw]) -> Result<Tensor> {
        let drawn: Vec<Drawn> = draws
            .iter_mut()
            .map(|draw| Drawn::new(&self.config, draw))
            .collect();
        let clean = self.clean(clips, draws)?;
        let conditions = self.conditions(clips, draws, &drawn)?;
        let noise = batch::normal(draws, &clean.dims()[1..])?;
        let sigmas: Vec<f32> = drawn.iter().map(|drawn| drawn.sigma).collect();
        let pass = Pass {
            image_only: false,
            recompute: self.recompute,
        };
        denoising_loss(
            |noised, c_noise| -> Result<Tensor> {
                let noised = self.compute.there(noised)?;
                let x = ops::concat(&[&noised, &conditions.still], 4)?;
                let Conditions { context, added, .. } = &conditions;
                Ok(self.unet.forward(&x, c_noise, context, added, pass)?)
            },
            &clean,
            &noise,
            &sigmas,
        )
    }

    /// Writes the model as it is: everything a still needs to become a video.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn publish(&self, model: &Path, clips: &Clips) -> Result<()> {
        let whole = Model {
            unet: (self.unet.config(), &self.unet_params),
            vae: (self.vae.config(), &self.vae_params),
            image_encoder: (self.image_encoder.config(), &self.image_encoder_params),
        };
        save_model(model, &whole, DType::F32)?;
        // A motion bucket means what it meant in training.
        clips.motion_law.write(model)?;
        self.write_sampling(&model.join("sampling.json"), clips)
    }

    /// What the model was trained for, as whoever samples it should begin: `docs/formats.md`.
    fn write_sampling(&self, path: &Path, clips: &Clips) -> Result<()> {
        let mut rates: Vec<f32> = clips.training.iter().map(|clip| clip.fps).collect();
        rates.sort_by(f32::total_cmp);
        let usual = rates
            .get(rates.len() / 2)
            .map_or(7, |fps| fps.round() as u32);
        let settings = serde_json::json!({
            "frames": clips.frames, "width": clips.width, "height": clips.height,
            "steps": self.sampling.steps, "fps": usual.max(1),
            "noise_aug": self.sampling.noise_aug,
            "guidance_min": self.sampling.guidance_min,
            "guidance_max": self.sampling.guidance_max,
        });
        write_text(path, &format!("{settings:#}\n"))
    }
}

fn own(config: &config::Config) -> Result<&config::ImageToVideo> {
    match &config.model {
        config::Model::ImageToVideo(model) => Ok(model),
        config::Model::Autoencoder(_) => unreachable!("the trainer matches the kind of model"),
    }
}

/// The settings of a denoiser as its `config.json` spells them.
fn unet_config(model: &config::ImageToVideo, latent_channels: usize, frames: usize) -> UNetConfig {
    let unet = &model.unet;
    let levels = unet.block_out_channels.len();
    let kind = |attends: &bool| {
        if *attends {
            LevelKind::Attends
        } else {
            LevelKind::Plain
        }
    };
    let down: Vec<LevelKind> = unet.attention.iter().map(kind).collect();
    UNetConfig {
        sample_size: None,
        in_channels: 2 * latent_channels,
        out_channels: latent_channels,
        up_block_types: down.iter().rev().copied().collect(),
        down_block_types: down,
        block_out_channels: unet.block_out_channels.clone(),
        addition_time_embed_dim: unet.addition_time_embed_dim,
        projection_class_embeddings_input_dim: 3 * unet.addition_time_embed_dim,
        layers_per_block: vec![unet.layers_per_block; levels],
        cross_attention_dim: vec![model.image_encoder.projection_dim; levels],
        transformer_layers_per_block: vec![1; levels],
        num_attention_heads: unet.attention_heads.clone(),
        num_frames: frames,
        norm_eps: NormEps::Diffusers,
    }
}

/// The settings of a tower as its `config.json` spells them.
fn tower_config(tower: &config::ImageEncoder) -> ClipVisionConfig {
    ClipVisionConfig {
        hidden_size: tower.hidden_size,
        intermediate_size: tower.intermediate_size,
        projection_dim: tower.projection_dim,
        num_hidden_layers: tower.layers,
        num_attention_heads: tower.attention_heads,
        num_channels: 3,
        image_size: tower.image_size,
        patch_size: tower.patch_size,
        hidden_act: HiddenAct::Gelu,
        layer_norm_eps: 1e-5,
    }
}
