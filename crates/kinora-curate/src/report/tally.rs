//! What a report counts. Clips pass by once; of each only a few numbers are kept.

use super::words::{duration, shortened};
use crate::filter::{Axis, Cause, Filtered, Threshold, Verdict};
use kinora_media::{ClipRow, SourceRow, Status, caption_draw};
use std::collections::{BTreeMap, BTreeSet};

/// Pictures in one contact sheet.
const SHEET: usize = 12;
/// Letters of a caption under a picture.
const CAPTION: usize = 110;

/// A set of clips in numbers, as in the paper's Table 1.
#[derive(Clone, Debug, Default)]
pub struct SetTally {
    /// Clips.
    pub clips: u64,
    /// Their length together, seconds.
    pub seconds: f64,
    /// Their frames together.
    pub frames: u64,
    /// Videos they come from.
    pub videos: BTreeSet<String>,
    /// The values on each axis, in the order of [`Axis::ALL`].
    pub values: [Vec<f32>; Axis::ALL.len()],
}

impl SetTally {
    fn add(&mut self, clip: &ClipRow) {
        self.clips += 1;
        self.seconds += clip.duration_s();
        self.frames += clip.frames();
        if !self.videos.contains(&clip.source) {
            self.videos.insert(clip.source.clone());
        }
        for (values, axis) in self.values.iter_mut().zip(Axis::ALL) {
            values.extend(axis.of(clip).map(|value| value as f32));
        }
    }

    /// Mean length of a clip, seconds.
    #[must_use]
    pub fn mean_seconds(&self) -> f64 {
        self.seconds / self.clips as f64
    }

    /// Mean number of frames of a clip.
    #[must_use]
    pub fn mean_frames(&self) -> f64 {
        self.frames as f64 / self.clips as f64
    }

    /// Mean number of clips of a video that has any.
    #[must_use]
    pub fn clips_per_video(&self) -> f64 {
        self.clips as f64 / self.videos.len() as f64
    }
}

/// A clip that a contact sheet shows.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub clip_id: String,
    pub source: String,
    pub length: String,
    pub caption: Option<String>,
    pub values: [Option<f64>; Axis::ALL.len()],
}

/// Those clips of a set whose ids have the smallest hashes: a sample that does not depend on the order.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    shown: BTreeMap<(u64, String), Shown>,
}

impl Sample {
    fn add(&mut self, clip: &ClipRow) {
        // Draws are positive numbers, whose order is that of their bits.
        let rank = caption_draw(&clip.clip_id).to_bits();
        let last = self.shown.keys().next_back();
        if self.shown.len() == SHEET && last.is_some_and(|last| rank > last.0) {
            return;
        }
        let captions = [
            &clip.caption_merged,
            &clip.caption_image,
            &clip.caption_video,
        ];
        let shown = Shown {
            clip_id: clip.clip_id.clone(),
            source: clip.source.clone(),
            length: duration(clip.duration_s()),
            caption: captions
                .into_iter()
                .flatten()
                .next()
                .map(|text| shortened(text, CAPTION)),
            values: Axis::ALL.map(|axis| axis.of(clip)),
        };
        self.shown.insert((rank, clip.clip_id.clone()), shown);
        if self.shown.len() > SHEET {
            self.shown.pop_last();
        }
    }

    pub fn shown(&self) -> impl Iterator<Item = &Shown> {
        self.shown.values()
    }
}

/// Clips that fell to a cause.
#[derive(Clone, Debug, Default)]
pub(super) struct Fallen {
    /// Those it was the first to take out.
    pub first: u64,
    /// Those it would have taken out alone.
    pub all: u64,
    pub sample: Sample,
}

/// All that a report shows of clips and videos. Clips and videos are added one by one, in any order.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Clips that did not fail.
    pub before: SetTally,
    /// Clips that stay.
    pub after: SetTally,
    /// Videos given, failed ones included.
    pub sources: u64,
    /// Videos of which nothing could be made.
    pub failed_sources: u64,
    pub(super) kept: Sample,
    pub(super) fallen: BTreeMap<Cause, Fallen>,
    /// Videos and clips by the reason why they, or a part of them, failed.
    pub(super) reasons: BTreeMap<String, [u64; 2]>,
    /// What filled each column: the judge's version.
    pub(super) judges: BTreeMap<&'static str, BTreeSet<String>>,
    pub(super) thresholds: Vec<Threshold>,
}

impl Tally {
    /// Counts clips that are all in memory.
    #[must_use]
    pub fn of(clips: &[ClipRow], sources: &[SourceRow], filtered: &Filtered) -> Tally {
        let mut tally = Tally::default();
        for (clip, verdict) in clips.iter().zip(&filtered.verdicts) {
            tally.add(clip, verdict);
        }
        for source in sources {
            tally.add_source(source);
        }
        tally.set_thresholds(filtered.thresholds.axes());
        tally
    }

    /// Counts a clip.
    pub fn add(&mut self, clip: &ClipRow, verdict: &Verdict) {
        if clip.status != Status::Failed {
            self.before.add(clip);
        }
        if let Some(reason) = &clip.reason {
            self.reasons.entry(reason.clone()).or_default()[1] += 1;
        }
        self.add_judges(clip);
        if verdict.keeps() {
            self.after.add(clip);
            self.kept.add(clip);
        }
        for (place, &cause) in verdict.causes().iter().enumerate() {
            let fallen = self.fallen.entry(cause).or_default();
            fallen.all += 1;
            fallen.first += u64::from(place == 0);
            fallen.sample.add(clip);
        }
    }

    /// Counts a video.
    pub fn add_source(&mut self, source: &SourceRow) {
        self.sources += 1;
        self.failed_sources += u64::from(source.status == Status::Failed);
        if let Some(reason) = &source.reason {
            self.reasons.entry(reason.clone()).or_default()[0] += 1;
        }
    }

    /// Says by which thresholds the verdicts came about.
    pub fn set_thresholds(&mut self, thresholds: &[Threshold]) {
        self.thresholds = thresholds.to_vec();
    }

    fn add_judges(&mut self, clip: &ClipRow) {
        let versions = &clip.versions;
        for (column, version) in [
            ("cuts", &versions.cuts),
            ("motion_score", &versions.motion),
            ("text_area", &versions.text),
            ("clip_similarity", &versions.clip),
            ("aesthetic", &versions.aesthetic),
            ("caption_image", &versions.caption_image),
            ("caption_video", &versions.caption_video),
            ("caption_merged", &versions.caption_merged),
        ] {
            let known = self.judges.entry(column).or_default();
            if !version.is_empty() && !known.contains(version) {
                known.insert(version.clone());
            }
        }
    }

    /// The threshold on an axis, where a rule stands on it.
    pub(super) fn threshold(&self, axis: Axis) -> Option<&Threshold> {
        self.thresholds
            .iter()
            .find(|threshold| threshold.axis == axis && threshold.asked)
    }
}
