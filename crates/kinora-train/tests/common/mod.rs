//! A folder with small videos to train on, and the smallest autoencoder.

use kinora_media::{FootageOptions, Fps, render_footage};
use kinora_train::{Config, Error, Event, Outcome, run};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The smallest autoencoder, trained for five steps.
pub const AUTOENCODER: &str = r#"
seed = 5

[model]
kind = "autoencoder"
temporal = true
block_out_channels = [32, 32]
norm_groups = 32
layers_per_block = 1
latent_channels = 4
crop_px = 16
l1_weight = 1.0
l2_weight = 0.5
kl_weight = 1e-5

[data]
width = 24
height = 16
frames = 2
max_fps = 8
strides = [1]
disk_gb = 1.0
mirror = true
held_out = 1

[start]

[optimiser]
trainable = ["*"]
learning_rate = 1e-3
warm_up_steps = 3
decay = { law = "cosine", last_share = 0.1 }
beta1 = 0.9
beta2 = 0.99
epsilon = 1e-8
weight_decay = 0.01
clip_norm = 1.0

[average]
decay = 0.99

[run]
steps = 5
batch = 2
accumulate = 2
recompute = false
report_every = 2
checkpoint_every = 3
keep_checkpoints = 2
sample_every = 5
"#;

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
        let stop = AtomicBool::new(false);
        let videos = self.folder.path().join("videos");
        run(
            config,
            &videos,
            &self.run_folder(name),
            &stop,
            &mut |event| {
                if let Event::Step { step, .. } = event
                    && Some(step) == last
                {
                    stop.store(true, Ordering::Relaxed);
                }
            },
        )
    }
}
