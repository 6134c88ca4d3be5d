//! `kinora inspect`: what a file is, from what it says of itself.

use crate::Outcome;
use crate::args::InspectArgs;
use crate::progress::named;
use anyhow::Context as _;
use kinora_media::{Metadata, read_metadata};
use kinora_model::weights::describe;
use kinora_train::checkpoint::{Standing, standing};
use serde_json::{Value, json};
use std::io::Write as _;

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
    let mut out = std::io::stdout().lock();
    if args.json {
        let mut report = serde_json::to_value(&description)?;
        if let (Some(training), Some(report)) = (&training, report.as_object_mut()) {
            let facts = json!({ "kind": kind_of(training), "step": training.step });
            report.insert("training".into(), facts);
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
    Ok(Outcome::Done)
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
