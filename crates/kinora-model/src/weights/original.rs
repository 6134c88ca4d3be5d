//! The original single file, opened: its arrays sorted into networks, its sizes recognised.

use super::archive::{Archive, MappedFile, Stored};
use super::header::{self, Described};
use super::keys::{self, Decoder, Network, Place};
use super::open::{Format, Weights};
use super::part::{self, Opening, Part};
use crate::presets::Preset;
use crate::unet::NormEps;
use crate::vae::VaeKind;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Opens the file in which the authors published a whole model.
///
/// # Errors
/// When it is another file, broken, or of sizes that no preset has.
pub(super) fn open_single_file(path: &Path, opening: &Opening) -> Result<Weights> {
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
    let preset = recognise(path, &archives[&Network::UNet])?;
    let mut part = |network| -> Result<Arc<Archive>> {
        let archive = archives.remove(&network).expect("one for each network");
        Ok(Arc::new(part::finish(archive, opening)?))
    };
    let mut unet = Part {
        config: preset.unet(),
        archive: part(Network::UNet)?,
    };
    // The authors' code and diffusers differ here, and these weights come from the former.
    unet.config.norm_eps = NormEps::Original;
    let mut vae = Part {
        config: preset.vae(),
        archive: part(Network::Vae)?,
    };
    if !decoder.temporal {
        vae.config.kind = VaeKind::Image;
    }
    Ok(Weights {
        path: path.to_owned(),
        format: Format::Original,
        unet,
        vae,
        image_encoder: Part {
            config: preset.image_encoder(),
            archive: part(Network::ImageEncoder)?,
        },
    })
}

/// The preset of these sizes. The file does not say its number of frames, its name does.
fn recognise(path: &Path, unet: &Archive) -> Result<&'static Preset> {
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_xt = file_name.to_lowercase().contains("xt");
    let dims_of = |name: &str| Some(unet.arrays.get(name)?.dims.clone());
    Preset::recognise(dims_of, is_xt).ok_or_else(|| {
        Error::file(
            path,
            format!(
                "the UNet in this file has the sizes of no preset Kinora knows ({}); convert the \
                 model to a folder in the layout of diffusers, whose config.json says the sizes",
                Preset::names()
            ),
        )
    })
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
    Ok(match place {
        Place::LeftOut => Vec::new(),
        Place::Whole(network, name) => vec![(network, name, stored)],
        Place::Squeezed(network, name) => {
            match stored.dims[..] {
                [_, _] => {}
                [o, i, 1, 1] => stored.dims = vec![o, i],
                _ => return Err(stored.misshapen("a 1×1 convolution [o, i, 1, 1]")),
            }
            vec![(network, name, stored)]
        }
        Place::Transposed(network, name) => vec![(network, name, stored.with_axes_exchanged()?)],
        Place::Thirds(network, names) => names
            .into_iter()
            .zip(stored.into_thirds()?)
            .map(|(name, third)| (network, name, third))
            .collect(),
    })
}
