//! The cuts of videos, as lines of JSON, with what it took to find them:
//!
//!     cargo run --release -p kinora-curate --example find_cuts -- a.mp4 b.webm
//!
//! `--scores` adds what was measured of every frame, `--settings FILE.json` moves thresholds, and
//! `--measured` reads such lines from standard input instead of decoding.

use kinora_curate::cuts::{CutMeter, CutSettings, FrameScores, cuts};
use kinora_media::{AnalysisFrame, AnalysisOptions, AnalysisReader};
use serde_json::json;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let mut settings = CutSettings::default();
    let (mut keeps_scores, mut measured, mut options) = (false, false, AnalysisOptions::default());
    let mut videos = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--scores" => keeps_scores = true,
            "--measured" => measured = true,
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
        let (scores, spent, measuring) = measure(Path::new(&video), &options)?;
        let mut line = json!({
            "video": video, "frames": scores.frames(), "seconds": spent.as_secs_f64(),
            "measuring_seconds": measuring.as_secs_f64(), "cuts": cuts(&scores, &settings),
        });
        if keeps_scores {
            line["scores"] = serde_json::to_value(&scores)?;
        }
        println!("{line}");
    }
    Ok(())
}

/// One decode; the time it took in all, and without ffmpeg.
fn measure(
    video: &Path,
    options: &AnalysisOptions,
) -> kinora_curate::Result<(FrameScores, Duration, Duration)> {
    let start = Instant::now();
    let mut measuring = Duration::ZERO;
    let mut reader = AnalysisReader::open(video, options)?;
    let (mut meter, mut frame) = (CutMeter::new(), AnalysisFrame::default());
    while reader.read_into(&mut frame)? {
        let before = Instant::now();
        meter.push(&frame);
        measuring += before.elapsed();
    }
    Ok((meter.finish(), start.elapsed(), measuring))
}
