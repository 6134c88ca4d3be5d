//! What long work shows of itself: a bar with rate and time left on a terminal, JSON lines where
//! they were asked for, a plain line a stage otherwise.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::Path;
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
        Reporter {
            manner,
            started: Instant::now(),
        }
    }

    /// Seconds since the verb began.
    pub fn elapsed_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Tells one fact: `text` to people, `event` with `fields` to machines. Long work goes on when
    /// nobody reads any more.
    ///
    /// # Errors
    /// When standard output cannot be written for another reason than a reader who left.
    pub fn tell(&self, event: &str, text: &str, fields: Value) -> std::io::Result<()> {
        self.tell_beside(&None, event, text, fields)
    }

    /// Tells one fact above a bar that goes on.
    ///
    /// # Errors
    /// As [`Reporter::tell`].
    pub fn tell_beside(
        &self,
        bar: &Option<ProgressBar>,
        event: &str,
        text: &str,
        fields: Value,
    ) -> std::io::Result<()> {
        if self.manner == Manner::Json {
            let mut line = json!({ "event": event, "elapsed_s": round(self.elapsed_s()) });
            if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
                line.extend(fields);
            }
            let mut out = std::io::stdout().lock();
            let written = writeln!(out, "{line}").and_then(|()| out.flush());
            return match written {
                Err(failure) if failure.kind() != ErrorKind::BrokenPipe => {
                    let words = format!("could not write to standard output: {failure}");
                    Err(std::io::Error::new(failure.kind(), words))
                }
                _ => Ok(()),
            };
        }
        match bar {
            _ if text.is_empty() => {}
            Some(bar) if self.manner == Manner::Bars => bar.println(text),
            // `eprintln` would end the work with a panic where standard error is closed.
            _ => drop(writeln!(std::io::stderr(), "{text}")),
        }
        Ok(())
    }

    /// A stage of `total` equal parts.
    pub fn stage(&self, name: &'static str, total: usize) -> Stage<'_> {
        self.stage_from(name, 0, total)
    }

    /// A stage of `total` equal parts of which `done` were done before; they do not count for the
    /// rate.
    pub fn stage_from(&self, name: &'static str, done: usize, total: usize) -> Stage<'_> {
        let bar = match self.manner {
            Manner::Bars => ProgressBar::new(total as u64)
                .with_style(bar_style())
                .with_prefix(name)
                .with_position(done as u64),
            _ => ProgressBar::hidden(),
        };
        bar.reset_eta();
        Stage {
            reporter: self,
            name,
            before: done,
            total,
            bar,
            started: Instant::now(),
        }
    }
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{prefix:>12} {wide_bar} {pos}/{len}  {per_sec}  {elapsed} gone, {eta} left  {msg}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// One stage of long work.
pub struct Stage<'a> {
    reporter: &'a Reporter,
    name: &'static str,
    before: usize,
    total: usize,
    bar: ProgressBar,
    started: Instant,
}

impl Stage<'_> {
    /// `done` parts are done.
    ///
    /// # Errors
    /// As [`Reporter::tell`].
    pub fn at(&self, done: usize) -> std::io::Result<()> {
        self.bar.set_position(done as u64);
        if self.reporter.manner != Manner::Json {
            return Ok(());
        }
        let spent_s = self.started.elapsed().as_secs_f64();
        let rate = done.saturating_sub(self.before).max(1) as f64 / spent_s.max(1e-9);
        let left_s = self.total.saturating_sub(done) as f64 / rate;
        let fields = json!({
            "stage": self.name, "done": done, "total": self.total, "left_s": round(left_s),
        });
        self.reporter.tell("progress", "", fields)
    }

    /// A few words at the end of the bar.
    pub fn note(&self, words: String) {
        self.bar.set_message(words);
    }

    /// The bar, for telling facts above it.
    pub fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// The stage is over, and there is nothing to tell of it.
    pub fn dismiss(self) {
        self.bar.finish_and_clear();
    }

    /// The stage is over.
    ///
    /// # Errors
    /// As [`Reporter::tell`].
    pub fn finish(self) -> std::io::Result<()> {
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f64();
        let text = format!("{:>12}  {seconds:.1} s", self.name);
        self.reporter.tell(
            "stage",
            &text,
            json!({ "stage": self.name, "seconds": round(seconds) }),
        )
    }
}

/// Milliseconds are enough for a report.
pub fn round(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

/// A path as a report names it: JSON has no room for bytes that are no text.
pub fn named(path: &Path) -> String {
    path.display().to_string()
}
