//! Softmax attention over tokens.

use super::on_card;
use crate::cpu::attention::{Saved, Sizes, backward, forward};
use crate::grad::Derivative;
use crate::{Error, Result, Tensor, cuda, is_recording};

/// softmax(q kᵀ / √d) v, head by head. Memory grows with the tokens, not with their square.
///
/// # Shapes
/// `q` `[b, n, heads · d]`, `k` and `v` `[b, m, heads · d]`; the result is like `q`.
///
/// # Errors
/// When the shapes do not agree, heads do not divide the channels, or there is no key.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let sizes = check("attention", q, k, v, heads)?;
    attend(q, k, v, sizes)
}

/// Attention in which a token sees itself and those before it, as in text towers.
///
/// # Shapes
/// `q`, `k`, `v` `[b, n, heads · d]`; the result is like them.
///
/// # Errors
/// As [`attention`], and when there are not as many keys as queries.
pub fn causal_attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let sizes = check("causal_attention", q, k, v, heads)?;
    if sizes.n != sizes.m {
        let expected = format!("as many keys as queries, {:?}", q.dims());
        return Err(Error::shape("causal_attention", expected, k.dims()));
    }
    attend(
        q,
        k,
        v,
        Sizes {
            causal: true,
            ..sizes
        },
    )
}

fn check(op: &'static str, q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Sizes> {
    let &[batch, n, width] = q.dims() else {
        return Err(Error::shape(op, "q [b, n, heads · d]", q.dims()));
    };
    if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
        let message = format!("{heads} heads do not divide {width} channels");
        return Err(Error::argument(op, message));
    }
    let m = match *k.dims() {
        [b, m, w] if b == batch && w == width && m > 0 => m,
        _ => {
            let expected = format!("k [{batch}, m, {width}] with one key at least");
            return Err(Error::shape(op, expected, k.dims()));
        }
    };
    if v.dims() != k.dims() {
        return Err(Error::shape(
            op,
            format!("v like k, {:?}", k.dims()),
            v.dims(),
        ));
    }
    let d = width / heads;
    Ok(Sizes {
        batch,
        n,
        m,
        heads,
        d,
        causal: false,
    })
}

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, sizes: Sizes) -> Result<Tensor> {
    if on_card("attention", &[q, k, v])? {
        return attend_on_card(q, k, v, sizes);
    }
    let (out, log_sums) = forward(q.as_f32()?, k.as_f32()?, v.as_f32()?, sizes);
    let out = Tensor::from_vec(out, q.shape())?;
    let inputs = [q, k, v];
    if !is_recording() || !inputs.iter().any(|input| input.is_tracked()) {
        return Ok(out);
    }
    let [q, k, v] = inputs.map(Tensor::detach);
    // The way back reads the result too; it shares the values rather than keeping a copy.
    let kept = out.clone();
    let derivative = Derivative::new(&inputs, move |dout: &Tensor, _: &[bool]| {
        let saved = Saved {
            q: q.as_f32()?,
            k: k.as_f32()?,
            v: v.as_f32()?,
            out: kept.as_f32()?,
            log_sums: &log_sums,
            dout: dout.as_f32()?,
        };
        let [dq, dk, dv] = backward(saved, sizes);
        Ok(vec![
            Some(Tensor::from_vec(dq, q.shape())?),
            Some(Tensor::from_vec(dk, k.shape())?),
            Some(Tensor::from_vec(dv, v.shape())?),
        ])
    });
    Ok(out.with_derivative(derivative))
}

fn attend_on_card(q: &Tensor, k: &Tensor, v: &Tensor, sizes: Sizes) -> Result<Tensor> {
    let (out, log_sums) = cuda::attention([q.array()?, k.array()?, v.array()?], sizes)?;
    let out = Tensor::from_values(out, q.shape())?;
    let inputs = [q, k, v];
    if !is_recording() || !inputs.iter().any(|input| input.is_tracked()) {
        return Ok(out);
    }
    let kept = inputs.map(Tensor::detach);
    // What was made in chunks is not read on the way back, and need not be kept for it.
    let saved = log_sums.map(|log_sums| (out.clone(), log_sums));
    let derivative = Derivative::new(&inputs, move |dout: &Tensor, _: &[bool]| {
        let [q, k, v] = &kept;
        let operands = [q.array()?, k.array()?, v.array()?];
        let saved = match &saved {
            Some((out, log_sums)) => Some((out.array()?, log_sums)),
            None => None,
        };
        let parts = cuda::attention_backward(operands, saved, dout.array()?, sizes)?;
        let parts = parts.into_iter().zip(&kept);
        parts
            .map(|(part, input)| Ok(Some(Tensor::from_values(part, input.shape())?)))
            .collect()
    });
    Ok(out.with_derivative(derivative))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;
    use crate::testing::{assert_close, check_gradients, numbers};

    /// The definition, one query at a time, in f64.
    fn slow(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, causal: bool) -> Vec<f32> {
        let &[b, n, width] = q.dims() else {
            panic!("q")
        };
        let (m, d) = (k.dims()[1], width / heads);
        let [q, k, v] =
            [q, k, v].map(|x| x.to_vec().into_iter().map(f64::from).collect::<Vec<_>>());
        let mut out = vec![0.0; b * n * width];
        for (b, i, h) in (0..b * n * heads).map(|at| (at / (n * heads), at / heads % n, at % heads))
        {
            let keys = if causal { i + 1 } else { m };
            let row =
                |x: &[f64], len: usize, i: usize| x[(b * len + i) * width + h * d..][..d].to_vec();
            let query = row(&q, n, i);
            let scores: Vec<f64> = (0..keys)
                .map(|j| {
                    row(&k, m, j)
                        .iter()
                        .zip(&query)
                        .map(|(k, q)| k * q)
                        .sum::<f64>()
                })
                .map(|s| s / (d as f64).sqrt())
                .collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for c in 0..d {
                let value: f64 = (0..keys).map(|j| weights[j] / sum * row(&v, m, j)[c]).sum();
                out[(b * n + i) * width + h * d + c] = value as f32;
            }
        }
        out
    }

    /// Tokens strong enough for the softmax to be far from even.
    fn tokens(dims: [usize; 3], seed: u64) -> Tensor {
        ops::scale(&numbers(dims, seed), 3.0).unwrap()
    }

    /// [b, n, m, heads, d]: single tokens, odd widths, several tiles each way.
    const CASES: [[usize; 5]; 6] = [
        [1, 1, 1, 1, 1],
        [2, 3, 5, 3, 7],
        [1, 300, 1100, 2, 5],
        [2, 1, 600, 1, 64],
        [3, 300, 1, 2, 9],
        [1, 129, 513, 1, 80],
    ];

    #[test]
    fn agrees_with_the_definition() -> Result<()> {
        for [b, n, m, heads, d] in CASES {
            let (q, k, v) = (
                tokens([b, n, heads * d], 1),
                tokens([b, m, heads * d], 2),
                tokens([b, m, heads * d], 3),
            );
            let y = attention(&q, &k, &v, heads)?;
            assert_eq!(y.dims(), q.dims());
            assert_close(&y.to_vec(), &slow(&q, &k, &v, heads, false), 2e-6);
            let k = tokens([b, n, heads * d], 4);
            let y = causal_attention(&q, &k, &q, heads)?;
            assert_close(&y.to_vec(), &slow(&q, &k, &q, heads, true), 2e-6);
        }
        Ok(())
    }

    #[test]
    fn a_token_sees_none_after_it_across_tiles() -> Result<()> {
        let [q, k, v] = [1, 2, 3].map(|seed| tokens([1, 1100, 6], seed));
        let y = causal_attention(&q, &k, &v, 2)?;
        assert_close(&y.to_vec(), &slow(&q, &k, &v, 2, true), 2e-6);
        let inputs = [1, 2, 3].map(|seed| numbers([1, 600, 4], seed));
        check_gradients(&inputs, |x| causal_attention(&x[0], &x[1], &x[2], 2));
        Ok(())
    }

    #[test]
    fn weights_sum_to_one_however_large_the_scores() -> Result<()> {
        let q = ops::scale(&numbers([1, 200, 8], 1), 1e3)?;
        let y = attention(&q, &q, &Tensor::full(1.0, [1, 200, 8]), 2)?;
        assert!(y.to_vec().iter().all(|y| (y - 1.0).abs() < 1e-5));
        Ok(())
    }

    #[test]
    fn derivatives() {
        for [b, n, m, heads, d] in [[1, 1, 1, 1, 2], [2, 3, 5, 3, 7], [1, 140, 600, 1, 3]] {
            let inputs = [
                numbers([b, n, heads * d], 1),
                numbers([b, m, heads * d], 2),
                numbers([b, m, heads * d], 3),
            ];
            check_gradients(&inputs, |x| attention(&x[0], &x[1], &x[2], heads));
            let inputs =
                [&inputs[0], &tokens([b, n, heads * d], 2), &inputs[0]].map(Tensor::detach);
            check_gradients(&inputs, |x| causal_attention(&x[0], &x[1], &x[2], heads));
        }
    }

    #[test]
    fn gradients_agree_with_those_of_the_parts() -> Result<()> {
        // One head without tiles: softmax from exp, sums and products, each with its own derivative.
        let (n, m, d) = (300, 700, 4);
        let leaves = [
            numbers([1, n, d], 1),
            numbers([1, m, d], 2),
            numbers([1, m, d], 3),
        ];
        let [q, k, v] = leaves.each_ref().map(Tensor::tracked);
        let scores = ops::scale(&ops::linear(&q, &k.reshape([m, d])?, None)?, 0.5)?;
        let weights = ops::exp(&scores)?;
        let sums = ops::linear(&weights, &Tensor::full(1.0, [1, m]), None)?;
        let columns = ops::permute(&v.reshape([m, d])?, &[1, 0])?;
        let plain = ops::linear(&weights, &columns, None)?;
        let shares = ops::exp(&ops::scale(&logarithm(&sums)?, -1.0)?)?;
        let y = ops::mul_broadcast(&plain, &shares)?;
        let weighting = numbers([1, n, d], 9);
        let expected = ops::mul(&y, &weighting)?.backward()?;
        let found = ops::mul(&attention(&q, &k, &v, 1)?, &weighting)?.backward()?;
        for leaf in [&q, &k, &v] {
            let gradient = |from: &crate::Gradients| from.get(leaf).unwrap().to_vec();
            assert_close(&gradient(&found), &gradient(&expected), 1e-5);
        }
        Ok(())
    }

    /// ln x by Newton's iteration on eˣ, differentiable through its last step only: there it is exact
    /// to first order.
    fn logarithm(x: &Tensor) -> Result<Tensor> {
        let start: Vec<f32> = x.to_vec().iter().map(|x| x.ln()).collect();
        let inverse: Vec<f32> = x.to_vec().iter().map(|x| 1.0 / x).collect();
        let start = Tensor::from_vec(start, x.shape())?;
        let ratio = ops::mul(x, &Tensor::from_vec(inverse, x.shape())?)?;
        ops::add(&start, &ops::affine(&ratio, 1.0, -1.0)?)
    }

    #[test]
    fn does_not_depend_on_the_number_of_threads() -> Result<()> {
        let q = numbers([2, 300, 10], 1);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| -> Result<_> {
                let leaf = q.tracked();
                let y = attention(&leaf, &leaf, &leaf, 2)?;
                let values = y.to_vec();
                Ok((values, y.backward()?.get(&leaf).unwrap().to_vec()))
            })
        };
        assert_eq!(run(1)?, run(3)?);
        Ok(())
    }

    #[test]
    fn refuses_shapes_that_do_not_agree() {
        let (q, k) = (numbers([2, 3, 6], 1), numbers([2, 4, 6], 2));
        let error = attention(&q, &k, &k, 4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "attention: 4 heads do not divide 6 channels"
        );
        let error = attention(&q, &k, &q, 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "attention: expected v like k, [2, 4, 6], found [2, 3, 6]"
        );
        for other in [
            numbers([1, 4, 6], 2),
            numbers([2, 4, 3], 2),
            numbers([2, 0, 6], 2),
        ] {
            assert!(attention(&q, &other, &other, 2).is_err());
        }
        let error = causal_attention(&q, &k, &k, 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "causal_attention: expected as many keys as queries, [2, 3, 6], found [2, 4, 6]"
        );
        assert!(attention(&numbers([3, 6], 1), &k, &k, 2).is_err());
    }
}
