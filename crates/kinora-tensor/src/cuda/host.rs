//! A machine for tests that runs the kernels' own sources on the processor, so that launches, indices
//! and arithmetic are held against the CPU's operations where no card is at hand. Compiled by the
//! system's C++ compiler when first asked for; slow, and never offered to users.

use super::board::{failed, out_of_memory, register};
use super::launch::{Argument, Grid, Kernel, THREADS};
use super::report::CardMemory;
use super::sources::for_host;
use crate::{DType, Device, Result};
use libloading::Library;
use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Bytes on both sides of an array that no kernel may touch.
const GUARD: usize = 256;
const UNTOUCHED: u8 = 0xA5;
/// What fresh memory holds: a NaN in each of the three types.
const FRESH: u8 = 0xFF;

pub(crate) struct Host {
    ordinal: usize,
    limit_bytes: usize,
    kernels: &'static [Library; 3],
    /// Sizes of the arrays by address.
    arrays: Mutex<BTreeMap<u64, usize>>,
}

/// A fresh test machine with so much memory; `None`, after a line on standard error, where there is
/// no C++ compiler.
///
/// # Panics
/// When the compiler refuses the kernels: that is what the tests are for.
pub fn host_device(limit_bytes: usize) -> Option<Device> {
    let kernels = kernels()?;
    Some(register(|ordinal| Host {
        ordinal,
        limit_bytes,
        kernels,
        arrays: Mutex::new(BTreeMap::new()),
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
    pub(super) fn ordinal(&self) -> usize {
        self.ordinal
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes + 2 * GUARD, GUARD).expect("sizes of tests are small")
    }

    pub(super) fn allocate(&self, bytes: usize) -> Result<u64> {
        let mut arrays = self.arrays.lock().unwrap_or_else(PoisonError::into_inner);
        let used: usize = arrays.values().sum();
        if used + bytes > self.limit_bytes {
            let free = self.limit_bytes - used;
            return Err(out_of_memory(self.ordinal, bytes, free, self.limit_bytes));
        }
        // SAFETY: the size is not zero, and every byte of it is written before the address leaves.
        #[allow(unsafe_code)]
        let address = unsafe {
            let start = alloc(Self::layout(bytes));
            assert!(!start.is_null(), "memory for a test");
            start.write_bytes(UNTOUCHED, bytes + 2 * GUARD);
            start.add(GUARD).write_bytes(FRESH, bytes);
            start.add(GUARD) as u64
        };
        arrays.insert(address, bytes);
        Ok(address)
    }

    pub(super) fn memory(&self) -> CardMemory {
        let arrays = self.arrays.lock().unwrap_or_else(PoisonError::into_inner);
        let used: usize = arrays.values().sum();
        CardMemory {
            free_bytes: self.limit_bytes - used,
            total_bytes: self.limit_bytes,
            taken_bytes: used,
        }
    }

    pub(super) fn free(&self, address: u64, bytes: usize) {
        let mut arrays = self.arrays.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(arrays.remove(&address), Some(bytes), "an array freed once");
        let start = address as usize as *mut u8;
        // SAFETY: `allocate` made this block with this layout, and it was in the list until now.
        #[allow(unsafe_code)]
        let whole = unsafe {
            let start = start.sub(GUARD);
            let guards = [start, start.add(GUARD + bytes)];
            let guards = guards.map(|guard| std::slice::from_raw_parts(guard, GUARD));
            let whole = guards.concat().iter().all(|byte| *byte == UNTOUCHED);
            dealloc(start, Self::layout(bytes));
            whole
        };
        assert!(
            whole || std::thread::panicking(),
            "a kernel wrote outside an array of {bytes} bytes"
        );
    }

    fn checked(&self, address: u64, bytes: usize) {
        let arrays = self.arrays.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(arrays.get(&address), Some(&bytes), "a whole array");
    }

    pub(super) fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.checked(address, bytes.len());
        // SAFETY: the address is that of a block of this length, as was just checked.
        #[allow(unsafe_code)]
        unsafe {
            (address as usize as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Ok(())
    }

    pub(super) fn download(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.checked(address, bytes.len());
        // SAFETY: the address is that of a block of this length, as was just checked.
        #[allow(unsafe_code)]
        unsafe {
            (address as usize as *const u8).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len());
        }
        Ok(())
    }

    pub(super) fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<()> {
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
        failed(self.ordinal, format!("kernel `{}`: {why}", kernel.name))
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}
