//! What a vision tower is made of: the `config.json` of an `image_encoder` folder.

use super::block::BlockSizes;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The activation between the two layers of a feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenAct {
    /// x · Φ(x), exactly: OpenCLIP's towers, that of Stable Video Diffusion among them.
    Gelu,
    /// x · σ(1.702 x): OpenAI's towers.
    QuickGelu,
}

/// The settings of a vision tower, under the names transformers gives them. Keys that change no
/// number here (dropout, initialisation, versions) are read over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipVisionConfig {
    /// Width of a token.
    pub hidden_size: usize,
    /// Width between the two layers of a feed-forward block.
    pub intermediate_size: usize,
    /// Width of the embedding.
    pub projection_dim: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads of an attention; they divide the width.
    pub num_attention_heads: usize,
    /// Channels of a picture.
    #[serde(default = "default_num_channels")]
    pub num_channels: usize,
    /// Rows and columns of a picture.
    pub image_size: usize,
    /// Rows and columns of a patch, which becomes one token.
    pub patch_size: usize,
    /// The activation.
    pub hidden_act: HiddenAct,
    /// What is added to a variance before its root is taken.
    #[serde(default = "default_layer_norm_eps")]
    pub layer_norm_eps: f32,
}

fn default_num_channels() -> usize {
    3
}

pub(super) fn default_layer_norm_eps() -> f32 {
    1e-5
}

impl ClipVisionConfig {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// When it is not JSON, lacks a setting, or contradicts itself.
    pub fn from_json(text: &str) -> Result<Self> {
        let config: ClipVisionConfig = serde_json::from_str(text)
            .map_err(|error| Error::config("image_encoder/config.json", error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// OpenCLIP ViT-H/14, the tower of Stable Video Diffusion: 632,076,800 parameters.
    pub fn vit_h_14() -> Self {
        ClipVisionConfig {
            hidden_size: 1280,
            intermediate_size: 5120,
            projection_dim: 1024,
            num_hidden_layers: 32,
            num_attention_heads: 16,
            num_channels: 3,
            image_size: 224,
            patch_size: 14,
            hidden_act: HiddenAct::Gelu,
            layer_norm_eps: default_layer_norm_eps(),
        }
    }

    pub(crate) fn block(&self) -> BlockSizes {
        BlockSizes {
            width: self.hidden_size,
            inner: self.intermediate_size,
            heads: self.num_attention_heads,
            act: self.hidden_act,
            eps: self.layer_norm_eps,
        }
    }

    /// Patches along one side of a picture.
    pub(super) fn patches_per_side(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Tokens of a picture: its patches and the class token before them.
    pub fn tokens(&self) -> usize {
        self.patches_per_side().pow(2) + 1
    }

    /// Refuses settings that contradict each other.
    ///
    /// # Errors
    /// Naming the setting, what was expected and what was found.
    pub fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::config("clip vision tower", message));
        if self.patch_size == 0 || self.image_size < self.patch_size {
            return refuse(format!(
                "patch_size: expected between 1 and image_size {}, found {}",
                self.image_size, self.patch_size
            ));
        }
        let counts = [
            ("intermediate_size", self.intermediate_size),
            ("projection_dim", self.projection_dim),
            ("num_channels", self.num_channels),
        ];
        check_sizes(self.hidden_size, self.num_attention_heads, &counts).or_else(refuse)
    }
}

/// Refuses heads that do not divide the width of a tower, and counts of 0.
pub(super) fn check_sizes(
    width: usize,
    heads: usize,
    counts: &[(&str, usize)],
) -> std::result::Result<(), String> {
    if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
        return Err(format!(
            "num_attention_heads: expected a divisor of hidden_size {width}, found {heads}"
        ));
    }
    match counts.iter().find(|(_, count)| *count == 0) {
        Some((key, _)) => Err(format!("{key}: expected at least 1, found 0")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_file_is_the_preset() {
        let config = ClipVisionConfig::from_json(
            r#"{ "architectures": ["CLIPVisionModelWithProjection"], "attention_dropout": 0.0,
                "dropout": 0.0, "hidden_act": "gelu", "hidden_size": 1280, "image_size": 224,
                "initializer_factor": 1.0, "initializer_range": 0.02, "intermediate_size": 5120,
                "layer_norm_eps": 1e-05, "model_type": "clip_vision_model",
                "num_attention_heads": 16, "num_channels": 3, "num_hidden_layers": 32,
                "patch_size": 14, "projection_dim": 1024 }"#,
        )
        .unwrap();
        assert_eq!(config, ClipVisionConfig::vit_h_14());
        assert_eq!(config.tokens(), 257);
    }

    #[test]
    fn refuses_what_cannot_be() {
        let text = |change: fn(&mut ClipVisionConfig)| {
            let mut config = ClipVisionConfig::vit_h_14();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert_eq!(
            text(|c| c.num_attention_heads = 12),
            "clip vision tower: num_attention_heads: expected a divisor of hidden_size 1280, found 12"
        );
        assert!(text(|c| c.patch_size = 225).contains("between 1 and image_size 224"));
        assert!(text(|c| c.projection_dim = 0).starts_with("clip vision tower: projection_dim"));
    }
}
