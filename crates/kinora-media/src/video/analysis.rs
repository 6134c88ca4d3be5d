//! Small frames of a whole video in one decode, each with its own time: what detectors look at.

/// A decoded frame, made small. Planes are row by row without gaps, 8 bits in the range the video
/// has; colour planes have half the width and height, rounded up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnalysisFrame {
    /// Its number in the video, from zero.
    pub number: u64,
    /// When it is shown, in microseconds from the first frame.
    pub micros: i64,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Brightness.
    pub luma: Vec<u8>,
    /// Blue against yellow.
    pub blue: Vec<u8>,
    /// Red against green.
    pub red: Vec<u8>,
}
