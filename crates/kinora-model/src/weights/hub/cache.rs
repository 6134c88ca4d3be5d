//! The folder of downloaded models, in the layout that all of the hub's programs share:
//!
//! ```text
//! models--owner--name/blobs/ETAG                    the bytes, once
//!                     blobs/ETAG.incomplete         the bytes so far
//!                     snapshots/COMMIT/unet/file    a link to the bytes
//!                     refs/main                     the commit a branch stands at
//! ```

use super::Token;
use crate::{Error, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where the hub's programs keep what is theirs.
pub(super) fn home(variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(home) = variable("HF_HOME") {
        return Some(home.into());
    }
    let cache = match variable("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(variable("HOME").or_else(|| variable("USERPROFILE"))?).join(".cache"),
    };
    Some(cache.join("huggingface"))
}

/// Where they keep models.
pub(super) fn folder(variable: &dyn Fn(&str) -> Option<String>, home: &Path) -> PathBuf {
    let named = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE"));
    named.map_or_else(|| home.join("hub"), PathBuf::from)
}

/// The user's token: given, or left by logging in.
pub(super) fn token(variable: &dyn Fn(&str) -> Option<String>, home: &Path) -> Option<Token> {
    let given = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
    if let Some(token) = given {
        return Token::new(&token);
    }
    let file = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
    Token::new(&fs::read_to_string(file).ok()?)
}

/// One model in the cache.
#[derive(Debug)]
pub(super) struct Cache {
    model: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub(super) fn new(cache: &Path, repo: &str) -> Cache {
        let name = format!("models--{}", repo.replace('/', "--"));
        Cache {
            model: cache.join(&name),
            locks: cache.join(".locks").join(name),
        }
    }

    /// The folder of the model at a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.model.join("snapshots").join(commit)
    }

    /// The commit that a revision stood at when it was last downloaded.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        match fs::read_to_string(self.model.join("refs").join(revision)) {
            Ok(commit) => Some(commit.trim().to_owned()).filter(|commit| is_plain(commit)),
            // A commit is its own name.
            Err(_) => self
                .snapshot(revision)
                .is_dir()
                .then(|| revision.to_owned()),
        }
    }

    pub(super) fn set_commit(&self, revision: &str, commit: &str) -> Result<()> {
        let path = self.model.join("refs").join(revision);
        make_parent(&path)?;
        fs::write(&path, commit).map_err(|error| Error::io(&path, "write", error))
    }

    /// Where the bytes of an etag go, and where they are gathered until they are all there.
    pub(super) fn blob(&self, etag: &str) -> Result<(PathBuf, PathBuf)> {
        let path = self.model.join("blobs").join(etag);
        make_parent(&path)?;
        let incomplete = path.with_file_name(format!("{etag}.incomplete"));
        Ok((path, incomplete))
    }

    /// Keeps other programs from downloading the same bytes at the same time.
    pub(super) fn lock(&self, etag: &str) -> Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        make_parent(&path)?;
        let refused = |error| Error::io(&path, "lock", error);
        let file = File::create(&path).map_err(refused)?;
        file.lock().map_err(refused)?;
        Ok(file)
    }

    /// Makes `file` of a snapshot stand for a blob.
    pub(super) fn link(&self, snapshot: &Path, file: &str, etag: &str) -> Result<()> {
        let path = snapshot.join(file);
        make_parent(&path)?;
        // From the file's folder up to the model's, then down to the blobs; the cache may be moved.
        let ups = file.split('/').count() + 1;
        let target = Path::new(&"../".repeat(ups)).join("blobs").join(etag);
        let refused = |error| Error::io(&path, "link", error);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(refused(error)),
            _ => make_link(&target, &path).map_err(refused),
        }
    }
}

#[cfg(unix)]
fn make_link(target: &Path, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

/// Links need a privilege there, so the bytes are moved, as the hub's own programs do.
#[cfg(not(unix))]
fn make_link(target: &Path, path: &Path) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::rename(folder.join(target), path)
}

fn make_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, "create", error))
}

/// Whether a text that came from outside may be a file's name.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// The files of a snapshot, as paths in it.
pub(super) fn files_in(snapshot: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(snapshot.join(&folder)) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = format!("{folder}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push(format!("{name}/"));
            } else {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| {
            set.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn the_cache_is_where_the_hubs_programs_look() {
        let place = |set: &[(&str, &str)]| {
            let home = home(&env(set)).unwrap();
            folder(&env(set), &home).to_string_lossy().into_owned()
        };
        assert_eq!(
            place(&[("HOME", "/home/a")]),
            "/home/a/.cache/huggingface/hub"
        );
        assert_eq!(
            place(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]),
            "/c/huggingface/hub"
        );
        assert_eq!(place(&[("HOME", "/h"), ("HF_HOME", "/f")]), "/f/hub");
        assert_eq!(place(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/d")]), "/d");
        assert_eq!(home(&env(&[])), None);
    }

    #[test]
    fn the_token_is_given_or_was_left_by_logging_in() {
        let folder = tempfile::tempdir().unwrap();
        let found = |set: &[(&str, &str)]| token(&env(set), folder.path());
        assert_eq!(found(&[]), None);
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(found(&[]), Token::new("hf_file"));
        assert_eq!(found(&[("HF_TOKEN", "hf_given")]), Token::new("hf_given"));
        let other = folder.path().join("other");
        fs::write(&other, "hf_other").unwrap();
        let path = other.to_str().unwrap();
        assert_eq!(found(&[("HF_TOKEN_PATH", path)]), Token::new("hf_other"));
    }

    #[test]
    fn names_from_outside_stay_inside() {
        for name in ["", "..", ".a", "a/b", "a\\b", "a b", "a\0"] {
            assert!(!is_plain(name), "{name}");
        }
        assert!(is_plain("d3f1-abc.DEF_9"));
    }
}
