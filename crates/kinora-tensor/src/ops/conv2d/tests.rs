use super::*;
use crate::DType;
use crate::testing::{assert_close, check_gradients, numbers};

/// The definition, in f64.
fn slow(x: &Tensor, w: &Tensor, b: Option<&Tensor>, conv: Conv2d) -> Vec<f32> {
    let (&[n, h, wide, i], &[o, kh, kw, _]) = (x.dims(), w.dims()) else {
        panic!("pictures and a kernel");
    };
    let oh = (h + conv.pad.top + conv.pad.bottom - kh) / conv.stride + 1;
    let ow = (wide + conv.pad.left + conv.pad.right - kw) / conv.stride + 1;
    let (x, w) = (x.to_vec(), w.to_vec());
    let mut out = Vec::new();
    for place in 0..n * oh * ow * o {
        let (p, a, c, f) = (
            place / o / ow / oh,
            place / o / ow % oh,
            place / o % ow,
            place % o,
        );
        let mut sum = b.map_or(0.0, |b| f64::from(b.to_vec()[f]));
        for (k, l) in (0..kh).flat_map(|k| (0..kw).map(move |l| (k, l))) {
            let row = (a * conv.stride + k).wrapping_sub(conv.pad.top);
            let column = (c * conv.stride + l).wrapping_sub(conv.pad.left);
            if row < h && column < wide {
                let pixel = &x[((p * h + row) * wide + column) * i..][..i];
                let tap = &w[((f * kh + k) * kw + l) * i..][..i];
                let products = pixel.iter().zip(tap);
                sum += products
                    .map(|(x, w)| f64::from(*x) * f64::from(*w))
                    .sum::<f64>();
            }
        }
        out.push(sum as f32);
    }
    out
}

/// Pictures and kernels nobody would choose: (n, h, w, i, o, kh, kw, how).
fn awkward() -> Vec<([usize; 7], Conv2d)> {
    let lopsided = Pad {
        top: 2,
        bottom: 0,
        left: 1,
        right: 3,
    };
    vec![
        ([1, 1, 1, 1, 1, 3, 3], Conv2d::same()),
        ([2, 5, 7, 3, 4, 3, 3], Conv2d::same()),
        ([1, 2, 3, 5, 2, 3, 3], Conv2d::same()),
        ([2, 7, 5, 3, 2, 3, 3], Conv2d::down()),
        ([1, 1, 1, 2, 3, 3, 3], Conv2d::down()),
        ([2, 7, 6, 3, 2, 3, 3], Conv2d::down_asymmetric()),
        ([1, 8, 9, 3, 5, 4, 4], Conv2d::patch(4)),
        ([2, 4, 5, 3, 2, 1, 1], Conv2d::patch(1)),
        ([1, 7, 7, 2, 3, 1, 1], Conv2d::patch(3)),
        (
            [1, 6, 5, 2, 3, 2, 5],
            Conv2d {
                stride: 3,
                pad: lopsided,
            },
        ),
        (
            [1, 6, 5, 2, 3, 4, 1],
            Conv2d {
                stride: 1,
                pad: lopsided,
            },
        ),
    ]
}

fn operands([n, h, w, i, o, kh, kw]: [usize; 7]) -> [Tensor; 3] {
    [
        numbers([n, h, w, i], 1),
        numbers([o, kh, kw, i], 2),
        numbers([o], 3),
    ]
}

#[test]
fn agrees_with_the_definition() -> Result<()> {
    for (extents, conv) in awkward() {
        let [x, w, b] = operands(extents);
        for b in [None, Some(&b)] {
            let y = conv2d(&x, &w, b, conv)?;
            assert_close(&y.to_vec(), &slow(&x, &w, b, conv), 1e-6);
        }
    }
    Ok(())
}

#[test]
fn agrees_across_several_blocks_of_places() -> Result<()> {
    let [x, w, b] = operands([2, 33, 41, 70, 3, 5, 5]);
    let conv = Conv2d {
        stride: 1,
        pad: Pad::all(2),
    };
    let y = conv2d(&x, &w, Some(&b), conv)?;
    assert_close(&y.to_vec(), &slow(&x, &w, Some(&b), conv), 1e-6);
    Ok(())
}

#[test]
fn derivative() {
    for (extents, conv) in awkward() {
        let [x, w, b] = operands(extents);
        check_gradients(&[x, w, b], |inputs| {
            conv2d(&inputs[0], &inputs[1], Some(&inputs[2]), conv)
        });
    }
}

#[test]
fn weights_in_sixteen_bits_are_widened() -> Result<()> {
    let [x, w, b] = operands([1, 5, 6, 3, 4, 3, 3]);
    for dtype in [DType::F16, DType::BF16] {
        let (w, b) = (w.cast(dtype), b.cast(dtype));
        let y = conv2d(&x, &w, Some(&b), Conv2d::same())?;
        assert_close(&y.to_vec(), &slow(&x, &w, Some(&b), Conv2d::same()), 1e-6);
    }
    Ok(())
}

#[test]
fn a_frozen_weight_gets_no_gradient() -> Result<()> {
    let [x, w, b] = operands([1, 5, 6, 3, 4, 3, 3]);
    let x = x.tracked();
    let gradients = conv2d(&x, &w, Some(&b), Conv2d::same())?.backward()?;
    assert!(gradients.get(&x).is_some());
    assert!(gradients.get(&w).is_none() && gradients.get(&b).is_none());
    Ok(())
}

#[test]
fn refuses_what_does_not_fit() {
    let [x, w, b] = operands([1, 5, 6, 3, 4, 3, 3]);
    let text = |x: &Tensor, w: &Tensor, b: &Tensor, conv| {
        conv2d(x, w, Some(b), conv).unwrap_err().to_string()
    };
    let same = Conv2d::same();
    assert_eq!(
        text(&numbers([1, 5, 6, 2], 1), &w, &b, same),
        "conv2d: expected x [n, h, w, 3], found [1, 5, 6, 2]"
    );
    assert_eq!(
        text(&x, &w, &numbers([3], 1), same),
        "conv2d: expected a bias [4], found [3]"
    );
    assert_eq!(
        text(&x, &numbers([4, 3], 1), &b, same),
        "conv2d: expected a weight [o, kh, kw, i], found [4, 3]"
    );
    assert!(
        text(&numbers([1, 2, 2, 3], 1), &w, &b, Conv2d::patch(2))
            .contains("finds no place on a picture of 2×2")
    );
    assert!(conv2d(&x.cast(DType::F16), &w, None, same).is_err());
}
