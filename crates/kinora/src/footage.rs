//! `kinora footage`: videos of our own to train on, and a scene that none of them holds.

use crate::Outcome;
use crate::args::FootageArgs;
use crate::interrupt::Interrupt;
use crate::progress::{Manner, Reporter, named};
use anyhow::{Context as _, bail};
use kinora_media::{FootageOptions, Fps, Metadata, Subject, Writer, render_footage};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Renders.
///
/// # Errors
/// When an option makes no sense, ffmpeg is missing, or a file cannot be written.
pub fn run(args: &FootageArgs) -> anyhow::Result<Outcome> {
    let reporter = Reporter::new(Manner::choose(args.json));
    Interrupt::at_once()?;
    let options = FootageOptions {
        videos: args.videos,
        seed: args.seed,
        width: args.width,
        height: args.height,
        edited: args.edited,
        ..FootageOptions::default()
    };
    if args.videos > 0 {
        let stage = reporter.stage("footage", args.videos);
        let mut closed = Ok(());
        let paths = render_footage(&args.out, &options, &mut |done, _| {
            if closed.is_ok() {
                closed = stage.at(done);
            }
        })?;
        closed?;
        stage.finish()?;
        let text = format!("{} videos in {}", paths.len(), args.out.display());
        reporter.tell(
            "footage",
            &text,
            json!({ "videos": paths.len(), "folder": named(&args.out) }),
        )?;
    }
    if let Some(still) = &args.held_out {
        let truth = render_held_out(still, args, &options)?;
        let text = format!(
            "{} and its continuation {}",
            still.display(),
            truth.display()
        );
        reporter.tell(
            "held_out",
            &text,
            json!({ "still": named(still), "continuation": named(&truth) }),
        )?;
    }
    Ok(Outcome::Done)
}

/// Writes a scene's first frame as a picture, and all its frames as a folder beside it.
fn render_held_out(
    still: &Path,
    args: &FootageArgs,
    options: &FootageOptions,
) -> anyhow::Result<PathBuf> {
    let Some(subject) = Subject::ALL.into_iter().find(|s| s.name() == args.subject) else {
        let names: Vec<_> = Subject::ALL.iter().map(|subject| subject.name()).collect();
        bail!(
            "--subject: expected one of {}, found {}",
            names.join(", "),
            args.subject
        );
    };
    let fps = Fps::whole(args.held_out_fps).context("--held-out-fps: expected at least 1")?;
    let options = FootageOptions {
        fps,
        ..options.clone()
    };
    let frames = kinora_media::render_held_out_shot(
        subject,
        args.held_out_index,
        args.held_out_frames,
        &options,
    )?;
    let first = frames
        .first()
        .context("--held-out-frames: expected at least 1")?;
    first.save(still)?;
    let truth = still.with_extension("");
    let truth = truth.with_file_name(format!(
        "{}_continued",
        truth.file_name().unwrap_or_default().to_string_lossy()
    ));
    let metadata = Metadata::from_iter([
        ("made_by".to_owned(), json!("kinora footage")),
        ("subject".to_owned(), json!(subject.name())),
    ]);
    let mut writer = Writer::create(&truth, first.width(), first.height(), fps, &metadata)?;
    for frame in &frames {
        writer.push(frame)?;
    }
    writer.finish()?;
    Ok(truth)
}
