//! Samples as pictures: true frames above, what the model makes of them below.

use crate::clips::Clips;
use crate::{Error, Result};
use kinora_media::{
    Fps, Metadata, Rgb8Image, SheetRow, SheetStyle, Writer, contact_sheet, side_by_side,
};
use kinora_model::pixels;
use kinora_tensor::Tensor;
use std::path::Path;

/// Width of a frame in the moving samples, in pixels.
const MOVING_WIDTH_PX: usize = 160;

/// Writes a sheet, two rows for each pair, and beside it the first pair as a moving picture, where
/// clips have more than one frame.
///
/// # Shapes
/// Each of a pair is `[t, h, w, 3]`, in about −1..1.
///
/// # Errors
/// When the file system refuses.
pub fn write(path: &Path, pairs: &[(Tensor, Tensor)], clips: &Clips) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let mut rows = Vec::new();
    for (truth, made) in pairs {
        rows.push(("true", pictures(truth)?));
        rows.push(("made", pictures(made)?));
    }
    let rows: Vec<SheetRow<'_>> = rows
        .iter()
        .map(|(caption, frames)| SheetRow { caption, frames })
        .collect();
    contact_sheet(&rows, &SheetStyle::default())?.save(path)?;
    if let [truth, made, ..] = rows.as_slice()
        && clips.frames > 1
    {
        let both = side_by_side(
            ("true", truth.frames),
            ("made", made.frames),
            MOVING_WIDTH_PX,
        )?;
        write_moving(&path.with_extension("gif"), &both, clips.training[0].fps)?;
    }
    Ok(())
}

/// The frames of a clip as pictures.
fn pictures(clip: &Tensor) -> Result<Vec<Rgb8Image>> {
    let &[_, h, w, c] = clip.dims() else {
        unreachable!("clips of pictures have four axes")
    };
    let bytes = pixels::rgb8_from_tensor(clip)?;
    let frames = bytes.chunks_exact(h * w * c);
    Ok(frames
        .map(|frame| Rgb8Image::new(w, h, frame.to_vec()))
        .collect::<kinora_media::Result<_>>()?)
}

fn write_moving(path: &Path, frames: &[Rgb8Image], fps: f32) -> Result<()> {
    let rate = Fps::whole((fps.round() as u32).max(1)).expect("at least 1");
    let (width, height) = (frames[0].width(), frames[0].height());
    let mut writer = Writer::create(path, width, height, rate, &Metadata::new())?;
    for frame in frames {
        writer.push(frame)?;
    }
    Ok(writer.finish()?)
}
