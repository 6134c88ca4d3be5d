//! Group normalisation of an array that is never whole in memory: first the sums over its parts,
//! then the parts themselves.

use super::group_norm::{Activation, Tables, check};
use super::on_card;
use crate::cpu::norm::{Stack, add_moments};
use crate::{Error, Result, Tensor, cuda};

/// Sums and sums of squares of each channel over the parts of one picture or clip, in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    rows: usize,
    /// The sums of all channels, then their sums of squares.
    totals: Vec<f64>,
}

impl Moments {
    /// Of nothing yet.
    pub fn new(channels: usize) -> Self {
        Moments {
            rows: 0,
            totals: vec![0.0; 2 * channels],
        }
    }

    /// Those of each picture or clip, or part of one.
    ///
    /// # Shapes
    /// `x` `[n, .., c]`; there are n results.
    ///
    /// # Errors
    /// When `x` has fewer than two axes or is not f32.
    pub fn of_each(x: &Tensor) -> Result<Vec<Moments>> {
        let &[pictures, ref middle @ .., channels] = x.dims() else {
            return Err(Error::shape("moments", "[n, .., c]", x.dims()));
        };
        let rows = middle.iter().product();
        let stack = Stack {
            pictures,
            rows,
            channels,
        };
        let totals = if on_card("moments", &[x])? {
            cuda::channel_totals(x.array()?, stack)?
        } else {
            totals_of(x.as_f32()?, stack)
        };
        let of = |totals: &[f64]| Moments {
            rows,
            totals: totals.to_vec(),
        };
        Ok(totals.chunks_exact((2 * channels).max(1)).map(of).collect())
    }

    /// Takes another part of the same whole into account.
    ///
    /// # Errors
    /// When it has other channels.
    pub fn add(&mut self, part: &Moments) -> Result<()> {
        if part.totals.len() != self.totals.len() {
            let expected = format!("moments of {} channels", self.totals.len() / 2);
            return Err(Error::shape("moments", expected, &[part.totals.len() / 2]));
        }
        self.rows += part.rows;
        self.totals
            .iter_mut()
            .zip(&part.totals)
            .for_each(|(sum, more)| *sum += more);
        Ok(())
    }
}

/// Sums and sums of squares of each channel of each picture, `[n, 2, c]`.
fn totals_of(values: &[f32], stack: Stack) -> Vec<f64> {
    let c = stack.channels;
    stack.totals::<2>(|_, rows, totals| {
        add_moments(&values[rows.start * c..rows.end * c], c, totals);
    })
}

/// [`group_norm`](super::group_norm()) of parts of pictures or clips, with the mean and the variance
/// that `moments` took from the whole. It equals the norm of the whole up to the rounding of the
/// sums. Nothing is recorded: whoever trains has the whole array.
///
/// # Shapes
/// `x` `[n, .., c]`, `moments` one for each of the n, `gamma` and `beta` `[c]`; the result is like
/// `x`.
///
/// # Errors
/// When the numbers of pictures or channels do not agree, or the groups do not divide the channels.
pub fn group_norm_with(
    x: &Tensor,
    moments: &[Moments],
    gamma: &Tensor,
    beta: &Tensor,
    groups: usize,
    eps: f32,
    activation: Activation,
) -> Result<Tensor> {
    let stack = check(x, gamma, beta, groups)?;
    let is_on_card = on_card("group_norm_with", &[x, gamma, beta])?;
    let fits = |m: &Moments| m.totals.len() == 2 * stack.channels && m.rows == moments[0].rows;
    if moments.len() != stack.pictures || !moments.iter().all(fits) {
        return Err(Error::shape(
            "group_norm_with",
            format!("moments of {} wholes of one size", moments.len()),
            x.dims(),
        ));
    }
    let rows = moments.first().map_or(0, |m| m.rows);
    let totals: Vec<f64> = moments.iter().flat_map(|m| m.totals.clone()).collect();
    if is_on_card {
        let silu = activation == Activation::Silu;
        let wide = (rows, totals.as_slice());
        let norm =
            cuda::GroupNorm::of_totals(x.array()?, stack, wide, [gamma, beta], groups, eps, silu)?;
        return Tensor::from_values(norm.forward(x.array()?)?, x.shape());
    }
    let tables = Tables::from_totals(&totals, rows, stack, gamma, beta, groups, eps);
    Tensor::from_vec(tables.activated(x.as_f32()?, activation), x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{concat, group_norm, narrow};
    use crate::testing::{assert_close, numbers};

    #[test]
    fn parts_come_out_as_they_do_in_the_whole() -> Result<()> {
        let (gamma, beta) = (numbers([6], 2), numbers([6], 3));
        for activation in [Activation::None, Activation::Silu] {
            let x = numbers([2, 7, 5, 6], 1);
            let whole = group_norm(&x, &gamma, &beta, 3, 1e-5, activation)?;
            let parts = [narrow(&x, 1, 0, 3)?, narrow(&x, 1, 3, 4)?];
            let mut moments = vec![Moments::new(6); 2];
            for part in &parts {
                for (moments, part) in moments.iter_mut().zip(Moments::of_each(part)?) {
                    moments.add(&part)?;
                }
            }
            let norm =
                |x: &Tensor| group_norm_with(x, &moments, &gamma, &beta, 3, 1e-5, activation);
            let joined = concat(&[&norm(&parts[0])?, &norm(&parts[1])?], 1)?;
            assert_close(&joined.to_vec(), &whole.to_vec(), 1e-7);
        }
        Ok(())
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let mut moments = Moments::new(6);
        assert_eq!(
            moments.add(&Moments::new(5)).unwrap_err().to_string(),
            "moments: expected moments of 6 channels, found [5]"
        );
        let (x, gamma) = (numbers([2, 3, 6], 1), numbers([6], 2));
        let error = group_norm_with(&x, &[moments], &gamma, &gamma, 3, 1e-5, Activation::None);
        assert_eq!(
            error.unwrap_err().to_string(),
            "group_norm_with: expected moments of 1 wholes of one size, found [2, 3, 6]"
        );
    }
}
