//! One clip of a shard, as a trainer sees it.

use super::captions::{CaptionWeights, drawn};
use crate::error::{Error, Result};
use crate::table::{ClipRow, JudgeVersions};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The members of a shard that share a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSample {
    /// What they share: the clip's id.
    pub key: String,
    /// The ending of each member (all after the first dot of its name) with its bytes, in order.
    pub members: Vec<(String, Vec<u8>)>,
    /// The shard, for messages.
    pub(super) shard: PathBuf,
}

/// One caption of a clip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleCaption {
    /// Who wrote it: `image` (middle frame), `video` (clip) or `merged`.
    pub by: String,
    /// What it says.
    pub text: String,
    /// How often it is drawn, in proportion to the weights of the others that are listed.
    pub weight: f64,
}

/// What `KEY.json` says of a clip. A score that was not judged is null.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleDescription {
    /// The clip, which is the key, too.
    pub clip_id: String,
    /// The video, as it was named.
    pub source: String,
    /// First frame in the source, from zero.
    pub start_frame: u64,
    /// First frame no longer in it.
    pub end_frame: u64,
    /// When its first frame is shown, seconds from the first frame of the source.
    pub start_s: f64,
    /// When its last frame ends.
    pub end_s: f64,
    /// Frames a second, on average.
    pub fps: f64,
    /// Width as shown.
    pub width: u32,
    /// Height as shown.
    pub height: u32,
    /// Mean length of the flow, as in the table of clips.
    pub motion_score: Option<f32>,
    /// The motion's place among all clips, 0 to 255.
    pub motion_bucket: Option<u8>,
    /// Share of the picture under text, 0 to 1.
    pub text_area: Option<f32>,
    /// Likeness to its captions, −1 to 1.
    pub clip_similarity: Option<f32>,
    /// Aesthetic score, about 1 to 10.
    pub aesthetic: Option<f32>,
    /// The captions that may be drawn.
    pub captions: Vec<SampleCaption>,
    /// Who judged.
    pub versions: JudgeVersions,
}

impl SampleDescription {
    /// What there is to say of a clip.
    #[must_use]
    pub fn of(clip: &ClipRow, weights: &CaptionWeights) -> SampleDescription {
        SampleDescription {
            clip_id: clip.clip_id.clone(),
            source: clip.source.clone(),
            start_frame: clip.start_frame,
            end_frame: clip.end_frame,
            start_s: clip.start_s,
            end_s: clip.end_s,
            fps: clip.fps,
            width: clip.width,
            height: clip.height,
            motion_score: clip.motion_score,
            motion_bucket: clip.motion_bucket,
            text_area: clip.text_area,
            clip_similarity: clip.clip_similarity,
            aesthetic: clip.aesthetic,
            captions: weights.of(clip),
            versions: clip.versions.clone(),
        }
    }

    /// The caption at `draw`, uniform from 0 up to 1; none where there is no caption.
    #[must_use]
    pub fn caption(&self, draw: f64) -> Option<&str> {
        drawn(&self.captions, draw).map(|caption| caption.text.as_str())
    }
}

impl ShardSample {
    /// The bytes of the member with this ending.
    #[must_use]
    pub fn member(&self, ending: &str) -> Option<&[u8]> {
        let found = self.members.iter().find(|(name, _)| name == ending);
        found.map(|(_, bytes)| bytes.as_slice())
    }

    /// The clip: its ending (`mp4`, …) and its bytes.
    #[must_use]
    pub fn clip(&self) -> Option<(&str, &[u8])> {
        let found = self.members.iter().find(|(ending, _)| {
            !matches!(ending.as_str(), "json" | "txt") && !ending.starts_with("latents.")
        });
        found.map(|(ending, bytes)| (ending.as_str(), bytes.as_slice()))
    }

    /// Cached latents: their ending (`latents.npy`, `latents.safetensors`) and their bytes.
    #[must_use]
    pub fn latents(&self) -> Option<(&str, &[u8])> {
        let mut members = self.members.iter();
        let found = members.find(|(ending, _)| ending.starts_with("latents."));
        found.map(|(ending, bytes)| (ending.as_str(), bytes.as_slice()))
    }

    /// The one caption of `KEY.txt`.
    ///
    /// # Errors
    /// When it is not text.
    pub fn caption(&self) -> Result<Option<&str>> {
        let Some(bytes) = self.member("txt") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(bytes);
        text.map(Some).map_err(|error| self.refusal("txt", &error))
    }

    /// Scores and captions of `KEY.json`.
    ///
    /// # Errors
    /// When there is none, or it says other things than ours.
    pub fn description(&self) -> Result<SampleDescription> {
        let Some(bytes) = self.member("json") else {
            return Err(self.refusal("json", &"there is none"));
        };
        serde_json::from_slice(bytes).map_err(|error| self.refusal("json", &error))
    }

    fn refusal(&self, ending: &str, reason: &dyn std::fmt::Display) -> Error {
        let message = format!("member {}.{ending}: {reason}", self.key);
        Error::shard(Path::new(&self.shard), message)
    }
}
