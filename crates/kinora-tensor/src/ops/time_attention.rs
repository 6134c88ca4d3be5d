//! Softmax attention over the frames of a clip, place by place.

use super::on_card;
use crate::cpu::time_attention::{Sizes, backward, forward};
use crate::grad::Derivative;
use crate::{Error, Result, Tensor, cuda, is_recording};

/// For each place, softmax(q kᵀ / √d) v over the frames. Frames are read where they lie: the clip
/// is never turned so that time comes last.
///
/// # Shapes
/// `q`, `k`, `v` `[b, t, s, heads · d]`; the result is like them.
///
/// # Errors
/// When the shapes do not agree or heads do not divide the channels.
pub fn time_attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let sizes = check(q, k, v, heads)?;
    if on_card("time_attention", &[q, k, v])? {
        return on_a_card(q, k, v, sizes);
    }
    let out = forward([q.as_f32()?, k.as_f32()?, v.as_f32()?], sizes);
    let kept = [q, k, v].map(Tensor::detach);
    Ok(Tensor::recorded(
        out,
        q.shape(),
        &[q, k, v],
        move |dy, _| {
            let [q, k, v] = &kept;
            let values = [q.as_f32()?, k.as_f32()?, v.as_f32()?, dy.as_f32()?];
            backward(values, sizes)
                .into_iter()
                .map(|gradient| Ok(Some(Tensor::from_vec(gradient, q.shape())?)))
                .collect()
        },
    ))
}

fn on_a_card(q: &Tensor, k: &Tensor, v: &Tensor, sizes: Sizes) -> Result<Tensor> {
    let (out, log_sums) = cuda::time_attention([q.array()?, k.array()?, v.array()?], sizes)?;
    let out = Tensor::from_values(out, q.shape())?;
    let inputs = [q, k, v];
    if !is_recording() || !inputs.iter().any(|input| input.is_tracked()) {
        return Ok(out);
    }
    let kept = inputs.map(Tensor::detach);
    // The way back reads the result too; it shares the values rather than keeping a copy.
    let result = out.clone();
    let derivative = Derivative::new(&inputs, move |dout: &Tensor, _: &[bool]| {
        let [q, k, v] = &kept;
        let operands = [q.array()?, k.array()?, v.array()?];
        let saved = (result.array()?, &log_sums);
        let parts = cuda::time_attention_backward(operands, saved, dout.array()?, sizes)?;
        let parts = parts.into_iter();
        parts
            .map(|part| Ok(Some(Tensor::from_values(part, q.shape())?)))
            .collect()
    });
    Ok(out.with_derivative(derivative))
}

fn check(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Sizes> {
    const OP: &str = "time_attention";
    let &[batch, t, s, width] = q.dims() else {
        return Err(Error::shape(OP, "q [b, t, s, heads · d]", q.dims()));
    };
    for other in [k, v] {
        if other.dims() != q.dims() {
            let expected = format!("k and v like q, {:?}", q.dims());
            return Err(Error::shape(OP, expected, other.dims()));
        }
    }
    if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
        let message = format!("{heads} heads do not divide {width} channels");
        return Err(Error::argument(OP, message));
    }
    let d = width / heads;
    Ok(Sizes {
        batch,
        t,
        s,
        heads,
        d,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{attention, permute, scale};
    use crate::testing::{assert_close, check_gradients, numbers};

    /// [b, t, s, heads, d]: one frame, one place, odd widths, a ragged last block of places, many frames.
    const CASES: [[usize; 5]; 6] = [
        [1, 1, 1, 1, 1],
        [2, 1, 5, 3, 7],
        [1, 14, 1, 2, 64],
        [2, 5, 33, 3, 9],
        [1, 25, 17, 1, 80],
        [1, 40, 3, 2, 24],
    ];

    /// Time turned inwards, attention over tokens, and back.
    fn slow(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
        let &[b, t, s, c] = q.dims() else { panic!("q") };
        let turn = |x: &Tensor| permute(x, &[0, 2, 1, 3])?.reshape([b * s, t, c]);
        let y = attention(&turn(q)?, &turn(k)?, &turn(v)?, heads)?;
        permute(&y.reshape([b, s, t, c])?, &[0, 2, 1, 3])
    }

    #[test]
    fn agrees_with_attention_over_turned_clips() -> Result<()> {
        for [b, t, s, heads, d] in CASES {
            let make =
                |seed| Ok::<_, Error>(scale(&numbers([b, t, s, heads * d], seed), 3.0)?.tracked());
            let [q, k, v] = [make(1)?, make(2)?, make(3)?];
            let (found, expected) = (time_attention(&q, &k, &v, heads)?, slow(&q, &k, &v, heads)?);
            assert_eq!(found.dims(), q.dims());
            assert_close(&found.to_vec(), &expected.to_vec(), 2e-6);
            let weighting = numbers([b, t, s, heads * d], 4);
            let back = |y: &Tensor| crate::ops::mul(y, &weighting)?.backward();
            let (found, expected) = (back(&found)?, back(&expected)?);
            for (leaf, tolerance) in [(&q, 1e-5), (&k, 1e-5), (&v, 1e-5)] {
                let gradient = |from: &crate::Gradients| from.get(leaf).unwrap().to_vec();
                // With a single frame the softmax is constant and nothing reaches q and k.
                let (found, expected) = (gradient(&found), gradient(&expected));
                if t > 1 || std::ptr::eq(leaf, &v) {
                    assert_close(&found, &expected, tolerance);
                } else {
                    assert!(found.iter().all(|g| g.abs() < 1e-6));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn derivative() {
        for [b, t, s, heads, d] in [[1, 1, 2, 1, 3], [2, 3, 5, 3, 7], [1, 14, 3, 1, 8]] {
            let inputs = [1, 2, 3].map(|seed| numbers([b, t, s, heads * d], seed));
            check_gradients(&inputs, |x| time_attention(&x[0], &x[1], &x[2], heads));
        }
    }

    #[test]
    fn refuses_shapes_that_do_not_agree() {
        let q = numbers([1, 2, 3, 6], 1);
        let error = time_attention(&q, &q, &numbers([1, 3, 2, 6], 2), 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "time_attention: expected k and v like q, [1, 2, 3, 6], found [1, 3, 2, 6]"
        );
        let error = time_attention(&q, &q, &q, 5).unwrap_err();
        assert_eq!(
            error.to_string(),
            "time_attention: 5 heads do not divide 6 channels"
        );
        let flat = numbers([2, 3, 6], 1);
        assert!(time_attention(&flat, &flat, &flat, 2).is_err());
    }
}
