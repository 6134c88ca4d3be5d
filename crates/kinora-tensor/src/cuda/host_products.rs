//! Products and convolutions of the test machine: the processor's own, on copies of the arrays. What
//! is tested with them is which product is asked for.

use super::Array;
use super::conv::Pass;
use super::product::{Matrix, Product};
use crate::cpu::matmul::{Cores, MatRef, matmul};
use crate::ops::Geometry;
use crate::storage::Values;
use crate::{DType, Result, Tensor};

/// Where an array lies, for work that is done when the array itself may be gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    address: u64,
    len: usize,
    dtype: DType,
}

impl From<&Array> for Place {
    fn from(array: &Array) -> Self {
        Place {
            address: array.address(),
            len: array.len(),
            dtype: array.dtype(),
        }
    }
}

impl Place {
    fn bytes(&self) -> usize {
        self.len * self.dtype.size_bytes()
    }

    /// The values as f32.
    fn values(&self) -> Result<Vec<f32>> {
        // SAFETY: arrays of the test machine are memory of this process; who queued this work keeps
        // the memory until it is done.
        #[allow(unsafe_code)]
        let bytes =
            unsafe { std::slice::from_raw_parts(self.address as usize as *const u8, self.bytes()) };
        let values = Values::from_le_bytes(bytes, self.dtype);
        Ok(Tensor::from_values(values, [self.len])?.to_vec())
    }

    /// Rounds the values to the array's type and puts them there.
    fn put(&self, values: Vec<f32>) -> Result<()> {
        let values = Tensor::from_vec(values, [self.len])?;
        let bytes = values.to_dtype(self.dtype)?.to_le_bytes();
        // SAFETY: as above, and there are as many bytes.
        #[allow(unsafe_code)]
        unsafe {
            let to = self.address as usize as *mut u8;
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Ok(())
    }
}

/// A [`Matrix`] without its array.
#[derive(Clone, Copy, Debug)]
struct Part {
    place: Place,
    start: usize,
    rows: usize,
    columns: usize,
    stride: usize,
    next: usize,
    turned: bool,
}

impl From<&Matrix<'_>> for Part {
    fn from(matrix: &Matrix<'_>) -> Self {
        Part {
            place: matrix.array.into(),
            start: matrix.start,
            rows: matrix.rows,
            columns: matrix.columns,
            stride: matrix.stride,
            next: matrix.next,
            turned: matrix.turned,
        }
    }
}

impl Part {
    fn of<'a>(&self, values: &'a [f32], number: usize) -> MatRef<'a> {
        let from = &values[self.start + number * self.next..];
        let here = MatRef::strided(from, self.rows, self.columns, self.stride);
        if self.turned { here.t() } else { here }
    }
}

/// A [`Product`] without its arrays.
#[derive(Clone, Debug)]
pub(super) struct Multiplication {
    a: Part,
    b: Part,
    out: Part,
    extents: [usize; 3],
    batch: usize,
    factor: f32,
    accumulate: bool,
    bias: Option<Place>,
    onto: Option<Place>,
}

impl From<&Product<'_>> for Multiplication {
    fn from(product: &Product<'_>) -> Self {
        Multiplication {
            a: (&product.a).into(),
            b: (&product.b).into(),
            out: (&product.out).into(),
            extents: product.extents(),
            batch: product.batch,
            factor: product.factor,
            accumulate: product.accumulate,
            bias: product.bias.map(Place::from),
            onto: product.onto.map(Place::from),
        }
    }
}

impl Multiplication {
    pub(super) fn run(&self) -> Result<()> {
        let [m, _, n] = self.extents;
        let (a, b) = (self.a.place.values()?, self.b.place.values()?);
        let mut out = self.out.place.values()?;
        let bias = self.bias.map(|bias| bias.values()).transpose()?;
        let accumulates = self.accumulate || self.onto.is_some();
        if let Some(onto) = self.onto {
            out = onto.values()?;
        }
        for number in 0..self.batch {
            let mut dense = vec![0.0; m * n];
            let (a, b) = (self.a.of(&a, number), self.b.of(&b, number));
            matmul(&mut dense, n, a, b, false, Cores::One);
            for (row, dense) in dense.chunks_exact(n).enumerate() {
                let place = self.out.start + number * self.out.next + row * self.out.stride;
                for (column, (out, value)) in out[place..][..n].iter_mut().zip(dense).enumerate() {
                    let before = if accumulates { *out } else { 0.0 };
                    let bias = bias.as_ref().map_or(0.0, |bias| bias[column]);
                    *out = before + self.factor * value + bias;
                }
            }
        }
        self.out.place.put(out)
    }
}

/// A convolution without its arrays.
#[derive(Clone, Copy, Debug)]
pub(super) struct Convolution {
    pub pass: Pass,
    pub geometry: Geometry,
    pub operands: [Place; 2],
    pub out: Place,
}

impl Convolution {
    /// Why no library would make it.
    pub(super) fn refused(&self) -> Option<&'static str> {
        let pad = self.geometry.conv.pad;
        let [first, second] = self.operands;
        let uneven = pad.top != pad.bottom || pad.left != pad.right;
        (uneven || first.dtype != second.dtype).then_some("a convolution that no library makes")
    }

    pub(super) fn run(&self) -> Result<()> {
        let (g, [first, second]) = (&self.geometry, self.operands);
        let (x, y) = (first.values()?, second.values()?);
        let weight = |values: Vec<f32>| Tensor::from_vec(values, [g.o, g.kh, g.kw, g.i]);
        let made = match self.pass {
            Pass::Forward => g.forward(&x, &weight(y)?, None, None),
            Pass::Input => g.input_gradient(&x, &weight(y)?),
            Pass::Weight => g.weight_gradient(&x, &y, None),
        };
        self.out.put(made)
    }
}
