//! Which of a clip's three captions training sees, and how often (paper, App. E.2.2).

use super::sample::SampleCaption;
use crate::error::{Error, Result};
use crate::table::{ClipRow, IndexRow};
use serde::{Deserialize, Serialize};

/// How often each caption of a clip is drawn. The paper draws that of the image captioner half the
/// time and the other two a quarter each: the first won its study, the others keep diversity.
/// Where a clip lacks captions, the weights of those it has keep their ratio.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaptionWeights {
    /// Of the caption of the middle frame.
    pub image: f64,
    /// Of the caption of the clip.
    pub video: f64,
    /// Of both, merged.
    pub merged: f64,
}

impl Default for CaptionWeights {
    fn default() -> Self {
        CaptionWeights {
            image: 0.5,
            video: 0.25,
            merged: 0.25,
        }
    }
}

impl CaptionWeights {
    /// Refuses weights by which nothing can be drawn.
    ///
    /// # Errors
    /// When one is negative or not finite, or all are zero.
    pub fn check(&self) -> Result<()> {
        let weights = [self.image, self.video, self.merged];
        let usable = weights
            .iter()
            .all(|weight| weight.is_finite() && *weight >= 0.0);
        if usable && weights.iter().sum::<f64>() > 0.0 {
            return Ok(());
        }
        Err(Error::argument(
            "caption weights",
            format!(
                "expected numbers from zero, one of them above it, found image {}, video {}, merged {}; the paper has 0.5, 0.25, 0.25",
                self.image, self.video, self.merged
            ),
        ))
    }

    /// The captions that a clip has and that may be drawn, with their weights.
    #[must_use]
    pub fn of(&self, clip: &ClipRow) -> Vec<SampleCaption> {
        let captions = [
            ("image", &clip.caption_image, self.image),
            ("video", &clip.caption_video, self.video),
            ("merged", &clip.caption_merged, self.merged),
        ];
        captions
            .into_iter()
            .filter_map(|(by, text, weight)| {
                let text = text.as_deref().filter(|text| !text.trim().is_empty())?;
                (weight > 0.0).then(|| SampleCaption {
                    by: by.to_owned(),
                    text: text.to_owned(),
                    weight,
                })
            })
            .collect()
    }
}

impl IndexRow {
    /// Writes down the captions that may be drawn, with their weights.
    pub(super) fn put_captions(&mut self, captions: &[SampleCaption]) {
        for caption in captions {
            let (text, weight) = match caption.by.as_str() {
                "image" => (&mut self.caption_image, &mut self.weight_image),
                "video" => (&mut self.caption_video, &mut self.weight_video),
                _ => (&mut self.caption_merged, &mut self.weight_merged),
            };
            (*text, *weight) = (Some(caption.text.clone()), caption.weight);
        }
    }

    /// The captions that may be drawn, as `KEY.json` lists them.
    #[must_use]
    pub fn captions(&self) -> Vec<SampleCaption> {
        let captions = [
            ("image", &self.caption_image, self.weight_image),
            ("video", &self.caption_video, self.weight_video),
            ("merged", &self.caption_merged, self.weight_merged),
        ];
        let there = captions.into_iter().filter_map(|(by, text, weight)| {
            let (by, text) = (by.to_owned(), text.clone()?);
            Some(SampleCaption { by, text, weight })
        });
        there.collect()
    }
}

/// The caption at `draw`, uniform from 0 up to 1, of captions drawn in proportion to their weights:
/// p(k) = weight_k / Σ weight.
pub(crate) fn drawn(captions: &[SampleCaption], draw: f64) -> Option<&SampleCaption> {
    let total: f64 = captions.iter().map(|caption| caption.weight).sum();
    let mut left = draw * total;
    for caption in captions {
        if left < caption.weight {
            return Some(caption);
        }
        left -= caption.weight;
    }
    captions.last()
}

/// A number from 0 up to 1 that depends on nothing but a clip's id and is uniform over ids: by it the
/// one caption of `KEY.txt` is drawn, so that a trainer that reads only that sees the weights too.
#[must_use]
pub fn caption_draw(clip_id: &str) -> f64 {
    // FNV-1a takes the bytes in, the last mixing steps of SplitMix64 spread them over all bits.
    let hash = clip_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((hash ^ (hash >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip() -> ClipRow {
        ClipRow {
            caption_image: Some("i".to_owned()),
            caption_video: Some("v".to_owned()),
            caption_merged: Some("m".to_owned()),
            ..ClipRow::default()
        }
    }

    fn shares(captions: &[SampleCaption]) -> [f64; 3] {
        let count = 20_000;
        let mut found = [0.0; 3];
        for index in 0..count {
            let chosen = drawn(captions, caption_draw(&format!("{index:x}"))).unwrap();
            found[["image", "video", "merged"]
                .iter()
                .position(|by| chosen.by == *by)
                .unwrap()] += 1.0 / f64::from(count);
        }
        found
    }

    #[test]
    fn captions_are_drawn_as_often_as_the_paper_says() {
        let found = shares(&CaptionWeights::default().of(&clip()));
        // Three standard deviations of 20 000 draws are 0.011.
        for (found, expected) in found.iter().zip([0.5, 0.25, 0.25]) {
            assert!((found - expected).abs() < 0.011, "{found} for {expected}");
        }
    }

    #[test]
    fn missing_captions_leave_the_ratio_of_the_others() {
        let two = ClipRow {
            caption_video: Some("  ".to_owned()),
            ..clip()
        };
        let captions = CaptionWeights::default().of(&two);
        let by: Vec<_> = captions.iter().map(|caption| caption.by.as_str()).collect();
        assert_eq!(by, ["image", "merged"]);
        let found = shares(&captions);
        assert!((found[0] - 2.0 / 3.0).abs() < 0.011, "{found:?}");
        assert_eq!(found[1], 0.0);
        assert_eq!(drawn(&[], 0.3), None);
    }

    #[test]
    fn the_borders_of_the_draw_lie_at_the_weights() {
        let captions = CaptionWeights::default().of(&clip());
        let by = |draw| drawn(&captions, draw).unwrap().by.as_str();
        assert_eq!([by(0.0), by(0.499)], ["image"; 2]);
        assert_eq!([by(0.5), by(0.749)], ["video"; 2]);
        assert_eq!([by(0.75), by(0.999)], ["merged"; 2]);
    }

    #[test]
    fn weights_that_draw_nothing_are_refused() {
        for (image, video) in [(0.0, 0.0), (-1.0, 2.0), (f64::NAN, 1.0)] {
            let weights = CaptionWeights {
                image,
                video,
                merged: 0.0,
            };
            assert!(
                weights
                    .check()
                    .unwrap_err()
                    .to_string()
                    .contains("caption weights")
            );
        }
        CaptionWeights::default().check().unwrap();
    }
}
