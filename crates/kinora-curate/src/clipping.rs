//! Clips: the shots of a video as files of their own, without a frame from the other side of a cut
//! (paper Appendix C, "keyframe-aware clipping").
//!
//! Copying packets costs next to nothing, but a copy can only start with a key frame, and can only end
//! where no picture before the end was coded after one that is shown later. So each start moves on to the
//! next key frame, never back over the cut, and each end back to the last such place.

mod cut_out;

pub use cut_out::{Check, ClipFile, CutOut, CutOutOptions, clip_ending, cut_out, in_one_run};

use crate::cuts::Cut;
use crate::error::{Error, Result};
use kinora_media::Packet;
use serde::{Deserialize, Serialize};

/// Times of a packet and of the decoded frame that are nearer than this are the same, microseconds.
const SAME_MICROS: u64 = 1500;

/// How long clips are, and how they are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipSettings {
    /// Shorter clips are left out, seconds.
    pub least_secs: f64,
    /// Longer shots are split, on key frames, into parts as equal as these allow, seconds.
    pub most_secs: f64,
    /// Encode clips again: exact to the frame, at the price of encoding. Otherwise packets are copied
    /// and clips start on key frames.
    pub encode: bool,
}

impl Default for ClipSettings {
    fn default() -> Self {
        ClipSettings {
            least_secs: 1.0,
            most_secs: 30.0,
            encode: false,
        }
    }
}

impl ClipSettings {
    /// # Errors
    /// When the lengths make no sense.
    pub fn check(&self) -> Result<()> {
        if self.least_secs >= 0.0 && self.most_secs > self.least_secs && self.most_secs.is_finite()
        {
            return Ok(());
        }
        Err(Error::Setting(format!(
            "clips: expected 0 ≤ least_secs < most_secs, found {} and {}",
            self.least_secs, self.most_secs
        )))
    }
}

/// Where a video can be cut without encoding, in frame numbers, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyframes {
    /// Frames a copy can start with.
    pub starts: Vec<u64>,
    /// Frames a copy can end before: everything shown earlier is coded earlier.
    pub ends: Vec<u64>,
}

impl Keyframes {
    /// Finds the frames of packets, which stand in the order of coding, by their times. `first_micros` is
    /// [`kinora_media::AnalysisReader::first_micros`], `frame_micros` are the times of the decoded frames
    /// from there. A packet of which no frame came (of a damaged video) is no place to cut.
    pub fn new(packets: &[Packet], first_micros: i64, frame_micros: &[i64]) -> Keyframes {
        let frame_at = |packet: &Packet| {
            let micros = packet.micros - first_micros;
            let next = frame_micros.partition_point(|&frame| frame < micros);
            let beside = [next.checked_sub(1), Some(next)].into_iter().flatten();
            let near =
                beside.filter_map(|frame| Some((frame_micros.get(frame)?.abs_diff(micros), frame)));
            let (off, frame) = near.min()?;
            (off <= SAME_MICROS).then_some(frame as u64)
        };
        let keys = packets.iter().filter(|packet| packet.key);
        let mut starts: Vec<u64> = keys.filter_map(frame_at).collect();
        starts.sort_unstable();
        starts.dedup();
        // Going backwards through the order of coding, `first_later` is the earliest picture shown of all
        // those coded after; going forwards, `last` is the latest shown of all those coded before.
        let mut first_later: Vec<Option<&Packet>> = vec![None; packets.len() + 1];
        for at in (0..packets.len()).rev() {
            let later = first_later[at + 1].filter(|later| later.micros < packets[at].micros);
            first_later[at] = later.or(Some(&packets[at]));
        }
        let mut ends = Vec::new();
        let mut last = i64::MIN;
        for (at, packet) in packets.iter().enumerate() {
            last = last.max(packet.micros);
            if let Some(next) = first_later[at + 1]
                && next.micros > last
            {
                ends.extend(frame_at(next));
            }
        }
        ends.push(frame_micros.len() as u64);
        ends.sort_unstable();
        ends.dedup();
        Keyframes { starts, ends }
    }
}

/// One clip to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipPlan {
    /// First frame in the source, from zero.
    pub start_frame: u64,
    /// First frame no longer in it.
    pub end_frame: u64,
    /// When its first frame is shown, microseconds from the first frame of the source.
    pub start_micros: i64,
    /// When its last frame ends.
    pub end_micros: i64,
    /// Whether it is to be encoded again.
    pub encode: bool,
}

impl ClipPlan {
    /// Number of frames.
    pub fn frames(&self) -> u64 {
        self.end_frame - self.start_frame
    }

    /// Length in seconds.
    pub fn secs(&self) -> f64 {
        (self.end_micros - self.start_micros) as f64 / 1e6
    }
}

/// The clips of a video. `frame_micros` are the times of all its frames ([`crate::cuts::FrameScores`] has
/// them). Frames of a dissolve, a fade or a wipe, which belong to two shots, are in no clip. A shot
/// without a key frame, or too short once it starts with one, gives none.
pub fn plan_clips(
    cuts: &[Cut],
    keyframes: &Keyframes,
    frame_micros: &[i64],
    settings: &ClipSettings,
) -> Vec<ClipPlan> {
    let frames = frame_micros.len() as u64;
    let times = Times { frame_micros };
    let mut plans = Vec::new();
    let starts = std::iter::once(0).chain(cuts.iter().map(|cut| cut.entered));
    let ends = cuts.iter().map(|cut| cut.left).chain([frames]);
    for (start, end) in starts.zip(ends) {
        let end = end.min(frames);
        let mut from = start;
        while from < end {
            let Some(plan) = next_clip(from, end, keyframes, &times, settings) else {
                break;
            };
            from = plan.end_frame;
            if plan.secs() >= settings.least_secs {
                plans.push(plan);
            }
        }
    }
    plans
}

/// The first clip of what is left, `from..end`, of a shot.
fn next_clip(
    from: u64,
    end: u64,
    keyframes: &Keyframes,
    times: &Times,
    settings: &ClipSettings,
) -> Option<ClipPlan> {
    let Keyframes { starts, ends } = keyframes;
    let start = if settings.encode {
        from
    } else {
        *starts.get(starts.partition_point(|&key| key < from))?
    };
    let end_by = |limit: u64| {
        if settings.encode {
            return Some(limit);
        }
        let end = *ends.get(ends.partition_point(|&end| end <= limit).checked_sub(1)?)?;
        (end > start).then_some(end)
    };
    if start >= end {
        return None;
    }
    let left_micros = times.of(end) - times.of(start);
    let most_micros = (settings.most_secs * 1e6) as i64;
    let parts = (left_micros + most_micros - 1) / most_micros.max(1);
    let whole = parts <= 1;
    let limit = if whole {
        end
    } else {
        let aim = times.of(start) + left_micros / parts;
        let most = times.of(start) + most_micros;
        split_at(aim, most, start, keyframes, times, settings)
    };
    let end_frame = end_by(limit)?;
    Some(ClipPlan {
        start_frame: start,
        end_frame,
        start_micros: times.of(start),
        end_micros: times.of(end_frame),
        encode: settings.encode,
    })
}

/// Where to split a long shot: on the key frame nearest to `aim` that is not after `most`, or, without
/// one, as late as allowed.
fn split_at(
    aim: i64,
    most: i64,
    start: u64,
    keyframes: &Keyframes,
    times: &Times,
    settings: &ClipSettings,
) -> u64 {
    let last = times.last_by(most).max(start + 1);
    if settings.encode {
        return times.last_by(aim).max(start + 1);
    }
    let inside = keyframes.starts.iter().copied();
    inside
        .filter(|&key| key > start && key <= last)
        .min_by_key(|&key| times.of(key).abs_diff(aim))
        .unwrap_or(last)
}

struct Times<'a> {
    frame_micros: &'a [i64],
}

impl Times<'_> {
    /// When a frame starts; of the one after the last, when the last ends.
    fn of(&self, frame: u64) -> i64 {
        let times = self.frame_micros;
        match (times.get(frame as usize), times) {
            (Some(&micros), _) => micros,
            (None, [.., before, last]) => last + (last - before),
            (None, [only]) => only + 1,
            (None, []) => 0,
        }
    }

    /// The last frame that starts by `micros`.
    fn last_by(&self, micros: i64) -> u64 {
        self.frame_micros
            .partition_point(|&time| time <= micros)
            .saturating_sub(1) as u64
    }
}

#[cfg(test)]
#[path = "clipping/tests.rs"]
mod tests;
