//! Outputs that appear whole or not at all: written to a temporary name beside the target, renamed
//! when finished, removed when dropped before that.

use crate::error::{Error, Result};
use crate::video::end_all_processes;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::{Builder, TempDir, TempPath};

/// Temporary names start so; a leading dot keeps them out of listings.
const PREFIX: &str = ".kinora-";
/// Temporary names end so, and `.gitignore` knows it.
const SUFFIX: &str = ".tmp";

/// Whether a file or folder of this name is a half-written output: of this process, of another that is at
/// work, or of one that was killed.
pub fn is_unfinished(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(PREFIX.as_bytes()) && name.ends_with(SUFFIX.as_bytes())
}

/// Every temporary file and folder of this process, so that one who ends the process at once can
/// remove them first: an exit runs no `drop`.
static LISTED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn listed() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LISTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what this process has half written and ends the encoders and decoders it runs, for a
/// process that is about to exit at once. Every later attempt to begin an output waits for ever, so
/// that nothing is begun between this call and the exit.
pub fn remove_unfinished() {
    let listed = listed();
    // The programs first: one that has not opened its output yet would make it anew.
    end_all_processes();
    for path in listed.iter() {
        // One of the two is the right call, and there is nobody left to tell of a failure.
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_dir_all(path);
    }
    std::mem::forget(listed);
}

/// A place in the list, left when dropped.
#[derive(Debug)]
struct Listing(PathBuf);

impl Drop for Listing {
    fn drop(&mut self) {
        listed().remove(&self.0);
    }
}

/// Makes a temporary entry of these rights beside `target` with `make` and lists it. They are the usual
/// ones of a new file or folder: `tempfile` alone would keep it to its owner.
fn make_listed<T: AsRef<Path>>(
    target: &Path,
    action: &'static str,
    rights: u32,
    make: impl FnOnce(&Builder<'_, '_>, &Path) -> std::io::Result<T>,
) -> Result<(Listing, T)> {
    let folder = folder_of(target)?;
    let mut builder = Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    builder.permissions(Permissions::from_mode(rights));
    let mut listed = listed();
    let made = make(&builder, folder).map_err(Error::io(action, target))?;
    listed.insert(made.as_ref().to_path_buf());
    Ok((Listing(made.as_ref().to_path_buf()), made))
}

/// A file on its way to `target`.
#[derive(Debug)]
pub(crate) struct UnfinishedFile {
    temporary: TempPath,
    listing: Listing,
    target: PathBuf,
}

impl UnfinishedFile {
    /// Opens a temporary file beside `target`.
    pub fn create(target: &Path) -> Result<(UnfinishedFile, File)> {
        check_file(target)?;
        let (listing, temporary) =
            make_listed(target, "create a file beside", 0o666, |builder, folder| {
                builder.tempfile_in(folder)
            })?;
        let (file, temporary) = temporary.into_parts();
        let unfinished = UnfinishedFile {
            temporary,
            listing,
            target: target.to_path_buf(),
        };
        Ok((unfinished, file))
    }

    /// The temporary name.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Gives the file its name, replacing what was there.
    pub fn finish(self) -> Result<()> {
        let UnfinishedFile {
            temporary,
            listing,
            target,
        } = self;
        let renamed = temporary
            .persist(&target)
            .map_err(|failure| Error::io("rename to", &target)(failure.error));
        drop(listing); // only now: until it has its name it is to be removed
        renamed
    }
}

/// Writes a whole file under its name in one go.
pub(crate) fn write_whole(target: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let (unfinished, mut file) = UnfinishedFile::create(target)?;
    file.write_all(bytes).map_err(Error::io("write", target))?;
    drop(file);
    unfinished.finish()
}

/// A folder on its way to `target`.
#[derive(Debug)]
pub(crate) struct UnfinishedFolder {
    temporary: TempDir,
    listing: Listing,
    target: PathBuf,
    replaceable: fn(&OsStr) -> bool,
}

impl UnfinishedFolder {
    /// Opens a temporary folder beside `target`. An existing target is replaced only when it holds
    /// nothing but files whose names are `replaceable`: a mistyped name must not cost anybody a
    /// folder.
    pub fn create(target: &Path, replaceable: fn(&OsStr) -> bool) -> Result<UnfinishedFolder> {
        check_replaceable(target, replaceable)?;
        let (listing, temporary) = make_listed(
            target,
            "create a folder beside",
            0o777,
            |builder, folder| builder.tempdir_in(folder),
        )?;
        Ok(UnfinishedFolder {
            temporary,
            listing,
            target: target.to_path_buf(),
            replaceable,
        })
    }

    /// The temporary name.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the folder its name, replacing what was there.
    pub fn finish(self) -> Result<()> {
        check_replaceable(&self.target, self.replaceable)?;
        // An exit at once waits for this moment to pass.
        let listed = listed();
        // What was there steps aside by a rename and is removed afterwards: removing it first would
        // leave a moment, long for a large folder, in which there is neither.
        let aside = Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .tempdir_in(folder_of(&self.target)?)
            .map_err(Error::io("create a folder beside", &self.target))?;
        if self.target.exists() {
            std::fs::rename(&self.target, aside.path().join("old"))
                .map_err(Error::io("replace", &self.target))?;
        }
        std::fs::rename(self.temporary.path(), &self.target)
            .map_err(Error::io("rename to", &self.target))?;
        drop(aside);
        drop(listed);
        drop(self.listing);
        let _ = self.temporary.keep(); // it has its name: nothing is left to remove
        Ok(())
    }
}

/// Refuses a place where no file can be.
pub(crate) fn check_file(target: &Path) -> Result<()> {
    if target.is_dir() {
        return Err(Error::output(
            target,
            "a folder of that name is in the way; choose another name",
        ));
    }
    folder_of(target).map(drop)
}

/// Refuses a place where no folder can be.
pub(crate) fn check_folder(target: &Path, replaceable: fn(&OsStr) -> bool) -> Result<()> {
    check_replaceable(target, replaceable)?;
    folder_of(target).map(drop)
}

/// Refuses a target whose content is not ours to replace.
fn check_replaceable(target: &Path, replaceable: fn(&OsStr) -> bool) -> Result<()> {
    if !target.exists() {
        return Ok(());
    }
    if !target.is_dir() {
        return Err(Error::output(
            target,
            "a file of that name is in the way of a folder of frames; choose another name",
        ));
    }
    for entry in std::fs::read_dir(target).map_err(Error::io("list", target))? {
        let name = entry.map_err(Error::io("list", target))?.file_name();
        if !replaceable(&name) {
            return Err(Error::output(
                target,
                format!(
                    "the folder exists and holds {name:?}, which is not a frame; choose another folder"
                ),
            ));
        }
    }
    Ok(())
}

/// The folder a target lies in, which must exist.
fn folder_of(target: &Path) -> Result<&Path> {
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if target.file_name().is_none() {
        return Err(Error::output(
            target,
            "this names no file; give a file name",
        ));
    }
    if folder.exists() && !folder.is_dir() {
        return Err(Error::output(
            target,
            format!(
                "{} is a file, not a folder; choose another place",
                folder.display()
            ),
        ));
    }
    if !folder.is_dir() {
        return Err(Error::output(
            target,
            format!(
                "the folder {} does not exist; create it first",
                folder.display()
            ),
        ));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_dropped_file_leaves_nothing_and_a_finished_one_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.bin");
        drop(UnfinishedFile::create(&target).unwrap());
        assert!(names(folder.path()).is_empty());
        write_whole(&target, b"one").unwrap();
        write_whole(&target, b"two").unwrap();
        assert_eq!(names(folder.path()), ["a.bin"]);
        assert_eq!(std::fs::read(&target).unwrap(), b"two");
        let plain = folder.path().join("plain");
        std::fs::write(&plain, b"").unwrap();
        let rights = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(rights(&target), rights(&plain));
    }

    #[test]
    fn a_folder_with_other_things_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("out");
        let ours: fn(&OsStr) -> bool = |name| name == "ours";
        for _ in 0..2 {
            let unfinished = UnfinishedFolder::create(&target, ours).unwrap();
            std::fs::write(unfinished.path().join("ours"), b"").unwrap();
            unfinished.finish().unwrap();
            assert_eq!(names(&target), ["ours"]);
        }
        std::fs::write(target.join("thesis.tex"), b"").unwrap();
        let refusal = UnfinishedFolder::create(&target, ours).unwrap_err();
        assert!(refusal.to_string().contains("thesis.tex"), "{refusal}");
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let refusal = write_whole(Path::new("/no/such/folder/a.png"), b"").unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains("/no/such/folder does not exist"),
            "{refusal}"
        );
        assert!(write_whole(Path::new("/"), b"").is_err());
        let refusal = write_whole(Path::new("/dev/null/a.png"), b"").unwrap_err();
        assert!(refusal.to_string().contains("is a file"), "{refusal}");
    }
}
