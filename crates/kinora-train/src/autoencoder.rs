//! Training pictures to latents and back.

use crate::batch::{self, Draw};
use crate::clips::Clips;
use crate::compute::Compute;
use crate::config::{self, Config};
use crate::{Error, Result};
use kinora_model::params::{Params, Source};
use kinora_model::vae::{Moments, Vae, VaeConfig, VaeKind};
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
    compute: Compute,
    vae: Vae,
    /// The parameters of `vae`.
    pub params: Params,
}

impl AutoencoderTask {
    /// Fresh weights.
    ///
    /// # Errors
    /// When the sizes contradict each other.
    pub fn fresh(model: &config::Autoencoder, config: &Config, compute: Compute) -> Result<Self> {
        let (sizes, source) = (sizes(model), Source::fresh(config.seed).keeping_variance());
        let task = Self::build(model, &sizes, &source, config.run.recompute, compute)?;
        if let Some(bias) = task.params.get("quant_conv.bias") {
            bias.update(|values| values[model.latent_channels..].fill(FIRST_LOGVAR))?;
        }
        Ok(task)
    }

    /// The weights of a model folder.
    ///
    /// # Errors
    /// When the folder holds no autoencoder, or one of other sizes.
    pub fn open(
        model: &config::Autoencoder,
        path: &Path,
        config: &Config,
        compute: Compute,
    ) -> Result<Self> {
        let part = open_vae(path, &Opening::default())?;
        let expected = VaeConfig {
            scaling_factor: part.config.scaling_factor,
            sample_size: part.config.sample_size,
            ..sizes(model)
        };
        if part.config != expected {
            return Err(Error::checkpoint(
                path,
                "expected an autoencoder of the sizes in [model], found another; compare with vae/config.json there and make them say the same",
            ));
        }
        let recompute = config.run.recompute;
        Self::build(model, &part.config, &part.source(), recompute, compute)
    }

    fn build(
        config: &config::Autoencoder,
        sizes: &VaeConfig,
        source: &Source,
        recompute: bool,
        compute: Compute,
    ) -> Result<Self> {
        let vae = Vae::new(source, sizes)?;
        source.check_unused()?;
        Ok(AutoencoderTask {
            config: config.clone(),
            compute,
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
        let compute = self.compute;
        let pictures = compute.there(&frames.reshape([b * t, h, w, c])?)?;
        let moments = self.vae.encode(&pictures)?;
        // The latents' law and both distances are f32 whatever the networks compute in.
        let moments = Moments {
            mean: ops::convert(&moments.mean, DType::F32)?,
            logvar: ops::convert(&moments.logvar, DType::F32)?,
        };
        let &[_, rows, columns, z] = moments.mean.dims() else {
            unreachable!("latents of pictures have four axes")
        };
        let noise = batch::normal(draws, &[t, rows, columns, z])?;
        let noise = noise
            .reshape(moments.mean.shape())?
            .to_device(compute.device())?;
        let latents = ops::convert(&moments.sample(&noise)?, compute.dtype())?;
        let decoded = self
            .vae
            .decode(&latents.reshape([b, t, rows, columns, z])?)?;
        let decoded = ops::convert(&decoded, DType::F32)?;
        let frames = frames.to_device(compute.device())?;
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
                let latents = self.vae.encode(&self.compute.there(&frames)?)?.mean;
                let clip = [&[1], latents.dims()].concat();
                let decoded = self.vae.decode(&latents.reshape(clip)?)?;
                let decoded = Compute::back(&decoded)?.reshape(frames.shape())?;
                pairs.push((frames, decoded));
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
            let frame = self.compute.there(&frame)?;
            let mean = no_grad(|| self.vae.encode(&frame))?.mean;
            for value in Compute::back(&mean)?.to_vec() {
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
