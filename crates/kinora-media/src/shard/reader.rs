//! Shards to clips: one after the other, or by the index in any order.

use super::INDEX;
use super::member::{self, BLOCK, END, Member};
use super::sample::ShardSample;
use crate::error::{Error, Result};
use crate::latents::LatentRecipe;
use crate::motion_law::MotionLaw;
use crate::table::{IndexRow, read_table};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// The clips of one shard in order. Members that follow one another and share the name up to its
/// first dot are one clip, as in WebDataset.
pub struct ShardReader {
    path: PathBuf,
    input: BufReader<File>,
    left: u64,
    next: Option<Member>,
    ended: bool,
}

impl ShardReader {
    /// Opens a shard.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<ShardReader> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let left = file.metadata().map_err(Error::io("open", path))?.len();
        Ok(ShardReader {
            path: path.to_path_buf(),
            input: BufReader::with_capacity(1 << 18, file),
            left,
            next: None,
            ended: false,
        })
    }

    fn read_sample(&mut self) -> std::result::Result<Option<ShardSample>, String> {
        if self.next.is_none() && !self.ended {
            self.next = member::read(&mut self.input, &mut self.left)?;
        }
        let Some(first) = self.next.take() else {
            return Ok(None);
        };
        let mut sample = begun(&first.0, &self.path)?;
        let mut member = Some(first);
        while let Some((name, bytes)) = member {
            let (key, ending) = split(&name)?;
            if key != sample.key {
                self.next = Some((name, bytes));
                return Ok(Some(sample));
            }
            sample.members.push((ending.to_owned(), bytes));
            member = member::read(&mut self.input, &mut self.left)?;
        }
        self.ended = true;
        Ok(Some(sample))
    }
}

impl Iterator for ShardReader {
    type Item = Result<ShardSample>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read_sample() {
            Ok(None) => {
                self.ended = true;
                None
            }
            Ok(Some(sample)) => Some(Ok(sample)),
            Err(reason) => {
                self.ended = true;
                self.next = None;
                Some(Err(damaged(&self.path, &reason)))
            }
        }
    }
}

/// A folder of shards with its index: any clip at any time.
#[derive(Debug)]
pub struct ShardFolder {
    folder: PathBuf,
    index: Vec<IndexRow>,
    shards: BTreeMap<String, File>,
    law: Option<MotionLaw>,
    recipe: Option<LatentRecipe>,
}

impl ShardFolder {
    /// Whether a folder is one of shards: whether it has their index.
    #[must_use]
    pub fn is_one(folder: &Path) -> bool {
        folder.join(INDEX).is_file()
    }

    /// Opens the index and all shards that it names.
    ///
    /// # Errors
    /// When the index or a shard is missing or too short for what the index says.
    pub fn open(folder: &Path) -> Result<ShardFolder> {
        let path = folder.join(INDEX);
        let index: Vec<IndexRow> = read_table(&path)?;
        let mut shards: BTreeMap<String, (File, u64)> = BTreeMap::new();
        for row in &index {
            if !shards.contains_key(&row.shard) {
                if row.shard.contains(['/', '\\']) || !row.shard.ends_with(".tar") {
                    let message =
                        format!("expected the file name of a shard, found {:?}", row.shard);
                    return Err(Error::table(&path, message));
                }
                let shard = folder.join(&row.shard);
                let file = File::open(&shard).map_err(Error::io("open", &shard))?;
                let length = file.metadata().map_err(Error::io("open", &shard))?.len();
                shards.insert(row.shard.clone(), (file, length));
            }
            let (_, length) = shards[&row.shard];
            let ends = row
                .offset
                .checked_add(row.size)
                .and_then(|end| end.checked_add(END));
            if !row.offset.is_multiple_of(BLOCK) || ends.is_none_or(|end| end > length) {
                let message = format!(
                    "the index puts clip {} at bytes {} to {}, the shard has {length}: it is shortened or not of this index; write the shards again",
                    row.clip_id,
                    row.offset,
                    row.offset.saturating_add(row.size)
                );
                return Err(Error::shard(&folder.join(&row.shard), message));
            }
        }
        Ok(ShardFolder {
            folder: folder.to_path_buf(),
            law: MotionLaw::of_folder(folder)?,
            recipe: LatentRecipe::of_folder(folder)?,
            index,
            shards: shards
                .into_iter()
                .map(|(name, (file, _))| (name, file))
                .collect(),
        })
    }

    /// Where each clip lies and the numbers to pick clips by, in the order of the shards.
    #[must_use]
    pub fn index(&self) -> &[IndexRow] {
        &self.index
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The law by which motion scores became buckets, where the folder has it.
    #[must_use]
    pub fn motion_law(&self) -> Option<&MotionLaw> {
        self.law.as_ref()
    }

    /// How the latents in the shards were made; none where they have none.
    #[must_use]
    pub fn latent_recipe(&self) -> Option<&LatentRecipe> {
        self.recipe.as_ref()
    }

    /// The shards, in order.
    #[must_use]
    pub fn shards(&self) -> Vec<PathBuf> {
        self.shards
            .keys()
            .map(|name| self.folder.join(name))
            .collect()
    }

    /// Reads one clip; its bytes are checked against the checksum in the index. Any number of
    /// threads may read at once.
    ///
    /// # Errors
    /// When `row` is not of this folder, or the shard is damaged there.
    pub fn read(&self, row: &IndexRow) -> Result<ShardSample> {
        let path = self.folder.join(&row.shard);
        let Some(file) = self.shards.get(&row.shard) else {
            return Err(Error::shard(
                &path,
                "the index of this folder has no such shard",
            ));
        };
        let mut bytes = vec![0; row.size as usize];
        file.read_exact_at(&mut bytes, row.offset)
            .map_err(Error::io("read", &path))?;
        let sum = crc32fast::hash(&bytes);
        if sum != row.crc32 {
            let reason = format!(
                "clip {}: its bytes have the checksum {sum:08x}, written was {:08x}",
                row.clip_id, row.crc32
            );
            return Err(damaged(&path, &reason));
        }
        let sample = sample_of(&bytes, &path).map_err(|reason| damaged(&path, &reason))?;
        if sample.key != row.clip_id {
            let reason = format!("expected clip {}, found {}", row.clip_id, sample.key);
            return Err(damaged(&path, &reason));
        }
        Ok(sample)
    }
}

/// The one clip of a range of a shard.
fn sample_of(bytes: &[u8], path: &Path) -> std::result::Result<ShardSample, String> {
    let (mut input, mut left) = (bytes, bytes.len() as u64);
    let mut sample: Option<ShardSample> = None;
    while !input.is_empty() {
        let Some((name, bytes)) = member::read(&mut input, &mut left)? else {
            return Err("the index points behind the last clip".to_owned());
        };
        let (key, ending) = split(&name)?;
        let sample = match &mut sample {
            Some(sample) if sample.key == key => sample,
            Some(sample) => return Err(format!("clips {} and {key} in one range", sample.key)),
            none => none.insert(begun(&name, path)?),
        };
        sample.members.push((ending.to_owned(), bytes));
    }
    sample.ok_or_else(|| "an empty range".to_owned())
}

fn begun(name: &str, path: &Path) -> std::result::Result<ShardSample, String> {
    Ok(ShardSample {
        key: split(name)?.0.to_owned(),
        members: Vec::new(),
        shard: path.to_path_buf(),
    })
}

/// Key and ending of a member's name, parted at the first dot of its last part.
fn split(name: &str) -> std::result::Result<(&str, &str), String> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[base..].find('.') {
        Some(dot) if dot > 0 => Ok((&name[..base + dot], &name[base + dot + 1..])),
        _ => Err(format!(
            "member {name:?} has no key before a dot in its name"
        )),
    }
}

fn damaged(path: &Path, reason: &str) -> Error {
    Error::shard(
        path,
        format!("the shard is damaged ({reason}); write it again"),
    )
}
