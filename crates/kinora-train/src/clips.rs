//! The clips that can be cut from a folder of videos.

use crate::config::Data;
use crate::{Error, Result};
use kinora_media::{CacheOptions, CachedVideo, Clip as Place, ClipCache, VideoFolder};
use std::path::Path;
use std::sync::Mutex;

/// A stretch of a video without a cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// Which frames of which video.
    pub place: Place,
    /// Frames a second.
    pub fps: f32,
    /// How much moves in it, 0 to 255: its place among all clips that are trained on.
    pub motion_bucket: f32,
}

/// The clips of a folder of videos.
#[derive(Debug)]
pub struct Clips {
    /// Width of the frames in pixels.
    pub width: usize,
    /// Height of the frames in pixels.
    pub height: usize,
    /// Frames of a clip.
    pub frames: usize,
    /// What is trained on.
    pub training: Vec<Clip>,
    /// The first clip of each shot of the videos kept from training.
    pub held_out: Vec<Clip>,
    cache: ClipCache,
}

impl Clips {
    /// Decodes the videos of a folder, keeping the frames in `cache`, and finds every clip in them.
    ///
    /// # Errors
    /// When the folder holds too few videos, or none of them is long enough.
    pub fn read(
        folder: &Path,
        cache: &Path,
        data: &Data,
        on_video: &mut (dyn FnMut(usize, usize) + Send),
    ) -> Result<Clips> {
        let videos = VideoFolder::open(folder)?;
        let options = CacheOptions {
            width: data.width,
            height: data.height,
            max_fps: data.max_fps,
            max_bytes: (data.disk_gb * 1e9) as u64,
        };
        let on_video = Mutex::new(on_video);
        let cache = ClipCache::build(&videos, cache, &options, &|done, of| {
            on_video.lock().expect("no holder of the lock panics")(done, of);
        })?;
        let count = cache.videos().len();
        if count <= data.held_out {
            return Err(Error::data(
                folder,
                format!(
                    "expected more videos than the {} that data.held_out keeps from training, found {count}",
                    data.held_out
                ),
            ));
        }
        Clips::cut(cache, data)
    }

    /// Every clip of decoded videos.
    fn cut(cache: ClipCache, data: &Data) -> Result<Clips> {
        let first_held_out = cache.videos().len() - data.held_out;
        let (mut training, mut held_out) = (Vec::new(), Vec::new());
        for stride in &data.strides {
            let index = cache.clips(data.frames, *stride)?;
            for place in (0..index.len()).map(|number| index.get(number)) {
                let video = &cache.videos()[place.video];
                let clip = Clip {
                    place,
                    fps: video.fps.as_f64() as f32 / *stride as f32,
                    motion_bucket: motion(video, &place),
                };
                let opens_a_shot = video.shots.iter().any(|shot| shot.start == place.start);
                if place.video < first_held_out {
                    training.push(clip);
                } else if opens_a_shot && *stride == data.strides[0] {
                    held_out.push(clip);
                }
            }
        }
        if training.is_empty() {
            let first = &cache.videos()[0].source;
            return Err(Error::data(
                first.parent().unwrap_or(first),
                "no clip lies in a video that is trained on, only in those kept from training; give more videos or lower data.held_out",
            ));
        }
        bucket(&mut training, &mut held_out);
        Ok(Clips {
            width: data.width,
            height: data.height,
            frames: data.frames,
            training,
            held_out,
            cache,
        })
    }

    /// The decoded videos.
    pub fn videos(&self) -> &[CachedVideo] {
        self.cache.videos()
    }

    /// The files that are no videos, with the reason.
    pub fn skipped(&self) -> &[kinora_media::SkippedFile] {
        self.cache.skipped()
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

    /// A number that changes with the videos, for telling whether a run resumes on the same ones.
    pub fn digest(&self) -> u64 {
        let mut hash = 0xCBF2_9CE4_8422_2325_u64;
        let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        for video in self.videos() {
            let name = video.source.file_name().unwrap_or_default();
            name.to_string_lossy().bytes().for_each(&mut eat);
            let differences = video.differences.iter();
            differences.flat_map(|d| d.to_le_bytes()).for_each(&mut eat);
        }
        hash
    }
}

/// How much moves in a clip: the mean absolute difference of neighbouring frames. It stands in for
/// optical flow, which tells a moving camera from a flickering light; the bucket's meaning, more is
/// more, is the same.
fn motion(video: &CachedVideo, place: &Place) -> f32 {
    let last = place.start + (place.frames - 1) * place.stride;
    let steps = &video.differences[place.start + 1..=last];
    // A clip of every other frame moves twice as far from one of its frames to the next.
    place.stride as f32 * steps.iter().sum::<f32>() / steps.len().max(1) as f32
}

/// Turns the motion of each clip into its bucket: 255 times the share of training clips that move
/// less.
fn bucket(training: &mut [Clip], held_out: &mut [Clip]) {
    let mut scores: Vec<f32> = training.iter().map(|clip| clip.motion_bucket).collect();
    scores.sort_by(f32::total_cmp);
    let of = scores.len().saturating_sub(1).max(1) as f32;
    for clip in training.iter_mut().chain(held_out) {
        let below = scores.partition_point(|score| *score < clip.motion_bucket);
        clip.motion_bucket = (255.0 * below as f32 / of).round().min(255.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_spread_evenly_from_the_stillest_to_the_fastest() {
        let clip = |score: f32| Clip {
            place: Place {
                video: 0,
                start: 0,
                stride: 1,
                frames: 2,
            },
            fps: 7.0,
            motion_bucket: score,
        };
        let mut training = [9.0, 0.5, 30.0, 12.0, 1.0].map(clip);
        let mut held_out = [0.0, 10.0, 100.0].map(clip);
        bucket(&mut training, &mut held_out);
        let found = |clips: &[Clip]| clips.iter().map(|c| c.motion_bucket).collect::<Vec<_>>();
        assert_eq!(found(&training), [128.0, 0.0, 255.0, 191.0, 64.0]);
        assert_eq!(found(&held_out), [0.0, 191.0, 255.0]);
    }

    #[test]
    fn one_clip_alone_has_a_bucket() {
        let mut training = [Clip {
            place: Place {
                video: 0,
                start: 0,
                stride: 1,
                frames: 1,
            },
            fps: 7.0,
            motion_bucket: 3.0,
        }];
        bucket(&mut training, &mut []);
        assert_eq!(training[0].motion_bucket, 0.0);
    }
}
