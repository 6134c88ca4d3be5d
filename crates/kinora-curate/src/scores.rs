//! What CLIP says of a clip: embeddings, likeness to captions, aesthetics (paper, §3.1, App. C).
//!
//! The paper names neither the CLIP nor how three frames become one number. Here the frames are the
//! first, the middle and the last, and both numbers are means over them: one frame that shows something
//! else lowers a score, as it should, and does not decide it alone. A clip with several captions has
//! the likeness of the best.

use crate::{Error, Result};
use kinora_media::Rgb8Image;
use kinora_model::clip::{Clip, ClipConfig, Crop, Dialect, HiddenAct, Tokenizer};
use kinora_model::judges::aesthetic::AestheticHead;
use kinora_model::pixels::Picture;
use kinora_model::weights::{Opening, hub, open_clip_model};
use kinora_tensor::{Tensor, no_grad};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Which CLIP judges, and by which head it finds pictures pleasing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipSettings {
    /// A folder of transformers or open_clip, open_clip's file, or an id on the hub
    /// (`laion/CLIP-ViT-H-14-laion2B-s32B-b79K`, `openai/clip-vit-large-patch14`).
    pub weights: String,
    /// One of LAION's heads as safetensors. It belongs to OpenAI's ViT-L/14.
    #[serde(default)]
    pub aesthetic: Option<PathBuf>,
    /// The activation, for an open_clip file without `open_clip_config.json` beside it.
    #[serde(default)]
    pub activation: Option<HiddenAct>,
}

/// CLIP, ready to judge.
#[derive(Clone, Debug)]
pub struct ClipJudge {
    clip: Clip,
    tokenizer: Tokenizer,
    dialect: Dialect,
    head: Option<AestheticHead>,
    params: String,
}

/// Pictures or texts that go through a tower at once: enough for its products to be large, and at
/// ViT-H/14 a tenth of a gibibyte.
const AT_ONCE: usize = 16;

impl ClipJudge {
    /// Opens the weights, downloading them first where they are an id on the hub and nothing on this
    /// machine has that name.
    ///
    /// # Errors
    /// When they cannot be had, are broken, or the head belongs to another CLIP.
    pub fn open(settings: &ClipSettings) -> Result<ClipJudge> {
        let path = located(&settings.weights)?;
        let part = open_clip_model(path, settings.activation, &Opening::default())?;
        let clip = Clip::new(&part.source(), &part.config)?;
        let head = settings.aesthetic.as_ref().map(AestheticHead::open);
        let head = head.transpose()?;
        let width = part.config.vision.projection_dim;
        if let Some(head) = head.as_ref().filter(|head| head.width() != width) {
            return Err(Error::Setting(format!(
                "aesthetic: this head judges embeddings of width {}, and those of {} have {width}; \
                 LAION's heads belong to OpenAI's ViT-L/14: name its weights, or leave the head out",
                head.width(),
                settings.weights
            )));
        }
        let dialect = match part.config.preprocess.crop {
            Crop::Nearest => Dialect::OpenClip,
            Crop::Down => Dialect::Transformers,
        };
        let params = params_of(&part.fingerprint(), &part.config, head.as_ref());
        Ok(ClipJudge {
            clip,
            tokenizer: Tokenizer::new(),
            dialect,
            head,
            params,
        })
    }

    /// The judge's name in the cache and the tables.
    pub fn id(&self) -> &'static str {
        "clip"
    }

    /// It changes when the same weights would give other numbers.
    pub fn version(&self) -> &'static str {
        "1"
    }

    /// All that the numbers depend on beside the frames, as one line of JSON: the weights by their
    /// content, the preprocessing, the head.
    pub fn params(&self) -> &str {
        &self.params
    }

    /// Width of an embedding.
    pub fn width(&self) -> usize {
        self.clip.config().vision.projection_dim
    }

    /// Whether pictures get an aesthetic score.
    pub fn has_aesthetic(&self) -> bool {
        self.head.is_some()
    }

    /// What each frame shows, at unit length. The frames of several clips in one call share the
    /// products they go through.
    ///
    /// # Errors
    /// None beyond those of the arrays.
    pub fn embed_frames(&self, frames: &[&Rgb8Image]) -> Result<Vec<Vec<f32>>> {
        let mut embeddings = Vec::with_capacity(frames.len());
        for frames in frames.chunks(AT_ONCE) {
            let pictures = frames.iter().map(|frame| {
                Picture::new(frame.data(), frame.height(), frame.width()).map_err(Error::from)
            });
            let pictures = pictures.collect::<Result<Vec<_>>>()?;
            let found = no_grad(|| self.clip.embed_pictures(&pictures))?;
            embeddings.extend(rows(&found));
        }
        Ok(embeddings)
    }

    /// What each caption says, at unit length.
    ///
    /// # Errors
    /// None beyond those of the arrays.
    pub fn embed_captions(&self, captions: &[&str]) -> Result<Vec<Vec<f32>>> {
        let mut embeddings = Vec::with_capacity(captions.len());
        for captions in captions.chunks(AT_ONCE) {
            let tokens: Vec<_> = captions
                .iter()
                .map(|caption| self.tokenizer.tokens(caption, self.dialect))
                .collect();
            let found = no_grad(|| self.clip.embed_texts(&tokens))?;
            embeddings.extend(rows(&found));
        }
        Ok(embeddings)
    }

    /// How pleasing a clip is: the mean of its frames' scores, about 1 to 10. None without a head or
    /// without a frame.
    ///
    /// # Errors
    /// When the embeddings are not of this CLIP's width.
    pub fn aesthetic(&self, frames: &[Vec<f32>]) -> Result<Option<f32>> {
        let (Some(head), Some(first)) = (&self.head, frames.first()) else {
            return Ok(None);
        };
        let values: Vec<f32> = frames.iter().flatten().copied().collect();
        let embeddings = Tensor::from_vec(values, [frames.len(), first.len()])?;
        let scores = no_grad(|| head.scores(&embeddings))?;
        Ok(Some(mean(scores.iter().copied())))
    }
}

/// How well a caption fits a clip: the mean cosine of its embedding and those of the frames, all of
/// unit length. 0 where there is no frame.
///
/// # Panics
/// When the embeddings differ in width: they come from two judges.
pub fn similarity(frames: &[Vec<f32>], caption: &[f32]) -> f32 {
    let cosines = frames.iter().map(|frame| {
        assert_eq!(frame.len(), caption.len(), "embeddings of one CLIP");
        let products = frame.iter().zip(caption);
        products
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>() as f32
    });
    mean(cosines)
}

/// The likeness of a clip with several captions: that of the best. None where there is none.
pub fn best_similarity(similarities: &[f32]) -> Option<f32> {
    similarities.iter().copied().max_by(f32::total_cmp)
}

fn mean(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let count = values.len().max(1);
    (values.map(f64::from).sum::<f64>() / count as f64) as f32
}

/// The rows of `[n, p]`.
fn rows(embeddings: &Tensor) -> Vec<Vec<f32>> {
    let width = embeddings.shape().last().max(1);
    let values = embeddings.to_vec();
    values.chunks_exact(width).map(<[f32]>::to_vec).collect()
}

fn params_of(fingerprint: &str, config: &ClipConfig, head: Option<&AestheticHead>) -> String {
    let preprocess = config.preprocess;
    serde_json::json!({
        "weights": fingerprint,
        "activation": config.vision.hidden_act,
        "mean": preprocess.mean,
        "std": preprocess.std,
        "crop": format!("{:?}", preprocess.crop),
        "aesthetic": head.map(AestheticHead::fingerprint),
    })
    .to_string()
}

/// The path of weights, downloaded first where they are an id on the hub.
pub(crate) fn located(weights: &str) -> Result<PathBuf> {
    let path = Path::new(weights);
    if path.exists() {
        return Ok(path.to_owned());
    }
    let Ok(id) = weights.parse::<hub::HubId>() else {
        return Err(Error::Setting(format!(
            "weights {weights}: no such file or folder, and no hub id either (owner/name, as in \
             openai/clip-vit-large-patch14)"
        )));
    };
    let mut told_percent = None;
    let fetched = hub::Hub::from_env()?.fetch_judge(&id, &mut |progress| {
        let percent = 100 * progress.done_bytes / progress.total_bytes.max(1);
        if told_percent != Some(percent) {
            told_percent = Some(percent);
            tracing::info!(file = progress.file, percent, "downloading {id}");
        }
        ControlFlow::Continue(())
    })?;
    Ok(fetched)
}

#[cfg(test)]
mod tests;
