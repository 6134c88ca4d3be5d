//! The rows of the tables. A column without a judgement is empty, never made up.

use serde::{Deserialize, Serialize};

/// How far a row got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything that was asked of it is there.
    #[default]
    Ok,
    /// Usable, but something asked of it failed; the reason says what.
    Partial,
    /// Nothing could be made of it; the reason says why.
    Failed,
}

/// How one shot gives way to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutKind {
    /// From one frame to the next.
    #[default]
    Hard,
    /// Through black, white or another plain colour.
    Fade,
    /// Over several frames: a dissolve or a wipe.
    Gradual,
}

/// One cut of a video.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CutRow {
    /// The video, as it was named.
    pub source: String,
    /// First frame of the new shot, from zero.
    pub frame: u64,
    /// When that frame is shown, seconds from the first frame.
    pub seconds: f64,
    /// Hard, fade or gradual.
    pub kind: CutKind,
    /// By how many times it passed its detector's threshold.
    pub score: f32,
}

/// One input, failed ones included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceRow {
    /// The video, as it was named.
    pub source: String,
    /// Hash of its bytes, in hexadecimal; empty where it could not be read.
    pub content: String,
    /// Its size.
    pub bytes: u64,
    /// Its length; zero where unknown.
    pub duration_s: f64,
    /// Frames decoded.
    pub frames: u64,
    /// Frames a second, on average.
    pub fps: f64,
    /// Width as shown, in square pixels, after rotation.
    pub width: u32,
    /// Height as shown.
    pub height: u32,
    /// Name of its codec.
    pub codec: String,
    /// Cuts found.
    pub cuts: u32,
    /// Clips made.
    pub clips: u32,
    /// How far it got.
    pub status: Status,
    /// Why not further.
    pub reason: Option<String>,
}

/// Which judge, in which version and with which settings, filled each column; empty where none did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgeVersions {
    /// Of the cuts.
    pub cuts: String,
    /// Of the motion.
    pub motion: String,
    /// Of the text area.
    pub text: String,
    /// Of the embeddings and likeness.
    pub clip: String,
    /// Of the aesthetic score.
    pub aesthetic: String,
    /// Of the caption of the middle frame.
    pub caption_image: String,
    /// Of the caption of the clip.
    pub caption_video: String,
    /// Of the merged caption.
    pub caption_merged: String,
}

/// One clip.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClipRow {
    /// Hash of its source's bytes and its frames, in hexadecimal: the same clip has the same name
    /// everywhere.
    pub clip_id: String,
    /// The video, as it was named.
    pub source: String,
    /// Its file, relative to the folder of the tables; none where clips are not cut out.
    pub file: Option<String>,
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
    /// Mean length of the flow at 2 frames a second, in pixels of a map whose short side is 16.
    pub motion_score: Option<f32>,
    /// The motion's place among all clips, 0 to 255.
    pub motion_bucket: Option<u8>,
    /// Largest share of the picture under text on first, middle and last frame, 0 to 1.
    pub text_area: Option<f32>,
    /// CLIP image embeddings of first, middle and last frame, one after the other, of unit length.
    pub embeddings: Option<Vec<f32>>,
    /// Best mean likeness of the three frames to a caption, −1 to 1.
    pub clip_similarity: Option<f32>,
    /// The same to the caption of the middle frame.
    pub similarity_image: Option<f32>,
    /// The same to the caption of the clip.
    pub similarity_video: Option<f32>,
    /// The same to the merged caption.
    pub similarity_merged: Option<f32>,
    /// Mean aesthetic score of the three frames, about 1 to 10.
    pub aesthetic: Option<f32>,
    /// What the middle frame shows.
    pub caption_image: Option<String>,
    /// What happens in the clip.
    pub caption_video: Option<String>,
    /// Both, merged.
    pub caption_merged: Option<String>,
    /// Who judged.
    pub versions: JudgeVersions,
    /// How far it got.
    pub status: Status,
    /// Why not further.
    pub reason: Option<String>,
}

impl ClipRow {
    /// Frames in the clip.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.end_frame.saturating_sub(self.start_frame)
    }

    /// Its length, seconds.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.end_s - self.start_s
    }
}

/// A clip that thresholds took out, and which of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRow {
    /// The clip.
    pub clip_id: String,
    /// The first rule that dropped it, in the order in which the rules are asked.
    pub rule: String,
    /// All rules that would have dropped it, in that order, with commas between.
    pub rules: String,
}

/// Where a clip lies in the shards, and the numbers by which a trainer picks clips.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IndexRow {
    /// File name of the shard, in the folder of the index.
    pub shard: String,
    /// The clip, and the key of its members.
    pub clip_id: String,
    /// The video it was cut out of, as it was named.
    pub source: String,
    /// Where the header of its first member begins, bytes from the beginning of the shard.
    pub offset: u64,
    /// Bytes of all its members with their headers and padding.
    pub size: u64,
    /// CRC-32 of those bytes.
    pub crc32: u32,
    /// Ending of the member that is the clip: `mp4`, `webm`, …
    pub ending: String,
    /// Frames in the clip.
    pub frames: u64,
    /// Its length, seconds.
    pub duration_s: f64,
    /// Frames a second, on average.
    pub fps: f64,
    /// Width as shown.
    pub width: u32,
    /// Height as shown.
    pub height: u32,
    /// As in [`ClipRow`].
    pub motion_score: Option<f32>,
    /// As in [`ClipRow`].
    pub motion_bucket: Option<u8>,
    /// As in [`ClipRow`].
    pub text_area: Option<f32>,
    /// As in [`ClipRow`].
    pub clip_similarity: Option<f32>,
    /// As in [`ClipRow`].
    pub aesthetic: Option<f32>,
    /// The text of its member `txt`.
    pub caption: Option<String>,
    /// As in [`ClipRow`].
    pub caption_image: Option<String>,
    /// As in [`ClipRow`].
    pub caption_video: Option<String>,
    /// As in [`ClipRow`].
    pub caption_merged: Option<String>,
    /// How often the caption of the middle frame is drawn, in proportion to the others; 0 where there
    /// is none.
    pub weight_image: f64,
    /// The same of the caption of the clip.
    pub weight_video: f64,
    /// The same of the merged caption.
    pub weight_merged: f64,
    /// Ending of the member that holds latents, where there is one.
    pub latents: Option<String>,
}
