//! A run's configuration: a TOML file in which every number is written out and no unknown key is
//! let pass. Files choose behaviour; the command chooses only where the data and the run are.

use crate::checkpoint::difference::flat;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Everything that decides a run, and so its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Seed of the first weights, of the order of the clips and of everything drawn for a clip.
    pub seed: u64,
    /// What is trained.
    pub model: Model,
    /// What it is shown.
    pub data: Data,
    /// Where the first weights come from.
    pub start: Start,
    /// How the weights move.
    pub optimiser: Optimiser,
    /// The average of the weights over the run, which is what samples and models are made of.
    pub average: Average,
    /// How long the run is and what it leaves behind.
    pub run: Run,
}

/// What is trained: one trainer, two kinds of model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Model {
    /// Pictures to latents and back.
    Autoencoder(Autoencoder),
    /// A still to a moving picture, in the latents of a finished autoencoder.
    ImageToVideo(ImageToVideo),
}

/// An autoencoder and its losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Autoencoder {
    /// Whether the frames of a clip see their neighbours while they are decoded, as in the published
    /// model. Its norms have 32 groups.
    pub temporal: bool,
    /// Channels at each level, the finest first; each a multiple of `norm_groups`.
    pub block_out_channels: Vec<usize>,
    /// Groups of the norms. With few channels to a group a norm takes away what colour the picture
    /// is; four or more keep it.
    pub norm_groups: usize,
    /// Residual blocks of a level of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Side in pixels of the squares it is trained on, cut at random from the frames: an
    /// autoencoder learns from small pieces as well as from whole pictures, and sooner.
    pub crop_px: usize,
    /// Weight of the mean absolute error of a pixel, pixels being in −1..1.
    pub l1_weight: f32,
    /// Weight of the mean squared error of a pixel.
    pub l2_weight: f32,
    /// Weight of the divergence of the latents from a unit normal, per latent value.
    pub kl_weight: f32,
}

/// A denoiser of latent clips, told a still.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageToVideo {
    /// Folder of the finished model whose `vae` is used, frozen. A relative path starts at the run's
    /// folder, so that runs side by side find each other.
    pub autoencoder: PathBuf,
    /// Whether the latents of all frames are made once and kept in memory.
    pub keep_latents: bool,
    /// The denoiser.
    pub unet: UNet,
    /// The tower that turns the still into the one token the denoiser attends to.
    pub image_encoder: ImageEncoder,
    /// The law of the noise a clip is trained under.
    pub noise: LogNormal,
    /// The law of the noise added to the still before it is encoded.
    pub still_noise: LogNormal,
    /// p of the joint dropout of the conditions: one uniform u for each clip, the token is zeroed
    /// where u < 2p, the still's latent where p ≤ u < 3p; so each goes alone and both together with p.
    pub condition_dropout: f32,
}

/// The sizes of a denoiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNet {
    /// Channels at each level, the finest first; each a multiple of 32, the groups of its norms.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of a level on the way down; the way up has one more.
    pub layers_per_block: usize,
    /// Whether each level attends; the middle always does.
    pub attention: Vec<bool>,
    /// Heads of the attention at each level.
    pub attention_heads: Vec<usize>,
    /// Width of the sinusoid each of fps, motion and still noise is shown as.
    pub addition_time_embed_dim: usize,
}

/// The sizes of a CLIP vision tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageEncoder {
    /// Side in pixels of the square picture it sees.
    pub image_size: usize,
    /// Side in pixels of a patch, which becomes one token.
    pub patch_size: usize,
    /// Width of a token inside the tower.
    pub hidden_size: usize,
    /// Width inside the feed-forward of a layer.
    pub intermediate_size: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of the attention.
    pub attention_heads: usize,
    /// Width of the token it gives.
    pub projection_dim: usize,
}

/// ln σ ~ N(mean, std²).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogNormal {
    /// Mean of ln σ.
    pub mean: f32,
    /// Standard deviation of ln σ.
    pub std: f32,
}

/// Which clips are cut from the videos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Width of the frames in pixels; the videos are scaled to cover and cropped in the middle.
    pub width: usize,
    /// Height of the frames in pixels.
    pub height: usize,
    /// Frames of a clip.
    pub frames: usize,
    /// Most frames a second kept of a video; a faster one is thinned to its rate divided by a whole
    /// number.
    pub max_fps: u32,
    /// Steps from one frame of a clip to the next, counted in kept frames; clips are cut at each of
    /// these, and the model is told the frames a second that come of it.
    pub strides: Vec<usize>,
    /// Most gigabytes of disk for the decoded frames, which stand in the run's folder.
    pub disk_gb: f64,
    /// Whether half the clips are shown as in a mirror.
    pub mirror: bool,
    /// How many videos, the last by name, are kept from training; samples are made from them. Of
    /// shards, all clips of so many of the videos they were cut out of.
    pub held_out: usize,
}

/// Where the first weights come from. A run found in the run's folder goes on before any of these is
/// looked at; where neither is given, the weights are drawn at random.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// A checkpoint of another run to go on from: weights, average and optimiser, under this
    /// configuration. Relative paths start at the run's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continue_from: Option<PathBuf>,
    /// A finished model to take the weights from. Relative paths start at the run's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialise_from: Option<PathBuf>,
}

/// How the weights move: AdamW.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimiser {
    /// Names of the weights that are trained, `*` standing for anything; the rest is frozen.
    pub trainable: Vec<String>,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps over which it rises from zero in a straight line.
    pub warm_up_steps: u64,
    /// How it falls afterwards.
    pub decay: Decay,
    /// Decay of the average of the gradient.
    pub beta1: f64,
    /// Decay of the average of its square.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub epsilon: f64,
    /// Share of itself, times the learning rate, that a weight loses at each step.
    pub weight_decay: f64,
    /// Gradients longer than this, all weights together, are shortened to it.
    pub clip_norm: f64,
}

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "law", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// Along half a cosine, reaching a share of the highest at the last step.
    Cosine {
        /// The share of the highest learning rate that is left at the last step.
        last_share: f64,
    },
}

/// The exponential moving average of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Average {
    /// The share of itself the average keeps at each step. Early on it keeps less,
    /// (1 + n) / (10 + n) after n steps, so that it leaves the first weights behind.
    pub decay: f64,
}

/// How long the run is and what it leaves behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Steps of the optimiser.
    pub steps: u64,
    /// Clips computed at once.
    pub batch: usize,
    /// Batches whose gradients are averaged into one step.
    pub accumulate: usize,
    /// Whether blocks are computed again on the way back instead of being kept: less memory for
    /// about a third more time.
    pub recompute: bool,
    /// Steps between lines of the log.
    pub report_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// How many checkpoints are kept, the last ones.
    pub keep_checkpoints: usize,
    /// Steps between samples.
    pub sample_every: u64,
    /// How samples are made; only an image-to-video model asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
}

/// How samples are made: with the published noise levels and Euler's method.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Steps of the sampler.
    pub steps: usize,
    /// Guidance at the first frame.
    pub guidance_min: f32,
    /// Guidance at the last frame.
    pub guidance_max: f32,
    /// Noise of the still in samples.
    pub noise_aug: f32,
}

/// The most levels of a network: halving so often leaves no picture.
const MAX_LEVELS: usize = 12;

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When the file cannot be read, has a key that is not known or lacks one that is needed, or
    /// its settings contradict each other.
    pub fn read(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let config = Config::parse(path, &text)?;
        Ok(config)
    }

    /// Reads a configuration from its text; `path` is where errors say it came from.
    ///
    /// # Errors
    /// As `read`.
    pub fn parse(path: &Path, text: &str) -> Result<Config> {
        let config: Config = toml::from_str(text)
            .map_err(|error| Error::config(path, error.to_string().trim_end()))?;
        // A law of decay without settings cannot refuse those of another by itself.
        if let (Ok(given), Ok(known)) = (flat(text), flat(&config.to_toml()))
            && let Some(key) = given.keys().find(|key| !known.contains_key(*key))
        {
            return Err(Error::config(
                path,
                format!("{key}: this key means nothing here; remove it"),
            ));
        }
        config
            .check()
            .map_err(|message| Error::config(path, message))?;
        Ok(config)
    }

    /// The configuration as TOML, every number written out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every part of a configuration has a TOML form")
    }

    /// Clips that go into one step.
    pub fn clips_per_step(&self) -> usize {
        self.run.batch * self.run.accumulate
    }

    fn check(&self) -> std::result::Result<(), String> {
        let positive = [
            ("data.frames", self.data.frames as u64),
            ("data.max_fps", u64::from(self.data.max_fps)),
            ("data.strides", self.data.strides.len() as u64),
            ("run.steps", self.run.steps),
            ("run.batch", self.run.batch as u64),
            ("run.accumulate", self.run.accumulate as u64),
            ("run.report_every", self.run.report_every),
            ("run.checkpoint_every", self.run.checkpoint_every),
            ("run.keep_checkpoints", self.run.keep_checkpoints as u64),
            ("run.sample_every", self.run.sample_every),
            ("optimiser.trainable", self.optimiser.trainable.len() as u64),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name}: expected at least one, found none"));
        }
        if self.data.strides.contains(&0) {
            return Err("data.strides: expected 1 or more, found 0".into());
        }
        self.optimiser.check()?;
        check_number("average.decay", self.average.decay, 0.0..1.0)?;
        check_number("data.disk_gb", self.data.disk_gb, 1e-9..1e9)?;
        if self.start.continue_from.is_some() && self.start.initialise_from.is_some() {
            return Err(
                "start: expected continue_from or initialise_from, found both; keep one".into(),
            );
        }
        match &self.model {
            Model::Autoencoder(model) => model.check(&self.data),
            Model::ImageToVideo(model) => model.check(&self.run),
        }
    }
}

impl Optimiser {
    fn check(&self) -> std::result::Result<(), String> {
        for (name, value, allowed) in [
            ("learning_rate", self.learning_rate, 0.0..f64::MAX),
            ("beta1", self.beta1, 0.0..1.0),
            ("beta2", self.beta2, 0.0..1.0),
            ("epsilon", self.epsilon, f64::MIN_POSITIVE..f64::MAX),
            ("weight_decay", self.weight_decay, 0.0..f64::MAX),
        ] {
            check_number(&format!("optimiser.{name}"), value, allowed)?;
        }
        if let Decay::Cosine { last_share } = self.decay {
            check_number("optimiser.decay.last_share", last_share, 0.0..f64::MAX)?;
        }
        // Infinity is how one says that gradients are not to be shortened.
        match self.clip_norm > 0.0 {
            true => Ok(()),
            false => Err(format!(
                "optimiser.clip_norm: expected a number above 0, found {}",
                self.clip_norm
            )),
        }
    }
}

/// Refuses a number outside its range, NaN among them.
fn check_number(
    name: &str,
    value: f64,
    allowed: std::ops::Range<f64>,
) -> std::result::Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (low, high) = (allowed.start, allowed.end);
    let most = match high == f64::MAX {
        true => String::new(),
        false => format!(" and below {high}"),
    };
    Err(format!(
        "{name}: expected a number from {low} up{most}, found {value}"
    ))
}

impl Autoencoder {
    fn check(&self, data: &Data) -> std::result::Result<(), String> {
        if self.temporal && self.norm_groups != 32 {
            return Err(format!(
                "model.norm_groups: expected 32, which a temporal decoder has, found {}",
                self.norm_groups
            ));
        }
        check_channels(&self.block_out_channels, self.norm_groups)?;
        let step = 1 << (self.block_out_channels.len() - 1);
        for (name, side) in [("width", data.width), ("height", data.height)] {
            if side == 0 || !side.is_multiple_of(step) {
                return Err(format!(
                    "data.{name}: expected a multiple of {step}, which is how much this autoencoder shrinks, found {side}"
                ));
            }
        }
        let fits = self.crop_px > 0 && self.crop_px <= data.width.min(data.height);
        if !fits || !self.crop_px.is_multiple_of(step) {
            return Err(format!(
                "model.crop_px: expected a multiple of {step} up to {}, found {}",
                data.width.min(data.height),
                self.crop_px
            ));
        }
        Ok(())
    }
}

impl ImageToVideo {
    fn check(&self, run: &Run) -> std::result::Result<(), String> {
        let unet = &self.unet;
        check_channels(&unet.block_out_channels, 32)?;
        let levels = unet.block_out_channels.len();
        for (name, found) in [
            ("attention", unet.attention.len()),
            ("attention_heads", unet.attention_heads.len()),
        ] {
            if found != levels {
                return Err(format!(
                    "model.unet.{name}: expected {levels} entries, one for each of block_out_channels, found {found}"
                ));
            }
        }
        if !(0.0..=1.0 / 3.0).contains(&self.condition_dropout) {
            return Err(format!(
                "model.condition_dropout: expected 0 to 1/3, found {}",
                self.condition_dropout
            ));
        }
        for (name, law) in [("noise", self.noise), ("still_noise", self.still_noise)] {
            let std = f64::from(law.std);
            check_number(&format!("model.{name}.std"), std, 0.0..f64::MAX)?;
        }
        match run.sampling {
            None => return Err("run.sampling: an image_to_video run needs this table".into()),
            Some(sampling) if sampling.steps == 0 => {
                return Err("run.sampling.steps: expected at least one, found none".into());
            }
            Some(_) => {}
        }
        Ok(())
    }
}

fn check_channels(channels: &[usize], groups: usize) -> std::result::Result<(), String> {
    if !(1..=MAX_LEVELS).contains(&channels.len()) {
        return Err(format!(
            "block_out_channels: expected 1 to {MAX_LEVELS} levels, found {}",
            channels.len()
        ));
    }
    match channels
        .iter()
        .find(|c| **c == 0 || groups == 0 || *c % groups != 0)
    {
        Some(c) => Err(format!(
            "block_out_channels: expected multiples of {groups}, the groups of the norms, found {c}"
        )),
        None => Ok(()),
    }
}
