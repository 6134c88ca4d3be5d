//! What is there to compute on, for whoever asks before computing.

use super::board::{Board, open};
use super::card;
use super::libraries::{BLAS, CONVOLUTIONS, NVRTC, Surroundings, load};
use super::pool::rounded;
use crate::{Device, Error, Result};
use std::sync::Arc;

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

/// Makes a card ready, and tells its memory.
///
/// # Errors
/// When the driver or one of the libraries is missing, there is no such card, or it is too old; the
/// sentence says which file was looked for, and where. When `device` is the processor.
pub fn ready_card(device: Device) -> Result<CardMemory> {
    let board = board(device)?;
    if matches!(*board, Board::Card(_)) {
        let faults = missing_libraries();
        if !faults.is_empty() {
            let message = faults.join("; ");
            return Err(Error::Device { device, message });
        }
    }
    board.memory()
}

/// A card's memory as it is now.
///
/// # Errors
/// When the card cannot be used, or `device` is the processor.
pub fn card_memory(device: Device) -> Result<CardMemory> {
    board(device)?.memory()
}

/// Waits until a device has done all the work that was given to it; the processor always has.
///
/// # Errors
/// When a card failed at it.
pub fn synchronize(device: Device) -> Result<()> {
    match device {
        Device::Cpu => Ok(()),
        Device::Cuda(_) => board(device)?.synchronize(),
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

fn board(device: Device) -> Result<Arc<Board>> {
    match device {
        Device::Cuda(ordinal) => open(ordinal),
        Device::Cpu => Err(Error::argument("device", "expected a card, found cpu")),
    }
}
