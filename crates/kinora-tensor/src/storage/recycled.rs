//! Freed activations kept for the next array of about the same size: the same shapes come round at
//! every step, and fresh pages cost a fault each.

use rayon::iter::{ParallelExtend, repeat_n};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Kept at least, however little is in use.
const FLOOR_BYTES: usize = 512 << 20;
/// Smaller arrays are the allocator's.
const MIN_ELEMENTS: usize = 16 << 10;
/// Arrays of so many, 64 MB, are few: a buffer of twice the size may as well be theirs, and one of half the size grows,
/// which keeps the pages it has.
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

    /// A kept buffer of `len` elements, or at most an eighth more, or of half to twice as many where they are large: of
    /// one size the one used last, which a cache may still hold.
    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        let large = len >= LARGE_ELEMENTS;
        let spare = if large { len } else { len / 8 };
        let mut fit = self.by_capacity.range(len..=len + spare).next();
        if large {
            fit = fit.or_else(|| self.by_capacity.range(len / 2..len).next_back());
        }
        let capacity = fit.map(|(capacity, _)| *capacity)?;
        self.pop(capacity, VecDeque::pop_back).map(|(_, v)| v)
    }

    fn pop(
        &mut self,
        capacity: usize,
        end: impl Fn(&mut VecDeque<(u64, Vec<f32>)>) -> Option<(u64, Vec<f32>)>,
    ) -> Option<(u64, Vec<f32>)> {
        let shelf = self.by_capacity.get_mut(&capacity)?;
        let (number, values) = end(shelf)?;
        if shelf.is_empty() {
            self.by_capacity.remove(&capacity);
        }
        self.by_number.remove(&number);
        self.kept -= capacity * 4;
        Some((number, values))
    }

    /// Hands back what was kept longest until `more` bytes can be kept too; of a large buffer, only what is too much.
    fn make_room(&mut self, more: usize) -> Surplus {
        let mut surplus = Surplus::default();
        while self.kept + more > self.limit() {
            let excess = (self.kept + more - self.limit()).div_ceil(4);
            let oldest = self.by_number.first_key_value().map(|(_, c)| *c);
            let popped = oldest.and_then(|capacity| self.pop(capacity, VecDeque::pop_front));
            let Some((number, values)) = popped else {
                break;
            };
            if values.capacity() >= LARGE_ELEMENTS + excess {
                surplus.too_long = Some((number, excess, values));
                break;
            }
            surplus.whole.push(values);
        }
        surplus
    }

    fn shelve(&mut self, number: u64, values: Vec<f32>) {
        let capacity = values.capacity();
        self.kept += capacity * 4;
        self.by_number.insert(number, capacity);
        let shelf = self.by_capacity.entry(capacity).or_default();
        let at = shelf.partition_point(|(other, _)| *other < number);
        shelf.insert(at, (number, values));
    }

    /// Counts what is handed out, and gives back the kept buffers that are now too many.
    fn hand_out(&mut self, bytes: usize) -> Surplus {
        self.unfinished += bytes;
        self.high = self.high.max(self.used());
        self.make_room(0)
    }

    /// Counts an array, and hands back the kept buffers that are now too many.
    fn begin(&mut self, bytes: usize) -> Surplus {
        self.unfinished = self.unfinished.saturating_sub(bytes);
        self.live += bytes;
        self.high = self.high.max(self.used());
        self.make_room(0)
    }

    /// Keeps a buffer, and hands back what had to go for it, or itself where it is too large.
    fn keep(&mut self, values: Vec<f32>) -> Surplus {
        let bytes = values.capacity() * 4;
        if bytes > self.limit() {
            return Surplus {
                whole: vec![values],
                too_long: None,
            };
        }
        let surplus = self.make_room(bytes);
        self.shelve(self.number, values);
        self.number += 1;
        surplus
    }
}

/// What the shelves have no room for; the system takes it back outside their lock.
#[derive(Default)]
#[must_use]
struct Surplus {
    whole: Vec<Vec<f32>>,
    /// A buffer with its number, whose last elements, so many, are too much.
    too_long: Option<(u64, usize, Vec<f32>)>,
}

impl Surplus {
    fn settle(self) {
        drop(self.whole);
        let Some((number, excess, mut values)) = self.too_long else {
            return;
        };
        let capacity = values.capacity() - excess;
        values.truncate(capacity);
        values.shrink_to(capacity);
        let bytes = values.capacity() * 4;
        let left = with(|shelves| {
            if shelves.kept + bytes > shelves.limit() {
                return Some(values);
            }
            shelves.shelve(number, values);
            None
        });
        drop(left);
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
        let capacity = taken.as_ref().map_or(len, |v| v.capacity().max(len));
        (taken, shelves.hand_out(capacity * 4))
    });
    surplus.settle();
    match taken {
        Some(values) => with_len(values, len),
        None => vec![0.0; len],
    }
}

fn with_len(mut values: Vec<f32>, len: usize) -> Vec<f32> {
    if values.capacity() < len {
        let more = len - values.len();
        values.reserve_exact(more);
        values.par_extend(repeat_n(0.0, more)); // New pages, which all cores meet.
    } else {
        values.resize(len, 0.0);
    }
    values
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
        with(|shelves| shelves.begin(capacity * 4)).settle();
    }
}

/// Gives the buffer of an array that was counted back for reuse.
pub(crate) fn put_back(values: Vec<f32>) {
    if values.capacity() < MIN_ELEMENTS {
        return;
    }
    let bytes = values.capacity() * 4;
    let surplus = with(|shelves| {
        shelves.live = shelves.live.saturating_sub(bytes);
        shelves.keep(values)
    });
    surplus.settle();
}

/// Gives a buffer back for reuse that was never an array's.
pub(crate) fn recycle(values: Vec<f32>) {
    if values.capacity() >= MIN_ELEMENTS {
        let bytes = values.capacity() * 4;
        let surplus = with(|shelves| {
            shelves.unfinished = shelves.unfinished.saturating_sub(bytes);
            shelves.keep(values)
        });
        surplus.settle();
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

    /// Megabytes of the buffers that go whole, and of what is too much of another.
    fn megabytes(surplus: &Surplus) -> (Vec<usize>, Option<usize>) {
        let whole = surplus.whole.iter().map(|v| v.capacity() >> 18);
        let too_much = surplus.too_long.as_ref().map(|(_, excess, _)| excess >> 18);
        (whole.collect(), too_much)
    }

    #[test]
    fn kept_and_live_are_never_more_than_was_once_live() {
        let mut shelves = Shelves::new();
        for _ in 0..1000 {
            assert_eq!(megabytes(&shelves.begin(1 << 20)), (vec![], None));
        }
        for _ in 0..1000 {
            shelves.live -= 1 << 20;
            let gone = shelves.keep(buffer(1));
            assert_eq!(megabytes(&gone), (vec![], None), "all of it comes again");
        }
        assert_eq!((shelves.live, shelves.kept), (0, 1000 << 20));
        let gone = shelves.keep(buffer(1));
        assert_eq!(megabytes(&gone), (vec![1], None), "and no more than that");
        // What is of another size pushes out what is kept.
        assert!(shelves.take(5 << 18).is_none());
        let gone = shelves.begin(5 << 20);
        assert_eq!(megabytes(&gone), (vec![1; 5], None));
        assert_eq!(shelves.kept, 995 << 20);
        let gone = shelves.keep(buffer(2000));
        assert_eq!(megabytes(&gone), (vec![2000], None), "too large to keep");
        assert_eq!(shelves.kept, 995 << 20);
    }

    #[test]
    fn what_was_kept_longest_goes_first() {
        let mut shelves = Shelves::new();
        for size in [40, 300, 41, 130] {
            let gone = shelves.keep(buffer(size));
            assert_eq!(megabytes(&gone), (vec![], None));
        }
        // One is too short to be cut, of the next what is too much goes.
        let gone = shelves.keep(buffer(50));
        assert_eq!(megabytes(&gone), (vec![40], Some(9)));
        assert_eq!(shelves.kept, (41 + 130 + 50) << 20);
        let (number, _, mut values) = gone.too_long.expect("one is too long");
        values.shrink_to((300 - 9) << 18);
        shelves.shelve(number, values);
        let capacities = shelves.by_number.values().map(|c| c >> 18);
        assert_eq!(capacities.collect::<Vec<_>>(), [291, 41, 130, 50]);
        assert_eq!(shelves.kept, 512 << 20);
    }

    #[test]
    fn what_is_handed_out_counts_before_it_is_an_array() {
        let mut shelves = Shelves::new();
        let gone = shelves.hand_out(600 << 20);
        assert_eq!(megabytes(&gone), (vec![], None));
        assert_eq!((shelves.unfinished, shelves.high), (600 << 20, 600 << 20));
        let gone = shelves.begin(600 << 20);
        assert_eq!(megabytes(&gone), (vec![], None));
        assert_eq!((shelves.unfinished, shelves.live), (0, 600 << 20));
        assert_eq!(shelves.high, 600 << 20, "once, not twice");
        shelves.live -= 600 << 20;
        let gone = shelves.keep(buffer(600));
        assert_eq!(megabytes(&gone), (vec![], None));
        let gone = shelves.hand_out(100 << 20);
        let expected = (vec![], Some(88)); // 512 may be kept in any case.
        assert_eq!(megabytes(&gone), expected, "no more than once in use");
    }

    #[test]
    fn a_large_buffer_serves_an_array_of_half_or_twice_its_size() {
        for (megabytes, served) in [
            (99, false),
            (100, true),
            (201, true),
            (400, true),
            (402, false),
        ] {
            let mut shelves = Shelves::new();
            shelves.keep(buffer(200)).settle();
            let taken = shelves.take(megabytes << 18).map(|v| v.capacity());
            assert_eq!(taken, served.then_some(200 << 18), "{megabytes}");
        }
    }

    #[test]
    fn a_buffer_that_grows_has_zeros_behind_what_it_had() {
        let mut before = Vec::with_capacity(2000);
        before.resize(1500, 1.0);
        for len in [1000, 1500, 2000, 70_001] {
            let values = with_len(before.clone(), len);
            let ones = len.min(1500);
            assert_eq!(values.len(), len);
            assert!(values[..ones].iter().all(|v| *v == 1.0), "{len}");
            assert!(values[ones..].iter().all(|v| *v == 0.0), "{len}");
        }
        assert_eq!(with_len(before, 70_001).capacity(), 70_001);
    }

    #[test]
    fn a_small_buffer_serves_an_array_an_eighth_smaller_at_most() {
        let mut shelves = Shelves::new();
        shelves.keep(buffer(8)).settle();
        assert!(shelves.take((7 << 18) - 1).is_none());
        assert!(shelves.take((8 << 18) + 1).is_none());
        assert_eq!(shelves.take(8 << 18).map(|v| v.capacity()), Some(8 << 18));
        assert_eq!((shelves.kept, shelves.by_number.len()), (0, 0));
    }
}
