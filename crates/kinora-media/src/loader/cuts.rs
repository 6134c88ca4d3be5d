//! Hard cuts, by a spike in how much a frame differs from the one before it. A stopgap for training:
//! real shot detection belongs to curation.

use crate::image::Rgb8Image;

/// A cut changes the mean byte by at least so many levels of 255.
const LEAST_LEVELS: f32 = 8.0;
/// And at least so many times as much as any frame near it: fast motion lasts, a cut does not.
const TIMES_NEIGHBOURS: f32 = 2.5;
/// How many frames to each side count as near.
const NEAR: usize = 4;

/// Mean absolute difference of two pictures of one size, in levels of 255.
pub(super) fn difference(a: &Rgb8Image, b: &Rgb8Image) -> f32 {
    let pairs = a.data().iter().zip(b.data());
    let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f32 / a.data().len() as f32
}

/// The first frames of new shots. `differences[i]` compares frame i with frame i - 1; the first is 0.
pub(super) fn find_cuts(differences: &[f32]) -> Vec<usize> {
    let is_cut = |&at: &usize| {
        let near = at.saturating_sub(NEAR).max(1)..(at + NEAR + 1).min(differences.len());
        let others = near
            .filter(|&other| other != at)
            .map(|other| differences[other]);
        let most = others.fold(0.0, f32::max);
        differences[at] >= LEAST_LEVELS && differences[at] >= TIMES_NEIGHBOURS * most
    };
    (1..differences.len()).filter(is_cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_is_a_cut_and_a_plateau_is_not() {
        let mut differences = vec![0.0, 2.0, 2.1, 1.9, 2.0, 40.0, 2.0, 2.2, 2.0, 2.0, 2.0];
        assert_eq!(find_cuts(&differences), [5]);
        differences.extend([18.0, 20.0, 22.0, 19.0, 21.0, 2.0, 2.0, 2.0]); // a fast pan
        assert_eq!(find_cuts(&differences), [5]);
        differences.extend([2.0, 2.0, 6.0, 0.1, 0.1]); // a still that starts to move
        assert_eq!(find_cuts(&differences), [5]);
        assert_eq!(find_cuts(&[0.0, 50.0]), [1]);
        assert!(find_cuts(&[0.0]).is_empty() && find_cuts(&[]).is_empty());
    }
}
