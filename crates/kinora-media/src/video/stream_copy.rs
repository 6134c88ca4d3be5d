//! Parts of a video in files of their own: its packets as they are, or its frames encoded again.

use super::probe::VideoInfo;
use super::process::{Process, file_url, split};
use crate::error::{Error, Result};
use crate::unfinished::UnfinishedFile;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// Half of a millisecond, the coarsest tick of a common container: times closer than this are equal.
const HALF_TICK_SECS: f64 = 0.0005;

/// Reading starts so long before the first part's start, because some containers come to rest late; and
/// stops so long after the last one's end, because packets are coded in another order than shown.
const MARGIN_SECS: f64 = 5.0;

/// How to cut parts out.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// Decode and encode (H.264, or VP9 for `.webm`) and not copy: the part may then start and end
    /// anywhere.
    pub encode: bool,
    /// Threads of decoder and encoder where `encode` is set; zero leaves the choice to ffmpeg.
    pub threads: usize,
    /// How long may be spent waiting for ffmpeg.
    pub time_limit: Duration,
}

impl Default for CopyOptions {
    fn default() -> Self {
        CopyOptions {
            encode: false,
            threads: 1,
            time_limit: Duration::from_secs(600),
        }
    }
}

/// A part of a video, and the file that it is to become.
#[derive(Clone, Copy, Debug)]
pub struct PartCopy<'a> {
    /// When its first picture is shown, in microseconds, as the file counts them (like
    /// [`super::Packet::micros`]).
    pub start_micros: i64,
    /// When the first picture is shown that is no longer in it.
    pub end_micros: i64,
    /// The file: an `.mp4`, `.mkv` or `.webm`.
    pub out: &'a Path,
}

impl PartCopy<'_> {
    fn span_secs(&self) -> (f64, f64) {
        (self.start_micros as f64 / 1e6, self.end_micros as f64 / 1e6)
    }

    fn check(&self) -> Result<&'static str> {
        let (start, end) = (self.start_micros, self.end_micros);
        if start >= end {
            return Err(Error::argument(
                "clip",
                format!("expected a start before the end, found {start} to {end} µs"),
            ));
        }
        container(self.out)
    }
}

/// Writes parts of a video, without sound, to files of their own: in one run of ffmpeg, which reads what
/// lies between the start of the first part and the end of the last once. What a part holds does not
/// depend on the others. Where ffmpeg fails no file appears.
///
/// A copy has to start with a key frame. Pictures coded after it but shown before it (of an open group)
/// are left out, as are those shown after the end that were coded before it; the end has to be one that
/// no picture before it leans over (see `kinora_curate::clipping`). Copies into `.mkv` and `.webm` are
/// complete only from files that count milliseconds, as those two do: look at what came out.
///
/// # Errors
/// When ffmpeg is not installed, fails or takes too long, or a file cannot be written.
pub fn stream_copy(
    path: &Path,
    info: &VideoInfo,
    parts: &[PartCopy],
    options: &CopyOptions,
) -> Result<()> {
    let starts = parts.iter().map(|part| part.span_secs().0);
    let ends = parts.iter().map(|part| part.span_secs().1);
    let reach = (
        starts.fold(f64::INFINITY, f64::min),
        ends.fold(f64::NEG_INFINITY, f64::max),
    );
    let mut words = input_arguments(path, info, reach, options);
    let mut files = Vec::with_capacity(parts.len());
    for part in parts {
        let format = part.check()?;
        let (unfinished, file) = UnfinishedFile::create(part.out)?;
        drop(file); // ffmpeg opens it by its name
        words.extend(split(&format!("-map 0:{} -an -sn -dn", info.stream)));
        words.extend(match options.encode {
            true => encode_arguments(part.span_secs(), format, options.threads),
            false => copy_arguments(info, part.span_secs(), format),
        });
        words.extend(split("-avoid_negative_ts make_zero -map_metadata -1"));
        words.extend(split("-fflags +bitexact -flags:v +bitexact -y -f"));
        words.extend([format.into(), file_url(unfinished.path())]);
        files.push(unfinished);
    }
    if files.is_empty() {
        return Ok(());
    }
    let process = Process::spawn("ffmpeg", path, &words, false, options.time_limit)?;
    process.finish()?;
    files.into_iter().try_for_each(UnfinishedFile::finish)
}

/// ffmpeg's name for the container that a file name asks for.
fn container(out: &Path) -> Result<&'static str> {
    match out.extension().and_then(|ending| ending.to_str()) {
        Some("mp4") => Ok("mp4"),
        Some("mkv") => Ok("matroska"),
        Some("webm") => Ok("webm"),
        _ => Err(Error::output(
            out,
            "expected a clip's name to end in .mp4, .mkv or .webm",
        )),
    }
}

fn input_arguments(
    path: &Path,
    info: &VideoInfo,
    (start, end): (f64, f64),
    options: &CopyOptions,
) -> Vec<OsString> {
    let mut words = split("-nostdin -hide_banner -v error -protocol_whitelist file,pipe");
    words.extend(split(&format!("-threads {}", options.threads)));
    // Times stay those of the file all the way, so that pictures are chosen by them alone and the seek
    // only has to come to rest somewhere before the first.
    words.extend(split("-copyts"));
    if info.timed {
        let from = start - MARGIN_SECS;
        words.extend(split(&format!("-seek_timestamp 1 -ss {from:.6}")));
    }
    words.extend(if options.encode {
        // Without it ffmpeg would itself leave frames out, by a time to which it has added the start of
        // the file once more. The filter that ends the part ends the reading, too.
        split("-noaccurate_seek")
    } else {
        split(&format!("-t {:.6}", end - start + 2.0 * MARGIN_SECS))
    });
    words.extend(["-i".into(), file_url(path)]);
    words
}

fn copy_arguments(info: &VideoInfo, (start, end): (f64, f64), format: &str) -> Vec<OsString> {
    let mut words = split("-c copy -bsf:v");
    words.push(
        format!(
            "noise=drop='lt(pts*tb,{:.6})+gte(pts*tb,{:.6})'",
            start - HALF_TICK_SECS,
            end - HALF_TICK_SECS
        )
        .into(),
    );
    // To that filter ffmpeg 5 gives times in the ticks of the output, but the length of a tick of the
    // input: so the output takes over the ticks of the input.
    if let (Some(ticks), "mp4") = (info.ticks_per_sec, format) {
        words.extend(split(&format!("-video_track_timescale {ticks}")));
    }
    words
}

fn encode_arguments((start, end): (f64, f64), format: &str, threads: usize) -> Vec<OsString> {
    let mut words = split("-fps_mode passthrough -vf");
    words.push(
        format!(
            "trim=start={:.6}:end={:.6},setpts=PTS-STARTPTS,format=yuv420p",
            start - HALF_TICK_SECS,
            end - HALF_TICK_SECS
        )
        .into(),
    );
    words.extend(split(if format == "webm" {
        "-c:v libvpx-vp9 -b:v 0 -crf 24 -deadline good -cpu-used 4"
    } else {
        "-c:v libx264 -preset veryfast -crf 18"
    }));
    words.extend(split(&format!("-threads {threads}")));
    words
}
