//! The two kinds of model behind the one trainer.

use crate::autoencoder::AutoencoderTask;
use crate::batch::Draw;
use crate::clips::Clips;
use crate::compute::Compute;
use crate::config::{Config, Model};
use crate::image_to_video::ImageToVideoTask;
use crate::trainable::Weight;
use crate::{Error, Result};
use kinora_model::params::Params;
use kinora_tensor::{Param, Tensor};
use std::path::{Path, PathBuf};

/// A model under training.
#[derive(Debug)]
pub enum Task {
    /// Pictures to latents and back.
    Autoencoder(Box<AutoencoderTask>),
    /// A still to a moving picture.
    ImageToVideo(Box<ImageToVideoTask>),
}

impl Task {
    /// The model of a configuration with fresh weights, on the processor until they are moved to where
    /// `compute` says.
    ///
    /// # Errors
    /// When its sizes contradict each other, or it needs an autoencoder that is not there.
    pub fn fresh(config: &Config, run: &Path, compute: Compute) -> Result<Task> {
        match &config.model {
            Model::Autoencoder(model) => {
                let task = AutoencoderTask::fresh(model, config, compute)?;
                Ok(Task::Autoencoder(Box::new(task)))
            }
            Model::ImageToVideo(model) => {
                let autoencoder = finished_autoencoder(&run.join(&model.autoencoder))?;
                let task = ImageToVideoTask::fresh(config, &autoencoder, compute)?;
                Ok(Task::ImageToVideo(Box::new(task)))
            }
        }
    }

    /// The model of a configuration with the weights in a model folder, likewise.
    ///
    /// # Errors
    /// When the folder holds another model.
    pub fn open(config: &Config, model: &Path, compute: Compute) -> Result<Task> {
        match &config.model {
            Model::Autoencoder(sizes) => {
                let task = AutoencoderTask::open(sizes, model, config, compute)?;
                Ok(Task::Autoencoder(Box::new(task)))
            }
            Model::ImageToVideo(_) => {
                let task = ImageToVideoTask::open(config, model, compute)?;
                Ok(Task::ImageToVideo(Box::new(task)))
            }
        }
    }

    /// Every weight the optimiser may be given, in an order that stays.
    pub fn weights(&self) -> Vec<Weight> {
        let of = |folder: &str, params: &Params| -> Vec<Weight> {
            let named = params.iter().map(|entry| Weight {
                name: format!("{folder}.{}", entry.name),
                param: entry.param.clone(),
            });
            named.collect()
        };
        match self {
            Task::Autoencoder(task) => of("vae", &task.params),
            Task::ImageToVideo(task) => [
                of("unet", &task.unet_params),
                of("image_encoder", &task.image_encoder_params),
            ]
            .concat(),
        }
    }

    /// Every parameter there is, those that no optimiser is given among them.
    pub fn all_params(&self) -> impl Iterator<Item = &Param> {
        let lists = match self {
            Task::Autoencoder(task) => vec![&task.params],
            Task::ImageToVideo(task) => task.all_params(),
        };
        lists.into_iter().flatten().map(|entry| &entry.param)
    }

    /// Decides whether the latents in the shards are taken: `Err` says why not. None where there are
    /// none, or the model has no use for them.
    pub fn take_latents(&mut self, clips: &Clips) -> Option<std::result::Result<(), String>> {
        match self {
            Task::Autoencoder(_) => None,
            Task::ImageToVideo(task) => task.take_latents(clips),
        }
    }

    /// Whatever is to be computed once before the first step.
    ///
    /// # Errors
    /// None beyond those of the arrays.
    pub fn prepare(
        &mut self,
        clips: &Clips,
        mirror: bool,
        on_track: &mut dyn FnMut(usize, usize),
    ) -> Result<()> {
        match self {
            Task::Autoencoder(_) => Ok(()),
            Task::ImageToVideo(task) => task.encode_all(clips, mirror, on_track),
        }
    }

    /// The loss of a batch, `[1]`.
    ///
    /// # Errors
    /// None beyond those of the arrays.
    pub fn loss(&self, clips: &Clips, draws: &mut [Draw]) -> Result<Tensor> {
        match self {
            Task::Autoencoder(task) => task.loss(clips, draws),
            Task::ImageToVideo(task) => task.loss(clips, draws),
        }
    }

    /// Clips the model has not seen, and what it makes of them: each `[t, h, w, 3]`.
    ///
    /// # Errors
    /// None beyond those of the arrays.
    pub fn samples(&self, clips: &Clips, seed: u64, count: usize) -> Result<Vec<(Tensor, Tensor)>> {
        match self {
            Task::Autoencoder(task) => task.samples(clips, count),
            Task::ImageToVideo(task) => task.samples(clips, seed, count),
        }
    }

    /// Writes the model as it is, in the published layout.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn publish(&self, model: &Path, clips: &Clips) -> Result<()> {
        match self {
            Task::Autoencoder(task) => task.publish(model, clips),
            Task::ImageToVideo(task) => task.publish(model, clips),
        }
    }
}

/// The finished model in the folder of an autoencoder's run, or the folder itself.
fn finished_autoencoder(folder: &Path) -> Result<PathBuf> {
    let inside = folder.join("model");
    for candidate in [inside.as_path(), folder] {
        if candidate.join("vae").join("config.json").is_file() {
            return Ok(candidate.to_path_buf());
        }
    }
    Err(Error::data(
        folder,
        "expected a finished autoencoder (a folder `vae`, here or in `model`), found none; train one first with configs/small_autoencoder.toml, or let model.autoencoder say where it is, seen from the run's folder",
    ))
}
