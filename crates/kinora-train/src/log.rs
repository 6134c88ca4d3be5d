//! The log of a run: one JSON object a line, which survives being killed and has no step twice.

use crate::{Error, Result};
use kinora_media::{Chart, Series, line_chart};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// One line: the state of the run over the steps since the line before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The step it was written after, counted from 1.
    pub step: u64,
    /// The mean loss of those steps.
    pub loss: f64,
    /// The learning rate of the last of them.
    pub learning_rate: f64,
    /// The mean length of their gradients, before clipping.
    pub gradient_norm: f64,
    /// Clips trained on each second.
    pub clips_per_sec: f64,
    /// Seconds of training behind the run, stops not counted.
    pub elapsed_secs: f64,
}

/// A log open for writing.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    lines: Vec<Line>,
}

impl Log {
    /// Opens the log of a run that stands at `step`: lines of later steps, which a run killed after
    /// its last checkpoint leaves behind, are dropped, and so is a last line cut off in writing.
    ///
    /// # Errors
    /// When the file cannot be read or written, or a line that is not the last is no log line.
    pub fn open(path: &Path, step: u64) -> Result<Log> {
        let mut lines = if path.exists() {
            Log::read(path)?
        } else {
            Vec::new()
        };
        lines.retain(|line| line.step <= step);
        // The cleaned log takes the old one's place in one move: being killed here loses nothing.
        let beside = path.with_extension("jsonl.tmp");
        let mut text = String::new();
        lines.iter().for_each(|line| text.push_str(&written(line)));
        std::fs::write(&beside, text).map_err(Error::io("write", &beside))?;
        std::fs::rename(&beside, path).map_err(Error::io("replace", path))?;
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(Error::io("open", path))?;
        Ok(Log {
            path: path.to_path_buf(),
            file,
            lines,
        })
    }

    /// The lines of a log. A last line without its newline was cut off in writing and is left out.
    ///
    /// # Errors
    /// When the file cannot be read, or a whole line is no log line.
    pub fn read(path: &Path) -> Result<Vec<Line>> {
        let text = std::fs::read(path).map_err(Error::io("read", path))?;
        let text = String::from_utf8_lossy(&text);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |(k, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| {
                Error::data(
                    path,
                    format!(
                        "line {} is no log line ({error}); move the file away to begin a new one",
                        k + 1
                    ),
                )
            })
        };
        whole.lines().enumerate().map(parse).collect()
    }

    /// Adds a line, in one write.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, line: Line) -> Result<()> {
        self.file
            .write_all(written(&line).as_bytes())
            .map_err(Error::io("write", &self.path))?;
        self.lines.push(line);
        Ok(())
    }

    /// Draws the loss of every line so far; nothing where there is none yet.
    ///
    /// # Errors
    /// When the picture cannot be written.
    pub fn draw(&self, picture: &Path) -> Result<()> {
        let points: Vec<(f64, f64)> = self
            .lines
            .iter()
            .map(|line| (line.step as f64, line.loss))
            .collect();
        if points.is_empty() {
            return Ok(());
        }
        let series = [Series {
            name: "loss",
            points: &points,
        }];
        let chart = Chart {
            title: "Training loss",
            x_label: "step",
            y_label: "loss",
            log_y: true,
            series: &series,
        };
        Ok(line_chart(picture, &chart)?)
    }

    /// Every line so far.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}

fn written(line: &Line) -> String {
    let text = serde_json::to_string(line).expect("numbers have a JSON form");
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64) -> Line {
        Line {
            step,
            loss: 1.0 / step as f64,
            learning_rate: 1e-3,
            gradient_norm: 0.5,
            clips_per_sec: 8.0,
            elapsed_secs: step as f64,
        }
    }

    fn steps(log: &Log) -> Vec<u64> {
        log.lines().iter().map(|line| line.step).collect()
    }

    #[test]
    fn a_killed_run_leaves_no_step_twice() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.jsonl");
        let mut log = Log::open(&path, 0)?;
        for step in [10, 20, 30, 40] {
            log.add(line(step))?;
        }
        drop(log);
        // Killed in the middle of writing a line, with the last checkpoint at step 25.
        let mut text = std::fs::read_to_string(&path).expect("the log");
        text.push_str("{\"step\":50,\"lo");
        std::fs::write(&path, text).expect("the cut log");
        let mut log = Log::open(&path, 25)?;
        assert_eq!(steps(&log), [10, 20]);
        log.add(line(30))?;
        assert_eq!(Log::read(&path)?, [line(10), line(20), line(30)]);
        Ok(())
    }

    #[test]
    fn numbers_come_back_exactly() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.jsonl");
        let odd = Line {
            loss: 0.1 + 0.2,
            clips_per_sec: 1.0 / 3.0,
            ..line(7)
        };
        Log::open(&path, 0)?.add(odd)?;
        assert_eq!(Log::read(&path)?, [odd]);
        Ok(())
    }

    #[test]
    fn a_line_of_something_else_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.jsonl");
        std::fs::write(&path, "hello\nworld\n").expect("a file");
        let error = Log::open(&path, 1).unwrap_err().to_string();
        assert!(error.contains("line 1 is no log line"), "{error}");
    }
}
