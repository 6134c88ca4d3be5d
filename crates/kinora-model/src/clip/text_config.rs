//! What a text tower is made of: `text_config` in the `config.json` of a CLIP model.

use super::HiddenAct;
use super::block::BlockSizes;
use super::config::{check_sizes, default_layer_norm_eps};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The settings of a text tower, under the names transformers gives them. Keys that change no number
/// here are read over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipTextConfig {
    /// How many tokens there are. The last is the one that ends a text.
    pub vocab_size: usize,
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
    /// The most tokens a text may have.
    pub max_position_embeddings: usize,
    /// The activation.
    pub hidden_act: HiddenAct,
    /// What is added to a variance before its root is taken.
    #[serde(default = "default_layer_norm_eps")]
    pub layer_norm_eps: f32,
}

impl ClipTextConfig {
    pub(crate) fn block(&self) -> BlockSizes {
        BlockSizes {
            width: self.hidden_size,
            inner: self.intermediate_size,
            heads: self.num_attention_heads,
            act: self.hidden_act,
            eps: self.layer_norm_eps,
        }
    }

    /// Refuses settings that contradict each other.
    ///
    /// # Errors
    /// Naming the setting, what was expected and what was found.
    pub fn check(&self) -> Result<()> {
        let counts = [
            ("vocab_size", self.vocab_size),
            ("intermediate_size", self.intermediate_size),
            ("projection_dim", self.projection_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        check_sizes(self.hidden_size, self.num_attention_heads, &counts)
            .map_err(|message| Error::config("clip text tower", message))
    }
}
