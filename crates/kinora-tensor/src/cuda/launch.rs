//! What is launched: a kernel by name, over so many blocks, with these arguments.

use super::Array;
use super::sources::Source;
use crate::DType;

/// Threads of every block; `THREADS` in `kernels/common.cuh`.
pub(super) const THREADS: usize = 256;
/// Threads that work in step; `WARP` in `kernels/common.cuh`.
pub(super) const WARP: usize = 32;

/// One kernel of one source, compiled for one storage type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    pub source: Source,
    pub name: &'static str,
    pub dtype: DType,
}

/// How many blocks, in two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid(pub [u32; 2]);

impl Grid {
    /// Blocks for kernels that walk over elements from `first_element` in steps of `element_step`.
    pub(super) fn elements(count: usize) -> Self {
        // More blocks than a card can hold at once bring nothing; each thread then takes several.
        const MOST: usize = 1 << 16;
        Grid([count.div_ceil(THREADS).min(MOST) as u32, 1])
    }

    /// Blocks of which each warp takes one row.
    pub(super) fn warps(rows: usize) -> Self {
        Grid([rows.div_ceil(THREADS / WARP) as u32, 1])
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.0.contains(&0)
    }
}

/// One argument of a kernel, in the layout the kernel declares.
#[derive(Clone, Debug)]
pub(crate) struct Argument {
    bytes: Vec<u8>,
    /// Of the arrays it names.
    addresses: Vec<u64>,
}

impl Argument {
    /// Structures of other arguments, in order, with C's padding for members of at most 8 bytes.
    pub(super) fn structure(members: impl IntoIterator<Item = Argument>) -> Self {
        let (mut bytes, mut addresses) = (Vec::new(), Vec::new());
        for member in members {
            let align = member.bytes.len().min(8);
            bytes.resize(bytes.len().next_multiple_of(align), 0);
            bytes.extend(member.bytes);
            addresses.extend(member.addresses);
        }
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        Argument { bytes, addresses }
    }

    fn plain(bytes: &[u8]) -> Self {
        Argument {
            bytes: bytes.to_vec(),
            addresses: Vec::new(),
        }
    }

    /// Where the arrays lie that it names.
    pub(super) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.addresses.iter().copied()
    }

    /// The value as it lies in memory.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<&Array> for Argument {
    fn from(array: &Array) -> Self {
        Argument {
            addresses: vec![array.address()],
            ..Argument::plain(&array.address().to_ne_bytes())
        }
    }
}

impl From<usize> for Argument {
    fn from(index: usize) -> Self {
        Argument::plain(&(index as i64).to_ne_bytes())
    }
}

impl From<i32> for Argument {
    fn from(value: i32) -> Self {
        Argument::plain(&value.to_ne_bytes())
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Argument::plain(&value.to_ne_bytes())
    }
}

/// `arguments![x, 3usize, 1.0f32]`: each becomes an [`Argument`].
macro_rules! arguments {
    ($($value:expr),* $(,)?) => {
        &[$($crate::cuda::launch::Argument::from($value)),*]
    };
}
pub(super) use arguments;
