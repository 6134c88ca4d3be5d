//! The settings of a model as open_clip writes them: `open_clip_config.json` beside the weights, or
//! one of the model configurations of its source.

use crate::clip::{ClipConfig, ClipTextConfig, ClipVisionConfig, Crop, HiddenAct, Preprocess};
use crate::{Error, Result};
use serde::Deserialize;
use std::path::Path;

/// The file's name in a model's folder.
pub(super) const FILE: &str = "open_clip_config.json";

/// A model's settings. A key that is not listed may change the numbers, so it is refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelCfg {
    pub(crate) embed_dim: usize,
    pub(crate) vision_cfg: VisionCfg,
    pub(crate) text_cfg: TextCfg,
    /// CoCa's second decoder.
    #[serde(default)]
    pub(crate) multimodal_cfg: Option<MultimodalCfg>,
    #[serde(default)]
    pub(crate) quick_gelu: bool,
    /// Whether the text tower is an object of its own in their code; only the names tell it here.
    #[serde(default)]
    #[expect(dead_code)]
    custom_text: serde::de::IgnoredAny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VisionCfg {
    pub(crate) image_size: usize,
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) patch_size: usize,
    #[serde(default = "head_width")]
    pub(crate) head_width: usize,
    #[serde(default = "mlp_ratio")]
    pub(crate) mlp_ratio: f64,
    #[serde(default)]
    pub(crate) attentional_pool: bool,
    #[serde(default = "attn_pooler_queries")]
    pub(crate) attn_pooler_queries: usize,
    #[serde(default = "attn_pooler_heads")]
    pub(crate) attn_pooler_heads: usize,
    /// Only training and the form of the output depend on these.
    #[serde(default)]
    #[expect(dead_code)]
    output_tokens: serde::de::IgnoredAny,
    #[serde(default)]
    #[expect(dead_code)]
    patch_dropout: serde::de::IgnoredAny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextCfg {
    #[serde(default = "context_length")]
    pub(crate) context_length: usize,
    #[serde(default = "vocab_size")]
    pub(crate) vocab_size: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) layers: usize,
    #[serde(default = "mlp_ratio")]
    pub(crate) mlp_ratio: f64,
    #[serde(default)]
    pub(crate) embed_cls: bool,
    /// The form of the output depends on it.
    #[serde(default)]
    #[expect(dead_code)]
    output_tokens: serde::de::IgnoredAny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MultimodalCfg {
    #[serde(default = "context_length")]
    pub(crate) context_length: usize,
    #[serde(default = "vocab_size")]
    pub(crate) vocab_size: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) layers: usize,
    #[serde(default = "mlp_ratio")]
    pub(crate) mlp_ratio: f64,
    /// Given in the published file and read by no code.
    #[serde(default)]
    #[expect(dead_code)]
    attn_pooler_heads: serde::de::IgnoredAny,
}

fn head_width() -> usize {
    64
}

fn mlp_ratio() -> f64 {
    4.0
}

fn attn_pooler_queries() -> usize {
    256
}

fn attn_pooler_heads() -> usize {
    8
}

fn context_length() -> usize {
    77
}

fn vocab_size() -> usize {
    49408
}

/// How pictures are made ready. Absent where the settings are a bare model configuration.
#[derive(Clone, Debug, Deserialize)]
struct PreprocessCfg {
    mean: [f32; 3],
    std: [f32; 3],
    #[serde(default = "bicubic")]
    interpolation: String,
    #[serde(default = "shortest")]
    resize_mode: String,
}

fn bicubic() -> String {
    "bicubic".to_owned()
}

fn shortest() -> String {
    "shortest".to_owned()
}

/// The settings of a model and of what stands before it.
#[derive(Clone, Debug)]
pub(crate) struct OpenClipConfig {
    pub(crate) model: ModelCfg,
    pub(crate) preprocess: Preprocess,
}

impl OpenClipConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is not there, or asks for what is not built.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, "read", error))?;
        Self::from_json(&text).map_err(|message| Error::file(path, message))
    }

    /// Reads the text of the file, or of a bare model configuration.
    pub(super) fn from_json(text: &str) -> std::result::Result<Self, String> {
        #[derive(Deserialize)]
        struct Hub {
            model_cfg: serde_json::Value,
            preprocess_cfg: Option<PreprocessCfg>,
        }

        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let hub = match value.get("model_cfg") {
            Some(_) => serde_json::from_value(value).map_err(|e| e.to_string())?,
            None => Hub {
                model_cfg: value,
                preprocess_cfg: None,
            },
        };
        let model: ModelCfg = serde_json::from_value(hub.model_cfg).map_err(|error| {
            format!(
                "{error}; Kinora runs CLIP with a vision transformer and a text transformer, and CoCa, \
                 in their published forms"
            )
        })?;
        let mut preprocess = Preprocess::new(Crop::Nearest);
        if let Some(given) = hub.preprocess_cfg {
            let found = [given.interpolation.as_str(), given.resize_mode.as_str()];
            if found != ["bicubic", "shortest"] {
                return Err(format!(
                    "preprocess_cfg: expected interpolation bicubic and resize_mode shortest, found \
                     {found:?}"
                ));
            }
            preprocess.mean = given.mean;
            preprocess.std = given.std;
        }
        Ok(OpenClipConfig { model, preprocess })
    }

    /// The vision tower under the names of transformers. Its embeddings are `projection_dim` wide.
    pub(crate) fn vision(&self) -> ClipVisionConfig {
        let ModelCfg {
            embed_dim,
            vision_cfg: vision,
            ..
        } = &self.model;
        ClipVisionConfig {
            hidden_size: vision.width,
            intermediate_size: inner(vision.width, vision.mlp_ratio),
            projection_dim: *embed_dim,
            num_hidden_layers: vision.layers,
            // Rounded down, as open_clip does. Where that is no divisor of the width, or there is no
            // width of a head, the settings' check refuses it.
            num_attention_heads: vision.width.checked_div(vision.head_width).unwrap_or(0),
            num_channels: 3,
            image_size: vision.image_size,
            patch_size: vision.patch_size,
            hidden_act: self.act(),
            layer_norm_eps: 1e-5,
        }
    }

    /// The text tower under the names of transformers.
    pub(crate) fn text(&self) -> ClipTextConfig {
        let text = &self.model.text_cfg;
        ClipTextConfig {
            vocab_size: text.vocab_size,
            hidden_size: text.width,
            intermediate_size: inner(text.width, text.mlp_ratio),
            projection_dim: self.model.embed_dim,
            num_hidden_layers: text.layers,
            num_attention_heads: text.heads,
            max_position_embeddings: text.context_length,
            hidden_act: self.act(),
            layer_norm_eps: 1e-5,
        }
    }

    /// The activation of every tower.
    pub(crate) fn act(&self) -> HiddenAct {
        match self.model.quick_gelu {
            true => HiddenAct::QuickGelu,
            false => HiddenAct::Gelu,
        }
    }

    /// Both towers, where the model is CLIP.
    pub(super) fn clip(&self) -> std::result::Result<ClipConfig, String> {
        let model = &self.model;
        if model.multimodal_cfg.is_some()
            || model.vision_cfg.attentional_pool
            || model.text_cfg.embed_cls
        {
            return Err(
                "expected CLIP, found CoCa, which writes captions: name it where the captioner's \
                 weights are asked for"
                    .to_owned(),
            );
        }
        Ok(ClipConfig {
            vision: self.vision(),
            text: self.text(),
            preprocess: self.preprocess,
        })
    }
}

/// Width between the two layers of a feed-forward block.
pub(crate) fn inner(width: usize, ratio: f64) -> usize {
    (width as f64 * ratio) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIT_H: &str = r#"{ "embed_dim": 1024,
        "vision_cfg": { "image_size": 224, "layers": 32, "width": 1280, "head_width": 80,
            "patch_size": 14 },
        "text_cfg": { "context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16,
            "layers": 24 } }"#;

    #[test]
    fn the_published_model_is_the_tower_of_stable_video_diffusion() {
        let config = OpenClipConfig::from_json(VIT_H).unwrap().clip().unwrap();
        assert_eq!(config.vision, ClipVisionConfig::vit_h_14());
        assert_eq!(config.text.intermediate_size, 4096);
        let hub = format!(
            r#"{{ "model_cfg": {VIT_H}, "preprocess_cfg": {{ "mean": [0.5, 0.5, 0.5],
                "std": [0.25, 0.25, 0.25] }} }}"#
        );
        let config = OpenClipConfig::from_json(&hub).unwrap();
        assert_eq!(config.preprocess.std, [0.25; 3]);
    }

    #[test]
    fn what_may_change_the_numbers_is_refused() {
        let changed = VIT_H.replace("\"layers\": 24", "\"layers\": 24, \"no_causal_mask\": true");
        let error = OpenClipConfig::from_json(&changed).unwrap_err();
        assert!(error.contains("unknown field `no_causal_mask`"), "{error}");
        let hub = format!(
            r#"{{ "model_cfg": {VIT_H}, "preprocess_cfg": {{ "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5], "resize_mode": "squash" }} }}"#
        );
        let error = OpenClipConfig::from_json(&hub).unwrap_err();
        assert!(error.contains("found [\"bicubic\", \"squash\"]"), "{error}");
        let coca = VIT_H.replace("\"heads\": 16", "\"heads\": 16, \"embed_cls\": true");
        let error = OpenClipConfig::from_json(&coca)
            .unwrap()
            .clip()
            .unwrap_err();
        assert!(error.starts_with("expected CLIP, found CoCa"), "{error}");
    }
}
