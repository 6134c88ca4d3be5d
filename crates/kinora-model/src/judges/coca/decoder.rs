//! The two text decoders: one that has read the words alone, one that sees the picture too
//! (Yu et al. 2022, §3.2), word by word.

use super::CocaConfig;
use crate::clip::block::{Block, Mlp, Projections};
use crate::layers::{LayerNorm, Linear, widened};
use crate::params::{Init, Layout, Source};
use crate::{Error, Result};
use kinora_tensor::{Param, Tensor, ops};

/// Both decoders.
#[derive(Clone, Debug)]
pub(super) struct Decoders {
    token_embedding: Param,
    position_embedding: Param,
    words: Vec<Block>,
    pairs: Vec<(Block, ToPicture)>,
    last_norm: LayerNorm,
    output: Linear,
    /// What the contrastive half of the model needs beside; a caption does not.
    _contrast: (Param, LayerNorm, Linear),
    longest: usize,
    vocabulary: usize,
}

/// Attention of words to the tokens of their picture, then a feed-forward layer.
#[derive(Clone, Debug)]
struct ToPicture {
    norm: LayerNorm,
    norm_picture: LayerNorm,
    projections: Projections,
    heads: usize,
    mlp: Mlp,
}

/// What is kept between words: keys and values of every block among words, `[texts, m, c]`, none at
/// the first word; those of every picture, `[n, q, c]`, which never change.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    words: Vec<Option<(Tensor, Tensor)>>,
    pictures: Vec<(Tensor, Tensor)>,
    place: usize,
    pictures_count: usize,
}

impl Decoders {
    pub(super) fn new(source: &Source, config: &CocaConfig) -> Result<Self> {
        let (text, decoder) = (source.at("text_model"), source.at("text_decoder"));
        let (c, eps) = (config.text.hidden_size, config.text.layer_norm_eps);
        let embeddings = text.at("embeddings");
        let table = |name: &str, rows: usize| {
            let source = embeddings.at(name);
            source.param("weight", &[rows, c], Layout::Plain, Init::Normal(0.02))
        };
        let (layers, sizes) = (text.at("encoder").at("layers"), config.decoder.block());
        let words = (0..config.text.num_hidden_layers)
            .map(|k| Block::new(&layers.at(k), config.text.block()));
        let (among, across) = (decoder.at("layers"), decoder.at("cross_layers"));
        let pairs = (0..config.decoder.num_hidden_layers).map(|k| {
            let block = Block::new(&among.at(k), sizes)?;
            Ok((block, ToPicture::new(&across.at(k), config)?))
        });
        let class = embeddings.param("class_embedding", &[c], Layout::Plain, Init::Normal(0.01));
        let contrast = (
            class?,
            LayerNorm::new(&text.at("final_layer_norm"), c, eps)?,
            Linear::without_bias(&source.at("text_projection"), c, config.text.projection_dim)?,
        );
        Ok(Decoders {
            token_embedding: table("token_embedding", config.text.vocab_size)?,
            // The class token has the place after the last word.
            position_embedding: table(
                "position_embedding",
                config.text.max_position_embeddings + 1,
            )?,
            words: words.collect::<Result<_>>()?,
            pairs: pairs.collect::<Result<_>>()?,
            last_norm: LayerNorm::new(&decoder.at("final_layer_norm"), c, eps)?,
            output: Linear::without_bias(&decoder.at("output"), c, config.decoder.vocab_size)?,
            _contrast: contrast,
            longest: config
                .text
                .max_position_embeddings
                .min(config.decoder.context_length),
            vocabulary: config.decoder.vocab_size,
        })
    }

    /// How many tokens there are to choose from.
    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The most tokens a text may have.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The state before the first word.
    ///
    /// # Shapes
    /// `pictures` `[n, q, c]`.
    pub(super) fn begin(&self, pictures: &Tensor) -> Result<Memory> {
        let seen = self.pairs.iter().map(|(_, block)| block.seen(pictures));
        Ok(Memory {
            words: vec![None; self.words.len() + self.pairs.len()],
            pictures: seen.collect::<Result<_>>()?,
            place: 0,
            pictures_count: pictures.dims()[0],
        })
    }

    /// What may follow the next token of each text. A picture has as many texts as the others, and
    /// its texts stand one after the other.
    ///
    /// # Shapes
    /// `tokens` holds the next token of each text; the result is `[texts, vocabulary]`.
    pub(super) fn next(&self, tokens: &[usize], memory: &mut Memory) -> Result<Tensor> {
        if memory.place >= self.longest {
            let message = format!("expected texts of at most {} tokens", self.longest);
            return Err(Error::argument("coca", message));
        }
        let x = ops::embedding(&self.token_embedding.for_work()?, tokens)?; // [texts, c]
        let (texts, c) = (x.dims()[0], x.dims()[1]);
        let place = ops::narrow(&widened(&self.position_embedding)?, 0, memory.place, 1)?;
        let mut x = ops::add_broadcast(&x.reshape([texts, 1, c])?, &place.reshape([1, 1, c])?)?;
        let (first, second) = memory.words.split_at_mut(self.words.len());
        for (block, kept) in self.words.iter().zip(first) {
            x = block.forward_seeing(&x, |k, v| grown(kept, k, v))?;
        }
        let pictures = memory.pictures_count;
        for (((block, across), kept), (k, v)) in self.pairs.iter().zip(second).zip(&memory.pictures)
        {
            x = block.forward_seeing(&x, |k, v| grown(kept, k, v))?;
            // All texts of a picture look at the same tokens: they are queries of one sequence.
            let together = x.reshape([pictures, texts / pictures.max(1), c])?;
            x = across.forward(&together, k, v)?.reshape([texts, 1, c])?;
        }
        memory.place += 1;
        let x = self.last_norm.forward(&x.reshape([texts, c])?)?;
        self.output.forward(&x)
    }
}

impl Memory {
    /// Every text goes on from the one whose number is given.
    pub(super) fn reorder(&mut self, from: &[usize]) -> Result<()> {
        for (k, v) in self.words.iter_mut().flatten() {
            for kept in [k, v] {
                let &[texts, m, c] = kept.dims() else {
                    unreachable!("kept as [texts, m, c]");
                };
                let rows = ops::embedding(&kept.reshape([texts, m * c])?, from)?;
                *kept = rows.reshape([from.len(), m, c])?;
            }
        }
        Ok(())
    }
}

/// The keys and values so far with those of one more word.
fn grown(kept: &mut Option<(Tensor, Tensor)>, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
    let all = match kept.take() {
        None => (k.clone(), v.clone()),
        Some((keys, values)) => (ops::concat(&[&keys, k], 1)?, ops::concat(&[&values, v], 1)?),
    };
    *kept = Some(all.clone());
    Ok(all)
}

impl ToPicture {
    fn new(source: &Source, config: &CocaConfig) -> Result<Self> {
        let sizes = config.decoder.block();
        let c = sizes.width;
        Ok(ToPicture {
            norm: LayerNorm::new(&source.at("layer_norm1"), c, sizes.eps)?,
            norm_picture: LayerNorm::new(&source.at("layer_norm1_kv"), c, sizes.eps)?,
            projections: Projections::new(&source.at("self_attn"), c, c)?,
            heads: sizes.heads,
            mlp: Mlp::new(source, sizes)?,
        })
    }

    /// Keys and values of pictures, `[n, q, c]`.
    fn seen(&self, pictures: &Tensor) -> Result<(Tensor, Tensor)> {
        let pictures = self.norm_picture.forward(pictures)?;
        self.projections.keys_and_values(&pictures)
    }

    /// # Shapes
    /// `x` `[n, words, c]`, `k` and `v` `[n, q, c]`; the result is like `x`.
    fn forward(&self, x: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let queries = self.projections.to_q.forward(&self.norm.forward(x)?)?;
        let attended = ops::attention(&queries, k, v, self.heads)?;
        let x = self.projections.to_out.forward_onto(x, &attended)?;
        self.mlp.add_to(&x)
    }
}
