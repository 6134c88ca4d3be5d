//! A folder with small videos to train on, and the smallest autoencoder.

use kinora_media::{FootageOptions, Fps, render_footage};
use kinora_train::{Compute, Config, Error, Event, Outcome, Places, run};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The smallest autoencoder, trained for five steps.
pub const AUTOENCODER: &str = include_str!("../../../../fixtures/train/autoencoder.toml");

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
        let stop = AtomicBool::new(false);
        let (data, own) = (self.folder.path().join("videos"), self.run_folder(name));
        let places = Places {
            data: &data,
            run: &own,
            compute,
        };
        run(config, &places, &stop, &mut |event| {
            if let Event::Step { step, .. } = event
                && Some(step) == last
            {
                stop.store(true, Ordering::Relaxed);
            }
        })
    }
}
