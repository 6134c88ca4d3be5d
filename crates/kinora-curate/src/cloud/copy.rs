//! An object as a file on this machine.

use super::refusal::refused;
use super::{Object, state_of};
use crate::sources::Stores;
use crate::{Error, Result};
use futures_util::StreamExt as _;
use object_store::{GetOptions, GetRange, GetResult};
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::{NamedTempFile, TempPath};

/// What has to come between two failures for a download to go on.
const PROGRESS_BYTES: u64 = 1 << 20;

/// A whole copy of an object, removed when dropped. A lock on it says that it is in use.
#[derive(Debug)]
pub struct Copied {
    path: TempPath,
    state: Option<String>,
    _lock: File,
}

impl Copied {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells the object that was copied from every other state of it.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// Copies an object under a temporary name, and gives it another when it is whole.
pub(super) async fn copied(
    object: &Object,
    stores: &Stores,
    address: &str,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<Copied> {
    std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
    let file = tempfile::Builder::new()
        .prefix(".kinora-")
        .suffix(".tmp")
        .tempfile_in(folder)
        .map_err(Error::file(folder))?;
    let mut copy = Copy { file, done: 0 };
    let refuse = refused(address, stores);
    let first = object.store.get_opts(&object.key, GetOptions::default());
    let mut answer = first.await.map_err(&refuse)?;
    let state = state_of(address, &answer.meta);
    let (size, tag) = (answer.meta.size, answer.meta.e_tag.clone());
    loop {
        let before = copy.done;
        let broken = match copy.take(answer, size, stop).await? {
            Ok(()) if copy.done == size => return copy.finish(object, folder, state),
            Ok(()) => None,
            Err(failure) => Some(failure),
        };
        // The library has asked again and again. It counts over the whole download, which may take
        // hours: as long as enough has come, it begins to count anew.
        let goes_on = tag.is_some() && copy.done < size && copy.done - before >= PROGRESS_BYTES;
        if !goes_on {
            return Err(broken.map_or_else(|| wrong_length(address, copy.done, size), &refuse));
        }
        let rest = GetOptions {
            range: Some(GetRange::Offset(copy.done)),
            if_match: tag.clone(),
            ..GetOptions::default()
        };
        let next = object.store.get_opts(&object.key, rest);
        answer = next.await.map_err(&refuse)?;
        if answer.meta.size != size || answer.meta.e_tag != tag {
            return Err(Error::Setting(format!(
                "{address}: it changed in the store while it was copied; run the same command again"
            )));
        }
    }
}

fn wrong_length(address: &str, found: u64, size: u64) -> Error {
    Error::Setting(format!(
        "{address}: expected {size} bytes, as the store says, found {found}; run the same command again"
    ))
}

/// A copy on its way.
struct Copy {
    file: NamedTempFile,
    done: u64,
}

impl Copy {
    /// Takes what comes; the outer failure ends the copy, the inner one is the store's.
    async fn take(
        &mut self,
        answer: GetResult,
        size: u64,
        stop: &AtomicBool,
    ) -> Result<std::result::Result<(), object_store::Error>> {
        let mut blocks = answer.into_stream();
        while let Some(block) = blocks.next().await {
            if stop.load(Ordering::SeqCst) {
                return Err(Error::Stopped);
            }
            let block = match block {
                Ok(block) => block,
                Err(failure) => return Ok(Err(failure)),
            };
            self.done += block.len() as u64;
            if self.done > size {
                break; // More than there is: the lengths do not agree.
            }
            let written = self.file.write_all(&block);
            written.map_err(Error::file(self.file.path()))?;
        }
        Ok(Ok(()))
    }

    fn finish(mut self, object: &Object, folder: &Path, state: Option<String>) -> Result<Copied> {
        let place = self.file.path().to_path_buf();
        let length = self
            .file
            .seek(SeekFrom::End(0))
            .map_err(Error::file(&place))?;
        assert_eq!(length, self.done, "every byte that came was written");
        let lock = self.file.reopen().map_err(Error::file(&place))?;
        lock.lock_shared().map_err(Error::file(&place))?;
        let stem = place.file_stem().unwrap_or_default().to_string_lossy();
        let stem = stem.trim_start_matches(".kinora-");
        let ending = object.key.extension().map(|ending| format!(".{ending}"));
        let whole = folder.join(format!("{stem}{}", ending.unwrap_or_default()));
        let kept = self.file.persist(&whole);
        kept.map_err(|failure| Error::file(&whole)(failure.error))?;
        Ok(Copied {
            path: TempPath::try_from_path(&whole).map_err(Error::file(&whole))?,
            state,
            _lock: lock,
        })
    }
}
