//! An array in a card's memory.

use super::Board;
use crate::{DType, Device, Result};
use std::sync::Arc;

/// Values of one type in the memory of a board, given back when dropped.
pub(crate) struct Array {
    board: Arc<Board>,
    address: u64,
    len: usize,
    dtype: DType,
    /// The array whose memory it is a part of, where it has none of its own.
    whole: Option<Arc<Array>>,
}

impl Array {
    /// `len` values of unspecified content, to be overwritten in full.
    pub(crate) fn new(board: &Arc<Board>, len: usize, dtype: DType) -> Result<Self> {
        let address = match len {
            0 => 0,
            len => board.allocate(len * dtype.size_bytes())?,
        };
        Ok(Array {
            board: board.clone(),
            address,
            len,
            dtype,
            whole: None,
        })
    }

    /// A part of another array's memory, from a byte of it on, under any type.
    pub(super) fn within(whole: &Arc<Array>, start: usize, len: usize, dtype: DType) -> Self {
        assert!(start + len * dtype.size_bytes() <= whole.bytes(), "inside");
        Array {
            board: whole.board.clone(),
            address: whole.address + start as u64,
            len,
            dtype,
            whole: Some(whole.clone()),
        }
    }

    /// Values given as little-endian bytes, which must be whole, on behalf of the operation `op`.
    pub(crate) fn from_bytes(
        board: &Arc<Board>,
        bytes: &[u8],
        dtype: DType,
        op: &'static str,
    ) -> Result<Self> {
        let array = Array::new(board, bytes.len() / dtype.size_bytes(), dtype)?;
        assert_eq!(array.bytes(), bytes.len(), "whole values");
        if array.len > 0 {
            board.upload(array.address, bytes, op)?;
        }
        Ok(array)
    }

    /// The values as little-endian bytes.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes()];
        if self.len > 0 {
            self.board.download(self.address, &mut bytes, "to_device")?;
        }
        Ok(bytes)
    }

    /// The same values in memory of their own.
    pub(crate) fn copied(&self) -> Result<Self> {
        let copy = self.like(self.len)?;
        self.board.copy(self, &copy)?;
        Ok(copy)
    }

    /// Puts the values of another array of this length and type here.
    pub(crate) fn overwrite(&self, from: &Array) -> Result<()> {
        assert_eq!(self.dtype, from.dtype, "values of one type");
        self.board.copy(from, self)
    }

    /// Values of the same type on the same board, of unspecified content.
    pub(crate) fn like(&self, len: usize) -> Result<Self> {
        Array::new(&self.board, len, self.dtype)
    }

    /// The same as f32, of unspecified content.
    pub(crate) fn f32_like(&self, len: usize) -> Result<Self> {
        Array::new(&self.board, len, DType::F32)
    }

    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    pub(crate) fn device(&self) -> Device {
        self.board.device()
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn bytes(&self) -> usize {
        self.len * self.dtype.size_bytes()
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        if self.len > 0 && self.whole.is_none() {
            self.board.free(self.address, self.bytes());
        }
    }
}

impl std::fmt::Debug for Array {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Array({} {} on {})", self.len, self.dtype, self.device())
    }
}
