//! What a video file holds, told by ffprobe without decoding a frame.

use super::packets::{Packet, PacketReport, shown};
use super::process::{Process, file_url, split};
use crate::error::{Error, Result};
use crate::fps::Fps;
use crate::image::MAX_PIXELS;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufReader, Read as _};
use std::path::Path;
use std::time::Duration;

/// How long ffprobe may take when the caller sets no limit.
const PROBE_LIMIT: Duration = Duration::from_secs(60);

/// Containers that are lists of other files, and "containers" that make a video of any text. Reading
/// them would open files that nobody named, so they are refused.
const REFUSED_FORMATS: [(&str, &str); 8] = [
    ("hls", "a playlist"),
    ("dash", "a playlist"),
    ("concat", "a playlist"),
    ("imf", "a playlist"),
    ("sdp", "a session description"),
    ("tty", "a text"),
    ("bin", "not a video"),
    ("subviewer", "a text"),
];

/// How playlists begin. They are refused unread: ffprobe would wait for more of a list that does not
/// say where it ends.
const PLAYLISTS: [&[u8]; 2] = [b"#EXTM3U", b"ffconcat version"];
/// Elements of XML that are playlists, after a prologue.
const PLAYLIST_ELEMENTS: [&[u8]; 2] = [b"<MPD", b"<AssetMap"];

/// By how much a picture must be turned clockwise to stand upright.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Not at all.
    None,
    /// A quarter.
    Clockwise90,
    /// Upside down.
    Clockwise180,
    /// Three quarters.
    Clockwise270,
}

impl Rotation {
    fn from_degrees(clockwise: f64) -> Rotation {
        match (clockwise / 90.0).round().rem_euclid(4.0) as u8 {
            1 => Rotation::Clockwise90,
            2 => Rotation::Clockwise180,
            3 => Rotation::Clockwise270,
            _ => Rotation::None,
        }
    }

    /// In degrees.
    pub fn degrees(self) -> u32 {
        match self {
            Rotation::None => 0,
            Rotation::Clockwise90 => 90,
            Rotation::Clockwise180 => 180,
            Rotation::Clockwise270 => 270,
        }
    }
}

/// What a file says of its first video stream.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoInfo {
    /// Width as shown, in square pixels: after rotation and pixel shape.
    pub width: usize,
    /// Height as shown, in square pixels.
    pub height: usize,
    /// Width as coded.
    pub coded_width: usize,
    /// Height as coded.
    pub coded_height: usize,
    /// How the coded picture must be turned; already done in `width` and `height`.
    pub rotation: Rotation,
    /// Average frame rate, where the file tells one.
    pub fps: Option<Fps>,
    /// Number of frames, where the file tells it.
    pub frames: Option<u64>,
    /// Duration in seconds, where the file tells it.
    pub duration_secs: Option<f64>,
    /// Time of the first frame in seconds.
    pub start_secs: f64,
    /// Codec, as ffmpeg names it.
    pub codec: String,
    /// Container, as ffmpeg names it.
    pub container: String,
    /// Pixel format, as ffmpeg names it.
    pub pixel_format: String,
    /// The comment of the container, where kinora keeps its settings.
    pub comment: Option<String>,
    /// Which stream of the file this is.
    pub(crate) stream: usize,
    /// Whether it says when it starts. Raw streams do not, and cannot be entered at a time.
    pub(crate) timed: bool,
    /// In how many ticks a second the file counts, where that is a whole number.
    pub(crate) ticks_per_sec: Option<u32>,
}

/// Asks ffprobe about the first video stream of a file (a cover picture in a sound file is none).
///
/// # Errors
/// When ffprobe is not installed, takes over a minute, or finds no video.
pub fn probe(path: &Path) -> Result<VideoInfo> {
    probe_within(path, PROBE_LIMIT)
}

/// [`probe`] with another time limit.
///
/// # Errors
/// As [`probe`].
pub fn probe_within(path: &Path, limit: Duration) -> Result<VideoInfo> {
    check_file(path)?;
    info_from_report(path, run_ffprobe(path, "", limit)?).map(|(info, _)| info)
}

/// [`probe`], and the pictures of the video stream in the order in which they are coded, without
/// decoding any: the whole file is read, once. Those that an edit list hides are left out. There are
/// none where the container gives no times of presentation (raw streams): such a video can be cut only
/// by encoding it again.
///
/// # Errors
/// As [`probe`].
pub fn probe_packets(path: &Path, limit: Duration) -> Result<(VideoInfo, Vec<Packet>)> {
    check_file(path)?;
    let words = "-select_streams v -show_entries packet=stream_index,pts_time,flags";
    info_from_report(path, run_ffprobe(path, words, limit)?)
}

/// Refuses what is no file to read.
fn check_file(path: &Path) -> Result<()> {
    let about = std::fs::metadata(path).map_err(Error::io("open", path))?;
    if about.is_dir() {
        return Err(Error::video(path, "this is a folder; give a video file"));
    }
    if !about.is_file() {
        return Err(Error::video(
            path,
            "this is no ordinary file; give a video file",
        ));
    }
    if about.len() == 0 {
        return Err(Error::video(path, "the file is empty"));
    }
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    file.take(1024)
        .read_to_end(&mut start)
        .map_err(Error::io("read", path))?;
    if is_playlist(&start) {
        return Err(Error::video(path, "this is a playlist, and no video file"));
    }
    Ok(())
}

/// Whether the first bytes of a file are those of a list of other files.
fn is_playlist(start: &[u8]) -> bool {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let text = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start);
    let text = text.trim_ascii_start();
    let has = |words: &&[u8]| text.windows(words.len()).any(|at| at == *words);
    PLAYLISTS.iter().any(|words| text.starts_with(words))
        || text.starts_with(b"<") && PLAYLIST_ELEMENTS.iter().any(has)
}

fn run_ffprobe(path: &Path, more: &str, limit: Duration) -> Result<Report> {
    let mut words = split(
        "-hide_banner -v error -protocol_whitelist file,pipe -show_streams -show_format -of json",
    );
    words.extend(split(more));
    words.push(file_url(path));
    let mut process = Process::spawn("ffprobe", path, &words, false, limit)?;
    let output = process.take_output().expect("the output was not taken yet");
    // Read as it comes: the packets of a long video are many words and few numbers.
    let report = process.within_limit(|| {
        let mut output = BufReader::with_capacity(1 << 16, output);
        let report = serde_json::from_reader(&mut output);
        // Where the report broke off, its rest must not keep ffprobe waiting.
        std::io::copy(&mut output, &mut std::io::sink()).map(|_| report)
    });
    let report = report.map_err(Error::io("read ffprobe's report on", path))?;
    match process.finish() {
        Ok(_) => report.map_err(|failure| {
            Error::video(path, format!("ffprobe's report is damaged: {failure}"))
        }),
        Err(Error::Tool { words, .. }) => Err(Error::video(
            path,
            format!("not a video that ffmpeg can read: {words}"),
        )),
        Err(other) => Err(other),
    }
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    packets: Vec<PacketReport>,
    #[serde(default)]
    streams: Vec<Stream>,
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Stream {
    index: usize,
    #[serde(default)]
    codec_type: String,
    #[serde(default)]
    codec_name: String,
    #[serde(default)]
    pix_fmt: String,
    width: Option<usize>,
    height: Option<usize>,
    sample_aspect_ratio: Option<String>,
    avg_frame_rate: Option<String>,
    r_frame_rate: Option<String>,
    nb_frames: Option<String>,
    duration: Option<String>,
    start_time: Option<String>,
    time_base: Option<String>,
    #[serde(default)]
    disposition: BTreeMap<String, u32>,
    #[serde(default)]
    tags: BTreeMap<String, Value>,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Deserialize)]
struct SideData {
    rotation: Option<f64>,
}

#[derive(Deserialize)]
struct Format {
    format_name: String,
    duration: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, Value>,
}

impl Stream {
    fn is_moving(&self) -> bool {
        let set = |name| self.disposition.get(name).is_some_and(|&value| value != 0);
        self.codec_type == "video" && !set("attached_pic") && !set("timed_thumbnails")
    }

    /// The display matrix turns counterclockwise; the tag of older files turns clockwise.
    fn rotation(&self) -> Rotation {
        let matrix = self.side_data_list.iter().find_map(|data| data.rotation);
        let tag = || text_of(&self.tags, "rotate")?.parse().ok();
        Rotation::from_degrees(matrix.map(|degrees| -degrees).or_else(tag).unwrap_or(0.0))
    }

    /// Width of a pixel over its height.
    fn pixel_shape(&self) -> f64 {
        let fraction = self.sample_aspect_ratio.as_deref();
        let shape = fraction.and_then(|text| {
            let (width, height) = text.split_once(':')?;
            let shape = width.parse::<f64>().ok()? / height.parse::<f64>().ok()?;
            (shape.is_finite() && shape > 0.0).then_some(shape)
        });
        shape.unwrap_or(1.0)
    }
}

/// The stream and its packets.
fn info_from_report(path: &Path, report: Report) -> Result<(VideoInfo, Vec<Packet>)> {
    let Some(format) = report.format else {
        return Err(Error::video(path, "ffprobe does not know the container"));
    };
    refuse_by_format(path, &format.format_name)?;
    let Some(stream) = report.streams.into_iter().find(Stream::is_moving) else {
        return Err(Error::video(path, "the file holds no video stream"));
    };
    let (coded_width, coded_height) = coded_size(path, &stream)?;
    let (width, height) = shown_size(path, coded_width, coded_height, &stream)?;
    let packets = shown(&report.packets, stream.index);
    let info = VideoInfo {
        width,
        height,
        coded_width,
        coded_height,
        rotation: stream.rotation(),
        fps: rate(&stream.avg_frame_rate).or_else(|| rate(&stream.r_frame_rate)),
        frames: stream
            .nb_frames
            .as_deref()
            .and_then(|text| text.parse().ok()),
        duration_secs: number(&stream.duration)
            .or_else(|| number(&format.duration))
            .filter(|&secs| secs > 0.0),
        timed: number(&stream.start_time).is_some(),
        start_secs: number(&stream.start_time).unwrap_or(0.0),
        comment: text_of(&format.tags, "comment"),
        ticks_per_sec: stream
            .time_base
            .as_deref()
            .and_then(|text| text.strip_prefix("1/")?.parse().ok()),
        codec: stream.codec_name,
        container: format.format_name,
        pixel_format: stream.pix_fmt,
        stream: stream.index,
    };
    Ok((info, packets))
}

fn refuse_by_format(path: &Path, format_name: &str) -> Result<()> {
    let refused = REFUSED_FORMATS
        .iter()
        .find(|(name, _)| format_name.split(',').any(|part| part == *name));
    match refused {
        Some((_, what)) => Err(Error::video(
            path,
            format!("this is {what}, and no video file"),
        )),
        None => Ok(()),
    }
}

fn rate(text: &Option<String>) -> Option<Fps> {
    text.as_deref()?.parse().ok()
}

fn number(text: &Option<String>) -> Option<f64> {
    let value: f64 = text.as_deref()?.parse().ok()?;
    value.is_finite().then_some(value)
}

fn coded_size(path: &Path, stream: &Stream) -> Result<(usize, usize)> {
    match (stream.width, stream.height) {
        (Some(width), Some(height)) if width > 0 && height > 0 => Ok((width, height)),
        _ => Err(Error::video(path, "the video stream has no picture size")),
    }
}

fn shown_size(
    path: &Path,
    coded_width: usize,
    coded_height: usize,
    stream: &Stream,
) -> Result<(usize, usize)> {
    let square = ((coded_width as f64 * stream.pixel_shape()).round() as usize).max(1);
    let (width, height) = match stream.rotation() {
        Rotation::None | Rotation::Clockwise180 => (square, coded_height),
        Rotation::Clockwise90 | Rotation::Clockwise270 => (coded_height, square),
    };
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(Error::video(
            path,
            format!("frames of {width}×{height} pixels are beyond the {MAX_PIXELS} allowed"),
        ));
    }
    Ok((width, height))
}

/// A tag by its name, which containers write in capitals or not.
fn text_of(tags: &BTreeMap<String, Value>, name: &str) -> Option<String> {
    let (_, value) = tags
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size as shown and the rotation, from a stream's description.
    fn check(stream: &str, width: usize, height: usize, degrees: u32) {
        let report = format!(
            r#"{{"streams":[{{"index":0,"codec_type":"audio"}},{{"index":1,"codec_type":"video",{stream}}}],
                "format":{{"format_name":"mov,mp4"}}}}"#
        );
        let report = serde_json::from_str(&report).unwrap();
        let (info, _) = info_from_report(Path::new("a.mp4"), report).unwrap();
        assert_eq!((info.width, info.height), (width, height), "{stream}");
        assert_eq!(info.rotation.degrees(), degrees, "{stream}");
        assert_eq!(info.stream, 1);
    }

    #[test]
    fn sizes_are_as_shown() {
        check(r#""width":64,"height":48"#, 64, 48, 0);
        check(
            r#""width":64,"height":48,"sample_aspect_ratio":"0:1""#,
            64,
            48,
            0,
        );
        check(
            r#""width":720,"height":576,"sample_aspect_ratio":"16:15""#,
            768,
            576,
            0,
        );
        let turned = r#""side_data_list":[{"side_data_type":"x"},{"rotation":-90}]"#;
        check(&format!(r#""width":64,"height":48,{turned}"#), 48, 64, 90);
        check(
            r#""width":64,"height":48,"tags":{"rotate":"270"}"#,
            48,
            64,
            270,
        );
        check(
            r#""width":40,"height":30,"sample_aspect_ratio":"2:1","tags":{"rotate":"90"}"#,
            30,
            80,
            90,
        );
    }

    #[test]
    fn a_playlist_is_known_by_how_it_begins_and_by_nothing_later() {
        for list in [
            &b"#EXTM3U\n"[..],
            b"\xef\xbb\xbf\n #EXTM3U",
            b"ffconcat version 1.0",
            b"<?xml version=\"1.0\"?>\n<MPD xmlns",
        ] {
            assert!(is_playlist(list), "{list:?}");
        }
        for other in [
            &b""[..],
            b"\0\0\0 ftypisom#EXTM3U",
            b"a film <MPD",
            b"<svg>",
        ] {
            assert!(!is_playlist(other), "{other:?}");
        }
    }

    #[test]
    fn playlists_texts_and_covers_are_refused() {
        let check = |stream: &str, format: &str, words: &str| {
            let report = format!(
                r#"{{"streams":[{{"index":0,"codec_type":"video","width":9,"height":9{stream}}}],"format":{{"format_name":"{format}"}}}}"#
            );
            let report = serde_json::from_str(&report).unwrap();
            let refusal = info_from_report(Path::new("a"), report)
                .unwrap_err()
                .to_string();
            assert!(refusal.contains(words), "{refusal}");
        };
        check("", "hls", "playlist");
        check("", "tty", "text");
        check(
            r#","disposition":{"attached_pic":1}"#,
            "mp3",
            "no video stream",
        );
        check(r#","sample_aspect_ratio":"99999999:1""#, "mov", "beyond");
    }
}
