//! Pictures: eight-bit RGB in memory, read from and written to the common formats.
//!
//! Reading does what diffusers does to a picture it is given (turn it by its EXIF note, then make it
//! RGB as PIL does), so that the same file conditions the same model alike: alpha is dropped and not
//! blended with a background, and a palette is looked up. PNG and the other lossless formats agree
//! exactly; two JPEG decoders may differ by a level or two. One difference is meant: of 16 bits the
//! upper eight are kept, in grey pictures too, which PIL clips to white.

mod encode;

use crate::error::{Error, Result};
use crate::unfinished::UnfinishedFile;
use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder as _, ImageEncoder as _, ImageFormat, ImageReader};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

/// The most pixels a picture or a frame may have: the size at which PIL takes a picture for an
/// attack and refuses it.
pub const MAX_PIXELS: usize = 178_956_970;

/// An eight-bit RGB picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb8Image {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Rgb8Image {
    /// A picture from its bytes.
    ///
    /// # Shapes
    /// `data`: [height, width, 3], rows from the top.
    ///
    /// # Errors
    /// When the bytes do not fill the size, or the size is empty.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Rgb8Image> {
        if width == 0 || height == 0 || data.len() != width * height * 3 {
            return Err(Error::argument(
                "picture",
                format!(
                    "{} bytes do not fill {width}×{height} pixels of three bytes, of which there must be at least one",
                    data.len()
                ),
            ));
        }
        Ok(Rgb8Image {
            width,
            height,
            data,
        })
    }

    /// A picture whose pixel in column `x` and row `y` is `color(x, y)`.
    ///
    /// # Panics
    /// When the size is empty.
    pub fn from_fn(width: usize, height: usize, color: impl Fn(usize, usize) -> [u8; 3]) -> Self {
        assert!(
            width > 0 && height > 0,
            "a picture of {width}×{height} pixels"
        );
        let mut data = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                data.extend(color(x, y));
            }
        }
        Rgb8Image {
            width,
            height,
            data,
        }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, [height, width, 3].
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes, to keep.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// The pixel in column `x` and row `y`.
    ///
    /// # Panics
    /// When it lies outside.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        assert!(x < self.width && y < self.height, "({x}, {y}) in {self:?}");
        let at = (y * self.width + x) * 3;
        [self.data[at], self.data[at + 1], self.data[at + 2]]
    }

    /// Writes the picture, as JPEG (quality 92) when the name ends in .jpg or .jpeg, else as PNG.
    /// The file appears whole or not at all.
    ///
    /// # Errors
    /// When the ending is another, or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let ending = ending_of(path);
        if !matches!(ending.as_str(), "png" | "jpg" | "jpeg") {
            return Err(Error::output(
                path,
                format!("pictures are written as .png or .jpg, not {ending:?}; rename the output"),
            ));
        }
        let (unfinished, file) = UnfinishedFile::create(path)?;
        let mut out = BufWriter::new(file);
        let (width, height) = (self.width as u32, self.height as u32);
        if ending == "png" {
            image::codecs::png::PngEncoder::new(&mut out).write_image(
                &self.data,
                width,
                height,
                image::ExtendedColorType::Rgb8,
            )
        } else {
            JpegEncoder::new_with_quality(&mut out, 92).encode(
                &self.data,
                width,
                height,
                image::ExtendedColorType::Rgb8,
            )
        }
        .map_err(|failure| Error::output(path, failure.to_string()))?;
        out.flush().map_err(Error::io("write", path))?;
        unfinished.finish()
    }
}

impl std::fmt::Debug for Rgb8Image {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Rgb8Image({}×{})", self.width, self.height)
    }
}

/// The ending of a name in lower case, empty where there is none.
pub(crate) fn ending_of(path: &Path) -> String {
    path.extension()
        .map(|ending| ending.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

/// Reads a picture: BMP, GIF (first frame), ICO, JPEG, PNG, PNM, QOI, TGA, TIFF or WebP, known by its
/// content and not by its name; turned upright by its EXIF note.
///
/// # Errors
/// When the file is missing, a folder, no picture, cut short, or larger than [`MAX_PIXELS`].
pub fn read_image(path: &Path) -> Result<Rgb8Image> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let about = file.metadata().map_err(Error::io("open", path))?;
    if about.is_dir() {
        return Err(Error::picture(
            path,
            "this is a folder; give a picture file",
        ));
    }
    if about.len() == 0 {
        return Err(Error::picture(path, "the file is empty"));
    }
    let mut reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(Error::io("read", path))?;
    // Only TGA has no mark at its start to be known by; for all else the content must speak.
    if reader.format().is_none() {
        if ending_of(path) != "tga" {
            return Err(Error::picture(
                path,
                "not a picture that can be read; convert it to PNG or JPEG",
            ));
        }
        reader.set_format(ImageFormat::Tga);
    }
    let format = reader.format();
    let picture = decode(path, reader)?;
    if format == Some(ImageFormat::Jpeg) {
        check_jpeg_end(path)?;
    }
    Ok(picture)
}

fn decode(path: &Path, mut reader: ImageReader<BufReader<File>>) -> Result<Rgb8Image> {
    let refusal = |failure: image::ImageError| {
        Error::picture(path, format!("damaged or not supported: {failure}"))
    };
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(MAX_PIXELS as u64 * 8);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(refusal)?;
    let (width, height) = decoder.dimensions();
    if width as usize * height as usize > MAX_PIXELS {
        return Err(Error::picture(
            path,
            format!(
                "{width}×{height} pixels are more than the {MAX_PIXELS} allowed; shrink it first"
            ),
        ));
    }
    if width == 0 || height == 0 {
        return Err(Error::picture(path, "the picture has no pixels"));
    }
    // A damaged note about the orientation is no reason to refuse the pixels.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let picture = DynamicImage::from_decoder(decoder).map_err(refusal)?;
    let mut upright = DynamicImage::ImageRgb8(rgb8_as_pil(picture));
    upright.apply_orientation(orientation);
    let upright = upright.into_rgb8();
    let (width, height) = upright.dimensions();
    Rgb8Image::new(width as usize, height as usize, upright.into_raw())
}

/// Alpha dropped, as PIL's `convert("RGB")` does, and of 16 bits the upper eight kept.
fn rgb8_as_pil(picture: DynamicImage) -> image::RgbImage {
    let upper = |value: u16| (value >> 8) as u8;
    let (width, height) = (picture.width(), picture.height());
    let data: Vec<u8> = match &picture {
        DynamicImage::ImageLuma16(grey) => grey.iter().flat_map(|&v| [upper(v); 3]).collect(),
        DynamicImage::ImageLumaA16(grey) => grey.pixels().flat_map(|p| [upper(p[0]); 3]).collect(),
        DynamicImage::ImageRgb16(rgb) => rgb.iter().map(|&v| upper(v)).collect(),
        DynamicImage::ImageRgba16(rgba) => rgba
            .pixels()
            .flat_map(|p| [p[0], p[1], p[2]].map(upper))
            .collect(),
        _ => return picture.into_rgb8(),
    };
    image::RgbImage::from_raw(width, height, data).expect("three bytes for every pixel")
}

/// Refuses a JPEG whose picture data never ends: the decoder fills what is missing with grey, and a
/// half grey still would be animated without a word.
fn check_jpeg_end(path: &Path) -> Result<()> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    // Headers (which may hold a thumbnail with an end of its own) are stepped over by their lengths.
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        if marker == 0xff {
            at += 1; // padding before a marker
            continue;
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == 0xda {
            break; // start of scan: entropy-coded data follow, in which 0xff is always escaped
        }
    }
    if bytes
        .get(at..)
        .is_some_and(|data| data.windows(2).any(|pair| pair == [0xff, 0xd9]))
    {
        return Ok(());
    }
    Err(Error::picture(
        path,
        "the JPEG is cut short; fetch it again or save it anew",
    ))
}

#[cfg(test)]
#[path = "image/tests.rs"]
mod tests;
