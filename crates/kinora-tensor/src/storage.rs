//! The values of an array: owned, recycled when dropped, read in place from a mapped file, or in a
//! card's memory.

use crate::cuda::{Array, Board};
use crate::{DType, Device, Error, Result};
use half::{bf16, f16};
use memmap2::Mmap;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

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

/// Values as they lie in memory.
fn bytes_of<T: Element>(values: &[T]) -> &[u8] {
    // SAFETY: elements have no padding, bytes no alignment, and the borrow is the same.
    #[allow(unsafe_code)]
    unsafe {
        std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values))
    }
}

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
        Values::F32(Buffer::Owned(values))
    }
}

impl From<Array> for Values {
    fn from(array: Array) -> Self {
        Values::Card(array)
    }
}

impl Values {
    pub(crate) fn from_mapped(mapped: Mapped, dtype: DType) -> Self {
        match dtype {
            DType::F32 => Values::F32(Buffer::from_mapped(mapped, |bytes| {
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

    /// The little-endian bytes of the values in their own type.
    ///
    /// # Errors
    /// When a card fails while they are copied from it.
    pub(crate) fn to_le_bytes(&self) -> Result<Vec<u8>> {
        Ok(match self {
            Values::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::F16(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::BF16(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::Card(array) => array.to_bytes()?,
        })
    }

    /// Does something with those bytes, where they lie if they lie so.
    ///
    /// # Errors
    /// When a card fails while they are copied from it.
    pub(crate) fn with_le_bytes<T>(&self, work: impl FnOnce(&[u8]) -> T) -> Result<T> {
        Ok(match self {
            Values::F32(values) if cfg!(target_endian = "little") => work(bytes_of(values)),
            Values::F16(values) if cfg!(target_endian = "little") => work(bytes_of(values)),
            Values::BF16(values) if cfg!(target_endian = "little") => work(bytes_of(values)),
            other => work(&other.to_le_bytes()?),
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
        self.with_le_bytes(|bytes| match device {
            Device::Cpu => Ok(Self::from_le_bytes(bytes, self.dtype())),
            Device::Cuda(ordinal) => {
                let board: Arc<Board> = crate::cuda::open(ordinal)?;
                Ok(Array::from_bytes(&board, bytes, self.dtype(), "to_device")?.into())
            }
        })?
    }
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
            recycle(std::mem::take(values));
        }
    }
}

/// Freed activations kept for the next array of about the same size: the same shapes come round at
/// every step, and fresh pages cost a fault each.
static POOL: Mutex<Pool> = Mutex::new(Pool {
    bytes: 0,
    by_capacity: BTreeMap::new(),
});
const POOL_LIMIT_BYTES: usize = 512 << 20;
const POOLED_MIN_ELEMENTS: usize = 16 << 10;

struct Pool {
    bytes: usize,
    by_capacity: BTreeMap<usize, Vec<Vec<f32>>>,
}

/// `len` values of unspecified content, to be overwritten in full.
pub(crate) fn scratch(len: usize) -> Vec<f32> {
    if len < POOLED_MIN_ELEMENTS {
        return vec![0.0; len];
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let fit = pool
        .by_capacity
        .range(len..=len + len / 8)
        .next()
        .map(|(capacity, _)| *capacity);
    let found = fit.and_then(|capacity| {
        let shelf = pool.by_capacity.get_mut(&capacity)?;
        let values = shelf.pop();
        if shelf.is_empty() {
            pool.by_capacity.remove(&capacity);
        }
        values
    });
    match found {
        Some(mut values) => {
            pool.bytes -= values.capacity() * 4;
            drop(pool);
            values.resize(len, 0.0);
            values
        }
        None => vec![0.0; len],
    }
}

/// `len` zeros.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    let mut values = scratch(len);
    if len >= POOLED_MIN_ELEMENTS {
        values.fill(0.0);
    }
    values
}

/// Gives a buffer back for reuse.
pub(crate) fn recycle(values: Vec<f32>) {
    let bytes = values.capacity() * 4;
    if values.capacity() < POOLED_MIN_ELEMENTS {
        return;
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.bytes + bytes <= POOL_LIMIT_BYTES {
        pool.bytes += bytes;
        pool.by_capacity
            .entry(values.capacity())
            .or_default()
            .push(values);
    }
}

/// Frees every buffer kept for reuse.
pub(crate) fn release_pool() {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    pool.bytes = 0;
    pool.by_capacity.clear();
}
