//! What can go wrong with an array, told so that the reader can mend it.

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation refused its operands.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two shapes do not go together.
    #[error("{op}: expected {expected}, found {found}")]
    Shape {
        /// The operation that refused.
        op: &'static str,
        /// The shape that would have been accepted.
        expected: String,
        /// The shape that was given.
        found: String,
    },
    /// An array has an element type that the operation does not take.
    #[error("{op}: expected {expected} elements, found {found}; cast the array first")]
    DType {
        /// The operation that refused.
        op: &'static str,
        /// The element type that would have been accepted.
        expected: crate::DType,
        /// The element type that was given.
        found: crate::DType,
    },
    /// The number of values does not fill the shape.
    #[error("{found} values do not fill the shape {shape:?}, which holds {expected}")]
    Length {
        /// The shape asked for.
        shape: Vec<usize>,
        /// How many values it holds.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// `backward` was asked of an array that no tracked array leads to.
    #[error(
        "backward: this array does not depend on any tracked array; mark the parameters with `tracked()` and compute it outside `no_grad`"
    )]
    NotTracked,
    /// The operands lie on different devices.
    #[error(
        "{op}: one array lies on {first}, another on {other}; bring them together with `to_device`"
    )]
    Devices {
        /// The operation that refused.
        op: &'static str,
        /// Where the first operand lies.
        first: crate::Device,
        /// Where another lies.
        other: crate::Device,
    },
    /// A device cannot be used, or failed at work.
    #[error("{device}: {message}")]
    Device {
        /// The device.
        device: crate::Device,
        /// What went wrong and what to do.
        message: String,
    },
    /// An argument is outside what the operation can do.
    #[error("{op}: {message}")]
    Argument {
        /// The operation that refused.
        op: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

impl Error {
    /// A shape error in words.
    pub fn shape(op: &'static str, expected: impl Into<String>, found: &[usize]) -> Self {
        Error::Shape {
            op,
            expected: expected.into(),
            found: format!("{found:?}"),
        }
    }

    /// An argument error in words.
    pub fn argument(op: &'static str, message: impl Into<String>) -> Self {
        Error::Argument {
            op,
            message: message.into(),
        }
    }
}
