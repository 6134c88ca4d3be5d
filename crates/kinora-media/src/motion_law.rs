//! From how much moves in a clip to its motion bucket, the number between 0 and 255 that the network
//! is told.
//!
//! The paper gives a score (App. C) and a network that takes a bucket, and not the way from one to
//! the other. Here a bucket is a place in the ranking of all clips: 0 to 255 are equally frequent
//! among those the law was made from, so that every bucket is trained on and the middle one is the
//! median motion. The law travels with the data set and the checkpoint, so that a bucket means the
//! same wherever it is used.

use crate::unfinished::write_whole;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Number of buckets.
pub const MOTION_BUCKETS: usize = 256;

/// What a score is a measure of. Scores of one measure say nothing about those of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MotionMeasure {
    /// Mean length of the optical flow in half a second, in pixels of a small map (App. C); what
    /// curation measures, and what a law is of that names no measure.
    #[default]
    Flow,
    /// Mean absolute difference of neighbouring frames, in levels of 255.
    FrameDifference,
}

impl fmt::Display for MotionMeasure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            MotionMeasure::Flow => "optical flow",
            MotionMeasure::FrameDifference => "the difference of neighbouring frames",
        })
    }
}

/// The score that each bucket stands for, learnt from the scores of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct MotionLaw {
    measure: MotionMeasure,
    samples: u64,
    /// Bucket b stands for the score of rank (b + ½) / 256; never falling.
    scores: Vec<f32>,
}

/// The law as it is written, with a mark by which it is known.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    motion_law: u32,
    #[serde(default)]
    measure: MotionMeasure,
    samples: u64,
    score_of_bucket: Vec<f32>,
}

/// Version of the written form.
const VERSION: u32 = 1;

impl MotionLaw {
    /// Name of its file in a folder: a curated set, its shards, a model.
    pub const FILE: &str = "motion_law.json";

    /// The law of a data set whose clips have these scores. Any number of clips above none will do;
    /// between the ranks of few, scores are interpolated.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no score, or one is negative or not a number.
    pub fn from_scores(
        measure: MotionMeasure,
        scores: impl IntoIterator<Item = f32>,
    ) -> Result<MotionLaw> {
        let mut sorted: Vec<f32> = scores.into_iter().collect();
        if let Some(wrong) = sorted.iter().find(|s| !(s.is_finite() && **s >= 0.0)) {
            let what = format!("expected scores of 0 or more, found {wrong}");
            return Err(Error::argument("motion law", what));
        }
        if sorted.is_empty() {
            let what = "expected the score of at least one clip, found none; curate with the motion step first";
            return Err(Error::argument("motion law", what));
        }
        sorted.sort_by(f32::total_cmp);
        let bucket = |b: usize| quantile(&sorted, (b as f64 + 0.5) / MOTION_BUCKETS as f64);
        Ok(MotionLaw {
            measure,
            samples: sorted.len() as u64,
            scores: (0..MOTION_BUCKETS).map(bucket).collect(),
        })
    }

    /// The bucket whose score is nearest, the middle one where several have exactly this score
    /// (clips that stand quite still). Never falls when the score rises; a score that is not a
    /// number counts as no motion.
    pub fn bucket(&self, score: f32) -> u8 {
        let score = if score.is_nan() { 0.0 } else { score };
        let below = self.scores.partition_point(|s| *s < score);
        let not_above = self.scores.partition_point(|s| *s <= score);
        let bucket = if not_above > below {
            (below + not_above - 1) / 2
        } else if below == 0 {
            0
        } else if below == MOTION_BUCKETS {
            MOTION_BUCKETS - 1
        } else {
            let (lower, upper) = (self.scores[below - 1], self.scores[below]);
            if score - lower < upper - score {
                below - 1
            } else {
                below
            }
        };
        u8::try_from(bucket).expect("there are 256 buckets")
    }

    /// The score that a bucket stands for: among the clips the law was made from, the share
    /// (bucket + ½) / 256 moves no more.
    pub fn score(&self, bucket: u8) -> f32 {
        self.scores[usize::from(bucket)]
    }

    /// Reads the law of a folder; none where it has no such file.
    ///
    /// # Errors
    /// When the file cannot be read or is not a law.
    pub fn of_folder(folder: &Path) -> Result<Option<MotionLaw>> {
        let path = folder.join(MotionLaw::FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let law = serde_json::from_slice(&text);
        law.map(Some)
            .map_err(|failure| Error::table(&path, failure.to_string()))
    }

    /// Writes the law into a folder.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("a law has a JSON form");
        write_whole(&folder.join(MotionLaw::FILE), &text)
    }

    /// What its scores measure.
    pub fn measure(&self) -> MotionMeasure {
        self.measure
    }

    /// From how many clips the law was made.
    pub fn samples(&self) -> u64 {
        self.samples
    }
}

/// The quantile of rank `p` of sorted values: value i has rank (i + ½) / n, between them the line
/// (Hazen), beyond the first and last their own values.
fn quantile(sorted: &[f32], p: f64) -> f32 {
    let last = sorted.len() - 1;
    let place = (p * sorted.len() as f64 - 0.5).clamp(0.0, last as f64);
    let (index, part) = (place.floor() as usize, place.fract());
    let (lower, upper) = (sorted[index], sorted[(index + 1).min(last)]);
    // In f64, so that a step between equal values is none and no step overshoots.
    (f64::from(lower) + part * (f64::from(upper) - f64::from(lower))) as f32
}

impl TryFrom<Written> for MotionLaw {
    type Error = String;

    fn try_from(written: Written) -> std::result::Result<Self, String> {
        let Written {
            motion_law,
            measure,
            samples,
            score_of_bucket: scores,
        } = written;
        if motion_law != VERSION {
            return Err(format!(
                "motion law: expected version {VERSION}, found {motion_law}; it was written by another release"
            ));
        }
        if scores.len() != MOTION_BUCKETS {
            return Err(format!(
                "motion law: expected {MOTION_BUCKETS} scores, found {}; the file is damaged",
                scores.len()
            ));
        }
        let fair = scores.iter().all(|s| s.is_finite() && *s >= 0.0);
        if !fair || !scores.is_sorted() {
            return Err(
                "motion law: expected scores of 0 or more that never fall, found others; the file is damaged".into(),
            );
        }
        Ok(MotionLaw {
            measure,
            samples,
            scores,
        })
    }
}

impl From<MotionLaw> for Written {
    fn from(law: MotionLaw) -> Self {
        Written {
            motion_law: VERSION,
            measure: law.measure,
            samples: law.samples,
            score_of_bucket: law.scores,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow_law(scores: impl IntoIterator<Item = f32>) -> Result<MotionLaw> {
        MotionLaw::from_scores(MotionMeasure::Flow, scores)
    }

    #[test]
    fn of_256_clips_each_has_its_own_bucket() {
        // Rank (i + ½) / 256 of 256 values is value i.
        let law = flow_law((0..256).rev().map(|i| i as f32 * 0.01)).unwrap();
        for i in 0..=255_u8 {
            assert_eq!(law.score(i), f32::from(i) * 0.01);
            assert_eq!(law.bucket(f32::from(i) * 0.01), i);
        }
        assert_eq!(law.samples(), 256);
    }

    #[test]
    fn buckets_are_equally_frequent_among_the_clips_of_the_law() {
        // Scores of any shape, here squares: 40 clips to each bucket, but where
        // the scores' density changes within one.
        let scores: Vec<f32> = (0..10_240).map(|i| (i as f32 / 10_240.0).powi(2)).collect();
        let law = flow_law(scores.iter().copied()).unwrap();
        let mut counts = [0; MOTION_BUCKETS];
        for score in scores {
            counts[usize::from(law.bucket(score))] += 1;
        }
        assert!(
            counts.iter().all(|count| (34..=46).contains(count)),
            "{counts:?}"
        );
        // The median of x² over 0 to 1 is 1/4.
        assert!((law.score(127) - 0.25).abs() < 0.003 && (law.score(128) - 0.25).abs() < 0.003);
    }

    #[test]
    fn still_clips_share_the_middle_of_their_ranks() {
        // Half of the clips stand still: ranks 0 to ½, whose middle is bucket 63.
        let moving = (1..=500).map(|i| i as f32);
        let law = flow_law(std::iter::repeat_n(0.0, 500).chain(moving)).unwrap();
        assert_eq!(law.bucket(0.0), 63);
        assert_eq!(law.score(0), 0.0);
        // What moves at all, however little, is in the upper half.
        assert!(law.bucket(1e-6) >= 127 && law.bucket(2.0) >= 128);
        assert_eq!(law.bucket(500.0), 255);
    }

    #[test]
    fn few_clips_and_scores_never_seen_have_buckets() {
        let one = flow_law([0.3]).unwrap();
        let found = [0.3, f32::NAN, 0.0, 9.0].map(|score| one.bucket(score));
        assert_eq!(found, [127, 0, 0, 255]);
        // Two values have the ranks ¼ and ¾: buckets up to 63 and from 192 on are their own.
        let two = flow_law([3.0, 1.0]).unwrap();
        assert_eq!(
            [0, 63, 192, 255].map(|b| two.score(b)),
            [1.0, 1.0, 3.0, 3.0]
        );
        assert!((two.score(127) - 2.0).abs() < 0.01 && (two.score(128) - 2.0).abs() < 0.01);
        let found = [0.0, 1.0, 3.0, f32::INFINITY].map(|score| two.bucket(score));
        assert_eq!(found, [0, 31, 223, 255]);
    }

    #[test]
    fn a_bucket_never_falls_and_comes_back() {
        let scores =
            (0..777).map(|i| ((i * 7919 % 777) as f32 / 100.0).floor() + (i % 3) as f32 * 0.1);
        let law = flow_law(scores).unwrap();
        let buckets: Vec<u8> = (0..2000).map(|i| law.bucket(i as f32 * 0.005)).collect();
        assert!(buckets.is_sorted());
        for bucket in 0..=255 {
            let back = law.bucket(law.score(bucket));
            assert_eq!(
                law.score(back),
                law.score(bucket),
                "the same score, if shared then its middle"
            );
        }
        let smooth = flow_law((0..1000).map(|i| i as f32)).unwrap();
        assert!((0..=255).all(|bucket| smooth.bucket(smooth.score(bucket)) == bucket));
    }

    #[test]
    fn survives_writing_to_the_bit_and_refuses_damage() {
        let law = flow_law((1..400).map(|i| 1.0 / i as f32)).unwrap();
        let text = serde_json::to_string(&law).unwrap();
        assert_eq!(serde_json::from_str::<MotionLaw>(&text).unwrap(), law);
        let other = MotionLaw::from_scores(MotionMeasure::FrameDifference, [1.0, 2.0]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(MotionLaw::of_folder(folder.path()).unwrap(), None);
        other.write(folder.path()).unwrap();
        assert_eq!(MotionLaw::of_folder(folder.path()).unwrap(), Some(other));
        let unnamed = text.replace("\"measure\":\"flow\",", "");
        assert_ne!(unnamed, text);
        assert_eq!(serde_json::from_str::<MotionLaw>(&unnamed).unwrap(), law);
        let damage = |from: &str, to: &str| {
            let damaged = text.replacen(from, to, 1);
            assert_ne!(damaged, text);
            serde_json::from_str::<MotionLaw>(&damaged)
                .unwrap_err()
                .to_string()
        };
        assert!(damage("\"motion_law\":1", "\"motion_law\":2").contains("version"));
        assert!(damage("[", "[9.5,").contains("257"));
        let first = format!("[{},", law.score(0));
        assert!(damage(&first, "[9.5,").contains("never fall"));
        assert!(damage(&first, "[-1.0,").contains("0 or more"));
    }

    #[test]
    fn refuses_no_scores_and_impossible_ones() {
        for scores in [vec![], vec![0.1, f32::NAN], vec![-0.1], vec![f32::INFINITY]] {
            assert!(flow_law(scores).is_err());
        }
    }
}
