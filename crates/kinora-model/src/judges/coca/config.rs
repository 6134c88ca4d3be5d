//! What a CoCa is made of.

use crate::clip::block::BlockSizes;
use crate::clip::{ClipTextConfig, ClipVisionConfig, Crop, HiddenAct, Preprocess};
use crate::weights::open_clip_config::{OpenClipConfig, inner};
use crate::{Error, Result};

/// The settings of a CoCa.
#[derive(Clone, Debug, PartialEq)]
pub struct CocaConfig {
    /// The vision tower; `projection_dim` is the width of the pooled tokens too.
    pub vision: ClipVisionConfig,
    /// Queries that pool the tokens of a picture. The first becomes its embedding, the others are
    /// what the captioner sees.
    pub pool_queries: usize,
    /// Heads of the pooling.
    pub pool_heads: usize,
    /// The decoder that has seen the text alone.
    pub text: ClipTextConfig,
    /// The decoder that sees the picture too.
    pub decoder: CocaDecoderConfig,
    /// What is done to a picture before.
    pub preprocess: Preprocess,
}

/// The settings of the decoder that sees the picture.
#[derive(Clone, Debug, PartialEq)]
pub struct CocaDecoderConfig {
    /// Width of a token.
    pub hidden_size: usize,
    /// Width between the two layers of a feed-forward block.
    pub intermediate_size: usize,
    /// Pairs of blocks: one among the words, one from the words to the picture.
    pub num_hidden_layers: usize,
    /// Heads of an attention.
    pub num_attention_heads: usize,
    /// How many tokens there are.
    pub vocab_size: usize,
    /// The most words it reads.
    pub context_length: usize,
    /// The activation.
    pub hidden_act: HiddenAct,
}

impl CocaConfig {
    /// `coca_ViT-L-14`, the published captioner: 638 million parameters.
    pub fn vit_l_14() -> Self {
        let act = HiddenAct::Gelu;
        CocaConfig {
            vision: ClipVisionConfig {
                hidden_size: 1024,
                intermediate_size: 4096,
                projection_dim: 768,
                num_hidden_layers: 24,
                num_attention_heads: 16,
                num_channels: 3,
                image_size: 224,
                patch_size: 14,
                hidden_act: act,
                layer_norm_eps: 1e-5,
            },
            pool_queries: 256,
            pool_heads: 8,
            text: ClipTextConfig {
                vocab_size: 49408,
                hidden_size: 768,
                intermediate_size: 3072,
                projection_dim: 768,
                num_hidden_layers: 12,
                num_attention_heads: 12,
                max_position_embeddings: 76,
                hidden_act: act,
                layer_norm_eps: 1e-5,
            },
            decoder: CocaDecoderConfig {
                hidden_size: 768,
                intermediate_size: 3072,
                num_hidden_layers: 12,
                num_attention_heads: 12,
                vocab_size: 49408,
                context_length: 76,
                hidden_act: act,
            },
            preprocess: Preprocess::new(Crop::Nearest),
        }
    }

    /// From the settings open_clip writes.
    ///
    /// # Errors
    /// When they are those of another model.
    pub(crate) fn from_open_clip(config: &OpenClipConfig) -> std::result::Result<Self, String> {
        let vision = &config.model.vision_cfg;
        let decoder = match &config.model.multimodal_cfg {
            Some(decoder) if vision.attentional_pool && config.model.text_cfg.embed_cls => decoder,
            _ => {
                return Err(
                    "expected CoCa (with attentional_pool, embed_cls and multimodal_cfg), found \
                     another model, which writes no captions"
                        .to_owned(),
                );
            }
        };
        Ok(CocaConfig {
            vision: config.vision(),
            pool_queries: vision.attn_pooler_queries,
            pool_heads: vision.attn_pooler_heads,
            text: config.text(),
            decoder: CocaDecoderConfig {
                hidden_size: decoder.width,
                intermediate_size: inner(decoder.width, decoder.mlp_ratio),
                num_hidden_layers: decoder.layers,
                num_attention_heads: decoder.heads,
                vocab_size: decoder.vocab_size,
                context_length: decoder.context_length,
                hidden_act: config.act(),
            },
            preprocess: config.preprocess,
        })
    }

    /// Refuses settings that contradict each other.
    ///
    /// # Errors
    /// Naming the setting, what was expected and what was found.
    pub fn check(&self) -> Result<()> {
        self.vision.check()?;
        self.text.check()?;
        self.preprocess.check()?;
        let refuse = |message: String| Err(Error::config("coca", message));
        let (pooled, decoder) = (self.vision.projection_dim, &self.decoder);
        for (key, expected, found) in [
            ("width of the decoder", pooled, decoder.hidden_size),
            ("width of the texts", pooled, self.text.hidden_size),
            ("vocab_size", self.text.vocab_size, decoder.vocab_size),
        ] {
            if expected != found {
                return refuse(format!("{key}: expected {expected}, found {found}"));
            }
        }
        for (key, heads) in [
            ("attn_pooler_heads", self.pool_heads),
            ("heads", decoder.num_attention_heads),
        ] {
            if heads == 0 || !pooled.is_multiple_of(heads) {
                return refuse(format!(
                    "{key}: expected a divisor of {pooled}, found {heads}"
                ));
            }
        }
        if self.pool_queries < 2 {
            return refuse(format!(
                "attn_pooler_queries: expected 2 at least, found {}",
                self.pool_queries
            ));
        }
        Ok(())
    }
}

impl CocaDecoderConfig {
    pub(super) fn block(&self) -> BlockSizes {
        BlockSizes {
            width: self.hidden_size,
            inner: self.intermediate_size,
            heads: self.num_attention_heads,
            act: self.hidden_act,
            eps: 1e-5,
        }
    }
}
