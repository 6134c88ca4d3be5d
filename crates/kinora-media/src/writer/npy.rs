//! A NumPy array of f32 values: nothing is rounded.

use crate::error::{Error, Result};
use crate::metadata::side_file;
use crate::unfinished::{UnfinishedFile, write_whole};
use std::fs::File;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Size of everything before the values. The number of frames is known only at the end, so room for
/// the longest is kept; the format wants a multiple of 64.
const HEADER_BYTES: usize = 128;

#[derive(Debug)]
pub(super) struct Npy {
    unfinished: UnfinishedFile,
    file: BufWriter<File>,
    path: PathBuf,
    size: (usize, usize),
    text: String,
    frames: usize,
}

impl Npy {
    pub fn create(path: &Path, size: (usize, usize), text: String) -> Result<Npy> {
        let (unfinished, file) = UnfinishedFile::create(path)?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&header(&dims_of(0, size)))
            .map_err(Error::io("write", path))?;
        Ok(Npy {
            unfinished,
            file,
            path: path.to_path_buf(),
            size,
            text,
            frames: 0,
        })
    }

    pub fn push(&mut self, values: &[f32]) -> Result<()> {
        for value in values {
            self.file
                .write_all(&value.to_le_bytes())
                .map_err(Error::io("write", &self.path))?;
        }
        self.frames += 1;
        Ok(())
    }

    pub fn finish(mut self) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| {
                self.file
                    .write_all(&header(&dims_of(self.frames, self.size)))
            })
            .and_then(|()| self.file.flush())
            .map_err(Error::io("write", &self.path))?;
        drop(self.file);
        self.unfinished.finish()?;
        write_whole(&side_file(&self.path), self.text.as_bytes())
    }
}

fn dims_of(frames: usize, (width, height): (usize, usize)) -> [usize; 4] {
    [frames, height, width, 3]
}

/// Magic, version 1.0, and a Python dictionary padded with blanks to a fixed size: what stands before
/// the values of an array of f32.
pub(crate) fn header(dims: &[usize]) -> Vec<u8> {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    let dictionary = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}",
        dims.join(", ")
    );
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(((HEADER_BYTES - 10) as u16).to_le_bytes());
    header.extend(dictionary.bytes());
    header.resize(HEADER_BYTES - 1, b' ');
    header.push(b'\n');
    header
}
