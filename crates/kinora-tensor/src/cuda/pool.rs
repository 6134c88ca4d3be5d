//! Freed stretches of a card's memory, kept for the next array of that size: asking the driver costs
//! more than most kernels, and the same shapes come round at every step.
//!
//! All of it belongs to the stream of work: whoever gets a stretch next writes after who read it last.
//! The stream of copies never writes here, but into a [`Window`](super::window::Window).
//!
//! A captured graph writes to the addresses it was captured with whenever it is replayed. So what an
//! array of a capture leaves goes to the captures alone, which are replayed one after the other and may
//! share it; and what was made before and is read by a graph is held back until the graph is gone.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Addresses by the size of their stretches.
#[derive(Debug, Default)]
struct Shelves {
    by_bytes: BTreeMap<usize, Vec<u64>>,
}

impl Shelves {
    fn take(&mut self, size: usize) -> Option<u64> {
        let shelf = self.by_bytes.get_mut(&size)?;
        let address = shelf.pop();
        if shelf.is_empty() {
            self.by_bytes.remove(&size);
        }
        address
    }

    fn put(&mut self, address: u64, size: usize) {
        self.by_bytes.entry(size).or_default().push(address);
    }

    fn empty(&mut self) -> Vec<(u64, usize)> {
        let shelves = std::mem::take(&mut self.by_bytes).into_iter();
        let each = shelves.flat_map(|(size, shelf)| shelf.into_iter().map(move |a| (a, size)));
        each.collect()
    }
}

/// What is freed and kept.
#[derive(Debug, Default)]
pub(super) struct Pool {
    free: Shelves,
    /// Free, but for captures only.
    of_captures: Shelves,
    /// Every address a capture may write to, free or not.
    captured: HashSet<u64>,
    /// What graphs read and others made: by how many, and its size where it was freed since.
    held: HashMap<u64, (usize, Option<usize>)>,
    capturing: bool,
    graphs: usize,
}

/// The size a stretch for `bytes` bytes really has: few sizes, so that many fit again.
pub(crate) fn rounded(bytes: usize) -> usize {
    const SMALL: usize = 1 << 20;
    // Small ones in steps of 512 bytes, large ones in steps of an eighth of their size at most.
    let step = match bytes {
        0..=SMALL => 512,
        more => (more.next_power_of_two() / 16).max(512),
    };
    bytes.next_multiple_of(step)
}

impl Pool {
    /// A kept stretch of that size.
    pub(super) fn take(&mut self, size: usize) -> Option<u64> {
        if !self.capturing {
            return self.free.take(size);
        }
        self.of_captures.take(size).or_else(|| {
            let address = self.free.take(size)?;
            self.captured.insert(address);
            Some(address)
        })
    }

    /// Hears of a stretch that came from the driver.
    pub(super) fn met(&mut self, address: u64) {
        if self.capturing {
            self.captured.insert(address);
        }
    }

    pub(super) fn put(&mut self, address: u64, size: usize) {
        if self.captured.contains(&address) {
            self.of_captures.put(address, size);
        } else if let Some((_, freed)) = self.held.get_mut(&address) {
            *freed = Some(size);
        } else {
            self.free.put(address, size);
        }
    }

    /// How many bytes are free for all.
    pub(super) fn kept_bytes(&self) -> usize {
        let shelves = self.free.by_bytes.iter();
        shelves.map(|(size, shelf)| size * shelf.len()).sum()
    }

    /// Everything that is free for all, to be given back to the driver.
    pub(super) fn empty(&mut self) -> Vec<(u64, usize)> {
        self.free.empty()
    }

    pub(super) fn begin_capture(&mut self) {
        self.capturing = true;
    }

    /// A graph that is being captured reads this.
    pub(super) fn hold(&mut self, address: u64) {
        self.held.entry(address).or_default().0 += 1;
    }

    pub(super) fn end_capture(&mut self) {
        self.capturing = false;
        self.graphs += 1;
    }

    /// A graph, captured whole or in part, is gone; `held` is what it held.
    pub(super) fn forget_graph(&mut self, held: &[u64]) {
        for address in held {
            let Some((times, freed)) = self.held.get_mut(address) else {
                continue;
            };
            *times -= 1;
            if *times == 0 {
                let freed = *freed;
                self.held.remove(address);
                if let Some(size) = freed {
                    self.put(*address, size);
                }
            }
        }
        self.graphs -= 1;
        if self.graphs == 0 {
            self.captured.clear();
            for (address, size) in self.of_captures.empty() {
                self.free.put(address, size);
            }
        }
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
        assert_eq!(pool.empty(), [(8192, 1024)]);
        assert!(pool.empty().is_empty());
    }

    #[test]
    fn what_a_capture_used_is_for_captures_until_the_last_graph_is_gone() {
        let mut pool = Pool::default();
        pool.put(4096, 512);
        pool.begin_capture();
        assert_eq!(pool.take(512), Some(4096));
        pool.met(8192);
        pool.put(8192, 512);
        pool.end_capture();
        pool.put(4096, 512); // its result, dropped later
        assert_eq!(pool.take(512), None);
        pool.begin_capture();
        assert_eq!(pool.take(512), Some(4096));
        pool.put(4096, 512);
        pool.end_capture();
        pool.forget_graph(&[]);
        assert_eq!(pool.take(512), None);
        pool.forget_graph(&[]);
        let mut both = [pool.take(512), pool.take(512)];
        both.sort();
        assert_eq!(both, [Some(4096), Some(8192)]);
    }

    #[test]
    fn what_a_graph_reads_is_held_back_until_the_graph_is_gone() {
        let mut pool = Pool::default();
        pool.begin_capture();
        pool.hold(4096);
        pool.put(4096, 512); // dropped while it is captured
        assert_eq!(pool.take(512), None);
        pool.end_capture();
        pool.begin_capture();
        pool.hold(4096);
        pool.hold(8192);
        pool.end_capture();
        pool.forget_graph(&[4096]);
        assert_eq!(pool.take(512), None);
        pool.forget_graph(&[4096, 8192]);
        assert_eq!(pool.take(512), Some(4096));
        pool.put(8192, 512);
        assert_eq!(pool.take(512), Some(8192));
    }
}
