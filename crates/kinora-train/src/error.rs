//! What can go wrong in a run, told so that the reader can mend it.

use crate::checkpoint::standing;
use std::path::{Path, PathBuf};

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a run could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation refused its operands.
    #[error(transparent)]
    Tensor(#[from] kinora_tensor::Error),
    /// A network could not be built, loaded, saved or run.
    #[error(transparent)]
    Model(#[from] kinora_model::Error),
    /// A diffusion equation or sampler refused its arguments.
    #[error(transparent)]
    Diffusion(#[from] kinora_diffusion::Error),
    /// A video could not be read, or a picture written.
    #[error(transparent)]
    Media(#[from] kinora_media::Error),
    /// The file system refused.
    #[error("{}: could not {action}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or folder it was done to.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A configuration cannot be used.
    #[error("{}: {message}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found, and what to do.
        message: String,
    },
    /// The videos cannot be trained on as asked.
    #[error("{}: {message}", path.display())]
    Data {
        /// The folder or the file.
        path: PathBuf,
        /// What was expected, what was found, and what to do.
        message: String,
    },
    /// A checkpoint cannot be gone on from.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What was expected, what was found, and what to do.
        message: String,
    },
    /// A device cannot train as asked.
    #[error("dtype: {message}")]
    Compute {
        /// What was expected, what was found, and what to do.
        message: String,
    },
    /// A card has no memory left for a step, or for what is made of its weights.
    #[error(
        "{doing}: {reason}; a step takes less with run.recompute = true, with a smaller run.batch and as much more run.accumulate, or with fewer or smaller frames; {kept}"
    )]
    Memory {
        /// What was being done, with its step.
        doing: String,
        /// The device's own words.
        reason: String,
        /// What is left of the run.
        kept: String,
    },
    /// A loss, a gradient or a weight is NaN or infinite.
    #[error(
        "step {step}: {place} is {value}; the run stopped there, and no checkpoint was written after the step before: lower optimiser.learning_rate or optimiser.clip_norm, or raise optimiser.warm_up_steps, and begin a new run (start.continue_from can name a checkpoint from before the trouble)"
    )]
    NotFinite {
        /// The step, counted from 1.
        step: u64,
        /// The loss, or a parameter or its gradient by its name.
        place: String,
        /// The value found.
        value: f32,
    },
}

impl Error {
    /// This error, told with what to do where a card has no memory left for what was being done. What
    /// a run keeps is written whole or not at all, so its last checkpoint is as it was.
    pub(crate) fn out_of_memory(self, doing: &str, run: &Path) -> Error {
        use kinora_diffusion::Error::Tensor as OfDiffusion;
        use kinora_model::Error::{Diffusion, Tensor as OfModel};
        let (Error::Tensor(reason)
        | Error::Model(OfModel(reason) | Diffusion(OfDiffusion(reason)))
        | Error::Diffusion(OfDiffusion(reason))) = &self
        else {
            return self;
        };
        let kinora_tensor::Error::Device { message, .. } = reason else {
            return self;
        };
        if !message.starts_with("out of memory") {
            return self;
        }
        let kept = match standing(run) {
            Ok(Some(standing)) => format!(
                "the same command goes on from the checkpoint of step {}",
                standing.step
            ),
            _ => "no checkpoint was written yet".to_owned(),
        };
        Error::Memory {
            doing: doing.to_owned(),
            reason: reason.to_string(),
            kept,
        }
    }

    /// An error of the file system.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    }

    /// A configuration that cannot be used.
    pub(crate) fn config(path: &Path, message: impl Into<String>) -> Error {
        Error::Config {
            path: path.to_path_buf(),
            message: message.into(),
        }
    }

    /// Videos that cannot be trained on.
    pub(crate) fn data(path: &Path, message: impl Into<String>) -> Error {
        Error::Data {
            path: path.to_path_buf(),
            message: message.into(),
        }
    }

    /// A checkpoint that cannot be gone on from.
    pub(crate) fn checkpoint(path: &Path, message: impl Into<String>) -> Error {
        Error::Checkpoint {
            path: path.to_path_buf(),
            message: message.into(),
        }
    }
}
