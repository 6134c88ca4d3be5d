//! Frames laid out to be looked at: rows beneath each other on one sheet, or two videos side by side.

use crate::drawing::{Canvas, Color, Text, text_width};
use crate::error::{Error, Result};
use crate::image::Rgb8Image;

const BACKGROUND: Color = [0.071, 0.078, 0.098];
const TITLE_TEXT: Text = Text {
    height: 13.0,
    weight: 1.8,
    color: [0.95, 0.95, 0.97],
};
const CAPTION_TEXT: Text = Text {
    height: 9.0,
    weight: 1.3,
    color: [0.70, 0.73, 0.79],
};
const MAX_CAPTION_WIDTH: f32 = 260.0;
const MARGIN: usize = 18;
const GAP: usize = 6;

/// A row of a contact sheet.
#[derive(Clone, Debug)]
pub struct SheetRow<'a> {
    /// What stands to its left.
    pub caption: &'a str,
    /// Its frames; a short row leaves the rest of its columns empty.
    pub frames: &'a [Rgb8Image],
}

/// How a contact sheet looks.
#[derive(Clone, Debug)]
pub struct SheetStyle<'a> {
    /// Above everything, where not empty.
    pub title: &'a str,
    /// Above each column, such as its time; may be shorter than the rows.
    pub columns: &'a [String],
    /// Width of a frame on the sheet, pixels.
    pub frame_width: usize,
}

impl Default for SheetStyle<'_> {
    fn default() -> Self {
        SheetStyle {
            title: "",
            columns: &[],
            frame_width: 144,
        }
    }
}

/// Lays rows of frames out on one sheet. Frames are scaled to one width, each row by the shape of its
/// first frame.
///
/// # Errors
/// When no row has a frame, or the sheet would be too large to be a picture.
pub fn contact_sheet(rows: &[SheetRow<'_>], style: &SheetStyle<'_>) -> Result<Rgb8Image> {
    let layout = Layout::of(rows, style)?;
    let mut canvas = Canvas::filled(layout.width, layout.height, BACKGROUND);
    let title = TITLE_TEXT.fitted(style.title, (layout.width - 2 * MARGIN) as f32);
    TITLE_TEXT.draw(&mut canvas, &title, [MARGIN as f32, MARGIN as f32]);
    for (index, head) in style.columns.iter().take(layout.columns).enumerate() {
        let middle = layout.column(index) + layout.frame_width / 2;
        let head = CAPTION_TEXT.fitted(head, layout.frame_width as f32);
        let top = layout.top as f32 - 17.0;
        CAPTION_TEXT.draw_centered(&mut canvas, &head, middle as f32, top);
    }
    let mut y = layout.top;
    for row in rows {
        let height = row_height(row, layout.frame_width);
        let caption = CAPTION_TEXT.fitted(row.caption, layout.caption_width as f32);
        let middle = y as f32 + (height as f32 - CAPTION_TEXT.height) / 2.0;
        let right = (MARGIN + layout.caption_width) as f32;
        CAPTION_TEXT.draw_ending(&mut canvas, &caption, right, middle);
        for (index, frame) in row.frames.iter().enumerate() {
            canvas.lay(frame, layout.column(index), y, layout.frame_width, height);
        }
        y += height + GAP;
    }
    Ok(canvas.to_rgb8())
}

/// Where everything stands, in pixels.
struct Layout {
    columns: usize,
    frame_width: usize,
    caption_width: usize,
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Layout {
    fn of(rows: &[SheetRow<'_>], style: &SheetStyle<'_>) -> Result<Layout> {
        let refusal = |message: String| Err(Error::argument("contact sheet", message));
        let columns = rows.iter().map(|row| row.frames.len()).max().unwrap_or(0);
        if columns == 0 {
            return refusal("no row has a frame; give at least one".to_owned());
        }
        let frame_width = style.frame_width.max(8);
        let widths = rows
            .iter()
            .map(|row| text_width(row.caption, CAPTION_TEXT.height));
        let caption_width = widths.fold(0.0, f32::max).min(MAX_CAPTION_WIDTH).ceil() as usize;
        let left = MARGIN
            + if caption_width > 0 {
                caption_width + MARGIN
            } else {
                0
            };
        let title_height = if style.title.is_empty() { 0 } else { 34 };
        let head_height = if style.columns.is_empty() { 0 } else { 22 };
        let top = MARGIN + title_height + head_height;
        let heights = rows.iter().map(|row| row_height(row, frame_width) + GAP);
        let width = left + columns * (frame_width + GAP) - GAP + MARGIN;
        let height = top + heights.sum::<usize>() - GAP + MARGIN;
        if width.saturating_mul(height) > crate::MAX_PIXELS {
            return refusal(format!(
                "{width}×{height} pixels are too many; use fewer or smaller frames"
            ));
        }
        Ok(Layout {
            columns,
            frame_width,
            caption_width,
            left,
            top,
            width,
            height,
        })
    }

    /// The left edge of a column.
    fn column(&self, index: usize) -> usize {
        self.left + index * (self.frame_width + GAP)
    }
}

fn row_height(row: &SheetRow<'_>, frame_width: usize) -> usize {
    let shape = row
        .frames
        .first()
        .map_or(0.2, |frame| frame.height() as f64 / frame.width() as f64);
    ((frame_width as f64 * shape).round() as usize).max(1)
}

/// Two videos side by side under their captions, as the frames of one: generated and true, say. The
/// shorter one holds its last frame.
///
/// # Errors
/// When either is empty.
pub fn side_by_side(
    left: (&str, &[Rgb8Image]),
    right: (&str, &[Rgb8Image]),
    frame_width: usize,
) -> Result<Vec<Rgb8Image>> {
    let count = left.1.len().max(right.1.len());
    let held = |frames: &[Rgb8Image], index: usize| match frames.get(index).or(frames.last()) {
        Some(frame) => Ok(frame.clone()),
        None => Err(Error::argument(
            "side by side",
            "a video without frames was given",
        )),
    };
    let style = SheetStyle {
        columns: &[left.0.to_owned(), right.0.to_owned()],
        frame_width,
        ..SheetStyle::default()
    };
    let pair = |index| {
        let frames = [held(left.1, index)?, held(right.1, index)?];
        let row = SheetRow {
            caption: "",
            frames: &frames,
        };
        contact_sheet(&[row], &style)
    };
    (0..count.max(1)).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: usize, height: usize, level: u8) -> Rgb8Image {
        Rgb8Image::from_fn(width, height, |_, _| [level; 3])
    }

    #[test]
    fn frames_stand_in_their_cells() {
        let (upper, lower) = (
            [plain(40, 30, 50), plain(40, 30, 100)],
            [plain(40, 20, 250)],
        );
        let rows = [
            SheetRow {
                caption: "generated",
                frames: &upper,
            },
            SheetRow {
                caption: "true",
                frames: &lower,
            },
        ];
        let style = SheetStyle {
            title: "A still and what follows",
            columns: &["0.0 s".to_owned(), "0.5 s".to_owned()],
            frame_width: 80,
        };
        let sheet = contact_sheet(&rows, &style).unwrap();
        let right = sheet.width() - MARGIN - 1;
        let bottom = sheet.height() - MARGIN - 1;
        assert_eq!(sheet.pixel(right - 40, bottom - 40 - GAP - 20), [100; 3]);
        assert_eq!(sheet.pixel(right - 40 - 80 - GAP, bottom - 20), [250; 3]);
        assert_eq!(sheet.pixel(right - 40, bottom - 20), sheet.pixel(0, 0));
        let inked = (0..sheet.width()).any(|x| sheet.pixel(x, MARGIN + 6)[0] > 180);
        assert!(inked, "the title must be drawn");
    }

    #[test]
    fn two_videos_run_side_by_side_and_the_shorter_one_waits() {
        let (left, right) = (
            [plain(16, 16, 10)],
            [plain(16, 16, 200), plain(16, 16, 240)],
        );
        let frames = side_by_side(("generated", &left), ("true", &right), 64).unwrap();
        assert_eq!(frames.len(), 2);
        let bottom = frames[1].height() - MARGIN - 5;
        assert_eq!(frames[1].pixel(MARGIN + 30, bottom), [10; 3]);
        assert_eq!(frames[1].pixel(MARGIN + 64 + GAP + 30, bottom), [240; 3]);
        assert!(side_by_side(("a", &[]), ("b", &right), 64).is_err());
    }

    #[test]
    fn nothing_to_show_is_refused() {
        assert!(contact_sheet(&[], &SheetStyle::default()).is_err());
        let row = SheetRow {
            caption: "empty",
            frames: &[],
        };
        assert!(contact_sheet(&[row], &SheetStyle::default()).is_err());
    }
}
