//! What a model's folder says of how it wants to be sampled: the noise levels of its scheduler, and,
//! where Kinora trained it, the size, speed and guidance it was made for.

use anyhow::Context as _;
use serde::Deserialize;
use std::path::Path;

/// A model's own settings for sampling; what it does not say is diffusers' default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    /// Frames of a clip; none where the network's own number holds.
    pub frames: Option<usize>,
    /// Columns of a frame.
    pub width: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Steps of the sampler.
    pub steps: usize,
    /// Frames a second.
    pub fps: u32,
    /// How much motion.
    pub motion_bucket: f32,
    /// Noise of the still.
    pub noise_aug: f32,
    /// Guidance at the first frame.
    pub guidance_min: f32,
    /// Guidance at the last frame.
    pub guidance_max: f32,
    /// The noise level to begin at.
    pub sigma_max: f64,
    /// The last noise level above zero.
    pub sigma_min: f64,
}

/// The file a Kinora run writes beside its model.
#[derive(Debug, Default, Deserialize)]
struct Sampling {
    frames: Option<usize>,
    width: Option<usize>,
    height: Option<usize>,
    steps: Option<usize>,
    fps: Option<u32>,
    motion_bucket: Option<f32>,
    noise_aug: Option<f32>,
    guidance_min: Option<f32>,
    guidance_max: Option<f32>,
}

/// The part of a scheduler's settings that matters here.
#[derive(Debug, Default, Deserialize)]
struct Scheduler {
    sigma_max: Option<f64>,
    sigma_min: Option<f64>,
    prediction_type: Option<String>,
}

impl Defaults {
    /// Reads what `model` says.
    ///
    /// # Errors
    /// When a settings file is there and cannot be understood.
    pub fn of(model: &Path) -> anyhow::Result<Self> {
        let sampling: Sampling = read(&model.join("sampling.json"))?;
        let scheduler: Scheduler = read(&model.join("scheduler/scheduler_config.json"))?;
        if let Some(other) = scheduler
            .prediction_type
            .filter(|kind| kind != "v_prediction")
        {
            anyhow::bail!(
                "{}: expected a model that predicts v, found prediction_type {other}",
                model.display()
            );
        }
        Ok(Defaults {
            frames: sampling.frames,
            width: sampling.width.unwrap_or(1024),
            height: sampling.height.unwrap_or(576),
            steps: sampling.steps.unwrap_or(25),
            fps: sampling.fps.unwrap_or(7),
            motion_bucket: sampling.motion_bucket.unwrap_or(127.0),
            noise_aug: sampling.noise_aug.unwrap_or(0.02),
            guidance_min: sampling.guidance_min.unwrap_or(1.0),
            guidance_max: sampling.guidance_max.unwrap_or(3.0),
            sigma_max: scheduler.sigma_max.unwrap_or(700.0),
            sigma_min: scheduler.sigma_min.unwrap_or(0.002),
        })
    }
}

/// A settings file, or the default where there is none.
fn read<T: Default + serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{}", path.display())),
        // A single file has no folder beside it, so it has nothing to say.
        Err(_) if !path.exists() => Ok(T::default()),
        Err(error) => Err(error).with_context(|| format!("{}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_says_nothing_gets_the_defaults_of_diffusers() {
        let folder = tempfile::tempdir().unwrap();
        let defaults = Defaults::of(folder.path()).unwrap();
        assert_eq!(
            (defaults.width, defaults.height, defaults.steps),
            (1024, 576, 25)
        );
        assert_eq!((defaults.sigma_max, defaults.sigma_min), (700.0, 0.002));
    }

    #[test]
    fn a_folder_is_listened_to_and_refused_when_it_predicts_noise() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("sampling.json"),
            r#"{"width": 64, "fps": 8}"#,
        )
        .unwrap();
        std::fs::create_dir(folder.path().join("scheduler")).unwrap();
        let scheduler = folder.path().join("scheduler/scheduler_config.json");
        std::fs::write(&scheduler, r#"{"sigma_max": 80.0, "beta_start": 1}"#).unwrap();
        let defaults = Defaults::of(folder.path()).unwrap();
        assert_eq!(
            (defaults.width, defaults.height, defaults.fps),
            (64, 576, 8)
        );
        assert_eq!(defaults.sigma_max, 80.0);
        std::fs::write(&scheduler, r#"{"prediction_type": "epsilon"}"#).unwrap();
        let error = Defaults::of(folder.path()).unwrap_err().to_string();
        assert!(error.contains("found prediction_type epsilon"), "{error}");
    }
}
