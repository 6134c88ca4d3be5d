//! The text tower: a text becomes one vector beside those of the pictures it fits.

use super::ClipTextConfig;
use super::block::Block;
use crate::layers::{LayerNorm, Linear, widened};
use crate::params::{Init, Layout, Source};
use crate::{Error, Result};
use kinora_tensor::{Param, Tensor, ops};

/// A causal transformer with a projection: the token that ends a text has seen all of it and is its
/// embedding (Radford et al. 2021, §2.4).
#[derive(Clone, Debug)]
pub struct ClipText {
    config: ClipTextConfig,
    token_embedding: Param,
    position_embedding: Param,
    blocks: Vec<Block>,
    last_norm: LayerNorm,
    projection: Linear,
}

impl ClipText {
    /// A tower of these settings with the parameters of `source`.
    ///
    /// # Errors
    /// When the settings contradict each other, or the source does not hold the parameters.
    pub fn new(source: &Source, config: &ClipTextConfig) -> Result<Self> {
        config.check()?;
        let (c, text) = (config.hidden_size, source.at("text_model"));
        let embeddings = text.at("embeddings");
        let table = |name: &str, rows: usize, std: f32| {
            let init = Init::Normal(std);
            embeddings
                .at(name)
                .param("weight", &[rows, c], Layout::Plain, init)
        };
        let layers = text.at("encoder").at("layers");
        let blocks =
            (0..config.num_hidden_layers).map(|k| Block::new(&layers.at(k), config.block()));
        let last = source.at("text_projection");
        Ok(ClipText {
            config: config.clone(),
            token_embedding: table("token_embedding", config.vocab_size, 0.02)?,
            position_embedding: table("position_embedding", config.max_position_embeddings, 0.01)?,
            blocks: blocks.collect::<Result<_>>()?,
            last_norm: LayerNorm::new(&text.at("final_layer_norm"), c, config.layer_norm_eps)?,
            projection: Linear::without_bias(&last, c, config.projection_dim)?,
        })
    }

    /// The settings.
    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// The embeddings of texts, not brought to unit length. A text ends at its largest token; what
    /// comes after it is padding, which no token before it sees, so none of it is computed.
    ///
    /// # Shapes
    /// `texts` holds n lists of tokens; the result is `[n, p]`.
    ///
    /// # Errors
    /// When a text is empty, longer than the tower reads, or has a token that is not in its table.
    pub fn forward(&self, texts: &[impl AsRef<[i32]>]) -> Result<Tensor> {
        if texts.is_empty() {
            return Ok(Tensor::zeros([0, self.config.projection_dim]));
        }
        let ends = texts
            .iter()
            .map(|text| self.end_of(text.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        let (n, c) = (texts.len(), self.config.hidden_size);
        let m = 1 + ends.iter().max().copied().unwrap_or(0);
        let ids = self.ids(texts, m)?;
        let tokens = ops::embedding(&self.token_embedding.for_work()?, &ids)?.reshape([n, m, c])?;
        let places = ops::narrow(&widened(&self.position_embedding)?, 0, 0, m)?;
        let mut x = ops::add_broadcast(&tokens, &places.reshape([1, m, c])?)?;
        for block in &self.blocks {
            x = block.forward_causal(&x)?;
        }
        let rows: Vec<usize> = ends
            .iter()
            .enumerate()
            .map(|(k, end)| k * m + end)
            .collect();
        let ends = ops::embedding(&x.reshape([n * m, c])?, &rows)?; // [n, c]
        self.projection.forward(&self.last_norm.forward(&ends)?)
    }

    /// The place of the first of the largest tokens, which ends the text.
    fn end_of(&self, text: &[i32]) -> Result<usize> {
        let largest = text.iter().max();
        let end = text.iter().position(|token| Some(token) == largest);
        let longest = self.config.max_position_embeddings;
        end.filter(|end| *end < longest).ok_or_else(|| {
            Error::argument(
                "clip text tower",
                format!(
                    "expected a text of 1 to {longest} tokens, found one of {} tokens; the tokenizer \
                     cuts longer ones",
                    text.len()
                ),
            )
        })
    }

    /// The first `m` tokens of each text as rows of the table, 0 where a text is shorter.
    fn ids(&self, texts: &[impl AsRef<[i32]>], m: usize) -> Result<Vec<usize>> {
        let mut ids = Vec::with_capacity(texts.len() * m);
        for text in texts {
            let text = text.as_ref();
            for place in 0..m {
                let token = text.get(place).copied().unwrap_or(0);
                let id = usize::try_from(token).ok();
                ids.push(
                    id.filter(|id| *id < self.config.vocab_size)
                        .ok_or_else(|| {
                            Error::argument(
                                "clip text tower",
                                format!(
                                    "expected tokens from 0 to {}, found {token} at place {place}",
                                    self.config.vocab_size - 1
                                ),
                            )
                        })?,
                );
            }
        }
        Ok(ids)
    }
}
