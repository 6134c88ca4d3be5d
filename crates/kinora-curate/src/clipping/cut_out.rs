//! A planned clip becomes a file.

use super::{ClipPlan, Keyframes};
use crate::error::Result;
use kinora_media::{
    AnalysisFrame, AnalysisOptions, AnalysisReader, CopyOptions, VideoInfo, probe_within,
    read_packets, stream_copy,
};
use std::path::Path;
use std::time::Duration;

/// How a clip that was copied is looked at before it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Its packets are listed: their number, and that the first to be shown is a key frame. Next to
    /// nothing.
    #[default]
    Packets,
    /// It is decoded: every frame planned comes, and the decoder complains of nothing. As much as
    /// decoding the clip.
    Decode,
}

/// How to cut clips out.
#[derive(Clone, Debug)]
pub struct CutOutOptions {
    /// How a copy is checked. One that fails is replaced by an encoded clip.
    pub check: Check,
    /// Threads where frames are decoded or encoded; zero leaves the choice to ffmpeg.
    pub threads: usize,
    /// How long each run of ffmpeg may take.
    pub time_limit: Duration,
}

impl Default for CutOutOptions {
    fn default() -> Self {
        CutOutOptions {
            check: Check::default(),
            threads: 1,
            time_limit: Duration::from_secs(600),
        }
    }
}

/// What became of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutOut {
    /// Whether frames were encoded again.
    pub encoded: bool,
    /// Why a clip that was to be copied was encoded after all.
    pub reason: Option<String>,
}

/// Writes one clip, without sound, to `out` (`.mp4`, `.mkv` or `.webm`; H.264 in a `.webm` is refused by
/// ffmpeg), under a temporary name first. `first_micros` is [`AnalysisReader::first_micros`] of the
/// source.
///
/// # Errors
/// When ffmpeg is not installed, fails or takes too long, or `out` cannot be written.
pub fn cut_out(
    source: &Path,
    info: &VideoInfo,
    first_micros: i64,
    plan: &ClipPlan,
    out: &Path,
    options: &CutOutOptions,
) -> Result<CutOut> {
    let span = (
        plan.start_micros + first_micros,
        plan.end_micros + first_micros,
    );
    let mut copy = CopyOptions {
        encode: plan.encode,
        threads: options.threads,
        time_limit: options.time_limit,
    };
    if plan.encode {
        stream_copy(source, info, span, out, &copy)?;
        return Ok(CutOut {
            encoded: true,
            reason: None,
        });
    }
    let copied = stream_copy(source, info, span, out, &copy).map_err(crate::Error::from);
    match copied.and_then(|()| fault(out, plan, options)) {
        Ok(None) => Ok(CutOut {
            encoded: false,
            reason: None,
        }),
        // A clip in another container may hold what this one cannot, and a copy may be broken where the
        // source is: encoding decides.
        failed => {
            let reason = match failed {
                Ok(reason) => reason,
                Err(failure) => Some(failure.to_string()),
            };
            copy.encode = true;
            stream_copy(source, info, span, out, &copy)?;
            Ok(CutOut {
                encoded: true,
                reason,
            })
        }
    }
}

/// What is wrong with a copied clip, if anything.
fn fault(clip: &Path, plan: &ClipPlan, options: &CutOutOptions) -> Result<Option<String>> {
    let found = match options.check {
        Check::Packets => {
            let info = probe_within(clip, options.time_limit)?;
            let packets = read_packets(clip, &info, options.time_limit)?;
            let first = packets.iter().min_by_key(|packet| packet.micros);
            if first.is_none_or(|first| !first.key) {
                return Ok(Some("the first picture shown is no key frame".to_owned()));
            }
            packets.len() as u64
        }
        Check::Decode => {
            let reading = AnalysisOptions {
                threads: options.threads,
                time_limit: options.time_limit,
                ..AnalysisOptions::default()
            };
            let mut reader = AnalysisReader::open(clip, &reading)?;
            let (mut frame, mut frames) = (AnalysisFrame::default(), 0);
            while reader.read_into(&mut frame)? {
                frames += 1;
            }
            if let Some(words) = serious(&reader) {
                return Ok(Some(format!("the copy cannot be decoded: {words}")));
            }
            frames
        }
    };
    Ok((found != plan.frames()).then(|| {
        format!(
            "expected {} frames in the copy, found {found}",
            plan.frames()
        )
    }))
}

/// What the decoder complains of, but for pictures that were to be forgotten and were never there: the
/// leading ones of an open group, which a clip does without.
fn serious(reader: &AnalysisReader) -> Option<String> {
    let complaints = reader.complaints()?.split("; ");
    let serious: Vec<&str> = complaints
        .filter(|words| !words.contains("mmco: unref short failure"))
        .collect();
    (!serious.is_empty()).then(|| serious.join("; "))
}

/// The ending of a file that can hold copies of a video's packets: `mp4` where players expect it.
pub fn clip_ending(info: &VideoInfo) -> &'static str {
    match (info.codec.as_str(), info.container.contains("matroska")) {
        ("vp8" | "vp9", true) => "webm",
        ("h264" | "hevc" | "av1" | "mpeg4" | "vp9", _) => "mp4",
        _ => "mkv",
    }
}

/// What a copy can start and end with, from the packets of the file itself.
///
/// # Errors
/// When ffprobe is not installed, fails or takes too long.
pub fn find_keyframes(
    source: &Path,
    info: &VideoInfo,
    first_micros: i64,
    frame_micros: &[i64],
    time_limit: Duration,
) -> Result<Keyframes> {
    let packets = read_packets(source, info, time_limit)?;
    Ok(Keyframes::new(&packets, first_micros, frame_micros))
}

#[cfg(test)]
#[path = "cut_out_tests.rs"]
mod tests;
