//! The videos of a folder.

use crate::error::{Error, Result};
use crate::video::{VideoInfo, probe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A video that can be read.
#[derive(Clone, Debug)]
pub struct VideoFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it says of itself.
    pub info: VideoInfo,
}

/// A file that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Why it is left out.
    pub reason: String,
}

impl SkippedFile {
    /// The failure in words, without the path that every failure starts with.
    pub(super) fn new(path: PathBuf, failure: &Error) -> SkippedFile {
        let text = failure.to_string();
        let named = format!("{}: ", path.display());
        SkippedFile {
            reason: text.strip_prefix(&named).unwrap_or(&text).to_owned(),
            path,
        }
    }
}

/// The files of a folder and of the folders in it, in order of their paths.
#[derive(Clone, Debug)]
pub struct VideoFolder {
    /// Those that can be read.
    pub videos: Vec<VideoFile>,
    /// The others, with the reason.
    pub skipped: Vec<SkippedFile>,
}

impl VideoFolder {
    /// Finds and probes every file, on all cores. Hidden files and folders are passed over.
    ///
    /// # Errors
    /// When the folder cannot be listed, holds no file at all, or ffprobe is not installed. A file that
    /// is no video is no error: it is in `skipped`.
    pub fn open(folder: &Path) -> Result<VideoFolder> {
        let mut paths = Vec::new();
        list_files(folder, &mut paths)?;
        paths.sort();
        if paths.is_empty() {
            return Err(Error::video(
                folder,
                "the folder holds no files; give one with videos",
            ));
        }
        let (mut videos, mut skipped) = (Vec::new(), Vec::new());
        for (path, outcome) in paths.iter().zip(on_all_cores(&paths, |path| probe(path))) {
            let path = path.clone();
            match outcome {
                Ok(info) => videos.push(VideoFile { path, info }),
                Err(missing @ Error::ToolMissing { .. }) => return Err(missing),
                Err(failure) => skipped.push(SkippedFile::new(path, &failure)),
            }
        }
        Ok(VideoFolder { videos, skipped })
    }
}

fn list_files(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // A linked folder is not entered: it may lead back to where the search began.
        let is_folder = entry
            .file_type()
            .map_err(Error::io("list", folder))?
            .is_dir();
        if is_folder {
            list_files(&entry.path(), paths)?;
        } else {
            paths.push(entry.path());
        }
    }
    Ok(())
}

/// Does something for each item on all cores; results in the order of the items.
pub(super) fn on_all_cores<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get());
    let mut results: Vec<(usize, T)> = std::thread::scope(|scope| {
        let one = || {
            let mut results = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                match items.get(index) {
                    Some(item) => results.push((index, work(item))),
                    None => return results,
                }
            }
        };
        let threads: Vec<_> = (0..workers.min(items.len()))
            .map(|_| scope.spawn(one))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<(usize, T)>>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
