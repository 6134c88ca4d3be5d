//! The clips that decoded videos hold.

use super::cache::ClipCache;
use crate::error::{Error, Result};
use std::ops::Range;

/// A clip: which frames of which video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clip {
    /// The video's number in [`ClipCache::videos`].
    pub video: usize,
    /// The first frame.
    pub start: usize,
    /// From one frame of the clip to the next.
    pub stride: usize,
    /// Number of frames.
    pub frames: usize,
}

/// All clips of one length and stride that lie within a shot, numbered from zero.
#[derive(Clone, Debug)]
pub struct ClipIndex {
    frames: usize,
    stride: usize,
    /// Video, first start, and the number of clips up to and with this shot.
    shots: Vec<(usize, usize, usize)>,
}

impl ClipCache {
    /// All clips of `frames` frames, each `stride` after the one before, that lie within a shot.
    ///
    /// # Errors
    /// When there is none.
    pub fn clips(&self, frames: usize, stride: usize) -> Result<ClipIndex> {
        if frames == 0 || stride == 0 {
            return Err(Error::argument(
                "clips",
                "the frames and the stride must be above zero",
            ));
        }
        let span = (frames - 1) * stride + 1;
        let mut count = 0;
        let mut shots = Vec::new();
        for (video, cached) in self.videos().iter().enumerate() {
            for shot in cached.shots.iter().filter(|shot| shot.len() >= span) {
                count += shot.len() - span + 1;
                shots.push((video, shot.start, count));
            }
        }
        if shots.is_empty() {
            let all = self.videos().iter().flat_map(|video| &video.shots);
            let longest = all.map(Range::len).max().unwrap_or(0);
            return Err(Error::argument(
                "clips",
                format!(
                    "{frames} frames at a stride of {stride} span {span} frames, and the longest shot has {longest}; use fewer frames, a smaller stride or longer videos"
                ),
            ));
        }
        Ok(ClipIndex {
            frames,
            stride,
            shots,
        })
    }
}

impl ClipIndex {
    /// How many clips there are.
    #[expect(
        clippy::len_without_is_empty,
        reason = "an index without clips is refused when made"
    )]
    pub fn len(&self) -> usize {
        self.shots.last().map_or(0, |shot| shot.2)
    }

    /// The clip of a number below [`ClipIndex::len`].
    ///
    /// # Panics
    /// When the number is not below it.
    pub fn get(&self, number: usize) -> Clip {
        assert!(number < self.len(), "clip {number} of {}", self.len());
        let at = self.shots.partition_point(|shot| shot.2 <= number);
        let before = if at == 0 { 0 } else { self.shots[at - 1].2 };
        let (video, first, _) = self.shots[at];
        Clip {
            video,
            start: first + number - before,
            stride: self.stride,
            frames: self.frames,
        }
    }
}
