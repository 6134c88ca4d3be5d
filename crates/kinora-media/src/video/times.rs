//! The times of frames. Raw frames carry none, so a filter of ffmpeg writes the time of each into a
//! file before the frame itself leaves. (Standard error would do, but for damaged videos, whose
//! complaints come from several threads and tear its lines.)

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use tempfile::{NamedTempFile, TempPath};

/// The file of times, read as it grows.
#[derive(Debug)]
pub(super) struct Times {
    lines: BufReader<File>,
    /// Removes the file: as soon as ffmpeg is known to have opened it, or when dropped.
    name: Option<TempPath>,
    filter: String,
}

impl Times {
    /// Makes the file in `folder`.
    pub fn create_in(folder: &Path) -> Result<Times> {
        let (file, name) = NamedTempFile::new_in(folder)
            .map_err(Error::io("create a file in", folder))?
            .into_parts();
        let Some(text) = name.to_str() else {
            return Err(Error::argument(
                "folder for temporary files",
                format!("{name:?} is not Unicode; set TMPDIR to another"),
            ));
        };
        // The filter prints frames that have metadata, so each is given some. It prints seconds with
        // six digits in all, ten milliseconds after a quarter of an hour, but ticks in full: so a tick
        // is made a microsecond.
        let filter = format!(
            "settb=1/1000000,metadata=mode=add:key=kinora:value=1,metadata=mode=print:direct=1:file={}",
            escaped(text)
        );
        Ok(Times {
            lines: BufReader::new(file),
            name: Some(name),
            filter,
        })
    }

    /// What to add at the end of the chain of filters.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// The time of the next frame that has left ffmpeg, in microseconds: `None` when none has left,
    /// `Some(None)` when the file gives it no time.
    pub fn next(&mut self) -> Option<Option<i64>> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.starts_with("frame:") {
                self.name = None;
                let (_, rest) = line.split_once(" pts:")?;
                return Some(rest.split_whitespace().next()?.parse().ok());
            }
        }
    }
}

/// A value as it must stand in a chain of filters: escaped once for the filter's own options and once
/// more for the chain.
fn escaped(value: &str) -> String {
    let escape = |text: &str, special: &str| -> String {
        let mut escaped = String::new();
        for letter in text.chars() {
            if special.contains(letter) {
                escaped.push('\\');
            }
            escaped.push(letter);
        }
        escaped
    };
    escape(&escape(value, r"\':"), r"\'[],;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn times_come_through_a_folder_of_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join(r"it's a:b, [c]; \d %e =f");
        std::fs::create_dir(&odd).unwrap();
        let mut times = Times::create_in(&odd).unwrap();
        assert_eq!(times.next(), None);
        let status = Command::new("ffmpeg")
            .args([
                "-nostdin",
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                "testsrc=r=4:d=0.75:s=16x16",
            ])
            .args(["-vf", times.filter(), "-f", "null", "-"])
            .status()
            .expect("the tests need ffmpeg: apt-get install ffmpeg");
        assert!(status.success());
        assert_eq!(
            [0, 1, 2, 3].map(|_| times.next()),
            [
                Some(Some(0)),
                Some(Some(250_000)),
                Some(Some(500_000)),
                None
            ]
        );
        assert_eq!(
            std::fs::read_dir(&odd).unwrap().count(),
            0,
            "the file is removed at once"
        );
    }
}
