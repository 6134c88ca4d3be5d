//! `kinora inspect`: what a file is, from what it says of itself.

use crate::Outcome;
use crate::args::InspectArgs;
use crate::progress::named;
use anyhow::Context as _;
use kinora_media::{Metadata, MotionLaw, read_metadata};
use kinora_model::weights::describe;
use kinora_train::checkpoint::{Standing, standing};
use serde_json::{Value, json};
use std::io::Write as _;

/// The motion buckets whose scores are told.
const LAW_BUCKETS: [u8; 3] = [0, 127, 255];

/// Endings of the videos `kinora generate` writes, beside folders of frames.
const VIDEO_ENDINGS: [&str; 5] = ["mp4", "webm", "gif", "png", "npy"];

/// Looks, and tells.
///
/// # Errors
/// When there is nothing at the path, or it is neither a model nor a video of ours.
pub fn run(args: &InspectArgs) -> anyhow::Result<Outcome> {
    let path = &args.path;
    std::fs::metadata(path).with_context(|| format!("{}", path.display()))?;
    let ending = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let is_video = VIDEO_ENDINGS.contains(&ending.as_str());
    if is_video || (path.is_dir() && path.join("frame_00000.png").exists()) {
        let metadata = read_metadata(path)?.with_context(|| {
            format!(
                "{}: says nothing of how it was made; kinora did not write it",
                path.display()
            )
        })?;
        return tell_video(args, metadata);
    }
    let training = standing(path)?;
    let model = match &training {
        Some(training) => training.model.as_path(),
        None => path,
    };
    let description = describe(model, None)?;
    let law = MotionLaw::of_folder(model)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let mut report = serde_json::to_value(&description)?;
        if let (Some(training), Some(report)) = (&training, report.as_object_mut()) {
            let facts = json!({ "kind": kind_of(training), "step": training.step });
            report.insert("training".into(), facts);
        }
        if let (Some(law), Some(report)) = (&law, report.as_object_mut()) {
            let scores = LAW_BUCKETS.map(|bucket| law.score(bucket));
            let facts = json!({
                "measure": law.measure(), "samples": law.samples(),
                "buckets": LAW_BUCKETS, "scores": scores,
            });
            report.insert("motion_law".into(), facts);
        }
        writeln!(out, "{report}")?;
        return Ok(Outcome::Done);
    }
    if let Some(training) = &training {
        let (kind, step) = (kind_of(training), training.step);
        let path = path.display();
        writeln!(out, "{path}: {kind}, at step {step}; its model:")?;
    }
    writeln!(out, "{description}")?;
    if let Some(law) = &law {
        writeln!(out, "{}", law_in_words(law))?;
    }
    Ok(Outcome::Done)
}

/// What the motion buckets of a model stand for.
fn law_in_words(law: &MotionLaw) -> String {
    let [still, middle, fast] = LAW_BUCKETS.map(|bucket| format!("{:.3}", law.score(bucket)));
    let (measure, samples) = (law.measure(), law.samples());
    format!(
        "  motion buckets by {measure} over {samples} clips: 0 is {still}, 127 is {middle}, 255 is {fast}"
    )
}

/// What a folder that `kinora train` wrote is called.
fn kind_of(standing: &Standing) -> &'static str {
    match standing.is_checkpoint {
        true => "checkpoint of a training run",
        false => "training run",
    }
}

fn tell_video(args: &InspectArgs, metadata: Metadata) -> anyhow::Result<Outcome> {
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(
            out,
            "{}",
            json!({ "path": named(&args.path), "kind": "video", "made_with": metadata })
        )?;
        return Ok(Outcome::Done);
    }
    writeln!(out, "{}: a video made with kinora", args.path.display())?;
    for (name, value) in &metadata {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        writeln!(out, "  {name:<16} {value}")?;
    }
    Ok(Outcome::Done)
}
