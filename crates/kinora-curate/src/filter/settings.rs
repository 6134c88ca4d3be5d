//! What is asked of a filter.

use crate::{Error, Result};
use kinora_media::{CaptionWeights, ClipRow};
use serde::{Deserialize, Serialize};

/// A number of a clip on which a rule can stand, in the order in which rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Length, seconds.
    DurationS,
    /// The shorter of width and height, pixels.
    ShortSide,
    /// Frames a second.
    Fps,
    /// Column `motion_score`.
    MotionScore,
    /// Column `clip_similarity`.
    ClipSimilarity,
    /// Column `aesthetic`.
    Aesthetic,
    /// Column `text_area`.
    TextArea,
}

impl Axis {
    /// All axes.
    pub const ALL: [Axis; 7] = [
        Axis::DurationS,
        Axis::ShortSide,
        Axis::Fps,
        Axis::MotionScore,
        Axis::ClipSimilarity,
        Axis::Aesthetic,
        Axis::TextArea,
    ];

    /// Its name in settings and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Axis::DurationS => "duration_s",
            Axis::ShortSide => "short_side",
            Axis::Fps => "fps",
            Axis::MotionScore => "motion_score",
            Axis::ClipSimilarity => "clip_similarity",
            Axis::Aesthetic => "aesthetic",
            Axis::TextArea => "text_area",
        }
    }

    /// Its value for a clip; none where nothing finite was measured.
    #[must_use]
    pub fn of(self, clip: &ClipRow) -> Option<f64> {
        let value = match self {
            Axis::DurationS => Some(clip.duration_s()),
            Axis::ShortSide => Some(f64::from(clip.width.min(clip.height))),
            Axis::Fps => Some(clip.fps),
            Axis::MotionScore => clip.motion_score.map(f64::from),
            Axis::ClipSimilarity => clip.clip_similarity.map(f64::from),
            Axis::Aesthetic => clip.aesthetic.map(f64::from),
            Axis::TextArea => clip.text_area.map(f64::from),
        };
        value.filter(|value| value.is_finite())
    }

    /// A bound as precise as the values: 0.07 in a file of settings is the 0.07 of a column of 32 bits.
    pub(super) fn rounded(self, bound: f64) -> f64 {
        match self {
            Axis::DurationS | Axis::ShortSide | Axis::Fps => bound,
            _ => f64::from(bound as f32),
        }
    }

    /// The columns of the table that thresholds are measured on.
    pub(super) fn columns() -> Vec<&'static str> {
        vec![
            "start_s",
            "end_s",
            "width",
            "height",
            "fps",
            "motion_score",
            "clip_similarity",
            "aesthetic",
            "text_area",
            "status",
        ]
    }
}

/// What takes a clip out on one axis; nothing where nothing is set. At each end a share or a value,
/// not both. The paper's studies drop 12.5, 25 or 50 percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// This share of the clips, those with the lowest values. Clips with equal values share a fate:
    /// of many equal lowest values none falls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_lowest_percent: Option<f64>,
    /// This share of the clips, those with the highest values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_highest_percent: Option<f64>,
    /// Clips with a value below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_below: Option<f64>,
    /// Clips with a value above this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_above: Option<f64>,
}

impl Rule {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        *self == Rule::default()
    }

    /// A rule that drops a share at the low end.
    #[must_use]
    pub fn lowest(percent: f64) -> Rule {
        Rule {
            drop_lowest_percent: Some(percent),
            ..Rule::default()
        }
    }

    /// A rule that drops what is above a value.
    #[must_use]
    pub fn above(value: f64) -> Rule {
        Rule {
            drop_above: Some(value),
            ..Rule::default()
        }
    }

    fn check(&self, axis: Axis) -> Result<()> {
        let refuse =
            |words: String| Err(Error::Setting(format!("filter.{}: {words}", axis.name())));
        let percents = [self.drop_lowest_percent, self.drop_highest_percent];
        for percent in percents.into_iter().flatten() {
            if !(0.0..100.0).contains(&percent) {
                return refuse(format!(
                    "expected a share from 0 up to 100 percent, found {percent}"
                ));
            }
        }
        if percents.into_iter().flatten().sum::<f64>() >= 100.0 {
            return refuse("the shares of both ends together leave no clip".to_owned());
        }
        let bounds = [self.drop_below, self.drop_above];
        if let Some(bound) = bounds
            .into_iter()
            .flatten()
            .find(|bound| !bound.is_finite())
        {
            return refuse(format!("expected a number, found {bound}"));
        }
        for (end, share, bound) in [
            ("low", percents[0], bounds[0]),
            ("high", percents[1], bounds[1]),
        ] {
            if share.is_some() && bound.is_some() {
                return refuse(format!(
                    "a share and a value both say where the {end} end falls; keep one"
                ));
            }
        }
        match bounds {
            [Some(below), Some(above)] if below > above => refuse(format!(
                "drop_below {below} and drop_above {above} leave no value between them"
            )),
            _ => Ok(()),
        }
    }
}

/// What becomes of a clip that lacks a number on which a rule stands, where other clips have it. Where
/// no clip has it, nobody judged, and the rule does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// It goes: what was not judged is not known to be good.
    #[default]
    Drop,
    /// It stays.
    Keep,
}

/// Which clips stay and which of their captions training sees. The defaults are the paper's (App.
/// E.2.2): without the 25 % most static, the 25 % of lowest aesthetics, the 50 % least like their
/// captions, and those with more than 7 % of the picture under text (App. C). `{}` sets a rule aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterSettings {
    /// On the length in seconds.
    pub duration_s: Rule,
    /// On the shorter side in pixels.
    pub short_side: Rule,
    /// On the frames a second.
    pub fps: Rule,
    /// On the motion score.
    pub motion_score: Rule,
    /// On the likeness to the captions.
    pub clip_similarity: Rule,
    /// On the aesthetic score.
    pub aesthetic: Rule,
    /// On the share of the picture under text, 0 to 1.
    pub text_area: Rule,
    /// What becomes of a clip without a score.
    pub missing: Missing,
    /// Whether a clip without any caption goes.
    pub require_caption: bool,
    /// How often each caption is drawn.
    pub captions: CaptionWeights,
}

impl Default for FilterSettings {
    fn default() -> Self {
        FilterSettings {
            motion_score: Rule::lowest(25.0),
            clip_similarity: Rule::lowest(50.0),
            aesthetic: Rule::lowest(25.0),
            text_area: Rule::above(0.07),
            ..FilterSettings::none()
        }
    }
}

impl FilterSettings {
    /// No rules at all: only clips that failed go.
    #[must_use]
    pub fn none() -> FilterSettings {
        FilterSettings {
            duration_s: Rule::default(),
            short_side: Rule::default(),
            fps: Rule::default(),
            motion_score: Rule::default(),
            clip_similarity: Rule::default(),
            aesthetic: Rule::default(),
            text_area: Rule::default(),
            missing: Missing::default(),
            require_caption: false,
            captions: CaptionWeights::default(),
        }
    }

    /// The rule on an axis.
    #[must_use]
    pub fn rule(&self, axis: Axis) -> &Rule {
        match axis {
            Axis::DurationS => &self.duration_s,
            Axis::ShortSide => &self.short_side,
            Axis::Fps => &self.fps,
            Axis::MotionScore => &self.motion_score,
            Axis::ClipSimilarity => &self.clip_similarity,
            Axis::Aesthetic => &self.aesthetic,
            Axis::TextArea => &self.text_area,
        }
    }

    /// Refuses settings that make no sense.
    ///
    /// # Errors
    /// When a share is not below 100 percent, an end has two rules, or no caption can be drawn.
    pub fn check(&self) -> Result<()> {
        for axis in Axis::ALL {
            self.rule(axis).check(axis)?;
        }
        self.captions.check()?;
        Ok(())
    }
}
