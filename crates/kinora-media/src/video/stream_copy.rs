//! A part of a video in a file of its own: its packets as they are, or its frames encoded again.

use super::probe::VideoInfo;
use super::process::{Process, file_url, split};
use crate::error::{Error, Result};
use crate::unfinished::UnfinishedFile;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// Half of a millisecond, the coarsest tick of a common container: times closer than this are equal.
const HALF_TICK_SECS: f64 = 0.0005;

/// Reading starts so long before the part's start, because some containers come to rest late; and stops
/// so long after its end, because packets are coded in another order than shown.
const MARGIN_SECS: f64 = 5.0;

/// How to cut a part out.
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

/// Writes the pictures shown from `start_micros` up to, but without, `end_micros` (as the file counts
/// them, like [`super::Packet::micros`]) to `out`: an `.mp4`, `.mkv` or `.webm`, without sound.
///
/// A copy has to start with a key frame. Pictures coded after it but shown before it (of an open group)
/// are left out, as are those shown after the end that were coded before it; the end has to be one that
/// no picture before it leans over (see `kinora_curate::clipping`). Copies into `.mkv` and `.webm` are
/// complete only from files that count milliseconds, as those two do: look at what came out.
///
/// # Errors
/// When ffmpeg is not installed, fails or takes too long, or `out` cannot be written.
pub fn stream_copy(
    path: &Path,
    info: &VideoInfo,
    (start_micros, end_micros): (i64, i64),
    out: &Path,
    options: &CopyOptions,
) -> Result<()> {
    if start_micros >= end_micros {
        return Err(Error::argument(
            "clip",
            format!("expected a start before the end, found {start_micros} to {end_micros} µs"),
        ));
    }
    let format = container(out)?;
    let (unfinished, file) = UnfinishedFile::create(out)?;
    drop(file); // ffmpeg opens it by its name
    let span = (start_micros as f64 / 1e6, end_micros as f64 / 1e6);
    let mut words = input_arguments(path, info.stream, span, options);
    if options.encode {
        words.extend(encode_arguments(span, format, options.threads));
    } else {
        words.extend(copy_arguments(info, span, format));
    }
    words.extend(split("-avoid_negative_ts make_zero -map_metadata -1"));
    words.extend(split("-fflags +bitexact -flags:v +bitexact -y -f"));
    words.extend([format.into(), file_url(unfinished.path())]);
    let process = Process::spawn("ffmpeg", path, &words, false, options.time_limit)?;
    process.finish()?;
    unfinished.finish()
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
    stream: usize,
    (start, end): (f64, f64),
    options: &CopyOptions,
) -> Vec<OsString> {
    let mut words = split("-nostdin -hide_banner -v error -protocol_whitelist file,pipe");
    words.extend(split(&format!("-threads {}", options.threads)));
    // Times stay those of the file all the way, so that pictures are chosen by them alone and the seek
    // only has to come to rest somewhere before the first.
    words.extend(split("-copyts -seek_timestamp 1"));
    words.extend(split(&format!("-ss {:.6}", start - MARGIN_SECS)));
    words.extend(if options.encode {
        // Without it ffmpeg would itself leave frames out, by a time to which it has added the start of
        // the file once more. The filter that ends the part ends the reading, too.
        split("-noaccurate_seek")
    } else {
        split(&format!("-t {:.6}", end - start + 2.0 * MARGIN_SECS))
    });
    words.extend(["-i".into(), file_url(path)]);
    words.extend(split(&format!("-map 0:{stream} -an -sn -dn")));
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
