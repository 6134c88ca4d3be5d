//! The two streams of a board: one for work, one for copies from the processor that run beside it.
//!
//! What is given to one stream happens in order. Between the two there is no order but by events: a
//! stream that waits for an event begins what comes after when the other has done what came before.
//! Two rules follow, and all of the code beside this keeps them:
//!
//! - What was copied is waited for by the stream of work before a kernel reads it
//!   ([`Incoming::arrive`](super::copier::Incoming::arrive)).
//! - Memory that work has read is waited for by the stream of copies before it is written again
//!   ([`Window`](super::window::Window)). The pool's memory is work's alone.

use super::engine::Engine;
use crate::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stream {
    Work,
    Copies,
}

/// A point in a stream that can be waited for.
pub(crate) enum Event {
    Card(super::card::Event),
    #[cfg(any(test, feature = "host-machine"))]
    Host(u64),
}

/// Memory of the processor that a board copies from by itself; it lives as long as the program.
pub(super) struct Pinned {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: it is memory like any other, written only through `&mut`.
#[allow(unsafe_code)]
unsafe impl Send for Pinned {}

impl Pinned {
    /// # Safety
    /// `start` begins `bytes` bytes that nothing else uses, and that are never freed.
    #[allow(unsafe_code)] // Takes over what a driver allocated.
    pub(super) unsafe fn new(start: *mut u8, bytes: usize) -> Self {
        Pinned { start, bytes }
    }

    pub(super) fn start(&self) -> *const u8 {
        self.start
    }

    fn write(&mut self, values: &[u8]) {
        assert!(values.len() <= self.bytes, "a chunk fits its buffer");
        // SAFETY: the buffer has this length, is borrowed mutably and overlaps no other memory.
        #[allow(unsafe_code)]
        unsafe {
            self.start
                .copy_from_nonoverlapping(values.as_ptr(), values.len());
        }
    }
}

/// Buffers that copies to a board go through, used in turn: while one is being copied from, the next is
/// filled. Their number and size bound what a transfer takes, whatever its length.
#[derive(Default)]
pub(super) struct Staging {
    buffers: Vec<Buffer>,
    turn: usize,
}

struct Buffer {
    pinned: Pinned,
    /// When the last copy from it is done.
    done: Option<Event>,
}

const BUFFERS: usize = 2;

impl Staging {
    /// Queues a copy of `values` to `address`. They may change when this returns.
    pub(super) fn send(
        &mut self,
        engine: &Engine,
        stream: Stream,
        address: u64,
        values: &[u8],
    ) -> Result<()> {
        let bytes = engine.staging_bytes();
        while self.buffers.len() < BUFFERS {
            let pinned = engine.pinned(bytes)?;
            self.buffers.push(Buffer { pinned, done: None });
        }
        let chunks = (address..).step_by(bytes).zip(values.chunks(bytes));
        for (address, chunk) in chunks {
            let buffer = &mut self.buffers[self.turn];
            self.turn = (self.turn + 1) % BUFFERS;
            if let Some(done) = &buffer.done {
                engine.finish(done)?;
            }
            buffer.pinned.write(chunk);
            engine.copy_in(stream, &buffer.pinned, address, chunk.len())?;
            buffer.done = Some(engine.record(stream)?);
        }
        Ok(())
    }
}
