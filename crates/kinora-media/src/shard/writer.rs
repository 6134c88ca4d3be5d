//! Clips into shards.

use super::INDEX;
use super::captions::{CaptionWeights, caption_draw, drawn};
use super::member::{self, END, NAME_MAX, SIZE_MAX, Summed, taken};
use super::sample::{SampleCaption, SampleDescription};
use crate::error::{Error, Result};
use crate::image::ending_of;
use crate::latents::LatentRecipe;
use crate::motion_law::MotionLaw;
use crate::table::{ClipRow, IndexRow, TableWriter};
use crate::unfinished::UnfinishedFolder;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// How clips are spread over shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShardOptions {
    /// Names of shards begin so: letters, digits, `-` and `_`.
    pub name: String,
    /// Bytes of a shard at most; a clip that is larger has a shard for itself.
    pub max_bytes: u64,
    /// Clips of a shard at most.
    pub max_clips: u64,
}

impl Default for ShardOptions {
    /// Half a gigabyte: long enough to be read at the speed of the disk, short enough to shuffle
    /// shards and to send one again.
    fn default() -> Self {
        ShardOptions {
            name: "clips".to_owned(),
            max_bytes: 512 << 20,
            max_clips: 10_000,
        }
    }
}

impl ShardOptions {
    /// Refuses options by which no shard can be written.
    ///
    /// # Errors
    /// When the name is not one, or a limit is zero.
    pub fn check(&self) -> Result<()> {
        if !is_plain(&self.name) || self.name.len() > 80 {
            return Err(Error::argument(
                "name of shards",
                format!(
                    "expected up to 80 letters, digits, `-` and `_`, found {:?}",
                    self.name
                ),
            ));
        }
        if self.max_bytes == 0 || self.max_clips == 0 {
            return Err(Error::argument(
                "size of shards",
                "`max_bytes` and `max_clips` must be above zero".to_owned(),
            ));
        }
        Ok(())
    }
}

/// A clip to be put into a shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardClip<'a> {
    /// What the table says of it.
    pub row: &'a ClipRow,
    /// Its file.
    pub media: &'a Path,
    /// The ending (`latents.npy` or `latents.safetensors`) and bytes of its latents, if cached.
    pub latents: Option<(&'a str, &'a [u8])>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShardSummary {
    /// Shards.
    pub shards: u64,
    /// Clips in them.
    pub clips: u64,
    /// Clips of those that have a caption.
    pub captioned: u64,
    /// Clips that have latents.
    pub latents: u64,
    /// Bytes of all shards.
    pub bytes: u64,
}

/// A folder of shards on its way to its name. It appears whole with [`ShardWriter::finish`], in
/// place of an older one; dropping the writer before that leaves what was there.
pub struct ShardWriter {
    options: ShardOptions,
    weights: CaptionWeights,
    target: PathBuf,
    folder: UnfinishedFolder,
    index: TableWriter<IndexRow>,
    open: Option<OpenShard>,
    last_id: Option<String>,
    summary: ShardSummary,
}

struct OpenShard {
    name: String,
    path: PathBuf,
    out: BufWriter<File>,
    bytes: u64,
    clips: u64,
}

impl ShardWriter {
    /// Begins a folder of shards that will be, or replace, `folder`; of an older folder only shards
    /// and the files beside them that this writes are replaced.
    ///
    /// # Errors
    /// When options or weights make no sense, or the folder holds other things.
    pub fn create(
        folder: &Path,
        options: &ShardOptions,
        weights: &CaptionWeights,
    ) -> Result<ShardWriter> {
        options.check()?;
        weights.check()?;
        let unfinished = UnfinishedFolder::create(folder, is_ours)?;
        let index = TableWriter::create(&unfinished.path().join(INDEX))?;
        Ok(ShardWriter {
            options: options.clone(),
            weights: *weights,
            target: folder.to_path_buf(),
            folder: unfinished,
            index,
            open: None,
            last_id: None,
            summary: ShardSummary::default(),
        })
    }

    /// Puts the law by which motion scores became buckets beside the clips.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put_motion_law(&mut self, law: &MotionLaw) -> Result<()> {
        law.write(self.folder.path())
    }

    /// Says how the latents of the clips that have any were made.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put_latent_recipe(&mut self, recipe: &LatentRecipe) -> Result<()> {
        recipe.write(self.folder.path())
    }

    /// Adds a clip. Clips come in ascending order of their ids: so the bytes do not depend on who
    /// judged first, and no clip can be in twice.
    ///
    /// # Errors
    /// When the order is another, the id cannot be a key, or a file cannot be read or written.
    pub fn push(&mut self, clip: &ShardClip<'_>) -> Result<()> {
        self.check_order(&clip.row.clip_id)?;
        let members = Members::of(clip, &self.weights)?;
        let size = members.taken();
        self.make_room(size)?;
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(OpenShard::create(
                self.folder.path(),
                &self.options.name,
                self.summary.shards,
            )?),
        };
        let mut row = members.index_row(clip.row);
        row.shard.clone_from(&open.name);
        row.offset = open.bytes;
        row.size = size;
        let mut out = Summed::over(&mut open.out);
        members.write(&mut out)?;
        row.crc32 = out.sum();
        open.bytes += size;
        open.clips += 1;
        self.summary.clips += 1;
        self.summary.captioned += u64::from(row.caption.is_some());
        self.summary.latents += u64::from(row.latents.is_some());
        self.index.push(row)
    }

    /// Writes the index and gives the folder its name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self) -> Result<ShardSummary> {
        self.close_shard()?;
        self.index.finish()?;
        self.folder.finish()?;
        Ok(self.summary)
    }

    fn check_order(&mut self, id: &str) -> Result<()> {
        if !is_plain(id) {
            return Err(Error::output(
                &self.target,
                format!(
                    "the clip id {id:?} cannot be a key of a shard: expected letters, digits, `-` and `_` (WebDataset ends a key at its first dot)"
                ),
            ));
        }
        if let Some(last) = self.last_id.as_deref().filter(|last| *last >= id) {
            return Err(Error::output(
                &self.target,
                format!("clips must come in ascending order of their ids, found {id} after {last}"),
            ));
        }
        self.last_id = Some(id.to_owned());
        Ok(())
    }

    /// Closes the shard that is open where `size` bytes more would be too much for it.
    fn make_room(&mut self, size: u64) -> Result<()> {
        let full = self.open.as_ref().is_some_and(|open| {
            open.clips >= self.options.max_clips || open.bytes + size + END > self.options.max_bytes
        });
        if full { self.close_shard() } else { Ok(()) }
    }

    fn close_shard(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        open.out
            .write_all(&[0; END as usize])
            .and_then(|()| open.out.flush())
            .map_err(Error::io("write", &open.path))?;
        self.summary.shards += 1;
        self.summary.bytes += open.bytes + END;
        Ok(())
    }
}

impl OpenShard {
    fn create(folder: &Path, name: &str, number: u64) -> Result<OpenShard> {
        let name = format!("{name}-{number:06}.tar");
        let path = folder.join(&name);
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        Ok(OpenShard {
            name,
            path,
            out: BufWriter::with_capacity(1 << 18, file),
            bytes: 0,
            clips: 0,
        })
    }
}

/// The members of a clip, before they are written.
struct Members<'a> {
    key: &'a str,
    description: Vec<u8>,
    captions: Vec<SampleCaption>,
    caption: Option<String>,
    ending: String,
    media: File,
    media_path: &'a Path,
    media_size: u64,
    latents: Option<(&'a str, &'a [u8])>,
}

impl<'a> Members<'a> {
    fn of(clip: &ShardClip<'a>, weights: &CaptionWeights) -> Result<Members<'a>> {
        let description = SampleDescription::of(clip.row, weights);
        let caption = drawn(&description.captions, caption_draw(&clip.row.clip_id));
        let caption = caption.map(|caption| caption.text.clone());
        let ending = ending_of(clip.media);
        check_endings(clip, &ending)?;
        let media = File::open(clip.media).map_err(Error::io("open", clip.media))?;
        let about = media.metadata().map_err(Error::io("open", clip.media))?;
        if !about.is_file() || about.len() == 0 || about.len() > SIZE_MAX {
            return Err(Error::video(
                clip.media,
                format!(
                    "expected the file of a clip, of 1 byte to 8 GiB, found {} bytes; cut the clip out again",
                    about.len()
                ),
            ));
        }
        Ok(Members {
            key: &clip.row.clip_id,
            description: serde_json::to_vec(&description).expect("numbers and words become JSON"),
            captions: description.captions,
            caption,
            ending,
            media,
            media_path: clip.media,
            media_size: about.len(),
            latents: clip.latents,
        })
    }

    fn taken(&self) -> u64 {
        taken(self.description.len() as u64)
            + self
                .caption
                .as_ref()
                .map_or(0, |text| taken(text.len() as u64))
            + taken(self.media_size)
            + self
                .latents
                .map_or(0, |(_, bytes)| taken(bytes.len() as u64))
    }

    fn write(&self, out: &mut dyn Write) -> Result<()> {
        let mut put = |ending: &str, size: u64, bytes: &mut dyn Read| {
            member::write(out, &format!("{}.{ending}", self.key), size, bytes)
                .map_err(Error::io("put into a shard", self.media_path))
        };
        let mut put_bytes =
            |ending: &str, mut bytes: &[u8]| put(ending, bytes.len() as u64, &mut bytes);
        put_bytes("json", &self.description)?;
        if let Some(caption) = &self.caption {
            put_bytes("txt", caption.as_bytes())?;
        }
        put(&self.ending, self.media_size, &mut &self.media)?;
        if let Some((ending, mut bytes)) = self.latents {
            put(ending, bytes.len() as u64, &mut bytes)?;
        }
        Ok(())
    }

    fn index_row(&self, clip: &ClipRow) -> IndexRow {
        let mut row = IndexRow {
            clip_id: clip.clip_id.clone(),
            source: clip.source.clone(),
            ending: self.ending.clone(),
            frames: clip.frames(),
            duration_s: clip.duration_s(),
            fps: clip.fps,
            width: clip.width,
            height: clip.height,
            motion_score: clip.motion_score,
            motion_bucket: clip.motion_bucket,
            text_area: clip.text_area,
            clip_similarity: clip.clip_similarity,
            aesthetic: clip.aesthetic,
            caption: self.caption.clone(),
            latents: self.latents.map(|(ending, _)| ending.to_owned()),
            ..IndexRow::default()
        };
        row.put_captions(&self.captions);
        row
    }
}

fn check_endings(clip: &ShardClip<'_>, ending: &str) -> Result<()> {
    let taken = ["json", "txt", "npy", "safetensors"].contains(&ending);
    if ending.is_empty() || taken || !ending.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::video(
            clip.media,
            format!("expected a video's ending such as .mp4, found {ending:?}; rename the file"),
        ));
    }
    if let Some((latents, _)) = clip.latents
        && !["latents.npy", "latents.safetensors"].contains(&latents)
    {
        return Err(Error::argument(
            "latents",
            format!("expected the ending latents.npy or latents.safetensors, found {latents:?}"),
        ));
    }
    let longest = clip.latents.map_or(0, |(latents, _)| latents.len());
    if clip.row.clip_id.len() + 1 + longest.max(ending.len()).max("json".len()) > NAME_MAX {
        return Err(Error::argument(
            "clip id",
            format!(
                "{} with its ending is longer than the {NAME_MAX} bytes of a name in a tar file",
                clip.row.clip_id
            ),
        ));
    }
    Ok(())
}

/// Letters, digits, `-` and `_`.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.bytes().all(plain)
}

/// Whether a file of this name is a shard, their index, or one that speaks of all of them.
fn is_ours(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let number = name
        .strip_suffix(".tar")
        .and_then(|name| name.rsplit_once('-'));
    name == INDEX
        || name == MotionLaw::FILE
        || name == LatentRecipe::FILE
        || number.is_some_and(|(_, number)| {
            number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}
