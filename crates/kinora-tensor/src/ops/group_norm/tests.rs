use super::*;
use crate::DType;
use crate::testing::{assert_close, check_gradients, numbers};

/// The definition, in f64 and two passes over each group.
fn slow(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    groups: usize,
    eps: f32,
    activation: Activation,
) -> Vec<f32> {
    let (n, c) = (x.dims()[0], x.shape().last());
    let rows = x.elements() / (n * c);
    let values: Vec<f64> = x.to_vec().into_iter().map(f64::from).collect();
    let (gamma, beta) = (gamma.to_vec(), beta.to_vec());
    let width = c / groups;
    let mut out = vec![0.0; x.elements()];
    for (picture, group) in (0..n).flat_map(|p| (0..groups).map(move |g| (p, g))) {
        let places: Vec<usize> = (0..rows * width)
            .map(|k| (picture * rows + k / width) * c + group * width + k % width)
            .collect();
        let count = places.len() as f64;
        let mean = places.iter().map(|p| values[*p]).sum::<f64>() / count;
        let variance = places
            .iter()
            .map(|p| (values[*p] - mean).powi(2))
            .sum::<f64>()
            / count;
        for p in places {
            let z = (values[p] - mean) / (variance + f64::from(eps)).sqrt()
                * f64::from(gamma[p % c])
                + f64::from(beta[p % c]);
            out[p] = match activation {
                Activation::None => z,
                Activation::Silu => z / (1.0 + (-z).exp()),
            } as f32;
        }
    }
    out
}

const AWKWARD: [(&[usize], usize); 7] = [
    (&[1, 1, 1, 2], 1),
    (&[2, 3, 5, 6], 3),
    (&[1, 2, 3, 7, 4], 4),
    (&[2, 5, 4], 2),
    (&[3, 12], 2),
    (&[1, 300, 70], 35),
    (&[2, 11, 1], 1),
];

fn operands(dims: &[usize]) -> [Tensor; 3] {
    let c = dims[dims.len() - 1];
    [numbers(dims, 1), numbers([c], 2), numbers([c], 3)]
}

#[test]
fn agrees_with_the_definition() -> Result<()> {
    for (dims, groups) in AWKWARD {
        for activation in [Activation::None, Activation::Silu] {
            let [x, gamma, beta] = operands(dims);
            let y = group_norm(&x, &gamma, &beta, groups, 1e-5, activation)?;
            let expected = slow(&x, &gamma, &beta, groups, 1e-5, activation);
            assert_close(&y.to_vec(), &expected, 1e-6);
        }
    }
    Ok(())
}

#[test]
fn a_large_mean_does_not_drown_the_variance() -> Result<()> {
    let [x, gamma, beta] = operands(&[1, 4000, 8]);
    let x = crate::ops::affine(&x, 1.0, 1000.0)?;
    let y = group_norm(&x, &gamma, &beta, 4, 1e-5, Activation::None)?;
    let expected = slow(&x, &gamma, &beta, 4, 1e-5, Activation::None);
    // One unit in the last place of the mean is 1e-4 of the deviation; the variance adds nothing.
    assert_close(&y.to_vec(), &expected, 1e-4);
    Ok(())
}

#[test]
fn derivative() {
    // Where a group holds two values its result hardly moves, and f32 differences see only noise.
    for (dims, groups) in &AWKWARD[1..6] {
        for activation in [Activation::None, Activation::Silu] {
            check_gradients(&operands(dims), |inputs| {
                group_norm(&inputs[0], &inputs[1], &inputs[2], *groups, 0.1, activation)
            });
        }
    }
}

#[test]
fn weights_in_sixteen_bits_are_widened() -> Result<()> {
    let [x, gamma, beta] = operands(&[2, 3, 4, 6]);
    for dtype in [DType::F16, DType::BF16] {
        let (gamma, beta) = (gamma.cast(dtype), beta.cast(dtype));
        let y = group_norm(&x, &gamma, &beta, 2, 1e-5, Activation::Silu)?;
        let expected = slow(&x, &gamma, &beta, 2, 1e-5, Activation::Silu);
        assert_close(&y.to_vec(), &expected, 1e-6);
    }
    Ok(())
}

#[test]
fn refuses_what_does_not_fit() {
    let [x, gamma, beta] = operands(&[2, 3, 4, 6]);
    let text = |gamma: &Tensor, groups| {
        group_norm(&x, gamma, &beta, groups, 1e-5, Activation::None)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        text(&gamma, 4),
        "group_norm: 4 groups do not divide 6 channels; take a divisor"
    );
    assert_eq!(
        text(&numbers([5], 1), 2),
        "group_norm: expected gamma and beta [6], found [5]"
    );
}
