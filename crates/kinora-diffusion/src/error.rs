//! What can go wrong between noise and data.

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an equation or a sampler refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Arrays that do not go together.
    #[error(transparent)]
    Tensor(#[from] kinora_tensor::Error),
    /// The schedule cannot be walked.
    #[error(
        "sampler: expected at least two sigmas, falling, none below zero; found {found:?}; `schedule::karras` makes such a list"
    )]
    Schedule {
        /// The sigmas given.
        found: Vec<f32>,
    },
    /// Clips and noise levels do not pair up.
    #[error("{what}: expected one sigma for each of the {clips} clips, found {sigmas}")]
    SigmaCount {
        /// The function that refused.
        what: &'static str,
        /// How many clips there are.
        clips: usize,
        /// How many noise levels were given.
        sigmas: usize,
    },
    /// The observer asked to stop.
    #[error("stopped after step {done} of {steps}, as asked")]
    Stopped {
        /// Steps that were done.
        done: usize,
        /// Steps there would have been.
        steps: usize,
    },
}
