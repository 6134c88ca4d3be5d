//! Products of matrices: the descriptions a board multiplies by, and the linear layer over them.

use super::Array;
use super::elementwise::{cast, launch};
use super::launch::{Argument, arguments};
use super::reduce::Rows;
use crate::{DType, Result, Tensor};

/// A matrix inside an array, or one for each entry of a batch: rows of neighbours, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub array: &'a Array,
    /// Where the first one begins.
    pub start: usize,
    /// Extents as it lies in memory.
    pub rows: usize,
    pub columns: usize,
    pub stride: usize,
    /// From one of a batch to the next.
    pub next: usize,
    /// Whether its transpose is meant.
    pub turned: bool,
}

impl<'a> Matrix<'a> {
    /// A dense matrix that fills its array.
    pub(crate) fn dense(array: &'a Array, rows: usize, columns: usize) -> Self {
        Matrix {
            array,
            start: 0,
            rows,
            columns,
            stride: columns,
            next: 0,
            turned: false,
        }
    }

    pub(crate) fn turned(self) -> Self {
        Matrix {
            turned: !self.turned,
            ..self
        }
    }

    /// Rows and columns of what is meant.
    pub(super) fn extents(&self) -> [usize; 2] {
        match self.turned {
            false => [self.rows, self.columns],
            true => [self.columns, self.rows],
        }
    }

    /// One past the last element touched.
    fn end(&self, batch: usize) -> usize {
        let rows = (self.rows.max(1) - 1) * self.stride + self.columns;
        self.start + (batch.max(1) - 1) * self.next + rows
    }
}

/// out = factor · a · b, `batch` times, plus what was in `out` where it accumulates, plus a bias for
/// each column. Accumulated in f32 whatever the types; those of `a` and `b` are equal, that of `out`
/// and the bias is theirs or f32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product<'a> {
    pub a: Matrix<'a>,
    pub b: Matrix<'a>,
    pub out: Matrix<'a>,
    pub batch: usize,
    pub factor: f32,
    pub accumulate: bool,
    pub bias: Option<&'a Array>,
    /// A matrix laid out as `out` and of its type, added instead of what was in `out`.
    pub onto: Option<&'a Array>,
}

impl<'a> Product<'a> {
    pub(crate) fn new(a: Matrix<'a>, b: Matrix<'a>, out: Matrix<'a>) -> Self {
        Product {
            a,
            b,
            out,
            batch: 1,
            factor: 1.0,
            accumulate: false,
            bias: None,
            onto: None,
        }
    }

    /// m, k and n of `[m, k] · [k, n]`.
    pub(super) fn extents(&self) -> [usize; 3] {
        let ([m, k], [_, n]) = (self.a.extents(), self.b.extents());
        [m, k, n]
    }

    /// Multiplies.
    pub(crate) fn run(&self) -> Result<()> {
        let [m, k, n] = self.extents();
        assert_eq!(self.b.extents()[0], k, "inner extents of a product");
        assert_eq!([self.out.rows, self.out.columns], [m, n], "its result");
        assert!(!self.out.turned && self.a.array.dtype() == self.b.array.dtype());
        if let Some(onto) = self.onto {
            let out = self.out.array;
            assert!(!self.accumulate && onto.dtype() == out.dtype() && onto.len() == out.len());
        }
        for matrix in [self.a, self.b, self.out] {
            let end = matrix.end(self.batch);
            assert!(end <= matrix.array.len(), "{matrix:?} outside its array");
        }
        if m == 0 || n == 0 || self.batch == 0 {
            return Ok(());
        }
        self.out.array.board().multiply(self)
    }
}

/// x · wᵀ + b with x `[rows, i]` and w `[o, i]`, added to what `onto` has.
pub(crate) fn linear(
    x: &Array,
    w: &Tensor,
    b: Option<&Tensor>,
    onto: Option<&Array>,
    rows: usize,
) -> Result<Array> {
    let [o, i] = [w.dims()[0], w.dims()[1]];
    let w = w.to_dtype(x.dtype())?;
    let b = b.map(|b| b.to_dtype(x.dtype())).transpose()?;
    let y = x.like(rows * o)?;
    let (x, w) = (Matrix::dense(x, rows, i), Matrix::dense(w.array()?, o, i));
    Product {
        bias: b.as_ref().map(Tensor::array).transpose()?,
        onto,
        ..Product::new(x, w.turned(), Matrix::dense(&y, rows, o))
    }
    .run()?;
    Ok(y)
}

/// The gradient of x.
pub(crate) fn linear_input_gradient(dy: &Array, w: &Tensor, rows: usize) -> Result<Array> {
    let [o, i] = [w.dims()[0], w.dims()[1]];
    let w = w.to_dtype(dy.dtype())?;
    let dx = dy.like(rows * i)?;
    let (dy, w) = (Matrix::dense(dy, rows, o), Matrix::dense(w.array()?, o, i));
    Product::new(dy, w, Matrix::dense(&dx, rows, i)).run()?;
    Ok(dx)
}

/// The gradient of w, in the type `dtype`.
pub(crate) fn linear_weight_gradient(
    x: &Array,
    dy: &Array,
    [rows, o, i]: [usize; 3],
    dtype: DType,
) -> Result<Array> {
    let result = match dtype {
        DType::F32 => DType::F32,
        _ => x.dtype(),
    };
    let dw = Array::new(x.board(), o * i, result)?;
    let (x, dy) = (Matrix::dense(x, rows, i), Matrix::dense(dy, rows, o));
    Product::new(dy.turned(), x, Matrix::dense(&dw, o, i)).run()?;
    if result == dtype {
        return Ok(dw);
    }
    cast(&dw, dtype)
}

/// The gradient of a bias of `o` values: the sum of all rows.
pub(crate) fn bias_gradient(dy: &Array, o: usize, dtype: DType) -> Result<Array> {
    let rows = Rows {
        outer: 1,
        rows: dy.len() / o.max(1),
        columns: o,
    };
    cast(&rows.sum(dy)?, dtype)
}

/// y += b for each row of `b`'s length, in place: nothing else holds `y` yet.
pub(crate) fn add_bias(y: &Array, b: &Tensor) -> Result<()> {
    let b = b.to_dtype(y.dtype())?;
    let c = b.elements();
    let extents = [1, 1, 1, 1, y.len() / c.max(1), c];
    let members = extents.into_iter().chain([0, 0, 0, 0, 0, 1]);
    let mut list = arguments![y, b.array()?, y, y.len()].to_vec();
    list.push(Argument::structure(members.map(Argument::from)));
    launch("add_broadcast", y, y.len(), &list)
}

/// One head's columns of rows `[n, width]`, as every head's in a batch.
pub(super) fn heads<'a>(
    array: &'a Array,
    [first, rows]: [usize; 2],
    [width, d]: [usize; 2],
) -> Matrix<'a> {
    Matrix {
        start: first * width,
        stride: width,
        next: d,
        ..Matrix::dense(array, rows, d)
    }
}
