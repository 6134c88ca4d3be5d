//! What an autoencoder is made of: the `config.json` of a diffusers `vae` folder.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which decoder the latents are read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VaeKind {
    /// Frames of a clip see their neighbours: the decoder of Stable Video Diffusion.
    #[serde(rename = "AutoencoderKLTemporalDecoder")]
    Temporal,
    /// Every frame by itself: the stock decoder, which the `image_decoder` weights carry.
    #[serde(rename = "AutoencoderKL")]
    Image,
}

/// The settings of an autoencoder, under the names diffusers gives them. Keys that change no number
/// here (versions, tiling) are read over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VaeConfig {
    /// Which decoder.
    #[serde(rename = "_class_name")]
    pub kind: VaeKind,
    /// Channels of a picture.
    #[serde(default = "three")]
    pub in_channels: usize,
    /// Channels of a decoded picture.
    #[serde(default = "three")]
    pub out_channels: usize,
    /// One name for each level of the encoder; all `DownEncoderBlock2D`.
    pub down_block_types: Vec<String>,
    /// One name for each level of a stock decoder; all `UpDecoderBlock2D`. The temporal decoder
    /// has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_block_types: Option<Vec<String>>,
    /// Channels at each level, the finest first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of a level of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Groups of the norms; 32 where nothing is said, and always in the temporal decoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_num_groups: Option<usize>,
    /// The activation; only `silu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act_fn: Option<String>,
    /// Whether the encoder ends in a 1×1 convolution of its own; so it does where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_quant_conv: Option<bool>,
    /// Whether a stock decoder begins with one; so it does where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_post_quant_conv: Option<bool>,
    /// Whether attention stands in the middle of the encoder and of a stock decoder; so it does
    /// where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid_block_add_attention: Option<bool>,
    /// What other autoencoders subtract from their latents; only none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift_factor: Option<f32>,
    /// The means other autoencoders subtract from the channels of their latents; only none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latents_mean: Option<Vec<f32>>,
    /// The side of the training pictures; a note only.
    #[serde(default = "default_sample_size")]
    pub sample_size: usize,
    /// Latents are multiplied by this before they are diffused, and divided by it before they are
    /// decoded. Neither `encode` nor `decode` does it.
    #[serde(default = "default_scaling_factor")]
    pub scaling_factor: f32,
    /// Whether half precision is known to overflow; a note only, arithmetic here is f32.
    #[serde(default = "default_force_upcast")]
    pub force_upcast: bool,
}

fn three() -> usize {
    3
}

fn default_sample_size() -> usize {
    32
}

fn default_scaling_factor() -> f32 {
    0.18215
}

fn default_force_upcast() -> bool {
    true
}

impl VaeConfig {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// When it is not JSON, names another class, or asks for what is not built.
    pub fn from_json(text: &str) -> Result<Self> {
        let config: VaeConfig = serde_json::from_str(text)
            .map_err(|error| Error::config("vae/config.json", error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// The text of a `config.json` that diffusers reads.
    ///
    /// # Errors
    /// When a number does not fit JSON, which none that passed `check` fails to.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|error| Error::config("vae/config.json", error.to_string()))
    }

    /// The autoencoder of Stable Video Diffusion: 97,742,847 parameters, one latent for 8×8 pixels.
    pub fn svd() -> Self {
        Self::temporal(&[128, 256, 512, 512], 2)
    }

    /// An autoencoder with a temporal decoder, of these channels at each level, the finest first.
    pub fn temporal(block_out_channels: &[usize], layers_per_block: usize) -> Self {
        VaeConfig {
            kind: VaeKind::Temporal,
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec!["DownEncoderBlock2D".to_owned(); block_out_channels.len()],
            up_block_types: None,
            block_out_channels: block_out_channels.to_vec(),
            layers_per_block,
            latent_channels: 4,
            norm_num_groups: None,
            act_fn: None,
            use_quant_conv: None,
            use_post_quant_conv: None,
            mid_block_add_attention: None,
            shift_factor: None,
            latents_mean: None,
            sample_size: 768,
            scaling_factor: default_scaling_factor(),
            force_upcast: true,
        }
    }

    /// How many pixels of a row or column one latent stands for.
    pub fn downscale(&self) -> usize {
        1 << self.block_out_channels.len().saturating_sub(1)
    }

    pub(super) fn groups(&self) -> usize {
        self.norm_num_groups.unwrap_or(32)
    }

    pub(super) fn has_quant_conv(&self) -> bool {
        self.use_quant_conv.unwrap_or(true)
    }

    pub(super) fn has_post_quant_conv(&self) -> bool {
        self.use_post_quant_conv.unwrap_or(true)
    }

    pub(super) fn has_mid_attention(&self) -> bool {
        self.mid_block_add_attention.unwrap_or(true)
    }

    /// Channels at the coarsest level.
    pub(super) fn deepest(&self) -> usize {
        self.block_out_channels.last().copied().unwrap_or(0)
    }

    /// The levels of a decoder, from the coarsest to the finest.
    pub(super) fn decoder_levels(&self) -> impl Iterator<Item = DecoderLevel> {
        let levels = self.block_out_channels.len();
        (0..levels).map(move |index| DecoderLevel {
            index,
            i: self.block_out_channels[(levels - index).min(levels - 1)],
            o: self.block_out_channels[levels - 1 - index],
            blocks: self.layers_per_block + 1,
            upsamples: index + 1 < levels,
        })
    }

    /// Refuses settings that contradict each other or ask for what is not built.
    ///
    /// # Errors
    /// Naming the setting, what was expected and what was found.
    pub fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::config("vae", message));
        let levels = self.block_out_channels.len();
        if levels == 0 || self.layers_per_block == 0 || self.latent_channels == 0 {
            return refuse(format!(
                "block_out_channels, layers_per_block and latent_channels: expected at least one \
                 each, found {levels}, {} and {}",
                self.layers_per_block, self.latent_channels
            ));
        }
        for (key, types, known) in [
            (
                "down_block_types",
                Some(&self.down_block_types),
                "DownEncoderBlock2D",
            ),
            (
                "up_block_types",
                self.up_block_types.as_ref(),
                "UpDecoderBlock2D",
            ),
        ] {
            let Some(types) = types else { continue };
            if types.len() != levels || types.iter().any(|name| name != known) {
                return refuse(format!(
                    "{key}: expected `{known}` for each of the {levels} levels of \
                     block_out_channels, found {types:?}"
                ));
            }
        }
        if let Some(act_fn) = self.act_fn.as_deref()
            && act_fn != "silu"
        {
            return refuse(format!("act_fn: expected `silu`, found `{act_fn}`"));
        }
        let groups = self.groups();
        if self.kind == VaeKind::Temporal && groups != 32 {
            return refuse(format!(
                "norm_num_groups: the temporal decoder is built with 32, found {groups}"
            ));
        }
        if groups == 0 || self.block_out_channels.iter().any(|c| c % groups != 0) {
            return refuse(format!(
                "block_out_channels: expected multiples of the {groups} groups of the norms, \
                 found {:?}",
                self.block_out_channels
            ));
        }
        if self.shift_factor.is_some_and(|shift| shift != 0.0) || self.latents_mean.is_some() {
            return refuse(
                "shift_factor and latents_mean: expected none, as in all autoencoders of Stable \
                 Video Diffusion; this one belongs to another model"
                    .to_owned(),
            );
        }
        if !(self.scaling_factor > 0.0 && self.scaling_factor.is_finite()) {
            return refuse(format!(
                "scaling_factor: expected a positive number, found {}",
                self.scaling_factor
            ));
        }
        Ok(())
    }
}

/// One level of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DecoderLevel {
    /// Its number, the coarsest being 0.
    pub(super) index: usize,
    /// Channels that come in.
    pub(super) i: usize,
    /// Channels that go out.
    pub(super) o: usize,
    /// Residual blocks.
    pub(super) blocks: usize,
    /// Whether rows and columns are doubled at its end.
    pub(super) upsamples: bool,
}

impl DecoderLevel {
    /// Channels in and out of each block: the first changes their number.
    pub(super) fn block_channels(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.blocks).map(move |k| (if k == 0 { self.i } else { self.o }, self.o))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file both published models carry, as far as it says anything.
    const PUBLISHED: &str = r#"{
        "_class_name": "AutoencoderKLTemporalDecoder", "_diffusers_version": "0.24.0.dev0",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D",
                             "DownEncoderBlock2D"],
        "force_upcast": true, "in_channels": 3, "latent_channels": 4, "layers_per_block": 2,
        "out_channels": 3, "sample_size": 768, "scaling_factor": 0.18215 }"#;

    #[test]
    fn the_published_file_is_the_preset() {
        let config = VaeConfig::from_json(PUBLISHED).unwrap();
        assert_eq!(config, VaeConfig::svd());
        assert_eq!(config.downscale(), 8);
    }

    #[test]
    fn what_is_written_reads_back() {
        let config = VaeConfig::temporal(&[32, 64], 2);
        let text = config.to_json().unwrap();
        assert_eq!(VaeConfig::from_json(&text).unwrap(), config);
        assert!(!text.contains("norm_num_groups"), "{text}");
    }

    #[test]
    fn refuses_what_is_not_built() {
        let text = |change: fn(&mut VaeConfig)| {
            let mut config = VaeConfig::svd();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert_eq!(
            text(|c| c.act_fn = Some("gelu".to_owned())),
            "vae: act_fn: expected `silu`, found `gelu`"
        );
        assert_eq!(
            text(|c| c.block_out_channels[0] = 48),
            "vae: block_out_channels: expected multiples of the 32 groups of the norms, \
             found [48, 256, 512, 512]"
        );
        assert!(text(|c| c.down_block_types.truncate(3)).starts_with("vae: down_block_types"));
        assert!(text(|c| c.norm_num_groups = Some(16)).contains("built with 32"));
        assert!(text(|c| c.scaling_factor = 0.0).contains("positive"));
        assert!(text(|c| c.block_out_channels.clear()).contains("at least one"));
        assert!(text(|c| c.shift_factor = Some(0.1)).contains("another model"));
    }

    #[test]
    fn decoder_levels_run_from_coarse_to_fine() {
        let config = VaeConfig::svd();
        let channels: Vec<_> = config
            .decoder_levels()
            .map(|l| (l.i, l.o, l.upsamples))
            .collect();
        let expected = [
            (512, 512, true),
            (512, 512, true),
            (512, 256, true),
            (256, 128, false),
        ];
        assert_eq!(channels, expected);
        let last = config.decoder_levels().last().unwrap();
        let blocks: Vec<_> = last.block_channels().collect();
        assert_eq!(blocks, [(256, 128), (128, 128), (128, 128)]);
    }
}
