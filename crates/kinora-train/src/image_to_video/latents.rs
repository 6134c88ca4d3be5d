//! The latents a denoiser is trained on: from the shards, kept in memory, or made for each batch.

use super::ImageToVideoTask;
use crate::batch::{self, Draw};
use crate::clips::Clips;
use crate::compute::Compute;
use crate::{Error, Result};
use kinora_media::{Clip as Place, ClipLatents, LatentRecipe};
use kinora_tensor::{Tensor, no_grad, ops};

/// Frames encoded at once while the latents of all videos are made.
const ENCODED_AT_ONCE: usize = 16;

impl ImageToVideoTask {
    /// Decides whether the latents in the shards are taken: `Err` says why not. None where there are
    /// none.
    pub fn take_latents(&mut self, clips: &Clips) -> Option<std::result::Result<(), String>> {
        let recipe = clips.shards.as_ref()?.latent_recipe()?;
        let checked = self.check_recipe(recipe, clips);
        self.takes_latents = checked.is_ok();
        Some(checked)
    }

    fn check_recipe(
        &self,
        recipe: &LatentRecipe,
        clips: &Clips,
    ) -> std::result::Result<(), String> {
        if recipe.autoencoder != self.vae_fingerprint {
            return Err(format!(
                "they are of an autoencoder with the fingerprint {}, this run has {}; let shards.latents.autoencoder name the same model and run `kinora curate shards`",
                recipe.autoencoder, self.vae_fingerprint
            ));
        }
        let made = (recipe.width, recipe.height, recipe.max_fps);
        let wanted = (clips.width, clips.height, clips.max_fps);
        if made != wanted {
            let words = |(width, height, fps): (usize, usize, u32)| {
                format!("{width}×{height} at up to {fps} frames a second")
            };
            return Err(format!(
                "they are of frames of {}, [data] says {}; make shards.latents say the same and run `kinora curate shards`",
                words(made),
                words(wanted)
            ));
        }
        Ok(())
    }

    /// Makes the latents of every frame of every video once, where the configuration wants them kept.
    ///
    /// # Errors
    /// When the shards are damaged.
    pub fn encode_all(
        &mut self,
        clips: &Clips,
        mirror: bool,
        on_video: &mut dyn FnMut(usize, usize),
    ) -> Result<()> {
        if !self.config.keep_latents {
            return Ok(());
        }
        let count = clips.videos().len();
        for video in 0..count {
            on_video(video, count);
            let mirrored = mirror
                .then(|| self.video_latents(clips, video, true))
                .transpose()?;
            self.latents
                .push([Some(self.video_latents(clips, video, false)?), mirrored]);
        }
        on_video(count, count);
        Ok(())
    }

    /// The scaled latents of a video, from its shard or made here: `[n, h, w, z]`.
    fn video_latents(&self, clips: &Clips, video: usize, mirrored: bool) -> Result<Tensor> {
        match self.shard_latents(clips, video, mirrored)? {
            Some(latents) => Ok(latents),
            None => self.encode_video(clips, video, mirrored),
        }
    }

    /// The scaled latents of a video that its shard holds, `[n, h, w, z]`.
    fn shard_latents(&self, clips: &Clips, video: usize, mirrored: bool) -> Result<Option<Tensor>> {
        let source = &clips.videos()[video].source;
        let Some(shards) = clips.shards.as_ref().filter(|_| self.takes_latents) else {
            return Ok(None);
        };
        let Some(ClipLatents { dims, values }) = shards.latents(source)? else {
            return Ok(None);
        };
        let (side, z) = (
            self.vae.config().downscale(),
            self.vae.config().latent_channels,
        );
        let (h, w) = (clips.height / side, clips.width / side);
        let n = clips.videos()[video].frames;
        if dims[0] == 0 || dims[1..] != [n, h, w, z] {
            return Err(Error::data(
                source,
                format!(
                    "expected latents of {n} frames, [{n}, {h}, {w}, {z}], found {:?}; write the shards again",
                    &dims[1..]
                ),
            ));
        }
        let place = usize::from(mirrored);
        if place >= dims[0] {
            return Ok(None);
        }
        let count = n * h * w * z;
        let own = values[place * count..][..count].to_vec();
        let mean = Tensor::from_vec(own, [n, h, w, z])?;
        Ok(Some(ops::scale(&mean, self.vae.config().scaling_factor)?))
    }

    fn encode_video(&self, clips: &Clips, video: usize, mirrored: bool) -> Result<Tensor> {
        let total = clips.videos()[video].frames;
        let encode = |start: usize| {
            let frames = ENCODED_AT_ONCE.min(total - start);
            let place = Place {
                video,
                start,
                stride: 1,
                frames,
            };
            let draw = Draw::of(place, mirrored);
            let pictures = batch::frames(clips, &[draw], frames)?;
            self.scaled_latents(&pictures.reshape(&pictures.dims()[1..])?)
        };
        let parts: Vec<Tensor> = (0..total)
            .step_by(ENCODED_AT_ONCE)
            .map(encode)
            .collect::<Result<_>>()?;
        Ok(ops::concat(&parts.iter().collect::<Vec<_>>(), 0)?)
    }

    /// The mean of the latents of pictures, scaled to about unit variance.
    ///
    /// # Shapes
    /// `pictures` `[n, 8h, 8w, 3]` at the published downscale; the result is `[n, h, w, z]`.
    fn scaled_latents(&self, pictures: &Tensor) -> Result<Tensor> {
        no_grad(|| {
            let mean = self.vae.encode(&self.compute.there(pictures)?)?.mean;
            // Clean latents wait in main memory and are noised there, in f32.
            let mean = Compute::back(&mean)?;
            Ok(ops::scale(&mean, self.vae.config().scaling_factor)?)
        })
    }

    /// The clean latents of a batch, `[b, t, h, w, z]`.
    pub(super) fn clean(&self, clips: &Clips, draws: &[Draw]) -> Result<Tensor> {
        let mut of_clips = Vec::new();
        for draw in draws {
            let side = usize::from(draw.mirrored);
            let place = draw.clip.place;
            let kept = self
                .latents
                .get(place.video)
                .and_then(|both| both[side].as_ref());
            let latents = match kept {
                Some(video) => strided(video, &place)?,
                None => match self.shard_latents(clips, place.video, draw.mirrored)? {
                    Some(video) => strided(&video, &place)?,
                    None => {
                        let frames =
                            batch::frames(clips, std::slice::from_ref(draw), clips.frames)?;
                        self.scaled_latents(&frames.reshape(&frames.dims()[1..])?)?
                    }
                },
            };
            of_clips.push(latents.reshape([&[1], latents.dims()].concat())?);
        }
        Ok(ops::concat(&of_clips.iter().collect::<Vec<_>>(), 0)?)
    }
}

/// Every so manieth frame of a video's latents, `[t, h, w, z]`.
fn strided(video: &Tensor, place: &Place) -> Result<Tensor> {
    if place.stride == 1 {
        return Ok(ops::narrow(video, 0, place.start, place.frames)?);
    }
    let frame = |k: usize| ops::narrow(video, 0, place.start + k * place.stride, 1);
    let frames: Vec<Tensor> = (0..place.frames)
        .map(frame)
        .collect::<std::result::Result<_, _>>()?;
    Ok(ops::concat(&frames.iter().collect::<Vec<_>>(), 0)?)
}
