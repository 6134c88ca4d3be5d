//! The judges that look at three frames of a clip: text, embeddings and aesthetics, and a captioner of
//! our own.

use super::Work;
use crate::Result;
use crate::cache::Maker;
use crate::captions::frame_numbers;
use crate::judges::locked;
use crate::step::Step;
use kinora_media::{ReadOptions, Reader, Rgb8Image};
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::Duration;

/// How long ffmpeg may take for the frames of one clip.
const FRAMES_LIMIT: Duration = Duration::from_secs(300);

/// A column value on its way: from the cache, to be made, or neither.
enum Value<T> {
    /// There.
    Kept(T),
    /// Not there, and asked for.
    Wanted(Maker),
    /// Switched off, or not there and not asked for.
    Absent,
}

impl<T> Value<T> {
    fn wanted(&self) -> Option<&Maker> {
        match self {
            Value::Wanted(maker) => Some(maker),
            _ => None,
        }
    }
}

impl Work<'_> {
    /// Fills the columns of text, embeddings and aesthetics of every clip.
    pub(super) fn judge_pictures(&mut self) -> Result<()> {
        for at in 0..self.annotation.clips.len() {
            self.stop_where_asked()?;
            self.judge_clip(at)?;
        }
        Ok(())
    }

    fn judge_clip(&mut self, at: usize) -> Result<()> {
        let makers = self.workshop.makers.clone();
        let text: Value<f32> = self.value(at, Step::Text, makers.text.as_ref());
        let embeddings: Value<Vec<Vec<f32>>> = self.value(at, Step::Clip, makers.clip.as_ref());
        if text.wanted().is_some() || embeddings.wanted().is_some() {
            match self.three_frames(at) {
                Ok(frames) => self.look_at(at, &frames, &text, &embeddings)?,
                Err(failure) => {
                    for (step, wanted) in [
                        (Step::Text, text.wanted().is_some()),
                        (Step::Clip, embeddings.wanted().is_some()),
                    ] {
                        if wanted {
                            self.missing(at, step, &failure.to_string());
                        }
                    }
                }
            }
        }
        if let Value::Kept(area) = text {
            self.set_text(at, area);
        }
        if let Value::Kept(frames) = embeddings {
            self.set_embeddings(at, &frames);
        }
        Ok(())
    }

    fn look_at(
        &mut self,
        at: usize,
        frames: &[Rgb8Image; 3],
        text: &Value<f32>,
        embeddings: &Value<Vec<Vec<f32>>>,
    ) -> Result<()> {
        let workshop = self.workshop;
        let id = self.annotation.clips[at].clip_id.clone();
        let cache = workshop.ledger.cache();
        if let (Some(maker), Some(judge)) = (text.wanted(), &workshop.judges.text) {
            match self.costs.of("text", 1, || judge.area(frames)) {
                Ok(area) => {
                    cache.put(maker, &id, &area)?;
                    self.set_text(at, area);
                }
                Err(failure) => self.missing(at, Step::Text, &failure.to_string()),
            }
        }
        if let (Some(maker), Some(judge)) = (embeddings.wanted(), &workshop.judges.clip) {
            let [first, middle, last] = frames;
            let made = self.costs.of("clip", 1, || {
                locked(judge).embed_frames(&[first, middle, last])
            });
            match made {
                Ok(frames) => {
                    cache.put(maker, &id, &frames)?;
                    self.set_embeddings(at, &frames);
                }
                Err(failure) => self.missing(at, Step::Clip, &failure.to_string()),
            }
        }
        Ok(())
    }

    fn set_text(&mut self, at: usize, area: f32) {
        let clip = &mut self.annotation.clips[at];
        clip.text_area = Some(area);
        if let Some(maker) = &self.workshop.makers.text {
            clip.versions.text = maker.label();
        }
    }

    /// Sets the embeddings, and the aesthetic score that is a function of them.
    fn set_embeddings(&mut self, at: usize, frames: &[Vec<f32>]) {
        let workshop = self.workshop;
        let clip = &mut self.annotation.clips[at];
        clip.embeddings = Some(frames.concat());
        if let Some(maker) = &workshop.makers.clip {
            clip.versions.clip = maker.label();
        }
        let (Some(judge), Some(maker)) = (&workshop.judges.clip, &workshop.makers.aesthetic) else {
            return;
        };
        match locked(judge).aesthetic(frames) {
            Ok(score) => {
                clip.aesthetic = score;
                clip.versions.aesthetic = maker.label();
            }
            Err(failure) => self.missing(at, Step::Clip, &failure.to_string()),
        }
    }

    /// Where the value of a column stands for a clip.
    fn value<T: DeserializeOwned>(
        &mut self,
        at: usize,
        step: Step,
        maker: Option<&Maker>,
    ) -> Value<T> {
        let Some(maker) = maker else {
            return Value::Absent;
        };
        let id = &self.annotation.clips[at].clip_id;
        if let Some(kept) = self.workshop.ledger.cache().get(maker, id) {
            return Value::Kept(kept);
        }
        if self.workshop.asked.includes(step) {
            return Value::Wanted(maker.clone());
        }
        self.left_out(step);
        Value::Absent
    }

    /// First, middle and last frame of a clip.
    fn three_frames(&mut self, at: usize) -> Result<[Rgb8Image; 3]> {
        let clip = &self.annotation.clips[at];
        let frames = clip.end_frame - clip.start_frame;
        let middle = frame_numbers(frames, 1).first().copied().unwrap_or(0);
        let wanted = [0, middle, frames.saturating_sub(1)];
        let path = self.clip_path(at)?;
        let mut read = self
            .costs
            .of("frames", 1, || {
                frames_of(&path, &wanted, self.workshop.decoder_threads)
            })?
            .into_iter();
        let mut next = || read.next().expect("as many frames as were asked for");
        Ok([next(), next(), next()])
    }
}

/// Frames of a file by their numbers, which never fall; a number may come twice.
///
/// # Errors
/// When the file cannot be read or has fewer frames.
pub(super) fn frames_of(path: &Path, numbers: &[u64], threads: usize) -> Result<Vec<Rgb8Image>> {
    let mut distinct = numbers.to_vec();
    distinct.dedup();
    let options = ReadOptions {
        numbers: distinct.clone(),
        threads,
        time_limit: FRAMES_LIMIT,
        ..ReadOptions::default()
    };
    let reader = Reader::open(path, &options)?.take(distinct.len());
    let mut pictures = Vec::new();
    for frame in reader {
        pictures.push(frame?.picture);
    }
    if pictures.len() < distinct.len() {
        return Err(kinora_media::Error::Video {
            path: path.to_path_buf(),
            message: format!(
                "expected the frames {distinct:?}, found {} of them; delete the file to have it cut out again",
                pictures.len()
            ),
        }
        .into());
    }
    let place = |number: &u64| {
        distinct
            .binary_search(number)
            .expect("taken from the numbers")
    };
    Ok(numbers
        .iter()
        .map(|number| pictures[place(number)].clone())
        .collect())
}
