//! The embedding of a number (noise label, frame, fps) in waves.

use crate::{Error, Result, Tensor};

/// For every value `v` the row cos(v·f₀) … cos(v·f₍ₕ₋₁₎), sin(v·f₀) … sin(v·f₍ₕ₋₁₎) with
/// h = `dim` / 2 and fₖ = 10000^(−k/h), as in Vaswani et al. 2017, §3.5, cosines first.
///
/// Constant: no gradient passes. Each step is rounded to f32 as PyTorch does it, since a large value
/// magnifies the rounding of the frequency.
///
/// # Shapes
/// The result is `[values.len(), dim]`.
///
/// # Errors
/// When `dim` is odd or 0.
pub fn sinusoid(values: &[f32], dim: usize) -> Result<Tensor> {
    if dim == 0 || !dim.is_multiple_of(2) {
        return Err(Error::argument(
            "sinusoid",
            format!("expected an even width, cosines and sines in equal number, found {dim}"),
        ));
    }
    let half = dim / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|k| {
            let exponent = -(10_000f64.ln() as f32) * k as f32 / half as f32;
            f64::from(exponent).exp() as f32
        })
        .collect();
    let mut out = Vec::with_capacity(values.len() * dim);
    for value in values {
        let angles = frequencies.iter().map(|f| f64::from(value * f));
        out.extend(angles.clone().map(|angle| angle.cos() as f32));
        out.extend(angles.map(|angle| angle.sin() as f32));
    }
    Tensor::from_vec(out, [values.len(), dim])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meets_its_closed_form() -> Result<()> {
        let y = sinusoid(&[0.0, 1.0, 127.0], 8)?;
        assert_eq!(y.dims(), [3, 8]);
        let y = y.to_vec();
        assert_eq!(y[..8], [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        for (row, value) in [(1, 1.0f64), (2, 127.0)] {
            // 10000^(−k/4) = 10⁻ᵏ.
            for (k, frequency) in [1.0, 0.1, 0.01, 0.001].into_iter().enumerate() {
                let angle = value * frequency;
                assert!((f64::from(y[row * 8 + k]) - angle.cos()).abs() < 1e-5);
                assert!((f64::from(y[row * 8 + 4 + k]) - angle.sin()).abs() < 1e-5);
            }
        }
        Ok(())
    }

    #[test]
    fn each_wave_lies_on_the_unit_circle() -> Result<()> {
        for row in sinusoid(&[-3.5, 0.25, 700.0], 320)?.to_vec().chunks(320) {
            for k in 0..160 {
                let length = row[k] * row[k] + row[160 + k] * row[160 + k];
                assert!((length - 1.0).abs() < 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn refuses_an_odd_width() {
        for dim in [0, 7] {
            assert!(sinusoid(&[1.0], dim).is_err());
        }
        let error = sinusoid(&[1.0], 7).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sinusoid: expected an even width, cosines and sines in equal number, found 7"
        );
    }
}
