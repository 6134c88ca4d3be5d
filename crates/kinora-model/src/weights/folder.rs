//! Writing a model as a folder in the layout of diffusers, which diffusers itself opens.

use super::open::PIPELINE;
use crate::clip::ClipVisionConfig;
use crate::params::Params;
use crate::unet::UNetConfig;
use crate::vae::VaeConfig;
use crate::{Error, Result};
use kinora_tensor::DType;
use serde_json::{Value, json};
use std::path::Path;

/// A model to be written: each network's settings and parameters.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// The denoiser.
    pub unet: (&'a UNetConfig, &'a Params),
    /// The autoencoder.
    pub vae: (&'a VaeConfig, &'a Params),
    /// The picture half of CLIP.
    pub image_encoder: (&'a ClipVisionConfig, &'a Params),
}

/// Writes a whole model into the folder `path`, every value rounded to `dtype`.
///
/// `model_index.json` comes last: a folder whose writing was cut short has none and is refused.
///
/// # Errors
/// When the file system refuses.
pub fn save_model(path: impl AsRef<Path>, model: &Model, dtype: DType) -> Result<()> {
    let path = path.as_ref();
    save_unet(path.join("unet"), model.unet.0, model.unet.1, dtype)?;
    save_vae(path.join("vae"), model.vae.0, model.vae.1, dtype)?;
    let (config, params) = model.image_encoder;
    save_image_encoder(path.join("image_encoder"), config, params, dtype)?;
    let side = |folder: &str, name: &str, value: &Value| {
        let folder = path.join(folder);
        make_folder(&folder)?;
        write_json(&folder.join(name), value)
    };
    side("scheduler", "scheduler_config.json", &scheduler())?;
    side(
        "feature_extractor",
        "preprocessor_config.json",
        &feature_extractor(config),
    )?;
    write_json(&path.join("model_index.json"), &model_index())
}

/// Writes a denoiser into its folder.
///
/// # Errors
/// When the file system refuses.
pub fn save_unet(
    path: impl AsRef<Path>,
    config: &UNetConfig,
    params: &Params,
    dtype: DType,
) -> Result<()> {
    let text = config.to_json()?;
    save_part(
        path.as_ref(),
        "diffusion_pytorch_model",
        &text,
        params,
        dtype,
    )
}

/// Writes an autoencoder into its folder.
///
/// # Errors
/// When the file system refuses.
pub fn save_vae(
    path: impl AsRef<Path>,
    config: &VaeConfig,
    params: &Params,
    dtype: DType,
) -> Result<()> {
    let text = pretty(&json!(config));
    save_part(
        path.as_ref(),
        "diffusion_pytorch_model",
        &text,
        params,
        dtype,
    )
}

/// Writes the picture half of CLIP into its folder.
///
/// # Errors
/// When the file system refuses.
pub fn save_image_encoder(
    path: impl AsRef<Path>,
    config: &ClipVisionConfig,
    params: &Params,
    dtype: DType,
) -> Result<()> {
    let mut value = json!(config);
    if let Value::Object(object) = &mut value {
        object.insert("model_type".to_owned(), "clip_vision_model".into());
        let architectures = json!(["CLIPVisionModelWithProjection"]);
        object.insert("architectures".to_owned(), architectures);
    }
    save_part(path.as_ref(), "model", &pretty(&value), params, dtype)
}

fn save_part(path: &Path, stem: &str, config: &str, params: &Params, dtype: DType) -> Result<()> {
    make_folder(path)?;
    params.save(path.join(format!("{stem}.safetensors")), dtype)?;
    write_text(&path.join("config.json"), config)
}

fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Error::io(path, "create", error))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_text(path, &pretty(value))
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, format!("{text}\n")).map_err(|error| Error::io(path, "write", error))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

fn model_index() -> Value {
    json!({
        "_class_name": PIPELINE,
        "_diffusers_version": "0.24.0",
        "_kinora_version": env!("CARGO_PKG_VERSION"),
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
        "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
    })
}

/// The noise levels every model of this family is sampled with, in diffusers' words.
fn scheduler() -> Value {
    json!({
        "_class_name": "EulerDiscreteScheduler",
        "_diffusers_version": "0.24.0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "interpolation_type": "linear",
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "sigma_max": 700.0,
        "sigma_min": 0.002,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "timestep_type": "continuous",
        "use_karras_sigmas": true,
    })
}

/// How a picture is made ready for CLIP, in transformers' words.
fn feature_extractor(config: &ClipVisionConfig) -> Value {
    let side = config.image_size;
    json!({
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": side, "width": side},
        "do_center_crop": true,
        "do_convert_rgb": true,
        "do_normalize": true,
        "do_rescale": true,
        "do_resize": true,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "rescale_factor": 1.0 / 255.0,
        "size": {"shortest_edge": side},
    })
}
