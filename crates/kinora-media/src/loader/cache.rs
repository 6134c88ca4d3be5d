//! Decoded frames on disk.
//!
//! Each video has two files in the cache: `NAME.rgb`, its frames as raw bytes [frames, height, width, 3],
//! and `NAME.json`, what they were made from and the differences between them. The second is written
//! last: where it is, the first is whole. NAME is a hash of the source's path, size and time of change
//! and of the options, so that a changed source or option never meets an old cache.

use super::clips::Clip;
use super::cuts::{difference, find_cuts};
use super::folder::{SkippedFile, VideoFile, VideoFolder, on_all_cores};
use crate::error::{Error, Result};
use crate::fps::Fps;
use crate::unfinished::{UnfinishedFile, write_whole};
use crate::video::{ReadOptions, Reader};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

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
    /// The video it was decoded from.
    pub source: PathBuf,
    /// Rate of the frames in the cache.
    pub fps: Fps,
    /// Number of frames in the cache.
    pub frames: usize,
    /// How much each frame differs from the one before it, in levels of 255; the first is 0.
    pub differences: Vec<f32>,
    /// The shots: ranges of frames without a hard cut inside.
    pub shots: Vec<Range<usize>>,
    file: File,
}

/// The decoded videos of a folder.
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
        if options.width == 0 || options.height == 0 || options.max_fps == 0 {
            return Err(Error::argument(
                "clip cache",
                "the size and the rate must be above zero",
            ));
        }
        std::fs::create_dir_all(cache).map_err(Error::io("create the folder", cache))?;
        let (done, of) = (AtomicUsize::new(0), folder.videos.len());
        let room = Mutex::new(options.max_bytes);
        let outcomes = on_all_cores(&folder.videos, |video| {
            let outcome = open_or_decode(video, cache, options, &room);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, of);
            outcome
        });
        let (mut videos, mut skipped) = (Vec::new(), folder.skipped.clone());
        for (video, outcome) in folder.videos.iter().zip(outcomes) {
            match outcome {
                Ok(cached) => videos.push(cached),
                Err(failure) if ends_the_build(&failure) => return Err(failure),
                Err(failure) => skipped.push(SkippedFile::new(video.path.clone(), &failure)),
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

    /// The decoded videos, in order of their paths.
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
        for (index, frame) in data.chunks_exact_mut(frame_bytes).enumerate() {
            let at = (clip.start + index * clip.stride) * frame_bytes;
            video
                .file
                .read_exact_at(frame, at as u64)
                .map_err(Error::io("read the decoded frames of", &video.source))?;
        }
        Ok(data)
    }
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
    video: &VideoFile,
    cache: &Path,
    options: &CacheOptions,
    room: &Mutex<u64>,
) -> Result<CachedVideo> {
    let key = key_of(&video.path, options)?;
    let name = format!("{:016x}", hash(key.as_bytes()));
    let (frames_path, record_path) = (
        cache.join(format!("{name}.rgb")),
        cache.join(format!("{name}.json")),
    );
    if let Some(cached) = open_cached(video, &key, &frames_path, &record_path, options) {
        take_room(room, cached.frames, options)?;
        return Ok(cached);
    }
    let record = decode(video, key, &frames_path, options, room)?;
    let text = serde_json::to_vec(&record).expect("numbers and words are JSON");
    write_whole(&record_path, &text)?;
    open_cached(video, &record.key, &frames_path, &record_path, options)
        .ok_or_else(|| Error::video(&video.path, "its cache was changed while it was written"))
}

/// Everything that decides what the decoded frames are.
fn key_of(path: &Path, options: &CacheOptions) -> Result<String> {
    let path = path.canonicalize().map_err(Error::io("open", path))?;
    let about = path.metadata().map_err(Error::io("open", &path))?;
    let changed = about
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(format!(
        "v{VERSION} {}x{} {} fps {} bytes {} ns {path:?}",
        options.width,
        options.height,
        options.max_fps,
        about.len(),
        changed.unwrap_or_default().as_nanos(),
    ))
}

/// FNV-1a. Only names files: the whole key is compared before a cache is taken.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn open_cached(
    video: &VideoFile,
    key: &str,
    frames_path: &Path,
    record_path: &Path,
    options: &CacheOptions,
) -> Option<CachedVideo> {
    let record: Record = serde_json::from_slice(&std::fs::read(record_path).ok()?).ok()?;
    let file = File::open(frames_path).ok()?;
    let frames = record.differences.len();
    let bytes = (frames * options.width * options.height * 3) as u64;
    if record.key != key || frames == 0 || file.metadata().ok()?.len() != bytes {
        return None;
    }
    let cuts = find_cuts(&record.differences);
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([frames]);
    Some(CachedVideo {
        source: video.path.clone(),
        fps: Fps::new(record.fps.0, record.fps.1)?,
        frames,
        shots: starts.zip(ends).map(|(start, end)| start..end).collect(),
        differences: record.differences,
        file,
    })
}

fn decode(
    video: &VideoFile,
    key: String,
    frames_path: &Path,
    options: &CacheOptions,
    room: &Mutex<u64>,
) -> Result<Record> {
    let Some(fps) = video.info.fps else {
        return Err(Error::video(
            &video.path,
            "the file does not tell its frame rate",
        ));
    };
    let fps = thinned(fps, options.max_fps);
    let (unfinished, file) = UnfinishedFile::create(frames_path)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut differences = Vec::new();
    let mut before = None;
    for frame in Reader::open_probed(&video.path, video.info.clone(), &read_options(fps, options))?
    {
        let picture = frame?.picture;
        take_room(room, 1, options)?;
        out.write_all(picture.data())
            .map_err(Error::io("write", frames_path))?;
        let change = before
            .as_ref()
            .map_or(0.0, |before| difference(before, &picture));
        differences.push(change);
        before = Some(picture);
    }
    out.flush().map_err(Error::io("write", frames_path))?;
    drop(out);
    unfinished.finish()?;
    Ok(Record {
        key,
        fps: (fps.numerator(), fps.denominator()),
        differences,
    })
}

fn read_options(fps: Fps, options: &CacheOptions) -> ReadOptions {
    ReadOptions {
        size: Some((options.width, options.height)),
        fps: Some(fps),
        // One decoder a core is running already.
        threads: 1,
        time_limit: Duration::from_secs(4 * 3600),
        ..ReadOptions::default()
    }
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
