//! One decode, looked at three times: every frame beside the one before it, and picks at two lower
//! rates beside picks before and after them.

use super::passage::Window;
use super::scores::{FrameScores, LAGS};
use super::sketch::{
    Distance, Sketch, distance, histogram_difference, moved_difference, plain_difference,
};
use kinora_media::AnalysisFrame;
use std::collections::VecDeque;

/// Below so many levels of difference nothing is looked for that could have moved: no cut is so faint.
const FAINT_LEVELS: f32 = 2.0;

/// The frames kept for looking back, at most: seconds at any sane rate, bounded at any other.
const MOST_KEPT: usize = 600;

/// A flash lasts at most so long.
const FLASH_MICROS: i64 = 170_000;
/// And at most so many frames, however many a second there are.
const FLASH_FRAMES: usize = 8;

/// Measures a video, frame by frame, for [`super::cuts`]. Memory is bounded.
#[derive(Debug)]
pub struct CutMeter {
    scores: FrameScores,
    kept: VecDeque<Sketch>,
    keep_micros: i64,
    windows: Vec<Window>,
    /// Frames up to this one have been looked at for flashes.
    settled: usize,
}

impl Default for CutMeter {
    fn default() -> Self {
        CutMeter::new()
    }
}

impl CutMeter {
    /// A meter that has seen nothing.
    pub fn new() -> CutMeter {
        let windows: Vec<Window> = LAGS.iter().map(Window::new).collect();
        let longest = LAGS.iter().map(|lag| lag.window_micros()).max();
        CutMeter {
            scores: FrameScores::empty(),
            kept: VecDeque::new(),
            keep_micros: longest.unwrap_or(0) + 500_000,
            windows,
            settled: 0,
        }
    }

    /// Looks at the next frame. All frames of a video have one size.
    pub fn push(&mut self, frame: &AnalysisFrame) {
        let sketch = Sketch::new(frame);
        let distance = self.kept.back().map_or(Distance::default(), |before| {
            let plain = plain_difference(before, &sketch);
            let moved = if plain < FAINT_LEVELS {
                plain
            } else {
                moved_difference(&before.luma, &sketch.luma)
            };
            Distance {
                plain,
                moved,
                histogram: histogram_difference(before, &sketch),
            }
        });
        self.scores.push(&sketch, &distance);
        let micros = sketch.micros;
        self.kept.push_back(sketch);
        for (window, passages) in self.windows.iter_mut().zip(&mut self.scores.passages) {
            passages.extend(window.push(&self.kept));
        }
        while self.kept.len() > MOST_KEPT
            || (self.kept.len() > 3 * FLASH_FRAMES
                && self
                    .kept
                    .front()
                    .is_some_and(|old| old.micros < micros - self.keep_micros))
        {
            self.kept.pop_front();
        }
        self.settle(false);
    }

    /// What was measured.
    pub fn finish(mut self) -> FrameScores {
        self.settle(true);
        self.scores
    }

    /// How many frames are kept for looking back.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Looks at frames whose future is known: does a change last, or was it a flash?
    fn settle(&mut self, ended: bool) {
        let count = self.scores.micros.len();
        while self.settled < count {
            let at = self.settled;
            let Some(last) = self.scores.micros.last() else {
                return;
            };
            let known = *last > self.scores.micros[at] + FLASH_MICROS || count - at > FLASH_FRAMES;
            if !known && !ended {
                return;
            }
            let lasting = self.lasting(at);
            self.scores.lasting.push(lasting);
            self.settled += 1;
        }
    }

    /// The least change, by [`Distance::unexplained`], between any frame shortly before frame `at` and
    /// any shortly after.
    fn lasting(&self, at: usize) -> f32 {
        let scores = &self.scores;
        let mut least = scores.change[at];
        if at == 0 || scores.difference[at] < FAINT_LEVELS || least < FAINT_LEVELS {
            return least;
        }
        let first = scores.micros.len() - self.kept.len();
        let near = |frame: usize| (scores.micros[frame] - scores.micros[at]).abs() <= FLASH_MICROS;
        for later in (at..scores.micros.len()).take_while(|&frame| near(frame)) {
            for earlier in (first..at).rev().take_while(|&frame| near(frame)) {
                let steps = later - earlier;
                if steps > FLASH_FRAMES {
                    break;
                }
                let (a, b) = (&self.kept[earlier - first], &self.kept[later - first]);
                // Frames that are the same again differ less at their place, too: most pairs are not
                // worth a search for what has moved.
                if steps > 1 && plain_difference(a, b) < scores.difference[at] {
                    least = least.min(distance(a, b).unexplained());
                }
            }
        }
        least
    }
}
