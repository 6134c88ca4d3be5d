//! The values of an array: owned, recycled when dropped, read in place from a mapped file, or in a
//! card's memory.

mod recycled;

pub(crate) use recycled::{recycle, release, scratch, zeros};

use crate::cuda::{Array, Board};
use crate::{DType, Device, Error, Result};
use half::{bf16, f16};
use memmap2::Mmap;
use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

/// A stretch of a memory-mapped file that holds little-endian values of one type.
#[derive(Clone, Debug)]
pub struct Mapped {
    map: Arc<Mmap>,
    offset: usize,
    bytes: usize,
}

impl Mapped {
    /// The bytes `offset .. offset + bytes` of `map`.
    ///
    /// # Errors
    /// When the stretch does not lie inside the map.
    pub fn new(map: Arc<Mmap>, offset: usize, bytes: usize) -> Result<Self> {
        match offset.checked_add(bytes) {
            Some(end) if end <= map.len() => Ok(Mapped { map, offset, bytes }),
            _ => Err(Error::argument(
                "mapped",
                format!(
                    "bytes {offset}..+{bytes} lie outside a map of {} bytes",
                    map.len()
                ),
            )),
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.map[self.offset..self.offset + self.bytes]
    }
}

/// A plain value type whose every bit pattern is valid.
///
/// # Safety
/// Implementors have no padding and no invalid bit pattern.
#[allow(unsafe_code)] // Marks the three types that may be read straight from a file.
pub(crate) unsafe trait Element: Copy + Send + Sync + 'static {}
#[allow(unsafe_code)] // f32 accepts every bit pattern.
unsafe impl Element for f32 {}
#[allow(unsafe_code)] // f16 is a transparent u16.
unsafe impl Element for f16 {}
#[allow(unsafe_code)] // bf16 is a transparent u16.
unsafe impl Element for bf16 {}

/// Values of one type, owned or mapped.
#[derive(Debug)]
pub(crate) enum Buffer<T> {
    Owned(Vec<T>),
    Mapped(Mapped),
}

impl<T: Element> Buffer<T> {
    /// Reads `mapped` in place where its alignment allows.
    fn from_mapped(mapped: Mapped, widen: impl Fn(&[u8]) -> Vec<T>) -> Self {
        let aligned = (mapped.bytes().as_ptr() as usize).is_multiple_of(align_of::<T>());
        if aligned && cfg!(target_endian = "little") {
            Buffer::Mapped(mapped)
        } else {
            Buffer::Owned(widen(mapped.bytes()))
        }
    }
}

impl<T: Element> Deref for Buffer<T> {
    type Target = [T];

    #[allow(unsafe_code)] // Reading typed values straight from a mapped file.
    fn deref(&self) -> &[T] {
        match self {
            Buffer::Owned(values) => values,
            Buffer::Mapped(mapped) => {
                let bytes = mapped.bytes();
                // SAFETY: `from_mapped` checked the alignment, T accepts every bit pattern, the
                // length is rounded down to whole elements, and the map outlives the borrow.
                unsafe {
                    std::slice::from_raw_parts(
                        bytes.as_ptr().cast::<T>(),
                        bytes.len() / size_of::<T>(),
                    )
                }
            }
        }
    }
}

/// The values of one array.
#[derive(Debug)]
pub(crate) enum Values {
    F32(Buffer<f32>),
    F16(Buffer<f16>),
    BF16(Buffer<bf16>),
    Card(Array),
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        recycled::count(values.capacity());
        Values::F32(Buffer::Owned(values))
    }
}

impl From<Array> for Values {
    fn from(array: Array) -> Self {
        Values::Card(array)
    }
}

impl Values {
    /// A buffer whose end gives back what it owns.
    fn counted(buffer: Buffer<f32>) -> Self {
        match buffer {
            Buffer::Owned(values) => values.into(),
            mapped => Values::F32(mapped),
        }
    }

    pub(crate) fn from_mapped(mapped: Mapped, dtype: DType) -> Self {
        match dtype {
            DType::F32 => Values::counted(Buffer::from_mapped(mapped, |bytes| {
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect()
            })),
            DType::F16 => Values::F16(Buffer::from_mapped(mapped, |bytes| {
                bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|b| f16::from_le_bytes(*b))
                    .collect()
            })),
            DType::BF16 => Values::BF16(Buffer::from_mapped(mapped, |bytes| {
                bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|b| bf16::from_le_bytes(*b))
                    .collect()
            })),
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        match self {
            Values::F32(_) => DType::F32,
            Values::F16(_) => DType::F16,
            Values::BF16(_) => DType::BF16,
            Values::Card(array) => array.dtype(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Values::F32(b) => b.len(),
            Values::F16(b) => b.len(),
            Values::BF16(b) => b.len(),
            Values::Card(array) => array.len(),
        }
    }

    pub(crate) fn device(&self) -> Device {
        match self {
            Values::Card(array) => array.device(),
            _ => Device::Cpu,
        }
    }

    /// The little-endian bytes of the values in their own type: where they lie, if they are on the
    /// processor, so that a mapped file goes to a card without a copy in main memory.
    ///
    /// # Errors
    /// When a card fails while they are copied from it.
    pub(crate) fn le_bytes(&self) -> Result<Cow<'_, [u8]>> {
        Ok(match self {
            Values::F32(values) => bytes_of(values, |v| v.to_le_bytes()),
            Values::F16(values) => bytes_of(values, |v| v.to_le_bytes()),
            Values::BF16(values) => bytes_of(values, |v| v.to_le_bytes()),
            Values::Card(array) => Cow::Owned(array.to_bytes()?),
        })
    }

    /// Those bytes as values on the processor.
    pub(crate) fn from_le_bytes(bytes: &[u8], dtype: DType) -> Self {
        let halves = || bytes.as_chunks::<2>().0.iter();
        match dtype {
            DType::F32 => {
                let quads = bytes.as_chunks::<4>().0.iter();
                let values: Vec<f32> = quads.map(|b| f32::from_le_bytes(*b)).collect();
                values.into()
            }
            DType::F16 => {
                let values = halves().map(|b| f16::from_le_bytes(*b)).collect();
                Values::F16(Buffer::Owned(values))
            }
            DType::BF16 => {
                let values = halves().map(|b| bf16::from_le_bytes(*b)).collect();
                Values::BF16(Buffer::Owned(values))
            }
        }
    }

    /// The same values elsewhere.
    ///
    /// # Errors
    /// When a device cannot be used, or has no memory left.
    pub(crate) fn copied_to(&self, device: Device) -> Result<Self> {
        Self::placed(&self.le_bytes()?, self.dtype(), device)
    }

    /// Values given as little-endian bytes, on a device.
    ///
    /// # Errors
    /// When a device cannot be used, or has no memory left.
    pub(crate) fn placed(bytes: &[u8], dtype: DType, device: Device) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::from_le_bytes(bytes, dtype)),
            Device::Cuda(ordinal) => {
                let board: Arc<Board> = crate::cuda::open(ordinal)?;
                Ok(Array::from_bytes(&board, bytes, dtype, "to_device")?.into())
            }
        }
    }
}

/// The bytes of values: in place where this machine has them in that order.
fn bytes_of<T: Element, const N: usize>(
    values: &[T],
    to_le_bytes: impl Fn(&T) -> [u8; N],
) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        // SAFETY: an element has no padding, every byte of it may be read, and the length is that of
        // the slice, which the result borrows.
        #[allow(unsafe_code)]
        let bytes =
            unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) };
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(values.iter().flat_map(to_le_bytes).collect())
}

/// The values of one array in the type they are stored in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    BF16(&'a [bf16]),
}

impl Drop for Values {
    fn drop(&mut self) {
        if let Values::F32(Buffer::Owned(values)) = self {
            recycled::put_back(std::mem::take(values));
        }
    }
}
