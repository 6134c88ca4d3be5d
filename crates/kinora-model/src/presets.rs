//! The models Kinora knows by name, as one table.

use crate::clip::{ClipVisionConfig, HiddenAct};
use crate::unet::{LevelKind, NormEps, UNetConfig};
use crate::vae::VaeConfig;

/// The sizes of a model: one row of [`PRESETS`]. Lists run from the finest level to the coarsest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Frames of the clips it makes.
    pub frames: usize,
    /// Channels of the denoiser's levels.
    pub unet_channels: &'static [usize],
    /// Heads of each level's attentions.
    pub unet_heads: &'static [usize],
    /// Sinusoids for each micro-condition.
    pub condition_sinusoids: usize,
    /// Channels of the autoencoder's levels.
    pub vae_channels: &'static [usize],
    /// The picture half of CLIP.
    pub clip: Clip,
}

/// The sizes of a CLIP vision tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clip {
    /// Width of a token; its feed-forward blocks are four times as wide.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of an attention.
    pub heads: usize,
    /// Rows and columns of a patch.
    pub patch_px: usize,
    /// Rows and columns of a picture.
    pub image_px: usize,
    /// Width of the embedding, which is the width of the denoiser's context.
    pub projection: usize,
}

#[rustfmt::skip]
const VIT_H_14: Clip = Clip { width: 1280, layers: 32, heads: 16, patch_px: 14, image_px: 224, projection: 1024 };
#[rustfmt::skip]
const CLIP_SMALL: Clip = Clip { width: 64, layers: 2, heads: 2, patch_px: 32, image_px: 224, projection: 64 };
#[rustfmt::skip]
const CLIP_TINY: Clip = Clip { width: 32, layers: 2, heads: 2, patch_px: 56, image_px: 224, projection: 32 };

const SVD_CHANNELS: &[usize] = &[320, 640, 1280, 1280];
const SVD_HEADS: &[usize] = &[5, 10, 20, 20];
const SVD_VAE: &[usize] = &[128, 256, 512, 512];

/// Every preset: the two published models, one small enough to be trained on a laptop, one small
/// enough for a test. All have two residual blocks to a level, attention on all levels but the
/// coarsest, and one context token.
#[rustfmt::skip]
pub const PRESETS: [Preset; 4] = [
    Preset { name: "svd",    frames: 14, unet_channels: SVD_CHANNELS,  unet_heads: SVD_HEADS,  condition_sinusoids: 256, vae_channels: SVD_VAE,       clip: VIT_H_14 },
    Preset { name: "svd-xt", frames: 25, unet_channels: SVD_CHANNELS,  unet_heads: SVD_HEADS,  condition_sinusoids: 256, vae_channels: SVD_VAE,       clip: VIT_H_14 },
    Preset { name: "small",  frames: 8,  unet_channels: &[64, 128, 128], unet_heads: &[1, 2, 2], condition_sinusoids: 64,  vae_channels: &[32, 64, 64], clip: CLIP_SMALL },
    Preset { name: "tiny",   frames: 3,  unet_channels: &[32, 64, 32], unet_heads: &[1, 2, 1], condition_sinusoids: 32,  vae_channels: &[32, 64, 32], clip: CLIP_TINY },
];

impl Preset {
    /// The preset of that name.
    pub fn named(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// All names, for messages.
    pub fn names() -> String {
        PRESETS.map(|preset| preset.name).join(", ")
    }

    /// The denoiser's settings.
    pub fn unet(&self) -> UNetConfig {
        let levels = self.unet_channels.len();
        let mut kinds = vec![LevelKind::Attends; levels];
        kinds[levels - 1] = LevelKind::Plain;
        UNetConfig {
            sample_size: Some(96),
            in_channels: 8,
            out_channels: 4,
            up_block_types: kinds.iter().rev().copied().collect(),
            down_block_types: kinds,
            block_out_channels: self.unet_channels.to_vec(),
            addition_time_embed_dim: self.condition_sinusoids,
            projection_class_embeddings_input_dim: 3 * self.condition_sinusoids,
            layers_per_block: vec![2; levels],
            cross_attention_dim: vec![self.clip.projection; levels],
            transformer_layers_per_block: vec![1; levels],
            num_attention_heads: self.unet_heads.to_vec(),
            num_frames: self.frames,
            norm_eps: NormEps::Diffusers,
        }
    }

    /// The autoencoder's settings.
    pub fn vae(&self) -> VaeConfig {
        VaeConfig::temporal(self.vae_channels, 2)
    }

    /// The CLIP tower's settings.
    pub fn image_encoder(&self) -> ClipVisionConfig {
        ClipVisionConfig {
            hidden_size: self.clip.width,
            intermediate_size: 4 * self.clip.width,
            projection_dim: self.clip.projection,
            num_hidden_layers: self.clip.layers,
            num_attention_heads: self.clip.heads,
            num_channels: 3,
            image_size: self.clip.image_px,
            patch_size: self.clip.patch_px,
            hidden_act: HiddenAct::Gelu,
            layer_norm_eps: 1e-5,
        }
    }

    /// The preset whose denoiser has the arrays that `dims_of` knows by their names in diffusers. The
    /// two published models have equal sizes; `is_xt` decides between them.
    pub(crate) fn recognise(
        dims_of: impl Fn(&str) -> Option<Vec<usize>>,
        is_xt: bool,
    ) -> Option<&'static Preset> {
        let fits = |preset: &&Preset| {
            let conv =
                |level| format!("down_blocks.{level}.resnets.0.spatial_res_block.conv1.weight");
            let context = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight";
            let levels = preset.unet_channels.iter().enumerate();
            let channels_fit = levels.into_iter().all(|(level, channels)| {
                dims_of(&conv(level)).is_some_and(|dims| dims.first() == Some(channels))
            });
            channels_fit
                && dims_of(&conv(preset.unet_channels.len())).is_none()
                && dims_of(context).is_some_and(|dims| dims.last() == Some(&preset.clip.projection))
        };
        let mut fitting = PRESETS.iter().filter(fits);
        let first = fitting.next()?;
        Some(match fitting.next() {
            Some(second) if is_xt => second,
            _ => first,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_presets_are_the_published_settings() {
        for (name, frames) in [("svd", 14), ("svd-xt", 25)] {
            let preset = Preset::named(name).unwrap();
            assert_eq!(preset.unet(), UNetConfig::image_to_video(frames));
            assert_eq!(preset.vae(), VaeConfig::svd());
            assert_eq!(preset.image_encoder(), ClipVisionConfig::vit_h_14());
        }
    }

    #[test]
    fn every_preset_can_be_built() {
        for preset in &PRESETS {
            preset.unet().check().unwrap();
            preset.vae().check().unwrap();
            preset.image_encoder().check().unwrap();
            assert_eq!(Preset::named(preset.name), Some(preset));
        }
        assert_eq!(Preset::named("sdxl"), None);
    }

    #[test]
    fn presets_are_told_apart_by_their_sizes() {
        for preset in &PRESETS {
            let config = preset.unet();
            let dims_of = |name: &str| -> Option<Vec<usize>> {
                if name.starts_with("mid_block.attentions") {
                    return Some(vec![64, config.cross_attention_dim[0]]);
                }
                let level: usize = name.split('.').nth(1)?.parse().ok()?;
                config
                    .block_out_channels
                    .get(level)
                    .map(|c| vec![*c, 1, 3, 3])
            };
            let found = Preset::recognise(dims_of, preset.name.contains("xt"));
            assert_eq!(found, Some(preset));
        }
        assert_eq!(Preset::recognise(|_| Some(vec![7]), false), None);
    }
}
