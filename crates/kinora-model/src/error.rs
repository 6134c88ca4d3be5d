//! What can go wrong with a network or its weights, told so that the reader can mend it.

use std::path::{Path, PathBuf};

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a network could not be built, loaded, saved or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation refused its operands.
    #[error(transparent)]
    Tensor(#[from] kinora_tensor::Error),
    /// An equation or a sampler refused.
    #[error(transparent)]
    Diffusion(kinora_diffusion::Error),
    /// The observer asked to stop.
    #[error("stopped while {during}, as asked")]
    Stopped {
        /// What was being done.
        during: &'static str,
    },
    /// The file system refused.
    #[error("{}: could not {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as a verb: `open`, `read`, `write`.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what its name or place promises.
    #[error("{}: {message}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was expected, what was found, and what to do.
        message: String,
    },
    /// A network needs an array that the weights do not have.
    #[error("{}: `{name}` is missing; {remedy}", file.display())]
    Missing {
        /// The array's name, as that file would spell it.
        name: String,
        /// The file or folder searched.
        file: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// An array has another shape than the network needs.
    #[error("{}: `{name}`: expected {expected:?}, found {found:?}; {remedy}", file.display())]
    WrongShape {
        /// The array's name, as that file spells it.
        name: String,
        /// The file that holds it.
        file: PathBuf,
        /// The extents the network needs, in the file's order of axes.
        expected: Vec<usize>,
        /// The extents the file has.
        found: Vec<usize>,
        /// What to do.
        remedy: String,
    },
    /// The weights hold arrays that no part of the network took.
    #[error("{}: {count} arrays belong to no part of the network, the first is `{name}`; {remedy}", file.display())]
    Unused {
        /// The first array left over, as that file spells it.
        name: String,
        /// How many are left over.
        count: usize,
        /// The file that holds the first.
        file: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// An array holds values no trained network has.
    #[error("{}: `{name}`: {count} of {elements} values are not finite (the first, at {index}, is {value}); {remedy}", file.display())]
    NotFinite {
        /// The array's name, as that file spells it.
        name: String,
        /// The file that holds it.
        file: PathBuf,
        /// How many values are NaN or infinite.
        count: usize,
        /// How many values there are.
        elements: usize,
        /// Where the first one is, counted from 0 in the file's order.
        index: usize,
        /// The first one.
        value: f32,
        /// What to do.
        remedy: String,
    },
    /// The hub did not give a model.
    #[error("{id}: {message}")]
    Hub {
        /// The model, as it was asked for.
        id: String,
        /// What happened and what to do.
        message: String,
    },
    /// A network's settings contradict each other or ask for what is not built.
    #[error("{network}: {message}")]
    Config {
        /// Which network.
        network: &'static str,
        /// What was expected, what was found, and what to do.
        message: String,
    },
    /// An argument is outside what a function can do.
    #[error("{what}: {message}")]
    Argument {
        /// The function or the argument.
        what: &'static str,
        /// What was expected, what was found, and what to do.
        message: String,
    },
}

impl From<kinora_diffusion::Error> for Error {
    fn from(error: kinora_diffusion::Error) -> Self {
        match error {
            kinora_diffusion::Error::Tensor(error) => Error::Tensor(error),
            kinora_diffusion::Error::Stopped { .. } => Error::Stopped {
                during: "denoising",
            },
            other => Error::Diffusion(other),
        }
    }
}

impl Error {
    /// An error of the file system.
    pub fn io(path: impl AsRef<Path>, action: &'static str, source: std::io::Error) -> Self {
        Error::Io {
            path: path.as_ref().to_owned(),
            action,
            source,
        }
    }

    /// A file that is not what it should be.
    pub fn file(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::File {
            path: path.as_ref().to_owned(),
            message: message.into(),
        }
    }

    /// Settings that cannot be.
    pub fn config(network: &'static str, message: impl Into<String>) -> Self {
        Error::Config {
            network,
            message: message.into(),
        }
    }

    /// An argument that cannot be.
    pub fn argument(what: &'static str, message: impl Into<String>) -> Self {
        Error::Argument {
            what,
            message: message.into(),
        }
    }
}
