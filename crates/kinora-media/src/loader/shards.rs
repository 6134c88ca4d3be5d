//! The clips of shards, to be decoded.

use super::cache::{CacheOptions, frames_of};
use super::folder::SkippedFile;
use super::source::{OpenSource, Source};
use crate::error::{Error, Result};
use crate::fps::Fps;
use crate::latents::{ClipLatents, LatentRecipe};
use crate::motion_law::MotionLaw;
use crate::shard::{SampleCaption, ShardFolder, ShardSample};
use crate::table::IndexRow;
use crate::unfinished::UnfinishedFile;
use crate::video::{Reader, probe};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// By what share the rate of a file may differ from the mean rate in the index and be taken for the
/// same; the file's is an exact fraction.
const SAME_RATE: f64 = 0.01;
/// By what share, or by how many frames, the length decoded may differ from that in the index.
const SAME_LENGTH: (f64, f64) = (0.1, 2.0);

/// The clips of a folder of shards that can be trained on.
#[derive(Debug)]
pub struct ShardClips {
    shards: ShardFolder,
    used: Vec<usize>,
    /// Places in the index, by what messages call the clips.
    places: BTreeMap<PathBuf, usize>,
    skipped: Vec<SkippedFile>,
}

impl ShardClips {
    /// The shards in `folder`, or in the folder `shards` that a curated folder has; none where
    /// `folder` is neither.
    ///
    /// # Errors
    /// When a shard is missing or shortened, a curated folder has no shards yet, or the motion of the
    /// clips and the law of motion do not belong together.
    pub fn find(folder: &Path) -> Result<Option<ShardClips>> {
        let inside = folder.join("shards");
        let shards = if ShardFolder::is_one(folder) {
            ShardFolder::open(folder)?
        } else if ShardFolder::is_one(&inside) {
            ShardFolder::open(&inside)?
        } else if folder.join("clips.parquet").is_file() {
            let message = "a curated folder without shards; write them with `kinora curate shards`";
            return Err(Error::shard(folder, message));
        } else {
            return Ok(None);
        };
        let mut clips = ShardClips {
            shards,
            used: Vec::new(),
            places: BTreeMap::new(),
            skipped: Vec::new(),
        };
        clips.choose()?;
        let named = clips.sources();
        let named = named.iter().map(Source::name).zip(clips.used.clone());
        clips.places = named.collect();
        Ok(Some(clips))
    }

    /// The folder of the shards.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.shards.path()
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.shards().len()
    }

    /// The law by which the scores of the clips become buckets; none where motion was not judged.
    #[must_use]
    pub fn motion_law(&self) -> Option<&MotionLaw> {
        self.is_judged().then(|| self.shards.motion_law())?
    }

    /// How the latents in the shards were made; none where they have none.
    #[must_use]
    pub fn latent_recipe(&self) -> Option<&LatentRecipe> {
        self.shards.latent_recipe()
    }

    /// The latents of the clip that is the source of a cached video; none where its shard has none.
    ///
    /// # Errors
    /// When the shard is damaged there, or the member is no array of latents.
    pub fn latents(&self, source: &Path) -> Result<Option<ClipLatents>> {
        let row = self.places.get(source).map(|&at| &self.shards.index()[at]);
        let Some(row) = row.filter(|row| row.latents.is_some()) else {
            return Ok(None);
        };
        let sample = self.shards.read(row)?;
        let bytes = sample.member(ClipLatents::ENDING).unwrap_or_default();
        let latents = ClipLatents::from_npy(bytes);
        latents.map(Some).map_err(|reason| {
            let message = format!("its latents: {reason}; write the shards again");
            Error::video(source, message)
        })
    }

    /// Clips that cannot be used, with the reason.
    pub(super) fn skipped(&self) -> &[SkippedFile] {
        &self.skipped
    }

    /// The clips that can be used, in the order of the index.
    pub(super) fn sources(&self) -> Vec<ShardSource<'_>> {
        let source = |&at: &usize| ShardSource {
            shards: &self.shards,
            row: &self.shards.index()[at],
        };
        self.used.iter().map(source).collect()
    }

    fn is_judged(&self) -> bool {
        let mut rows = self.shards.index().iter();
        rows.any(|row| row.motion_score.is_some())
    }

    /// Leaves out the clips without a score among those that have one.
    fn choose(&mut self) -> Result<()> {
        let (index, law) = (self.shards.index(), self.shards.motion_law());
        let refuse = |message: String| Err(Error::shard(self.shards.path(), message));
        if index.is_empty() {
            return refuse("the shards hold no clip; let the filters keep more".to_owned());
        }
        if !self.is_judged() {
            self.used = (0..index.len()).collect();
            return Ok(());
        }
        let Some(law) = law else {
            return refuse(format!(
                "expected {} beside the index, which has motion scores, found none; write the shards again with `kinora curate shards`",
                MotionLaw::FILE
            ));
        };
        for (at, row) in index.iter().enumerate() {
            let Some(score) = row.motion_score else {
                self.skipped.push(SkippedFile {
                    path: self.shards.path().join(&row.shard).join(&row.clip_id),
                    reason: "its motion was not judged, and that of others was".to_owned(),
                });
                continue;
            };
            let bucket = law.bucket(score);
            if row.motion_bucket != Some(bucket) {
                return refuse(format!(
                    "clip {}: the index has motion bucket {:?}, {} gives {bucket} to its score {score}: they are of different curations; write the shards again",
                    row.clip_id,
                    row.motion_bucket,
                    MotionLaw::FILE,
                ));
            }
            self.used.push(at);
        }
        Ok(())
    }
}

/// One clip of the shards.
#[derive(Debug)]
pub(super) struct ShardSource<'a> {
    shards: &'a ShardFolder,
    row: &'a IndexRow,
}

impl ShardSource<'_> {
    /// Its members, where they say what the index says.
    fn sample(&self) -> Result<ShardSample> {
        let (row, sample) = (self.row, self.shards.read(self.row)?);
        let told = sample.description()?;
        let same = told.clip_id == row.clip_id
            && told.source == row.source
            && told.captions == row.captions()
            && told.fps == row.fps
            && told.motion_score == row.motion_score
            && told.motion_bucket == row.motion_bucket;
        if !same {
            return Err(Error::video(
                &self.name(),
                "its json and the index differ in the clip, its video, rate, motion or captions; write the shards again",
            ));
        }
        Ok(sample)
    }
}

/// The frames of a clip's file, as [`ClipCache::build_from_shards`](super::ClipCache::build_from_shards)
/// will have them when the clip is in a shard: `mean_fps` is its rate in the tables.
///
/// # Errors
/// When it is not a video, or ffmpeg is not installed.
pub fn clip_frames(media: &Path, mean_fps: f64, options: &CacheOptions) -> Result<Reader> {
    let info = probe(media)?;
    let fps = rate(media, mean_fps, info.fps)?;
    Ok(frames_of(media, &info, fps, options)?.1)
}

/// The rate that a file tells where that is about the mean in the tables, else that mean.
fn rate(clip: &Path, mean: f64, told: Option<Fps>) -> Result<Fps> {
    if let Some(told) = told
        && (told.as_f64() - mean).abs() <= SAME_RATE * mean
    {
        return Ok(told);
    }
    let refuse = || {
        let message = format!("expected its frames a second in the tables, found {mean}");
        Error::video(clip, message)
    };
    mean.to_string().parse().map_err(|_| refuse())
}

impl Source for ShardSource<'_> {
    fn name(&self) -> PathBuf {
        let name = format!("{}.{}", self.row.clip_id, self.row.ending);
        self.shards.path().join(&self.row.shard).join(name)
    }

    fn origin(&self) -> PathBuf {
        PathBuf::from(&self.row.source)
    }

    fn identity(&self) -> Result<String> {
        let IndexRow {
            clip_id,
            size,
            crc32,
            ..
        } = self.row;
        Ok(format!("{size} bytes crc {crc32:08x} clip {clip_id}"))
    }

    fn open(&self, place: &Path) -> Result<OpenSource> {
        let sample = self.sample()?;
        let Some((_, bytes)) = sample.clip() else {
            return Err(Error::video(&self.name(), "it has no video in its shard"));
        };
        // Containers keep their directory at the end or the beginning: a pipe would not do.
        let (made, mut file) = UnfinishedFile::create(place)?;
        let path = made.path().to_path_buf();
        file.write_all(bytes).map_err(Error::io("write", &path))?;
        let told = |failure: Error| failure.renamed(&path, &self.name());
        let info = probe(&path).map_err(told)?;
        Ok(OpenSource {
            fps: rate(&self.name(), self.row.fps, info.fps)?,
            path,
            info,
            _made: Some(made),
        })
    }

    fn shots(&self, differences: &[f32]) -> Vec<Range<usize>> {
        // A shot, whatever flashes in it: curation has cut it out.
        std::iter::once(0..differences.len()).collect()
    }

    fn motion_score(&self) -> Option<f32> {
        self.row.motion_score
    }

    fn captions(&self) -> Vec<SampleCaption> {
        self.row.captions()
    }

    fn check_length(&self, frames: usize, fps: Fps) -> Result<()> {
        let (found, expected) = (frames as f64, self.row.duration_s * fps.as_f64());
        let (share, least) = SAME_LENGTH;
        if (found - expected).abs() <= (share * expected).max(least) {
            return Ok(());
        }
        Err(Error::video(
            &self.name(),
            format!(
                "expected about {expected:.0} frames at {fps} a second, as long as the index says, decoded {frames}"
            ),
        ))
    }
}

#[cfg(test)]
#[path = "shards/tests.rs"]
mod tests;
