//! Which videos: folders, files and text lists become one sorted list, of which a slice can be done
//! on its own.

mod stores;

pub use stores::{Patience, Stores};

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Endings of a text list: one video, folder or address a line.
const LIST_ENDINGS: [&str; 2] = ["txt", "list"];

/// The inputs in the order of their names, each once. The name of a file is the path by which it
/// was reached; that of an object in a store is its address.
///
/// A folder gives every file in it and in the folders below, hidden ones excepted: what is no video
/// becomes a row that says so. `out` is passed over, so that a curation may lie among its videos.
///
/// # Errors
/// When a word names nothing, a folder or list cannot be read, nothing at all is found, or an
/// address is given to a build without the feature `cloud` or its store refuses.
pub fn find(words: &[String], out: &Path, stores: &Stores) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    let out = out.canonicalize().ok();
    for word in words {
        add_word(word, out.as_deref(), stores, &mut names)?;
    }
    if names.is_empty() {
        return Err(Error::Setting(format!(
            "{}: expected videos, found no file; give files, folders, or a .txt with a path a line",
            words.join(" ")
        )));
    }
    Ok(names.into_iter().collect())
}

fn add_word(
    word: &str,
    out: Option<&Path>,
    stores: &Stores,
    names: &mut BTreeSet<String>,
) -> Result<()> {
    if is_address(word) {
        names.extend(list_objects(stores, word)?);
        return Ok(());
    }
    let path = Path::new(word);
    let about = std::fs::metadata(path).map_err(Error::file(path))?;
    if about.is_dir() {
        return add_folder(path, out, names);
    }
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    if LIST_ENDINGS.contains(&ending.to_lowercase().as_str()) {
        let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
        return add_list(&text, path, out, stores, names);
    }
    names.insert(word.to_owned());
    Ok(())
}

/// A file named in a list need not be there: a missing one becomes a row, as a damaged one does.
fn add_list(
    text: &str,
    list: &Path,
    out: Option<&Path>,
    stores: &Stores,
    names: &mut BTreeSet<String>,
) -> Result<()> {
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if Path::new(line) == list {
            continue; // A list that names itself is read once.
        }
        if is_address(line) {
            let found = list_objects(stores, line)?;
            // Nothing of that name is a row, too.
            names.extend(found.is_empty().then(|| line.to_owned()));
            names.extend(found);
        } else if Path::new(line).is_dir() {
            add_folder(Path::new(line), out, names)?;
        } else {
            names.insert(line.to_owned());
        }
    }
    Ok(())
}

fn add_folder(folder: &Path, out: Option<&Path>, names: &mut BTreeSet<String>) -> Result<()> {
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        if out.is_some_and(|out| folder.canonicalize().is_ok_and(|folder| folder == out)) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(Error::file(&folder))? {
            let entry = entry.map_err(Error::file(&folder))?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            // A linked folder is not entered: it may lead back to where the search began.
            let kind = entry.file_type().map_err(Error::file(&folder))?;
            let path = entry.path();
            if kind.is_dir() {
                open.push(path);
            } else if !(kind.is_symlink() && path.is_dir()) {
                names.insert(name_of(&path)?);
            }
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::Setting(format!(
            "{}: expected a name in UTF-8, found other bytes, which a table cannot hold; rename the file",
            path.display()
        ))
    })
}

/// Whether a name is an address in an object store and no path.
pub fn is_address(name: &str) -> bool {
    name.starts_with("s3://") || name.starts_with("gs://")
}

#[cfg(feature = "cloud")]
use crate::cloud::list_as as list_objects;

#[cfg(not(feature = "cloud"))]
fn list_objects(_: &Stores, address: &str) -> Result<Vec<String>> {
    Err(files_only(address))
}

#[cfg(not(feature = "cloud"))]
fn files_only(address: &str) -> Error {
    Error::Setting(format!(
        "{address}: this build reads files only; build it with `cargo build --release --features cloud` for s3:// and gs://"
    ))
}

/// One slice of the inputs: those whose number leaves `index` when divided by `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Which slice, from zero.
    pub index: usize,
    /// How many slices there are.
    pub count: usize,
}

impl Slice {
    /// All inputs.
    pub const WHOLE: Slice = Slice { index: 0, count: 1 };

    /// Whether the input of this number is in the slice.
    pub fn holds(self, number: usize) -> bool {
        number % self.count == self.index
    }
}

impl std::str::FromStr for Slice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Slice, String> {
        let slice = text.split_once('/').and_then(|(index, count)| {
            let (index, count) = (index.parse().ok()?, count.parse().ok()?);
            (index < count).then_some(Slice { index, count })
        });
        slice.ok_or_else(|| {
            format!("expected i/n with i from 0 to n − 1, such as 0/4, found {text:?}")
        })
    }
}

impl std::fmt::Display for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// Where an input can be read on this machine.
#[derive(Debug)]
pub enum Local {
    /// In its place.
    File(PathBuf),
    /// Copied from an object store, until dropped.
    #[cfg(feature = "cloud")]
    Copy(crate::cloud::Copied),
}

impl Local {
    /// Makes an input readable here: an object is copied into `folder`.
    ///
    /// # Errors
    /// When an object cannot be fetched, or `stop` is raised.
    pub fn open(name: &str, stores: &Stores, folder: &Path, stop: &AtomicBool) -> Result<Local> {
        if !is_address(name) {
            return Ok(Local::File(PathBuf::from(name)));
        }
        #[cfg(feature = "cloud")]
        return crate::cloud::fetch_as(stores, name, folder, stop).map(Local::Copy);
        #[cfg(not(feature = "cloud"))]
        {
            let _ = (stores, folder, stop);
            Err(files_only(name))
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        match self {
            Local::File(path) => path,
            #[cfg(feature = "cloud")]
            Local::Copy(copy) => copy.path(),
        }
    }
}

impl Local {
    /// What tells the object that was copied from every other state of it, as [`identity`]; none for
    /// a file, and where the store does not say.
    pub fn state(&self) -> Option<&str> {
        match self {
            Local::File(_) => None,
            #[cfg(feature = "cloud")]
            Local::Copy(copy) => copy.state(),
        }
    }
}

/// What tells an object in a store from every other state of it without fetching it; none for a
/// file, and where the store does not say.
///
/// # Errors
/// When the store cannot be reached or refuses.
pub fn identity(name: &str, stores: &Stores) -> Result<Option<String>> {
    if !is_address(name) {
        return Ok(None);
    }
    #[cfg(feature = "cloud")]
    return crate::cloud::identity_as(stores, name);
    #[cfg(not(feature = "cloud"))]
    {
        let _ = stores;
        Err(files_only(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_files_and_lists_become_one_sorted_list() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::create_dir_all(folder.path().join("a/deep")).unwrap();
        std::fs::create_dir_all(folder.path().join("out")).unwrap();
        for name in [
            "a/2.mp4",
            "a/deep/1.webm",
            "a/.hidden",
            "b.mkv",
            "out/clip.mp4",
        ] {
            std::fs::write(at(name), b"").unwrap();
        }
        let list = format!(
            "{}\n\n  {}\n{}\n",
            at("b.mkv"),
            at("missing.mp4"),
            at("list.txt")
        );
        std::fs::write(at("list.txt"), list).unwrap();
        let out = folder.path().join("out");

        let found = find(
            &[at("list.txt"), at("b.mkv"), at("a")],
            &out,
            &Stores::default(),
        )
        .unwrap();
        assert_eq!(
            found,
            [
                at("a/2.mp4"),
                at("a/deep/1.webm"),
                at("b.mkv"),
                at("missing.mp4")
            ]
        );
        let root = folder.path().to_str().unwrap().to_owned();
        let all = find(&[root], &out, &Stores::default()).unwrap();
        assert!(all.iter().all(|name| !name.contains("/out/")), "{all:?}");
        assert!(find(&[at("nowhere")], &out, &Stores::default()).is_err());
        assert!(find(&[at("out")], &out, &Stores::default()).is_err());
    }

    #[test]
    fn slices_share_out_every_number_once() {
        let slices: Vec<Slice> = (0..3).map(|i| format!("{i}/3").parse().unwrap()).collect();
        for number in 0..10 {
            assert_eq!(slices.iter().filter(|slice| slice.holds(number)).count(), 1);
        }
        for wrong in ["3/3", "1", "a/2", "-1/2", "0/0"] {
            assert!(wrong.parse::<Slice>().is_err(), "{wrong}");
        }
        assert!(Slice::WHOLE.holds(7));
    }

    #[cfg(not(feature = "cloud"))]
    #[test]
    fn an_address_without_the_feature_says_how_to_get_it() {
        let refusal = find(
            &["s3://bucket/films".into()],
            Path::new("out"),
            &Stores::default(),
        )
        .unwrap_err();
        assert!(
            refusal.to_string().contains("--features cloud"),
            "{refusal}"
        );
    }
}
