//! Freed stretches of a card's memory, kept for the next array of that size: asking the driver costs
//! more than most kernels, and the same shapes come round at every step.

use std::collections::BTreeMap;

/// Addresses by the size of their stretches.
#[derive(Debug, Default)]
pub(super) struct Pool {
    by_bytes: BTreeMap<usize, Vec<u64>>,
}

/// The size a stretch for `bytes` bytes really has: few sizes, so that many fit again.
pub(super) fn rounded(bytes: usize) -> usize {
    const SMALL: usize = 1 << 20;
    // Small ones in steps of 512 bytes, large ones in steps of an eighth of their size at most.
    let step = match bytes {
        0..=SMALL => 512,
        more => (more.next_power_of_two() / 16).max(512),
    };
    bytes.next_multiple_of(step)
}

impl Pool {
    /// A kept stretch of that rounded size.
    pub(super) fn take(&mut self, rounded: usize) -> Option<u64> {
        let shelf = self.by_bytes.get_mut(&rounded)?;
        let address = shelf.pop();
        if shelf.is_empty() {
            self.by_bytes.remove(&rounded);
        }
        address
    }

    pub(super) fn put(&mut self, address: u64, rounded: usize) {
        self.by_bytes.entry(rounded).or_default().push(address);
    }

    /// How many bytes are kept.
    pub(super) fn kept_bytes(&self) -> usize {
        let shelves = self.by_bytes.iter();
        shelves.map(|(bytes, shelf)| bytes * shelf.len()).sum()
    }

    /// Everything kept, to be given back to the driver.
    pub(super) fn empty(&mut self) -> Vec<u64> {
        let shelves = std::mem::take(&mut self.by_bytes);
        shelves.into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_waste_an_eighth_at_most_and_fit_themselves() {
        for bytes in [1, 511, 512, 513, 1 << 20, (1 << 20) + 1, 7_500_000_001] {
            let size = rounded(bytes);
            assert!(size >= bytes && size - bytes <= (bytes / 8).max(512));
            assert_eq!(rounded(size), size);
        }
    }

    #[test]
    fn a_stretch_is_handed_out_once() {
        let mut pool = Pool::default();
        pool.put(4096, 512);
        pool.put(8192, 1024);
        assert_eq!(pool.kept_bytes(), 1536);
        assert_eq!(pool.take(2048), None);
        assert_eq!(pool.take(512), Some(4096));
        assert_eq!(pool.take(512), None);
        assert_eq!(pool.empty(), [8192]);
        assert!(pool.empty().is_empty());
    }
}
