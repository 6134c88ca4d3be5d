//! Small frames of a whole video in one decode, each with its own time: what detectors look at.

use super::probe::{VideoInfo, probe_within};
use super::process::{file_url, split};
use super::raw_frames::RawFrames;
use crate::error::{Error, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A decoded frame, made small. Planes are row by row without gaps, 8 bits in the range the video
/// has; colour planes have half the width and height, rounded up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnalysisFrame {
    /// Its number in the video, from zero.
    pub number: u64,
    /// When it is shown, in microseconds from the first frame.
    pub micros: i64,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Brightness.
    pub luma: Vec<u8>,
    /// Blue against yellow.
    pub blue: Vec<u8>,
    /// Red against green.
    pub red: Vec<u8>,
}

/// How to decode for analysis.
#[derive(Clone, Debug)]
pub struct AnalysisOptions {
    /// Shorter side of the small frames in pixels; a video that is smaller keeps its size. Sides are
    /// rounded up to even numbers.
    pub short_side: usize,
    /// Threads of the decoder; zero leaves the choice to ffmpeg. One costs the least CPU time a frame.
    pub threads: usize,
    /// How long may be spent waiting for ffmpeg in all, not counting the caller's own time.
    pub time_limit: Duration,
}

impl Default for AnalysisOptions {
    fn default() -> Self {
        AnalysisOptions {
            short_side: 144,
            threads: 1,
            time_limit: Duration::from_secs(3600),
        }
    }
}

/// A video being decoded once, every frame of it, small: no frame is dropped or repeated, whatever
/// the rate. The filter that smooths the edges of blocks is left out (`docs/decisions/0004-cuts.md`).
/// Memory does not grow with the length. Dropping it ends the decoder.
#[derive(Debug)]
pub struct AnalysisReader {
    path: PathBuf,
    info: VideoInfo,
    width: usize,
    height: usize,
    next_number: u64,
    first_micros: i64,
    last_micros: i64,
    step_micros: i64,
    source: Option<RawFrames>,
    complaints: Option<String>,
}

impl AnalysisReader {
    /// Probes a file and starts to decode it.
    ///
    /// # Errors
    /// When it is not a video, or ffmpeg is not installed.
    pub fn open(path: &Path, options: &AnalysisOptions) -> Result<AnalysisReader> {
        let info = probe_within(path, options.time_limit)?;
        AnalysisReader::open_probed(path, info, options)
    }

    /// Starts to decode a file that was probed before.
    ///
    /// # Errors
    /// When ffmpeg is not installed, or an option makes no sense.
    pub fn open_probed(
        path: &Path,
        info: VideoInfo,
        options: &AnalysisOptions,
    ) -> Result<AnalysisReader> {
        if !(16..=1080).contains(&options.short_side) {
            return Err(Error::argument(
                "short side",
                format!("expected 16 to 1080 pixels, found {}", options.short_side),
            ));
        }
        let (width, height) = small_size((info.width, info.height), options.short_side);
        let words = decode_arguments(path, info.stream, options.threads);
        // The mean of all pixels underneath would cost a fifth of decoding, this scaler a fiftieth, and the
        // scores of cuts, which are means over many pixels again, are the same within a few hundredths.
        let filters = format!("scale={width}:{height}:flags=fast_bilinear,format=yuv420p");
        let source = RawFrames::spawn(path, words, &filters, "yuv420p", options.time_limit)?;
        // Where a file gives some frame no time, its average rate says how far it is from the last.
        let step_micros = info.fps.map_or(40_000, |fps| (fps.secs_of(1) * 1e6) as i64);
        Ok(AnalysisReader {
            path: path.to_path_buf(),
            info,
            width,
            height,
            next_number: 0,
            first_micros: 0,
            last_micros: 0,
            step_micros,
            source: Some(source),
            complaints: None,
        })
    }

    /// What the file says of itself.
    pub fn info(&self) -> &VideoInfo {
        &self.info
    }

    /// Width of the small frames.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height of the small frames.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The time that the file itself gives the first frame, in microseconds: what
    /// [`AnalysisFrame::micros`] counts from. Known once that frame has been read.
    pub fn first_micros(&self) -> i64 {
        self.first_micros
    }

    /// What ffmpeg complained of while it decoded a damaged file as far as it could; known once the
    /// last frame has been handed over.
    pub fn complaints(&self) -> Option<&str> {
        self.complaints.as_deref()
    }

    /// Reads the next frame into `frame`, whose memory is used again; `false` after the last one.
    ///
    /// # Errors
    /// When the decoder fails, runs out of time, or gave no frame at all. After an error there are no
    /// more frames.
    pub fn read_into(&mut self, frame: &mut AnalysisFrame) -> Result<bool> {
        let more = self.read(frame);
        if more.is_err() {
            self.source = None;
        }
        more
    }

    fn read(&mut self, frame: &mut AnalysisFrame) -> Result<bool> {
        let Some(source) = self.source.as_mut() else {
            return Ok(false);
        };
        let luma_bytes = self.width * self.height;
        frame.luma.resize(luma_bytes, 0);
        frame.blue.resize(luma_bytes / 4, 0);
        frame.red.resize(luma_bytes / 4, 0);
        let mut planes = [&mut frame.luma[..], &mut frame.blue, &mut frame.red];
        let filled = source.read(&self.path, &mut planes)?;
        if filled < luma_bytes * 3 / 2 {
            return self.end(filled);
        }
        let told = source.micros();
        self.stamp(frame, told);
        Ok(true)
    }

    /// Gives a frame its number and time. Times never run backwards.
    fn stamp(&mut self, frame: &mut AnalysisFrame, told: Option<i64>) {
        if self.next_number == 0 {
            self.first_micros = told.unwrap_or((self.info.start_secs * 1e6) as i64);
        }
        let guess = || match self.next_number {
            0 => 0,
            _ => self.last_micros + self.step_micros,
        };
        let micros = told.map_or_else(guess, |told| told - self.first_micros);
        self.last_micros = micros.max(self.last_micros);
        frame.number = self.next_number;
        frame.micros = self.last_micros;
        (frame.width, frame.height) = (self.width, self.height);
        self.next_number += 1;
    }

    /// The pipe has ended: the decoder's fate says whether the video has, too.
    fn end(&mut self, bytes_left_over: usize) -> Result<bool> {
        let Some(source) = self.source.take() else {
            return Ok(false);
        };
        let words = source.finish()?;
        if bytes_left_over != 0 || self.next_number == 0 {
            let number = self.next_number;
            return Err(Error::video(
                &self.path,
                format!("the decoder stopped before frame {number} was whole: {words}"),
            ));
        }
        self.complaints = Some(words).filter(|words| !words.is_empty());
        Ok(false)
    }
}

impl Iterator for AnalysisReader {
    type Item = Result<AnalysisFrame>;

    fn next(&mut self) -> Option<Result<AnalysisFrame>> {
        let mut frame = AnalysisFrame::default();
        match self.read_into(&mut frame) {
            Ok(true) => Some(Ok(frame)),
            Ok(false) => None,
            Err(failure) => Some(Err(failure)),
        }
    }
}

/// The size of small frames: the shape kept, the shorter side as asked or as it is, both even.
fn small_size((width, height): (usize, usize), short_side: usize) -> (usize, usize) {
    let shorter = width.min(height).max(1);
    let scale = (short_side as f64 / shorter as f64).min(1.0);
    let even = |side: usize| (((side as f64 * scale).round() as usize).max(1)).next_multiple_of(2);
    (even(width), even(height))
}

fn decode_arguments(path: &Path, stream: usize, threads: usize) -> Vec<OsString> {
    let mut words = split("-nostdin -hide_banner -v error -protocol_whitelist file,pipe");
    // The times of the file itself, so that they can be compared with those of its packets; and one
    // chain of filters for the whole video, because a new one, made where the size of the picture
    // changes, would start its list of times afresh. A second thread for so little work as these filters
    // do costs more than it brings.
    words.extend(split("-copyts -reinit_filter 0 -filter_threads 1"));
    // What smooths the edges of blocks takes up to four tenths of decoding, and is hardly seen in frames so small.
    words.extend(split(&format!("-threads {threads} -skip_loop_filter all")));
    words.extend(["-i".into(), file_url(path)]);
    words.extend(split(&format!("-map 0:{stream}")));
    words
}

#[cfg(test)]
#[path = "analysis/tests.rs"]
mod tests;
