//! A machine for tests that runs the kernels' own sources on the processor, so that launches, indices
//! and arithmetic are held against the CPU's operations where no card is at hand. Compiled by the
//! system's C++ compiler when first asked for; slow, and never offered to users.

use super::Array;
use super::board::{failed, lock, register};
use super::conv::Pass;
use super::engine::Allocate;
use super::host_products::Convolution;
use super::host_streams::{Streams, Task};
use super::launch::{Argument, Grid, Kernel, THREADS};
use super::product::Product;
use super::sources::for_host;
use super::streams::{Pinned, Stream};
use crate::ops::Geometry;
use crate::{DType, Device, Result};
use libloading::Library;
use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

pub use super::host_streams::Order;
pub(super) use super::host_streams::Recording;

/// Bytes on both sides of an array that no kernel may touch.
const GUARD: usize = 256;
const UNTOUCHED: u8 = 0xA5;
/// What fresh memory holds: a NaN in each of the three types.
const FRESH: u8 = 0xFF;

pub(crate) struct Host {
    ordinal: usize,
    kernels: &'static [Library; 3],
    /// By address.
    arrays: Mutex<BTreeMap<u64, Block>>,
    streams: Mutex<Streams>,
    /// Copies that still succeed.
    copies_left: AtomicUsize,
}

/// Memory for one array.
#[derive(Clone, Copy, Debug)]
struct Block {
    bytes: usize,
    owned: bool,
}

/// A fresh test machine with so much memory; `None`, after a line on standard error, where there is
/// no C++ compiler.
///
/// # Panics
/// When the compiler refuses the kernels: that is what the tests are for.
pub fn host_device(limit_bytes: usize) -> Option<Device> {
    host_device_with(limit_bytes, Order::WorkFirst)
}

/// The same, its streams doing their work in the order given.
///
/// # Panics
/// As [`host_device`].
pub fn host_device_with(limit_bytes: usize, order: Order) -> Option<Device> {
    let kernels = kernels()?;
    Some(register(limit_bytes, |ordinal| Host {
        ordinal,
        kernels,
        arrays: Mutex::new(BTreeMap::new()),
        streams: Mutex::new(Streams::new(order)),
        copies_left: AtomicUsize::new(usize::MAX),
    }))
}

fn kernels() -> Option<&'static [Library; 3]> {
    static KERNELS: OnceLock<Option<[Library; 3]>> = OnceLock::new();
    let made = KERNELS.get_or_init(|| {
        if Command::new("c++").arg("--version").output().is_err() {
            say("skipped: no C++ compiler (`c++`) to build the kernels for the processor");
            return None;
        }
        Some([DType::F32, DType::F16, DType::BF16].map(compiled))
    });
    made.as_ref()
}

/// Writes past the test runner, which keeps the output of tests that pass to itself.
pub(super) fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The library of the kernels for one storage type, kept in the temporary folder by its source.
fn compiled(dtype: DType) -> Library {
    let source = for_host(dtype);
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    let name = format!("kinora-kernels-{dtype}-{:016x}", hasher.finish());
    let library = std::env::temp_dir().join(format!("{name}.so"));
    if !library.exists() {
        let own = format!("{name}-{}", std::process::id());
        let [text, made] =
            ["cpp", "so"].map(|end| std::env::temp_dir().join(format!("{own}.{end}")));
        std::fs::write(&text, source).expect("the temporary folder takes a file");
        compile(&text, &made);
        std::fs::rename(&made, &library).expect("the library moves to its place");
        let _ = std::fs::remove_file(&text);
    }
    // SAFETY: the library is the one made of our own source; loading it runs no code.
    #[allow(unsafe_code)]
    unsafe { Library::new(&library) }.expect("what was compiled loads")
}

fn compile(text: &PathBuf, made: &PathBuf) {
    let output = Command::new("c++")
        .args([
            "-std=c++17",
            "-O1",
            "-shared",
            "-fPIC",
            "-Wall",
            "-Wextra",
            "-Werror",
        ])
        .args(["-Wno-unused-function", "-Wno-unused-parameter", "-o"])
        .args([made, text])
        .output()
        .expect("it ran a moment ago");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the kernels do not compile:\n{message}"
    );
}

/// As `launch_…` in `kernels/host.hpp` declares it.
type Launcher = extern "C" fn(*const u32, u32, *mut *const c_void, *const usize, usize) -> i32;

impl Host {
    pub(super) fn streams(&self) -> MutexGuard<'_, Streams> {
        lock(&self.streams)
    }

    pub(super) fn failed(&self, message: &str) -> crate::Error {
        failed(self.ordinal, message)
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes + 2 * GUARD, GUARD).expect("sizes of tests are small")
    }

    pub(super) fn allocate(&self, bytes: usize) -> Result<Option<u64>> {
        // SAFETY: the size is not zero, and the guards are written before the address leaves.
        #[allow(unsafe_code)]
        let address = unsafe {
            let start = alloc(Self::layout(bytes));
            assert!(!start.is_null(), "memory for a test");
            start.write_bytes(UNTOUCHED, bytes + 2 * GUARD);
            start.add(GUARD) as u64
        };
        let owned = false;
        lock(&self.arrays).insert(address, Block { bytes, owned });
        Ok(Some(address))
    }

    pub(super) fn free(&self, address: u64) -> Result<()> {
        self.finish_all(Stream::Work)?;
        self.finish_all(Stream::Copies)?;
        self.check(address);
        let block = lock(&self.arrays).remove(&address);
        let Block { bytes, owned } = block.expect("memory freed once");
        assert!(!owned, "memory freed that is no array's");
        let start = address as usize as *mut u8;
        // SAFETY: `allocate` made this block with this layout, and it was in the list until now.
        #[allow(unsafe_code)]
        unsafe {
            dealloc(start.sub(GUARD), Self::layout(bytes));
        }
        Ok(())
    }

    /// Without a limit of its own: the board keeps it.
    #[allow(clippy::unused_self)] // As a card's.
    pub(super) fn memory(&self) -> [usize; 2] {
        [usize::MAX; 2]
    }

    pub(super) fn owned(&self, address: u64, owned: bool) -> Result<()> {
        let mut arrays = lock(&self.arrays);
        let block = arrays.get_mut(&address).expect("memory of this board");
        assert_ne!(block.owned, owned, "an array made or freed once");
        block.owned = owned;
        drop(arrays);
        match owned {
            true => self.submit(Stream::Work, Task::Fresh(address)),
            false => self.submit(Stream::Work, Task::Check(address)),
        }
    }

    fn bytes_at(&self, address: u64) -> usize {
        lock(&self.arrays)[&address].bytes
    }

    /// Holds the bytes around an array against what they were.
    fn check(&self, address: u64) {
        let bytes = self.bytes_at(address);
        let start = address as usize as *const u8;
        // SAFETY: `allocate` made this block with guards on both sides.
        #[allow(unsafe_code)]
        let guards = unsafe { [start.sub(GUARD), start.add(bytes)] }
            .map(|guard| unsafe { std::slice::from_raw_parts(guard, GUARD) });
        let whole = guards.concat().iter().all(|byte| *byte == UNTOUCHED);
        assert!(
            whole || std::thread::panicking(),
            "a kernel wrote outside an array of {bytes} bytes"
        );
    }

    /// Refuses a stretch that is not inside an array.
    fn inside(&self, address: u64, bytes: usize) {
        let arrays = lock(&self.arrays);
        let before = arrays.range(..=address).next_back();
        let inside = before.is_some_and(|(start, block)| {
            block.owned && address + bytes as u64 <= start + block.bytes as u64
        });
        assert!(inside, "{bytes} bytes inside an array");
    }

    #[allow(clippy::unused_self)] // As a card's.
    pub(super) fn pinned(&self, bytes: usize) -> Result<Pinned> {
        let memory = vec![0u8; bytes].leak();
        // SAFETY: it was just made, and is never freed.
        #[allow(unsafe_code)]
        Ok(unsafe { Pinned::new(memory.as_mut_ptr(), bytes) })
    }

    pub(super) fn copy_in(
        &self,
        stream: Stream,
        from: &Pinned,
        to: u64,
        bytes: usize,
    ) -> Result<()> {
        let one_less = |left: usize| left.checked_sub(1);
        let left = &self.copies_left;
        if left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_err()
        {
            return Err(self.failed("a copy failed, as it was told to"));
        }
        self.inside(to, bytes);
        let from = from.start() as u64;
        self.submit(stream, Task::Copy { from, to, bytes })
    }

    pub(super) fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.inside(from, bytes);
        self.inside(to, bytes);
        self.submit(Stream::Work, Task::Copy { from, to, bytes })
    }

    pub(super) fn download(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.inside(address, bytes.len());
        self.finish_all(Stream::Work)?;
        // SAFETY: the stretch lies inside an array, as was just checked.
        #[allow(unsafe_code)]
        unsafe {
            (address as usize as *const u8).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len());
        }
        Ok(())
    }

    pub(super) fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.submit(Stream::Work, Task::Launch(kernel, grid, arguments.to_vec()))
    }

    pub(super) fn multiply(&self, product: &Product<'_>, _: Allocate<'_>) -> Result<()> {
        self.submit(Stream::Work, Task::Multiply(product.into()))
    }

    #[allow(clippy::unused_self)] // As a card's.
    pub(super) fn convolution_bytes(&self, _: Pass, _: &Geometry, out: &Array) -> Result<usize> {
        // Not needed; that there is some is part of what is tested.
        Ok(out.dtype().size_bytes())
    }

    pub(super) fn convolve(
        &self,
        pass: Pass,
        geometry: &Geometry,
        operands: [&Array; 2],
        out: &Array,
        _: u64,
    ) -> Result<()> {
        let convolution = Convolution {
            pass,
            geometry: *geometry,
            operands: operands.map(Into::into),
            out: out.into(),
        };
        match convolution.refused() {
            None => self.submit(Stream::Work, Task::Convolve(convolution)),
            Some(why) => Err(self.failed(why)),
        }
    }

    /// Does what a stream was given.
    pub(super) fn run(&self, task: &Task) -> Result<()> {
        match task {
            Task::Fresh(address) => {
                let bytes = self.bytes_at(*address);
                // SAFETY: the block has this length.
                #[allow(unsafe_code)]
                unsafe {
                    (*address as usize as *mut u8).write_bytes(FRESH, bytes);
                }
                Ok(())
            }
            Task::Check(address) => {
                self.check(*address);
                Ok(())
            }
            Task::Copy { from, to, bytes } => {
                let (from, to) = (*from as usize as *const u8, *to as usize as *mut u8);
                // SAFETY: both stretches were found to have this length when the copy was queued.
                #[allow(unsafe_code)]
                unsafe {
                    to.copy_from(from, *bytes);
                }
                Ok(())
            }
            Task::Launch(kernel, grid, arguments) => self.start(*kernel, *grid, arguments),
            Task::Multiply(product) => product.run(),
            Task::Convolve(convolution) => convolution.run(),
            Task::Record(_) | Task::Wait(_) => unreachable!("the streams' own"),
        }
    }

    fn start(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<()> {
        let library = &self.kernels[match kernel.dtype {
            DType::F32 => 0,
            DType::F16 => 1,
            DType::BF16 => 2,
        }];
        let symbol = format!("launch_{}", kernel.name);
        // Kernels read their arguments as the 8-byte values and structures they are.
        let aligned: Vec<Vec<u64>> = arguments.iter().map(|a| words(a.bytes())).collect();
        let mut places: Vec<*const c_void> = aligned.iter().map(|a| a.as_ptr().cast()).collect();
        let sizes: Vec<usize> = arguments.iter().map(|a| a.bytes().len()).collect();
        // SAFETY: the symbol, if it is there, is a launcher of that type; it checks the number and
        // the sizes of the arguments before it reads them.
        #[allow(unsafe_code)]
        let outcome = unsafe {
            let launcher = library.get::<Launcher>(symbol.as_bytes());
            let launcher = launcher.map_err(|_| self.refused(kernel, "there is no such kernel"))?;
            launcher(
                grid.0.as_ptr(),
                THREADS as u32,
                places.as_mut_ptr(),
                sizes.as_ptr(),
                sizes.len(),
            )
        };
        match outcome {
            0 => Ok(()),
            -1 => Err(self.refused(kernel, "the number of arguments is wrong")),
            -2 => Err(self.refused(kernel, "some threads wait where others never come")),
            -3 => Err(self.refused(kernel, "16 bytes at once do not lie at a multiple of 16")),
            k => Err(self.refused(kernel, &format!("argument {k} has the wrong size"))),
        }
    }

    fn refused(&self, kernel: Kernel, why: &str) -> crate::Error {
        self.failed(&format!("kernel `{}`: {why}", kernel.name))
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}

/// After so many copies from the processor, the next ones to this device fail.
#[cfg(test)]
pub(crate) fn fail_copies_after(device: Device, count: usize) {
    let board = super::of_device("test", device).expect("a test machine");
    match board.engine() {
        super::engine::Engine::Host(host) => host.copies_left.store(count, Ordering::Relaxed),
        super::engine::Engine::Card(_) => panic!("a card cannot be told to fail"),
    }
}
