//! Training pictures to latents and back.

use crate::batch::{self, Draw};
use crate::clips::Clips;
use crate::config;
use crate::{Error, Result};
use kinora_model::params::{Params, Source};
use kinora_model::vae::{Vae, VaeConfig, VaeKind};
use kinora_model::weights::{Opening, open_vae, save_vae};
use kinora_tensor::{DType, Tensor, no_grad, ops};
use std::path::Path;

/// Variance of a fresh encoder's latents, as a logarithm. An encoder that begins at variance 1 spends
/// its first hundred steps talking over its own noise.
const FIRST_LOGVAR: f32 = -6.0;

/// Frames from which the scale of the latents is measured.
const MEASURED_FRAMES: usize = 64;

/// An autoencoder under training.
#[derive(Debug)]
pub struct AutoencoderTask {
    config: config::Autoencoder,
    vae: Vae,
    /// The parameters of `vae`.
    pub params: Params,
}

impl AutoencoderTask {
    /// Fresh weights.
    ///
    /// # Errors
    /// When the sizes contradict each other.
    pub fn fresh(config: &config::Autoencoder, seed: u64, recompute: bool) -> Result<Self> {
        let sizes = sizes(config);
        let task = Self::build(config, &sizes, &Source::fresh(seed), recompute)?;
        if let Some(bias) = task.params.get("quant_conv.bias") {
            bias.update(|values| values[config.latent_channels..].fill(FIRST_LOGVAR))?;
        }
        Ok(task)
    }

    /// The weights of a model folder.
    ///
    /// # Errors
    /// When the folder holds no autoencoder, or one of other sizes.
    pub fn open(config: &config::Autoencoder, model: &Path, recompute: bool) -> Result<Self> {
        let part = open_vae(model, &Opening::default())?;
        let expected = VaeConfig {
            scaling_factor: part.config.scaling_factor,
            sample_size: part.config.sample_size,
            ..sizes(config)
        };
        if part.config != expected {
            return Err(Error::checkpoint(
                model,
                "expected an autoencoder of the sizes in [model], found another; compare with vae/config.json there and make them say the same",
            ));
        }
        Self::build(config, &part.config, &part.source(), recompute)
    }

    fn build(
        config: &config::Autoencoder,
        sizes: &VaeConfig,
        source: &Source,
        recompute: bool,
    ) -> Result<Self> {
        let vae = Vae::new(source, sizes)?;
        source.check_unused()?;
        Ok(AutoencoderTask {
            config: config.clone(),
            vae: if recompute { vae.recomputing() } else { vae },
            params: source.params(),
        })
    }

    /// The loss of a batch: how far the pictures are from what comes back of them, and how far their
    /// latents are from a unit normal.
    ///
    /// # Errors
    /// None beyond those of the arrays.
    pub fn loss(&self, clips: &Clips, draws: &mut [Draw]) -> Result<Tensor> {
        let frames = batch::cropped_frames(clips, draws, self.config.crop_px)?;
        let &[b, t, h, w, c] = frames.dims() else {
            unreachable!("batches of clips have five axes")
        };
        let moments = self.vae.encode(&frames.reshape([b * t, h, w, c])?)?;
        let &[_, rows, columns, z] = moments.mean.dims() else {
            unreachable!("latents of pictures have four axes")
        };
        let noise = batch::normal(draws, &[t, rows, columns, z])?;
        let latents = moments.sample(&noise.reshape(moments.mean.shape())?)?;
        let decoded = self
            .vae
            .decode(&latents.reshape([b, t, rows, columns, z])?)?;
        let l1 = ops::scale(&ops::l1(&decoded, &frames)?, self.config.l1_weight)?;
        let l2 = ops::scale(&ops::mse(&decoded, &frames)?, self.config.l2_weight)?;
        let kl = ops::scale(&moments.divergence()?, self.config.kl_weight)?;
        Ok(ops::add(&ops::add(&l1, &l2)?, &kl)?)
    }

    /// Held-out clips and what comes back of them.
    ///
    /// # Shapes
    /// Each `[t, h, w, 3]`, true and decoded.
    ///
    /// # Errors
    /// None beyond those of the arrays.
    pub fn samples(&self, clips: &Clips, count: usize) -> Result<Vec<(Tensor, Tensor)>> {
        no_grad(|| {
            let mut pairs = Vec::new();
            for draw in batch::shown(clips, count) {
                let frames = batch::frames(clips, &[draw], clips.frames)?;
                let frames = frames.reshape(&frames.dims()[1..])?;
                let latents = self.vae.encode(&frames)?.mean;
                let clip = [&[1], latents.dims()].concat();
                let decoded = self.vae.decode(&latents.reshape(clip)?)?;
                pairs.push((frames.clone(), decoded.reshape(frames.shape())?));
            }
            Ok(pairs)
        })
    }

    /// Writes the model as it is.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn publish(&self, model: &Path, clips: &Clips) -> Result<()> {
        let mut config = self.vae.config().clone();
        config.scaling_factor = self.scaling_factor(clips)?;
        config.sample_size = clips.width.max(clips.height);
        Ok(save_vae(
            model.join("vae"),
            &config,
            &self.params,
            DType::F32,
        )?)
    }

    /// One over the standard deviation of the latents: latents times this have unit variance, which is
    /// what the noise law and the preconditioning of a denoiser count on.
    fn scaling_factor(&self, clips: &Clips) -> Result<f32> {
        let step = clips.training.len().div_ceil(MEASURED_FRAMES);
        let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
        for clip in clips.training.iter().step_by(step) {
            let draw = Draw::plain(*clip);
            let frame = batch::frames(clips, &[draw], 1)?;
            let frame = frame.reshape(&frame.dims()[1..])?;
            for value in no_grad(|| self.vae.encode(&frame))?.mean.to_vec() {
                sum += f64::from(value);
                squares += f64::from(value) * f64::from(value);
                count += 1.0;
            }
        }
        let variance = squares / count - (sum / count) * (sum / count);
        Ok((1.0 / variance.sqrt().max(1e-6)) as f32)
    }
}

/// The settings of an autoencoder as its `config.json` spells them.
fn sizes(config: &config::Autoencoder) -> VaeConfig {
    let mut sizes = VaeConfig::temporal(&config.block_out_channels, config.layers_per_block);
    sizes.latent_channels = config.latent_channels;
    if !config.temporal {
        sizes.kind = VaeKind::Image;
        sizes.up_block_types = Some(vec![
            "UpDecoderBlock2D".to_owned();
            config.block_out_channels.len()
        ]);
        sizes.norm_num_groups = Some(config.norm_groups);
    }
    sizes
}
