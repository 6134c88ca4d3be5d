//! A real card, through NVIDIA's driver: memory, streams, kernels compiled at first use.

mod blas;
mod dnn;
mod queue;

use super::Array;
use super::board::failed;
use super::conv::Pass;
use super::engine::Allocate;
use super::launch::{Argument, Grid, Kernel, THREADS};
use super::libraries::{BLAS, CONVOLUTIONS, DRIVER, Surroundings, Wanted, load};
use super::product::Product;
use super::sources::Source;
use super::{CardReport, cache, nvrtc};
use crate::ops::Geometry;
use crate::{DType, Error, Result};
use blas::Blas;
use cudarc::cudnn::CudnnError;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use dnn::Dnn;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The most working memory that NVIDIA's libraries are given at a time.
pub(super) const WORKING_BYTES: usize = blas::WORKSPACE_BYTES + dnn::MOST_WORKSPACE_BYTES;
pub(super) use queue::{Event, Executable};

pub(crate) struct Card {
    ordinal: usize,
    /// Compute capability: 90 for 9.0.
    sm: u32,
    context: sys::CUcontext,
    /// Of work.
    stream: sys::CUstream,
    copies: sys::CUstream,
    modules: Mutex<HashMap<(Source, DType), Module>>,
    blas: Mutex<Option<Blas>>,
    dnn: Mutex<Option<Dnn>>,
    total_bytes: usize,
}

/// A loaded module; the driver keeps it until the program ends.
#[derive(Clone, Copy)]
struct Module(sys::CUmodule);

// SAFETY: the handles are the driver's, which takes them from any thread whose current context is
// theirs; every call below sets it first.
#[allow(unsafe_code)]
unsafe impl Send for Card {}
#[allow(unsafe_code)] // As above.
unsafe impl Sync for Card {}

/// Whether the driver is there, asked once. The bindings panic where it is not.
pub(super) fn driver() -> std::result::Result<(), String> {
    static DRIVER_FOUND: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let found = DRIVER_FOUND.get_or_init(|| {
        // SAFETY: it only tries to load libraries of that name.
        #[allow(unsafe_code)]
        present(DRIVER, || unsafe { sys::is_culib_present() })
    });
    found.clone()
}

/// Loads a library and keeps it loaded: the bindings look it up by name, and find what is loaded
/// wherever it lay. They panic where they do not, so they are asked before.
fn present(wanted: Wanted, seen: impl FnOnce() -> bool) -> std::result::Result<(), String> {
    let library = load(wanted, &Surroundings::of_this_process())?;
    std::mem::forget(library);
    if seen() {
        return Ok(());
    }
    let title = wanted.title;
    Err(format!(
        "{title} was found, but not under a name it is loaded by"
    ))
}

/// How many cards there are.
///
/// # Errors
/// The sentence for a missing driver, or the driver's own refusal.
pub(super) fn count() -> std::result::Result<usize, String> {
    driver()?;
    let told = |error: DriverError| format!("NVIDIA's driver does not start: {}", text(error));
    result::init().map_err(told)?;
    let count = result::device::get_count().map_err(told)?;
    Ok(count as usize)
}

/// What the driver tells of one card.
pub(super) fn report(ordinal: usize) -> std::result::Result<CardReport, String> {
    use sys::CUdevice_attribute_enum as Attribute;
    let device = result::device::get(ordinal as i32).map_err(text)?;
    // SAFETY: the device number was just given by the driver, which is initialised.
    #[allow(unsafe_code)]
    unsafe {
        let attribute = |a| result::device::get_attribute(device, a).map_err(text);
        Ok(CardReport {
            name: result::device::get_name(device).map_err(text)?,
            memory_bytes: result::device::total_mem(device).map_err(text)?,
            capability: (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
        })
    }
}

impl Card {
    pub(super) fn open(ordinal: usize) -> Result<Self> {
        let refused = |message: String| failed(ordinal, message);
        let count = count().map_err(refused)?;
        if ordinal >= count {
            let message = format!("there are {count} cards, numbered from 0");
            return Err(failed(ordinal, message));
        }
        let told = |error: DriverError| failed(ordinal, text(error));
        let device = result::device::get(ordinal as i32).map_err(told)?;
        let about = report(ordinal).map_err(refused)?;
        let (major, minor) = about.capability;
        // Conversions to bf16 are an instruction from 8.0 on.
        if major < 8 {
            let message = format!("compute capability {major}.{minor}; kinora needs 8.0 or newer");
            return Err(failed(ordinal, message));
        }
        // SAFETY: the device number was just given by the driver, which is initialised.
        #[allow(unsafe_code)]
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(told)?;
        // SAFETY: the context was just retained and is never released.
        #[allow(unsafe_code)]
        unsafe { result::ctx::set_current(context) }.map_err(told)?;
        let stream = || result::stream::create(result::stream::StreamKind::NonBlocking);
        Ok(Card {
            ordinal,
            sm: (10 * major + minor) as u32,
            context,
            stream: stream().map_err(told)?,
            copies: stream().map_err(told)?,
            modules: Mutex::default(),
            blas: Mutex::default(),
            dnn: Mutex::default(),
            total_bytes: about.memory_bytes,
        })
    }

    fn told(&self, error: DriverError) -> Error {
        failed(self.ordinal, text(error))
    }

    fn make_current(&self) -> Result<()> {
        // SAFETY: the context lives as long as the program.
        #[allow(unsafe_code)]
        unsafe { result::ctx::set_current(self.context) }.map_err(|error| self.told(error))
    }

    /// Memory from the driver, or none where it has no more.
    pub(super) fn allocate(&self, bytes: usize) -> Result<Option<u64>> {
        self.make_current()?;
        // SAFETY: the size is not zero, and the context is current.
        #[allow(unsafe_code)]
        match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Ok(Some(address)),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
            Err(error) => Err(self.told(error)),
        }
    }

    /// Gives it back; the driver waits for work in flight.
    pub(super) fn free(&self, address: u64) -> Result<()> {
        self.make_current()?;
        // SAFETY: `allocate` gave this address, and nothing but the pool knew it any more.
        #[allow(unsafe_code)]
        unsafe { result::free_sync(address) }.map_err(|error| self.told(error))
    }

    /// Free bytes and all bytes.
    pub(super) fn memory(&self) -> [usize; 2] {
        let free = self
            .make_current()
            .and_then(|()| result::mem_get_info().map_err(|error| self.told(error)));
        [free.map_or(0, |(free, _)| free), self.total_bytes]
    }

    pub(super) fn launch(&self, kernel: Kernel, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.make_current()?;
        let module = self.module(kernel.source, kernel.dtype)?;
        let name = CString::new(kernel.name).expect("names hold no zero byte");
        let mut places: Vec<*mut c_void> = arguments
            .iter()
            .map(|argument| argument.bytes().as_ptr().cast_mut().cast())
            .collect();
        let [x, y] = grid.0;
        // SAFETY: the module holds this kernel, whose arguments are as the tests' machine checked
        // them, and arrays live until the work that reads them is queued.
        #[allow(unsafe_code)]
        unsafe {
            let function = result::module::get_function(module.0, name);
            let function = function.map_err(|error| self.told(error))?;
            let block = (THREADS as u32, 1, 1);
            result::launch_kernel(function, (x, y, 1), block, 0, self.stream, &mut places)
        }
        .map_err(|error| failed(self.ordinal, format!("{}: {}", kernel.name, text(error))))
    }

    pub(super) fn multiply(&self, product: &Product<'_>, allocate: Allocate<'_>) -> Result<()> {
        self.make_current()?;
        let refused = |message: String| failed(self.ordinal, message);
        let mut blas = self.blas.lock().unwrap_or_else(PoisonError::into_inner);
        if blas.is_none() {
            use cudarc::cublaslt::sys::is_culib_present;
            // SAFETY: it only tries to load libraries of that name.
            #[allow(unsafe_code)]
            present(BLAS, || unsafe { is_culib_present() }).map_err(refused)?;
            let workspace = allocate(blas::WORKSPACE_BYTES)?;
            let made = Blas::new(workspace);
            *blas = Some(made.map_err(|error| refused(format!("cuBLASLt: {error}")))?);
        }
        let blas = blas.as_mut().expect("made above");
        let made = blas.multiply(product, self.stream.cast());
        made.map_err(|error| refused(format!("cuBLASLt on {product:?}: {error}")))
    }

    /// The working memory of [`Card::convolve`].
    pub(super) fn convolution_bytes(
        &self,
        pass: Pass,
        geometry: &Geometry,
        out: &Array,
    ) -> Result<usize> {
        self.with_dnn(pass, geometry, |dnn| {
            let plan = dnn.plan(pass, geometry, out.dtype())?;
            Ok(plan.workspace_bytes)
        })
    }

    pub(super) fn convolve(
        &self,
        pass: Pass,
        geometry: &Geometry,
        operands: [&Array; 2],
        out: &Array,
        workspace: u64,
    ) -> Result<()> {
        self.with_dnn(pass, geometry, |dnn| {
            let plan = dnn.plan(pass, geometry, out.dtype())?;
            dnn.run(&plan, operands, out, workspace)
        })
    }

    /// Does something with the library of convolutions, which is loaded at first use.
    fn with_dnn<T>(
        &self,
        pass: Pass,
        geometry: &Geometry,
        work: impl FnOnce(&mut Dnn) -> std::result::Result<T, CudnnError>,
    ) -> Result<T> {
        self.make_current()?;
        let refused = |message: String| failed(self.ordinal, message);
        let mut dnn = self.dnn.lock().unwrap_or_else(PoisonError::into_inner);
        if dnn.is_none() {
            use cudarc::cudnn::sys::is_culib_present;
            // SAFETY: it only tries to load libraries of that name.
            #[allow(unsafe_code)]
            present(CONVOLUTIONS, || unsafe { is_culib_present() }).map_err(refused)?;
            let made = Dnn::new(self.stream.cast());
            *dnn = Some(made.map_err(|error| refused(format!("cuDNN: {error:?}")))?);
        }
        let made = work(dnn.as_mut().expect("made above"));
        made.map_err(|error| refused(format!("cuDNN, {pass:?} of {geometry:?}: {error:?}")))
    }

    /// The compiled kernels of a source: from the cache on disk, or compiled now.
    fn module(&self, source: Source, dtype: DType) -> Result<Module> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(&(source, dtype)) {
            return Ok(*module);
        }
        let refused = |message: String| failed(self.ordinal, message);
        let compiler = nvrtc::compiler().map_err(refused)?;
        let code = cache::compiled(compiler, source, dtype, self.sm).map_err(refused)?;
        // SAFETY: the image is what the compiler made, whole, for this card.
        #[allow(unsafe_code)]
        let module = unsafe { result::module::load_data(code.as_ptr().cast()) };
        let module = Module(module.map_err(|error| self.told(error))?);
        modules.insert((source, dtype), module);
        Ok(module)
    }
}

/// The driver's own words.
fn text(error: DriverError) -> String {
    let words = error.error_string().ok();
    let words = words.map(|words| words.to_string_lossy().into_owned());
    words.unwrap_or_else(|| format!("error {:?} of the driver", error.0))
}
