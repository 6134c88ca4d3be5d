//! What a user may ask of a clip.

use super::model::Configs;
use crate::vae::Decoding;
use crate::{Error, Result};
use kinora_diffusion::{LinearGuider, Sampler};

/// The most pixels of a frame: the size at which PIL takes a picture for an attack.
const MAX_PIXELS: usize = 178_956_970;
/// The most frames, and the most steps: far beyond what any model of this kind can hold together,
/// and few enough for a plan to be counted in 64 bits.
const MAX_COUNT: usize = 10_000;
/// The most frames a second that the formats of videos agree on.
const MAX_FPS: u32 = 1000;

/// What a clip is to be. `Settings::default_for` gives what diffusers would take.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Frames of the clip.
    pub frames: usize,
    /// Columns of a frame, in pixels.
    pub width: usize,
    /// Rows of a frame, in pixels.
    pub height: usize,
    /// Steps from noise to data.
    pub steps: usize,
    /// Which way the steps go.
    pub sampler: Sampler,
    /// Frames a second the motion is made for.
    pub fps: u32,
    /// How much motion: 0 to 255 in training, more is more.
    pub motion_bucket: f32,
    /// Standard deviation of the noise put on the still, whose values are −1 to 1. More lets the
    /// clip move away from it.
    pub noise_aug: f32,
    /// Guidance over the frames.
    pub guider: LinearGuider,
    /// Whether both branches of guidance go through the network together: twice the memory for
    /// somewhat less time where a single one does not fill the machine.
    pub branches_together: bool,
    /// The lowest noise level before zero.
    pub sigma_min: f64,
    /// The noise level to begin at.
    pub sigma_max: f64,
    /// Seed of PyTorch's CPU generator; the same seed gives the same noise as there.
    pub seed: u64,
    /// How the frames come out of their latents.
    pub decoding: Decoding,
}

impl Settings {
    /// The settings of diffusers' pipeline for a clip of this size, with the frames the UNet was
    /// trained on.
    pub fn default_for(configs: Configs<'_>, height: usize, width: usize) -> Self {
        Settings {
            frames: configs.unet.num_frames,
            width,
            height,
            steps: 25,
            sampler: Sampler::Euler,
            fps: 7,
            motion_bucket: 127.0,
            noise_aug: 0.02,
            guider: LinearGuider { min: 1.0, max: 3.0 },
            branches_together: false,
            sigma_min: 0.002,
            sigma_max: 700.0,
            seed: 0,
            decoding: Decoding::Whole,
        }
    }

    /// Frames a second less one, motion bucket, noise on the still: what the UNet is told.
    pub fn added(&self) -> [f32; 3] {
        // The published models were trained on the number of intervals, not of frames.
        [self.fps as f32 - 1.0, self.motion_bucket, self.noise_aug]
    }

    /// Refuses what cannot be made.
    ///
    /// # Errors
    /// Naming the setting, what it may be and, for a size, the nearest that can be made.
    pub fn check(&self, configs: Configs<'_>) -> Result<()> {
        self.check_size(configs.vae.downscale())?;
        self.check_counts()?;
        self.check_numbers()
    }

    fn check_size(&self, side: usize) -> Result<()> {
        let (width, height) = (self.width, self.height);
        if width.saturating_mul(height) > MAX_PIXELS {
            return Err(Error::argument(
                "size",
                format!("expected at most {MAX_PIXELS} pixels, found {width}×{height}"),
            ));
        }
        if width > 0 && height > 0 && width.is_multiple_of(side) && height.is_multiple_of(side) {
            return Ok(());
        }
        let (near_width, near_height) = (nearest(width, side), nearest(height, side));
        Err(Error::argument(
            "size",
            format!(
                "expected width and height in multiples of {side}, the side of a latent, found \
                 {width}×{height}; the nearest is {near_width}×{near_height}"
            ),
        ))
    }

    fn check_counts(&self) -> Result<()> {
        for (what, count) in [("frames", self.frames), ("steps", self.steps)] {
            if count == 0 {
                return Err(Error::argument(what, "expected at least 1, found 0"));
            }
            if count > MAX_COUNT {
                let found = format!("expected at most {MAX_COUNT}, found {count}");
                return Err(Error::argument(what, found));
            }
        }
        if !(1..=MAX_FPS).contains(&self.fps) {
            return Err(Error::argument(
                "fps",
                format!("expected 1 to {MAX_FPS}, found {}", self.fps),
            ));
        }
        match self.decoding {
            Decoding::Chunked { frames: 0 } => Err(Error::argument(
                "decode chunk",
                "expected at least 1 frame, found 0; leave it out to decode exactly",
            )),
            _ => Ok(()),
        }
    }

    fn check_numbers(&self) -> Result<()> {
        for (what, value, at_least) in [
            ("motion bucket", self.motion_bucket, 0.0),
            ("noise on the still", self.noise_aug, 0.0),
            ("first guidance scale", self.guider.min, 0.0),
            ("last guidance scale", self.guider.max, 0.0),
        ] {
            if !(value.is_finite() && value >= at_least) {
                return Err(Error::argument(
                    what,
                    format!("expected a number from {at_least} up, found {value}"),
                ));
            }
        }
        let (min, max) = (self.sigma_min, self.sigma_max);
        if !(min > 0.0 && min < max && max.is_finite()) {
            return Err(Error::argument(
                "noise levels",
                format!("expected 0 < lowest < highest, found {min} and {max}"),
            ));
        }
        Ok(())
    }
}

/// The multiple of `side` nearest to `length`, at least one.
fn nearest(length: usize, side: usize) -> usize {
    ((length.saturating_add(side / 2)) / side).max(1) * side
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::Preset;

    fn refused(change: impl Fn(&mut Settings)) -> String {
        let preset = Preset::named("svd").expect("in the table");
        let (clip, vae, unet) = (preset.image_encoder(), preset.vae(), preset.unet());
        let configs = Configs {
            clip: &clip,
            vae: &vae,
            unet: &unet,
        };
        let mut settings = Settings::default_for(configs, 576, 1024);
        settings.check(configs).unwrap();
        change(&mut settings);
        settings.check(configs).unwrap_err().to_string()
    }

    #[test]
    fn sizes_are_multiples_of_eight_and_others_hear_of_the_nearest() {
        assert_eq!(
            refused(|s| (s.width, s.height) = (1023, 500)),
            "size: expected width and height in multiples of 8, the side of a latent, found \
             1023×500; the nearest is 1024×504"
        );
        assert!(refused(|s| s.height = 0).ends_with("the nearest is 1024×8"));
        assert!(refused(|s| s.width = usize::MAX).contains("at most 178956970 pixels"));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        assert_eq!(
            refused(|s| s.frames = 0),
            "frames: expected at least 1, found 0"
        );
        assert_eq!(
            refused(|s| s.steps = 0),
            "steps: expected at least 1, found 0"
        );
        assert_eq!(refused(|s| s.fps = 0), "fps: expected 1 to 1000, found 0");
        assert!(refused(|s| s.frames = usize::MAX).starts_with("frames: expected at most 10000"));
        assert!(refused(|s| s.steps = usize::MAX).starts_with("steps: expected at most 10000"));
        assert!(refused(|s| s.noise_aug = -0.1).starts_with("noise on the still"));
        assert!(refused(|s| s.motion_bucket = f32::NAN).starts_with("motion bucket"));
        assert!(refused(|s| s.guider.max = f32::INFINITY).starts_with("last guidance scale"));
        assert!(refused(|s| s.sigma_min = 900.0).starts_with("noise levels"));
        let none = Decoding::Chunked { frames: 0 };
        assert!(refused(|s| s.decoding = none).starts_with("decode chunk"));
    }
}
