//! What holds arrays and runs kernels: a card, or the machine that stands in for one in tests.

use super::Array;
use super::card::Card;
use super::conv::Pass;
#[cfg(any(test, feature = "host-machine"))]
use super::host::Host;
use super::launch::{Argument, Grid, Kernel};
use super::product::Product;
use super::report::CardMemory;
use crate::ops::Geometry;
use crate::{Device, Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A closed set: what differs between the two is only how bytes move and kernels start.
pub(crate) enum Board {
    Card(Box<Card>),
    #[cfg(any(test, feature = "host-machine"))]
    Host(Host),
}

/// The boards in use, by number. A card stays open for the life of the program.
static OPEN: Mutex<BTreeMap<usize, Arc<Board>>> = Mutex::new(BTreeMap::new());

/// The board with this number, opened at first use.
pub(crate) fn open(ordinal: usize) -> Result<Arc<Board>> {
    let mut boards = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(board) = boards.get(&ordinal) {
        return Ok(board.clone());
    }
    let board = Arc::new(Board::Card(Box::new(Card::open(ordinal)?)));
    boards.insert(ordinal, board.clone());
    Ok(board)
}

/// Makes a test machine known under a number of its own.
#[cfg(any(test, feature = "host-machine"))]
pub(super) fn register(make: impl FnOnce(usize) -> Host) -> Device {
    const FIRST: usize = 1000;
    let mut boards = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let ordinal = boards
        .keys()
        .next_back()
        .map_or(FIRST, |k| FIRST.max(k + 1));
    boards.insert(ordinal, Arc::new(Board::Host(make(ordinal))));
    Device::Cuda(ordinal)
}

impl Board {
    pub(crate) fn device(&self) -> Device {
        match self {
            Board::Card(card) => Device::Cuda(card.ordinal()),
            #[cfg(any(test, feature = "host-machine"))]
            Board::Host(host) => Device::Cuda(host.ordinal()),
        }
    }

    /// The address of `bytes` bytes of unspecified content.
    pub(super) fn allocate(&self, bytes: usize) -> Result<u64> {
        match self {
            Board::Card(card) => card.allocate(bytes),
            #[cfg(any(test, feature = "host-machine"))]
            Board::Host(host) => host.allocate(bytes),
        }
    }

    pub(super) fn free(&self, address: u64, bytes: usize) {
        match self {
            Board::Card(card) => card.free(address, bytes),
            #[cfg(any(test, feature = "host-machine"))]
            Board::Host(host) => host.free(address, bytes),
        }
    }

    pub(super) fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        match self {
            Board::Card(card) => card.upload(address, bytes),
            #[cfg(any(test, feature = "host-machine"))]
            Board::Host(host) => host.upload(address, bytes),
        }
    }

    pub(super) fn download(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        match self {
            Board::Card(card) => card.download(address, bytes),
            #[cfg(any(test, feature = "host-machine"))]
            Board::Host(host) => host.download(address, bytes),
        }
    }

    /// Its memory as it is now.
    pub(super) fn memory(&self) -> Result<CardMemory> {
        match self {
            Board::Card(card) => card.memory(),
            #[cfg(any(test, feature = "host-machine"))]
            Board::Host(host) => Ok(host.memory()),
        }
    }

    /// Waits until all work that was started is done.
    pub(super) fn synchronize(&self) -> Result<()> {
        match self {
            Board::Card(card) => card.synchronize(),
            #[cfg(any(test, feature = "host-machine"))]
            Board::Host(_) => Ok(()),
        }
    }

    /// Starts a kernel; what it writes is seen by what starts after it.
    pub(super) fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<()> {
        if grid.is_empty() {
            return Ok(());
        }
        match self {
            Board::Card(card) => card.launch(kernel, grid, arguments),
            #[cfg(any(test, feature = "host-machine"))]
            Board::Host(host) => host.launch(kernel, grid, arguments),
        }
    }

    /// Makes a product of matrices.
    pub(super) fn multiply(&self, product: &Product<'_>) -> Result<()> {
        match self {
            Board::Card(card) => card.multiply(product),
            #[cfg(any(test, feature = "host-machine"))]
            Board::Host(_) => super::host_products::multiply(product),
        }
    }

    /// Makes one product of a convolution, whose zeros are as many on one side as on the other.
    pub(super) fn convolve(
        &self,
        pass: Pass,
        geometry: &Geometry,
        operands: [&Array; 2],
        out: &Array,
    ) -> Result<()> {
        match self {
            Board::Card(card) => card.convolve(pass, geometry, operands, out),
            #[cfg(any(test, feature = "host-machine"))]
            Board::Host(host) => {
                super::host_products::convolve(host.ordinal(), pass, geometry, operands, out)
            }
        }
    }
}

/// An error of one board, in words.
pub(super) fn failed(ordinal: usize, message: impl Into<String>) -> Error {
    Error::Device {
        device: Device::Cuda(ordinal),
        message: message.into(),
    }
}

/// The error for memory that is not there.
pub(super) fn out_of_memory(ordinal: usize, asked: usize, free: usize, total: usize) -> Error {
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    failed(
        ordinal,
        format!(
            "out of memory: {:.1} MiB were asked for, and {:.1} of {:.1} MiB are free; take fewer \
             frames, a smaller picture or weights in 16 bits, or end what else uses the card",
            mib(asked),
            mib(free),
            mib(total)
        ),
    )
}
