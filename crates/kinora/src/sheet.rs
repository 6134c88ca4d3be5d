//! `kinora sheet`: videos side by side on one picture, a row each.

use crate::Outcome;
use crate::args::SheetArgs;
use crate::interrupt::Interrupt;
use anyhow::{Context as _, bail};
use kinora_media::{
    ReadOptions, Reader, Rgb8Image, SheetRow, SheetStyle, contact_sheet, read_image,
};
use std::path::{Path, PathBuf};

/// Draws the sheet.
///
/// # Errors
/// When a row cannot be read, or the picture cannot be written.
pub fn run(args: &SheetArgs) -> anyhow::Result<Outcome> {
    if args.columns == 0 {
        bail!("--columns: expected at least 1");
    }
    Interrupt::at_once()?;
    let mut rows = Vec::new();
    for row in &args.rows {
        // A file whose own name holds the sign is a file, not a caption and a file.
        let captioned = row.split_once('=').filter(|_| !Path::new(row).exists());
        let (caption, path) = match captioned {
            Some((caption, path)) => (caption.to_owned(), PathBuf::from(path)),
            None => {
                let path = PathBuf::from(row);
                let name = path
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                (name, path)
            }
        };
        let frames = frames(&path).with_context(|| format!("row {}", path.display()))?;
        rows.push((caption, spread(frames, args.columns)));
    }
    let rows: Vec<SheetRow<'_>> = rows
        .iter()
        .map(|(caption, frames)| SheetRow { caption, frames })
        .collect();
    let style = SheetStyle {
        title: &args.title,
        ..SheetStyle::default()
    };
    contact_sheet(&rows, &style)?.save(&args.out)?;
    Ok(Outcome::Done)
}

/// Every frame of a video, of a folder of frames, or the one of a picture.
fn frames(path: &Path) -> anyhow::Result<Vec<Rgb8Image>> {
    if path.is_dir() {
        let mut files: Vec<PathBuf> = std::fs::read_dir(path)?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<Result<_, _>>()?;
        files.retain(|file| file.extension().is_some_and(|ending| ending == "png"));
        files.sort();
        return Ok(files
            .iter()
            .map(|file| read_image(file))
            .collect::<Result<_, _>>()?);
    }
    // A still needs no ffmpeg; an animated picture is a video.
    let as_video = || -> kinora_media::Result<Vec<Rgb8Image>> {
        Reader::open(path, &ReadOptions::default())?
            .map(|frame| frame.map(|frame| frame.picture))
            .collect()
    };
    match as_video() {
        Ok(frames) if !frames.is_empty() => Ok(frames),
        Ok(_) => bail!("it holds no frame"),
        Err(error) => match read_image(path) {
            Ok(picture) => Ok(vec![picture]),
            Err(_) => Err(error.into()),
        },
    }
}

/// At most `count` frames, the first and the last among them, evenly apart.
fn spread(frames: Vec<Rgb8Image>, count: usize) -> Vec<Rgb8Image> {
    if frames.len() <= count {
        return frames;
    }
    let last = frames.len() - 1;
    let wanted: Vec<usize> = (0..count)
        .map(|k| {
            if count == 1 {
                0
            } else {
                k * last / (count - 1)
            }
        })
        .collect();
    let pick = |(k, frame)| wanted.contains(&k).then_some(frame);
    frames.into_iter().enumerate().filter_map(pick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_frame_are_always_shown() {
        let frames: Vec<Rgb8Image> = (0..25)
            .map(|k| Rgb8Image::from_fn(1, 1, |_, _| [k as u8; 3]))
            .collect();
        let shown = |count| -> Vec<u8> {
            spread(frames.clone(), count)
                .iter()
                .map(|frame| frame.pixel(0, 0)[0])
                .collect()
        };
        assert_eq!(shown(5), [0, 6, 12, 18, 24]);
        assert_eq!(shown(1), [0]);
        assert_eq!(shown(40).len(), 25);
    }
}
