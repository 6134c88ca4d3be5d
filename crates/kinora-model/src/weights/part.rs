//! One network of a model: its settings, and its arrays in one file, in shards, or in a stretch of a
//! file that holds the whole model.

use super::archive::{Archive, MappedFile, Stored};
use super::header::{self, Described};
use super::stranger::{PICKLE, has_pickle_name};
use crate::compute::Compute;
use crate::params::Source;
use crate::{Error, Result};
use kinora_tensor::WeightBytes;
use memmap2::Mmap;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which of the files of a folder to read: the same weights may lie there in several precisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The file without an addition to its name.
    Fp32,
    /// `.fp16.safetensors`
    Fp16,
    /// `.bf16.safetensors`
    Bf16,
}

impl Variant {
    /// In the order in which a folder is searched when none is asked for.
    pub const ALL: [Variant; 3] = [Variant::Fp32, Variant::Fp16, Variant::Bf16];

    fn infix(self) -> &'static str {
        match self {
            Variant::Fp32 => "",
            Variant::Fp16 => ".fp16",
            Variant::Bf16 => ".bf16",
        }
    }

    /// The names a file and an index of shards have, for weights named `stem`.
    pub(super) fn names(self, stem: &str) -> [String; 2] {
        let infix = self.infix();
        [
            format!("{stem}{infix}.safetensors"),
            format!("{stem}.safetensors.index{infix}.json"),
        ]
    }
}

impl std::str::FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "fp32" | "f32" => Ok(Variant::Fp32),
            "fp16" | "f16" => Ok(Variant::Fp16),
            "bf16" => Ok(Variant::Bf16),
            other => Err(format!(
                "variant: expected fp32, fp16 or bf16, found `{other}`"
            )),
        }
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Variant::Fp32 => "fp32",
            Variant::Fp16 => "fp16",
            Variant::Bf16 => "bf16",
        })
    }
}

/// How weights are opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Which precision to read, or none for the first that is there: fp32, fp16, bf16.
    pub variant: Option<Variant>,
    /// Whether to read every value and refuse NaN and infinities. On unless asked otherwise: a
    /// broken array shows as black frames an hour later.
    pub scan_values: bool,
}

impl Default for Opening {
    fn default() -> Self {
        Opening {
            variant: None,
            scan_values: true,
        }
    }
}

/// One network of a model, opened: its settings and where its arrays lie.
#[derive(Clone, Debug)]
pub struct Part<C> {
    /// The network's settings.
    pub config: C,
    pub(super) archive: Arc<Archive>,
}

impl<C> Part<C> {
    /// The arrays, for building the network. Each call gives a source of its own, so that a network
    /// may be built twice.
    pub fn source(&self) -> Source {
        Source::stored(self.archive.clone())
    }

    /// The file or folder the arrays are in.
    pub fn path(&self) -> &Path {
        self.archive.path()
    }

    /// How many values the arrays hold together.
    pub fn values(&self) -> usize {
        self.archive.arrays.values().map(Stored::elements).sum()
    }

    /// What each array takes where a network computes so: on the processor as much as in the file.
    pub(crate) fn arrays_on(&self, compute: Compute) -> Vec<WeightBytes> {
        let arrays = self.archive.arrays.values();
        arrays
            .map(|stored| compute.weight_bytes(stored.elements(), stored.dtype))
            .collect()
    }

    /// What loading copies of them, since memory has their axes in another order, and what is read where
    /// it lies: bytes of each.
    pub(crate) fn copied_and_mapped_bytes(&self) -> [usize; 2] {
        let mut bytes = [0; 2];
        for stored in self.archive.arrays.values() {
            bytes[usize::from(!stored.is_moved())] += stored.size_bytes();
        }
        bytes
    }

    /// Gives back the memory that holds pages of the file: what reads them next has them from there again.
    /// Worth it where nothing will for a while.
    pub fn let_go(&self) {
        self.archive.arrays.values().for_each(Stored::let_go);
    }

    /// How many bytes they take in the file.
    pub fn bytes(&self) -> usize {
        self.archive.arrays.values().map(Stored::size_bytes).sum()
    }
}

/// A folder of one network as diffusers and transformers write it.
pub(super) struct Folder<'a> {
    pub(super) path: &'a Path,
    /// How the weights are named: `diffusion_pytorch_model` or `model`.
    pub(super) stem: &'static str,
}

impl Folder<'_> {
    /// The text of `config.json`.
    pub(super) fn config(&self) -> Result<(PathBuf, String)> {
        let path = self.path.join("config.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok((path, text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::file(
                &path,
                "the settings of the network are missing; copy this file from where the weights \
                 came from",
            )),
            Err(source) => Err(Error::io(&path, "read", source)),
        }
    }

    /// The arrays of the wanted precision, or of the first there is.
    pub(super) fn archive(&self, opening: &Opening) -> Result<Archive> {
        let files = match self.find(opening.variant)? {
            Found::File(path) => vec![path],
            Found::Index(path) => shards(&path)?,
        };
        archive_of(self.path, files, opening)
    }

    fn find(&self, wanted: Option<Variant>) -> Result<Found> {
        let variants = wanted.map_or(Variant::ALL.to_vec(), |variant| vec![variant]);
        for variant in &variants {
            let [file, index] = variant.names(self.stem).map(|name| self.path.join(name));
            if file.exists() {
                return Ok(Found::File(file));
            }
            if index.exists() {
                return Ok(Found::Index(index));
            }
        }
        let present: Vec<String> = names_in(self.path)?;
        if let Some(pickle) = present.iter().find(|name| has_pickle_name(Path::new(name))) {
            return Err(Error::file(self.path.join(pickle), PICKLE));
        }
        let looked_for: Vec<String> = variants.iter().flat_map(|v| v.names(self.stem)).collect();
        let remedy = match wanted {
            Some(_) => "ask for another variant, or for none to take what is there",
            None => "download the network's weights into it",
        };
        Err(Error::file(
            self.path,
            format!(
                "expected weights named {}, found {}; {remedy}",
                looked_for.join(" or "),
                if present.is_empty() {
                    "an empty folder".to_owned()
                } else {
                    present.join(", ")
                },
            ),
        ))
    }
}

/// The arrays of `files` together, under the names they have there.
pub(super) fn archive_of(path: &Path, files: Vec<PathBuf>, opening: &Opening) -> Result<Archive> {
    let mut archive = Archive {
        path: match &files[..] {
            [file] => file.clone(),
            _ => path.to_owned(),
        },
        arrays: BTreeMap::new(),
        remedy:
            "these weights and the settings beside them do not belong together: fetch both from \
                 one place, or see what they are with `kinora inspect`"
                .to_owned(),
    };
    for path in files {
        let file = map(&path)?;
        for array in header::read(&path, &file.map)?
            .into_iter()
            .filter(is_weight)
        {
            // A list 0, 1, 2 … that older releases of transformers saved beside the weights.
            if !array.name.ends_with("_model.embeddings.position_ids") {
                let name = array.name.clone();
                insert(&mut archive, name, stored(&file, array)?)?;
            }
        }
    }
    finish(archive, opening)
}

/// Whether an array is more than a count of the steps that a batch norm was trained for.
fn is_weight(array: &Described) -> bool {
    !array.name.ends_with(".num_batches_tracked")
}

enum Found {
    File(PathBuf),
    Index(PathBuf),
}

/// The names in a folder, in order.
pub(super) fn names_in(folder: &Path) -> Result<Vec<String>> {
    let refused = |source| Error::io(folder, "read", source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        names.push(
            entry
                .map_err(refused)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// The names of the files that an index of shards names, each once.
pub(super) fn shard_names(index: &Path) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }

    let text = std::fs::read_to_string(index).map_err(|error| Error::io(index, "read", error))?;
    let Index { weight_map } = serde_json::from_str(&text).map_err(|error| {
        let message = format!("the index of shards cannot be read: {error}; download it again");
        Error::file(index, message)
    })?;
    let names: BTreeSet<String> = weight_map.into_values().collect();
    for name in &names {
        // An index may come from anyone; it must not point out of its folder.
        if Path::new(name).file_name() != Some(std::ffi::OsStr::new(name)) {
            return Err(Error::file(
                index,
                format!("`{name}` is not the name of a file beside the index; download it again"),
            ));
        }
    }
    if names.is_empty() {
        return Err(Error::file(
            index,
            "the index names no shard; download it again",
        ));
    }
    Ok(names.into_iter().collect())
}

/// The files that an index names.
fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for name in shard_names(index)? {
        let path = index.with_file_name(name);
        if !path.exists() {
            return Err(Error::file(
                &path,
                format!(
                    "this shard is missing, and {} names it; download it into the same folder",
                    index.file_name().unwrap_or_default().to_string_lossy()
                ),
            ));
        }
        paths.push(path);
    }
    Ok(paths)
}

/// A file's bytes, read where they lie.
pub(super) fn map(path: &Path) -> Result<Arc<MappedFile>> {
    let refused = |source| Error::io(path, "open", source);
    let file = File::open(path).map_err(refused)?;
    if file.metadata().map_err(refused)?.is_dir() {
        return Err(Error::file(
            path,
            "expected a file, found a folder; give the file inside it",
        ));
    }
    #[allow(unsafe_code)] // Mapping, so that weights larger than memory can be read.
    // SAFETY: the bytes change under us only if somebody writes into the file while it is open. Our
    // own writer never does (it renames a new file over the old), and no value read from the map is
    // trusted for memory safety after its header was checked: all offsets are held against the
    // map's own length, and every bit pattern is a valid value. A file cut short meanwhile ends the
    // process, as it does in every program that maps weights.
    let map = unsafe { Mmap::map(&file) }.map_err(refused)?;
    Ok(Arc::new(MappedFile {
        path: path.to_owned(),
        map: Arc::new(map),
    }))
}

/// One described array of `file`, if networks compute with its type.
pub(super) fn stored(file: &Arc<MappedFile>, array: Described) -> Result<Stored> {
    let Some(dtype) = array.dtype() else {
        return Err(Error::file(
            &file.path,
            format!(
                "`{}` holds {} values; Kinora reads F32, F16 and BF16: convert the file, or get \
                 another variant of it",
                array.name, array.dtype
            ),
        ));
    };
    Ok(Stored {
        file: file.clone(),
        file_name: array.name,
        dtype,
        dims: array.dims,
        transposed: false,
        offset: array.begin,
    })
}

/// # Errors
/// When the name is taken: two shards, or two names of the original file, claim one place.
pub(super) fn insert(archive: &mut Archive, name: String, stored: Stored) -> Result<()> {
    let file = stored.file.path.clone();
    match archive.arrays.insert(name, stored) {
        None => Ok(()),
        Some(other) => Err(Error::file(
            file,
            format!(
                "`{}` is already in {}; download both again",
                other.file_name,
                other.file.path.display()
            ),
        )),
    }
}

/// What is done with every archive before it is handed out.
pub(super) fn finish(archive: Archive, opening: &Opening) -> Result<Archive> {
    if opening.scan_values {
        super::scan::refuse_not_finite(
            archive.arrays.values(),
            "these weights were broken before they were saved, or on their way: get them again",
        )?;
    }
    Ok(archive)
}
