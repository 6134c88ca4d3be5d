//! Rows of a table.

use super::on_card;
use crate::{Error, Result, Tensor, cuda, storage};

/// The rows `ids` of `table`, in that order.
///
/// # Shapes
/// `table` `[v, c]` in any element type; the result is `[ids.len(), c]`.
///
/// # Errors
/// When `table` is not a matrix, or has no row of some id.
pub fn embedding(table: &Tensor, ids: &[usize]) -> Result<Tensor> {
    let &[rows, c] = table.dims() else {
        return Err(Error::shape("embedding", "a table [v, c]", table.dims()));
    };
    if let Some((place, id)) = ids.iter().enumerate().find(|(_, id)| **id >= rows) {
        return Err(Error::argument(
            "embedding",
            format!("entry {place} asks for row {id} of a table of {rows} rows"),
        ));
    }
    if on_card("embedding", &[table])? {
        let out = cuda::layout::embedding(table.array()?, ids, c)?;
        let (ids, shape) = (ids.to_vec(), table.shape().clone());
        return Ok(Tensor::recorded(
            out,
            [ids.len(), c],
            &[table],
            move |dy, _| {
                let elements = shape.elements();
                let dtable = cuda::layout::embedding_backward(dy.array()?, &ids, c, elements)?;
                Ok(vec![Some(Tensor::from_values(dtable, &shape)?)])
            },
        ));
    }
    let mut out = storage::scratch(ids.len() * c);
    for (id, out) in ids.iter().zip(out.chunks_exact_mut(c.max(1))) {
        table.widen_into(id * c, out);
    }
    let (ids, shape) = (ids.to_vec(), table.shape().clone());
    let dims = [ids.len(), c];
    Ok(Tensor::recorded(out, dims, &[table], move |dy, _| {
        let mut dtable = storage::zeros(shape.elements());
        for (id, dy) in ids.iter().zip(dy.as_f32()?.chunks_exact(c.max(1))) {
            for (sum, dy) in dtable[id * c..][..c].iter_mut().zip(dy) {
                *sum += dy;
            }
        }
        Ok(vec![Some(Tensor::from_vec(dtable, &shape)?)])
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::testing::{check_gradients, numbers};

    #[test]
    fn looks_rows_up() -> Result<()> {
        let table = numbers([5, 3], 1);
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let table = table.cast(dtype);
            let values = table.to_vec();
            let y = embedding(&table, &[4, 0, 0, 2])?;
            assert_eq!(y.dims(), [4, 3]);
            let expected = [&values[12..15], &values[..3], &values[..3], &values[6..9]].concat();
            assert_eq!(y.to_vec(), expected);
        }
        Ok(())
    }

    #[test]
    fn derivative() {
        check_gradients(&[numbers([5, 3], 1)], |inputs| {
            embedding(&inputs[0], &[4, 0, 0, 2])
        });
    }

    #[test]
    fn refuses_a_row_that_is_not_there() {
        let error = embedding(&numbers([5, 3], 1), &[1, 5]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "embedding: entry 1 asks for row 5 of a table of 5 rows"
        );
        assert!(embedding(&numbers([5], 1), &[0]).is_err());
    }
}
