//! Both towers together, as CLIP was trained: pictures and texts in one space.

use super::{ClipText, ClipTextConfig, ClipVision, ClipVisionConfig, Preprocess};
use crate::params::{Init, Layout, Source};
use crate::pixels::Picture;
use crate::{Error, Result};
use kinora_tensor::{Param, Tensor};

/// The settings of both towers, and how pictures are made ready for the first.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipConfig {
    /// The vision tower.
    pub vision: ClipVisionConfig,
    /// The text tower.
    pub text: ClipTextConfig,
    /// What is done to a picture before.
    pub preprocess: Preprocess,
}

impl ClipConfig {
    /// Refuses settings that contradict each other.
    ///
    /// # Errors
    /// Naming the setting, what was expected and what was found.
    pub fn check(&self) -> Result<()> {
        self.vision.check()?;
        self.text.check()?;
        if self.vision.projection_dim != self.text.projection_dim {
            return Err(Error::config(
                "clip",
                format!(
                    "projection_dim: expected one width of embeddings, found {} for pictures and {} \
                     for texts",
                    self.vision.projection_dim, self.text.projection_dim
                ),
            ));
        }
        self.preprocess.check()
    }
}

/// CLIP: what a picture shows and what a text says, as vectors whose cosine tells how well they fit
/// (Radford et al. 2021).
///
/// ```no_run
/// use kinora_model::clip::{Clip, Dialect, Tokenizer};
/// use kinora_model::weights::{Opening, open_clip_model};
///
/// let part = open_clip_model("ViT-H-14/open_clip_model.safetensors", None, &Opening::default())?;
/// let clip = Clip::new(&part.source(), &part.config)?;
/// let texts = [Tokenizer::new().tokens("a lighthouse at dusk", Dialect::OpenClip)];
/// assert_eq!(clip.embed_texts(&texts)?.dims(), [1, 1024]);
/// # Ok::<(), kinora_model::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Clip {
    config: ClipConfig,
    vision: ClipVision,
    text: ClipText,
    logit_scale: Param,
}

impl Clip {
    /// Both towers with the parameters of `source`, which must hold nothing else.
    ///
    /// # Errors
    /// When the settings contradict each other, or the source does not hold the parameters, or more
    /// than them.
    pub fn new(source: &Source, config: &ClipConfig) -> Result<Self> {
        config.check()?;
        let clip = Clip {
            config: config.clone(),
            vision: ClipVision::new(source, &config.vision)?,
            text: ClipText::new(source, &config.text)?,
            // ln(1 / 0.07), where training began.
            logit_scale: source.param("logit_scale", &[], Layout::Plain, Init::Constant(2.6593))?,
        };
        source.check_unused()?;
        Ok(clip)
    }

    /// The settings.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// The vision tower.
    pub fn vision(&self) -> &ClipVision {
        &self.vision
    }

    /// The text tower.
    pub fn text(&self) -> &ClipText {
        &self.text
    }

    /// The factor on a cosine that training learned: at most 100 in the published models.
    pub fn logit_factor(&self) -> f32 {
        self.logit_scale.get().to_vec()[0].exp()
    }

    /// What each picture shows, at unit length.
    ///
    /// # Shapes
    /// The result is `[n, p]`.
    ///
    /// # Errors
    /// None beyond those of the arrays.
    pub fn embed_pictures(&self, pictures: &[Picture<'_>]) -> Result<Tensor> {
        if pictures.is_empty() {
            return Ok(Tensor::zeros([0, self.config.vision.projection_dim]));
        }
        let side = self.config.vision.image_size;
        let images = self.config.preprocess.images(pictures, side)?;
        unit_length(&self.vision.forward(&images)?)
    }

    /// What each text says, at unit length.
    ///
    /// # Shapes
    /// `texts` holds n lists of tokens; the result is `[n, p]`.
    ///
    /// # Errors
    /// As [`ClipText::forward`].
    pub fn embed_texts(&self, texts: &[impl AsRef<[i32]>]) -> Result<Tensor> {
        unit_length(&self.text.forward(texts)?)
    }
}

/// Every row divided by its length, which is at least 1e-12, as in PyTorch. Not recorded.
fn unit_length(rows: &Tensor) -> Result<Tensor> {
    let width = rows.shape().last().max(1);
    let mut values = rows.to_vec();
    for row in values.chunks_exact_mut(width) {
        let squares: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
        let length = squares.sqrt().max(1e-12) as f32;
        row.iter_mut().for_each(|v| *v /= length);
    }
    Ok(Tensor::from_vec(values, rows.shape())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::testing::numbers;

    #[test]
    fn rows_have_unit_length_and_keep_their_direction() -> Result<()> {
        let rows = numbers([3, 5], 1);
        let unit = unit_length(&rows)?.to_vec();
        for (unit, row) in unit.chunks(5).zip(rows.to_vec().chunks(5)) {
            let length: f32 = unit.iter().map(|v| v * v).sum();
            assert!((length - 1.0).abs() < 1e-6);
            assert!((unit[0] / unit[1] - row[0] / row[1]).abs() < 1e-4);
        }
        assert_eq!(unit_length(&Tensor::zeros([1, 4]))?.to_vec(), [0.0; 4]);
        Ok(())
    }
}
