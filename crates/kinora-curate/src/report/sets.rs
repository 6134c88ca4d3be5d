//! The paper's Table 1: a set of clips before and after filtering.

use super::SetTally;
use super::words::{count, duration, significant};

/// Its rows: name, before, after.
pub(super) fn set_rows(before: &SetTally, after: &SetTally) -> Vec<[String; 3]> {
    let row = |name: &str, value: &dyn Fn(&SetTally) -> String| {
        [name.to_owned(), value(before), value(after)]
    };
    let mean = |set: &SetTally, value: f64, unit: &str| {
        if set.clips == 0 {
            "–".to_owned()
        } else {
            format!("{}{unit}", significant(value, 4))
        }
    };
    vec![
        row("clips", &|set| count(set.clips)),
        row("mean clip duration", &|set| {
            mean(set, set.mean_seconds(), " s")
        }),
        row("total duration", &|set| duration(set.seconds)),
        row("mean frames", &|set| mean(set, set.mean_frames(), "")),
        row("mean clips per video", &|set| {
            mean(set, set.clips_per_video(), "")
        }),
        row("videos", &|set| count(set.videos.len() as u64)),
    ]
}
