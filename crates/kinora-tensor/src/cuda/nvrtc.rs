//! NVIDIA's run-time compiler: CUDA C++ in, machine code for one kind of card out. It needs no card.

use super::libraries::{NVRTC, Surroundings, load};
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::OnceLock;

type Program = *mut c_void;
type Status = c_int;

/// The loaded compiler.
pub(super) struct Compiler {
    loaded: Library,
}

/// The compiler, loaded at first use.
///
/// # Errors
/// The sentence of [`load`].
pub(super) fn compiler() -> Result<&'static Compiler, String> {
    static COMPILER: OnceLock<Result<Compiler, String>> = OnceLock::new();
    let made = COMPILER.get_or_init(|| Compiler::in_places(&Surroundings::of_this_process()));
    made.as_ref().map_err(Clone::clone)
}

impl Compiler {
    pub(super) fn in_places(surroundings: &Surroundings) -> Result<Self, String> {
        let loaded = load(NVRTC, surroundings)?;
        Ok(Compiler { loaded })
    }

    /// Calls a function of the library that gives a status.
    fn call<F: Copy>(&self, name: &str, call: impl FnOnce(F) -> Status) -> Result<(), String> {
        // SAFETY: each caller names a function together with its type, as nvrtc.h declares it.
        #[allow(unsafe_code)]
        let function = unsafe { self.loaded.get::<F>(name.as_bytes()) };
        let function = function.map_err(|_| {
            format!("NVRTC has no function `{name}`; kinora needs that of CUDA 12 or 13")
        })?;
        match call(*function) {
            0 => Ok(()),
            status => Err(format!("`{name}` failed with status {status}")),
        }
    }

    /// Major and minor version.
    pub(super) fn version(&self) -> Result<(i32, i32), String> {
        type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both places are ours to write.
        #[allow(unsafe_code)]
        self.call("nvrtcVersion", |f: Version| unsafe {
            f(&mut major, &mut minor)
        })?;
        Ok((major, minor))
    }

    /// Machine code of `source` for cards of compute capability `sm` (90 for 9.0).
    ///
    /// # Errors
    /// The compiler's own messages.
    pub(super) fn compile(&self, source: &str, name: &str, sm: u32) -> Result<Vec<u8>, String> {
        type Create = unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> Status;
        type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status;
        type Destroy = unsafe extern "C" fn(*mut Program) -> Status;
        let (source, name) = (c_string(source), c_string(name));
        let options = options(sm).map(|option| c_string(&option));
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let mut program: Program = std::ptr::null_mut();
        let (none, text, title) = (std::ptr::null(), source.as_ptr(), name.as_ptr());
        // SAFETY: the strings outlive the call, and no headers are given.
        #[allow(unsafe_code)]
        self.call("nvrtcCreateProgram", |f: Create| unsafe {
            f(&mut program, text, title, 0, none, none)
        })?;
        // SAFETY: the program was just created, and the options outlive the call.
        #[allow(unsafe_code)]
        let compiled = self.call("nvrtcCompileProgram", |f: Compile| unsafe {
            f(program, options.len() as c_int, options.as_ptr())
        });
        let outcome = match compiled {
            Ok(()) => self.bytes(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN"),
            Err(error) => Err(self.log(program).unwrap_or(error)),
        };
        // SAFETY: the program was created above and is not used again.
        #[allow(unsafe_code)]
        self.call("nvrtcDestroyProgram", |f: Destroy| unsafe {
            f(&mut program)
        })?;
        outcome
    }

    fn bytes(&self, program: Program, size: &str, get: &str) -> Result<Vec<u8>, String> {
        type Size = unsafe extern "C" fn(Program, *mut usize) -> Status;
        type Get = unsafe extern "C" fn(Program, *mut c_char) -> Status;
        let mut len = 0;
        // SAFETY: the program is alive, and `len` is ours to write.
        #[allow(unsafe_code)]
        self.call(size, |f: Size| unsafe { f(program, &mut len) })?;
        let mut bytes = vec![0u8; len];
        // SAFETY: the buffer has the length the library asked for.
        #[allow(unsafe_code)]
        self.call(get, |f: Get| unsafe {
            f(program, bytes.as_mut_ptr().cast())
        })?;
        Ok(bytes)
    }

    fn log(&self, program: Program) -> Option<String> {
        let log = self
            .bytes(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")
            .ok()?;
        let text = CStr::from_bytes_until_nul(&log).ok()?;
        Some(text.to_string_lossy().into_owned())
    }
}

/// What every kernel is compiled with.
pub(super) fn options(sm: u32) -> [String; 3] {
    [
        format!("--gpu-architecture=sm_{sm}"),
        "--std=c++17".to_owned(),
        "--extra-device-vectorization".to_owned(),
    ]
}

fn c_string(text: &str) -> CString {
    CString::new(text).expect("sources and names hold no zero byte")
}
