//! Latents of the kept clips, made once so that no run has to.
//!
//! Legend of the shapes: `m` 1, or 2 with the frames as in a mirror; `t` frames, `h w` rows and columns
//! of latents, `z` channels of a latent.

use crate::{Error, Result};
use kinora_media::{CacheOptions, ClipLatents, ClipRow, LatentRecipe, ShardFolder, clip_frames};
use kinora_model::pixels;
use kinora_model::vae::Vae;
use kinora_model::weights::{Opening, open_vae};
use kinora_tensor::{no_grad, on_the_cores};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Frames encoded at once.
const ENCODED_AT_ONCE: usize = 16;

/// Which latents. The size and the rate are those of the configuration to train with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentSettings {
    /// A model folder whose `vae` encodes.
    pub autoencoder: PathBuf,
    /// Width of the frames in pixels; `data.width` of the run.
    pub width: usize,
    /// Height of the frames; `data.height` of the run.
    pub height: usize,
    /// Most frames a second kept of a clip; `data.max_fps` of the run.
    pub max_fps: u32,
    /// Whether the frames are encoded as in a mirror, too; `data.mirror` of the run.
    pub mirror: bool,
}

impl LatentSettings {
    /// Refuses what gives no frames.
    ///
    /// # Errors
    /// When a size or the rate is zero.
    pub fn check(&self) -> Result<()> {
        if self.width == 0 || self.height == 0 || self.max_fps == 0 {
            let what = "shards.latents: expected width, height and max_fps above zero, found none";
            return Err(Error::Setting(what.to_owned()));
        }
        Ok(())
    }
}

/// Encodes clips for their shards.
#[derive(Debug)]
pub struct Encoder {
    vae: Vae,
    recipe: LatentRecipe,
    /// Shards written before with the same recipe: what did not change is taken from them.
    before: Option<ShardFolder>,
}

impl Encoder {
    /// Opens the autoencoder; `shards` is where shards may lie already.
    ///
    /// # Errors
    /// When there is no autoencoder, or frames of that size do not become whole latents.
    pub fn open(settings: &LatentSettings, shards: &Path) -> Result<Encoder> {
        let part = open_vae(&settings.autoencoder, &Opening::default())?;
        let source = part.source();
        let vae = Vae::new(&source, &part.config)?;
        source.check_unused()?;
        let side = part.config.downscale();
        if !settings.width.is_multiple_of(side) || !settings.height.is_multiple_of(side) {
            let (width, height) = (settings.width, settings.height);
            return Err(Error::Setting(format!(
                "shards.latents: expected a width and a height in multiples of {side}, the side of a latent, found {width}×{height}"
            )));
        }
        let recipe = LatentRecipe {
            latents: LatentRecipe::VERSION,
            autoencoder: part.fingerprint(),
            width: settings.width,
            height: settings.height,
            max_fps: settings.max_fps,
            mirrored: settings.mirror,
        };
        // Shards that cannot be read any more have nothing to give.
        let before = ShardFolder::open(shards).ok();
        let before = before.filter(|shards| shards.latent_recipe() == Some(&recipe));
        Ok(Encoder {
            vae,
            recipe,
            before,
        })
    }

    /// How the latents are made.
    pub fn recipe(&self) -> &LatentRecipe {
        &self.recipe
    }

    /// The latents of a clip as the bytes of a member; none where the clip cannot be decoded, which
    /// training will tell.
    ///
    /// # Errors
    /// When ffmpeg is missing, or an array cannot be made.
    pub fn latents(&self, row: &ClipRow, media: &Path) -> Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.made_before(row, media) {
            return Ok(Some(bytes));
        }
        let frames = match self.frames(row, media) {
            Err(missing @ kinora_media::Error::ToolMissing { .. }) => return Err(missing.into()),
            Err(failure) => {
                tracing::warn!("no latents: {failure}");
                return Ok(None);
            }
            Ok(frames) => frames,
        };
        let mut sides = vec![frames];
        if self.recipe.mirrored {
            sides.push(mirrored(&sides[0], self.recipe.width));
        }
        let mut values = Vec::new();
        let mut dims = [sides.len(), 0, 0, 0, 0];
        for side in &sides {
            let [t, h, w, z] = self.encode(side, &mut values)?;
            dims[1..].copy_from_slice(&[t, h, w, z]);
        }
        Ok(Some(ClipLatents { dims, values }.to_npy()))
    }

    /// The bytes in the shards of before, where the clip is the same to the byte.
    fn made_before(&self, row: &ClipRow, media: &Path) -> Option<Vec<u8>> {
        let shards = self.before.as_ref()?;
        let index = shards.index();
        let at = index.binary_search_by(|known| known.clip_id.cmp(&row.clip_id));
        let known = index.get(at.ok()?).filter(|known| known.fps == row.fps)?;
        let sample = shards.read(known).ok()?;
        let same = sample.clip()?.1 == std::fs::read(media).ok()?;
        same.then(|| sample.member(ClipLatents::ENDING).map(<[u8]>::to_vec))?
    }

    /// The frames that training will decode, one after another.
    fn frames(&self, row: &ClipRow, media: &Path) -> kinora_media::Result<Vec<u8>> {
        let options = CacheOptions {
            width: self.recipe.width,
            height: self.recipe.height,
            max_fps: self.recipe.max_fps,
            max_bytes: u64::MAX,
        };
        let mut bytes = Vec::new();
        for frame in clip_frames(media, row.fps, &options)? {
            bytes.extend_from_slice(frame?.picture.data());
        }
        match bytes.is_empty() {
            true => Err(kinora_media::Error::Video {
                path: media.to_path_buf(),
                message: "no frame could be decoded".to_owned(),
            }),
            false => Ok(bytes),
        }
    }

    /// Adds the means of the latents of frames; gives `[t, h, w, z]`.
    fn encode(&self, frames: &[u8], values: &mut Vec<f32>) -> Result<[usize; 4]> {
        let (width, height) = (self.recipe.width, self.recipe.height);
        let frame_bytes = 3 * width * height;
        let mut dims = [0; 4];
        for some in frames.chunks(ENCODED_AT_ONCE * frame_bytes) {
            let count = some.len() / frame_bytes;
            let pictures = pixels::tensor_from_rgb8(some, [count, height, width])?;
            let mean = on_the_cores(|| no_grad(|| self.vae.encode(&pictures)))?.mean;
            let &[_, h, w, z] = mean.dims() else {
                unreachable!("latents of pictures have four axes")
            };
            dims = [dims[0] + count, h, w, z];
            values.extend(mean.to_vec());
        }
        Ok(dims)
    }
}

/// Frames of a width, each row turned around.
fn mirrored(frames: &[u8], width: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(frames.len());
    for row in frames.chunks_exact(3 * width) {
        let pixels = row.chunks_exact(3).rev();
        pixels.for_each(|pixel| bytes.extend_from_slice(pixel));
    }
    bytes
}
