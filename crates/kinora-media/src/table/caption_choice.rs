//! Which of a clip's captions is read at one step of training (paper, App. E.2.2).

use super::ClipRow;
use serde::{Deserialize, Serialize};

/// One of the three captions of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptionKind {
    /// Of the middle frame.
    Image,
    /// Of the clip.
    Video,
    /// Both, merged.
    Merged,
}

/// How often each caption is drawn. The weights of captions that a clip does not have fall to the
/// others in proportion.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptionChoice {
    /// Weight of the caption of the middle frame.
    pub image: f64,
    /// Weight of the caption of the clip.
    pub video: f64,
    /// Weight of the merged caption.
    pub merged: f64,
}

/// The paper's: p(CoCa) = 0.5, p(V-BLIP) = 0.25, p(language model) = 0.25.
impl Default for CaptionChoice {
    fn default() -> Self {
        CaptionChoice {
            image: 0.5,
            video: 0.25,
            merged: 0.25,
        }
    }
}

impl CaptionChoice {
    /// The caption of `row` that `uniform`, a number drawn evenly from 0 (with) to 1 (without),
    /// falls on. None where the row has no caption of a weight above 0.
    pub fn draw<'a>(&self, row: &'a ClipRow, uniform: f64) -> Option<(CaptionKind, &'a str)> {
        let all = [
            (CaptionKind::Image, self.image, &row.caption_image),
            (CaptionKind::Video, self.video, &row.caption_video),
            (CaptionKind::Merged, self.merged, &row.caption_merged),
        ];
        let there = all.iter().filter_map(|(kind, weight, caption)| {
            let caption = caption.as_deref().filter(|caption| !caption.is_empty())?;
            // Written so that a weight that is no number counts for nothing.
            (*weight > 0.0).then_some((*kind, *weight, caption))
        });
        let total: f64 = there.clone().map(|(_, weight, _)| weight).sum();
        let mut left = uniform * total;
        let mut last = None;
        for (kind, weight, caption) in there {
            last = Some((kind, caption));
            if left < weight {
                break;
            }
            left -= weight;
        }
        // Rounding may leave nothing to fall on; then it is the last.
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(there: [bool; 3]) -> ClipRow {
        let caption = |at: usize, text: &str| there[at].then(|| text.to_owned());
        ClipRow {
            caption_image: caption(0, "image"),
            caption_video: caption(1, "video"),
            caption_merged: caption(2, "merged"),
            ..ClipRow::default()
        }
    }

    /// How often each is drawn, over numbers that lie evenly between 0 and 1.
    fn shares(choice: CaptionChoice, there: [bool; 3]) -> [f64; 3] {
        const DRAWS: usize = 1200;
        let row = row(there);
        let mut counts = [0usize; 3];
        for i in 0..DRAWS {
            let (kind, text) = choice.draw(&row, (i as f64 + 0.5) / DRAWS as f64).unwrap();
            let (at, name) = match kind {
                CaptionKind::Image => (0, "image"),
                CaptionKind::Video => (1, "video"),
                CaptionKind::Merged => (2, "merged"),
            };
            assert_eq!(text, name);
            counts[at] += 1;
        }
        counts.map(|count| count as f64 / DRAWS as f64)
    }

    #[test]
    fn the_papers_weights() {
        let choice = CaptionChoice::default();
        assert_eq!(shares(choice, [true; 3]), [0.5, 0.25, 0.25]);
    }

    #[test]
    fn weights_of_missing_captions_fall_to_the_others_in_proportion() {
        let choice = CaptionChoice::default();
        assert_eq!(shares(choice, [false, true, true]), [0.0, 0.5, 0.5]);
        let [image, video, merged] = shares(choice, [true, true, false]);
        assert!((image - 2.0 / 3.0).abs() < 1e-3 && (video - 1.0 / 3.0).abs() < 1e-3);
        assert_eq!(merged, 0.0);
        assert_eq!(shares(choice, [false, false, true]), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn nothing_is_drawn_where_there_is_nothing() {
        let choice = CaptionChoice::default();
        assert_eq!(choice.draw(&row([false; 3]), 0.3), None);
        let mut empty = row([true, false, false]);
        empty.caption_image = Some(String::new());
        assert_eq!(choice.draw(&empty, 0.3), None);
        let only_video = CaptionChoice {
            image: f64::NAN,
            video: 1.0,
            merged: 0.0,
        };
        assert_eq!(shares(only_video, [true; 3]), [0.0, 1.0, 0.0]);
        assert_eq!(only_video.draw(&row([true, false, true]), 0.3), None);
    }

    #[test]
    fn the_ends_of_the_draw() {
        let choice = CaptionChoice::default();
        let row = row([true; 3]);
        assert_eq!(choice.draw(&row, 0.0).unwrap().0, CaptionKind::Image);
        assert_eq!(choice.draw(&row, 1.0).unwrap().0, CaptionKind::Merged);
    }
}
