//! A whole model, opened: a folder as diffusers lays it out, or the original single file.

use super::archive::{Archive, MappedFile, Stored};
use super::header::{self, Described};
use super::keys::{self, Decoder, Network, Place};
use super::part::{self, Folder, Opening, Part};
use super::stranger;
use crate::clip::ClipVisionConfig;
use crate::params::Source;
use crate::presets::Preset;
use crate::unet::{NormEps, UNetConfig};
use crate::vae::{VaeConfig, VaeKind};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a model's files are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A folder with `model_index.json` and a folder for each network. Kinora's own checkpoints are
    /// of this layout.
    Diffusers,
    /// The single file the authors published.
    Original,
}

/// A model's weights, opened by memory map: settings are read and checked, values stay in their
/// files until a network is built from them.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The folder or file given.
    pub path: PathBuf,
    /// How it is laid out.
    pub format: Format,
    /// The denoiser.
    pub unet: Part<UNetConfig>,
    /// The autoencoder.
    pub vae: Part<VaeConfig>,
    /// The picture half of CLIP.
    pub image_encoder: Part<ClipVisionConfig>,
}

impl Weights {
    /// Opens a model folder or an original single file, taking the highest precision there is and
    /// refusing values that are not finite.
    ///
    /// # Errors
    /// When it is neither, or its files are missing, broken or do not fit each other; the text names
    /// the file, the array and the remedy.
    pub fn open(path: impl AsRef<Path>) -> Result<Weights> {
        Self::open_with(path, &Opening::default())
    }

    /// Opens as `opening` says.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn open_with(path: impl AsRef<Path>, opening: &Opening) -> Result<Weights> {
        let path = path.as_ref();
        let found = std::fs::metadata(path).map_err(|error| Error::io(path, "open", error))?;
        if found.is_dir() {
            open_folder(path, opening)
        } else {
            open_single_file(path, opening)
        }
    }
}

/// Opens the denoiser in `path`: a model folder, or the network's own.
///
/// # Errors
/// As [`Weights::open`].
pub fn open_unet(path: impl AsRef<Path>, opening: &Opening) -> Result<Part<UNetConfig>> {
    let path = own_folder(path.as_ref(), "unet");
    open_part(&path, "diffusion_pytorch_model", opening, |text| {
        UNetConfig::from_json(text).map_err(|error| error.to_string())
    })
}

/// Opens the autoencoder in `path`: a model folder, or the network's own.
///
/// # Errors
/// As [`Weights::open`].
pub fn open_vae(path: impl AsRef<Path>, opening: &Opening) -> Result<Part<VaeConfig>> {
    let path = own_folder(path.as_ref(), "vae");
    open_part(&path, "diffusion_pytorch_model", opening, |text| {
        let config: VaeConfig = serde_json::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    })
}

/// Opens the picture half of CLIP in `path`: a model folder, or the network's own.
///
/// # Errors
/// As [`Weights::open`].
pub fn open_image_encoder(
    path: impl AsRef<Path>,
    opening: &Opening,
) -> Result<Part<ClipVisionConfig>> {
    let path = own_folder(path.as_ref(), "image_encoder");
    open_part(&path, "model", opening, |text| {
        let config: ClipVisionConfig =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    })
}

/// Opens a safetensors file by itself, without settings: its arrays under their own names.
///
/// # Errors
/// When the file is broken.
pub fn open_arrays(path: impl AsRef<Path>, opening: &Opening) -> Result<Source> {
    let archive = part::archive_of(path.as_ref(), vec![path.as_ref().to_owned()], opening)?;
    Ok(Source::stored(Arc::new(archive)))
}

/// `path/name` where there is such a folder, `path` itself otherwise.
fn own_folder(path: &Path, name: &str) -> PathBuf {
    let inside = path.join(name);
    if inside.is_dir() {
        inside
    } else {
        path.to_owned()
    }
}

fn open_part<C>(
    path: &Path,
    stem: &'static str,
    opening: &Opening,
    parse: impl FnOnce(&str) -> std::result::Result<C, String>,
) -> Result<Part<C>> {
    let folder = Folder { path, stem };
    let (config_path, text) = folder.config()?;
    let config = parse(&text).map_err(|message| Error::file(&config_path, message))?;
    Ok(Part {
        config,
        archive: Arc::new(folder.archive(opening)?),
    })
}

fn open_folder(path: &Path, opening: &Opening) -> Result<Weights> {
    check_model_index(path)?;
    for name in ["unet", "vae", "image_encoder"] {
        if !path.join(name).is_dir() {
            return Err(Error::file(
                path,
                format!(
                    "the folder `{name}` is missing; download the whole model, or copy it there"
                ),
            ));
        }
    }
    Ok(Weights {
        path: path.to_owned(),
        format: Format::Diffusers,
        unet: open_unet(path, opening)?,
        vae: open_vae(path, opening)?,
        image_encoder: open_image_encoder(path, opening)?,
    })
}

/// The class that `model_index.json` must name.
pub(super) const PIPELINE: &str = "StableVideoDiffusionPipeline";

/// Refuses a folder that is not a model's.
fn check_model_index(path: &Path) -> Result<()> {
    let index = path.join("model_index.json");
    let text = match std::fs::read_to_string(&index) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::file(path, without_index(path)?));
        }
        Err(source) => return Err(Error::io(&index, "read", source)),
    };
    let found: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Error::file(&index, format!("{error}; download it again")))?;
    match found.get("_class_name").and_then(|name| name.as_str()) {
        Some(PIPELINE) => Ok(()),
        other => Err(Error::file(
            &index,
            format!(
                "expected a {PIPELINE}, found {}; Kinora runs image-to-video models of the family of \
                 Stable Video Diffusion",
                other.unwrap_or("no class")
            ),
        )),
    }
}

/// What a folder without `model_index.json` may be, and what to give instead.
fn without_index(path: &Path) -> Result<String> {
    let names = part::names_in(path)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    let file = names.iter().find(|name| name.ends_with(".safetensors"));
    Ok(match file {
        _ if has("unet") && has("vae") => {
            "`model_index.json` is missing, though the networks' folders are here; copy it from \
             where the model came from"
                .to_owned()
        }
        _ if has("config.json") => {
            "this is the folder of one network; give the folder above it, which holds \
             `model_index.json`"
                .to_owned()
        }
        Some(file) => format!(
            "a model folder holds `model_index.json`, and this one does not; if {file} is an \
             original single file, give the file itself"
        ),
        None if names
            .iter()
            .any(|name| stranger::has_pickle_name(Path::new(name))) =>
        {
            format!(
                "a model folder holds `model_index.json`, this one only a pickle; {}",
                stranger::PICKLE
            )
        }
        None => {
            "a model folder holds `model_index.json`, and this one does not; give the folder of \
                 a model in the layout of diffusers, or the original single file"
                .to_owned()
        }
    })
}

fn open_single_file(path: &Path, opening: &Opening) -> Result<Weights> {
    let file = part::map(path)?;
    let arrays = header::read(path, &file.map)?;
    let names = || arrays.iter().map(|array| array.name.as_str());
    if !keys::is_original(names()) {
        return Err(Error::file(
            path,
            "this safetensors file holds no whole model (none of its arrays is under \
             `model.diffusion_model.`); if it belongs to a model folder, give that folder, and \
             `kinora inspect` tells what it is",
        ));
    }
    let decoder = Decoder::of(names());
    let mut archives = sort(&file, arrays, decoder)?;
    let preset = Preset::recognise(
        |name| dims_of(&archives[&Network::UNet], name),
        file_name(path).contains("xt"),
    )
    .ok_or_else(|| {
        Error::file(
            path,
            format!(
                "the UNet in this file has the sizes of no preset Kinora knows ({}); convert the \
                 model to a folder in the layout of diffusers, whose config.json says the sizes",
                Preset::names()
            ),
        )
    })?;
    let mut part = |network| -> Result<Arc<Archive>> {
        let archive = archives.remove(&network).expect("one for each network");
        Ok(Arc::new(part::finish(archive, opening)?))
    };
    let mut unet_config = preset.unet();
    // The authors' code and diffusers differ here, and these weights come from the former.
    unet_config.norm_eps = NormEps::Original;
    let mut vae_config = preset.vae();
    if !decoder.temporal {
        vae_config.kind = VaeKind::Image;
    }
    Ok(Weights {
        path: path.to_owned(),
        format: Format::Original,
        unet: Part {
            config: unet_config,
            archive: part(Network::UNet)?,
        },
        vae: Part {
            config: vae_config,
            archive: part(Network::Vae)?,
        },
        image_encoder: Part {
            config: preset.image_encoder(),
            archive: part(Network::ImageEncoder)?,
        },
    })
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().to_lowercase()
}

fn dims_of(archive: &Archive, name: &str) -> Option<Vec<usize>> {
    Some(archive.arrays.get(name)?.dims.clone())
}

/// The arrays of a single file, each put where diffusers would have it.
fn sort(
    file: &Arc<MappedFile>,
    arrays: Vec<Described>,
    decoder: Decoder,
) -> Result<BTreeMap<Network, Archive>> {
    let empty = || Archive {
        path: file.path.clone(),
        arrays: BTreeMap::new(),
        remedy: "the name is given as diffusers spells it. The file is incomplete, or was put \
                 together from different models: download it again"
            .to_owned(),
    };
    let networks = [Network::UNet, Network::Vae, Network::ImageEncoder];
    let mut archives: BTreeMap<_, _> = networks.iter().map(|n| (*n, empty())).collect();
    for array in arrays {
        let name = array.name.clone();
        let Some(place) = keys::place(&name, decoder) else {
            return Err(Error::Unused {
                name,
                count: 1,
                file: file.path.clone(),
                remedy: "the file holds more than Stable Video Diffusion, or was saved by another \
                         program: `kinora inspect` lists its parts"
                    .to_owned(),
            });
        };
        if place == Place::LeftOut {
            continue;
        }
        let stored = part::stored(file, array)?;
        for (network, name, stored) in split(place, stored)? {
            let archive = archives.get_mut(&network).expect("one for each network");
            part::insert(archive, name, stored)?;
        }
    }
    Ok(archives)
}

/// One array of the file as the one or three arrays it stands for.
fn split(place: Place, mut stored: Stored) -> Result<Vec<(Network, String, Stored)>> {
    let refuse = |stored: &Stored, expected: &str| {
        Err(Error::file(
            &stored.file.path,
            format!(
                "`{}`: expected {expected}, found {:?}; download the file again",
                stored.file_name, stored.dims
            ),
        ))
    };
    Ok(match place {
        Place::LeftOut => Vec::new(),
        Place::Whole(network, name) => vec![(network, name, stored)],
        Place::Squeezed(network, name) => {
            match stored.dims[..] {
                [_, _] => {}
                [o, i, 1, 1] => stored.dims = vec![o, i],
                _ => return refuse(&stored, "a 1×1 convolution [o, i, 1, 1]"),
            }
            vec![(network, name, stored)]
        }
        Place::Transposed(network, name) => {
            let [rows, columns] = stored.dims[..] else {
                return refuse(&stored, "a matrix");
            };
            stored.dims = vec![columns, rows];
            stored.transposed = true;
            vec![(network, name, stored)]
        }
        Place::Thirds(network, names) => {
            if !stored
                .dims
                .first()
                .is_some_and(|rows| rows.is_multiple_of(3))
            {
                return refuse(&stored, "queries, keys and values one after the other");
            }
            stored.dims[0] /= 3;
            let third = |k: usize, name| {
                let offset = stored.offset + k * stored.size_bytes();
                (
                    network,
                    name,
                    Stored {
                        offset,
                        ..stored.clone()
                    },
                )
            };
            names
                .into_iter()
                .enumerate()
                .map(|(k, name)| third(k, name))
                .collect()
        }
    })
}
