//! A run at rest: everything a later process needs to go on as if nothing had happened.
//!
//! `RUN/checkpoints/step-00000400/` holds `model/`, the averaged weights in the published layout,
//! ready to generate with; `training.safetensors`, the weights themselves and the optimiser's state;
//! `state.json`, how far the run is; and `config.toml`. It is written under another name and
//! renamed, so a folder of that name is whole.

pub(crate) mod difference;
mod standing;
mod training;

use crate::clips::Clips;
use crate::compute::{self, Compute};
use crate::config::Config;
use crate::ema::Average;
use crate::optim::Optimiser;
use crate::task::Task;
use crate::trainable::{Weight, set_trainable};
use crate::{Error, Result};
use kinora_tensor::{DType, Device, Param};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub use standing::{Standing, model_inside, standing};

/// How far a run is. Everything random is a function of the seed and of these numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Steps the optimiser has done, those of a run this one continues included.
    pub optimiser_steps: u64,
    /// The number of the next clip: the place in the data and in every random stream.
    pub next_clip: u64,
    /// Which clips the run was on, and what was told of them.
    pub clips_digest: u64,
    /// Seconds of training so far.
    pub elapsed_secs: f64,
    /// What the next line of the log has gathered.
    pub window: Window,
}

/// Sums over the steps since the last line of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Steps.
    pub steps: u64,
    /// Sum of their losses.
    pub loss: f64,
    /// Sum of the lengths of their gradients.
    pub gradient_norm: f64,
    /// Seconds they took.
    pub secs: f64,
}

/// Where the weights of a run came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The run's own last checkpoint.
    Resumed(PathBuf),
    /// A checkpoint of another run.
    Continued(PathBuf),
    /// A finished model.
    Initialised(PathBuf),
    /// Random draws.
    Scratch,
}

/// A run ready for its next step.
#[derive(Debug)]
pub struct Started {
    /// Where its weights came from.
    pub origin: Origin,
    /// The model.
    pub task: Task,
    /// Its weights.
    pub weights: Vec<Weight>,
    /// How many values are trained.
    pub trained: usize,
    /// The optimiser.
    pub optimiser: Optimiser,
    /// The averaged weights.
    pub average: Average,
    /// How far it is.
    pub state: State,
}

/// Brings a run to where it can go on: from its own last checkpoint; else from another run's; else
/// from a finished model; else from random draws.
///
/// # Errors
/// When what is found does not fit the configuration or the videos, saying in what.
pub fn start(config: &Config, run: &Path, clips: &Clips, compute: Compute) -> Result<Started> {
    remove_unfinished(run)?;
    let origin = match (last(run)?, &config.start) {
        (Some(own), _) => Origin::Resumed(own),
        (None, start) => match (&start.continue_from, &start.initialise_from) {
            (Some(other), _) => Origin::Continued(last_of(&run.join(other))?),
            (None, Some(model)) => Origin::Initialised(run.join(model)),
            (None, None) => Origin::Scratch,
        },
    };
    let mut state = State {
        clips_digest: clips.digest(),
        ..State::default()
    };
    let task = match &origin {
        Origin::Resumed(path) => {
            let before = read_state(path)?;
            difference::check(path, config)?;
            if before.clips_digest != state.clips_digest {
                return Err(Error::checkpoint(
                    path,
                    "the videos are not those the run was on, or other rates or motion are told of them; give --data the same folder, or begin a new run with start.continue_from",
                ));
            }
            state = before;
            Task::open(config, &path.join("model"), compute)?
        }
        Origin::Continued(path) => {
            state.optimiser_steps = read_state(path)?.optimiser_steps;
            Task::open(config, &path.join("model"), compute)?
        }
        Origin::Initialised(model) => Task::open(config, model, compute)?,
        Origin::Scratch => Task::fresh(config, run, compute)?,
    };
    let weights = task.weights();
    let patterns = &config.optimiser.trainable;
    let trained = set_trainable(&run.join("config.toml"), &weights, patterns)?;
    let mut optimiser = Optimiser::new(&config.optimiser, &weights);
    // The model folder of a checkpoint holds the averages; the weights themselves follow after.
    let average = Average::new(&weights);
    if let Origin::Resumed(path) | Origin::Continued(path) = &origin {
        training::restore(path, &weights, &mut optimiser)?;
    }
    let mut started = Started {
        origin,
        task,
        weights,
        trained,
        optimiser,
        average,
        state,
    };
    started.move_to(compute.device())?;
    Ok(started)
}

impl Started {
    /// Brings everything that was made on the processor to where the run computes.
    fn move_to(&mut self, device: Device) -> Result<()> {
        if device == Device::Cpu {
            return Ok(());
        }
        for param in self.task.all_params() {
            param.set(param.get().to_dtype(DType::F32)?.to_device(device)?);
        }
        self.optimiser.move_to(device)?;
        self.average.follow_weights()
    }

    /// What stands in the memory of the device through the whole run.
    pub fn standing(&self, config: &Config) -> compute::Standing {
        const F32: usize = size_of::<f32>();
        let values = |param: &Param| param.get().elements();
        let all: usize = self.task.all_params().map(values).sum();
        // Those of the batch at hand, and the sum of those before it.
        let sets = if config.run.accumulate > 1 { 2 } else { 1 };
        compute::Standing {
            weights_bytes: F32 * all,
            moments_bytes: 2 * F32 * self.trained,
            averages_bytes: F32 * self.trained,
            gradients_bytes: sets * F32 * self.trained,
        }
    }
}

/// Writes a checkpoint and returns its folder.
///
/// # Errors
/// When the file system refuses; the checkpoints before it are untouched then.
pub fn write(run: &Path, config: &Config, clips: &Clips, started: &Started) -> Result<PathBuf> {
    let folder = folder_of(run, started.state.step);
    let beside = folder.with_extension("unfinished");
    if beside.exists() {
        std::fs::remove_dir_all(&beside).map_err(Error::io("remove", &beside))?;
    }
    std::fs::create_dir_all(&beside).map_err(Error::io("create", &beside))?;
    let model = beside.join("model");
    started
        .average
        .in_place(|| started.task.publish(&model, clips))?;
    training::write(&beside.join("training.safetensors"), started)?;
    write_text(&beside.join("config.toml"), &config.to_toml())?;
    let state = serde_json::to_string_pretty(&started.state).expect("numbers have a JSON form");
    write_text(&beside.join("state.json"), &(state + "\n"))?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?;
    }
    std::fs::rename(&beside, &folder).map_err(Error::io("rename", &beside))?;
    let checkpoints = all(run)?;
    for old in checkpoints.iter().rev().skip(config.run.keep_checkpoints) {
        // Out of its name first: killed here, it must not stand there by halves.
        let parting = old.with_extension("unfinished");
        std::fs::rename(old, &parting).map_err(Error::io("rename", old))?;
        std::fs::remove_dir_all(&parting).map_err(Error::io("remove", &parting))?;
    }
    Ok(folder)
}

/// Writes the finished model, `RUN/model`, in place of one that is there, and returns its folder.
///
/// # Errors
/// When the file system refuses.
pub fn finish(run: &Path, clips: &Clips, started: &Started) -> Result<PathBuf> {
    let (model, beside) = (run.join("model"), run.join("model.unfinished"));
    let remove = |old: &Path| -> Result<()> {
        match old.exists() {
            true => std::fs::remove_dir_all(old).map_err(Error::io("remove", old)),
            false => Ok(()),
        }
    };
    remove(&beside)?;
    started
        .average
        .in_place(|| started.task.publish(&beside, clips))?;
    // A disk that fills up while the new one is written costs nobody the old one.
    remove(&model)?;
    std::fs::rename(&beside, &model).map_err(Error::io("rename", &beside))?;
    Ok(model)
}

/// The checkpoints of a run, the oldest first.
fn all(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join("checkpoints");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
        let path = entry.map_err(Error::io("read", &folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let step = name
            .strip_prefix("step-")
            .and_then(|step| step.parse::<u64>().ok());
        if let Some(step) = step {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The last checkpoint of a run.
fn last(run: &Path) -> Result<Option<PathBuf>> {
    Ok(all(run)?.pop())
}

/// The last checkpoint of a run's folder, or the folder itself where it is a checkpoint.
fn last_of(folder: &Path) -> Result<PathBuf> {
    if folder.join("state.json").is_file() {
        return Ok(folder.to_path_buf());
    }
    last(folder)?.ok_or_else(|| {
        Error::checkpoint(
            folder,
            "expected a run's folder or one of its checkpoints, found neither; mend start.continue_from, which is seen from the run's folder",
        )
    })
}

/// Removes what a killed process left half written.
fn remove_unfinished(run: &Path) -> Result<()> {
    for folder in ["", "checkpoints", "frames", "samples"].map(|name| run.join(name)) {
        if !folder.exists() {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let path = entry.map_err(Error::io("read", &folder))?.path();
            let name = path.file_name().unwrap_or_default();
            // Pictures and frames are written under such names.
            let is_temporary = kinora_media::is_unfinished(name);
            let name = name.to_string_lossy();
            if path.is_dir() && name.ends_with(".unfinished") {
                std::fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            } else if path.is_file() && (is_temporary || name.ends_with(".unfinished")) {
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    Ok(())
}

fn folder_of(run: &Path, step: u64) -> PathBuf {
    run.join("checkpoints").join(format!("step-{step:08}"))
}

fn read_state(checkpoint: &Path) -> Result<State> {
    let path = checkpoint.join("state.json");
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    serde_json::from_str(&text).map_err(|error| {
        Error::checkpoint(
            checkpoint,
            format!("state.json cannot be read ({error}); remove this folder to go on from the checkpoint before it"),
        )
    })
}

/// Puts a text in the place of a file in one move.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn replace_text(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("unfinished");
    write_text(&beside, text)?;
    std::fs::rename(&beside, path).map_err(Error::io("replace", path))
}

pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::io("write", path))
}
