//! What differs between a card and the machine that stands in for one in tests: how memory is had, and
//! how copies, kernels, products and events are queued. All else is the same code for both.

use super::Array;
use super::card::{self, Card};
use super::conv::Pass;
#[cfg(any(test, feature = "host-machine"))]
use super::host::{self, Host};
use super::launch::{Argument, Grid, Kernel};
use super::product::Product;
use super::streams::{Event, Pinned, Stream};
use crate::Result;
use crate::ops::Geometry;

/// A closed set.
pub(super) enum Engine {
    Card(Box<Card>),
    #[cfg(any(test, feature = "host-machine"))]
    Host(Box<Host>),
}

/// What was captured, ready to be replayed.
pub(super) enum Recorded {
    Card(card::Executable),
    #[cfg(any(test, feature = "host-machine"))]
    Host(host::Recording),
}

/// The same call on either. Each case of a match is told once.
macro_rules! either {
    ($engine:expr, $each:ident => $call:expr) => {
        match $engine {
            Engine::Card($each) => $call,
            #[cfg(any(test, feature = "host-machine"))]
            Engine::Host($each) => $call,
        }
    };
}

/// How a product gets memory of its own.
pub(super) type Allocate<'a> = &'a dyn Fn(usize) -> Result<u64>;

impl Engine {
    /// The size of the stretch that is handed out for so many bytes.
    pub(super) fn rounded(&self, bytes: usize) -> usize {
        match self {
            Engine::Card(_) => super::pool::rounded(bytes),
            // As it is asked for, so that the guards lie close.
            #[cfg(any(test, feature = "host-machine"))]
            Engine::Host(_) => bytes,
        }
    }

    /// The address of memory from the driver, or none where it has no more.
    pub(super) fn allocate(&self, bytes: usize) -> Result<Option<u64>> {
        either!(self, each => each.allocate(bytes))
    }

    /// Gives memory back to the driver, when all work on it is done.
    pub(super) fn free(&self, address: u64) -> Result<()> {
        either!(self, each => each.free(address))
    }

    /// Free bytes and all bytes, as the driver counts them.
    pub(super) fn memory(&self) -> [usize; 2] {
        either!(self, each => each.memory())
    }

    /// Tells a test machine that memory has a new owner, or none.
    #[cfg(any(test, feature = "host-machine"))]
    pub(super) fn owned(&self, address: u64, owned: bool) -> Result<()> {
        match self {
            Engine::Card(_) => Ok(()),
            Engine::Host(host) => host.owned(address, owned),
        }
    }

    /// How long a buffer of [`Staging`](super::streams::Staging) is.
    pub(super) fn staging_bytes(&self) -> usize {
        match self {
            Engine::Card(_) => 8 << 20,
            // Short, so that what tests copy takes several.
            #[cfg(any(test, feature = "host-machine"))]
            Engine::Host(_) => 1 << 10,
        }
    }

    pub(super) fn pinned(&self, bytes: usize) -> Result<Pinned> {
        either!(self, each => each.pinned(bytes))
    }

    /// Queues a copy from the beginning of a buffer, which must stay as it is until it is done.
    pub(super) fn copy_in(
        &self,
        stream: Stream,
        from: &Pinned,
        to: u64,
        bytes: usize,
    ) -> Result<()> {
        either!(self, each => each.copy_in(stream, from, to, bytes))
    }

    /// Copies to the processor what all work so far has made.
    pub(super) fn download(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        either!(self, each => each.download(address, bytes))
    }

    /// Queues a copy within the board.
    pub(super) fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        either!(self, each => each.copy(from, to, bytes))
    }

    /// A new event behind all that was queued on the stream.
    pub(super) fn record(&self, stream: Stream) -> Result<Event> {
        either!(self, each => each.record(stream))
    }

    /// Lets what is queued on the stream from now on wait for the event.
    pub(super) fn wait(&self, stream: Stream, event: &Event) -> Result<()> {
        either!(self, each => each.wait(stream, event))
    }

    /// Waits for the event here.
    pub(super) fn finish(&self, event: &Event) -> Result<()> {
        either!(self, each => each.finish(event))
    }

    pub(super) fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<()> {
        either!(self, each => each.launch(kernel, grid, arguments))
    }

    pub(super) fn multiply(&self, product: &Product<'_>, allocate: Allocate<'_>) -> Result<()> {
        either!(self, each => each.multiply(product, allocate))
    }

    /// The working memory that [`Engine::convolve`] wants.
    pub(super) fn convolution_bytes(
        &self,
        pass: Pass,
        geometry: &Geometry,
        out: &Array,
    ) -> Result<usize> {
        either!(self, each => each.convolution_bytes(pass, geometry, out))
    }

    pub(super) fn convolve(
        &self,
        pass: Pass,
        geometry: &Geometry,
        operands: [&Array; 2],
        out: &Array,
        workspace: u64,
    ) -> Result<()> {
        either!(self, each => each.convolve(pass, geometry, operands, out, workspace))
    }

    /// From now on work is only written down.
    pub(super) fn begin_capture(&self) -> Result<()> {
        either!(self, each => each.begin_capture())
    }

    pub(super) fn end_capture(&self) -> Result<Recorded> {
        either!(self, each => each.end_capture())
    }

    /// Queues what was captured.
    pub(super) fn replay(&self, recorded: &Recorded) -> Result<()> {
        match (self, recorded) {
            (Engine::Card(card), Recorded::Card(executable)) => card.replay(executable),
            #[cfg(any(test, feature = "host-machine"))]
            (Engine::Host(host), Recorded::Host(recording)) => host.replay(recording),
            #[cfg(any(test, feature = "host-machine"))]
            _ => unreachable!("a graph is replayed on the board that captured it"),
        }
    }
}
