//! A picture in words: CoCa, Yu et al. 2022, in open_clip's layout (paper, §3.1).
//!
//! Legend of the shapes: `n` pictures, `q` tokens a picture is pooled to, `c` width of a token.
//!
//! What open_clip does with a token of id 0 (`!` within a word) differs between its releases: from 3.0
//! on the words after it do not see what follows it, as if it were padding. The published weights were
//! trained before that, and here it is a word like every other; only a greedy caption ends with it.

mod config;
mod decoder;
mod pooler;
mod search;

pub use config::{CocaConfig, CocaDecoderConfig};

use crate::clip::Tokenizer;
use crate::params::{Init, Layout, Source};
use crate::pixels::Picture;
use crate::weights::{Opening, open_coca_model};
use crate::{Error, Result};
use decoder::Decoders;
use kinora_tensor::{Param, Tensor};
use pooler::PooledVision;
use search::{Marks, Search};
use std::path::Path;

/// How a caption is looked for. The defaults are open_clip's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoding {
    /// The most tokens a caption has, the ones that begin and end it among them.
    pub seq_len: usize,
    /// No caption ends before it has so many.
    pub min_seq_len: usize,
    /// The beams of a search; none takes the likeliest word each time, in a sixth of the time.
    pub beams: Option<Beams>,
}

/// The beams of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beams {
    /// Texts that are written at once.
    pub beams: usize,
    /// Groups of them that do not share what they find.
    pub groups: usize,
}

impl Default for Beams {
    fn default() -> Self {
        Beams {
            beams: 6,
            groups: 3,
        }
    }
}

impl Default for Decoding {
    fn default() -> Self {
        Decoding {
            seq_len: 30,
            min_seq_len: 5,
            beams: Some(Beams::default()),
        }
    }
}

impl Decoding {
    /// Refuses what cannot be done with a model that reads `longest` tokens.
    fn check(&self, longest: usize) -> Result<()> {
        let refuse = |message: String| Err(Error::argument("caption", message));
        if self.seq_len <= self.min_seq_len || self.seq_len > longest {
            return refuse(format!(
                "seq_len: expected more than min_seq_len {} and at most {longest}, found {}",
                self.min_seq_len, self.seq_len
            ));
        }
        match self.beams {
            Some(Beams { beams, groups })
                if beams < 2 || groups == 0 || !beams.is_multiple_of(groups) =>
            {
                refuse(format!(
                    "beams: expected 2 at least in equal groups, found {beams} in {groups}; leave them \
                     out for the likeliest word each time"
                ))
            }
            _ => Ok(()),
        }
    }
}

/// The network.
#[derive(Clone, Debug)]
pub struct Coca {
    config: CocaConfig,
    vision: PooledVision,
    decoders: Decoders,
    _logit_scale: Param,
}

impl Coca {
    /// A network of these settings with the parameters of `source`, which must hold nothing else.
    ///
    /// # Errors
    /// When the settings contradict each other, or the source does not hold the parameters, or more
    /// than them.
    pub fn new(source: &Source, config: &CocaConfig) -> Result<Self> {
        config.check()?;
        let scale = Init::Constant(2.6593); // ln(1 / 0.07), where training began
        let coca = Coca {
            config: config.clone(),
            vision: PooledVision::new(source, config)?,
            decoders: Decoders::new(source, config)?,
            _logit_scale: source.param("logit_scale", &[], Layout::Plain, scale)?,
        };
        source.check_unused()?;
        Ok(coca)
    }

    /// The settings.
    pub fn config(&self) -> &CocaConfig {
        &self.config
    }

    /// What pictures show, not brought to unit length.
    ///
    /// # Shapes
    /// `images` `[n, s, s, 3]`, made ready by the settings' preprocessing; the result is `[n, c]`.
    ///
    /// # Errors
    /// When the pictures have another size.
    pub fn embed(&self, images: &Tensor) -> Result<Tensor> {
        self.vision.embeddings(images)
    }

    /// What may follow every token of a text, each picture with its own text.
    ///
    /// # Shapes
    /// `images` `[n, s, s, 3]`; `texts` n lists of m tokens; the result is `[n, m, vocabulary]`.
    ///
    /// # Errors
    /// When the pictures have another size, there is not one text for each, the texts differ in
    /// length or are too long, or a token is not in the table.
    pub fn logits(&self, images: &Tensor, texts: &[Vec<usize>]) -> Result<Tensor> {
        let n = images.dims().first().copied().unwrap_or(0);
        let m = texts.first().map_or(0, Vec::len);
        if texts.len() != n || m == 0 || texts.iter().any(|text| text.len() != m) {
            return Err(Error::argument(
                "coca",
                format!("expected {n} texts of one length, one for each picture"),
            ));
        }
        let mut memory = self.decoders.begin(&self.vision.tokens(images)?)?;
        let mut columns = Vec::with_capacity(m);
        for place in 0..m {
            let tokens: Vec<usize> = texts.iter().map(|text| text[place]).collect();
            let next = self.decoders.next(&tokens, &mut memory)?;
            columns.push(next.reshape([n, 1, self.decoders.vocabulary()])?);
        }
        let columns: Vec<&Tensor> = columns.iter().collect();
        Ok(kinora_tensor::ops::concat(&columns, 1)?)
    }

    /// The tokens of a caption for each picture, from the one that begins it to the one that ends it,
    /// which a caption that was cut has not. The last two tokens of the vocabulary are these two, and
    /// 0 is padding.
    ///
    /// # Shapes
    /// `images` `[n, s, s, 3]`, made ready by the settings' preprocessing; n lists.
    ///
    /// # Errors
    /// When the pictures have another size, or `decoding` cannot be done.
    pub fn generate(&self, images: &Tensor, decoding: &Decoding) -> Result<Vec<Vec<usize>>> {
        decoding.check(self.decoders.longest())?;
        let pictures = self.vision.tokens(images)?;
        let vocabulary = self.decoders.vocabulary();
        let marks = Marks {
            start: vocabulary - 2,
            end: vocabulary - 1,
            pad: 0,
        };
        let mut searches = vec![Search::new(decoding, marks); pictures.dims()[0]];
        let mut memory = self.decoders.begin(&pictures)?;
        for step in 0.. {
            if searches.iter().all(Search::is_done) {
                break;
            }
            let (mut tokens, mut from) = (Vec::new(), Vec::new());
            for search in &searches {
                let (last, origin) = search.last();
                from.extend(origin.iter().map(|beam| tokens.len() + beam));
                tokens.extend(last);
            }
            if step > 0 && decoding.beams.is_some() {
                memory.reorder(&from)?;
            }
            let outputs = self.decoders.next(&tokens, &mut memory)?;
            let rows = tokens.len() / searches.len() * vocabulary;
            for (search, outputs) in searches.iter_mut().zip(outputs.as_f32()?.chunks(rows)) {
                search.step(outputs);
            }
        }
        Ok(searches.into_iter().map(Search::finish).collect())
    }
}

/// A CoCa with its words.
///
/// ```no_run
/// use kinora_model::judges::coca::{Captioner, Decoding};
/// use kinora_model::pixels::Picture;
/// use kinora_model::weights::Opening;
///
/// let captioner = Captioner::open("coca_ViT-L-14.safetensors", &Opening::default())?;
/// let bytes = vec![0; 3 * 640 * 360];
/// let picture = Picture::new(&bytes, 360, 640)?;
/// let captions = captioner.captions(&[picture], &Decoding::default())?;
/// assert_eq!(captions.len(), 1);
/// # Ok::<(), kinora_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Captioner {
    coca: Coca,
    tokenizer: Tokenizer,
    fingerprint: String,
}

/// Pictures that go through the network at once. More would take memory and bring no speed.
const PICTURES_AT_ONCE: usize = 8;

impl Captioner {
    /// Opens the weights of a captioner: see [`open_coca_model`].
    ///
    /// # Errors
    /// As [`open_coca_model`], and when its vocabulary is not CLIP's.
    pub fn open(path: impl AsRef<Path>, opening: &Opening) -> Result<Self> {
        let part = open_coca_model(&path, opening)?;
        let expected = Tokenizer::END as usize + 1;
        if part.config.decoder.vocab_size != expected {
            return Err(Error::file(
                path,
                format!(
                    "expected a vocabulary of {expected} tokens, CLIP's, found {}",
                    part.config.decoder.vocab_size
                ),
            ));
        }
        Ok(Captioner {
            coca: Coca::new(&part.source(), &part.config)?,
            tokenizer: Tokenizer::new(),
            fingerprint: part.fingerprint(),
        })
    }

    /// The network.
    pub fn coca(&self) -> &Coca {
        &self.coca
    }

    /// A name for the weights by their content.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A caption for each picture.
    ///
    /// # Errors
    /// When `decoding` cannot be done.
    pub fn captions(&self, pictures: &[Picture<'_>], decoding: &Decoding) -> Result<Vec<String>> {
        let config = self.coca.config();
        let mut captions = Vec::with_capacity(pictures.len());
        for pictures in pictures.chunks(PICTURES_AT_ONCE) {
            let images = config
                .preprocess
                .images(pictures, config.vision.image_size)?;
            for tokens in self.coca.generate(&images, decoding)? {
                let tokens: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
                captions.push(self.tokenizer.text(&without_padding(&tokens))?);
            }
        }
        Ok(captions)
    }
}

/// The tokens up to the one that ends them; a greedy caption may end with padding instead.
fn without_padding(tokens: &[i32]) -> Vec<i32> {
    let end = tokens.iter().position(|token| *token == Tokenizer::END);
    let kept = &tokens[..end.unwrap_or(tokens.len())];
    match kept.split_last() {
        Some((0, rest)) if end.is_none() => rest.to_vec(),
        _ => kept.to_vec(),
    }
}
