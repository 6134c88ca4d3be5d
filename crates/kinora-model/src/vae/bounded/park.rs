//! Where a clip's activations wait between two passes over it.

use crate::{Error, Result};
use kinora_tensor::Tensor;
use std::cell::RefCell;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;

/// In main memory or in a file of the folder for temporary files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Memory,
    Disk,
}

/// The extents of what is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) frames: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) c: usize,
}

impl Size {
    fn row(&self) -> usize {
        self.w * self.c
    }

    fn frame(&self) -> usize {
        self.h * self.row()
    }

    pub(super) fn bytes(&self) -> usize {
        self.frames * self.frame() * size_of::<f32>()
    }
}

/// Frames of one size, read and written in bands of rows. A band may be written back to where it was
/// read from.
#[derive(Debug)]
pub(super) struct Park {
    pub(super) size: Size,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    /// An array that was whole anyway; it is only read.
    Whole(Tensor),
    /// Each frame from when it is first written until it is forgotten.
    Memory(RefCell<Vec<Vec<f32>>>),
    /// A file that has no name and is gone when it is closed.
    Disk(RefCell<File>),
}

impl Park {
    /// Room for frames that are yet to be written.
    pub(super) fn new(size: Size, place: Place) -> Result<Self> {
        let kept = match place {
            Place::Memory => Kept::Memory(RefCell::new(vec![Vec::new(); size.frames])),
            Place::Disk => {
                let file = tempfile::tempfile().map_err(|e| disk_error("create", e))?;
                file.set_len(size.bytes() as u64)
                    .map_err(|e| disk_error("size", e))?;
                Kept::Disk(RefCell::new(file))
            }
        };
        Ok(Park { size, kept })
    }

    /// The frames of `x`, `[t, h, w, c]`, to be read where they are.
    pub(super) fn of_whole(x: &Tensor) -> Result<Self> {
        let &[frames, h, w, c] = x.dims() else {
            return Err(Error::argument("park", "expected [t, h, w, c]"));
        };
        Ok(Park {
            size: Size { frames, h, w, c },
            kept: Kept::Whole(x.clone()),
        })
    }

    /// Whether it can be written.
    pub(super) fn is_writable(&self) -> bool {
        !matches!(self.kept, Kept::Whole(_))
    }

    /// Rows of one frame, `[1, rows, w, c]`.
    pub(super) fn read(&self, frame: usize, rows: Range<usize>) -> Result<Tensor> {
        let Size { w, c, .. } = self.size;
        Tensor::filled_by([1, rows.len(), w, c], |out| self.copy(frame, &rows, out))
    }

    /// The same rows of all frames, `[1, t, rows, w, c]`.
    pub(super) fn read_all(&self, rows: Range<usize>) -> Result<Tensor> {
        let Size { frames, w, c, .. } = self.size;
        Tensor::filled_by([1, frames, rows.len(), w, c], |out| {
            let each = rows.len() * self.size.row();
            out.chunks_exact_mut(each)
                .enumerate()
                .try_for_each(|(frame, out)| self.copy(frame, &rows, out))
        })
    }

    fn copy(&self, frame: usize, rows: &Range<usize>, out: &mut [f32]) -> Result<()> {
        let (row, frame_len) = (self.size.row(), self.size.frame());
        let stretch = rows.start * row..rows.end * row;
        match &self.kept {
            Kept::Whole(x) => out.copy_from_slice(&x.as_f32()?[frame * frame_len..][stretch]),
            Kept::Memory(frames) => out.copy_from_slice(&frames.borrow()[frame][stretch]),
            Kept::Disk(file) => {
                let offset = (frame * frame_len + stretch.start) * size_of::<f32>();
                read_values(&mut file.borrow_mut(), offset, out)
                    .map_err(|e| disk_error("read", e))?;
            }
        }
        Ok(())
    }

    /// Writes rows of one frame, from the row `first` on.
    pub(super) fn write(&self, frame: usize, first: usize, rows: &Tensor) -> Result<()> {
        self.put(frame, first, rows.as_f32()?)
    }

    /// Writes the same rows of all frames, `[1, t, rows, w, c]`, from the row `first` on.
    pub(super) fn write_all(&self, first: usize, rows: &Tensor) -> Result<()> {
        let values = rows.as_f32()?;
        let each = values.len() / self.size.frames;
        for (frame, values) in values.chunks_exact(each).enumerate() {
            self.put(frame, first, values)?;
        }
        Ok(())
    }

    fn put(&self, frame: usize, first: usize, values: &[f32]) -> Result<()> {
        let start = first * self.size.row();
        match &self.kept {
            Kept::Whole(_) => unreachable!("a whole array is only read"),
            Kept::Memory(frames) => {
                let mut frames = frames.borrow_mut();
                if frames[frame].is_empty() {
                    frames[frame] = vec![0.0; self.size.frame()];
                }
                frames[frame][start..start + values.len()].copy_from_slice(values);
            }
            Kept::Disk(file) => {
                let offset = (frame * self.size.frame() + start) * size_of::<f32>();
                write_values(&mut file.borrow_mut(), offset, values)
                    .map_err(|e| disk_error("write", e))?;
            }
        }
        Ok(())
    }

    /// Gives back the memory of a frame that is not needed any more.
    pub(super) fn forget(&self, frame: usize) {
        if let Kept::Memory(frames) = &self.kept {
            frames.borrow_mut()[frame] = Vec::new();
        }
    }
}

/// Values pass through a buffer of this size on their way to and from a file.
const BUFFER_BYTES: usize = 1 << 18;

fn read_values(file: &mut File, offset: usize, values: &mut [f32]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(offset as u64))?;
    let mut buffer = vec![0; BUFFER_BYTES];
    for values in values.chunks_mut(BUFFER_BYTES / size_of::<f32>()) {
        let part = &mut buffer[..size_of_val(values)];
        file.read_exact(part)?;
        for (value, bytes) in values.iter_mut().zip(part.as_chunks().0) {
            *value = f32::from_ne_bytes(*bytes);
        }
    }
    Ok(())
}

fn write_values(file: &mut File, offset: usize, values: &[f32]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(offset as u64))?;
    let mut buffer = vec![0; BUFFER_BYTES];
    for values in values.chunks(BUFFER_BYTES / size_of::<f32>()) {
        let part = &mut buffer[..size_of_val(values)];
        for (bytes, value) in part.as_chunks_mut().0.iter_mut().zip(values) {
            *bytes = value.to_ne_bytes();
        }
        file.write_all(part)?;
    }
    Ok(())
}

fn disk_error(action: &'static str, source: std::io::Error) -> Error {
    Error::io(std::env::temp_dir(), action, source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::testing::numbers;

    const SIZE: Size = Size {
        frames: 3,
        h: 5,
        w: 7,
        // Wide enough that a frame does not fit the buffer.
        c: 2000,
    };

    #[test]
    fn what_is_written_in_bands_is_read_back_in_others() {
        let x = numbers([3, 5, 7, 2000], 1);
        let whole = Park::of_whole(&x).unwrap();
        assert!(!whole.is_writable());
        for place in [Place::Memory, Place::Disk] {
            let park = Park::new(SIZE, place).unwrap();
            for frame in 0..3 {
                park.write(frame, 2, &whole.read(frame, 2..5).unwrap())
                    .unwrap();
                park.write(frame, 0, &whole.read(frame, 0..2).unwrap())
                    .unwrap();
            }
            assert_eq!(park.read_all(0..5).unwrap().to_vec(), x.to_vec());
            let band = whole.read_all(1..3).unwrap();
            assert_eq!(band.dims(), [1, 3, 2, 7, 2000]);
            assert_eq!(park.read_all(1..3).unwrap().to_vec(), band.to_vec());
            park.write_all(3, &band).unwrap();
            for frame in 0..3 {
                let found = park.read(frame, 3..5).unwrap().to_vec();
                assert_eq!(found, whole.read(frame, 1..3).unwrap().to_vec());
            }
        }
    }
}
