//! A folder with small videos to train on, the smallest models, and what a run left behind.

// Each test binary takes what it needs of it.
#![allow(dead_code)]

use kinora_media::{FootageOptions, Fps, render_footage};
use kinora_train::{Compute, Config, Error, Event, Outcome, Places, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The smallest autoencoder, trained for five steps.
pub const AUTOENCODER: &str = include_str!("../../../../fixtures/train/autoencoder.toml");

const IMAGE_TO_VIDEO_MODEL: &str =
    include_str!("../../../../fixtures/train/image_to_video_model.toml");

/// The autoencoder's configuration with the other model in its place.
pub fn image_to_video() -> String {
    let from = AUTOENCODER.find("[model]").expect("a model");
    let to = AUTOENCODER.find("[data]").expect("data");
    let sampling =
        "sampling = { steps = 2, guidance_min = 1.0, guidance_max = 2.0, noise_aug = 0.02 }";
    format!(
        "{}{IMAGE_TO_VIDEO_MODEL}{}{sampling}\n",
        &AUTOENCODER[..from],
        &AUTOENCODER[to..]
    )
}

/// Every file of a finished model by its name in the folder.
pub fn model_files(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![run.join("model")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a model folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path
                    .strip_prefix(run)
                    .expect("inside")
                    .display()
                    .to_string();
                found.push((name, fs::read(&path).expect("a file")));
            }
        }
    }
    found.sort();
    assert!(found.iter().any(|(name, _)| name.ends_with(".safetensors")));
    found
}

/// The log without what the clock put there.
pub fn log_numbers(run: &Path) -> Vec<(u64, f64, f64, f64)> {
    let lines = kinora_train::log::Log::read(&run.join("log.jsonl")).expect("a log");
    let numbers = lines.iter();
    numbers
        .map(|line| (line.step, line.loss, line.learning_rate, line.gradient_norm))
        .collect()
}

/// A folder to train in.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A folder with three small videos.
    pub fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let options = FootageOptions {
            videos: 3,
            width: 24,
            height: 16,
            fps: Fps::whole(8).expect("not zero"),
            shot_secs: 0.7,
            ..FootageOptions::default()
        };
        render_footage(&folder.path().join("videos"), &options, &mut |_, _| {}).expect("footage");
        Place { folder }
    }

    /// The folder of the run of that name.
    pub fn run_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Trains in the folder `name`, stopping after the step `last` where one is given.
    pub fn train(&self, config: &str, name: &str, last: Option<u64>) -> Result<Outcome, Error> {
        let config = Config::parse(Path::new("test.toml"), config)?;
        self.train_config(&config, name, last)
    }

    /// Likewise, with a configuration that is parsed.
    pub fn train_config(
        &self,
        config: &Config,
        name: &str,
        last: Option<u64>,
    ) -> Result<Outcome, Error> {
        self.train_on(Compute::PROCESSOR, config, name, last)
    }

    /// Likewise, wherever it is to compute.
    pub fn train_on(
        &self,
        compute: Compute,
        config: &Config,
        name: &str,
        last: Option<u64>,
    ) -> Result<Outcome, Error> {
        self.train_watched(
            compute,
            config,
            name,
            &mut |event| matches!(event, Event::Step { step, .. } if Some(*step) == last),
        )
    }

    /// Likewise, stopping when `ends` says so of what is told.
    pub fn train_watched(
        &self,
        compute: Compute,
        config: &Config,
        name: &str,
        ends: &mut (dyn FnMut(&Event<'_>) -> bool + Send),
    ) -> Result<Outcome, Error> {
        let stop = AtomicBool::new(false);
        let (data, own) = (self.folder.path().join("videos"), self.run_folder(name));
        let places = Places {
            data: &data,
            run: &own,
            compute,
        };
        run(config, &places, &stop, &mut |event| {
            if ends(&event) {
                stop.store(true, Ordering::Relaxed);
            }
        })
    }
}
