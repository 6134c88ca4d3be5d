//! Results that are kept, each at a key that says what it was made of and by whom: anything done once
//! is never done again, whoever died in between.

use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Who made a result: a judge of a step, its version, and everything that was set.
///
/// A change of code that changes results must raise the version; the parameters speak for themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maker {
    /// The step, which is also the folder of its results.
    pub step: String,
    /// The judge.
    pub id: String,
    /// The version of the code, of the program or of the weights.
    pub version: String,
    /// The first 8 hexadecimal digits of the hash of the parameters.
    pub parameters: String,
}

impl Maker {
    /// The maker of a step with these parameters, as JSON.
    pub fn new(step: &str, id: &str, version: &str, parameters: &str) -> Maker {
        Maker {
            step: step.to_owned(),
            id: id.to_owned(),
            version: version.to_owned(),
            parameters: hex(&Sha256::digest(parameters.as_bytes()))[..8].to_owned(),
        }
    }

    /// As it stands in the tables: `tesseract 1+5.3.0 5f3a0c21`.
    pub fn label(&self) -> String {
        format!("{} {} {}", self.id, self.version, self.parameters)
    }
}

/// Parameters as the text of which [`Maker::new`] takes the hash.
pub fn parameters_of(settings: &impl Serialize) -> String {
    serde_json::to_string(settings).expect("settings have a JSON form")
}

/// A folder of results.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache in a folder, which need not be there yet.
    pub fn new(folder: PathBuf) -> Cache {
        Cache { folder }
    }

    /// What `maker` made of the subject with this hash, if it is there and whole.
    pub fn get<T: DeserializeOwned>(&self, maker: &Maker, subject: &str) -> Option<T> {
        let bytes = std::fs::read(self.place(maker, subject)).ok()?;
        // A file that a failing disk cut short is as good as none.
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps what `maker` made of the subject with this hash.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put<T: Serialize>(&self, maker: &Maker, subject: &str, value: &T) -> Result<()> {
        let bytes = serde_json::to_vec(value).expect("results have a JSON form");
        write_whole(&self.place(maker, subject), &bytes)
    }

    /// A version may hold anything, so the folder has the hash of it.
    fn place(&self, maker: &Maker, subject: &str) -> PathBuf {
        let hash = key(&[&maker.id, &maker.version, &maker.parameters]);
        self.folder
            .join(&maker.step)
            .join(&hash[..16])
            .join(&subject[..2])
            .join(format!("{subject}.json"))
    }
}

/// Writes a file under a temporary name beside its place, making its folder, and renames it when it
/// is whole.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().expect("a kept file lies in a folder");
    std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
    let mut file = tempfile::Builder::new()
        .prefix(".kinora-")
        .suffix(".tmp")
        .tempfile_in(folder)
        .map_err(Error::file(folder))?;
    file.write_all(bytes).map_err(Error::file(path))?;
    make_readable(file.as_file()).map_err(Error::file(path))?;
    file.persist(path)
        .map_err(|failure| Error::file(path)(failure.error))?;
    Ok(())
}

/// The usual rights of a new file: a temporary one is its owner's alone.
fn make_readable(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    let _ = file;
    Ok(())
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first 32 hexadecimal digits of the SHA-256 of some parts, each closed by a zero byte so that
/// `ab, c` and `a, bc` differ.
pub fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize())[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn motion(version: &str, parameters: &str) -> Maker {
        Maker::new("motion", "farneback", version, parameters)
    }

    #[test]
    fn a_result_is_found_by_maker_version_parameters_and_subject_only() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        let maker = motion("1", "{}");
        cache.put(&maker, "aa01", &7).unwrap();
        assert_eq!(cache.get(&maker, "aa01"), Some(7));
        assert_eq!(cache.get::<i32>(&maker, "aa02"), None);
        for other in [
            motion("2", "{}"),
            motion("1", "{\"levels\":3}"),
            Maker::new("motion", "other", "1", "{}"),
            Maker::new("text", "farneback", "1", "{}"),
        ] {
            assert_eq!(cache.get::<i32>(&other, "aa01"), None, "{other:?}");
        }
    }

    #[test]
    fn a_cut_off_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_path_buf());
        let maker = motion("1", "{}");
        cache.put(&maker, "aa01", &vec![1, 2, 3]).unwrap();
        std::fs::write(cache.place(&maker, "aa01"), b"[1,2").unwrap();
        assert_eq!(cache.get::<Vec<i32>>(&maker, "aa01"), None);
    }

    #[test]
    fn numbers_survive_the_cache_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_path_buf());
        let maker = motion("1", "{}");
        // Steps of an odd size through the mantissa: a reader that is off by one unit in the last
        // place, as a fast one is, does not come through all of them.
        let values: Vec<f64> = (0..5000u64)
            .map(|i| f64::from_bits(0x3ff0_0000_0000_0000 + i * 0x0000_0003_1415_9265))
            .collect();
        cache.put(&maker, "aa01", &values).unwrap();
        let back: Vec<f64> = cache.get(&maker, "aa01").unwrap();
        let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
        assert!(back.iter().zip(&values).all(same));
    }

    #[test]
    fn parts_of_a_key_are_kept_apart() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_eq!(key(&["ab"]).len(), 32);
    }
}
