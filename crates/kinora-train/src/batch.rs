//! Which clip comes when, and what is drawn for it.
//!
//! Everything about the clip number k of a run, counted over all its steps, is a function of the
//! run's seed and k: which stretch of which video it is, whether it is mirrored, and its stream of
//! random numbers. So a resumed run sees what it would have seen, whatever was kept of it, and the
//! number of the next clip is the whole state of the data.

use crate::Result;
use crate::clips::{Clip, Clips};
use kinora_media::Clip as Place;
use kinora_model::pixels;
use kinora_tensor::Tensor;
use kinora_tensor::random::Philox;
use std::sync::Mutex;

/// One clip of a batch.
#[derive(Clone, Debug)]
pub struct Draw {
    /// The stretch of video.
    pub clip: Clip,
    /// Whether it is seen in a mirror.
    pub mirrored: bool,
    /// Which of its captions it is told, as a place from 0 up to 1 among their weights; see
    /// [`Clips::caption`].
    pub caption_draw: f64,
    /// Where everything else about it is drawn from.
    pub random: Philox,
}

impl Draw {
    /// A clip as it is, for looking at.
    pub fn plain(clip: Clip) -> Draw {
        Draw {
            clip,
            mirrored: false,
            caption_draw: 0.0,
            random: Philox::new(0, 0),
        }
    }

    /// Frames as they are or in a mirror, of which nothing but the frames is asked.
    pub fn of(place: Place, mirrored: bool) -> Draw {
        let clip = Clip {
            place,
            fps: 1.0,
            motion_bucket: 0.0,
        };
        Draw {
            mirrored,
            ..Draw::plain(clip)
        }
    }
}

/// The first clips kept from training, or of the training where none were kept, for samples.
pub fn shown(clips: &Clips, count: usize) -> Vec<Draw> {
    let found = if clips.held_out.is_empty() {
        &clips.training
    } else {
        &clips.held_out
    };
    found
        .iter()
        .take(count)
        .map(|clip| Draw::plain(*clip))
        .collect()
}

/// The order in which a run sees its clips: all of them once in each epoch, each time shuffled anew.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    clips: u64,
    /// The last epoch asked for and its order, since neighbours are asked for in turn.
    epoch: Mutex<(u64, Vec<u32>)>,
}

impl Order {
    /// The order of `clips` clips under a seed.
    pub fn new(seed: u64, clips: usize) -> Order {
        Order {
            seed,
            clips: clips as u64,
            epoch: Mutex::new((0, shuffled(seed, 0, clips))),
        }
    }

    /// Which clip is number `k` of the run.
    pub fn at(&self, k: u64) -> usize {
        let epoch = k / self.clips;
        let mut known = self.epoch.lock().expect("no holder of the lock panics");
        if known.0 != epoch {
            *known = (epoch, shuffled(self.seed, epoch, self.clips as usize));
        }
        known.1[(k % self.clips) as usize] as usize
    }

    /// The clips `first .. first + count` of the run.
    pub fn draws(&self, clips: &Clips, mirror: bool, first: u64, count: usize) -> Vec<Draw> {
        let draw = |k: u64| {
            let mut random = Philox::new(self.seed, k);
            let mirrored = random.next_f32() < 0.5 && mirror;
            Draw {
                clip: clips.training[self.at(k)],
                mirrored,
                caption_draw: caption_draw(&random),
                random,
            }
        };
        (first..first + count as u64).map(draw).collect()
    }
}

/// From 0 up to 1, from far along a clip's stream, where nothing else of it is drawn: so that captions
/// change nothing else of a run.
fn caption_draw(random: &Philox) -> f64 {
    let mut random = random.clone();
    random.set_position(1 << 63);
    f64::from(random.next_u32()) * 0.5f64.powi(32)
}

/// The numbers 0 .. `len` in the order of an epoch. Epochs draw from streams counted down from the
/// last, clips from streams counted up from the first: they never meet.
fn shuffled(seed: u64, epoch: u64, len: usize) -> Vec<u32> {
    let mut random = Philox::new(seed, u64::MAX - epoch);
    let mut order: Vec<u32> = (0..len as u32).collect();
    for last in (1..len).rev() {
        let other = (u64::from(random.next_u32()) * (last as u64 + 1)) >> 32;
        order.swap(last, other as usize);
    }
    order
}

/// The pixels of the first `count` frames of each clip, mirrored where drawn so.
///
/// # Shapes
/// The result is `[b, count, h, w, 3]`, in −1..1.
///
/// # Errors
/// When the decoded frames cannot be read.
pub fn frames(clips: &Clips, draws: &[Draw], count: usize) -> Result<Tensor> {
    let (h, w) = (clips.height, clips.width);
    let mut bytes = Vec::with_capacity(draws.len() * count * h * w * 3);
    for draw in draws {
        extend(
            &mut bytes,
            &clips.bytes(&draw.clip, count)?,
            w,
            draw.mirrored,
        );
    }
    let frames = pixels::tensor_from_rgb8(&bytes, [draws.len() * count, h, w])?;
    Ok(frames.reshape([draws.len(), count, h, w, 3])?)
}

/// The bytes of a clip's first frame, mirrored where drawn so.
///
/// # Errors
/// When the decoded frames cannot be read.
pub fn still_bytes(clips: &Clips, draw: &Draw) -> Result<Vec<u8>> {
    let rows = clips.bytes(&draw.clip, 1)?;
    let mut bytes = Vec::with_capacity(rows.len());
    extend(&mut bytes, &rows, clips.width, draw.mirrored);
    Ok(bytes)
}

/// A square of side `side` from each of the frames of each clip, at a place drawn for the clip.
///
/// # Shapes
/// The result is `[b, t, side, side, 3]`, in −1..1.
///
/// # Errors
/// When the decoded frames cannot be read.
pub fn cropped_frames(clips: &Clips, draws: &mut [Draw], side: usize) -> Result<Tensor> {
    let (h, w, t) = (clips.height, clips.width, clips.frames);
    let mut bytes = Vec::with_capacity(draws.len() * t * side * side * 3);
    for draw in draws.iter_mut() {
        let top = place(&mut draw.random, h - side);
        let left = place(&mut draw.random, w - side);
        let frames = clips.bytes(&draw.clip, t)?;
        for frame in frames.chunks_exact(3 * h * w) {
            for row in frame.chunks_exact(3 * w).skip(top).take(side) {
                extend(
                    &mut bytes,
                    &row[3 * left..][..3 * side],
                    side,
                    draw.mirrored,
                );
            }
        }
    }
    let frames = pixels::tensor_from_rgb8(&bytes, [draws.len() * t, side, side])?;
    Ok(frames.reshape([draws.len(), t, side, side, 3])?)
}

/// A whole number from 0 to `last`, both included.
fn place(random: &mut Philox, last: usize) -> usize {
    ((u64::from(random.next_u32()) * (last as u64 + 1)) >> 32) as usize
}

/// Adds rows of `width` pixels, each turned around where they are mirrored.
fn extend(bytes: &mut Vec<u8>, rows: &[u8], width: usize, mirrored: bool) {
    if !mirrored {
        bytes.extend_from_slice(rows);
        return;
    }
    for row in rows.chunks_exact(3 * width) {
        row.chunks_exact(3)
            .rev()
            .for_each(|pixel| bytes.extend_from_slice(pixel));
    }
}

/// Standard normal draws of one shape for each clip, from the clip's own stream.
///
/// # Shapes
/// `dims` are those of one clip; the result is `[b, dims..]`.
///
/// # Errors
/// None beyond those of the arrays.
pub fn normal(draws: &mut [Draw], dims: &[usize]) -> Result<Tensor> {
    let mut values = Vec::with_capacity(draws.len() * dims.iter().product::<usize>());
    for draw in draws.iter_mut() {
        values.extend(draw.random.normal(dims)?.to_vec());
    }
    Ok(Tensor::from_vec(values, [&[draws.len()], dims].concat())?)
}

#[cfg(test)]
mod tests;
