//! The cuts of videos, as lines of JSON, with what it took to find them:
//!
//!     cargo run --release -p kinora-curate --example find_cuts -- a.mp4 b.webm
//!
//! `--scores` adds what was measured of every frame, `--settings FILE.json` moves thresholds, and
//! `--measured` reads such lines from standard input instead of decoding. `--clips FOLDER` cuts the shots
//! out and proves by decoding that each holds its frames.

use kinora_curate::clipping::{
    Check, ClipFile, ClipPlan, ClipSettings, CutOutOptions, Keyframes, clip_ending, cut_out,
    plan_clips,
};
use kinora_curate::cost::{Cost, Moment};
use kinora_curate::cuts::{Cut, CutMeter, CutSettings, FrameScores, cuts};
use kinora_media::{AnalysisFrame, AnalysisOptions, AnalysisReader, probe_packets};
use serde_json::{Value, json};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let mut settings = CutSettings::default();
    let (mut keeps_scores, mut measured, mut options) = (false, false, AnalysisOptions::default());
    let (mut videos, mut clips) = (Vec::new(), None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--scores" => keeps_scores = true,
            "--measured" => measured = true,
            "--clips" => clips = Some(value()?),
            "--threads" => options.threads = value()?.parse()?,
            "--settings" => settings = serde_json::from_slice(&std::fs::read(value()?)?)?,
            _ => videos.push(word),
        }
    }
    if measured {
        for line in std::io::stdin().lines() {
            let line: serde_json::Value = serde_json::from_str(&line?)?;
            let scores: FrameScores = serde_json::from_value(line["scores"].clone())?;
            println!(
                "{}",
                json!({"video": line["video"], "cuts": cuts(&scores, &settings)})
            );
        }
        return Ok(());
    }
    for video in videos {
        let (reader, scores, spent, measuring) = measure(Path::new(&video), &options)?;
        let found = cuts(&scores, &settings);
        let mut line = json!({
            "video": video, "frames": scores.frames(), "seconds": spent.as_secs_f64(),
            "measuring_cpu_seconds": measuring.own_s, "cuts": found,
        });
        if let Some(folder) = &clips {
            line["clips"] = clips_of(
                Path::new(&video),
                &reader,
                &scores,
                &found,
                Path::new(folder),
            )?;
        }
        if keeps_scores {
            line["scores"] = serde_json::to_value(&scores)?;
        }
        println!("{line}");
    }
    Ok(())
}

/// Cuts the shots of a video out.
fn clips_of(
    video: &Path,
    reader: &AnalysisReader,
    scores: &FrameScores,
    found: &[Cut],
    folder: &Path,
) -> Result<Value, Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let (info, first) = (reader.info(), reader.first_micros());
    let options = CutOutOptions {
        check: Check::Decode,
        ..CutOutOptions::default()
    };
    let (_, packets) = probe_packets(video, options.time_limit)?;
    let keyframes = Keyframes::new(&packets, first, &scores.micros);
    let stem = video.file_stem().unwrap_or_default().to_string_lossy();
    let plans = plan_clips(found, &keyframes, &scores.micros, &ClipSettings::default());
    let name = |plan: &ClipPlan| format!("{stem}-{:06}.{}", plan.start_frame, clip_ending(info));
    let names: Vec<PathBuf> = plans.iter().map(|plan| folder.join(name(plan))).collect();
    let files = plans
        .iter()
        .zip(&names)
        .map(|(plan, out)| ClipFile { plan, out });
    let files: Vec<ClipFile> = files.collect();
    let mut clips = Vec::new();
    for (file, made) in files
        .iter()
        .zip(cut_out(video, info, first, &files, &options))
    {
        let made = made?;
        clips.push(json!({
            "file": file.out, "plan": file.plan, "encoded": made.encoded, "reason": made.reason,
        }));
    }
    Ok(clips.into())
}

/// One decode; the time it took in all, and the processor time of measuring alone.
fn measure(
    video: &Path,
    options: &AnalysisOptions,
) -> kinora_curate::Result<(AnalysisReader, FrameScores, Duration, Cost)> {
    let start = Instant::now();
    let mut measuring = Cost::default();
    let mut reader = AnalysisReader::open(video, options)?;
    let (mut meter, mut frame) = (CutMeter::new(), AnalysisFrame::default());
    while reader.read_into(&mut frame)? {
        let before = Moment::now();
        meter.push(&frame);
        measuring.add(before.until(Moment::now(), 1));
    }
    Ok((reader, meter.finish(), start.elapsed(), measuring))
}
