//! Which frames of a clip an endpoint is shown.

/// The middles of `count` equal parts of a clip of `frames` frames, in order: of one part, its middle
/// frame. Fewer where the clip has fewer.
pub fn frame_numbers(frames: u64, count: usize) -> Vec<u64> {
    let parts = (count as u64).min(frames);
    // Whole numbers, so that no rounding of a long clip decides: (i + 1/2) · frames / parts.
    (0..parts)
        .map(|i| ((2 * u128::from(i) + 1) * u128::from(frames) / (2 * u128::from(parts))) as u64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_of_equal_parts() {
        assert_eq!(frame_numbers(25, 1), [12]);
        assert_eq!(frame_numbers(24, 1), [12]);
        assert_eq!(frame_numbers(80, 4), [10, 30, 50, 70]);
        assert_eq!(frame_numbers(3, 8), [0, 1, 2]);
        assert_eq!(frame_numbers(1, 1), [0]);
        assert!(frame_numbers(0, 4).is_empty() && frame_numbers(9, 0).is_empty());
        let long = frame_numbers(u64::MAX, 3);
        assert!(long[0] < long[1] && long[1] < long[2]);
    }
}
