//! How long a filter takes on a table of many clips:
//!
//!     cargo run --release -p kinora-curate --example filter_rows -- FOLDER [ROWS] [DIMENSION]
//!
//! ROWS is a million where not given; with a DIMENSION each row has embeddings of three times as many
//! numbers.

use kinora_curate::filter::{FilterSettings, filter_table};
use kinora_media::{ClipRow, TableWriter};
use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let folder = PathBuf::from(words.next().ok_or("give a folder")?);
    let rows: u64 = words.next().map_or(Ok(1_000_000), |word| word.parse())?;
    let dimension: usize = words.next().map_or(Ok(0), |word| word.parse())?;
    let table = folder.join("clips.parquet");

    let begun = Instant::now();
    let mut writer = TableWriter::create(&table)?;
    for index in 0..rows {
        writer.push(clip(index, dimension))?;
    }
    writer.finish()?;
    let bytes = std::fs::metadata(&table)?.len();
    println!(
        "written   {:6.2} s, {:.1} MB",
        begun.elapsed().as_secs_f64(),
        bytes as f64 / 1e6
    );

    let begun = Instant::now();
    let summary = filter_table(
        &table,
        &folder.join("kept.parquet"),
        &folder.join("dropped.parquet"),
        &FilterSettings::default(),
        &mut |_, _| {},
    )?;
    println!(
        "filtered  {:6.2} s, {} of {} kept",
        begun.elapsed().as_secs_f64(),
        summary.kept,
        summary.clips
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find(|line| line.starts_with("VmHWM")) {
        println!("{peak}");
    }
    Ok(())
}

/// Numbers that look random, in the ranges of the paper's figures.
fn clip(index: u64, dimension: usize) -> ClipRow {
    let draw = |stream: u64| {
        let mixed = (index * 7 + stream).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 40) as f32 / (1u32 << 24) as f32
    };
    let start = index % 11 * 300;
    ClipRow {
        clip_id: format!("{:016x}", index.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        source: format!("videos/{:07}.mp4", index / 11),
        file: Some(format!("clips/{index:08}.mp4")),
        start_frame: start,
        end_frame: start + 60 + (draw(0) * 500.0) as u64,
        start_s: start as f64 / 28.0,
        end_s: start as f64 / 28.0 + 2.0 + f64::from(draw(0)) * 18.0,
        fps: 28.0,
        width: 1280,
        height: 720,
        motion_score: Some(-0.4 * (1.0 - draw(1)).ln()),
        motion_bucket: Some((draw(1) * 255.0) as u8),
        text_area: Some((draw(2) - 0.7).max(0.0)),
        embeddings: (dimension > 0).then(|| vec![draw(3); 3 * dimension]),
        clip_similarity: Some(0.15 + 0.2 * draw(4)),
        aesthetic: Some(3.0 + 4.0 * draw(5)),
        caption_image: Some(format!("a picture of thing number {index} on a table")),
        caption_video: Some(format!(
            "thing number {index} turns around while the light changes"
        )),
        caption_merged: Some(format!(
            "thing number {index} on a table turns around while the light changes"
        )),
        ..ClipRow::default()
    }
}
