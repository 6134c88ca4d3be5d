//! Thresholds that decide what stays (paper, §3.3, App. E.2.2).
//!
//! A rule stands on one axis: a share of the clips or a value. Shares are measured on the unfiltered
//! set, each axis by itself, as in the paper's studies; so the rules do not depend on one another,
//! and a clip can fall to several. Nothing is deleted: what stays is a new table, and for each clip
//! that does not stay another table names every rule that took it out. Why these thresholds:
//! `docs/decisions/0006-filters.md`.

mod settings;
mod thresholds;

pub use settings::{Axis, FilterSettings, Missing, Rule};
pub use thresholds::{Cause, Threshold, Thresholds, Verdict};

use crate::Result;
use kinora_media::{ClipRow, DropRow, TableReader, TableWriter};
use serde::Serialize;
use std::path::Path;
use thresholds::Scores;

/// Thresholds and what they say of each clip, in the order of the clips.
#[derive(Clone, Debug)]
pub struct Filtered {
    /// The thresholds.
    pub thresholds: Thresholds,
    /// One for each clip.
    pub verdicts: Vec<Verdict>,
}

/// What a filter did to a table.
#[derive(Clone, Debug, Serialize)]
pub struct FilterSummary {
    /// What was asked.
    pub settings: FilterSettings,
    /// The thresholds that came of it, one for each axis.
    pub thresholds: Vec<Threshold>,
    /// Clips in the table.
    pub clips: u64,
    /// Clips that stay.
    pub kept: u64,
    /// For each cause that took a clip out: its name, the clips it was the first to take out, and
    /// all clips it would have taken out alone.
    pub causes: Vec<CauseCount>,
}

/// How many clips fell to a cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CauseCount {
    /// Its name, as in `dropped.parquet`.
    pub cause: String,
    /// Clips it was the first to take out.
    pub first: u64,
    /// Clips it would have taken out alone.
    pub all: u64,
}

/// Measures thresholds on clips and judges each of them.
///
/// # Errors
/// When the settings make no sense.
pub fn filter(clips: &[ClipRow], settings: &FilterSettings) -> Result<Filtered> {
    let thresholds = Thresholds::measure(settings, clips)?;
    let verdicts = clips.iter().map(|clip| thresholds.verdict(clip)).collect();
    Ok(Filtered {
        thresholds,
        verdicts,
    })
}

/// Filters a table of clips into `kept` (the clips that stay, all columns but the embeddings, which
/// are found by `clip_id` in the first table) and `dropped` (for each other clip the rules that took
/// it out), both in the order of the table. The table is read twice, once only in the columns that
/// the rules need; no more than a few numbers a clip are held. `each` sees every clip with its
/// verdict, for a report.
///
/// # Errors
/// When the settings make no sense, or a table cannot be read or written.
pub fn filter_table(
    clips: &Path,
    kept: &Path,
    dropped: &Path,
    settings: &FilterSettings,
    each: &mut dyn FnMut(&ClipRow, &Verdict),
) -> Result<FilterSummary> {
    settings.check()?;
    let mut scores = Scores::default();
    for row in TableReader::<ClipRow>::open_columns(clips, &Axis::columns())? {
        scores.add(&row?);
    }
    let thresholds = scores.thresholds(settings);
    let mut kept = TableWriter::create(kept)?;
    let mut dropped = TableWriter::create(dropped)?;
    let mut summary = FilterSummary::new(settings, &thresholds);
    let mut columns = TableReader::<ClipRow>::column_names();
    columns.retain(|name| *name != "embeddings");
    for row in TableReader::<ClipRow>::open_columns(clips, &columns)? {
        let row = row?;
        let verdict = thresholds.verdict(&row);
        summary.count(&verdict);
        each(&row, &verdict);
        match verdict.drop_row(&row.clip_id) {
            None => kept.push(row)?,
            Some(drop_row) => dropped.push(drop_row)?,
        }
    }
    kept.finish()?;
    dropped.finish()?;
    Ok(summary)
}

impl FilterSummary {
    fn new(settings: &FilterSettings, thresholds: &Thresholds) -> FilterSummary {
        FilterSummary {
            settings: settings.clone(),
            thresholds: thresholds.axes().to_vec(),
            clips: 0,
            kept: 0,
            causes: Vec::new(),
        }
    }

    fn count(&mut self, verdict: &Verdict) {
        self.clips += 1;
        self.kept += u64::from(verdict.keeps());
        for (place, cause) in verdict.causes().iter().enumerate() {
            let name = cause.name();
            let count = match self.causes.binary_search_by(|count| count.cause.cmp(&name)) {
                Ok(found) => &mut self.causes[found],
                Err(free) => {
                    let count = CauseCount {
                        cause: name,
                        first: 0,
                        all: 0,
                    };
                    self.causes.insert(free, count);
                    &mut self.causes[free]
                }
            };
            count.all += 1;
            count.first += u64::from(place == 0);
        }
    }
}

impl Verdict {
    /// The row of `dropped.parquet`; none for a clip that stays.
    #[must_use]
    pub fn drop_row(&self, clip_id: &str) -> Option<DropRow> {
        let names: Vec<String> = self.causes().iter().map(|cause| cause.name()).collect();
        Some(DropRow {
            clip_id: clip_id.to_owned(),
            rule: names.first()?.clone(),
            rules: names.join(","),
        })
    }
}

#[cfg(test)]
mod tests;
