//! The formats that ffmpeg encodes: frames go in raw through a pipe.

use crate::error::{Error, Result};
use crate::fps::Fps;
use crate::image::Rgb8Image;
use crate::unfinished::UnfinishedFile;
use crate::video::{Process, file_url, split};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::time::Duration;

/// How long may be spent waiting for the encoder in all. A guard against one that hangs.
const ENCODE_LIMIT: Duration = Duration::from_secs(3600);

/// BT.709 in limited range, written and declared: undeclared, players guess a matrix by the size of
/// the picture, and colours shift.
const COLOUR: &str = "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int,format=yuv420p";

/// One palette from all frames, so that still parts do not flicker; error diffusion, because the
/// gradients of a generated video would show bands.
const PALETTE: &str = "split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=sierra2_4a:diff_mode=rectangle";

/// What to encode with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    H264,
    Vp9,
    Gif,
}

#[derive(Debug)]
pub(super) struct Encoder {
    codec: Codec,
    path: PathBuf,
    size: (usize, usize),
    text: String,
    input: Option<ChildStdin>,
    // Before the file, so that it is dropped first: an encoder that still runs when its output is
    // removed would make it anew.
    process: Option<Process>,
    unfinished: UnfinishedFile,
}

impl Encoder {
    pub fn create(
        path: &Path,
        codec: Codec,
        size: (usize, usize),
        fps: Fps,
        text: &str,
    ) -> Result<Encoder> {
        let (unfinished, file) = UnfinishedFile::create(path)?;
        drop(file); // ffmpeg opens it by its name
        let even = |side: usize| side + side % 2;
        let size = match codec {
            Codec::H264 => (even(size.0), even(size.1)),
            Codec::Vp9 | Codec::Gif => size,
        };
        let words = encode_arguments(codec, size, fps, text, unfinished.path());
        let mut process = Process::spawn("ffmpeg", path, &words, true, ENCODE_LIMIT)?;
        Ok(Encoder {
            codec,
            path: path.to_path_buf(),
            size,
            text: text.to_owned(),
            unfinished,
            input: process.take_input(),
            process: Some(process),
        })
    }

    pub fn push(&mut self, frame: &Rgb8Image) -> Result<()> {
        let padded = padded(frame, self.size);
        if let (Some(process), Some(input)) = (self.process.as_mut(), self.input.as_mut())
            && process.within_limit(|| input.write_all(&padded)).is_ok()
        {
            return Ok(());
        }
        self.input = None;
        Err(self.failure())
    }

    /// Why the encoder no longer takes frames, in its own words.
    fn failure(&mut self) -> Error {
        match self.process.take().map(Process::finish) {
            Some(Err(failure)) => failure,
            _ => Error::output(&self.path, "the encoder stopped before the last frame"),
        }
    }

    pub fn finish(mut self) -> Result<()> {
        let Some(input) = self.input.take() else {
            return Err(self.failure());
        };
        drop(input);
        if let Some(process) = self.process.take() {
            let words = process.finish()?;
            // Some versions of ffmpeg end with success although the disk was full when they wrote
            // their last bytes; they do complain.
            if !words.is_empty() {
                return Err(Error::Tool {
                    program: "ffmpeg".to_owned(),
                    path: self.path,
                    status: "it complained, and the file may be broken".to_owned(),
                    words,
                });
            }
        }
        if self.codec == Codec::Gif {
            append_gif_comment(self.unfinished.path(), &self.text)
                .map_err(Error::io("write", &self.path))?;
        }
        self.unfinished.finish()
    }
}

fn encode_arguments(
    codec: Codec,
    (width, height): (usize, usize),
    fps: Fps,
    text: &str,
    out: &Path,
) -> Vec<OsString> {
    let (size, rate, comment) = (
        format!("{width}x{height}"),
        fps.to_string(),
        format!("comment={text}"),
    );
    let mut words = "-nostdin -hide_banner -v error -xerror -f rawvideo -pix_fmt rgb24".to_owned();
    words += &format!(" -s {size} -r {rate} -i pipe:0 -an -vf");
    let mut words = split(&words);
    words.push(if codec == Codec::Gif { PALETTE } else { COLOUR }.into());
    words.extend(split(match codec {
        // 16 is beyond what the eye tells from the frames themselves; clips are short.
        Codec::H264 => "-c:v libx264 -preset medium -crf 16 -f mp4 -movflags +faststart",
        Codec::Vp9 => "-c:v libvpx-vp9 -b:v 0 -crf 20 -row-mt 1 -deadline good -cpu-used 2 -f webm",
        Codec::Gif => "-c:v gif -loop 0 -f gif",
    }));
    if codec != Codec::Gif {
        words.extend(split(
            "-colorspace bt709 -color_primaries bt709 -color_trc bt709",
        ));
        words.extend(["-color_range", "tv", "-metadata", &comment].map(OsString::from));
    }
    // The same frames give the same bytes: no random identifiers and no version of the library.
    words.extend(split("-fflags +bitexact -flags:v +bitexact -y"));
    words.push(file_url(out));
    words
}

/// The frame's bytes, its last column and row repeated up to `size`.
fn padded(frame: &Rgb8Image, size: (usize, usize)) -> std::borrow::Cow<'_, [u8]> {
    if (frame.width(), frame.height()) == size {
        return frame.data().into();
    }
    let mut bytes = Vec::with_capacity(size.0 * size.1 * 3);
    for y in 0..size.1 {
        for x in 0..size.0 {
            bytes.extend(frame.pixel(x.min(frame.width() - 1), y.min(frame.height() - 1)));
        }
    }
    bytes.into()
}

/// Puts a comment before the trailer, the last byte of a GIF; ffmpeg writes none.
fn append_gif_comment(path: &Path, text: &str) -> std::io::Result<()> {
    let mut extension = vec![0x21, 0xfe];
    for block in text.as_bytes().chunks(255) {
        extension.push(block.len() as u8);
        extension.extend_from_slice(block);
    }
    extension.extend([0, 0x3b]);
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::End(-1))?;
    file.write_all(&extension)
}
