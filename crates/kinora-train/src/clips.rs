//! The clips to train on: cut from a folder of videos, or from the clips of a curated set.

use crate::batch::Draw;
use crate::config::Data;
use crate::{Error, Result};
use kinora_media::{
    CacheOptions, CachedVideo, Clip as Place, ClipCache, MotionLaw, MotionMeasure, ShardClips,
    SkippedFile, VideoFolder,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

/// A stretch of a video without a cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// Which frames of which video.
    pub place: Place,
    /// Frames a second.
    pub fps: f32,
    /// How much moves in it, 0 to 255: the bucket that [`Clips::motion_law`] gives it.
    pub motion_bucket: f32,
}

/// The clips of a folder of videos or of shards.
#[derive(Debug)]
pub struct Clips {
    /// Width of the frames in pixels.
    pub width: usize,
    /// Height of the frames in pixels.
    pub height: usize,
    /// Frames of a clip.
    pub frames: usize,
    /// Most frames a second that were kept of a video.
    pub max_fps: u32,
    /// What is trained on.
    pub training: Vec<Clip>,
    /// The first clip of each shot of the videos kept from training.
    pub held_out: Vec<Clip>,
    /// The shards they come from; none where they come from a folder of videos.
    pub shards: Option<ShardClips>,
    /// What gave each clip its bucket: the law of the curated set, or one made of the motion of all
    /// clips that are trained on.
    pub motion_law: MotionLaw,
    /// What is left out, with the reason.
    pub skipped: Vec<SkippedFile>,
    cache: ClipCache,
}

impl Clips {
    /// Decodes what is in a folder, of videos or of shards, keeping the frames in `cache`, and finds
    /// every clip in it.
    ///
    /// # Errors
    /// When the folder holds too few videos, or none of them is long enough; when a shard is damaged
    /// beyond a clip.
    pub fn read(
        folder: &Path,
        cache: &Path,
        data: &Data,
        on_video: &mut (dyn FnMut(usize, usize) + Send),
    ) -> Result<Clips> {
        let options = CacheOptions {
            width: data.width,
            height: data.height,
            max_fps: data.max_fps,
            max_bytes: (data.disk_gb * 1e9) as u64,
        };
        let on_video = Mutex::new(on_video);
        let progress = |done: usize, of: usize| {
            on_video.lock().expect("no holder of the lock panics")(done, of);
        };
        let shards = ShardClips::find(folder)?;
        let cache = match &shards {
            Some(shards) => ClipCache::build_from_shards(shards, cache, &options, &progress)?,
            None => ClipCache::build(&VideoFolder::open(folder)?, cache, &options, &progress)?,
        };
        let count = origins(&cache).len();
        if count <= data.held_out {
            let of = shards
                .as_ref()
                .map_or("", |_| " behind the clips of the shards");
            return Err(Error::data(
                folder,
                format!(
                    "expected more videos{of} than the {} that data.held_out keeps from training, found {count}",
                    data.held_out
                ),
            ));
        }
        Clips::cut(folder, cache, shards, data)
    }

    /// Every clip of decoded videos.
    fn cut(
        folder: &Path,
        cache: ClipCache,
        shards: Option<ShardClips>,
        data: &Data,
    ) -> Result<Clips> {
        let (training, held_out) = stretches(&cache, data)?;
        if training.is_empty() {
            return Err(Error::data(
                folder,
                "no clip lies in a video that is trained on, only in those kept from training; give more videos or lower data.held_out",
            ));
        }
        let mut clips = Clips {
            width: data.width,
            height: data.height,
            frames: data.frames,
            max_fps: data.max_fps,
            motion_law: law(&cache, shards.as_ref(), &training)?,
            training,
            held_out,
            shards,
            skipped: cache.skipped().to_vec(),
            cache,
        };
        clips.give_buckets();
        clips.skip_short();
        Ok(clips)
    }

    fn give_buckets(&mut self) {
        let (videos, law) = (self.cache.videos(), &self.motion_law);
        for clip in self.training.iter_mut().chain(&mut self.held_out) {
            let score = score(&videos[clip.place.video], &clip.place, law.measure());
            clip.motion_bucket = f32::from(law.bucket(score));
        }
    }

    /// Tells of the videos in which no clip has room.
    fn skip_short(&mut self) {
        let mut yields = vec![false; self.videos().len()];
        for clip in self.training.iter().chain(&self.held_out) {
            yields[clip.place.video] = true;
        }
        for (video, _) in self.cache.videos().iter().zip(yields).filter(|(_, y)| !y) {
            let longest = video.shots.iter().map(ExactSizeIterator::len).max();
            self.skipped.push(SkippedFile {
                path: video.source.clone(),
                reason: format!(
                    "its longest shot has {} frames at {} a second, too few for a clip of {}",
                    longest.unwrap_or(0),
                    video.fps,
                    self.frames
                ),
            });
        }
    }

    /// The decoded videos.
    pub fn videos(&self) -> &[CachedVideo] {
        self.cache.videos()
    }

    /// How many videos, or clips of shards, are trained on.
    pub fn trained_videos(&self) -> usize {
        let mut videos: Vec<usize> = self.training.iter().map(|clip| clip.place.video).collect();
        videos.sort_unstable();
        videos.dedup();
        videos.len()
    }

    /// The bytes of the first `count` frames of a clip.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn bytes(&self, clip: &Clip, count: usize) -> Result<Vec<u8>> {
        let place = Place {
            frames: count,
            ..clip.place
        };
        Ok(self.cache.read(&place)?)
    }

    /// What a clip's draw is told in words: one of its captions, each as often as its weight says; none
    /// where it has none.
    pub fn caption(&self, draw: &Draw) -> Option<&str> {
        self.videos()[draw.clip.place.video].caption(draw.caption_draw)
    }

    /// A number that changes with the videos and with what the network is told of them, for telling
    /// whether a run resumes on the same ones.
    pub fn digest(&self) -> u64 {
        let mut hash = 0xCBF2_9CE4_8422_2325_u64;
        let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        for video in self.videos() {
            // Which video a clip of shards comes from decides whether it is trained on.
            let origin = self.shards.as_ref().map(|_| video.origin.to_string_lossy());
            origin
                .iter()
                .flat_map(|name| name.bytes())
                .for_each(&mut eat);
            let name = video.source.file_name().unwrap_or_default();
            name.to_string_lossy().bytes().for_each(&mut eat);
            let differences = video.differences.iter();
            differences.flat_map(|d| d.to_le_bytes()).for_each(&mut eat);
        }
        for clip in self.training.iter().chain(&self.held_out) {
            let told = [clip.fps, clip.motion_bucket];
            told.iter()
                .flat_map(|number| number.to_le_bytes())
                .for_each(&mut eat);
        }
        hash
    }
}

/// The videos that are decoded, or of which clips are, in the order of their names.
fn origins(cache: &ClipCache) -> BTreeSet<&Path> {
    let videos = cache.videos().iter();
    videos.map(|video| video.origin.as_path()).collect()
}

/// The clips to train on, of every stride, and those of the videos kept from training; their motion is
/// still unknown.
fn stretches(cache: &ClipCache, data: &Data) -> Result<(Vec<Clip>, Vec<Clip>)> {
    let origins = origins(cache).into_iter().rev();
    // Two clips of one video show one scene: a video is kept from training with all of them.
    let kept: BTreeSet<&Path> = origins.take(data.held_out).collect();
    let (mut training, mut held_out) = (Vec::new(), Vec::new());
    for stride in &data.strides {
        let index = cache.clips(data.frames, *stride)?;
        for place in (0..index.len()).map(|number| index.get(number)) {
            let video = &cache.videos()[place.video];
            let clip = Clip {
                place,
                fps: video.fps.as_f64() as f32 / *stride as f32,
                motion_bucket: 0.0,
            };
            let opens_a_shot = video.shots.iter().any(|shot| shot.start == place.start);
            if !kept.contains(video.origin.as_path()) {
                training.push(clip);
            } else if opens_a_shot && *stride == data.strides[0] {
                held_out.push(clip);
            }
        }
    }
    Ok((training, held_out))
}

/// The law of the curated set where it has one; else that of the clips' own motion.
fn law(cache: &ClipCache, shards: Option<&ShardClips>, training: &[Clip]) -> Result<MotionLaw> {
    if let Some(law) = shards.and_then(ShardClips::motion_law) {
        return Ok(law.clone());
    }
    let measure = MotionMeasure::FrameDifference;
    let own = |clip: &Clip| score(&cache.videos()[clip.place.video], &clip.place, measure);
    Ok(MotionLaw::from_scores(measure, training.iter().map(own))?)
}

/// How much moves in a clip: what curation has measured, or the mean absolute difference of
/// neighbouring frames. That stands in for optical flow, which tells a moving camera from a flickering
/// light; more is more in both.
fn score(video: &CachedVideo, place: &Place, measure: MotionMeasure) -> f32 {
    match (measure, video.motion_score) {
        // Flow is measured over time, not over frames: the stride does not change it.
        (MotionMeasure::Flow, Some(score)) => score,
        _ => difference(&video.differences, place),
    }
}

fn difference(differences: &[f32], place: &Place) -> f32 {
    let last = place.start + (place.frames - 1) * place.stride;
    let steps = &differences[place.start + 1..=last];
    // A clip of every other frame moves twice as far from one of its frames to the next.
    place.stride as f32 * steps.iter().sum::<f32>() / steps.len().max(1) as f32
}

#[cfg(test)]
#[path = "clips/tests.rs"]
mod tests;
