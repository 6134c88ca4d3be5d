//! Moving values about on a card: joining, cutting, turning, repeating, looking up.

use super::launch::{Argument, Grid, Kernel, arguments};
use super::reduce::Rows;
use super::sources::Source;
use super::{Array, fill};
use crate::{DType, Error, Result};

fn launch(name: &'static str, x: &Array, count: usize, arguments: &[Argument]) -> Result<()> {
    let kernel = Kernel {
        source: Source::Layout,
        name,
        dtype: x.dtype(),
    };
    x.board().launch(kernel, Grid::elements(count), arguments)
}

/// Of `x`, seen as rows `[outer, row]`, the `len` values from `start` on of each.
pub(crate) fn rows(x: &Array, [outer, row]: [usize; 2], [start, len]: [usize; 2]) -> Result<Array> {
    let y = x.like(outer * len)?;
    let list = arguments![x, &y, outer, len, row, start, len, 0usize];
    launch("copy_rows", x, outer * len, list)?;
    Ok(y)
}

/// `len` values of `from`, from `from_start` on, to the place `to_start` of `to`.
pub(super) fn copy_run(
    from: &Array,
    from_start: usize,
    to: &Array,
    to_start: usize,
    len: usize,
) -> Result<()> {
    super::elementwise::same_type("copy", to, from)?;
    let list = arguments![from, to, 1usize, len, len, from_start, len, to_start];
    launch("copy_rows", from, len, list)
}

/// The way back of [`rows`]: the stretch in its place, zeros around it.
pub(crate) fn rows_backward(
    dy: &Array,
    [outer, row]: [usize; 2],
    [start, len]: [usize; 2],
) -> Result<Array> {
    let dx = fill(dy.board(), outer * row, dy.dtype(), 0.0)?;
    let list = arguments![dy, &dx, outer, len, len, 0usize, row, start];
    launch("copy_rows", dy, outer * len, list)?;
    Ok(dx)
}

/// Arrays seen as rows `[outer, run]`, one after the other in each row of the result.
pub(crate) fn concat(parts: &[(&Array, usize)], outer: usize) -> Result<Array> {
    let total: usize = parts.iter().map(|(_, run)| run).sum();
    let (first, _) = parts[0];
    let out = first.like(outer * total)?;
    let mut start = 0;
    for (part, run) in parts {
        super::elementwise::same_type("concat", first, part)?;
        let list = arguments![*part, &out, outer, *run, *run, 0usize, total, start];
        launch("copy_rows", part, outer * run, list)?;
        start += run;
    }
    Ok(out)
}

/// Dense with extents `dims`, from places `strides` apart in `x`.
pub(crate) fn permute(x: &Array, dims: &[usize], strides: &[usize]) -> Result<Array> {
    const MOST: usize = 8;
    if dims.len() > MOST {
        let message = format!("{} axes are more than {MOST}", dims.len());
        return Err(Error::argument("permute", message));
    }
    let (mut extents, mut steps) = ([1usize; MOST], [0usize; MOST]);
    extents[MOST - dims.len()..].copy_from_slice(dims);
    steps[MOST - dims.len()..].copy_from_slice(strides);
    let y = x.like(x.len())?;
    let members = extents.into_iter().chain(steps).map(Argument::from);
    let mut list = arguments![x, &y, x.len()].to_vec();
    list.push(Argument::structure(members));
    launch("permute", x, x.len(), &list)?;
    Ok(y)
}

/// Each entry of `run` values `times` in a row.
pub(crate) fn repeat(x: &Array, run: usize, times: usize) -> Result<Array> {
    let y = x.like(x.len() * times)?;
    let list = arguments![x, &y, y.len(), run, times];
    launch("repeat", x, y.len(), list)?;
    Ok(y)
}

/// The way back of [`repeat`], for `entries` entries.
pub(crate) fn repeat_backward(
    dy: &Array,
    entries: usize,
    run: usize,
    times: usize,
) -> Result<Array> {
    let copies = Rows {
        outer: entries,
        rows: times,
        columns: run,
    };
    if times == 0 || run == 0 || entries == 0 {
        return fill(dy.board(), entries * run, dy.dtype(), 0.0);
    }
    super::cast(&copies.sum(dy)?, dy.dtype())
}

/// Pictures `[n, h, w, c]` of twice the size.
pub(crate) fn upsample(x: &Array, [h, w, c]: [usize; 3]) -> Result<Array> {
    let y = x.like(4 * x.len())?;
    launch("upsample", x, y.len(), arguments![x, &y, y.len(), h, w, c])?;
    Ok(y)
}

pub(crate) fn upsample_backward(dy: &Array, [h, w, c]: [usize; 3]) -> Result<Array> {
    let dx = dy.like(dy.len() / 4)?;
    let list = arguments![dy, &dx, dx.len(), h, w, c];
    launch("upsample_backward", dy, dx.len(), list)?;
    Ok(dx)
}

/// Whole numbers in the memory of `like`'s board. There is no such element type: they lie in an array
/// of f32 of twice the length, which only kernels read.
fn indices(like: &Array, values: impl IntoIterator<Item = usize>) -> Result<Array> {
    let values = values.into_iter().map(|value| value as i64);
    let bytes: Vec<u8> = values.flat_map(i64::to_le_bytes).collect();
    Array::from_bytes(like.board(), &bytes, DType::F32, "embedding")
}

/// The rows `ids` of a table `[.., c]`.
pub(crate) fn embedding(table: &Array, ids: &[usize], c: usize) -> Result<Array> {
    let y = table.like(ids.len() * c)?;
    let numbers = indices(table, ids.iter().copied())?;
    let list = arguments![table, &numbers, &y, y.len(), c];
    launch("embedding", table, y.len(), list)?;
    Ok(y)
}

/// The gradient of a table of `elements` values: each row is the sum over who asked for it.
pub(crate) fn embedding_backward(
    dy: &Array,
    ids: &[usize],
    c: usize,
    elements: usize,
) -> Result<Array> {
    let dtable = fill(dy.board(), elements, dy.dtype(), 0.0)?;
    let mut places: Vec<usize> = (0..ids.len()).collect();
    places.sort_by_key(|place| ids[*place]);
    let (mut rows, mut starts) = (Vec::new(), Vec::new());
    for (k, place) in places.iter().enumerate() {
        if rows.last() != Some(&ids[*place]) {
            rows.push(ids[*place]);
            starts.push(k);
        }
    }
    starts.push(places.len());
    let count = rows.len();
    let [rows, starts, places] = [rows, starts, places].map(|values| indices(dy, values));
    let (rows, starts, places) = (rows?, starts?, places?);
    let list = arguments![dy, &rows, &starts, &places, &dtable, count, c];
    launch("embedding_backward", dy, count * c, list)?;
    Ok(dtable)
}

/// Pictures with zeros around them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Extents of a picture: h, w, c.
    pub picture: [usize; 3],
    pub top: usize,
    pub left: usize,
    /// Rows and columns with the zeros.
    pub padded: [usize; 2],
}

impl Frame {
    fn arguments(&self, from: &Array, to: &Array) -> Vec<Argument> {
        let ([h, w, c], [padded_h, padded_w]) = (self.picture, self.padded);
        let (top, left) = (self.top, self.left);
        arguments![from, to, to.len(), h, w, c, top, left, padded_h, padded_w].to_vec()
    }

    fn pictures(&self, elements: usize, extents: [usize; 2]) -> usize {
        elements / (extents[0] * extents[1] * self.picture[2]).max(1)
    }

    pub(crate) fn pad(&self, x: &Array) -> Result<Array> {
        let [h, w, c] = self.picture;
        let n = self.pictures(x.len(), [h, w]);
        let y = x.like(n * self.padded[0] * self.padded[1] * c)?;
        launch("pad", x, y.len(), &self.arguments(x, &y))?;
        Ok(y)
    }

    pub(crate) fn crop(&self, x: &Array) -> Result<Array> {
        let [h, w, c] = self.picture;
        let y = x.like(self.pictures(x.len(), self.padded) * h * w * c)?;
        launch("crop", x, y.len(), &self.arguments(x, &y))?;
        Ok(y)
    }
}
