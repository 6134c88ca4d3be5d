//! `kinora inspect`: what a file is, from what it says of itself.

use crate::Outcome;
use crate::args::InspectArgs;
use anyhow::Context as _;
use kinora_media::{Metadata, read_metadata};
use kinora_model::weights::describe;
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
    let description = describe(path, None)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&description)?)?;
    } else {
        writeln!(out, "{description}")?;
    }
    Ok(Outcome::Done)
}

fn tell_video(args: &InspectArgs, metadata: Metadata) -> anyhow::Result<Outcome> {
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(
            out,
            "{}",
            json!({ "path": args.path, "kind": "video", "made_with": metadata })
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
