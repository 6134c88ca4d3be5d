//! What long work shows of itself: a bar with rate and time left on a terminal, JSON lines where
//! they were asked for, a plain line a stage otherwise.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// Where reports go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// JSON lines on standard output.
    Json,
    /// Bars on the terminal.
    Bars,
    /// A line a stage on standard error.
    Lines,
}

impl Manner {
    /// JSON where asked for, bars where someone is looking, lines otherwise.
    pub fn choose(json: bool) -> Self {
        match (json, std::io::stderr().is_terminal()) {
            (true, _) => Manner::Json,
            (false, true) => Manner::Bars,
            (false, false) => Manner::Lines,
        }
    }
}

/// Reports of one run of a verb.
pub struct Reporter {
    manner: Manner,
    started: Instant,
}

impl Reporter {
    /// A reporter in the given manner.
    pub fn new(manner: Manner) -> Self {
        Reporter { manner, started: Instant::now() }
    }

    /// Seconds since the verb began.
    pub fn elapsed_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Tells one fact: `text` to people, `event` with `fields` to machines.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn tell(&self, event: &str, text: &str, fields: Value) -> std::io::Result<()> {
        if self.manner == Manner::Json {
            let mut line = json!({ "event": event, "elapsed_s": round(self.elapsed_s()) });
            if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
                line.extend(fields);
            }
            return writeln!(std::io::stdout(), "{line}");
        }
        if !text.is_empty() {
            eprintln!("{text}");
        }
        Ok(())
    }

    /// A stage of `total` equal parts.
    pub fn stage(&self, name: &'static str, total: usize) -> Stage<'_> {
        let bar = match self.manner {
            Manner::Bars => ProgressBar::new(total as u64).with_style(bar_style()).with_message(name),
            _ => ProgressBar::hidden(),
        };
        Stage { reporter: self, name, total, bar, started: Instant::now() }
    }
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{msg:>12} {wide_bar} {pos}/{len} · {elapsed} · {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// One stage of long work.
pub struct Stage<'a> {
    reporter: &'a Reporter,
    name: &'static str,
    total: usize,
    bar: ProgressBar,
    started: Instant,
}

impl Stage<'_> {
    /// `done` parts are done.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn at(&self, done: usize) -> std::io::Result<()> {
        self.bar.set_position(done as u64);
        if self.reporter.manner != Manner::Json {
            return Ok(());
        }
        let spent_s = self.started.elapsed().as_secs_f64();
        let left_s = spent_s / done.max(1) as f64 * self.total.saturating_sub(done) as f64;
        let fields = json!({
            "stage": self.name, "done": done, "total": self.total, "left_s": round(left_s),
        });
        self.reporter.tell("progress", "", fields)
    }

    /// The stage is over.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn finish(self) -> std::io::Result<()> {
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f64();
        let text = format!("{:>12}  {seconds:.1} s", self.name);
        self.reporter.tell("stage", &text, json!({ "stage": self.name, "seconds": round(seconds) }))
    }
}

/// Milliseconds are enough for a report.
pub fn round(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}
