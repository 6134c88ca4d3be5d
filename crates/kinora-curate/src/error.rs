//! What can go wrong while curating.

use std::path::{Path, PathBuf};

/// What can go wrong while curating.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A video, picture, table or shard.
    #[error(transparent)]
    Media(#[from] kinora_media::Error),
    /// A network that judges.
    #[error(transparent)]
    Model(#[from] kinora_model::Error),
    /// An array.
    #[error(transparent)]
    Tensor(#[from] kinora_tensor::Error),
    /// A setting that makes no sense: what was expected, what was found, what to do.
    #[error("{0}")]
    Setting(String),
    /// A judge that lives outside this program (tesseract, an endpoint) and did not do its work.
    #[error("{judge}: {what}")]
    Judge {
        /// Its name.
        judge: &'static str,
        /// What happened and what to do.
        what: String,
    },
    /// A file that could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The user asked to stop; what was finished is kept.
    #[error("stopped; the same command goes on from here")]
    Stopped,
}

impl Error {
    /// A file that could not be read or written.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::File { path, source }
    }
}

/// What curating gives.
pub type Result<T> = std::result::Result<T, Error>;
