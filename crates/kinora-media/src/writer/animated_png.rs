//! An animated PNG. Each frame is compressed as a picture of its own by the `png` crate; this file
//! puts their data into one animation. (The crate's own animation writer must know the number of
//! frames before the first; here it is known after the last.)

use crate::error::{Error, Result};
use crate::fps::Fps;
use crate::image::Rgb8Image;
use crate::metadata::PNG_KEYWORD;
use crate::unfinished::UnfinishedFile;
use std::fs::File;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Where the animation control chunk starts: after the signature (8) and the header chunk (12 + 13).
const CONTROL_OFFSET: u64 = 8 + 12 + 13;

#[derive(Debug)]
pub(super) struct AnimatedPng {
    unfinished: UnfinishedFile,
    file: BufWriter<File>,
    path: PathBuf,
    size: (usize, usize),
    fps: Fps,
    frames: u32,
    sequence: u32,
}

impl AnimatedPng {
    pub fn create(path: &Path, size: (usize, usize), fps: Fps, text: &str) -> Result<AnimatedPng> {
        if u16::try_from(fps.numerator()).is_err() || u16::try_from(fps.denominator()).is_err() {
            return Err(Error::output(
                path,
                format!("an animated PNG cannot hold the rate {fps}; use a simpler fraction"),
            ));
        }
        let (unfinished, file) = UnfinishedFile::create(path)?;
        let mut output = AnimatedPng {
            unfinished,
            file: BufWriter::new(file),
            path: path.to_path_buf(),
            size,
            fps,
            frames: 0,
            sequence: 0,
        };
        output.write_start(text)?;
        Ok(output)
    }

    fn write_start(&mut self, text: &str) -> Result<()> {
        let mut header = Vec::new();
        header.extend((self.size.0 as u32).to_be_bytes());
        header.extend((self.size.1 as u32).to_be_bytes());
        header.extend([8, 2, 0, 0, 0]); // eight bits, RGB, no interlace
        // Keyword, then zeros: its end, two flags for "not compressed", no language, no translation.
        let comment = [PNG_KEYWORD, &[0; 5], text.as_bytes()].concat();
        self.write_bytes(b"\x89PNG\r\n\x1a\n")?;
        self.write_chunk(b"IHDR", &header)?;
        self.write_chunk(b"acTL", &[0; 8])?;
        self.write_chunk(b"iTXt", &comment)
    }

    pub fn push(&mut self, frame: &Rgb8Image) -> Result<()> {
        let mut control = Vec::new();
        control.extend(self.next_sequence().to_be_bytes());
        control.extend((self.size.0 as u32).to_be_bytes());
        control.extend((self.size.1 as u32).to_be_bytes());
        control.extend([0; 8]); // at the top left
        control.extend((self.fps.denominator() as u16).to_be_bytes());
        control.extend((self.fps.numerator() as u16).to_be_bytes());
        control.extend([0, 0]); // leave the frame, and paint over it
        self.write_chunk(b"fcTL", &control)?;
        let data = self.compress(frame)?;
        if self.frames == 0 {
            self.write_chunk(b"IDAT", &data)?;
        } else {
            let numbered = [&self.next_sequence().to_be_bytes(), data.as_slice()].concat();
            self.write_chunk(b"fdAT", &numbered)?;
        }
        self.frames += 1;
        Ok(())
    }

    pub fn finish(mut self) -> Result<()> {
        self.write_chunk(b"IEND", &[])?;
        let place = self.file.seek(SeekFrom::Start(CONTROL_OFFSET));
        place.map_err(Error::io("write", &self.path))?;
        let mut control = self.frames.to_be_bytes().to_vec();
        control.extend([0; 4]); // without end
        self.write_chunk(b"acTL", &control)?;
        self.file.flush().map_err(Error::io("write", &self.path))?;
        drop(self.file);
        self.unfinished.finish()
    }

    /// The compressed data of one picture.
    fn compress(&self, frame: &Rgb8Image) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        let mut encoder = png::Encoder::new(&mut whole, self.size.0 as u32, self.size.1 as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder
            .write_header()
            .and_then(|mut writer| {
                writer.write_image_data(frame.data())?;
                writer.finish()
            })
            .map_err(|failure| Error::output(&self.path, failure.to_string()))?;
        Ok(data_of(&whole))
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence - 1
    }

    fn write_chunk(&mut self, kind: &[u8; 4], body: &[u8]) -> Result<()> {
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(kind);
        checksum.update(body);
        self.write_bytes(&(body.len() as u32).to_be_bytes())?;
        self.write_bytes(kind)?;
        self.write_bytes(body)?;
        self.write_bytes(&checksum.finalize().to_be_bytes())
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(Error::io("write", &self.path))
    }
}

/// The bodies of the IDAT chunks of a PNG that was just made, joined.
fn data_of(png: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(png.len());
    let mut rest = &png[8..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let end = 4 + u32::from_be_bytes(*length) as usize;
        if after.starts_with(b"IDAT") {
            data.extend_from_slice(&after[4..end]);
        }
        rest = &after[end + 4..];
    }
    data
}
