//! From settings and a set of clips to numbers, and from them to verdicts.

use super::settings::{Axis, FilterSettings, Missing, Rule};
use crate::Result;
use kinora_media::{ClipRow, Status};
use serde::Serialize;

/// The bounds between which clips stay on one axis, and how many clips were measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Threshold {
    /// The axis.
    pub axis: Axis,
    /// A clip with a lower value goes.
    pub low: Option<f64>,
    /// A clip with a higher value goes.
    pub high: Option<f64>,
    /// Clips that have a value, of those that did not fail.
    pub judged: u64,
    /// Clips that have none.
    pub missing: u64,
    /// Whether a rule stands on the axis, even if nobody judged.
    pub asked: bool,
}

/// What takes a clip out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Nothing could be made of it.
    Failed,
    /// A value out of bounds.
    Axis(Axis),
    /// No value, where others have one.
    Missing(Axis),
    /// No caption.
    NoCaption,
}

impl Cause {
    /// Its name in `dropped.parquet`: `failed`, the name of an axis, that name with `_missing`, or
    /// `no_caption`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Cause::Failed => "failed".to_owned(),
            Cause::Axis(axis) => axis.name().to_owned(),
            Cause::Missing(axis) => format!("{}_missing", axis.name()),
            Cause::NoCaption => "no_caption".to_owned(),
        }
    }
}

/// What thresholds say of one clip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    causes: Vec<Cause>,
}

impl Verdict {
    /// Whether the clip stays.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.causes.is_empty()
    }

    /// All that takes it out, in the order in which rules are asked.
    #[must_use]
    pub fn causes(&self) -> &[Cause] {
        &self.causes
    }
}

/// The thresholds of a set of clips.
#[derive(Clone, Debug)]
pub struct Thresholds {
    axes: Vec<Threshold>,
    settings: FilterSettings,
}

impl Thresholds {
    /// Measures thresholds on all clips that did not fail, each axis by itself.
    ///
    /// # Errors
    /// When the settings make no sense.
    pub fn measure<'a>(
        settings: &FilterSettings,
        clips: impl IntoIterator<Item = &'a ClipRow>,
    ) -> Result<Thresholds> {
        settings.check()?;
        let mut scores = Scores::default();
        for clip in clips {
            scores.add(clip);
        }
        Ok(scores.thresholds(settings))
    }

    /// One for each axis, in the order in which rules are asked.
    #[must_use]
    pub fn axes(&self) -> &[Threshold] {
        &self.axes
    }

    /// The settings they come from.
    #[must_use]
    pub fn settings(&self) -> &FilterSettings {
        &self.settings
    }

    /// What they say of a clip.
    #[must_use]
    pub fn verdict(&self, clip: &ClipRow) -> Verdict {
        let mut causes = Vec::new();
        if clip.status == Status::Failed {
            // Its scores, if it has any, say nothing of a clip that cannot be used.
            causes.push(Cause::Failed);
            return Verdict { causes };
        }
        for threshold in self.axes.iter().filter(|threshold| threshold.asked) {
            match threshold.axis.of(clip) {
                Some(value) if threshold.holds(value) => {}
                Some(_) => causes.push(Cause::Axis(threshold.axis)),
                None if threshold.judged > 0 && self.settings.missing == Missing::Drop => {
                    causes.push(Cause::Missing(threshold.axis));
                }
                None => {}
            }
        }
        if self.settings.require_caption && self.settings.captions.of(clip).is_empty() {
            causes.push(Cause::NoCaption);
        }
        Verdict { causes }
    }
}

impl Threshold {
    fn holds(&self, value: f64) -> bool {
        self.low.is_none_or(|low| value >= low) && self.high.is_none_or(|high| value <= high)
    }
}

/// The values of all clips that did not fail.
#[derive(Clone, Debug, Default)]
pub(super) struct Scores {
    values: [Vec<f64>; Axis::ALL.len()],
    clips: u64,
}

impl Scores {
    pub(super) fn add(&mut self, clip: &ClipRow) {
        if clip.status == Status::Failed {
            return;
        }
        self.clips += 1;
        for (values, axis) in self.values.iter_mut().zip(Axis::ALL) {
            values.extend(axis.of(clip));
        }
    }

    pub(super) fn thresholds(mut self, settings: &FilterSettings) -> Thresholds {
        let axes = Axis::ALL.into_iter().zip(&mut self.values);
        let axes = axes.map(|(axis, values)| {
            let rule = settings.rule(axis);
            Threshold {
                axis,
                low: low_bound(axis, rule, values),
                high: high_bound(axis, rule, values),
                judged: values.len() as u64,
                missing: self.clips - values.len() as u64,
                asked: !rule.is_idle(),
            }
        });
        Thresholds {
            axes: axes.collect(),
            settings: settings.clone(),
        }
    }
}

/// The value below which a clip falls. A share p of n clips gives the value of rank ⌊n·p⌋ from
/// below: with n different values exactly ⌊n·p⌋ clips fall.
fn low_bound(axis: Axis, rule: &Rule, values: &mut [f64]) -> Option<f64> {
    if let Some(bound) = rule.drop_below {
        return Some(axis.rounded(bound));
    }
    let rank = dropped(values.len(), rule.drop_lowest_percent?);
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(rank, f64::total_cmp).1)
}

/// The same from above.
fn high_bound(axis: Axis, rule: &Rule, values: &mut [f64]) -> Option<f64> {
    if let Some(bound) = rule.drop_above {
        return Some(axis.rounded(bound));
    }
    let rank = dropped(values.len(), rule.drop_highest_percent?);
    let rank = values.len().checked_sub(1 + rank)?;
    Some(*values.select_nth_unstable_by(rank, f64::total_cmp).1)
}

/// How many of `count` clips a share takes out, always fewer than all.
fn dropped(count: usize, percent: f64) -> usize {
    let share = (count as f64 * percent / 100.0).floor() as usize;
    share.min(count.saturating_sub(1))
}
