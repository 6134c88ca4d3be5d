//! What is kept of a video, so that thresholds move without decoding it again.

use super::passage::Passage;
use super::sketch::{Distance, Sketch};
use serde::{Deserialize, Serialize};

/// Changes whenever the same video would give other scores.
pub const METER_VERSION: u32 = 2;

/// A lower rate, and over how many picks a change is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lag {
    /// Picks a second.
    pub picks_per_sec: i64,
    /// Picks from the first of a window to its last.
    pub picks: usize,
}

impl Lag {
    pub fn window_micros(&self) -> i64 {
        1_000_000 * self.picks as i64 / self.picks_per_sec
    }
}

/// The two lower rates: windows of half a second for quick dissolves and of two for slow ones.
pub(super) const LAGS: [Lag; 2] = [
    Lag {
        picks_per_sec: 8,
        picks: 4,
    },
    Lag {
        picks_per_sec: 3,
        picks: 6,
    },
];

/// The measurements of one video: columns with one value a frame, and the passages found at the two
/// lower rates. Some thirty bytes a frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameScores {
    /// [`METER_VERSION`] of the meter.
    pub version: u32,
    /// When each frame is shown, microseconds from the first.
    pub micros: Vec<i64>,
    /// Mean difference of brightness plus both colours from the frame before, levels of 255.
    pub difference: Vec<f32>,
    /// What neither motion explains nor the same colours elsewhere in the frame before: what remains of
    /// the difference of brightness when every block may come from nearby, plus forty times the share of
    /// cells whose brightness or colour the frame before did not have, levels.
    pub change: Vec<f32>,
    /// The least such change between any frame shortly before and any shortly after: small where a
    /// change was a flash, levels.
    pub lasting: Vec<f32>,
    /// Mean brightness, levels.
    pub luma: Vec<f32>,
    /// Mean distance of brightness and colours from their means, levels: near 0 where the frame is
    /// plain.
    pub contrast: Vec<f32>,
    /// Changes over half a second and over two seconds.
    pub passages: [Vec<Passage>; 2],
}

impl FrameScores {
    pub(super) fn empty() -> FrameScores {
        FrameScores {
            version: METER_VERSION,
            ..FrameScores::default()
        }
    }

    pub(super) fn push(&mut self, sketch: &Sketch, distance: &Distance) {
        self.micros.push(sketch.micros);
        self.difference.push(distance.plain);
        self.change.push(distance.unexplained());
        self.luma.push(sketch.mean);
        self.contrast.push(sketch.contrast);
    }

    /// Number of frames.
    pub fn frames(&self) -> usize {
        self.micros.len()
    }
}
