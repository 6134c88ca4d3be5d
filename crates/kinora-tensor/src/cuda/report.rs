//! What is there to compute on, for whoever asks before computing.

use super::board::of_device;
use super::card;
use super::libraries::{BLAS, CONVOLUTIONS, NVRTC, Surroundings, load};
use crate::{Device, Error};

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

/// The most memory of a card that this program had at one time, in bytes, with what it kept for its
/// next arrays.
///
/// # Errors
/// When the device is the processor, or cannot be used.
pub fn peak_device_bytes(device: Device) -> Result<usize, Error> {
    Ok(of_device("peak_device_bytes", device)?.peak_bytes())
}

/// Lets this program take no more than so many bytes of a card's memory from now on: what asks for more
/// is told that there is none. NVIDIA's libraries keep some hundred megabytes beside that.
///
/// # Errors
/// When the device is the processor, or cannot be used.
pub fn limit_device_bytes(device: Device, limit_bytes: usize) -> Result<(), Error> {
    of_device("limit_device_bytes", device)?.set_limit_bytes(limit_bytes);
    Ok(())
}
