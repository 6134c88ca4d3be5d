//! The fused kernel, run lane by lane with tensor cores as the PTX manual tells them, against the
//! processor's f32 and against chunks of scores.

use super::super::attention::{chunked_attention, chunked_backward};
use super::*;
use crate::testing::{numbers, relative_l2};
use crate::{Device, Tensor, host_device, ops};

const TYPES: [DType; 2] = [DType::F16, DType::BF16];

/// [sequences, queries, keys, heads]: one row, one short of a tile of a product, one over; the same of a
/// tile of rows and of a block's rows.
const EXTENTS: [[usize; 4]; 9] = [
    [1, 1, 1, 1],
    [1, 1, 129, 2],
    [1, 129, 1, 1],
    [2, 15, 17, 2],
    [1, 17, 15, 1],
    [2, 63, 65, 3],
    [1, 65, 63, 1],
    [1, 129, 129, 2],
    [1, 5, 200, 1],
];

fn sizes([batch, n, m, heads]: [usize; 4], causal: bool) -> Sizes {
    Sizes {
        batch,
        n,
        m,
        heads,
        d: HEAD,
        causal,
    }
}

/// q, k, v and the gradient of the result, as they are stored; q and k are `size` large.
fn operands(sizes: Sizes, dtype: DType, size: f32) -> Result<[Tensor; 4]> {
    let width = sizes.heads * HEAD;
    let (queries, keys) = ([sizes.batch, sizes.n, width], [sizes.batch, sizes.m, width]);
    let stored =
        |dims: [usize; 3], seed, size| ops::scale(&numbers(dims, seed), size)?.to_dtype(dtype);
    Ok([
        stored(queries, 1, size)?,
        stored(keys, 2, size)?,
        stored(keys, 3, 1.0)?,
        stored(queries, 4, 1.0)?,
    ])
}

/// The result and the three gradients.
type Four = [Vec<f32>; 4];

fn on_the_processor([q, k, v, dout]: &[Tensor; 4], sizes: Sizes) -> Result<Four> {
    let wide = |x: &Tensor| x.to_dtype(DType::F32);
    let [q, k, v] = [wide(q)?.tracked(), wide(k)?.tracked(), wide(v)?.tracked()];
    let y = match sizes.causal {
        false => ops::attention(&q, &k, &v, sizes.heads)?,
        true => ops::causal_attention(&q, &k, &v, sizes.heads)?,
    };
    let gradients = ops::sum(&ops::mul(&y, &wide(dout)?)?)?.backward()?;
    let of = |leaf| gradients.get(leaf).expect("it depends on each").to_vec();
    Ok([y.to_vec(), of(&q), of(&k), of(&v)])
}

fn placed(operands: &[Tensor; 4], device: Device) -> Result<[Tensor; 4]> {
    let [q, k, v, dout] = operands.each_ref().map(|x| x.to_device(device));
    Ok([q?, k?, v?, dout?])
}

fn values(arrays: [Array; 4]) -> Result<Four> {
    let [y, dq, dk, dv] = arrays.map(|array| -> Result<Vec<f32>> {
        let len = array.len();
        Ok(Tensor::from_values(array, [len])?.to_vec())
    });
    Ok([y?, dq?, dk?, dv?])
}

fn fused(operands: &[Tensor; 4], device: Device, sizes: Sizes) -> Result<Four> {
    let [q, k, v, dout] = placed(operands, device)?;
    let operands = [q.array()?, k.array()?, v.array()?];
    let (y, log_sums) = attention(operands, sizes)?;
    let [dq, dk, dv] = attention_backward(operands, (&y, &log_sums), dout.array()?, sizes)?;
    values([y, dq, dk, dv])
}

fn chunked(operands: &[Tensor; 4], device: Device, sizes: Sizes) -> Result<Four> {
    let [q, k, v, dout] = placed(operands, device)?;
    let operands = [q.array()?, k.array()?, v.array()?];
    let y = chunked_attention(operands, sizes, 1 << 20)?;
    let [dq, dk, dv] = chunked_backward(operands, dout.array()?, sizes, 1 << 20)?;
    values([y, dq, dk, dv])
}

/// Half a unit of the last place of 1: the largest relative error of storing a value.
fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 2f64.powi(-24),
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
    }
}

fn assert_near(what: &str, found: &Four, expected: &Four, limit: f64) {
    for (name, (found, expected)) in ["out", "dq", "dk", "dv"]
        .iter()
        .zip(found.iter().zip(expected))
    {
        // Of one key all gradients of scores vanish, and what is left is the last place of f32.
        let size = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        let nothing = size < 1e-4 && found.iter().all(|v| v.abs() < 1e-4);
        let distance = relative_l2(found, expected);
        assert!(
            nothing || distance <= limit,
            "{what}: {name} is {distance:.1e} away of {limit:.1e}"
        );
    }
}

/// Weights and slopes are rounded once before their product, and the result once after it.
const ROUNDINGS: f64 = 2.0;

#[test]
fn agrees_with_the_processor_and_with_chunks_at_awkward_lengths() -> Result<()> {
    let Some(device) = host_device(1 << 26) else {
        return Ok(());
    };
    for (extents, dtype) in EXTENTS.into_iter().flat_map(|e| TYPES.map(|t| (e, t))) {
        let sizes = sizes(extents, false);
        let operands = operands(sizes, dtype, 1.0)?;
        let found = fused(&operands, device, sizes)?;
        let (what, limit) = (format!("{extents:?} {dtype}"), ROUNDINGS * rounding(dtype));
        assert_near(&what, &found, &on_the_processor(&operands, sizes)?, limit);
        // Chunks round as often, elsewhere.
        assert_near(
            &what,
            &found,
            &chunked(&operands, device, sizes)?,
            2.0 * limit,
        );
    }
    Ok(())
}

#[test]
fn a_token_sees_none_after_it() -> Result<()> {
    let Some(device) = host_device(1 << 26) else {
        return Ok(());
    };
    for (n, dtype) in [(17, DType::F16), (65, DType::BF16), (200, DType::F16)] {
        let sizes = sizes([1, n, n, 2], true);
        let operands = operands(sizes, dtype, 1.0)?;
        let expected = on_the_processor(&operands, sizes)?;
        let limit = ROUNDINGS * rounding(dtype);
        let found = fused(&operands, device, sizes)?;
        assert_near(&format!("{n} {dtype}"), &found, &expected, limit);
    }
    Ok(())
}

#[test]
fn large_scores_neither_overflow_nor_lose_the_result() -> Result<()> {
    let Some(device) = host_device(1 << 26) else {
        return Ok(());
    };
    for dtype in TYPES {
        // Scores of hundreds: nearly all weight lies on one key.
        let sizes = sizes([1, 40, 70, 1], false);
        let operands = operands(sizes, dtype, 16.0)?;
        let found = fused(&operands, device, sizes)?;
        let expected = on_the_processor(&operands, sizes)?;
        let limit = ROUNDINGS * rounding(dtype);
        // The mean that the slopes are taken from comes of the rounded result. Where one key has all the
        // weight, the slope is the difference of two equal numbers, and this rounding is what is left.
        for (k, limit) in [(0, limit), (1, 16.0 * limit), (2, 16.0 * limit), (3, limit)] {
            let distance = relative_l2(&found[k], &expected[k]);
            assert!(
                distance <= limit,
                "{dtype}, array {k}: {distance:.1e} of {limit:.1e}"
            );
        }
        // In f16 the scores themselves are past its largest number.
        let [mut q, mut k, v, dout] = operands;
        (q, k) = (ops_scaled(&q, 40.0)?, ops_scaled(&k, 40.0)?);
        let found = fused(&[q, k, v, dout], device, sizes)?;
        assert!(
            found.iter().flatten().all(|value| value.is_finite()),
            "{dtype}"
        );
    }
    Ok(())
}

/// The values, that many times as large, in their type.
fn ops_scaled(x: &Tensor, factor: f32) -> Result<Tensor> {
    ops::scale(&x.to_dtype(DType::F32)?, factor)?.to_dtype(x.dtype())
}

#[test]
fn repeats_to_the_bit() -> Result<()> {
    let Some(device) = host_device(1 << 26) else {
        return Ok(());
    };
    let sizes = sizes([1, 70, 140, 2], false);
    let operands = operands(sizes, DType::BF16, 1.0)?;
    let bits =
        |four: Four| four.map(|values| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    let (once, again) = (
        fused(&operands, device, sizes)?,
        fused(&operands, device, sizes)?,
    );
    assert_eq!(bits(once), bits(again));
    Ok(())
}

#[test]
fn without_a_query_the_keys_have_no_gradient() -> Result<()> {
    let Some(device) = host_device(1 << 20) else {
        return Ok(());
    };
    let sizes = sizes([1, 0, 20, 1], false);
    let [y, dq, dk, dv] = fused(&operands(sizes, DType::F16, 1.0)?, device, sizes)?;
    assert!(y.is_empty() && dq.is_empty());
    assert_eq!((dk, dv), (vec![0.0; 20 * HEAD], vec![0.0; 20 * HEAD]));
    Ok(())
}

#[test]
fn serves_heads_of_64_channels_in_16_bits() {
    let own = sizes([2, 1, 16, 3], false);
    assert!(TYPES.iter().all(|dtype| serves(*dtype, own)));
    assert!(!serves(DType::F32, own));
    assert!(!serves(DType::F16, Sizes { d: 80, ..own }));
    assert!(!serves(DType::F16, Sizes { m: 15, ..own }));
    assert!(!serves(DType::F16, Sizes { n: 1 << 31, ..own }));
}

/// What is kept for the way back shows which of the two an operation took.
#[test]
fn the_operation_takes_it_where_it_serves() -> Result<()> {
    let Some(device) = host_device(1 << 26) else {
        return Ok(());
    };
    for (m, dtype, expected) in [
        (16, DType::F16, true),
        (16, DType::F32, false),
        (15, DType::F16, false),
    ] {
        let sizes = sizes([1, 3, m, 1], false);
        let [q, k, v, _] = placed(&operands(sizes, dtype, 1.0)?, device)?;
        let operands = [q.array()?, k.array()?, v.array()?];
        let (_, log_sums) = super::super::attention(operands, sizes)?;
        assert_eq!(log_sums.is_some(), expected, "{m} keys in {dtype}");
    }
    Ok(())
}
