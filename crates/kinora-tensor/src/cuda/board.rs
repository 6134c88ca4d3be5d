//! What holds arrays and runs kernels: a card, or the machine that stands in for one in tests.

use super::Array;
use super::capture::Capture;
use super::card::Card;
use super::conv::Pass;
use super::copier::Copier;
use super::engine::{Engine, Recorded};
#[cfg(any(test, feature = "host-machine"))]
use super::host::Host;
use super::launch::{Argument, Grid, Kernel};
use super::pool::Pool;
use super::product::Product;
use super::report::CardMemory;
use super::streams::{Event, Staging, Stream};
use crate::ops::Geometry;
use crate::{Device, Error, Result};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// One card, or what stands in for it, with the memory it keeps and the copies under way.
pub(crate) struct Board {
    pub(super) ordinal: usize,
    engine: Engine,
    memory: Mutex<Memory>,
    uploads: Mutex<Staging>,
    pub(super) copier: OnceLock<Copier>,
    pub(super) capture: Mutex<Option<Capture>>,
    /// How many sets of weights are brought here as they are used.
    pub(crate) streaming: AtomicUsize,
}

/// What was had from the driver.
#[derive(Debug)]
struct Memory {
    pool: Pool,
    bytes: usize,
    peak_bytes: usize,
    limit_bytes: usize,
    /// What a limit can be at most: a test machine has no more.
    capacity_bytes: usize,
    /// Of all arrays ever made.
    made_bytes: u64,
}

/// The boards in use, by number. A card stays open for the life of the program.
static OPEN: Mutex<BTreeMap<usize, Arc<Board>>> = Mutex::new(BTreeMap::new());

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The board with this number, opened at first use.
pub(crate) fn open(ordinal: usize) -> Result<Arc<Board>> {
    let mut boards = lock(&OPEN);
    if let Some(board) = boards.get(&ordinal) {
        return Ok(board.clone());
    }
    let engine = Engine::Card(Box::new(Card::open(ordinal)?));
    let board = Arc::new(Board::new(ordinal, engine, usize::MAX));
    boards.insert(ordinal, board.clone());
    Ok(board)
}

/// The board of a device.
///
/// # Errors
/// When it is the processor, or cannot be opened.
pub(crate) fn of_device(op: &'static str, device: Device) -> Result<Arc<Board>> {
    match device {
        Device::Cuda(ordinal) => open(ordinal),
        other => Err(Error::argument(
            op,
            format!("expected a card, found {other}"),
        )),
    }
}

/// Makes a test machine known under a number of its own.
#[cfg(any(test, feature = "host-machine"))]
pub(super) fn register(limit_bytes: usize, make: impl FnOnce(usize) -> Host) -> Device {
    const FIRST: usize = 1000;
    let mut boards = lock(&OPEN);
    let ordinal = boards
        .keys()
        .next_back()
        .map_or(FIRST, |k| FIRST.max(k + 1));
    let board = Board::new(ordinal, Engine::Host(Box::new(make(ordinal))), limit_bytes);
    boards.insert(ordinal, Arc::new(board));
    Device::Cuda(ordinal)
}

impl Board {
    fn new(ordinal: usize, engine: Engine, limit_bytes: usize) -> Self {
        let memory = Memory {
            pool: Pool::default(),
            bytes: 0,
            peak_bytes: 0,
            limit_bytes,
            capacity_bytes: limit_bytes,
            made_bytes: 0,
        };
        Board {
            ordinal,
            engine,
            memory: Mutex::new(memory),
            uploads: Mutex::default(),
            copier: OnceLock::new(),
            capture: Mutex::default(),
            streaming: AtomicUsize::new(0),
        }
    }

    pub(crate) fn device(&self) -> Device {
        Device::Cuda(self.ordinal)
    }

    /// Whether it is a card, and no machine of a test.
    pub(super) fn is_card(&self) -> bool {
        matches!(self.engine, Engine::Card(_))
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The address of `bytes` bytes of unspecified content.
    pub(super) fn allocate(&self, bytes: usize) -> Result<u64> {
        let size = self.engine.rounded(bytes);
        let mut memory = lock(&self.memory);
        memory.made_bytes += bytes as u64;
        let address = match memory.pool.take(size) {
            Some(address) => address,
            None => self.ask_driver(&mut memory, size, bytes)?,
        };
        #[cfg(any(test, feature = "host-machine"))]
        self.engine.owned(address, true)?;
        Ok(address)
    }

    fn ask_driver(&self, memory: &mut Memory, size: usize, asked: usize) -> Result<u64> {
        let ask = |memory: &mut Memory| match memory.bytes.saturating_add(size) {
            more if more > memory.limit_bytes => Ok(None),
            _ => self.engine.allocate(size),
        };
        let mut found = ask(memory)?;
        if found.is_none() {
            // What is kept for other sizes may be what is missing. The driver waits for work in
            // flight before it takes memory back.
            for (address, size) in memory.pool.empty() {
                self.engine.free(address)?;
                memory.bytes -= size;
            }
            found = ask(memory)?;
        }
        let Some(address) = found else {
            let [free, total] = self.engine.memory();
            let below = memory.limit_bytes.saturating_sub(memory.bytes);
            let total = total.min(memory.limit_bytes);
            return Err(out_of_memory(self.ordinal, asked, free.min(below), total));
        };
        memory.pool.met(address);
        memory.bytes += size;
        memory.peak_bytes = memory.peak_bytes.max(memory.bytes);
        Ok(address)
    }

    pub(super) fn free(&self, address: u64, bytes: usize) {
        #[cfg(any(test, feature = "host-machine"))]
        if let Err(error) = self.engine.owned(address, false) {
            // Work that was queued before; who waits for it hears of the next one at the latest.
            super::host::say(&error.to_string());
        }
        lock(&self.memory)
            .pool
            .put(address, self.engine.rounded(bytes));
    }

    /// Does something with the pool.
    pub(super) fn pool<T>(&self, change: impl FnOnce(&mut Pool) -> T) -> T {
        change(&mut lock(&self.memory).pool)
    }

    /// The most bytes that were ever taken from the driver at one time, kept ones included.
    pub(crate) fn peak_bytes(&self) -> usize {
        lock(&self.memory).peak_bytes
    }

    /// Bytes of all arrays that were ever made here.
    pub(crate) fn made_bytes(&self) -> u64 {
        lock(&self.memory).made_bytes
    }

    /// Takes no more than so many bytes from the driver from now on.
    pub(crate) fn set_limit_bytes(&self, limit_bytes: usize) {
        let mut memory = lock(&self.memory);
        memory.limit_bytes = limit_bytes.min(memory.capacity_bytes);
    }

    /// Copies values there, in the order of work. They may change when this returns.
    pub(super) fn upload(&self, address: u64, values: &[u8], op: &str) -> Result<()> {
        let bytes = values.len();
        self.refuse_in_capture(|| format!("{op}: a copy of {bytes} bytes to the card"))?;
        let mut staging = lock(&self.uploads);
        staging.send(&self.engine, Stream::Work, address, values)
    }

    /// Copies values from there when all work so far is done.
    pub(super) fn download(&self, address: u64, values: &mut [u8], op: &str) -> Result<()> {
        let bytes = values.len();
        self.refuse_in_capture(|| format!("{op}: a copy of {bytes} bytes from the card"))?;
        self.engine.download(address, values)
    }

    /// Copies one array over another of its size.
    pub(super) fn copy(&self, from: &Array, to: &Array) -> Result<()> {
        assert_eq!(from.bytes(), to.bytes(), "arrays of one size");
        self.mention([from.address(), to.address()]);
        match from.bytes() {
            0 => Ok(()),
            bytes => self.engine.copy(from.address(), to.address(), bytes),
        }
    }

    /// A point behind all work so far.
    pub(crate) fn record_work(&self) -> Result<Event> {
        self.engine.record(Stream::Work)
    }

    /// Its memory as it is now.
    pub(super) fn memory(&self) -> CardMemory {
        let [free, total] = self.engine.memory();
        let memory = lock(&self.memory);
        let below = memory.limit_bytes.saturating_sub(memory.bytes);
        let free_bytes = free.min(below);
        let total_bytes = total.min(memory.limit_bytes);
        CardMemory {
            free_bytes: free_bytes + memory.pool.kept_bytes(),
            total_bytes,
            taken_bytes: total_bytes - free_bytes,
        }
    }

    /// Waits until all work that was started is done.
    pub(super) fn synchronize(&self) -> Result<()> {
        self.refuse_in_capture(|| "waiting for the card".to_owned())?;
        self.engine.finish(&self.record_work()?)
    }

    /// Starts a kernel; what it writes is seen by what starts after it.
    pub(super) fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<()> {
        if grid.is_empty() {
            return Ok(());
        }
        self.mention(arguments.iter().flat_map(Argument::addresses));
        self.engine.launch(kernel, grid, arguments)
    }

    /// Makes a product of matrices.
    pub(super) fn multiply(&self, product: &Product<'_>) -> Result<()> {
        let operands = [product.a.array, product.b.array, product.out.array];
        let all = operands.into_iter().chain(product.bias).chain(product.onto);
        self.mention(all.map(Array::address));
        self.engine.multiply(product, &|bytes| self.allocate(bytes))
    }

    /// Makes one product of a convolution, whose zeros are as many on one side as on the other.
    pub(super) fn convolve(
        &self,
        pass: Pass,
        geometry: &Geometry,
        operands: [&Array; 2],
        out: &Array,
    ) -> Result<()> {
        let [first, second] = operands;
        self.mention([first, second, out].map(Array::address));
        let bytes = self.engine.convolution_bytes(pass, geometry, out)?;
        let workspace = match bytes {
            0 => 0,
            bytes => self.allocate(bytes)?,
        };
        let made = self
            .engine
            .convolve(pass, geometry, operands, out, workspace);
        if bytes > 0 {
            self.free(workspace, bytes);
        }
        made
    }

    /// Queues what was captured.
    pub(super) fn replay(&self, recorded: &Recorded) -> Result<()> {
        self.refuse_in_capture(|| "the replay of another graph".to_owned())?;
        self.engine.replay(recorded)
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
fn out_of_memory(ordinal: usize, asked: usize, free: usize, total: usize) -> Error {
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
