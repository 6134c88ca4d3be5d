//! CLIP, opened: a folder as transformers lays it out, or open_clip's single file.

use super::archive::{Archive, Stored};
use super::clip_keys::{self, Put};
use super::header;
use super::open_clip_config::{self, OpenClipConfig};
use super::part::{self, Folder, Opening, Part};
use crate::clip::{ClipConfig, ClipTextConfig, ClipVisionConfig, Crop, HiddenAct, Preprocess};
use crate::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens CLIP, both towers: the folder of a `CLIPModel` of transformers, the folder of an open_clip
/// model, or open_clip's weights file by itself.
///
/// The settings are in `config.json` or `open_clip_config.json` beside the weights. open_clip's file
/// may come without: its sizes are in the arrays, but not its activation, which `activation` then
/// says. Where a file says it, `activation` must agree or be left out.
///
/// # Errors
/// When it is neither, or its files are missing, broken or do not fit each other; the text names the
/// file, the array and the remedy.
pub fn open_clip_model(
    path: impl AsRef<Path>,
    activation: Option<HiddenAct>,
    opening: &Opening,
) -> Result<Part<ClipConfig>> {
    let path = path.as_ref();
    let found = std::fs::metadata(path).map_err(|error| Error::io(path, "open", error))?;
    let part = match (found.is_dir(), open_clip_file(path)?) {
        (true, Some(file)) if !path.join("config.json").exists() => {
            open_single_file(&file, activation, opening)?
        }
        (true, _) => open_transformers(path, opening)?,
        (false, _) => open_single_file(path, activation, opening)?,
    };
    let saved = part.config.text.hidden_act;
    match activation {
        Some(wanted) if wanted != saved => Err(Error::file(
            path,
            format!(
                "the settings beside the weights say the activation is {saved:?}, and {wanted:?} was \
                 asked for; leave it out"
            ),
        )),
        _ => Ok(part),
    }
}

/// open_clip's weights in a folder, if they are there.
pub(super) fn open_clip_file(folder: &Path) -> Result<Option<PathBuf>> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let names = part::names_in(folder)?;
    let file = names
        .iter()
        .find(|name| name.starts_with("open_clip") && name.ends_with(".safetensors"));
    Ok(file.map(|name| folder.join(name)))
}

/// The settings beside open_clip's weights, where there are any.
pub(super) fn config_beside(file: &Path) -> Result<Option<OpenClipConfig>> {
    let path = file.with_file_name(open_clip_config::FILE);
    match path.exists() {
        true => OpenClipConfig::open(&path).map(Some),
        false => Ok(None),
    }
}

fn open_transformers(path: &Path, opening: &Opening) -> Result<Part<ClipConfig>> {
    let folder = Folder {
        path,
        stem: "model",
    };
    let (config_path, text) = folder.config()?;
    let mut config =
        config_of_transformers(&text).map_err(|message| Error::file(&config_path, message))?;
    if let Some(preprocess) = preprocess_beside(path)? {
        config.preprocess = preprocess;
    }
    config.check()?;
    Ok(Part {
        config,
        archive: Arc::new(folder.archive(opening)?),
    })
}

/// The settings of a `CLIPModel`. What a file leaves out has the value transformers gives it.
fn config_of_transformers(text: &str) -> std::result::Result<ClipConfig, String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match file.get("model_type").and_then(Value::as_str) {
        Some("clip") => {}
        other => {
            return Err(format!(
                "model_type: expected clip, both towers, found {}",
                other.unwrap_or("none")
            ));
        }
    }
    let projection_dim = file.get("projection_dim").cloned().unwrap_or(512.into());
    let tower = |key: &str, defaults: Value| {
        let (Value::Object(mut settings), given) = (defaults, file.get(key)) else {
            unreachable!("the defaults are an object");
        };
        if let Some(Value::Object(given)) = given {
            settings.extend(given.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        settings.insert("projection_dim".to_owned(), projection_dim.clone());
        Value::Object(settings)
    };
    let vision = tower(
        "vision_config",
        serde_json::json!({ "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "image_size": 224, "patch_size": 32,
            "hidden_act": "quick_gelu" }),
    );
    let text = tower(
        "text_config",
        serde_json::json!({ "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048,
            "num_hidden_layers": 12, "num_attention_heads": 8, "max_position_embeddings": 77,
            "hidden_act": "quick_gelu" }),
    );
    let vision: ClipVisionConfig =
        serde_json::from_value(vision).map_err(|error| format!("vision_config: {error}"))?;
    let text: ClipTextConfig =
        serde_json::from_value(text).map_err(|error| format!("text_config: {error}"))?;
    Ok(ClipConfig {
        vision,
        text,
        preprocess: Preprocess::new(Crop::Down),
    })
}

/// The means and deviations in `preprocessor_config.json`, where there is one.
fn preprocess_beside(folder: &Path) -> Result<Option<Preprocess>> {
    #[derive(serde::Deserialize)]
    struct Settings {
        image_mean: [f32; 3],
        image_std: [f32; 3],
        #[serde(default = "bicubic")]
        resample: u8,
    }
    fn bicubic() -> u8 {
        3
    }

    let path = folder.join("preprocessor_config.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(|error| Error::io(&path, "read", error))?;
    let settings: Settings = serde_json::from_str(&text)
        .map_err(|error| Error::file(&path, format!("{error}; download it again")))?;
    if settings.resample != bicubic() {
        let message = format!(
            "resample: expected 3, bicubic, found {}; Kinora prepares pictures as the published models \
             do",
            settings.resample
        );
        return Err(Error::file(&path, message));
    }
    Ok(Some(Preprocess {
        mean: settings.image_mean,
        std: settings.image_std,
        crop: Crop::Down,
    }))
}

fn open_single_file(
    path: &Path,
    activation: Option<HiddenAct>,
    opening: &Opening,
) -> Result<Part<ClipConfig>> {
    let refuse = |message| Error::file(path, message);
    // Settings first: they say best what a file is, if it is no CLIP.
    let beside = config_beside(path)?.map(|config| config.clip());
    let beside = beside.transpose().map_err(refuse)?;
    let archive = renamed_archive(path, opening, place)?;
    let config = match beside {
        Some(config) => config,
        None => config_from_arrays(&archive, activation).map_err(refuse)?,
    };
    config.check()?;
    Ok(Part {
        config,
        archive: Arc::new(archive),
    })
}

/// What becomes of the array `name` of open_clip's file: one or more of ours, or none where nothing is
/// computed with it. Nothing is known of a stranger.
type Place = fn(&str) -> Option<Option<Put>>;

fn place(name: &str) -> Option<Option<Put>> {
    match name {
        "logit_scale" => Some(Some(Put::Whole(name.to_owned()))),
        // The causal mask, which older releases saved.
        "attn_mask" => Some(None),
        _ => match name.strip_prefix("visual.") {
            Some(rest) => clip_keys::vision(rest).map(Some),
            // A text tower that is an object of its own in their code.
            None => clip_keys::text(name.strip_prefix("text.").unwrap_or(name)).map(Some),
        },
    }
}

/// The arrays of a file of open_clip under the names `place` gives them.
pub(super) fn renamed_archive(path: &Path, opening: &Opening, place: Place) -> Result<Archive> {
    let file = part::map(path)?;
    let mut archive = Archive {
        path: path.to_owned(),
        arrays: BTreeMap::new(),
        remedy:
            "the name is given as transformers spells it. The weights and their settings do not \
                 belong together, or the file is incomplete: fetch both from one place"
                .to_owned(),
    };
    for array in header::read(path, &file.map)? {
        let name = array.name.clone();
        let Some(put) = place(&name) else {
            return Err(Error::Unused {
                name,
                count: 1,
                file: path.to_owned(),
                remedy: "this is no model of open_clip, or one of another kind; a file of \
                         transformers is opened by its folder, which holds config.json"
                    .to_owned(),
            });
        };
        let Some(put) = put else { continue };
        let stored = part::stored(&file, array)?;
        for (name, stored) in split(put, stored)? {
            part::insert(&mut archive, name, stored)?;
        }
    }
    part::finish(archive, opening)
}

fn split(put: Put, stored: Stored) -> Result<Vec<(String, Stored)>> {
    Ok(match put {
        Put::Whole(name) => vec![(name, stored)],
        Put::Transposed(name) => vec![(name, stored.with_axes_exchanged()?)],
        Put::Thirds(names) => names.into_iter().zip(stored.into_thirds()?).collect(),
    })
}

/// The settings that the sizes of the arrays tell.
fn config_from_arrays(
    archive: &Archive,
    activation: Option<HiddenAct>,
) -> std::result::Result<ClipConfig, String> {
    let size = |name: &str, axis: usize| {
        let dims = archive.arrays.get(name).map(|stored| &stored.dims);
        dims.and_then(|dims| dims.get(axis).copied())
            .ok_or_else(|| format!("`{name}` is missing, so the sizes are not known"))
    };
    let layers = |model: &str| {
        let mut layers = 0;
        while archive.has(&format!("{model}.encoder.layers.{layers}.mlp.fc1.weight")) {
            layers += 1;
        }
        layers
    };
    let (vision, text) = ("vision_model", "text_model");
    let width = size("vision_model.embeddings.class_embedding", 0)?;
    let patch_size = size("vision_model.embeddings.patch_embedding.weight", 2)?;
    let places = size("vision_model.embeddings.position_embedding.weight", 0)?;
    let text_width = size("text_model.final_layer_norm.weight", 0)?;
    let hidden_act = activation.ok_or_else(|| {
        format!(
            "the weights do not say the activation, and two were published for these sizes; put the \
             {} of the model beside the file, or set the activation: quick_gelu for OpenAI's weights, \
             gelu for LAION's",
            open_clip_config::FILE
        )
    })?;
    let heads = match width {
        768 => 12,
        1024 | 1280 | 1408 | 1664 => 16,
        _ => {
            return Err(format!(
                "a vision tower of width {width} is none of the published ones, so its heads are not \
                 known; put the {} of the model beside the file",
                open_clip_config::FILE
            ));
        }
    };
    Ok(ClipConfig {
        vision: ClipVisionConfig {
            hidden_size: width,
            intermediate_size: size("vision_model.encoder.layers.0.mlp.fc1.weight", 0)?,
            projection_dim: size("visual_projection.weight", 0)?,
            num_hidden_layers: layers(vision),
            num_attention_heads: heads,
            num_channels: 3,
            image_size: places.saturating_sub(1).isqrt() * patch_size,
            patch_size,
            hidden_act,
            layer_norm_eps: 1e-5,
        },
        text: ClipTextConfig {
            vocab_size: size("text_model.embeddings.token_embedding.weight", 0)?,
            hidden_size: text_width,
            intermediate_size: size("text_model.encoder.layers.0.mlp.fc1.weight", 0)?,
            projection_dim: size("text_projection.weight", 0)?,
            num_hidden_layers: layers(text),
            // A head of every published text tower is 64 wide.
            num_attention_heads: text_width / 64,
            max_position_embeddings: size("text_model.embeddings.position_embedding.weight", 0)?,
            hidden_act,
            layer_norm_eps: 1e-5,
        },
        preprocess: Preprocess::new(Crop::Nearest),
    })
}
