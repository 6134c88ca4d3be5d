//! What can go wrong between a file and frames in memory, told so that the reader can mend it.

use std::path::{Path, PathBuf};

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a picture or a video could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{}: could not {action}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or folder it was done to.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is not a picture that can be read.
    #[error("{}: {message}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A file is not a video that can be read.
    #[error("{}: {message}", path.display())]
    Video {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A file is not a table that can be read.
    #[error("{}: {message}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A file is not a shard that can be read.
    #[error("{}: {message}", path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A program that this crate runs is not installed.
    #[error(
        "`{program}` was not found; videos are read and written with ffmpeg: install it with `apt-get install ffmpeg` (Debian, Ubuntu) or `brew install ffmpeg` (macOS), so that `ffmpeg` and `ffprobe` are on the PATH"
    )]
    ToolMissing {
        /// The program's name.
        program: String,
    },
    /// A program that this crate runs has failed.
    #[error("{}: {program} failed ({status}): {words}", path.display())]
    Tool {
        /// The program's name.
        program: String,
        /// The file it worked on.
        path: PathBuf,
        /// How it ended.
        status: String,
        /// What it said, shortened.
        words: String,
    },
    /// A program that this crate runs took too long and was ended.
    #[error(
        "{}: {program} gave nothing within {limit_secs:.0} s of waiting and was ended; the file may be damaged, or the time limit too short for it", path.display()
    )]
    TimedOut {
        /// The program's name.
        program: String,
        /// The file it worked on.
        path: PathBuf,
        /// The time it was given, seconds.
        limit_secs: f64,
    },
    /// A frame has another size than its video.
    #[error("{}: expected frames of {expected}, found {found}", path.display())]
    FrameSize {
        /// The output.
        path: PathBuf,
        /// The size of the video.
        expected: String,
        /// The size of the frame.
        found: String,
    },
    /// An output cannot be made as asked.
    #[error("{}: {message}", path.display())]
    Output {
        /// The output.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// An argument is outside what can be done.
    #[error("{what}: {message}")]
    Argument {
        /// The argument.
        what: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

impl Error {
    /// The same failure told of another path: the one the user gave, where the file has a temporary
    /// name.
    pub(crate) fn about(self, path: &Path) -> Error {
        let path = path.to_path_buf();
        match self {
            Error::Io { action, source, .. } => Error::Io {
                action,
                path,
                source,
            },
            Error::Output { message, .. } => Error::Output { path, message },
            other => other,
        }
    }

    /// The same failure, told of `to` where it is told of `from`.
    pub(crate) fn renamed(mut self, from: &Path, to: &Path) -> Error {
        let path = match &mut self {
            Error::Io { path, .. }
            | Error::Picture { path, .. }
            | Error::Video { path, .. }
            | Error::Table { path, .. }
            | Error::Shard { path, .. }
            | Error::Tool { path, .. }
            | Error::TimedOut { path, .. }
            | Error::FrameSize { path, .. }
            | Error::Output { path, .. } => path,
            Error::ToolMissing { .. } | Error::Argument { .. } => return self,
        };
        if path == from {
            *path = to.to_path_buf();
        }
        self
    }

    /// An operating-system error with what was being done to which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    }

    /// A refusal of a picture file.
    pub(crate) fn picture(path: &Path, message: impl Into<String>) -> Error {
        Error::Picture {
            path: path.to_path_buf(),
            message: message.into(),
        }
    }

    /// A refusal of a video file.
    pub(crate) fn video(path: &Path, message: impl Into<String>) -> Error {
        Error::Video {
            path: path.to_path_buf(),
            message: message.into(),
        }
    }

    /// A refusal of a table.
    pub(crate) fn table(path: &Path, message: impl Into<String>) -> Error {
        Error::Table {
            path: path.to_path_buf(),
            message: message.into(),
        }
    }

    /// A refusal of a shard.
    pub(crate) fn shard(path: &Path, message: impl Into<String>) -> Error {
        Error::Shard {
            path: path.to_path_buf(),
            message: message.into(),
        }
    }

    /// A refusal of an output.
    pub(crate) fn output(path: &Path, message: impl Into<String>) -> Error {
        Error::Output {
            path: path.to_path_buf(),
            message: message.into(),
        }
    }

    /// A refusal of an argument.
    pub(crate) fn argument(what: &'static str, message: impl Into<String>) -> Error {
        Error::Argument {
            what,
            message: message.into(),
        }
    }
}
