//! What can go wrong in a run, told so that the reader can mend it.

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
