//! The settings of a UNet, as `unet/config.json` of a diffusers folder holds them.

use super::config_file::File;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The class that `config.json` must name.
const CLASS: &str = "UNetSpatioTemporalConditionModel";

/// How a file that Kinora wrote says that its weights want the epsilons of the authors' code.
/// diffusers reads over settings that begin with an underscore.
const NORM_EPS: &str = "_kinora_norm_eps";
const ORIGINAL: &str = "original";

/// Group norms of this network have 32 groups.
pub(super) const GROUPS: usize = 32;

/// The settings of a UNet. Lists run from the finest level to the coarsest.
///
/// Where all levels agree, a file may give the one value instead of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
pub struct UNetConfig {
    /// Side of the latents it was trained on, in latent pixels, where the file says. Not used.
    pub sample_size: Option<usize>,
    /// Channels of the input: those of the noisy latents, then those of the condition.
    pub in_channels: usize,
    /// Channels of the result, which are those of the noisy latents.
    pub out_channels: usize,
    /// Whether each level attends, on the way down.
    pub down_block_types: Vec<LevelKind>,
    /// Whether each level attends, on the way up; this one runs from the coarsest to the finest.
    pub up_block_types: Vec<LevelKind>,
    /// Channels of each level, a multiple of 32. In a level of 32 the group norms have one channel
    /// each and take out whatever shifts a channel as a whole, so its residual blocks do not see the
    /// noise level or the micro-conditions; 64 and more do.
    pub block_out_channels: Vec<usize>,
    /// Sinusoids for each number of the micro-conditions.
    pub addition_time_embed_dim: usize,
    /// Sinusoids of all micro-conditions together: 768 is three of 256 (fps, motion, noise of the
    /// condition), 512 is two (fps, motion).
    pub projection_class_embeddings_input_dim: usize,
    /// Residual blocks of each level on the way down; there is one more on the way up.
    pub layers_per_block: Vec<usize>,
    /// Width of the context's tokens at each level.
    pub cross_attention_dim: Vec<usize>,
    /// Depth of each level's transformers.
    pub transformer_layers_per_block: Vec<usize>,
    /// Heads of each level's attentions.
    pub num_attention_heads: Vec<usize>,
    /// Frames of the clips it was trained on.
    pub num_frames: usize,
    /// The epsilons of the group norms: a property of the weights' origin, which diffusers' files
    /// do not have and Kinora's keep.
    pub norm_eps: NormEps,
}

/// Whether the residual blocks of a level are followed by transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelKind {
    /// Residual blocks alone.
    Plain,
    /// A transformer after each residual block.
    Attends,
}

/// The epsilon of the group norms in residual blocks. The two reference codes differ; weights give
/// the numbers their authors saw only with the epsilon of the code they are run in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NormEps {
    /// As diffusers: 1e-6 in levels that attend on the way down and in all levels on the way up,
    /// 1e-5 elsewhere.
    #[default]
    Diffusers,
    /// As the code the model was trained with: 1e-5 everywhere.
    Original,
}

impl NormEps {
    pub(super) fn down(self, kind: LevelKind) -> f32 {
        match (self, kind) {
            (NormEps::Diffusers, LevelKind::Attends) => 1e-6,
            _ => 1e-5,
        }
    }

    pub(super) fn middle(self) -> f32 {
        1e-5
    }

    pub(super) fn up(self) -> f32 {
        match self {
            NormEps::Diffusers => 1e-6,
            NormEps::Original => 1e-5,
        }
    }
}

impl UNetConfig {
    /// The published image-to-video network: 1,524,623,082 parameters.
    pub fn image_to_video(num_frames: usize) -> Self {
        use LevelKind::{Attends, Plain};
        UNetConfig {
            sample_size: Some(96),
            in_channels: 8,
            out_channels: 4,
            down_block_types: vec![Attends, Attends, Attends, Plain],
            up_block_types: vec![Plain, Attends, Attends, Attends],
            block_out_channels: vec![320, 640, 1280, 1280],
            addition_time_embed_dim: 256,
            projection_class_embeddings_input_dim: 768,
            layers_per_block: vec![2; 4],
            cross_attention_dim: vec![1024; 4],
            transformer_layers_per_block: vec![1; 4],
            num_attention_heads: vec![5, 10, 20, 20],
            num_frames,
            norm_eps: NormEps::Diffusers,
        }
    }

    /// Reads the text of a `config.json`. Settings it leaves out are those of
    /// [`image_to_video`](Self::image_to_video) with 25 frames, as in diffusers.
    ///
    /// # Errors
    /// When it is not JSON, names another class, has a setting this network does not have, or
    /// contradicts itself.
    pub fn from_json(text: &str) -> Result<Self> {
        let refuse = |error: serde_json::Error| invalid(error.to_string());
        let mut object: Map<String, Value> = serde_json::from_str(text).map_err(refuse)?;
        match object.get("_class_name").and_then(Value::as_str) {
            Some(CLASS) | None => {}
            Some(other) => {
                return Err(invalid(format!(
                    "the class is `{other}`; only `{CLASS}` is built, the network of Stable Video \
                     Diffusion"
                )));
            }
        }
        let norm_eps = match object.get(NORM_EPS).and_then(Value::as_str) {
            Some(ORIGINAL) => NormEps::Original,
            _ => NormEps::Diffusers,
        };
        object.retain(|key, _| !key.starts_with('_'));
        let file: File = serde_json::from_value(Value::Object(object)).map_err(refuse)?;
        let config = UNetConfig::try_from(file)?;
        Ok(UNetConfig { norm_eps, ..config })
    }

    /// The text of a `config.json` that diffusers reads.
    ///
    /// # Errors
    /// When a number does not fit JSON, which none here fails to.
    pub fn to_json(&self) -> Result<String> {
        let mut object = Map::new();
        object.insert("_class_name".into(), CLASS.into());
        let settings = serde_json::to_value(self).map_err(|e| invalid(e.to_string()))?;
        if let Value::Object(settings) = settings {
            object.extend(settings);
        }
        if self.norm_eps == NormEps::Original {
            object.insert(NORM_EPS.into(), ORIGINAL.into());
        }
        serde_json::to_string_pretty(&object).map_err(|e| invalid(e.to_string()))
    }

    /// How many levels there are.
    pub fn levels(&self) -> usize {
        self.block_out_channels.len()
    }

    /// Channels of the condition that goes beside the noisy latents.
    pub fn condition_channels(&self) -> usize {
        self.in_channels - self.out_channels
    }

    /// How many micro-conditions there are.
    pub fn added_values(&self) -> usize {
        self.projection_class_embeddings_input_dim / self.addition_time_embed_dim
    }

    /// Channels of the embedding of noise level and micro-conditions.
    pub(super) fn embedding_channels(&self) -> usize {
        4 * self.block_out_channels[0]
    }

    /// # Errors
    /// When the settings contradict each other, saying which and what would do.
    pub fn check(&self) -> Result<()> {
        let levels = self.levels();
        for (name, found) in [
            ("down_block_types", self.down_block_types.len()),
            ("up_block_types", self.up_block_types.len()),
            ("layers_per_block", self.layers_per_block.len()),
            ("cross_attention_dim", self.cross_attention_dim.len()),
            (
                "transformer_layers_per_block",
                self.transformer_layers_per_block.len(),
            ),
            ("num_attention_heads", self.num_attention_heads.len()),
        ] {
            if found != levels {
                return Err(invalid(format!(
                    "`{name}` has {found} entries where `block_out_channels` has {levels}; give one \
                     for each level"
                )));
            }
        }
        if levels == 0 {
            return Err(invalid(
                "`block_out_channels` is empty; give at least one level",
            ));
        }
        self.check_widths()
    }

    fn check_widths(&self) -> Result<()> {
        for (level, &channels) in self.block_out_channels.iter().enumerate() {
            let heads = self.num_attention_heads[level];
            if channels == 0 || !channels.is_multiple_of(GROUPS) {
                return Err(invalid(format!(
                    "level {level} has {channels} channels; group norm needs a multiple of {GROUPS}"
                )));
            }
            if heads == 0 || !channels.is_multiple_of(heads) {
                return Err(invalid(format!(
                    "level {level} has {heads} heads for {channels} channels; take a divisor"
                )));
            }
            if self.layers_per_block[level] == 0 || self.transformer_layers_per_block[level] == 0 {
                return Err(invalid(format!(
                    "level {level} has no layers; `layers_per_block` and \
                     `transformer_layers_per_block` are at least 1"
                )));
            }
        }
        let (dim, all) = (
            self.addition_time_embed_dim,
            self.projection_class_embeddings_input_dim,
        );
        if dim == 0 || !dim.is_multiple_of(2) || all == 0 || !all.is_multiple_of(dim) {
            return Err(invalid(format!(
                "`projection_class_embeddings_input_dim` {all} is not a multiple of an even \
                 `addition_time_embed_dim` {dim}; it is that times the number of micro-conditions"
            )));
        }
        if self.out_channels == 0 || self.in_channels < self.out_channels {
            return Err(invalid(format!(
                "{} channels in, {} out; the input begins with the noisy latents, which have as many \
                 channels as the result",
                self.in_channels, self.out_channels
            )));
        }
        Ok(())
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::config("unet/config.json", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_file_is_the_preset_and_is_written_back() -> Result<()> {
        let text = r#"{
            "_class_name": "UNetSpatioTemporalConditionModel", "_diffusers_version": "0.24.0.dev0",
            "addition_time_embed_dim": 256, "block_out_channels": [320, 640, 1280, 1280],
            "cross_attention_dim": 1024, "down_block_types": ["CrossAttnDownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal",
            "DownBlockSpatioTemporal"], "in_channels": 8, "layers_per_block": 2,
            "num_attention_heads": [5, 10, 20, 20], "num_frames": 14, "out_channels": 4,
            "projection_class_embeddings_input_dim": 768, "sample_size": 96,
            "transformer_layers_per_block": 1, "up_block_types": ["UpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal"]}"#;
        let config = UNetConfig::from_json(text)?;
        assert_eq!(config, UNetConfig::image_to_video(14));
        let written: Value = serde_json::from_str(&config.to_json()?).expect("we wrote it");
        assert_eq!(written["_class_name"], CLASS);
        assert_eq!(written["cross_attention_dim"], 1024);
        assert_eq!(UNetConfig::from_json(&config.to_json()?)?, config);
        Ok(())
    }

    #[test]
    fn the_epsilons_of_the_authors_code_survive_being_saved() -> Result<()> {
        let mut config = UNetConfig::image_to_video(14);
        config.norm_eps = NormEps::Original;
        assert_eq!(UNetConfig::from_json(&config.to_json()?)?, config);
        Ok(())
    }

    #[test]
    fn what_is_left_out_is_as_in_diffusers() -> Result<()> {
        assert_eq!(UNetConfig::from_json("{}")?, UNetConfig::image_to_video(25));
        Ok(())
    }

    #[test]
    fn refusals_say_what_would_do() {
        for (text, expected) in [
            (
                r#"{"_class_name": "UNet2DConditionModel"}"#,
                "only `UNetSpatioTemporalConditionModel`",
            ),
            (
                r#"{"center_input_sample": true}"#,
                "unknown field `center_input_sample`",
            ),
            (
                r#"{"block_out_channels": [320, 640]}"#,
                "`down_block_types` has 4 entries",
            ),
            (
                r#"{"block_out_channels": [320, 640, 1280, 1290]}"#,
                "a multiple of 32",
            ),
            (r#"{"num_attention_heads": 7}"#, "level 0 has 7 heads"),
            (r#"{"in_channels": 3}"#, "begins with the noisy latents"),
            (
                r#"{"projection_class_embeddings_input_dim": 700}"#,
                "not a multiple",
            ),
            (r#"{"layers_per_block": 0}"#, "no layers"),
            (
                r#"{"down_block_types": ["DownBlock3D"]}"#,
                "unknown variant `DownBlock3D`",
            ),
            ("{", "EOF"),
        ] {
            let error = UNetConfig::from_json(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn epsilons_follow_the_code_the_weights_came_from() {
        use LevelKind::{Attends, Plain};
        let eps = |origin: NormEps| {
            [
                origin.down(Attends),
                origin.down(Plain),
                origin.middle(),
                origin.up(),
            ]
        };
        assert_eq!(eps(NormEps::Diffusers), [1e-6, 1e-5, 1e-5, 1e-6]);
        assert_eq!(eps(NormEps::Original), [1e-5; 4]);
    }
}
