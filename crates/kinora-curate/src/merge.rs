//! The results of all inputs become the published tables, when every input has its result.

use crate::annotate::Annotation;
use crate::cache::write_whole;
use crate::cost::Costs;
use crate::ledger::Ledger;
use crate::makers::Makers;
use crate::{Error, Result};
use kinora_media::{ClipRow, CutRow, MotionLaw, MotionMeasure, SourceRow, Status, TableWriter};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

/// Inputs without a result that an error names.
const NAMED: usize = 5;

/// What was published.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// Inputs.
    pub sources: u64,
    /// Those of which nothing could be made.
    pub failed: u64,
    /// Those of which not all could be made that was asked for.
    pub partial: u64,
    /// Inputs whose bytes another input has, too.
    pub duplicates: u64,
    /// Cuts found.
    pub cuts: u64,
    /// Clips.
    pub clips: u64,
    /// Their length in all.
    pub clips_s: f64,
    /// Clips that have a value, by column.
    pub filled: BTreeMap<&'static str, u64>,
    /// Inputs by the reason why they, or a part of them, failed.
    pub reasons: BTreeMap<String, u64>,
    /// What the steps have cost, over all runs.
    pub costs: Costs,
}

/// Checks that every input has one result, made with the settings of the ledger, and publishes
/// `clips.parquet`, `cuts.parquet`, `sources.parquet`, the law that gives each motion score its
/// bucket (`motion_law.json`) and `costs.json`, each whole or not at all.
///
/// Rows stand in the order of the inputs' names. Of inputs with the same bytes the first has the
/// clips. Results are read twice and held one at a time.
///
/// # Errors
/// When a result is missing or was made with other settings (the text says what to run), or a file
/// cannot be read or written.
pub fn merge(ledger: &Ledger) -> Result<Merged> {
    let (names, makers) = (ledger.inputs()?, ledger.makers()?);
    let survey = survey(ledger, &names, &makers)?;
    let law = match survey.scores.is_empty() {
        true => None,
        false => {
            let scores = survey.scores.iter().copied();
            Some(MotionLaw::from_scores(MotionMeasure::Flow, scores)?)
        }
    };
    let folder = ledger.folder();
    let mut tables = Tables::create(folder)?;
    let mut merged = Merged::default();
    for name in &names {
        let mut result = expect_result(ledger, name)?;
        if let Some(first) = survey.duplicate_of(&result.source) {
            merged.duplicates += 1;
            set_aside(&mut result, first);
        }
        for clip in &mut result.clips {
            let bucket = |score| law.as_ref().map(|law| law.bucket(score));
            clip.motion_bucket = clip.motion_score.and_then(bucket);
        }
        merged.count(&result);
        merged.costs.add_all(&ledger.costs(name)?);
        tables.push(result)?;
    }
    write_law(&folder.join("motion_law.json"), law.as_ref())?;
    tables.finish()?;
    let costs = serde_json::to_vec_pretty(&merged.costs).expect("costs have a JSON form");
    write_whole(&folder.join("costs.json"), &costs)?;
    ledger.sweep()?;
    Ok(merged)
}

/// What has to be known of all results before a row can be written.
struct Survey {
    /// Every motion score of a clip that is counted.
    scores: Vec<f32>,
    /// The first input with these bytes.
    first: BTreeMap<String, String>,
}

impl Survey {
    /// The earlier input with the same bytes, if there is one.
    fn duplicate_of(&self, source: &SourceRow) -> Option<&str> {
        let first = self.first.get(&source.content)?;
        (*first != source.source).then_some(first)
    }
}

fn survey(ledger: &Ledger, names: &[String], makers: &Makers) -> Result<Survey> {
    let (mut scores, mut first) = (Vec::new(), BTreeMap::new());
    let mut undone = Vec::new();
    for name in names {
        match ledger.result(name)? {
            Some(result) if result.stamp == makers.stamp(&result.source.content) => {
                // A video that could not be read has no bytes to compare.
                let counted = result.source.content.is_empty()
                    || match first.entry(result.source.content.clone()) {
                        Entry::Occupied(_) => false,
                        Entry::Vacant(place) => {
                            place.insert(name.clone());
                            true
                        }
                    };
                if counted {
                    scores.extend(result.clips.iter().filter_map(|clip| clip.motion_score));
                }
            }
            _ => undone.push(name.as_str()),
        }
    }
    if undone.is_empty() {
        return Ok(Survey { scores, first });
    }
    let dots = if undone.len() > NAMED { ", …" } else { "" };
    Err(Error::Setting(format!(
        "{}: expected a result for each of {} inputs, {} have none that was made with the settings of this folder: {}{dots}; run their slices (`kinora curate … --shard i/n`) or the whole again",
        ledger.folder().display(),
        names.len(),
        undone.len(),
        undone[..undone.len().min(NAMED)].join(", "),
    )))
}

fn expect_result(ledger: &Ledger, name: &str) -> Result<Annotation> {
    ledger.result(name)?.ok_or_else(|| {
        Error::Setting(format!(
            "{name}: its result went away while the tables were written; run merge again"
        ))
    })
}

/// Leaves the clips to an earlier input with the same bytes.
fn set_aside(result: &mut Annotation, first: &str) {
    result.clips.clear();
    result.source.clips = 0;
    if result.source.status == Status::Ok {
        result.source.reason = Some(format!("the same bytes as {first}, which has the clips"));
    }
}

fn write_law(path: &Path, law: Option<&MotionLaw>) -> Result<()> {
    match law {
        Some(law) => {
            let text = serde_json::to_vec_pretty(law).expect("a law has a JSON form");
            write_whole(path, &text)
        }
        None if path.exists() => std::fs::remove_file(path).map_err(Error::file(path)),
        None => Ok(()),
    }
}

/// The three tables on their way to their names.
struct Tables {
    clips: TableWriter<ClipRow>,
    cuts: TableWriter<CutRow>,
    sources: TableWriter<SourceRow>,
}

impl Tables {
    fn create(folder: &Path) -> Result<Tables> {
        Ok(Tables {
            clips: TableWriter::create(&folder.join("clips.parquet"))?,
            cuts: TableWriter::create(&folder.join("cuts.parquet"))?,
            sources: TableWriter::create(&folder.join("sources.parquet"))?,
        })
    }

    fn push(&mut self, result: Annotation) -> Result<()> {
        for clip in result.clips {
            self.clips.push(clip)?;
        }
        for cut in result.cuts {
            self.cuts.push(cut)?;
        }
        Ok(self.sources.push(result.source)?)
    }

    fn finish(self) -> Result<()> {
        self.sources.finish()?;
        self.cuts.finish()?;
        self.clips.finish()?;
        Ok(())
    }
}

impl Merged {
    fn count(&mut self, result: &Annotation) {
        let source = &result.source;
        self.sources += 1;
        self.failed += u64::from(source.status == Status::Failed);
        self.partial += u64::from(source.status == Status::Partial);
        if let (Status::Failed | Status::Partial, Some(reason)) = (source.status, &source.reason) {
            *self.reasons.entry(reason.clone()).or_default() += 1;
        }
        self.cuts += result.cuts.len() as u64;
        self.clips += result.clips.len() as u64;
        for clip in &result.clips {
            self.clips_s += clip.end_s - clip.start_s;
            for (column, filled) in [
                ("file", clip.file.is_some()),
                ("motion_score", clip.motion_score.is_some()),
                ("text_area", clip.text_area.is_some()),
                ("embeddings", clip.embeddings.is_some()),
                ("clip_similarity", clip.clip_similarity.is_some()),
                ("aesthetic", clip.aesthetic.is_some()),
                ("caption_image", clip.caption_image.is_some()),
                ("caption_video", clip.caption_video.is_some()),
                ("caption_merged", clip.caption_merged.is_some()),
            ] {
                *self.filled.entry(column).or_default() += u64::from(filled);
            }
        }
    }
}
