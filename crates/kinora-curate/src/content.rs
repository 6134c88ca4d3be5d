//! The hash of a file's bytes: the same video under another name, or on another machine, is known.

use crate::cache::{Cache, Maker, hex, key};
use crate::{Error, Result};
use sha2::{Digest as _, Sha256};
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file changed less than this ago may change again without its time changing.
const SETTLED: Duration = Duration::from_secs(2);

/// Bytes read at a time.
const BLOCK: usize = 1 << 18;

/// SHA-256 of a file's bytes, 64 hexadecimal digits.
///
/// # Errors
/// When it cannot be read.
pub fn hash(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::file(path))?;
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block).map_err(Error::file(path))? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&block[..read]),
        }
    }
}

/// [`hash`], remembered by the file's place, size and time of change: a second run over a large
/// folder need not read it all again.
///
/// # Errors
/// As [`hash`], and when the cache cannot be written.
pub fn remembered_hash(path: &Path, cache: &Cache) -> Result<String> {
    let about = std::fs::metadata(path).map_err(Error::file(path))?;
    if !about.is_file() {
        // Reading a pipe or a device could wait for ever.
        return Err(kinora_media::Error::Video {
            path: path.to_path_buf(),
            message: "this is no ordinary file; give a video file".into(),
        }
        .into());
    }
    let maker = Maker::new("content", "sha256", "1", "");
    let Some(seen) = identity(path, &about) else {
        return hash(path);
    };
    if let Some(known) = cache.get(&maker, &seen) {
        return Ok(known);
    }
    let content = hash(path)?;
    cache.put(&maker, &seen, &content)?;
    Ok(content)
}

/// What tells a file from every other state of it; none while it may still be changing.
fn identity(path: &Path, about: &Metadata) -> Option<String> {
    let changed = about.modified().ok()?;
    if SystemTime::now().duration_since(changed).ok()? < SETTLED {
        return None;
    }
    let nanos = changed.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let place = path.canonicalize().ok()?;
    Some(key(&[
        place.to_str()?,
        &about.len().to_string(),
        &nanos.as_nanos().to_string(),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_the_bytes_and_follows_them() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        let path = folder.path().join("a.mp4");
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        let write = |bytes: &[u8], seconds: u64| {
            std::fs::write(&path, bytes).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(long_ago + Duration::from_secs(seconds))
                .unwrap();
        };
        write(b"abc", 0);
        // FIPS 180-4's own example.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(remembered_hash(&path, &cache).unwrap(), abc);
        assert_eq!(remembered_hash(&path, &cache).unwrap(), abc);
        write(b"abd", 1);
        let changed = remembered_hash(&path, &cache).unwrap();
        assert_eq!(changed, hash(&path).unwrap());
        assert_ne!(changed, abc);
    }

    #[test]
    fn a_file_that_may_still_change_is_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        let path = folder.path().join("a.mp4");
        let stamp = SystemTime::now();
        for bytes in [b"one", b"two"] {
            std::fs::write(&path, bytes).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(stamp).unwrap();
            assert_eq!(
                remembered_hash(&path, &cache).unwrap(),
                hash(&path).unwrap()
            );
        }
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        assert!(remembered_hash(folder.path(), &cache).is_err());
        assert!(remembered_hash(Path::new("/dev/zero"), &cache).is_err());
    }
}
