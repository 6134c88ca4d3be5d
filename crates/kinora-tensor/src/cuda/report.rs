//! What is there to compute on, for whoever asks before computing.

use super::board::of_device;
use super::card;
use super::libraries::{BLAS, CONVOLUTIONS, NVRTC, Surroundings, load};
use super::pool::rounded;
use crate::{Device, Error, Result};

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
pub fn cards() -> std::result::Result<Vec<CardReport>, String> {
    (0..card::count()?).map(card::report).collect()
}

/// For each of NVIDIA's libraries that cannot be loaded, a sentence with the files and places that were
/// tried.
pub fn missing_libraries() -> Vec<String> {
    let here = Surroundings::of_this_process();
    let wanted = [NVRTC, BLAS, CONVOLUTIONS].into_iter();
    wanted.filter_map(|w| load(w, &here).err()).collect()
}

/// A card's memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardMemory {
    /// What an array could have, in bytes.
    pub free_bytes: usize,
    /// All there is, in bytes.
    pub total_bytes: usize,
    /// What was given out, to this program and to others, with what is kept for its next arrays.
    pub taken_bytes: usize,
}

impl CardMemory {
    /// What arrays and other programs hold of it, in bytes: what was given out but is not kept for the next
    /// arrays.
    pub fn used_bytes(&self) -> usize {
        self.total_bytes.saturating_sub(self.free_bytes)
    }
}

/// Makes a card ready, and tells its memory.
///
/// # Errors
/// When the driver or one of the libraries is missing, there is no such card, or it is too old; the
/// sentence says which file was looked for, and where. When `device` is the processor.
pub fn ready_card(device: Device) -> Result<CardMemory> {
    let board = of_device("ready_card", device)?;
    if board.is_card() {
        let faults = missing_libraries();
        if !faults.is_empty() {
            let message = faults.join("; ");
            return Err(Error::Device { device, message });
        }
    }
    Ok(board.memory())
}

/// A card's memory as it is now.
///
/// # Errors
/// When the card cannot be used, or `device` is the processor.
pub fn card_memory(device: Device) -> Result<CardMemory> {
    Ok(of_device("card_memory", device)?.memory())
}

/// Waits until a device has done all the work that was given to it; the processor always has.
///
/// # Errors
/// When a card failed at it.
pub fn synchronize(device: Device) -> Result<()> {
    match device {
        Device::Cpu => Ok(()),
        Device::Cuda(_) => of_device("synchronize", device)?.synchronize(),
    }
}

/// What an array of so many bytes takes of a card's memory: at most an eighth more.
pub fn card_array_bytes(bytes: usize) -> usize {
    rounded(bytes)
}

/// The most working memory that products and convolutions take beside the arrays, in bytes.
pub fn card_working_bytes() -> usize {
    card::WORKING_BYTES
}

/// The most memory of a card that this program had at one time, in bytes, with what it kept for its
/// next arrays.
///
/// # Errors
/// When the device is the processor, or cannot be used.
pub fn peak_device_bytes(device: Device) -> Result<usize> {
    Ok(of_device("peak_device_bytes", device)?.peak_bytes())
}

/// Bytes of all arrays that were ever made on a card. Each is written once at least and read once at
/// least, so twice the difference is what work between two calls moved, about and at least; work that is
/// replayed makes none.
///
/// # Errors
/// When the device is the processor, or cannot be used.
pub fn made_device_bytes(device: Device) -> Result<u64> {
    Ok(of_device("made_device_bytes", device)?.made_bytes())
}

/// Lets this program take no more than so many bytes of a card's memory from now on: what asks for more
/// is told that there is none. NVIDIA's libraries keep some hundred megabytes beside that.
///
/// # Errors
/// When the device is the processor, or cannot be used.
pub fn limit_device_bytes(device: Device, limit_bytes: usize) -> Result<()> {
    of_device("limit_device_bytes", device)?.set_limit_bytes(limit_bytes);
    Ok(())
}
