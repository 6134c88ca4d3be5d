//! Memory on a card that is written piece by piece: for what waits there between two passes. Arrays
//! themselves are never written again.

use super::Array;
use super::board::of_device;
use super::layout::copy_run;
use crate::{DType, Device, Error, Result, Shape, Tensor};
use std::ops::Range;

/// Values in a row in a card's memory. What was not written is unspecified.
#[derive(Debug)]
pub struct DeviceBuffer {
    array: Array,
}

impl DeviceBuffer {
    /// Room for `len` values.
    ///
    /// # Errors
    /// When the card has no memory left, or `device` is none.
    pub fn new(device: Device, dtype: DType, len: usize) -> Result<Self> {
        let array = Array::new(&of_device("device buffer", device)?, len, dtype)?;
        Ok(DeviceBuffer { array })
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.array.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts the values `part` of `source`, counted in the order of the array, to the place `start`.
    ///
    /// # Errors
    /// When `source` lies elsewhere, is of another type, or does not have or fit into that place.
    pub fn write(&mut self, start: usize, source: &Tensor, part: Range<usize>) -> Result<()> {
        if part.end > source.elements() || start + part.len() > self.len() {
            let message = format!(
                "{part:?} of {} values do not go to {start} of {}",
                source.elements(),
                self.len()
            );
            return Err(Error::argument("device buffer", message));
        }
        if source.device() != self.array.device() {
            return Err(Error::Devices {
                op: "device buffer",
                first: self.array.device(),
                other: source.device(),
            });
        }
        copy_run(source.array()?, part.start, &self.array, start, part.len())
    }

    /// The given stretches of several buffers, one after the other, as an array of `shape`.
    ///
    /// # Errors
    /// When they do not fill the shape, or there is no memory left for it.
    pub fn gather(
        parts: &[(&DeviceBuffer, Range<usize>)],
        shape: impl Into<Shape>,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let Some((first, _)) = parts.first() else {
            return Err(Error::argument("device buffer", "nothing to gather"));
        };
        let total = parts.iter().map(|(_, part)| part.len()).sum();
        let out = first.array.like(total)?;
        let mut start = 0;
        for (buffer, part) in parts {
            if part.end > buffer.len() {
                let message = format!("{part:?} is not within {} values", buffer.len());
                return Err(Error::argument("device buffer", message));
            }
            copy_run(&buffer.array, part.start, &out, start, part.len())?;
            start += part.len();
        }
        Tensor::from_values(out, shape)
    }
}

#[cfg(test)]
mod tests {
    use super::super::host_device;
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn pieces_come_back_where_they_were_put() -> Result<()> {
        let Some(device) = host_device(1 << 20) else {
            return Ok(());
        };
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let x = numbers([2, 6], 1).to_dtype(dtype)?;
            let there = x.to_device(device)?;
            let mut one = DeviceBuffer::new(device, dtype, 8)?;
            let mut two = DeviceBuffer::new(device, dtype, 4)?;
            one.write(2, &there, 0..6)?;
            two.write(0, &there, 8..12)?;
            let found = DeviceBuffer::gather(&[(&one, 3..6), (&two, 1..4)], [3, 2])?;
            let x = x.to_vec();
            let expected = [&x[1..4], &x[9..12]].concat();
            assert_eq!((found.dtype(), found.to_vec()), (dtype, expected));
            assert!(one.write(3, &there, 0..6).is_err());
            assert!(DeviceBuffer::gather(&[(&two, 2..5)], [3]).is_err());
            assert!(DeviceBuffer::gather(&[(&two, 2..4)], [3]).is_err());
        }
        assert!(DeviceBuffer::new(Device::Cpu, DType::F32, 4).is_err());
        Ok(())
    }
}
