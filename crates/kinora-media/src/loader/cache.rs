//! Decoded frames on disk.
//!
//! Each video has two files in the cache: `NAME.rgb`, its frames as raw bytes [frames, height, width, 3],
//! and `NAME.json`, what they were made from and the differences between them. The second is written
//! last: where it is, the first is whole. NAME is a hash of what the source is (a file's path, size and
//! time of change; a clip's id and checksum) and of the options, so that a changed source or option
//! never meets an old cache.

use super::clips::Clip;
use super::cuts::difference;
use super::folder::{SkippedFile, VideoFolder, on_all_cores};
use super::shards::ShardClips;
use super::source::Source;
use crate::error::{Error, Result};
use crate::fps::Fps;
use crate::shard::{SampleCaption, drawn};
use crate::unfinished::{UnfinishedFile, write_whole};
use crate::video::{ReadOptions, Reader, VideoInfo};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Raised when decoding or the layout of the files changes, so that older caches are not taken.
const VERSION: u32 = 1;

/// What to decode, and how much disk it may take.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Width of the frames; the video is scaled to cover the size, and its middle kept.
    pub width: usize,
    /// Height of the frames.
    pub height: usize,
    /// Most frames a second to keep; a faster video is thinned to its rate divided by a whole number.
    pub max_fps: u32,
    /// Most bytes of disk for the frames of all videos.
    pub max_bytes: u64,
}

/// A decoded video.
#[derive(Debug)]
pub struct CachedVideo {
    /// The video it was decoded from; of a clip in a shard, the shard's path and the clip's name.
    pub source: PathBuf,
    /// The video that it is or was cut out of: clips of one video have the same.
    pub origin: PathBuf,
    /// Rate of the frames in the cache.
    pub fps: Fps,
    /// Number of frames in the cache.
    pub frames: usize,
    /// How much each frame differs from the one before it, in levels of 255; the first is 0.
    pub differences: Vec<f32>,
    /// The shots: ranges of frames without a hard cut inside.
    pub shots: Vec<Range<usize>>,
    /// How much moves in it, where curation has judged that.
    pub motion_score: Option<f32>,
    /// The captions that curation has given it, with their weights.
    pub captions: Vec<SampleCaption>,
    /// Opened for each read: of more videos than a process may hold open files, too.
    frames_path: PathBuf,
}

/// The decoded videos of a folder or of shards.
#[derive(Debug)]
pub struct ClipCache {
    width: usize,
    height: usize,
    videos: Vec<CachedVideo>,
    skipped: Vec<SkippedFile>,
}

/// What the `.json` file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: String,
    fps: (u32, u32),
    differences: Vec<f32>,
}

impl CachedVideo {
    /// The caption at `draw`, uniform from 0 up to 1, drawn in proportion to the weights (paper, App.
    /// E.2.2: 0.5, 0.25, 0.25); none where there is no caption.
    #[must_use]
    pub fn caption(&self, draw: f64) -> Option<&str> {
        drawn(&self.captions, draw).map(|caption| caption.text.as_str())
    }
}

impl ClipCache {
    /// Decodes what the cache does not hold yet, on all cores; `progress` is told how many videos of
    /// how many are done. A video that cannot be decoded is in [`ClipCache::skipped`].
    ///
    /// # Errors
    /// When no video can be used, the cache would grow beyond `max_bytes`, or it cannot be written.
    pub fn build(
        folder: &VideoFolder,
        cache: &Path,
        options: &CacheOptions,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<ClipCache> {
        let skipped = folder.skipped.clone();
        build(&folder.videos, skipped, cache, options, progress)
    }

    /// Likewise, of the clips of shards. Each is one shot, with the motion score it has there.
    ///
    /// # Errors
    /// As [`ClipCache::build`].
    pub fn build_from_shards(
        clips: &ShardClips,
        cache: &Path,
        options: &CacheOptions,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<ClipCache> {
        let skipped = clips.skipped().to_vec();
        build(&clips.sources(), skipped, cache, options, progress)
    }

    /// The decoded videos, in the order of their paths or of their places in the shards.
    pub fn videos(&self) -> &[CachedVideo] {
        &self.videos
    }

    /// The files that were left out, with the reason.
    pub fn skipped(&self) -> &[SkippedFile] {
        &self.skipped
    }

    /// The frames of a clip.
    ///
    /// # Shapes
    /// Gives [frames, height, width, 3].
    ///
    /// # Errors
    /// When the clip is outside its video, or the cache cannot be read.
    pub fn read(&self, clip: &Clip) -> Result<Vec<u8>> {
        let last = clip.start + clip.frames.saturating_sub(1) * clip.stride;
        let Some(video) = self
            .videos
            .get(clip.video)
            .filter(|video| last < video.frames)
        else {
            return Err(Error::argument(
                "clip",
                format!("{clip:?} lies outside the videos"),
            ));
        };
        let frame_bytes = self.width * self.height * 3;
        let mut data = vec![0; clip.frames * frame_bytes];
        let failed = || Error::io("read the decoded frames of", &video.source);
        let file = File::open(&video.frames_path).map_err(failed())?;
        for (index, frame) in data.chunks_exact_mut(frame_bytes).enumerate() {
            let at = (clip.start + index * clip.stride) * frame_bytes;
            file.read_exact_at(frame, at as u64).map_err(failed())?;
        }
        Ok(data)
    }
}

fn build<S: Source>(
    sources: &[S],
    mut skipped: Vec<SkippedFile>,
    cache: &Path,
    options: &CacheOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<ClipCache> {
    if options.width == 0 || options.height == 0 || options.max_fps == 0 {
        return Err(Error::argument(
            "clip cache",
            "the size and the rate must be above zero",
        ));
    }
    std::fs::create_dir_all(cache).map_err(Error::io("create the folder", cache))?;
    let (done, of) = (AtomicUsize::new(0), sources.len());
    let room = Mutex::new(options.max_bytes);
    let outcomes = on_all_cores(sources, |source| {
        let outcome = open_or_decode(source, cache, options, &room);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, of);
        outcome
    });
    let mut videos = Vec::new();
    for (source, outcome) in sources.iter().zip(outcomes) {
        match outcome {
            Ok(cached) => videos.push(cached),
            Err(failure) if ends_the_build(&failure) => return Err(failure),
            Err(failure) => skipped.push(SkippedFile::new(source.name(), &failure)),
        }
    }
    if videos.is_empty() {
        return Err(nothing_usable(&skipped));
    }
    Ok(ClipCache {
        width: options.width,
        height: options.height,
        videos,
        skipped,
    })
}

/// Whether a failure is not one video's own: the next video would meet it too.
fn ends_the_build(failure: &Error) -> bool {
    matches!(
        failure,
        Error::Argument { .. } | Error::Io { .. } | Error::ToolMissing { .. }
    )
}

fn nothing_usable(skipped: &[SkippedFile]) -> Error {
    let first = skipped.first().map_or(String::new(), |file| {
        format!("; the first, {}: {}", file.path.display(), file.reason)
    });
    let count = skipped.len();
    Error::argument(
        "clip cache",
        format!("none of {count} files is a video that can be used{first}"),
    )
}

fn open_or_decode(
    source: &impl Source,
    cache: &Path,
    options: &CacheOptions,
    room: &Mutex<u64>,
) -> Result<CachedVideo> {
    let key = key_of(source, options)?;
    let name = format!("{:016x}", hash(key.as_bytes()));
    let (frames_path, record_path) = (
        cache.join(format!("{name}.rgb")),
        cache.join(format!("{name}.json")),
    );
    if let Some(cached) = open_cached(source, &key, &frames_path, &record_path, options) {
        take_room(room, cached.frames, options)?;
        return Ok(cached);
    }
    let record = decode(source, key, &frames_path, options, room)?;
    let text = serde_json::to_vec(&record).expect("numbers and words are JSON");
    write_whole(&record_path, &text)?;
    open_cached(source, &record.key, &frames_path, &record_path, options)
        .ok_or_else(|| Error::video(&source.name(), "its cache was changed while it was written"))
}

/// Everything that decides what the decoded frames are.
fn key_of(source: &impl Source, options: &CacheOptions) -> Result<String> {
    Ok(format!(
        "v{VERSION} {}x{} {} fps {}",
        options.width,
        options.height,
        options.max_fps,
        source.identity()?,
    ))
}

/// FNV-1a. Only names files: the whole key is compared before a cache is taken.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn open_cached(
    source: &impl Source,
    key: &str,
    frames_path: &Path,
    record_path: &Path,
    options: &CacheOptions,
) -> Option<CachedVideo> {
    let record: Record = serde_json::from_slice(&std::fs::read(record_path).ok()?).ok()?;
    let frames = record.differences.len();
    let bytes = (frames * options.width * options.height * 3) as u64;
    let found = std::fs::metadata(frames_path).ok()?.len();
    if record.key != key || frames == 0 || found != bytes {
        return None;
    }
    Some(CachedVideo {
        source: source.name(),
        origin: source.origin(),
        fps: Fps::new(record.fps.0, record.fps.1)?,
        frames,
        shots: source.shots(&record.differences),
        motion_score: source.motion_score(),
        captions: source.captions(),
        differences: record.differences,
        frames_path: frames_path.to_path_buf(),
    })
}

fn decode(
    source: &impl Source,
    key: String,
    frames_path: &Path,
    options: &CacheOptions,
    room: &Mutex<u64>,
) -> Result<Record> {
    let opened = source.open(frames_path)?;
    let told = |failure: Error| failure.renamed(&opened.path, &source.name());
    let reader = frames_of(&opened.path, &opened.info, opened.fps, options);
    let (fps, reader) = reader.map_err(told)?;
    let (unfinished, file) = UnfinishedFile::create(frames_path)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut differences = Vec::new();
    let mut before = None;
    for frame in reader {
        let picture = frame.map_err(told)?.picture;
        take_room(room, 1, options)?;
        out.write_all(picture.data())
            .map_err(Error::io("write", frames_path))?;
        let change = before
            .as_ref()
            .map_or(0.0, |before| difference(before, &picture));
        differences.push(change);
        before = Some(picture);
    }
    source.check_length(differences.len(), fps)?;
    out.flush().map_err(Error::io("write", frames_path))?;
    drop(out);
    unfinished.finish()?;
    Ok(Record {
        key,
        fps: (fps.numerator(), fps.denominator()),
        differences,
    })
}

/// The frames of a video as they go into the cache, with their rate.
pub(super) fn frames_of(
    path: &Path,
    info: &VideoInfo,
    fps: Fps,
    options: &CacheOptions,
) -> Result<(Fps, Reader)> {
    let fps = thinned(fps, options.max_fps);
    let read = ReadOptions {
        size: Some((options.width, options.height)),
        fps: Some(fps),
        // One decoder a core is running already.
        threads: 1,
        time_limit: Duration::from_secs(4 * 3600),
        ..ReadOptions::default()
    };
    Ok((fps, Reader::open_probed(path, info.clone(), &read)?))
}

/// The rate itself, or divided by the smallest whole number that brings it down to `most`.
fn thinned(fps: Fps, most: u32) -> Fps {
    let by = (fps.as_f64() / f64::from(most)).ceil().max(1.0) as u32;
    let slower = fps.denominator().checked_mul(by);
    slower
        .and_then(|secs| Fps::new(fps.numerator(), secs))
        .unwrap_or(fps)
}

fn take_room(room: &Mutex<u64>, frames: usize, options: &CacheOptions) -> Result<()> {
    let bytes = (frames * options.width * options.height * 3) as u64;
    let mut room = room
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    match room.checked_sub(bytes) {
        Some(left) => {
            *room = left;
            Ok(())
        }
        None => Err(Error::argument(
            "clip cache",
            format!(
                "the decoded frames need more than the {:.1} GB of disk allowed; give fewer or shorter videos, smaller frames, or allow more",
                options.max_bytes as f64 / 1e9
            ),
        )),
    }
}

#[cfg(test)]
#[path = "cache/tests.rs"]
mod tests;
