//! Eight frames of a video, on one sheet:
//!
//!     cargo run -p kinora-media --example frames -- clip.mp4 sheet.png

use kinora_media::{ReadOptions, Reader, Result, SheetRow, SheetStyle, contact_sheet};
use std::path::Path;

const COLUMNS: usize = 8;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [video, sheet] = words.as_slice() else {
        eprintln!("usage: frames VIDEO SHEET.png");
        std::process::exit(2);
    };
    let frames =
        Reader::open(Path::new(video), &ReadOptions::default())?.collect::<Result<Vec<_>>>()?;
    let step = frames.len().div_ceil(COLUMNS);
    let (mut pictures, mut times) = (Vec::new(), Vec::new());
    for frame in frames.into_iter().step_by(step) {
        times.push(format!("{:.2} s", frame.time_secs));
        pictures.push(frame.picture);
    }
    let row = SheetRow {
        caption: "",
        frames: &pictures,
    };
    let style = SheetStyle {
        title: video,
        columns: &times,
        ..SheetStyle::default()
    };
    contact_sheet(&[row], &style)?.save(Path::new(sheet))
}
