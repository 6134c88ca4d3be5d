//! What a folder that a run wrote stands for, for those who look at it or use its model.

use super::{all, read_state};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// A run's folder, or one of its checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is a checkpoint and not the run itself.
    pub is_checkpoint: bool,
    /// Steps done.
    pub step: u64,
    /// The model that stands for it: the finished one, or that of the last checkpoint.
    pub model: PathBuf,
}

/// What `folder` is, where a run wrote it.
///
/// # Errors
/// When a run has no checkpoint yet, or its state cannot be read.
pub fn standing(folder: &Path) -> Result<Option<Standing>> {
    if !folder.join("config.toml").is_file() {
        return Ok(None);
    }
    if folder.join("state.json").is_file() {
        return Ok(Some(Standing {
            is_checkpoint: true,
            step: read_state(folder)?.step,
            model: folder.join("model"),
        }));
    }
    let last = all(folder)?.pop().ok_or_else(|| {
        Error::checkpoint(
            folder,
            "a training run without a checkpoint yet; `kinora train` goes on with it",
        )
    })?;
    let finished = folder.join("model");
    Ok(Some(Standing {
        is_checkpoint: false,
        step: read_state(&last)?.step,
        model: match finished.is_dir() {
            true => finished,
            false => last.join("model"),
        },
    }))
}

/// The model in a run's folder or in one of its checkpoints; the path itself where it is neither.
pub fn model_inside(path: &Path) -> PathBuf {
    let model = path.join("model");
    let is_run = path.join("config.toml").is_file() && model.is_dir();
    if is_run { model } else { path.to_path_buf() }
}
