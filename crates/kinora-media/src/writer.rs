//! A video being written, frame by frame, in the format that its name asks for.
//!
//! | name              | what is written                                                       |
//! |-------------------|-----------------------------------------------------------------------|
//! | `a.mp4`           | H.264, yuv420p, BT.709, index at the front: plays everywhere           |
//! | `a.webm`          | VP9, yuv420p, BT.709                                                   |
//! | `a.gif`           | one palette fitted to all frames, endless                              |
//! | `a.png`           | an animated PNG, exact, endless                                        |
//! | `a.npy`           | f32 [t, h, w, 3] in 0–1, exact                                         |
//! | `a` or `a/`       | a folder of `frame_00000.png`, …, exact                                |
//!
//! H.264 with this pixel format has even sizes only: an odd row or column is repeated once at the
//! edge, rather than a finished video refused. Formats of eight bits round f32 frames to the nearest
//! of 256 levels. Every output is written under a temporary name and renamed by [`Writer::finish`];
//! a writer that is dropped before leaves nothing.

mod animated_png;
mod encoder;
mod folder;
mod npy;

use crate::error::{Error, Result};
use crate::fps::Fps;
use crate::image::{MAX_PIXELS, Rgb8Image, ending_of};
use crate::metadata::{Metadata, text_from_metadata};
use crate::unfinished::check_file;
use crate::video::require_program;
use animated_png::AnimatedPng;
use encoder::{Codec, Encoder};
use folder::Folder;
use npy::Npy;
pub(crate) use npy::header as npy_header;
use std::path::{Path, PathBuf};

/// A video being written.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    width: usize,
    height: usize,
    frames: usize,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Encoder(Box<Encoder>),
    AnimatedPng(AnimatedPng),
    Folder(Folder),
    Npy(Npy),
}

impl Writer {
    /// Refuses an output that [`Writer::create`] would refuse, while nothing is begun yet.
    ///
    /// # Errors
    /// As [`Writer::create`]: ending, folder, ffmpeg, things in the way.
    pub fn check(path: &Path) -> Result<()> {
        match ending_of(path).as_str() {
            "mp4" | "webm" | "gif" => {
                require_program("ffmpeg")?;
                check_file(path)
            }
            "png" | "npy" => check_file(path),
            "" => folder::check(path),
            other => Err(unknown_ending(path, other)),
        }
    }

    /// Starts an output of `width`×`height` pixels at `fps`, with `metadata` to say how it was made.
    ///
    /// # Errors
    /// When the name's ending is not known, its folder does not exist, ffmpeg is needed and not
    /// installed, or an existing folder holds other things than frames.
    pub fn create(
        path: &Path,
        width: usize,
        height: usize,
        fps: Fps,
        metadata: &Metadata,
    ) -> Result<Writer> {
        if width == 0 || height == 0 || width.saturating_mul(height) > MAX_PIXELS {
            return Err(Error::output(
                path,
                format!("{width}×{height} pixels is no size for a video"),
            ));
        }
        let text = text_from_metadata(path, metadata)?;
        let size = (width, height);
        let encoder = |codec| Encoder::create(path, codec, size, fps, &text);
        let sink = match ending_of(path).as_str() {
            "mp4" => Sink::Encoder(Box::new(encoder(Codec::H264)?)),
            "webm" => Sink::Encoder(Box::new(encoder(Codec::Vp9)?)),
            "gif" => Sink::Encoder(Box::new(encoder(Codec::Gif)?)),
            "png" => Sink::AnimatedPng(AnimatedPng::create(path, size, fps, &text)?),
            "npy" => Sink::Npy(Npy::create(path, size, text)?),
            "" => Sink::Folder(Folder::create(path, text)?),
            other => return Err(unknown_ending(path, other)),
        };
        Ok(Writer {
            path: path.to_path_buf(),
            width,
            height,
            frames: 0,
            sink,
        })
    }

    /// Frames written so far.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Writes the next frame.
    ///
    /// # Errors
    /// When it has another size than the video, or cannot be written.
    pub fn push(&mut self, frame: &Rgb8Image) -> Result<()> {
        if (frame.width(), frame.height()) != (self.width, self.height) {
            return Err(self.wrong_size(format!("{}×{}", frame.width(), frame.height())));
        }
        match &mut self.sink {
            Sink::Encoder(sink) => sink.push(frame)?,
            Sink::AnimatedPng(sink) => sink.push(frame)?,
            Sink::Folder(sink) => sink.push(frame)?,
            Sink::Npy(sink) => {
                let values: Vec<f32> = frame.data().iter().map(|&v| f32::from(v) / 255.0).collect();
                sink.push(&values)?;
            }
        }
        self.frames += 1;
        Ok(())
    }

    /// Writes the next frame from values in 0–1: exactly into .npy, rounded to the nearest of 256
    /// levels into all else, values beyond the ends taken as the ends.
    ///
    /// # Shapes
    /// `rgb`: [height, width, 3].
    ///
    /// # Errors
    /// As [`Writer::push`].
    pub fn push_f32(&mut self, rgb: &[f32]) -> Result<()> {
        if rgb.len() != self.width * self.height * 3 {
            return Err(self.wrong_size(format!("{} values", rgb.len())));
        }
        if let Sink::Npy(sink) = &mut self.sink {
            sink.push(rgb)?;
            self.frames += 1;
            return Ok(());
        }
        let bytes = rgb.iter().map(|&value| byte_from_unit(value)).collect();
        self.push(&Rgb8Image::new(self.width, self.height, bytes)?)
    }

    /// Completes the output and gives it its name.
    ///
    /// # Errors
    /// When no frame was written, the encoder fails, or the file cannot be renamed.
    pub fn finish(self) -> Result<()> {
        if self.frames == 0 {
            return Err(Error::output(
                &self.path,
                "a video needs at least one frame",
            ));
        }
        match self.sink {
            Sink::Encoder(sink) => sink.finish(),
            Sink::AnimatedPng(sink) => sink.finish(),
            Sink::Folder(sink) => sink.finish(),
            Sink::Npy(sink) => sink.finish(),
        }
    }

    fn wrong_size(&self, found: String) -> Error {
        Error::FrameSize {
            path: self.path.clone(),
            expected: format!("{}×{} pixels of three values", self.width, self.height),
            found,
        }
    }
}

fn unknown_ending(path: &Path, ending: &str) -> Error {
    Error::output(
        path,
        format!(
            "videos are written as .mp4, .webm, .gif, .png (animated), .npy or a folder of frames (no ending), not .{ending}; rename the output"
        ),
    )
}

/// The nearest of 256 levels; what is no number becomes black.
fn byte_from_unit(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

#[cfg(test)]
mod tests;
