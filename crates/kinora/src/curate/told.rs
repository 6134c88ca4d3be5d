//! What is told of a curation while it runs, and of its first part when that is done.

use crate::progress::{Reporter, Stage, round};
use kinora_curate::run::{Event, Ran};
use kinora_curate::sources::Slice;
use kinora_media::{SourceRow, Status};
use serde_json::json;
use std::io;
use std::time::Instant;

/// What has been told of the videos so far.
pub struct Told<'a> {
    reporter: &'a Reporter,
    stage: Option<Stage<'a>>,
    done: usize,
    frames: u64,
    began: Instant,
    closed: io::Result<()>,
}

impl<'a> Told<'a> {
    /// Nothing yet, of so many videos.
    pub fn new(reporter: &'a Reporter, videos: usize) -> Told<'a> {
        Told {
            reporter,
            stage: Some(reporter.stage("videos", videos)),
            done: 0,
            frames: 0,
            began: Instant::now(),
            closed: Ok(()),
        }
    }

    /// Tells an event. The run is not stopped by a closed output; the first such error is kept.
    pub fn take(&mut self, event: Event) {
        let told = match event {
            Event::Frames(count) => {
                self.frames += count;
                self.note();
                Ok(())
            }
            Event::Done { source, reused } => self.source(&source, reused),
        };
        if self.closed.is_ok() {
            self.closed = told;
        }
    }

    fn note(&self) {
        if let Some(stage) = &self.stage {
            let rate = self.frames as f64 / self.began.elapsed().as_secs_f64().max(1e-3);
            stage.note(format!("{rate:.0} frames/s"));
        }
    }

    fn source(&mut self, row: &SourceRow, reused: bool) -> io::Result<()> {
        self.done += 1;
        let Some(stage) = &self.stage else {
            return Ok(());
        };
        let text = match (&row.status, &row.reason) {
            (Status::Ok, _) => String::new(),
            (status, reason) => format!(
                "{}: {}{}",
                row.source,
                if *status == Status::Failed {
                    ""
                } else {
                    "in part: "
                },
                reason.as_deref().unwrap_or("no reason was given")
            ),
        };
        let fields = json!({
            "source": row.source, "status": row.status, "reason": row.reason,
            "frames": row.frames, "cuts": row.cuts, "clips": row.clips, "reused": reused,
        });
        let bar = Some(stage.bar());
        self.reporter.tell_beside(&bar, "source", &text, fields)?;
        stage.at(self.done)
    }

    /// The videos are over.
    ///
    /// # Errors
    /// When standard output was closed on the way.
    pub fn end(mut self) -> io::Result<()> {
        if let Some(stage) = self.stage.take() {
            stage.finish()?;
        }
        self.closed
    }
}

/// Tells what became of the videos of a slice.
///
/// # Errors
/// When standard output is closed.
pub fn annotated(reporter: &Reporter, ran: &Ran, slice: Slice) -> io::Result<()> {
    let of_slice = if slice == Slice::WHOLE {
        String::new()
    } else {
        format!(" of slice {slice}")
    };
    let text = format!(
        "{} videos{of_slice}: {} clips; {} done before, {} in part, {} failed",
        ran.inputs, ran.clips, ran.reused, ran.partial, ran.failed
    );
    let fields = json!({
        "slice": slice.to_string(), "videos": ran.inputs, "clips": ran.clips, "reused": ran.reused,
        "partial": ran.partial, "failed": ran.failed, "elapsed_s": round(reporter.elapsed_s()),
    });
    reporter.tell("annotated", &text, fields)
}
