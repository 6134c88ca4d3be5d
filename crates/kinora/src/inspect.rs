//! `kinora inspect`: what a file is, from what it says of itself.

use crate::Outcome;
use crate::args::InspectArgs;
use crate::progress::named;
use anyhow::{Context as _, bail};
use kinora_media::{Metadata, read_metadata};
use kinora_model::weights::describe;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};

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
    let training = training(path)?;
    let model = match &training {
        Some(training) => training.model.as_path(),
        None => path,
    };
    let description = describe(model, None)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let mut report = serde_json::to_value(&description)?;
        if let (Some(training), Some(report)) = (&training, report.as_object_mut()) {
            let facts = json!({ "kind": training.kind, "step": training.step });
            report.insert("training".into(), facts);
        }
        writeln!(out, "{report}")?;
        return Ok(Outcome::Done);
    }
    if let Some(Training { kind, step, .. }) = &training {
        writeln!(
            out,
            "{}: {kind}, at step {step}; its model:",
            path.display()
        )?;
    }
    writeln!(out, "{description}")?;
    Ok(Outcome::Done)
}

/// What a folder that `kinora train` wrote says of itself.
struct Training {
    kind: &'static str,
    step: u64,
    /// The model that stands for it.
    model: PathBuf,
}

/// Whether a folder is a run, or a checkpoint of one.
fn training(path: &Path) -> anyhow::Result<Option<Training>> {
    if !path.join("config.toml").is_file() {
        return Ok(None);
    }
    if path.join("state.json").is_file() {
        return Ok(Some(Training {
            kind: "checkpoint of a training run",
            step: step_of(path)?,
            model: path.join("model"),
        }));
    }
    // The names of checkpoints sort by their steps.
    let mut checkpoints: Vec<PathBuf> = match std::fs::read_dir(path.join("checkpoints")) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => Vec::new(),
    };
    checkpoints.retain(|path| path.join("state.json").is_file() && path.extension().is_none());
    checkpoints.sort();
    let Some(last) = checkpoints.last() else {
        bail!(
            "{}: a training run without a checkpoint yet; `kinora train` goes on with it",
            path.display()
        );
    };
    let finished = path.join("model");
    Ok(Some(Training {
        kind: "training run",
        step: step_of(last)?,
        model: match finished.is_dir() {
            true => finished,
            false => last.join("model"),
        },
    }))
}

fn step_of(checkpoint: &Path) -> anyhow::Result<u64> {
    let path = checkpoint.join("state.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let state: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let step = state["step"].as_u64();
    step.with_context(|| format!("{}: expected a number `step`, found none", path.display()))
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
