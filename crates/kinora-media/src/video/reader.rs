//! The frames of a video, decoded one by one by a child ffmpeg and handed over through a pipe.

use super::probe::{VideoInfo, probe_within};
use super::process::{file_url, split};
use super::raw_frames::RawFrames;
use crate::error::{Error, Result};
use crate::fps::Fps;
use crate::image::Rgb8Image;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A decoded frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its number among the frames handed over, from zero.
    pub index: usize,
    /// When it is shown, in seconds from the start of the video.
    pub time_secs: f64,
    /// The picture, upright and in square pixels.
    pub picture: Rgb8Image,
}

/// Which frames to read, and how large.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// Scale to cover this width and height, and cut the middle out; `None` keeps the size shown.
    pub size: Option<(usize, usize)>,
    /// Repeat and drop frames so that they come at this rate; `None` hands over every frame once,
    /// with the time the file gives it.
    pub fps: Option<Fps>,
    /// Hand over only the frames of these numbers, counted from zero at the start and rising; all
    /// where there is none.
    pub numbers: Vec<u64>,
    /// Start at this time, seconds.
    pub start_secs: f64,
    /// Stop after this time, seconds; `None` reads to the end.
    pub span_secs: Option<f64>,
    /// Threads of the decoder; zero leaves the choice to ffmpeg.
    pub threads: usize,
    /// How long may be spent waiting for ffmpeg in all, not counting the caller's own time.
    pub time_limit: Duration,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            size: None,
            fps: None,
            numbers: Vec::new(),
            start_secs: 0.0,
            span_secs: None,
            threads: 0,
            time_limit: Duration::from_secs(600),
        }
    }
}

/// A video being read: an iterator of frames, each handed over as soon as it is decoded.
///
/// After an error the iterator ends. Dropping it ends the decoder.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    info: VideoInfo,
    width: usize,
    height: usize,
    start_secs: f64,
    next_index: usize,
    source: Option<RawFrames>,
    complaints: Option<String>,
}

impl Reader {
    /// Probes a file and starts to decode it.
    ///
    /// # Errors
    /// When it is not a video, or ffmpeg is not installed.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Reader> {
        let info = probe_within(path, options.time_limit)?;
        Reader::open_probed(path, info, options)
    }

    /// Starts to decode a file that was probed before.
    ///
    /// # Errors
    /// When ffmpeg is not installed, or an option makes no sense.
    pub fn open_probed(path: &Path, info: VideoInfo, options: &ReadOptions) -> Result<Reader> {
        check_options(options)?;
        let (width, height) = options.size.unwrap_or((info.width, info.height));
        let words = decode_arguments(path, &info, options);
        let filters = filters(&info, options);
        let source = RawFrames::spawn(path, words, &filters, "rgb24", options.time_limit)?;
        Ok(Reader {
            path: path.to_path_buf(),
            info,
            width,
            height,
            start_secs: options.start_secs,
            next_index: 0,
            source: Some(source),
            complaints: None,
        })
    }

    /// What the file says of itself.
    pub fn info(&self) -> &VideoInfo {
        &self.info
    }

    /// Width of the frames handed over.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height of the frames handed over.
    pub fn height(&self) -> usize {
        self.height
    }

    /// What ffmpeg complained of while it decoded a damaged file as far as it could; known once the
    /// last frame has been handed over.
    pub fn complaints(&self) -> Option<&str> {
        self.complaints.as_deref()
    }

    fn read_frame(&mut self) -> Result<Option<Frame>> {
        let Some(source) = self.source.as_mut() else {
            return Ok(None);
        };
        let mut data = vec![0; self.width * self.height * 3];
        let filled = source.read(&self.path, &mut [&mut data])?;
        if filled < data.len() {
            return self.end(filled);
        }
        let index = self.next_index;
        let Some(micros) = source.micros() else {
            return Err(Error::video(
                &self.path,
                format!("frame {index} has no time"),
            ));
        };
        let time_secs = self.start_secs + micros as f64 / 1e6;
        self.next_index += 1;
        Ok(Some(Frame {
            index,
            time_secs,
            picture: Rgb8Image::new(self.width, self.height, data)?,
        }))
    }

    /// The pipe has ended: the decoder's fate says whether the video has, too.
    fn end(&mut self, bytes_left_over: usize) -> Result<Option<Frame>> {
        let Some(source) = self.source.take() else {
            return Ok(None);
        };
        let words = source.finish()?;
        if bytes_left_over != 0 {
            return Err(Error::video(
                &self.path,
                format!(
                    "the decoder stopped within frame {}: {words}",
                    self.next_index
                ),
            ));
        }
        if self.next_index == 0 {
            let reason = if words.is_empty() {
                "none lies in the span asked for"
            } else {
                &words
            };
            return Err(Error::video(
                &self.path,
                format!("no frame could be decoded: {reason}"),
            ));
        }
        self.complaints = Some(words).filter(|words| !words.is_empty());
        Ok(None)
    }
}

impl Iterator for Reader {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Result<Frame>> {
        let frame = self.read_frame().transpose();
        if matches!(frame, Some(Err(_))) {
            self.source = None;
        }
        frame
    }
}

fn check_options(options: &ReadOptions) -> Result<()> {
    if let Some((width, height)) = options.size
        && (width == 0 || height == 0 || width.saturating_mul(height) > crate::MAX_PIXELS)
    {
        return Err(Error::argument(
            "size",
            format!("{width}×{height} is no size for a frame"),
        ));
    }
    if !options.start_secs.is_finite() || options.start_secs < 0.0 {
        return Err(Error::argument(
            "start",
            format!("expected a time from 0 s on, found {}", options.start_secs),
        ));
    }
    match options.span_secs {
        Some(span) if !(span.is_finite() && span > 0.0) => Err(Error::argument(
            "span",
            format!("expected more than 0 s, found {span}"),
        )),
        _ => Ok(()),
    }
}

fn decode_arguments(path: &Path, info: &VideoInfo, options: &ReadOptions) -> Vec<OsString> {
    let mut words = split("-nostdin -hide_banner -v error -protocol_whitelist file,pipe");
    words.extend(split(&format!("-threads {}", options.threads)));
    if options.start_secs > 0.0 {
        words.extend(split(&format!("-ss {:.6}", options.start_secs)));
    }
    if let Some(span) = options.span_secs {
        words.extend(split(&format!("-t {span:.6}")));
    }
    words.extend(["-i".into(), file_url(path)]);
    words.extend(split(&format!("-map 0:{}", info.stream)));
    words
}

/// The filter chain: rate, then size. ffmpeg itself turns the picture upright before it.
fn filters(info: &VideoInfo, options: &ReadOptions) -> String {
    let mut chain = select(&options.numbers);
    if let Some(fps) = options.fps {
        chain += &format!("fps={fps},");
    }
    let (width, height) = options.size.unwrap_or((info.width, info.height));
    let (scaled_width, scaled_height) = cover((info.width, info.height), (width, height));
    chain += &format!(
        "scale={scaled_width}:{scaled_height}:flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
    );
    if (scaled_width, scaled_height) != (width, height) {
        let (left, top) = ((scaled_width - width) / 2, (scaled_height - height) / 2);
        chain += &format!(",crop={width}:{height}:{left}:{top}:exact=1");
    }
    chain
}

/// The filter that lets only the frames of these numbers pass.
fn select(numbers: &[u64]) -> String {
    if numbers.is_empty() {
        return String::new();
    }
    let terms: Vec<String> = numbers
        .iter()
        .map(|number| format!("eq(n,{number})"))
        .collect();
    format!("select='{}',", terms.join("+"))
}

/// The smallest size of the same shape that covers `target`.
fn cover(size: (usize, usize), target: (usize, usize)) -> (usize, usize) {
    let scale = f64::max(
        target.0 as f64 / size.0 as f64,
        target.1 as f64 / size.1 as f64,
    );
    let scaled = |side: usize, least: usize| ((side as f64 * scale).round() as usize).max(least);
    (scaled(size.0, target.0), scaled(size.1, target.1))
}

#[cfg(test)]
#[path = "reader/tests.rs"]
mod tests;
