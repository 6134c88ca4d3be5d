//! What can be decoded into the cache: a file, or a clip in a shard.

use super::cuts::find_cuts;
use super::folder::VideoFile;
use crate::error::{Error, Result};
use crate::fps::Fps;
use crate::shard::SampleCaption;
use crate::unfinished::UnfinishedFile;
use crate::video::VideoInfo;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Something that becomes one video of the cache.
pub(super) trait Source: Sync {
    /// What messages call it.
    fn name(&self) -> PathBuf;

    /// The video that it is or was cut out of.
    fn origin(&self) -> PathBuf;

    /// Everything that decides what its frames are.
    fn identity(&self) -> Result<String>;

    /// A file that ffmpeg can read; one that is made for that stands beside `place` until the result
    /// is dropped.
    fn open(&self, place: &Path) -> Result<OpenSource>;

    /// The ranges of frames without a hard cut inside, from how much each frame differs from the one
    /// before it.
    fn shots(&self, differences: &[f32]) -> Vec<Range<usize>>;

    /// How much moves in it, where that was judged.
    fn motion_score(&self) -> Option<f32>;

    /// The captions it has, with their weights.
    fn captions(&self) -> Vec<SampleCaption>;

    /// Refuses a number of frames, at a rate, that is not about what it should have.
    fn check_length(&self, frames: usize, fps: Fps) -> Result<()>;
}

/// A source ready to be decoded.
pub(super) struct OpenSource {
    /// Its file.
    pub path: PathBuf,
    /// What the file says of itself.
    pub info: VideoInfo,
    /// Rate of its frames.
    pub fps: Fps,
    /// The file, where it was made for the decoder.
    pub _made: Option<UnfinishedFile>,
}

impl Source for VideoFile {
    fn name(&self) -> PathBuf {
        self.path.clone()
    }

    fn origin(&self) -> PathBuf {
        self.path.clone()
    }

    fn identity(&self) -> Result<String> {
        let path = self.path.canonicalize();
        let path = path.map_err(Error::io("open", &self.path))?;
        let about = path.metadata().map_err(Error::io("open", &path))?;
        let changed = about
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let (bytes, ns) = (about.len(), changed.unwrap_or_default().as_nanos());
        Ok(format!("{bytes} bytes {ns} ns {path:?}"))
    }

    fn open(&self, _: &Path) -> Result<OpenSource> {
        let untold = "the file does not tell its frame rate";
        let fps = self.info.fps;
        Ok(OpenSource {
            path: self.path.clone(),
            info: self.info.clone(),
            fps: fps.ok_or_else(|| Error::video(&self.path, untold))?,
            _made: None,
        })
    }

    fn shots(&self, differences: &[f32]) -> Vec<Range<usize>> {
        let cuts = find_cuts(differences);
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([differences.len()]);
        starts.zip(ends).map(|(start, end)| start..end).collect()
    }

    fn motion_score(&self) -> Option<f32> {
        None
    }

    fn captions(&self) -> Vec<SampleCaption> {
        Vec::new()
    }

    fn check_length(&self, _: usize, _: Fps) -> Result<()> {
        Ok(())
    }
}
