//! What is there to compute on, for whoever asks before computing.

use super::card;
use super::libraries::{BLAS, CONVOLUTIONS, NVRTC, Surroundings, load};

/// One card the driver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardReport {
    /// The maker's name for it.
    pub name: String,
    /// Its memory.
    pub memory_bytes: usize,
    /// Compute capability, major and minor.
    pub capability: (i32, i32),
}

/// Every card, in the driver's order.
///
/// # Errors
/// A sentence: the driver is missing or broken, with the file that was looked for, or does not start.
pub fn cards() -> Result<Vec<CardReport>, String> {
    (0..card::count()?).map(card::report).collect()
}

/// For each of NVIDIA's libraries that cannot be loaded, a sentence with the files and places that were
/// tried.
pub fn missing_libraries() -> Vec<String> {
    let here = Surroundings::of_this_process();
    let wanted = [NVRTC, BLAS, CONVOLUTIONS].into_iter();
    wanted.filter_map(|w| load(w, &here).err()).collect()
}
