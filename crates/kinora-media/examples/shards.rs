//! Puts videos as they are into shards and reads them back, in order and by the index:
//!
//!     cargo run --release -p kinora-media --example shards -- OUT VIDEO...
//!
//! `python -c "import webdataset as w; [print(s['__key__'], len(s['mp4'])) for s in
//! w.WebDataset('OUT/clips-000000.tar', shardshuffle=False)]"` reads them elsewhere.

use kinora_media::{
    CaptionWeights, ClipRow, ShardClip, ShardFolder, ShardOptions, ShardReader, ShardWriter, probe,
};
use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.len() < 2 {
        return Err("give a folder to make and videos".into());
    }
    let out = paths.remove(0);
    let begun = Instant::now();
    let options = ShardOptions::default();
    let mut writer = ShardWriter::create(&out, &options, &CaptionWeights::default())?;
    for (index, path) in paths.iter().enumerate() {
        let row = row(index, path)?;
        writer.push(&ShardClip {
            row: &row,
            media: path,
            latents: None,
        })?;
    }
    println!(
        "{:?} in {:.2} s",
        writer.finish()?,
        begun.elapsed().as_secs_f64()
    );
    let shards = ShardFolder::open(&out)?;
    let mut bytes = 0;
    let begun = Instant::now();
    for path in shards.shards() {
        for sample in ShardReader::open(&path)? {
            bytes += sample?.clip().map_or(0, |(_, bytes)| bytes.len());
        }
    }
    println!(
        "{bytes} bytes of clips in order in {:.2} s",
        begun.elapsed().as_secs_f64()
    );
    let begun = Instant::now();
    for row in shards.index().iter().rev() {
        let sample = shards.read(row)?;
        bytes -= sample.clip().map_or(0, |(_, bytes)| bytes.len());
    }
    println!(
        "and by the index in {:.2} s, {bytes} bytes differ",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn row(index: usize, path: &std::path::Path) -> Result<ClipRow, Box<dyn std::error::Error>> {
    let info = probe(path)?;
    Ok(ClipRow {
        clip_id: format!("{index:08x}"),
        source: path.display().to_string(),
        width: u32::try_from(info.width)?,
        height: u32::try_from(info.height)?,
        motion_score: Some(0.25),
        caption_image: Some(format!("video number {index}")),
        caption_merged: Some(format!("video number {index}, merged")),
        ..ClipRow::default()
    })
}
