//! What an output says of how it was made: one JSON object, kept where each format has room for it.
//!
//! | output            | place                                        |
//! |-------------------|----------------------------------------------|
//! | .mp4 .webm        | the container's comment                      |
//! | .gif              | a comment extension                          |
//! | .png (animated)   | an iTXt chunk with the keyword `Comment`     |
//! | folder, .npy      | a side file of the same name with .json added |
//!
//! The object is wrapped as `{"kinora": …}`, so that a stranger's comment is never taken for ours.

use crate::error::{Error, Result};
use crate::image::ending_of;
use crate::video::probe;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Settings, seed, hash of the model: whatever tells how an output was made.
pub type Metadata = Map<String, Value>;

/// The most a comment may hold: what fits on a command line of ffmpeg with room to spare.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// The keyword of the PNG chunk, one of those the format suggests.
pub(crate) const PNG_KEYWORD: &[u8] = b"Comment";

/// The text that is stored.
pub(crate) fn text_from_metadata(path: &Path, metadata: &Metadata) -> Result<String> {
    let text = json!({ "kinora": metadata }).to_string();
    if text.len() > MAX_TEXT_BYTES {
        return Err(Error::output(
            path,
            format!(
                "{} bytes of settings are more than the {MAX_TEXT_BYTES} that fit in the file",
                text.len()
            ),
        ));
    }
    Ok(text)
}

/// The object in a stored text, if it is one of ours.
fn metadata_from_text(text: &str) -> Option<Metadata> {
    match serde_json::from_str(text).ok()? {
        Value::Object(mut outer) if outer.len() == 1 => match outer.remove("kinora")? {
            Value::Object(metadata) => Some(metadata),
            _ => None,
        },
        _ => None,
    }
}

/// Where a folder of frames or an array keeps its settings: beside it, with `.json` added to the name.
pub(crate) fn side_file(path: &Path) -> PathBuf {
    // A folder may be named with a slash at its end, which is no part of the name.
    let mut name: PathBuf = path.components().collect();
    name.as_mut_os_string().push(".json");
    name
}

/// Reads back how an output was made; `None` where it does not say, or kinora did not make it.
///
/// # Errors
/// When there is no such file, or it is damaged.
pub fn read_metadata(path: &Path) -> Result<Option<Metadata>> {
    let about = std::fs::metadata(path).map_err(Error::io("open", path))?;
    if about.is_dir() || ending_of(path) == "npy" {
        return read_side_file(&side_file(path));
    }
    let mut file = BufReader::new(File::open(path).map_err(Error::io("open", path))?);
    let mut start = [0; 8];
    let filled = file.read(&mut start).map_err(Error::io("read", path))?;
    let text = if start[..filled].starts_with(b"GIF8") {
        gif_comment(&mut file)
    } else if start == *b"\x89PNG\r\n\x1a\n" {
        png_comment(&mut file)
    } else {
        return Ok(probe(path)?.comment.as_deref().and_then(metadata_from_text));
    };
    let text = text.map_err(Error::io("read", path))?;
    Ok(text.as_deref().and_then(metadata_from_text))
}

fn read_side_file(path: &Path) -> Result<Option<Metadata>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(metadata_from_text(&text)),
        Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(failure) => Err(Error::io("read", path)(failure)),
    }
}

/// Walks the blocks of a GIF to its first comment.
fn gif_comment(file: &mut BufReader<File>) -> std::io::Result<Option<String>> {
    let mut screen = [0; 13];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut screen)?;
    skip_colour_table(file, screen[10])?;
    loop {
        match read_byte(file)? {
            0x21 => {
                let is_comment = read_byte(file)? == 0xfe;
                let bytes = read_sub_blocks(file)?;
                if is_comment {
                    return Ok(String::from_utf8(bytes).ok());
                }
            }
            0x2c => {
                let mut frame = [0; 9];
                file.read_exact(&mut frame)?;
                skip_colour_table(file, frame[8])?;
                read_byte(file)?; // size of the codes
                read_sub_blocks(file)?;
            }
            _ => return Ok(None), // the trailer, or damage
        }
    }
}

fn skip_colour_table(file: &mut BufReader<File>, flags: u8) -> std::io::Result<()> {
    if flags & 0x80 != 0 {
        file.seek_relative(3 << ((flags & 7) + 1))?;
    }
    Ok(())
}

fn read_byte(file: &mut impl Read) -> std::io::Result<u8> {
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn read_sub_blocks(file: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let length = read_byte(file)?;
        if length == 0 {
            return Ok(bytes);
        }
        file.take(u64::from(length)).read_to_end(&mut bytes)?;
    }
}

/// Walks the chunks of a PNG to its first uncompressed iTXt comment.
fn png_comment(file: &mut BufReader<File>) -> std::io::Result<Option<String>> {
    file.seek(SeekFrom::Start(8))?;
    loop {
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        match &head[4..] {
            b"iTXt" if length as usize <= MAX_TEXT_BYTES + 64 => {
                let mut body = vec![0; length as usize];
                file.read_exact(&mut body)?;
                file.seek_relative(4)?;
                // keyword, zero, two flags, empty language, zero, empty translation, zero
                let text = body.strip_prefix(PNG_KEYWORD);
                if let Some(text) = text.and_then(|rest| rest.strip_prefix(&[0; 5])) {
                    return Ok(String::from_utf8(text.to_vec()).ok());
                }
            }
            b"IEND" => return Ok(None),
            _ => file.seek_relative(i64::from(length) + 4)?,
        }
    }
}
