//! The raw frames of a decoder, through a pipe, and the time of each beside it.

use super::process::{Process, split};
use super::times::Times;
use crate::error::{Error, Result};
use std::ffi::OsString;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::ChildStdout;
use std::time::Duration;

/// A running decoder. Dropping it ends it.
#[derive(Debug)]
pub(super) struct RawFrames {
    process: Process,
    output: BufReader<ChildStdout>,
    times: Times,
}

impl RawFrames {
    /// Starts ffmpeg with the words that come before the chain of filters, the chain, and the pixel
    /// format in which frames are to come.
    ///
    /// # Errors
    /// When ffmpeg is not installed or cannot be started.
    pub fn spawn(
        path: &Path,
        mut words: Vec<OsString>,
        filters: &str,
        pixel_format: &str,
        time_limit: Duration,
    ) -> Result<RawFrames> {
        let times = Times::create_in(&std::env::temp_dir())?;
        words.extend(split("-an -sn -dn -fps_mode passthrough -vf"));
        words.push(format!("{filters},{}", times.filter()).into());
        words.extend(split(&format!(
            "-pix_fmt {pixel_format} -f rawvideo pipe:1"
        )));
        let mut process = Process::spawn("ffmpeg", path, &words, false, time_limit)?;
        let output = process.take_output().expect("the output was not taken yet");
        Ok(RawFrames {
            process,
            output: BufReader::with_capacity(1 << 16, output),
            times,
        })
    }

    /// Fills the planes of the next frame one after another; gives back how many bytes came: fewer than
    /// asked for where the pipe has ended.
    ///
    /// # Errors
    /// When the pipe cannot be read.
    pub fn read(&mut self, path: &Path, planes: &mut [&mut [u8]]) -> Result<usize> {
        let output = &mut self.output;
        let filled = self.process.within_limit(|| {
            let mut filled = 0;
            for plane in planes {
                filled += read_up_to(output, plane)?;
            }
            Ok(filled)
        });
        filled.map_err(Error::io("read frames of", path))
    }

    /// The time of the frame that was read last, microseconds; none where the file gives it none.
    pub fn micros(&mut self) -> Option<i64> {
        self.times.next().flatten()
    }

    /// The pipe has ended: the decoder's fate says whether the video has, too. Gives back its words.
    ///
    /// # Errors
    /// When the decoder failed or ran out of time.
    pub fn finish(self) -> Result<String> {
        drop(self.output);
        self.process.finish()
    }
}

/// Reads until the buffer is full or the pipe ends.
fn read_up_to(output: &mut impl Read, data: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < data.len() {
        match output.read(&mut data[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(failure) if failure.kind() == std::io::ErrorKind::Interrupted => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(filled)
}
