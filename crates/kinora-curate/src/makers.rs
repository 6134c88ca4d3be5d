//! Who makes each column: what a result's key, its stamp and the versions in the tables are made of.

use crate::cache::{Maker, key};
use kinora_media::JudgeVersions;
use serde::{Deserialize, Serialize};

/// The makers of a curation; none where a column is switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Makers {
    /// Of the measurements of each frame, whatever the thresholds.
    pub frames: Maker,
    /// Of the cuts, thresholds included.
    pub cuts: Maker,
    /// Of the clips' files.
    pub clips: Maker,
    /// Of the motion.
    pub motion: Option<Maker>,
    /// Of the text area.
    pub text: Option<Maker>,
    /// Of the embeddings and likeness.
    pub clip: Option<Maker>,
    /// Of the aesthetic score.
    pub aesthetic: Option<Maker>,
    /// Of the caption of the middle frame.
    pub caption_image: Option<Maker>,
    /// Of the caption of the clip.
    pub caption_video: Option<Maker>,
    /// Of the merged caption.
    pub caption_merged: Option<Maker>,
}

impl Makers {
    /// The stamp of what they make of some bytes: where it is the same, so is the result.
    pub fn stamp(&self, content: &str) -> String {
        let makers = serde_json::to_string(self).expect("makers have a JSON form");
        key(&[content, &makers])
    }

    /// As the versions stand in the clip table; a column is filled in when its value is.
    pub fn versions(&self) -> JudgeVersions {
        JudgeVersions {
            cuts: self.cuts.label(),
            ..JudgeVersions::default()
        }
    }
}
