//! Freed activations kept for the next array of about the same size: the same shapes come round at
//! every step, and fresh pages cost a fault each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Kept at least, however little is in use.
const FLOOR_BYTES: usize = 512 << 20;
/// Smaller arrays are the allocator's.
const MIN_ELEMENTS: usize = 16 << 10;
/// Arrays of so many, 64 MB, are few: a buffer of twice the size may as well be theirs.
const LARGE_ELEMENTS: usize = 16 << 20;

static SHELVES: Mutex<Shelves> = Mutex::new(Shelves::new());

/// What is in use, and what is kept.
///
/// Buffers are kept as long as they and the arrays in use are together no more than was once in use, and
/// [`FLOOR_BYTES`] of them in any case: a step of training frees all it recorded and takes as much again,
/// so it meets its own memory.
struct Shelves {
    /// Bytes of the arrays in use.
    live: usize,
    /// Bytes handed out that are no arrays yet.
    unfinished: usize,
    /// The most that both have been.
    high: usize,
    /// Bytes kept.
    kept: usize,
    /// How many buffers were ever kept: the next one's number.
    number: u64,
    /// The buffers of each capacity with their numbers, those kept longest first.
    by_capacity: BTreeMap<usize, VecDeque<(u64, Vec<f32>)>>,
    /// The capacity of each number, those kept longest first.
    by_number: BTreeMap<u64, usize>,
}

impl Shelves {
    const fn new() -> Self {
        Shelves {
            live: 0,
            unfinished: 0,
            high: 0,
            kept: 0,
            number: 0,
            by_capacity: BTreeMap::new(),
            by_number: BTreeMap::new(),
        }
    }

    fn used(&self) -> usize {
        self.live + self.unfinished
    }

    /// How many bytes may be kept now.
    fn limit(&self) -> usize {
        self.high.saturating_sub(self.used()).max(FLOOR_BYTES)
    }

    /// A kept buffer of `len` elements, or at most an eighth more, or twice as many where they are large: the one used
    /// last, which a cache may still hold.
    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        let spare = if len < LARGE_ELEMENTS { len / 8 } else { len };
        let fit = self.by_capacity.range(len..=len + spare).next();
        let capacity = fit.map(|(capacity, _)| *capacity)?;
        self.pop(capacity, VecDeque::pop_back)
    }

    fn pop(
        &mut self,
        capacity: usize,
        end: impl Fn(&mut VecDeque<(u64, Vec<f32>)>) -> Option<(u64, Vec<f32>)>,
    ) -> Option<Vec<f32>> {
        let shelf = self.by_capacity.get_mut(&capacity)?;
        let (number, values) = end(shelf)?;
        if shelf.is_empty() {
            self.by_capacity.remove(&capacity);
        }
        self.by_number.remove(&number);
        self.kept -= capacity * 4;
        Some(values)
    }

    /// Hands back what was kept longest until `more` bytes can be kept too.
    fn make_room(&mut self, more: usize) -> Vec<Vec<f32>> {
        let mut surplus = Vec::new();
        while self.kept + more > self.limit() {
            let oldest = self.by_number.first_key_value().map(|(_, c)| *c);
            let popped = oldest.and_then(|capacity| self.pop(capacity, VecDeque::pop_front));
            let Some(values) = popped else {
                break;
            };
            surplus.push(values);
        }
        surplus
    }

    /// Counts what is handed out, and gives back the kept buffers that are now too many.
    fn hand_out(&mut self, bytes: usize) -> Vec<Vec<f32>> {
        self.unfinished += bytes;
        self.high = self.high.max(self.used());
        self.make_room(0)
    }

    /// Counts an array, and hands back the kept buffers that are now too many.
    fn begin(&mut self, bytes: usize) -> Vec<Vec<f32>> {
        self.unfinished = self.unfinished.saturating_sub(bytes);
        self.live += bytes;
        self.high = self.high.max(self.used());
        self.make_room(0)
    }

    /// Keeps a buffer, and hands back what had to go for it, or itself where it is too large.
    fn keep(&mut self, values: Vec<f32>) -> Vec<Vec<f32>> {
        let (capacity, bytes) = (values.capacity(), values.capacity() * 4);
        if bytes > self.limit() {
            return vec![values];
        }
        let surplus = self.make_room(bytes);
        self.kept += bytes;
        self.by_number.insert(self.number, capacity);
        let shelf = self.by_capacity.entry(capacity).or_default();
        shelf.push_back((self.number, values));
        self.number += 1;
        surplus
    }
}

fn with<T>(work: impl FnOnce(&mut Shelves) -> T) -> T {
    work(&mut SHELVES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// `len` values of unspecified content, to be overwritten in full.
pub(crate) fn scratch(len: usize) -> Vec<f32> {
    if len < MIN_ELEMENTS {
        return vec![0.0; len];
    }
    let (taken, surplus) = with(|shelves| {
        let taken = shelves.take(len);
        let capacity = taken.as_ref().map_or(len, Vec::capacity);
        (taken, shelves.hand_out(capacity * 4))
    });
    drop(surplus);
    match taken {
        Some(mut values) => {
            values.resize(len, 0.0);
            values
        }
        None => vec![0.0; len],
    }
}

/// `len` zeros.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    let mut values = scratch(len);
    if len >= MIN_ELEMENTS {
        values.fill(0.0);
    }
    values
}

/// Counts an array of this many elements as in use, until [`put_back`] has it.
pub(crate) fn count(capacity: usize) {
    if capacity >= MIN_ELEMENTS {
        drop(with(|shelves| shelves.begin(capacity * 4)));
    }
}

/// Gives the buffer of an array that was counted back for reuse.
pub(crate) fn put_back(values: Vec<f32>) {
    if values.capacity() < MIN_ELEMENTS {
        return;
    }
    let bytes = values.capacity() * 4;
    drop(with(|shelves| {
        shelves.live = shelves.live.saturating_sub(bytes);
        shelves.keep(values)
    }));
}

/// Gives a buffer back for reuse that was never an array's.
pub(crate) fn recycle(values: Vec<f32>) {
    if values.capacity() >= MIN_ELEMENTS {
        let bytes = values.capacity() * 4;
        drop(with(|shelves| {
            shelves.unfinished = shelves.unfinished.saturating_sub(bytes);
            shelves.keep(values)
        }));
    }
}

/// Frees every buffer kept for reuse, and forgets how much was once in use.
pub(crate) fn release() {
    let freed = with(|shelves| {
        shelves.kept = 0;
        shelves.high = shelves.used();
        shelves.by_number.clear();
        std::mem::take(&mut shelves.by_capacity)
    });
    drop(freed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(megabytes: usize) -> Vec<f32> {
        Vec::with_capacity(megabytes << 18)
    }

    #[test]
    fn kept_and_live_are_never_more_than_was_once_live() {
        let mut shelves = Shelves::new();
        for _ in 0..1000 {
            assert!(shelves.begin(1 << 20).is_empty());
        }
        for _ in 0..1000 {
            shelves.live -= 1 << 20;
            assert!(shelves.keep(buffer(1)).is_empty(), "all of it comes again");
        }
        assert_eq!((shelves.live, shelves.kept), (0, 1000 << 20));
        assert_eq!(shelves.keep(buffer(1)).len(), 1, "and no more than that");
        // What is of another size pushes out what is kept.
        assert!(shelves.take(5 << 18).is_none());
        let freed = shelves.begin(5 << 20);
        assert_eq!((freed.len(), shelves.kept), (5, 995 << 20));
        assert_eq!(shelves.keep(buffer(2000)).len(), 1, "too large to keep");
        assert_eq!(shelves.kept, 995 << 20);
    }

    #[test]
    fn what_was_kept_longest_goes_first() {
        let mut shelves = Shelves::new();
        let sizes = [200, 100, 201];
        for size in sizes {
            assert!(shelves.keep(buffer(size)).is_empty());
        }
        let gone = shelves.keep(buffer(150));
        let gone: Vec<usize> = gone.iter().map(|v| v.capacity() >> 18).collect();
        assert_eq!(gone, [200]);
        let numbers: Vec<usize> = shelves.by_number.values().map(|c| c >> 18).collect();
        assert_eq!(numbers, [100, 201, 150]);
        assert_eq!(shelves.kept, 451 << 20);
    }

    #[test]
    fn what_is_handed_out_counts_before_it_is_an_array() {
        let mut shelves = Shelves::new();
        assert!(shelves.hand_out(600 << 20).is_empty());
        assert_eq!((shelves.unfinished, shelves.high), (600 << 20, 600 << 20));
        assert!(shelves.begin(600 << 20).is_empty());
        assert_eq!((shelves.unfinished, shelves.live), (0, 600 << 20));
        assert_eq!(shelves.high, 600 << 20, "once, not twice");
        shelves.live -= 600 << 20;
        assert!(shelves.keep(buffer(600)).is_empty());
        assert_eq!(
            shelves.hand_out(100 << 20).len(),
            1,
            "no more than once in use"
        );
    }

    #[test]
    fn a_large_buffer_serves_an_array_of_half_its_size() {
        let mut shelves = Shelves::new();
        assert!(shelves.keep(buffer(200)).is_empty());
        assert!(shelves.take((100 << 18) - 1).is_none());
        let taken = shelves.take(100 << 18);
        assert_eq!(taken.map(|v| v.capacity()), Some(200 << 18));
    }

    #[test]
    fn a_small_buffer_serves_an_array_an_eighth_smaller_at_most() {
        let mut shelves = Shelves::new();
        assert!(shelves.keep(buffer(8)).is_empty());
        assert!(shelves.take((7 << 18) - 1).is_none());
        assert!(shelves.take((8 << 18) + 1).is_none());
        assert_eq!(shelves.take(8 << 18).map(|v| v.capacity()), Some(8 << 18));
        assert_eq!((shelves.kept, shelves.by_number.len()), (0, 0));
    }
}
