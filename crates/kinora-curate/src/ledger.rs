//! The folder of a curation: what is to be done, what is done, what it cost.
//!
//! ```text
//! DIR/clips.parquet cuts.parquet sources.parquet motion_law.json costs.json    published, each whole
//! DIR/clips/3f/3f9c….mp4                                                       the clips
//! DIR/ledger/inputs.json curate.toml makers.json                               what is to be done
//! DIR/ledger/results/a7/a7….json                                               one for each input
//! DIR/ledger/costs/  DIR/ledger/cache/                                         for the next run
//! DIR/ledger/fetched/                                                          objects of stores, while in use
//! ```
//!
//! Every name follows from what the file holds, so that any number of programs on any number of
//! machines may work in one folder: those that do the same write the same.

use crate::annotate::Annotation;
use crate::cache::{Cache, key, write_whole};
use crate::config::Config;
use crate::cost::Costs;
use crate::makers::Makers;
use crate::sources::Slice;
use crate::{Error, Result};
use kinora_media::is_unfinished;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A half-written file that nobody has touched for so long belongs to a run that is no more.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// The folder of a curation.
#[derive(Clone, Debug)]
pub struct Ledger {
    folder: PathBuf,
}

impl Ledger {
    /// The ledger in a folder, which need not be there yet.
    pub fn new(folder: &Path) -> Ledger {
        Ledger {
            folder: folder.to_path_buf(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is kept between runs.
    pub fn cache(&self) -> Cache {
        Cache::new(self.entry("cache"))
    }

    /// Where objects of stores are while they are worked on.
    pub fn fetched(&self) -> PathBuf {
        self.entry("fetched")
    }

    /// Writes down what is to be done. A whole run may change the list, the settings and the judges; a
    /// slice may not, since its sisters may be at work on the old ones.
    ///
    /// # Errors
    /// When a slice finds others than its sisters, or a file cannot be written.
    pub fn begin(
        &self,
        names: &[String],
        config: &Config,
        makers: &Makers,
        slice: Slice,
    ) -> Result<()> {
        let (inputs, settings) = (self.entry("inputs.json"), self.entry("curate.toml"));
        let judges = self.entry("makers.json");
        if slice != Slice::WHOLE {
            let known: Option<Vec<String>> = read_json(&inputs)?;
            agree(&inputs, known.is_none_or(|known| known == names), "videos")?;
            let known: Option<Makers> = read_json(&judges)?;
            let same = known.is_none_or(|known| known == *makers);
            agree(&judges, same, "--config, programs and weights")?;
        }
        write_json(&inputs, &names)?;
        write_json(&judges, makers)?;
        write_whole(&settings, config.to_toml().as_bytes())
    }

    /// Changes the settings that decide what is taken of the clips, and not what is made of the videos.
    ///
    /// # Errors
    /// When no run has begun here, or the file cannot be written.
    pub fn choose(&self, config: &Config) -> Result<Config> {
        let mut kept = self.config()?;
        kept.filter.clone_from(&config.filter);
        kept.shards.clone_from(&config.shards);
        write_whole(&self.entry("curate.toml"), kept.to_toml().as_bytes())?;
        Ok(kept)
    }

    /// All inputs, in the order of their names.
    ///
    /// # Errors
    /// When no run has begun here.
    pub fn inputs(&self) -> Result<Vec<String>> {
        let place = self.entry("inputs.json");
        read_json(&place)?.ok_or_else(|| self.not_begun(&place))
    }

    /// The settings the results were made with.
    ///
    /// # Errors
    /// When no run has begun here, or the file was damaged.
    pub fn config(&self) -> Result<Config> {
        let place = self.entry("curate.toml");
        if !place.exists() {
            return Err(self.not_begun(&place));
        }
        Config::read(&place)
    }

    /// Who makes each column.
    ///
    /// # Errors
    /// When no run has begun here.
    pub fn makers(&self) -> Result<Makers> {
        let place = self.entry("makers.json");
        read_json(&place)?.ok_or_else(|| self.not_begun(&place))
    }

    fn not_begun(&self, place: &Path) -> Error {
        Error::Setting(format!(
            "{}: not found; {} is no folder of a curation: run `kinora curate VIDEOS --config FILE --out {}` first",
            place.display(),
            self.folder.display(),
            self.folder.display()
        ))
    }

    /// What was made of an input, if it is there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn result(&self, name: &str) -> Result<Option<Annotation>> {
        let result: Option<Annotation> = read_json(&self.place("results", name))?;
        Ok(result.filter(|result| result.source.source == name))
    }

    /// Keeps what was made of an input.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_result(&self, result: &Annotation) -> Result<()> {
        write_json(&self.place("results", &result.source.source), result)
    }

    /// What an input has cost, by step.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn costs(&self, name: &str) -> Result<Costs> {
        Ok(read_json(&self.place("costs", name))?.unwrap_or_default())
    }

    /// Keeps what the steps done now have cost.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_costs(&self, name: &str, newer: &Costs) -> Result<()> {
        let mut costs = self.costs(name)?;
        costs.replace(newer);
        write_json(&self.place("costs", name), &costs)
    }

    /// Removes what killed runs left half written, where it has lain for an hour: a younger file may be
    /// some other run's at work.
    ///
    /// # Errors
    /// When a folder cannot be listed or a file not be removed.
    pub fn sweep(&self) -> Result<()> {
        let mut open = vec![self.folder.clone()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder).map_err(Error::file(&folder))? {
                let entry = entry.map_err(Error::file(&folder))?;
                let (path, name) = (entry.path(), entry.file_name());
                let is_folder = entry.file_type().map_err(Error::file(&path))?.is_dir();
                if folder == self.fetched() {
                    // Whole or not, it is of no use to another run, once nobody holds its lock.
                    if is_left_over(&entry) && is_free(&path)? {
                        std::fs::remove_file(&path).map_err(Error::file(&path))?;
                    }
                } else if !is_unfinished(&name) {
                    open.extend(is_folder.then_some(path));
                } else if is_left_over(&entry) {
                    let removed = match is_folder {
                        true => std::fs::remove_dir_all(&path),
                        false => std::fs::remove_file(&path),
                    };
                    removed.map_err(Error::file(&path))?;
                }
            }
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> PathBuf {
        self.folder.join("ledger").join(name)
    }

    fn place(&self, kind: &str, name: &str) -> PathBuf {
        let key = key(&[name]);
        let place = self.entry(kind).join(&key[..2]);
        place.join(format!("{key}.json"))
    }
}

/// Whether nobody has written to a file for an hour.
fn is_left_over(entry: &std::fs::DirEntry) -> bool {
    let age = entry.metadata().and_then(|about| about.modified());
    age.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LEFT_OVER))
}

/// Whether no process holds the lock of a file.
fn is_free(path: &Path) -> Result<bool> {
    match std::fs::File::open(path) {
        Ok(file) => Ok(file.try_lock().is_ok()),
        Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(failure) => Err(Error::file(path)(failure)),
    }
}

/// Refuses a slice that would do something else than its sisters.
fn agree(place: &Path, same: bool, what: &str) -> Result<()> {
    if same {
        return Ok(());
    }
    Err(Error::Setting(format!(
        "{}: expected what the other slices have written there, found something else to do; give all slices the same {what}, or delete this file to begin anew",
        place.display()
    )))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).expect("kept values have a JSON form");
    write_whole(path, &bytes)
}

/// Nothing where the file is not there, or was cut short by a failing disk.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(failure) if failure.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(failure) => Err(Error::file(path)(failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::SystemTime;

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("clips/3f/.kinora-x.tmp")).unwrap();
        let long_ago = SystemTime::now() - 2 * LEFT_OVER;
        for (name, time) in [
            ("clips/3f/.kinora-old.tmp", long_ago),
            ("clips/3f/.kinora-new.tmp", SystemTime::now()),
            ("clips/3f/3f00.mp4", long_ago),
            ("clips/3f/.hidden", long_ago),
        ] {
            File::create(at(name)).unwrap().set_modified(time).unwrap();
        }
        let half = File::open(at("clips/3f/.kinora-x.tmp")).unwrap();
        half.set_modified(long_ago).unwrap();
        Ledger::new(folder.path()).sweep().unwrap();
        assert!(!at("clips/3f/.kinora-old.tmp").exists());
        assert!(!at("clips/3f/.kinora-x.tmp").exists());
        for kept in [".kinora-new.tmp", "3f00.mp4", ".hidden"] {
            assert!(at("clips/3f").join(kept).exists(), "{kept}");
        }
    }

    #[test]
    fn a_copy_of_an_object_stays_as_long_as_it_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(folder.path());
        std::fs::create_dir_all(ledger.fetched()).unwrap();
        let file = |name: &str| {
            let file = File::create(ledger.fetched().join(name)).unwrap();
            file.set_modified(SystemTime::now() - 2 * LEFT_OVER)
                .unwrap();
            file
        };
        let in_use = file("a.mp4");
        in_use.lock_shared().unwrap();
        drop((file("b.mp4"), file(".kinora-c.tmp")));
        let left = || std::fs::read_dir(ledger.fetched()).unwrap().count();
        ledger.sweep().unwrap();
        assert_eq!(left(), 1);
        drop(in_use);
        ledger.sweep().unwrap();
        assert_eq!(left(), 0);
    }

    #[test]
    fn a_slice_that_would_do_something_else_is_refused_and_a_whole_run_may_change_its_mind() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(folder.path());
        let config = Config::parse(include_str!("../../../configs/curate.toml")).unwrap();
        let maker = |version: &str| crate::cache::Maker::new("cuts", "cascade", version, "");
        let makers = |version: &str| Makers {
            frames: maker("1"),
            cuts: maker(version),
            clips: maker("1"),
            motion: None,
            text: None,
            clip: None,
            aesthetic: None,
            caption_image: None,
            caption_video: None,
            caption_merged: None,
        };
        assert!(ledger.inputs().unwrap_err().to_string().contains("--out"));
        let names = |list: &[&str]| {
            list.iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let slice = Slice { index: 1, count: 2 };
        let one = names(&["a.mp4", "b.mp4"]);
        ledger.begin(&one, &config, &makers("1"), slice).unwrap();
        ledger.begin(&one, &config, &makers("1"), slice).unwrap();
        let other = names(&["a.mp4"]);
        assert!(ledger.begin(&other, &config, &makers("1"), slice).is_err());
        assert!(ledger.begin(&one, &config, &makers("2"), slice).is_err());
        assert_eq!(ledger.inputs().unwrap(), one);
        ledger
            .begin(&other, &config, &makers("2"), Slice::WHOLE)
            .unwrap();
        assert_eq!(ledger.inputs().unwrap(), other);
        assert_eq!(ledger.makers().unwrap(), makers("2"));
        assert_eq!(ledger.config().unwrap(), config);
    }
}
