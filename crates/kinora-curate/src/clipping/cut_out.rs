//! Planned clips become files.

use super::ClipPlan;
use crate::error::Result;
use kinora_media::{
    AnalysisFrame, AnalysisOptions, AnalysisReader, CopyOptions, Packet, PartCopy, VideoInfo,
    list_packets, stream_copy,
};
use std::path::Path;
use std::time::Duration;

/// The most clips that one run of ffmpeg copies: each is a file it holds open, and every packet is
/// shown to all of them.
const MOST_AT_ONCE: usize = 32;

/// Clips farther apart than this are copied in different runs, so that what lies between is not read.
const MOST_GAP_MICROS: i64 = 30_000_000;

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

/// A plan, and the file that it is to become.
#[derive(Clone, Copy, Debug)]
pub struct ClipFile<'a> {
    /// Which part of the source.
    pub plan: &'a ClipPlan,
    /// `.mp4`, `.mkv` or `.webm` (H.264 in a `.webm` is refused by ffmpeg).
    pub out: &'a Path,
}

/// How many of the first of these clips, which stand in the order of time, [`cut_out`] makes best in one
/// call: as many as one run of ffmpeg copies. Clips to be encoded come one by one.
pub fn in_one_run(clips: &[ClipFile]) -> usize {
    let Some(first) = clips.first() else {
        return 0;
    };
    if first.plan.encode {
        return 1;
    }
    let near = |pair: &&[ClipFile]| {
        let (before, next) = (pair[0].plan, pair[1].plan);
        !next.encode && next.start_micros - before.end_micros <= MOST_GAP_MICROS
    };
    let more = clips.windows(2).take_while(near).count();
    (1 + more).min(MOST_AT_ONCE)
}

/// Writes clips, without sound, each under a temporary name first. Those to be copied are all copied in
/// one run of ffmpeg, and checked in another; where that fails they are copied one by one, and one that
/// cannot be copied is encoded. `first_micros` is [`AnalysisReader::first_micros`] of the source. The
/// answers stand in the order of the clips, and no clip depends on the others.
///
/// # Errors
/// Of each clip: when ffmpeg is not installed, fails or takes too long, or its file cannot be written.
pub fn cut_out(
    source: &Path,
    info: &VideoInfo,
    first_micros: i64,
    clips: &[ClipFile],
    options: &CutOutOptions,
) -> Vec<Result<CutOut>> {
    let cutter = Cutter {
        source,
        info,
        first_micros,
        options,
    };
    let copies: Vec<ClipFile> = clips
        .iter()
        .copied()
        .filter(|clip| !clip.plan.encode)
        .collect();
    let mut copied = cutter.copy_together(&copies).into_iter();
    clips
        .iter()
        .map(|clip| match clip.plan.encode {
            true => cutter.encode(clip, None),
            false => match copied.next().flatten() {
                Some(Verdict::Whole) => Ok(CutOut {
                    encoded: false,
                    reason: None,
                }),
                Some(Verdict::Broken(reason)) => cutter.encode(clip, Some(reason)),
                None => cutter.copy_or_encode(clip),
            },
        })
        .collect()
}

/// What a look at a copy says of it.
enum Verdict {
    Whole,
    Broken(String),
}

/// A source that clips are cut from.
struct Cutter<'a> {
    source: &'a Path,
    info: &'a VideoInfo,
    first_micros: i64,
    options: &'a CutOutOptions,
}

impl Cutter<'_> {
    /// Copies clips in one run and looks at what came out: none of a clip where that cannot be said of it
    /// alone.
    fn copy_together(&self, clips: &[ClipFile]) -> Vec<Option<Verdict>> {
        let verdicts = match clips {
            // Alone it would be tried a second time in the same way.
            [] | [_] => None,
            _ => self.copy(clips).and_then(|()| self.verdicts(clips)).ok(),
        };
        match verdicts {
            Some(verdicts) => verdicts.into_iter().map(Some).collect(),
            None => clips.iter().map(|_| None).collect(),
        }
    }

    fn copy_or_encode(&self, clip: &ClipFile) -> Result<CutOut> {
        let alone = std::slice::from_ref(clip);
        let copied = self.copy(alone).and_then(|()| self.verdicts(alone));
        // A clip in another container may hold what this one cannot, and a copy may be broken where the
        // source is: encoding decides.
        let reason = match copied.map(|verdicts| verdicts.into_iter().next()) {
            Ok(Some(Verdict::Whole)) => {
                return Ok(CutOut {
                    encoded: false,
                    reason: None,
                });
            }
            Ok(Some(Verdict::Broken(reason))) => Some(reason),
            Ok(None) => None,
            Err(failure) => Some(failure.to_string()),
        };
        self.encode(clip, reason)
    }

    fn copy(&self, clips: &[ClipFile]) -> Result<()> {
        let parts: Vec<PartCopy> = clips.iter().map(|clip| self.part(clip)).collect();
        Ok(stream_copy(
            self.source,
            self.info,
            &parts,
            &self.how(false),
        )?)
    }

    fn encode(&self, clip: &ClipFile, reason: Option<String>) -> Result<CutOut> {
        stream_copy(self.source, self.info, &[self.part(clip)], &self.how(true))?;
        Ok(CutOut {
            encoded: true,
            reason,
        })
    }

    fn part<'a>(&self, clip: &ClipFile<'a>) -> PartCopy<'a> {
        PartCopy {
            start_micros: clip.plan.start_micros + self.first_micros,
            end_micros: clip.plan.end_micros + self.first_micros,
            out: clip.out,
        }
    }

    fn how(&self, encode: bool) -> CopyOptions {
        CopyOptions {
            encode,
            threads: self.options.threads,
            time_limit: self.options.time_limit,
        }
    }

    /// Looks at copies.
    fn verdicts(&self, clips: &[ClipFile]) -> Result<Vec<Verdict>> {
        let faults: Vec<Option<String>> = match self.options.check {
            Check::Packets => {
                let paths: Vec<&Path> = clips.iter().map(|clip| clip.out).collect();
                let listed = list_packets(&paths, self.options.time_limit)?;
                let pairs = listed.iter().zip(clips);
                pairs
                    .map(|(packets, clip)| fault(packets, clip.plan))
                    .collect()
            }
            Check::Decode => {
                let faults = clips.iter().map(|clip| self.fault_of_decoding(clip));
                faults.collect::<Result<_>>()?
            }
        };
        let verdict = |fault: Option<String>| fault.map_or(Verdict::Whole, Verdict::Broken);
        Ok(faults.into_iter().map(verdict).collect())
    }

    fn fault_of_decoding(&self, clip: &ClipFile) -> Result<Option<String>> {
        let reading = AnalysisOptions {
            threads: self.options.threads,
            time_limit: self.options.time_limit,
            ..AnalysisOptions::default()
        };
        let mut reader = AnalysisReader::open(clip.out, &reading)?;
        let (mut frame, mut frames) = (AnalysisFrame::default(), 0);
        while reader.read_into(&mut frame)? {
            frames += 1;
        }
        if let Some(words) = serious(&reader) {
            return Ok(Some(format!("the copy cannot be decoded: {words}")));
        }
        Ok(wrong_number(frames, clip.plan))
    }
}

/// What is wrong with a copied clip of these packets, if anything.
fn fault(packets: &[Packet], plan: &ClipPlan) -> Option<String> {
    let first = packets.iter().min_by_key(|packet| packet.micros);
    if first.is_none_or(|first| !first.key) {
        return Some("the first picture shown is no key frame".to_owned());
    }
    wrong_number(packets.len() as u64, plan)
}

fn wrong_number(found: u64, plan: &ClipPlan) -> Option<String> {
    let expected = plan.frames();
    (found != expected).then(|| format!("expected {expected} frames in the copy, found {found}"))
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

#[cfg(test)]
#[path = "cut_out_tests.rs"]
mod tests;
