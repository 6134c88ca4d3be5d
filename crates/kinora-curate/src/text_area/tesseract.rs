//! Words found by tesseract, a program for reading printed text, run once for each picture.
//!
//! Its settings were chosen by measurement, see `docs/decisions/0007-text.md`.

use super::TextBox;
use crate::{Error, Result};
use kinora_media::{Rgb8Image, run_tool};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the three colours of a pixel become the one brightness in which words are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grey {
    /// Tesseract's own: a weighted mean of the three.
    Mean,
    /// The smallest of the three. Letters laid over a picture are mostly white, black or yellow, and
    /// stand out from its colours most where those are weakest.
    #[default]
    Smallest,
}

/// How tesseract is asked, and what of its answer counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TesseractSettings {
    /// The program, by name or path.
    pub program: PathBuf,
    /// The language data it reads with, as its option `-l` takes it.
    pub language: String,
    /// The brightness it is given.
    pub grey: Grey,
    /// Its page segmentation mode; 11 looks for sparse text in no order.
    pub page_segmentation: u32,
    /// Its way to black and white: 0 one threshold for the picture (Otsu), 1 and 2 local ones.
    pub thresholding: u32,
    /// Words it is less sure of are dropped, 0 to 100.
    pub min_confidence: f32,
    /// Words with fewer letters and digits are dropped: leaves and bricks are read as single signs.
    pub min_characters: usize,
    /// Pictures are shrunk to this many pixels on the longer side first.
    pub long_side_pixels: usize,
    /// A picture may take this long, seconds.
    pub time_limit_s: f64,
}

impl Default for TesseractSettings {
    fn default() -> Self {
        TesseractSettings {
            program: PathBuf::from("tesseract"),
            language: "eng".to_owned(),
            grey: Grey::default(),
            page_segmentation: 11,
            thresholding: 0,
            min_confidence: 60.0,
            min_characters: 3,
            long_side_pixels: 1920,
            time_limit_s: 60.0,
        }
    }
}

/// The program, found and asked for its version.
#[derive(Clone, Debug)]
pub struct Tesseract {
    settings: TesseractSettings,
    version: String,
}

/// A page full of letters answers with some hundred kilobytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;

impl Tesseract {
    /// Looks for the program and its version.
    ///
    /// # Errors
    /// When it is not installed or does not answer as tesseract does, or a setting makes no sense.
    pub fn find(settings: TesseractSettings) -> Result<Tesseract> {
        let limit = settings.time_limit_s;
        if !(limit.is_finite() && limit > 0.0) || settings.long_side_pixels == 0 {
            return Err(Error::Setting(format!(
                "tesseract: expected a time limit above 0 s and a longer side of at least 1 pixel, \
                 found {limit} s and {} pixels",
                settings.long_side_pixels
            )));
        }
        let answer = ask(&settings, &["--version".into()], &[])?;
        let first = answer.lines().next().unwrap_or_default();
        let Some(version) = first.strip_prefix("tesseract ") else {
            return Err(failed(format!(
                "asked for its version, {} answered {first:?}; expected `tesseract 5.3.0` or such: \
                 name the program in `program`",
                settings.program.display()
            )));
        };
        Ok(Tesseract {
            version: version.trim().to_owned(),
            settings,
        })
    }

    /// The program's own version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The settings that decide the result, as JSON: neither where the program lies nor how long it
    /// may take.
    pub fn params(&self) -> String {
        let TesseractSettings {
            language,
            grey,
            page_segmentation,
            thresholding,
            min_confidence,
            min_characters,
            long_side_pixels,
            program: _,
            time_limit_s: _,
        } = &self.settings;
        json!({
            "language": language,
            "grey": grey,
            "page_segmentation": page_segmentation,
            "thresholding": thresholding,
            "min_confidence": min_confidence,
            "min_characters": min_characters,
            "long_side_pixels": long_side_pixels,
        })
        .to_string()
    }

    /// The boxes of the words on `picture`.
    ///
    /// # Errors
    /// When the program fails, takes too long, or answers what is no table of words.
    pub fn boxes(&self, picture: &Rgb8Image) -> Result<Vec<TextBox>> {
        let small = picture.shrunk(self.settings.long_side_pixels);
        let scale = [
            picture.width() as f32 / small.width() as f32,
            picture.height() as f32 / small.height() as f32,
        ];
        let answer = ask(&self.settings, &self.arguments(), &self.shown(&small))?;
        let words = words_of(&answer)?;
        let kept = words.iter().filter(|word| self.counts(word));
        Ok(kept.map(|word| word.scaled(scale)).collect())
    }

    fn arguments(&self) -> Vec<OsString> {
        let settings = &self.settings;
        let words = [
            "stdin".to_owned(),
            "stdout".to_owned(),
            "-l".to_owned(),
            settings.language.clone(),
            "--psm".to_owned(),
            settings.page_segmentation.to_string(),
            "-c".to_owned(),
            format!("thresholding_method={}", settings.thresholding),
            "tsv".to_owned(),
        ];
        words.map(OsString::from).to_vec()
    }

    /// The file that tesseract is given.
    fn shown(&self, picture: &Rgb8Image) -> Vec<u8> {
        match self.settings.grey {
            Grey::Mean => picture.to_ppm(),
            Grey::Smallest => {
                let header = format!("P5\n{} {}\n255\n", picture.width(), picture.height());
                let pixels = picture.data().as_chunks::<3>().0;
                let smallest = pixels.iter().map(|&[r, g, b]| r.min(g).min(b));
                header.into_bytes().into_iter().chain(smallest).collect()
            }
        }
    }

    fn counts(&self, word: &Word) -> bool {
        let characters = word.text.chars().filter(|c| c.is_alphanumeric()).count();
        word.confidence >= self.settings.min_confidence
            && characters >= self.settings.min_characters
    }
}

/// Runs the program once.
fn ask(settings: &TesseractSettings, arguments: &[OsString], input: &[u8]) -> Result<String> {
    let program = settings.program.to_string_lossy();
    let limit = Duration::from_secs_f64(settings.time_limit_s);
    let about = Path::new("a frame");
    let answer = run_tool(&program, about, arguments, input, limit, MAX_ANSWER_BYTES);
    let answer = answer.map_err(|failure| match failure {
        kinora_media::Error::ToolMissing { program } => failed(format!(
            "`{program}` was not found; install it with `apt-get install tesseract-ocr` (Debian, \
             Ubuntu) or `brew install tesseract` (macOS), or choose another judge of text"
        )),
        other => failed(other.to_string()),
    })?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// One word as tesseract reports it.
#[derive(Debug, PartialEq)]
struct Word<'a> {
    left: f32,
    top: f32,
    width: f32,
    height: f32,
    confidence: f32,
    text: &'a str,
}

impl Word<'_> {
    fn scaled(&self, [x, y]: [f32; 2]) -> TextBox {
        let (right, bottom) = (self.left + self.width, self.top + self.height);
        TextBox::upright(self.left * x, self.top * y, right * x, bottom * y)
    }
}

const HEADER: &str = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\
                      \theight\tconf\ttext";
/// The level of a row: a page is 1, a block 2, a paragraph 3, a line 4.
const WORD: &str = "5";

/// The words of a table in the format `tsv`.
fn words_of(answer: &str) -> Result<Vec<Word<'_>>> {
    let mut lines = answer.lines();
    if lines.next().map(str::trim_end) != Some(HEADER) {
        let start: String = answer.chars().take(80).collect();
        return Err(failed(format!(
            "expected a table that begins with {HEADER:?}, found {start:?}; tesseract 4 or 5 writes \
             it, see `tesseract --version`"
        )));
    }
    let words = lines.filter(|line| line.split('\t').next() == Some(WORD));
    words.map(word_of).collect()
}

fn word_of(line: &str) -> Result<Word<'_>> {
    let fields: Vec<&str> = line.splitn(12, '\t').collect();
    let number = |at: usize| -> Result<f32> {
        let value = fields.get(at).and_then(|field| field.parse::<f32>().ok());
        value.filter(|value| value.is_finite()).ok_or_else(|| {
            failed(format!(
                "expected twelve fields with numbers first, found {line:?}"
            ))
        })
    };
    Ok(Word {
        left: number(6)?,
        top: number(7)?,
        width: number(8)?,
        height: number(9)?,
        confidence: number(10)?,
        text: fields.get(11).copied().unwrap_or_default(),
    })
}

fn failed(what: impl Into<String>) -> Error {
    Error::Judge {
        judge: "tesseract",
        what: what.into(),
    }
}

#[cfg(test)]
mod tests;
