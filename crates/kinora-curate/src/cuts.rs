//! Cuts: where one shot gives way to the next (paper §3.1, Appendix C): a cascade of three detectors at
//! three frame rates with three thresholds, fed by one decode.
//!
//! A [`CutMeter`] is shown every frame and keeps some numbers of each ([`FrameScores`]); [`cuts`] turns
//! the numbers into cuts, so that thresholds move without decoding again.

mod cascade;
mod meter;
mod passage;
mod scores;
mod sketch;

pub use meter::CutMeter;
pub use passage::Passage;
pub use scores::{FrameScores, METER_VERSION};

use kinora_media::CutKind;
use serde::{Deserialize, Serialize};

/// Where one shot gives way to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// First frame of the new shot; where one dissolves into the other, the first that is more of the
    /// new shot than of the old.
    pub frame: u64,
    /// When that frame is shown, microseconds from the first frame.
    pub micros: i64,
    /// Hard, fade or gradual.
    pub kind: CutKind,
    /// By how many times it passed its detector's threshold.
    pub score: f32,
    /// First frame that is no longer wholly of the old shot; `frame` where the cut is hard.
    pub left: u64,
    /// First frame that is wholly of the new shot; `frame` where the cut is hard.
    pub entered: u64,
}

/// Thresholds. They were chosen by measurement: `docs/decisions/0004-cuts.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CutSettings {
    /// At the video's own rate: a hard cut changes the picture, for good, by at least so many levels of
    /// [`FrameScores::lasting`].
    pub hard_levels: f32,
    /// And by at least so many times as much as the frames around it usually change.
    pub hard_ratio: f32,
    /// How many frames to each side are around it.
    pub hard_neighbours: usize,
    /// At 8 picks a second: the ends of half a second differ by at least this share of their contrast,
    /// less what speaks for motion.
    pub quick_share: f32,
    /// At 3 picks a second: the same of the ends of two seconds.
    pub slow_share: f32,
    /// How much an excess of 1 ([`Passage::excess`]) takes off such a share, as a part of it.
    pub excess_weight: f32,
    /// How much a bend of 1 ([`Passage::bend`]) takes off.
    pub bend_weight: f32,
    /// At most this part of a gradual change is made from one frame to the next.
    pub most_jump: f32,
    /// The plainest frame of a fade has at least this part less contrast than both ends.
    pub fade_dip: f32,
    /// And the ends differ by at least this share of their contrast.
    pub fade_share: f32,
    /// Two dissolves, wipes or fades are at least so far apart, seconds.
    pub passage_secs: f64,
    /// The plainer end of a dissolve or a wipe has at least this share of the contrast of the other; half
    /// of a fade has less.
    pub least_balance: f32,
    /// The ends of a dissolve or a wipe correlate by at most so much: the same picture, brighter or
    /// darker, correlates by nearly 1.
    pub most_likeness: f32,
    /// Frames with less contrast are plain, levels.
    pub plain_levels: f32,
    /// Plain frames between two shots for at least so long are a fade, however far apart the shots are,
    /// seconds.
    pub plain_secs: f64,
    /// Of two cuts nearer than this the weaker is left out, seconds.
    pub least_gap_secs: f64,
}

impl Default for CutSettings {
    fn default() -> Self {
        CutSettings {
            hard_levels: 12.0,
            hard_ratio: 3.2,
            hard_neighbours: 5,
            quick_share: 0.30,
            slow_share: 0.34,
            excess_weight: 3.0,
            bend_weight: 1.0,
            most_jump: 0.5,
            fade_dip: 0.8,
            fade_share: 0.3,
            passage_secs: 1.0,
            least_balance: 0.3,
            most_likeness: 0.85,
            plain_levels: 4.0,
            plain_secs: 0.5,
            least_gap_secs: 0.25,
        }
    }
}

/// The cuts of a video, in order of time: those of all three detectors, each change once.
pub fn cuts(scores: &FrameScores, settings: &CutSettings) -> Vec<Cut> {
    cascade::cuts(scores, settings)
}

#[cfg(test)]
mod tests;
