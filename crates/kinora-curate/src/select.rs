//! From the published tables to what is trained on: thresholds, shards, and a report of it all.

use crate::cache::write_whole;
use crate::config::{Config, Shards, WebdatasetSettings};
use crate::cost::Costs;
use crate::filter::{FilterSummary, filter_table};
use crate::latents::Encoder;
use crate::report::{Report, StepCost, Tally, report_html};
use crate::{Error, Result};
use kinora_media::{
    CaptionWeights, ClipLatents, ClipRow, MotionLaw, ReadOptions, Reader, Rgb8Image, ShardClip,
    ShardSummary, ShardWriter, SourceRow, TableReader, probe,
};
use std::path::{Path, PathBuf};

/// The steps in the order in which they are done, as a report lists them.
const STEPS: [&str; 9] = [
    "ingest", "decode", "cuts", "motion", "clips", "frames", "text", "clip", "captions",
];

/// Longer side of a picture in the report.
const THUMBNAIL_WIDTH: usize = 320;

/// Writes `kept.parquet`, `dropped.parquet` and `filter.json` from `clips.parquet`; nothing is
/// deleted. Gives back what a report needs, too.
///
/// # Errors
/// When there is no table of clips, the settings make no sense, or a file cannot be written.
pub fn filter_clips(folder: &Path, config: &Config) -> Result<(FilterSummary, Tally)> {
    let clips = folder.join("clips.parquet");
    if !clips.exists() {
        return Err(Error::Setting(format!(
            "{}: not found; run `kinora curate merge {}` once all videos are done",
            clips.display(),
            folder.display()
        )));
    }
    let mut tally = Tally::default();
    let summary = filter_table(
        &clips,
        &folder.join("kept.parquet"),
        &folder.join("dropped.parquet"),
        &config.filter,
        &mut |clip, verdict| tally.add(clip, verdict),
    )?;
    tally.set_thresholds(&summary.thresholds);
    let text = serde_json::to_vec_pretty(&summary).expect("a summary has a JSON form");
    write_whole(&folder.join("filter.json"), &text)?;
    Ok((summary, tally))
}

/// Writes the clips of `kept.parquet` that have a file to shards in `shards/`; none where the
/// configuration wants none.
///
/// # Errors
/// When there is no table of kept clips, or a file cannot be read or written.
pub fn write_shards(folder: &Path, config: &Config) -> Result<Option<ShardSummary>> {
    match &config.shards {
        Shards::None {} => Ok(None),
        Shards::Webdataset(settings) => shard(folder, settings, &config.filter.captions).map(Some),
    }
}

fn shard(
    folder: &Path,
    settings: &WebdatasetSettings,
    weights: &CaptionWeights,
) -> Result<ShardSummary> {
    let kept = TableReader::<ClipRow>::open(&folder.join("kept.parquet"))?;
    // The table has no embeddings, so that a million clips are some hundred megabytes.
    let mut clips = kept.collect::<kinora_media::Result<Vec<ClipRow>>>()?;
    clips.retain(|clip| clip.file.is_some());
    clips.sort_by(|a, b| a.clip_id.cmp(&b.clip_id));
    let place = folder.join("shards");
    let mut writer = ShardWriter::create(&place, &settings.options(), weights)?;
    if let Some(law) = MotionLaw::of_folder(folder)? {
        writer.put_motion_law(&law)?;
    }
    let latents = settings.latents.as_ref();
    let encoder = latents
        .map(|latents| Encoder::open(latents, &place))
        .transpose()?;
    if let Some(encoder) = &encoder {
        writer.put_latent_recipe(encoder.recipe())?;
    }
    for row in &clips {
        let file = row
            .file
            .as_ref()
            .expect("those without a file were left out");
        let media = folder.join(file);
        let encoded = match &encoder {
            Some(encoder) => encoder.latents(row, &media)?,
            None => None,
        };
        let latents = encoded.as_deref();
        writer.push(&ShardClip {
            row,
            media: &media,
            latents: latents.map(|bytes| (ClipLatents::ENDING, bytes)),
        })?;
    }
    Ok(writer.finish()?)
}

/// Writes `report.html`.
///
/// # Errors
/// When a table cannot be read or the page not be written.
pub fn write_report(folder: &Path, title: &str, tally: &mut Tally) -> Result<PathBuf> {
    for source in TableReader::<SourceRow>::open(&folder.join("sources.parquet"))? {
        tally.add_source(&source?);
    }
    let costs = read_costs(&folder.join("costs.json"))?;
    let decode = costs.steps.get("decode").map(|cost| cost.cpu_s());
    let rows: Vec<StepCost> = STEPS
        .iter()
        .filter_map(|step| {
            let cost = costs.steps.get(*step)?;
            Some(StepCost {
                step: (*step).to_owned(),
                items: cost.items,
                cpu_s: cost.cpu_s(),
                wall_s: cost.wall_s,
            })
        })
        .collect();
    let page = report_html(&Report {
        title,
        tally,
        costs: &rows,
        decode_cpu_s: decode,
        thumbnail: &|id| thumbnail(folder, id),
    });
    let place = folder.join("report.html");
    write_whole(&place, page.as_bytes())?;
    Ok(place)
}

fn read_costs(path: &Path) -> Result<Costs> {
    let bytes = std::fs::read(path).map_err(Error::file(path))?;
    serde_json::from_slice(&bytes).map_err(|failure| {
        Error::Setting(format!(
            "{}: damaged ({failure}); run `kinora curate merge` again",
            path.display()
        ))
    })
}

/// The frame in the middle of a clip; none where it has no file, or its file cannot be read.
fn thumbnail(folder: &Path, id: &str) -> Option<Rgb8Image> {
    let place = folder.join("clips").join(id.get(..2)?);
    let path = ["mp4", "webm", "mkv"]
        .iter()
        .map(|ending| place.join(format!("{id}.{ending}")))
        .find(|path| path.exists())?;
    let info = probe(&path).ok()?;
    let height = (info.height * THUMBNAIL_WIDTH).div_ceil(info.width.max(1));
    let options = ReadOptions {
        size: Some((THUMBNAIL_WIDTH, height.max(1))),
        start_secs: info.duration_secs.unwrap_or(0.0) / 2.0,
        threads: 1,
        ..ReadOptions::default()
    };
    let mut frames = Reader::open_probed(&path, info, &options).ok()?;
    Some(frames.next()?.ok()?.picture)
}
