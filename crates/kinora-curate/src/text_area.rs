//! How much of a picture is written text (paper, App. C, Fig. 15).
//!
//! The paper's rate is the area of all boxes around text over the area of the frame, on first,
//! middle and last frame. Two things it leaves open are settled so: boxes that overlap count once
//! (their union, so that the share never passes 1), and the largest of the three shares is kept (a
//! title that is shown for a moment spoils a clip as a lasting one does).

mod boxes;
mod tesseract;

pub use boxes::{TextBox, covered_share};
pub use tesseract::{Grey, Tesseract, TesseractSettings};

use crate::Result;
use kinora_media::Rgb8Image;
use kinora_model::judges::craft::{Craft, CraftSettings};
use kinora_model::pixels::Picture;
use serde_json::json;

/// Raised when the way from a judge's boxes to a share changes.
const VERSION: u32 = 1;

/// Who says where text stands.
#[derive(Debug)]
pub enum TextJudge {
    /// The program of that name, see [`Tesseract`].
    Tesseract(Tesseract),
    /// CRAFT on our own engine, with weights that the user brings.
    Craft(Box<Craft>, CraftSettings),
}

impl TextJudge {
    /// The boxes around text on one picture, in its pixels.
    ///
    /// # Errors
    /// When the judge does not do its work; the text says what to do.
    pub fn boxes(&self, picture: &Rgb8Image) -> Result<Vec<TextBox>> {
        match self {
            TextJudge::Tesseract(tesseract) => tesseract.boxes(picture),
            TextJudge::Craft(network, settings) => {
                let picture = Picture::new(picture.data(), picture.height(), picture.width())?;
                let found = network.boxes(picture, settings)?;
                Ok(found.into_iter().map(TextBox::new).collect())
            }
        }
    }

    /// The largest share of a picture under boxes on first, middle and last frame, 0 to 1.
    ///
    /// # Errors
    /// As [`boxes`](Self::boxes).
    pub fn area(&self, frames: &[Rgb8Image; 3]) -> Result<f32> {
        let mut largest = 0f64;
        for (at, frame) in frames.iter().enumerate() {
            // The three frames of a still shot are one question.
            if frames[..at].contains(frame) {
                continue;
            }
            let boxes = self.boxes(frame)?;
            largest = largest.max(covered_share(&boxes, frame.width(), frame.height()));
        }
        Ok(largest as f32)
    }

    /// The judge's name in a cache and in the clip table.
    pub fn id(&self) -> &'static str {
        match self {
            TextJudge::Tesseract(_) => "tesseract",
            TextJudge::Craft(..) => "craft",
        }
    }

    /// What else but the settings decides the result: our own version and that of the program or the
    /// weights.
    pub fn version(&self) -> String {
        match self {
            TextJudge::Tesseract(tesseract) => format!("{VERSION}+{}", tesseract.version()),
            TextJudge::Craft(network, _) => format!("{VERSION}+{}", network.fingerprint()),
        }
    }

    /// The settings that decide the result, as JSON.
    pub fn params(&self) -> String {
        match self {
            TextJudge::Tesseract(tesseract) => tesseract.params(),
            TextJudge::Craft(_, settings) => json!({
                "canvas_pixels": settings.canvas_pixels,
                "magnification": settings.magnification,
                "text_threshold": settings.text_threshold,
                "link_threshold": settings.link_threshold,
                "low_text": settings.low_text,
            })
            .to_string(),
        }
    }
}
