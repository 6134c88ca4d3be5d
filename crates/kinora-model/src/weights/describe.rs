//! What a weights file or folder is, told without building anything.

use super::archive::{Archive, MappedFile};
use super::fingerprint::{Sampled, fingerprint};
use super::header;
use super::keys::{self, Decoder, Network};
use super::open::{self, Format, Weights};
use super::part::{self, Opening, Part, Variant};
use crate::presets::PRESETS;
use crate::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a weights file or folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The file or folder.
    pub path: PathBuf,
    /// What it is, in words.
    pub kind: String,
    /// How a whole model is laid out; nothing for less than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The preset it has the sizes of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Frames of the clips it makes, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_frames: Option<usize>,
    /// Its networks, and what else it holds.
    pub parts: Vec<PartDescription>,
    /// A name by content: see [`Weights::fingerprint`].
    pub fingerprint: String,
}

/// What one part of a model holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartDescription {
    /// `unet`, `vae`, `image_encoder`, `arrays`, or `not used`.
    pub name: String,
    /// How many arrays.
    pub arrays: usize,
    /// How many values they hold together.
    pub parameters: usize,
    /// How many bytes those take.
    pub bytes: usize,
    /// Values of each element type.
    pub dtypes: BTreeMap<String, usize>,
    /// The files, by name.
    pub files: BTreeSet<String>,
}

impl Weights {
    /// A name for these weights by their content, 64 hexadecimal digits, to be written beside what
    /// they made. It covers every array's name, type and extents and the first and last 4 KiB of its
    /// values: 18 MB of a file of 9.6 GB. Training moves every array, so it tells models apart; it
    /// does not prove that two files are equal to the last byte.
    pub fn fingerprint(&self) -> String {
        let parts = [
            ("unet", &self.unet.archive),
            ("vae", &self.vae.archive),
            ("image_encoder", &self.image_encoder.archive),
        ];
        fingerprint_of(parts.into_iter().map(|(name, archive)| (name, &**archive)))
    }
}

impl<C> Part<C> {
    /// A name for this network's weights by their content, as [`Weights::fingerprint`].
    pub fn fingerprint(&self) -> String {
        fingerprint_of(std::iter::once(("", &*self.archive)))
    }
}

/// Tells what the weights at `path` are: a model folder, an original single file, the folder or the
/// file of one network. Headers and settings are checked; values are not scanned.
///
/// # Errors
/// When it is none of them, or broken; the text says which file and what to do.
pub fn describe(path: impl AsRef<Path>, variant: Option<Variant>) -> Result<Description> {
    let path = path.as_ref();
    let opening = Opening {
        variant,
        scan_values: false,
    };
    let found = std::fs::metadata(path).map_err(|error| Error::io(path, "open", error))?;
    if found.is_dir() {
        let networks = networks_in(path);
        if networks.is_empty() || path.join("model_index.json").exists() {
            return describe_model(path, &opening);
        }
        return describe_networks(path, &networks, &opening);
    }
    let file = part::map(path)?;
    let arrays = header::read(path, &file.map)?;
    if keys::is_original(arrays.iter().map(|array| array.name.as_str())) {
        return describe_model(path, &opening);
    }
    Ok(describe_bare_file(path, &file, &arrays))
}

fn describe_model(path: &Path, opening: &Opening) -> Result<Description> {
    let weights = Weights::open_with(path, opening)?;
    let config = &weights.unet.config;
    let preset = PRESETS.iter().find(|preset| {
        let mut expected = preset.unet();
        expected.norm_eps = config.norm_eps;
        expected.sample_size = config.sample_size;
        expected == *config && preset.image_encoder() == weights.image_encoder.config
    });
    let mut parts = vec![
        describe_part("unet", &weights.unet),
        describe_part("vae", &weights.vae),
        describe_part("image_encoder", &weights.image_encoder),
    ];
    let kind = match weights.format {
        Format::Diffusers if is_checkpoint(path) => "model folder written by Kinora",
        Format::Diffusers => "model folder in the layout of diffusers",
        Format::Original => {
            parts.extend(left_out(path)?);
            match weights.vae.config.kind {
                crate::vae::VaeKind::Temporal => "original single file",
                crate::vae::VaeKind::Image => "original single file with the image decoder",
            }
        }
    };
    Ok(Description {
        path: path.to_owned(),
        kind: kind.to_owned(),
        format: Some(weights.format),
        preset: preset.map(|preset| preset.name.to_owned()),
        num_frames: Some(config.num_frames),
        parts,
        fingerprint: weights.fingerprint(),
    })
}

/// Whether our own writer made the folder.
fn is_checkpoint(path: &Path) -> bool {
    std::fs::read_to_string(path.join("model_index.json"))
        .is_ok_and(|text| text.contains("\"_kinora_version\""))
}

/// What an original file holds that no network here uses.
fn left_out(path: &Path) -> Result<Option<PartDescription>> {
    let file = part::map(path)?;
    let mut arrays = header::read(path, &file.map)?;
    let decoder = Decoder::of(arrays.iter().map(|array| array.name.as_str()));
    arrays.retain(|array| keys::place(&array.name, decoder) == Some(keys::Place::LeftOut));
    Ok((!arrays.is_empty()).then(|| from_headers("not used", path, &arrays)))
}

fn describe_part<C>(name: &str, part: &Part<C>) -> PartDescription {
    describe_archive(name, &part.archive)
}

fn describe_archive(name: &str, archive: &Archive) -> PartDescription {
    let mut found = PartDescription::empty(name);
    for stored in archive.arrays.values() {
        let dtype = stored.dtype.to_string();
        found.count(&dtype, stored.elements(), stored.size_bytes());
        found.files.insert(file_name(&stored.file.path));
    }
    found
}

fn from_headers(name: &str, path: &Path, arrays: &[header::Described]) -> PartDescription {
    let mut found = PartDescription::empty(name);
    for array in arrays {
        let elements = array.dims.iter().product();
        found.count(
            &array.dtype.to_lowercase(),
            elements,
            array.end - array.begin,
        );
    }
    found.files.insert(file_name(path));
    found
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

impl PartDescription {
    fn empty(name: &str) -> Self {
        PartDescription {
            name: name.to_owned(),
            arrays: 0,
            parameters: 0,
            bytes: 0,
            dtypes: BTreeMap::new(),
            files: BTreeSet::new(),
        }
    }

    fn count(&mut self, dtype: &str, elements: usize, bytes: usize) {
        self.arrays += 1;
        self.parameters += elements;
        self.bytes += bytes;
        *self.dtypes.entry(dtype.to_owned()).or_default() += elements;
    }
}

/// The networks that a folder without `model_index.json` holds: its own, or those in its folders.
fn networks_in(path: &Path) -> Vec<PathBuf> {
    if path.join("config.json").exists() {
        return vec![path.to_owned()];
    }
    let inside = ["unet", "vae", "image_encoder"].map(|name| path.join(name));
    inside
        .into_iter()
        .filter(|folder| folder.join("config.json").exists())
        .collect()
}

fn describe_networks(path: &Path, folders: &[PathBuf], opening: &Opening) -> Result<Description> {
    let mut frames = None;
    let mut found: Vec<(&str, Arc<Archive>)> = Vec::new();
    for folder in folders {
        found.push(match network_of(folder)? {
            Network::UNet => {
                let part = open::open_unet(folder, opening)?;
                frames = Some(part.config.num_frames);
                ("unet", part.archive)
            }
            Network::Vae => ("vae", open::open_vae(folder, opening)?.archive),
            Network::ImageEncoder => {
                let part = open::open_image_encoder(folder, opening)?;
                ("image_encoder", part.archive)
            }
        });
    }
    let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
    Ok(Description {
        path: path.to_owned(),
        kind: format!("less than a whole model: {}", names.join(" and ")),
        format: None,
        preset: None,
        num_frames: frames,
        parts: found
            .iter()
            .map(|(name, archive)| describe_archive(name, archive))
            .collect(),
        fingerprint: fingerprint_of(found.iter().map(|(name, archive)| (*name, &**archive))),
    })
}

/// Which network the settings in a folder are of.
fn network_of(folder: &Path) -> Result<Network> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::io(&path, "read", error))?;
    let config: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Error::file(&path, format!("{error}; download it again")))?;
    let class = config
        .get("_class_name")
        .or_else(|| config.get("architectures")?.get(0));
    match class.and_then(|class| class.as_str()) {
        Some("UNetSpatioTemporalConditionModel") => Ok(Network::UNet),
        Some("AutoencoderKLTemporalDecoder" | "AutoencoderKL") => Ok(Network::Vae),
        Some("CLIPVisionModelWithProjection" | "CLIPVisionModel") => Ok(Network::ImageEncoder),
        other => Err(Error::file(
            &path,
            format!(
                "the settings are of {}, no part of a model Kinora runs",
                other.unwrap_or("no named class")
            ),
        )),
    }
}

/// A safetensors file by itself. It may be one network's, cut off from its settings.
fn describe_bare_file(path: &Path, file: &MappedFile, arrays: &[header::Described]) -> Description {
    let has = |start: &str| arrays.iter().any(|array| array.name.starts_with(start));
    let (name, kind) = if has("add_embedding.") && has("down_blocks.") {
        ("unet", "weights of one network: unet")
    } else if has("decoder.up_blocks.") && has("encoder.") {
        ("vae", "weights of one network: vae")
    } else if has("vision_model.encoder.layers.") {
        ("image_encoder", "weights of one network: image_encoder")
    } else {
        ("arrays", "safetensors file of no model Kinora knows")
    };
    let mut sorted: Vec<_> = arrays.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let sampled = sorted.iter().map(|array| Sampled {
        name: array.name.clone(),
        dtype: array.dtype.to_lowercase(),
        dims: &array.dims,
        bytes: &file.map[array.begin..array.end],
    });
    Description {
        path: path.to_owned(),
        kind: kind.to_owned(),
        format: None,
        preset: None,
        num_frames: None,
        parts: vec![from_headers(name, path, arrays)],
        fingerprint: fingerprint(sampled),
    }
}

fn fingerprint_of<'a>(parts: impl Iterator<Item = (&'a str, &'a Archive)>) -> String {
    fingerprint(parts.flat_map(|(part, archive)| {
        archive.arrays.iter().map(move |(name, stored)| Sampled {
            name: format!("{part}.{name}"),
            dtype: stored.dtype.to_string(),
            dims: &stored.dims,
            bytes: stored.bytes(),
        })
    }))
}

impl std::fmt::Display for Description {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.path.display())?;
        writeln!(f, "  {}", self.kind)?;
        if let Some(preset) = &self.preset {
            writeln!(f, "  sizes of preset {preset}")?;
        }
        if let Some(frames) = self.num_frames {
            writeln!(f, "  clips of {frames} frames")?;
        }
        for part in &self.parts {
            writeln!(f, "  {part}")?;
        }
        write!(f, "  fingerprint {}", self.fingerprint)
    }
}

impl std::fmt::Display for PartDescription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dtypes: Vec<&str> = self.dtypes.keys().map(String::as_str).collect();
        let files: Vec<&str> = self.files.iter().map(String::as_str).collect();
        write!(
            f,
            "{:<13} {:>13} parameters in {:>4} arrays, {:>9.1} MiB, {}, {}",
            self.name,
            thousands(self.parameters),
            self.arrays,
            self.bytes as f64 / (1 << 20) as f64,
            dtypes.join(" and "),
            files.join(", ")
        )
    }
}

/// 1524623082 as `1,524,623,082`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
