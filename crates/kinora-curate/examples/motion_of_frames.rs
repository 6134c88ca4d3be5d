//! The motion of grey frames from standard input, and what measuring it costs.
//!
//! `ffmpeg -i VIDEO -vf scale=256:144 -f rawvideo -pix_fmt gray - | motion_of_frames 256 144 24`: width,
//! height and frames a second in; a line for each pair, the score of the whole and the time out.

use kinora_curate::motion::{MotionMeter, MotionSettings, motion_score};
use kinora_media::AnalysisFrame;
use std::error::Error;
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [width, height, fps] = args.as_slice() else {
        return Err("expected WIDTH HEIGHT FRAMES_A_SECOND".into());
    };
    let (width, height, fps): (usize, usize, f64) = (width.parse()?, height.parse()?, fps.parse()?);
    let mut meter = MotionMeter::new(MotionSettings::default())?;
    let mut frame = AnalysisFrame {
        width,
        height,
        luma: vec![0; width * height],
        ..AnalysisFrame::default()
    };
    let mut spent = Duration::ZERO;
    let mut input = std::io::stdin().lock();
    loop {
        match input.read_exact(&mut frame.luma) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            read => read?,
        }
        frame.micros = (frame.number as f64 / fps * 1e6).round() as i64;
        let started = Instant::now();
        meter.push(&frame)?;
        spent += started.elapsed();
        frame.number += 1;
    }
    let started = Instant::now();
    let track = meter.finish()?;
    spent += started.elapsed();
    for (kind, pairs) in [("regular", &track.pairs), ("close", &track.close_pairs)] {
        for pair in pairs {
            println!(
                "{kind} {:.3} to {:.3} s: {:.4}",
                pair.first_micros as f64 * 1e-6,
                pair.second_micros as f64 * 1e-6,
                pair.magnitude
            );
        }
    }
    let seconds = frame.number as f64 / fps;
    let milliseconds = spent.as_secs_f64() * 1e3;
    println!(
        "score {:?}; {:.1} ms for {seconds:.1} s of video, {:.2} ms a second",
        motion_score(&track, 0, i64::MAX),
        milliseconds,
        milliseconds / seconds
    );
    Ok(())
}
