//! What tests of this crate and of the networks above it share: numbers, distances, finite
//! differences. A failed comparison panics, as an assertion does.

use crate::{Result, Shape, Tensor, ops};

/// Repeatable values in [−1, 1), nothing special about them.
pub fn numbers(shape: impl Into<Shape>, seed: u64) -> Tensor {
    let shape = shape.into();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    let values = (0..shape.elements()).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    });
    Tensor::from_vec(values.collect(), shape).expect("the values fill their own shape")
}

/// ‖found − expected‖₂ / ‖expected‖₂, in f64; the plain norm where `expected` is all zero.
pub fn relative_l2(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |squares: &mut dyn Iterator<Item = f64>| squares.sum::<f64>().sqrt();
    let distance = norm(
        &mut found
            .iter()
            .zip(expected)
            .map(|(f, e)| (f64::from(*f) - f64::from(*e)).powi(2)),
    );
    let size = norm(&mut expected.iter().map(|e| f64::from(*e).powi(2)));
    if size == 0.0 {
        distance
    } else {
        distance / size
    }
}

/// Asserts that the relative L2 distance is at most `tolerance`.
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: f64) {
    let distance = relative_l2(found, expected);
    assert!(
        distance <= tolerance,
        "relative L2 distance {distance:.3e} is over {tolerance:.1e}"
    );
}

/// Holds every derivative of `f` against central differences, along random directions in each input
/// and a random weighting of the output.
pub fn check_gradients(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let weighted = |inputs: &[Tensor]| -> f64 {
        let y = f(inputs).expect("forward");
        let weights = numbers(y.shape(), 99).to_vec();
        y.to_vec()
            .iter()
            .zip(weights)
            .map(|(y, w)| f64::from(*y) * f64::from(w))
            .sum()
    };
    let leaves: Vec<Tensor> = inputs.iter().map(Tensor::tracked).collect();
    let y = f(&leaves).expect("forward");
    let weights = numbers(y.shape(), 99);
    let loss = ops::sum(&ops::mul(&y, &weights).expect("weighting")).expect("sum");
    let gradients = loss.backward().expect("backward");
    const STEP: f32 = 1e-2;
    for (k, input) in inputs.iter().enumerate() {
        let gradient = gradients
            .get(&leaves[k])
            .unwrap_or_else(|| panic!("no gradient for input {k}"))
            .to_vec();
        for seed in 0..3 {
            let direction = numbers(input.shape(), 1000 + seed).to_vec();
            let moved = |step: f32| {
                let values = input
                    .to_vec()
                    .iter()
                    .zip(&direction)
                    .map(|(x, d)| x + step * d)
                    .collect();
                let mut inputs = inputs.to_vec();
                inputs[k] = Tensor::from_vec(values, input.shape()).expect("same shape");
                weighted(&inputs)
            };
            // Richardson's extrapolation removes the leading error of the central difference.
            let central = |step: f32| (moved(step) - moved(-step)) / (2.0 * f64::from(step));
            let expected = (4.0 * central(STEP) - central(2.0 * STEP)) / 3.0;
            let found: f64 = gradient
                .iter()
                .zip(&direction)
                .map(|(g, d)| f64::from(*g) * f64::from(*d))
                .sum();
            let size = gradient
                .iter()
                .map(|g| f64::from(*g).powi(2))
                .sum::<f64>()
                .sqrt()
                .max(1.0);
            assert!(
                (found - expected).abs() <= 2e-3 * size,
                "input {k}, direction {seed}: derivative {found:.6}, finite difference {expected:.6}"
            );
        }
    }
}
