//! A whole model, opened: a folder as diffusers lays it out, or the original single file.

use super::original::open_single_file;
use super::part::{self, Folder, Opening, Part};
use super::stranger;
use crate::clip::ClipVisionConfig;
use crate::params::Source;
use crate::unet::UNetConfig;
use crate::vae::VaeConfig;
use crate::{Error, Result};
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
