//! Convolutions whose result is added to another array. Where nothing is trained, the processor adds it place by place
//! as it is made, so that neither it nor the sum passes through memory once more.

use super::{Conv2d, add, blend, conv2d, linear::wide, on_card, time_conv};
use crate::cpu::onto::Onto;
use crate::{Error, Result, Tensor};

/// `onto` + [`conv2d`] of x.
///
/// # Shapes
/// Those of [`conv2d`]; `onto` has the shape of its result.
///
/// # Errors
/// As those of [`conv2d`], and when `onto` has another shape.
pub fn conv2d_onto(
    onto: &Tensor,
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    conv: Conv2d,
) -> Result<Tensor> {
    let operands: Vec<&Tensor> = [onto, x, w].into_iter().chain(b).collect();
    let g = super::Geometry::new(x, w, b, conv)?;
    if g.is_pointwise() || apart("conv2d_onto", &operands)? {
        return add(onto, &conv2d(x, w, b, conv)?);
    }
    let dims = [g.n, g.oh, g.ow, g.o];
    let onto = joined("conv2d_onto", onto, &dims, 1.0)?;
    let y = g.forward(x.as_f32()?, w, b.map(wide).as_deref(), Some(onto));
    Tensor::from_vec(y, dims)
}

/// The half of a blend that σ(mix) weighs; the other has the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighed {
    /// What came in, as in the UNet.
    Spatial,
    /// What came in plus what was made of it along time, as in the decoder.
    Temporal,
}

/// [`blend`] of x and x + [`time_conv`] of h, the end of a temporal block: x plus a share of the convolution.
///
/// # Shapes
/// Those of [`time_conv`] for `h`; `x` has the shape of its result, `mix` is `[1]` in any element type.
///
/// # Errors
/// As those of [`time_conv`] and [`blend`].
pub fn time_conv_blend(
    (x, h): (&Tensor, &Tensor),
    w: &Tensor,
    b: Option<&Tensor>,
    (mix, weighed): (&Tensor, Weighed),
) -> Result<Tensor> {
    let operands: Vec<&Tensor> = [x, h, w, mix].into_iter().chain(b).collect();
    if mix.dims() != [1] || apart("time_conv_blend", &operands)? {
        let temporal = add(x, &time_conv(h, w, b)?)?;
        return match weighed {
            Weighed::Spatial => blend(x, &temporal, mix),
            Weighed::Temporal => blend(&temporal, x, mix),
        };
    }
    let g = super::time_conv::Geometry::new(h, w, b)?;
    let share = match (super::blend::share(mix), weighed) {
        (share, Weighed::Temporal) => share,
        (share, Weighed::Spatial) => 1.0 - share,
    };
    let onto = joined("time_conv_blend", x, &g.result_dims(h), share)?;
    let y = g.forward_fastest(h.as_f32()?, w, b.map(wide).as_deref(), onto);
    Tensor::from_vec(y, x.shape())
}

/// Whether one operation after the other is to be taken: on a card, and where something is trained.
fn apart(op: &'static str, operands: &[&Tensor]) -> Result<bool> {
    Ok(on_card(op, operands)? || operands.iter().any(|x| x.is_tracked()))
}

fn joined<'a>(op: &'static str, x: &'a Tensor, dims: &[usize], share: f32) -> Result<Onto<'a>> {
    if x.dims() != dims {
        return Err(Error::shape(op, format!("{dims:?} to add to"), x.dims()));
    }
    let values = x.as_f32()?;
    Ok(Onto { values, share })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::testing::{check_gradients, numbers, relative_l2};

    #[test]
    fn a_convolution_onto_another_array_is_the_sum() -> Result<()> {
        // By Winograd's rule in blocks and in cache, by gathered rows, by a stride, by a linear layer.
        for (dims, o, kernel, conv) in [
            ([2, 12, 20, 160], 160, 3, Conv2d::same()),
            ([3, 33, 31, 32], 33, 3, Conv2d::same()),
            ([1, 3, 5, 7], 4, 3, Conv2d::same()),
            ([2, 7, 6, 5], 3, 3, Conv2d::down()),
            ([2, 4, 5, 6], 7, 1, Conv2d::patch(1)),
        ] {
            let (x, b) = (numbers(dims, 1), numbers([o], 3));
            let w = numbers([o, kernel, kernel, dims[3]], 2);
            for b in [None, Some(&b)] {
                let y = conv2d(&x, &w, b, conv)?;
                let onto = numbers(y.dims(), 4);
                let expected = add(&onto, &y)?.to_vec();
                let sum = conv2d_onto(&onto, &x, &w, b, conv)?;
                assert_eq!(sum.dims(), y.dims());
                let error = relative_l2(&sum.to_vec(), &expected);
                assert!(error < 1e-6, "{dims:?} to {o}: {error:e}");
            }
        }
        Ok(())
    }

    fn one_by_one(x: &Tensor, h: &Tensor, [w, b, mix]: [&Tensor; 3], weighed: Weighed) -> Tensor {
        let y = time_conv(h, w, Some(b)).expect("these agree");
        let temporal = add(x, &y).expect("these agree");
        match weighed {
            Weighed::Spatial => blend(x, &temporal, mix),
            Weighed::Temporal => blend(&temporal, x, mix),
        }
        .expect("these agree")
    }

    #[test]
    fn a_blended_convolution_is_one_operation_after_the_other() -> Result<()> {
        // F(7, 3), F(4, 3), and by taps.
        for (dims, o, taps) in [
            ([1, 14, 60, 64], 96, 3),
            ([2, 8, 50, 64], 64, 3),
            ([2, 5, 3, 7], 5, 3),
            ([1, 6, 4, 3], 2, 5),
        ] {
            let [n, t, s, i] = dims;
            let (x, h) = (numbers([n, t, s, o], 1), numbers(dims, 2));
            let (w, b) = (numbers([o, taps, i], 3), numbers([o], 4));
            for mix in [-1.5, 0.5, 3.0] {
                let mix = Tensor::full(mix, [1]).cast(DType::F16);
                for weighed in [Weighed::Spatial, Weighed::Temporal] {
                    let y = time_conv_blend((&x, &h), &w, Some(&b), (&mix, weighed))?;
                    let expected = one_by_one(&x, &h, [&w, &b, &mix], weighed);
                    let error = relative_l2(&y.to_vec(), &expected.to_vec());
                    assert!(error < 1e-6, "{dims:?} to {o}, {weighed:?}: {error:e}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_trained_is_recorded_one_by_one() {
        let inputs = [
            numbers([1, 2, 3, 2], 1),
            numbers([1, 2, 3, 3], 2),
            numbers([2, 3, 3], 3),
            numbers([2], 4),
            numbers([1], 5),
        ];
        check_gradients(&inputs, |v| {
            let mixed = (&v[4], Weighed::Spatial);
            time_conv_blend((&v[0], &v[1]), &v[2], Some(&v[3]), mixed)
        });
        let inputs = [
            numbers([1, 3, 3, 2], 1),
            numbers([1, 3, 3, 3], 2),
            numbers([2, 3, 3, 3], 3),
        ];
        check_gradients(&inputs, |v| {
            conv2d_onto(&v[0], &v[1], &v[2], None, Conv2d::same())
        });
    }

    #[test]
    fn refuses_another_shape() {
        let (x, w) = (numbers([1, 4, 4, 3], 1), numbers([2, 3, 3, 3], 2));
        let error = conv2d_onto(&x, &x, &w, None, Conv2d::same()).unwrap_err();
        let said = "conv2d_onto: expected [1, 4, 4, 2] to add to, found [1, 4, 4, 3]";
        assert_eq!(error.to_string(), said);
        let (w, mix) = (numbers([2, 3, 3], 2), numbers([1], 3));
        let blended = time_conv_blend((&x, &x), &w, None, (&mix, Weighed::Temporal));
        assert!(blended.is_err());
        let two = numbers([2], 3);
        assert!(time_conv_blend((&x, &x), &w, None, (&two, Weighed::Temporal)).is_err());
    }
}
