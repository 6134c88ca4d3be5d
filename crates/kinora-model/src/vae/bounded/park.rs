//! Where a clip's activations wait between two passes over it.

use crate::{Error, Result};
use kinora_tensor::{DType, Device, DeviceBuffer, Tensor, ops};
use std::cell::RefCell;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;

/// Near the work, in the memory of the device; or away: what leaves the processor's memory goes to a
/// file of the folder for temporary files, what leaves a card's to main memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Near,
    Away,
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

    pub(super) fn values(&self) -> usize {
        self.frames * self.frame()
    }
}

/// Frames of one size, read and written in bands of rows. A band may be written back to where it was
/// read from.
#[derive(Debug)]
pub(super) struct Park {
    pub(super) size: Size,
    kept: Kept,
    at: At,
}

/// Where the arrays that are parked lie, and their type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) device: Device,
    pub(super) dtype: DType,
}

impl At {
    pub(super) fn of(x: &Tensor) -> Self {
        At {
            device: x.device(),
            dtype: x.dtype(),
        }
    }
}

#[derive(Debug)]
enum Kept {
    /// An array that was whole anyway; it is only read.
    Whole(Tensor),
    /// Each frame from when it is first written until it is forgotten.
    Memory(RefCell<Vec<Vec<f32>>>),
    /// A file that has no name and is gone when it is closed.
    Disk(RefCell<File>),
    /// As `Memory`, in a card's.
    Card(RefCell<Vec<Option<DeviceBuffer>>>),
    /// As `Memory`, of arrays of a card, as the bytes of their own type.
    Main(RefCell<Vec<Vec<u8>>>),
}

impl Park {
    /// Room for frames that are yet to be written.
    pub(super) fn new(size: Size, place: Place, at: At) -> Result<Self> {
        let on_card = at.device != Device::Cpu;
        let kept = match (place, on_card) {
            (Place::Near, false) => Kept::Memory(RefCell::new(vec![Vec::new(); size.frames])),
            (Place::Away, false) => {
                let file = tempfile::tempfile().map_err(|e| disk_error("create", e))?;
                file.set_len((size.values() * size_of::<f32>()) as u64)
                    .map_err(|e| disk_error("size", e))?;
                Kept::Disk(RefCell::new(file))
            }
            (Place::Near, true) => {
                Kept::Card(RefCell::new((0..size.frames).map(|_| None).collect()))
            }
            (Place::Away, true) => Kept::Main(RefCell::new(vec![Vec::new(); size.frames])),
        };
        Ok(Park { size, kept, at })
    }

    /// The frames of `x`, `[t, h, w, c]`, to be read where they are.
    pub(super) fn of_whole(x: &Tensor) -> Result<Self> {
        let &[frames, h, w, c] = x.dims() else {
            return Err(Error::argument("park", "expected [t, h, w, c]"));
        };
        Ok(Park {
            size: Size { frames, h, w, c },
            kept: Kept::Whole(x.clone()),
            at: At::of(x),
        })
    }

    /// Where what is parked is computed with.
    pub(super) fn at(&self) -> At {
        self.at
    }

    /// Bytes of one row of one frame.
    pub(super) fn row_bytes(&self) -> usize {
        self.size.row() * self.at.dtype.size_bytes()
    }

    /// Whether it can be written.
    pub(super) fn is_writable(&self) -> bool {
        !matches!(self.kept, Kept::Whole(_))
    }

    /// Rows of one frame, `[1, rows, w, c]`.
    pub(super) fn read(&self, frame: usize, rows: Range<usize>) -> Result<Tensor> {
        let Size { w, c, .. } = self.size;
        self.gather(frame..frame + 1, &rows, &[1, rows.len(), w, c])
    }

    /// The same rows of all frames, `[1, t, rows, w, c]`.
    pub(super) fn read_all(&self, rows: Range<usize>) -> Result<Tensor> {
        let Size { frames, w, c, .. } = self.size;
        self.gather(0..frames, &rows, &[1, frames, rows.len(), w, c])
    }

    /// The same rows of some frames, one after the other.
    fn gather(&self, frames: Range<usize>, rows: &Range<usize>, dims: &[usize]) -> Result<Tensor> {
        let At { device, dtype } = self.at;
        let row = self.size.row();
        let stretch = rows.start * row..rows.end * row;
        match &self.kept {
            Kept::Whole(x) if device != Device::Cpu => {
                let part = ops::narrow(x, 0, frames.start, frames.len())?;
                Ok(ops::narrow(&part, 1, rows.start, rows.len())?.reshape(dims)?)
            }
            Kept::Card(buffers) => {
                let buffers = buffers.borrow();
                let parts = frames.map(|frame| (written(&buffers[frame]), stretch.clone()));
                Ok(DeviceBuffer::gather(&parts.collect::<Vec<_>>(), dims)?)
            }
            Kept::Main(bytes) => {
                let bytes = bytes.borrow();
                let size = dtype.size_bytes();
                let stretch = stretch.start * size..stretch.end * size;
                let parts: Vec<&[u8]> = frames.map(|k| &bytes[k][stretch.clone()]).collect();
                Ok(Tensor::from_le_bytes(&parts.concat(), dtype, dims, device)?)
            }
            Kept::Whole(_) | Kept::Memory(_) | Kept::Disk(_) => Tensor::filled_by(dims, |out| {
                let each = stretch.len();
                frames
                    .zip(out.chunks_exact_mut(each))
                    .try_for_each(|(frame, out)| self.copy(frame, stretch.clone(), out))
            }),
        }
    }

    /// A stretch of a frame that the processor holds.
    fn copy(&self, frame: usize, stretch: Range<usize>, out: &mut [f32]) -> Result<()> {
        let frame_len = self.size.frame();
        match &self.kept {
            Kept::Whole(x) => out.copy_from_slice(&x.as_f32()?[frame * frame_len..][stretch]),
            Kept::Memory(frames) => out.copy_from_slice(&frames.borrow()[frame][stretch]),
            Kept::Disk(file) => {
                let offset = (frame * frame_len + stretch.start) * size_of::<f32>();
                read_values(&mut file.borrow_mut(), offset, out)
                    .map_err(|e| disk_error("read", e))?;
            }
            Kept::Card(_) | Kept::Main(_) => unreachable!("gathered where it lies"),
        }
        Ok(())
    }

    /// Writes rows of one frame, from the row `first` on.
    pub(super) fn write(&self, frame: usize, first: usize, rows: &Tensor) -> Result<()> {
        self.scatter(frame..frame + 1, first, rows)
    }

    /// Writes the same rows of all frames, `[1, t, rows, w, c]`, from the row `first` on.
    pub(super) fn write_all(&self, first: usize, rows: &Tensor) -> Result<()> {
        self.scatter(0..self.size.frames, first, rows)
    }

    fn scatter(&self, frames: Range<usize>, first: usize, rows: &Tensor) -> Result<()> {
        let (start, each) = (first * self.size.row(), rows.elements() / frames.len());
        let frame_len = self.size.frame();
        match &self.kept {
            Kept::Whole(_) => unreachable!("a whole array is only read"),
            Kept::Card(buffers) => {
                let mut buffers = buffers.borrow_mut();
                for (k, frame) in frames.enumerate() {
                    let place = &mut buffers[frame];
                    if place.is_none() {
                        let At { device, dtype } = self.at;
                        *place = Some(DeviceBuffer::new(device, dtype, frame_len)?);
                    }
                    let buffer = place.as_mut().expect("made above");
                    buffer.write(start, rows, k * each..(k + 1) * each)?;
                }
            }
            Kept::Main(kept) => {
                let mut kept = kept.borrow_mut();
                let bytes = rows.to_device(Device::Cpu)?.to_le_bytes();
                let size = self.at.dtype.size_bytes();
                for (frame, bytes) in frames.zip(bytes.chunks_exact(each * size)) {
                    kept[frame].resize(frame_len * size, 0);
                    kept[frame][start * size..][..bytes.len()].copy_from_slice(bytes);
                }
            }
            Kept::Memory(_) | Kept::Disk(_) => {
                for (frame, values) in frames.zip(rows.as_f32()?.chunks_exact(each)) {
                    self.put(frame, start, values)?;
                }
            }
        }
        Ok(())
    }

    /// Writes a stretch of a frame that the processor holds.
    fn put(&self, frame: usize, start: usize, values: &[f32]) -> Result<()> {
        match &self.kept {
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
            _ => unreachable!("scattered where it lies"),
        }
        Ok(())
    }

    /// Gives back the memory of a frame that is not needed any more.
    pub(super) fn forget(&self, frame: usize) {
        match &self.kept {
            Kept::Memory(frames) => frames.borrow_mut()[frame] = Vec::new(),
            Kept::Card(buffers) => buffers.borrow_mut()[frame] = None,
            Kept::Main(bytes) => bytes.borrow_mut()[frame] = Vec::new(),
            Kept::Whole(_) | Kept::Disk(_) => {}
        }
    }
}

fn written(frame: &Option<DeviceBuffer>) -> &DeviceBuffer {
    frame
        .as_ref()
        .expect("a frame is written before it is read")
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
        let mut types = vec![(Device::Cpu, DType::F32)];
        if let Some(card) = kinora_tensor::host_device(16 << 20) {
            types.extend([(card, DType::F32), (card, DType::BF16)]);
        }
        for (device, dtype) in types {
            let x = numbers([3, 5, 7, 2000], 1).cast(dtype);
            let x = x.to_device(device).unwrap();
            let whole = Park::of_whole(&x).unwrap();
            assert!(!whole.is_writable());
            for place in [Place::Near, Place::Away] {
                let park = Park::new(SIZE, place, At::of(&x)).unwrap();
                for frame in 0..3 {
                    park.write(frame, 2, &whole.read(frame, 2..5).unwrap())
                        .unwrap();
                    park.write(frame, 0, &whole.read(frame, 0..2).unwrap())
                        .unwrap();
                }
                let all = park.read_all(0..5).unwrap();
                assert_eq!(At::of(&all), At { device, dtype });
                assert_eq!(all.to_vec(), x.to_vec());
                let band = whole.read_all(1..3).unwrap();
                assert_eq!(band.dims(), [1, 3, 2, 7, 2000]);
                assert_eq!(park.read_all(1..3).unwrap().to_vec(), band.to_vec());
                park.write_all(3, &band).unwrap();
                for frame in 0..3 {
                    let found = park.read(frame, 3..5).unwrap().to_vec();
                    assert_eq!(found, whole.read(frame, 1..3).unwrap().to_vec());
                    park.forget(frame);
                }
            }
        }
    }
}
