//! The original single file: the same model in both layouts gives the same parameters.
//!
//! The file is written from diffusers' names by rules of this test, the other way round from those
//! of the loader. What the authors' own code names its arrays is held by `original_golden.rs`.

use crate::files::{self, Array};
use crate::tiny::{self, Tiny};
use kinora_model::params::NamedParam;
use kinora_model::unet::NormEps;
use kinora_model::vae::{Vae, VaeKind};
use kinora_model::weights::{Format, Weights};
use std::path::Path;

const UNET: &str = "model.diffusion_model";
const CLIP: &str = "conditioner.embedders.0.open_clip.model";
const CONDITION: &str = "conditioner.embedders.3.encoder";

/// Arrays of the file that no network here uses.
pub const LEFT_OUT: [&str; 8] = [
    "conditioner.embedders.0.open_clip.model.token_embedding.weight",
    "conditioner.embedders.0.open_clip.model.positional_embedding",
    "conditioner.embedders.0.open_clip.model.ln_final.weight",
    "conditioner.embedders.0.open_clip.model.text_projection",
    "conditioner.embedders.0.open_clip.model.logit_scale",
    "conditioner.embedders.3.encoder.decoder.conv_in.weight",
    "conditioner.embedders.3.encoder.post_quant_conv.weight",
    "first_stage_model.encoder.conv_in.weight",
];

/// Writes `tiny` as the authors' code would have, with the temporal decoder or the stock one.
pub fn write(path: &Path, tiny: &Tiny, temporal: bool) {
    let mut arrays: Vec<Array> = LEFT_OUT.map(|name| Array::zeros(name, &[2, 2])).into();
    arrays.extend(
        tiny.unet
            .iter()
            .map(|entry| array(entry, &unet_name(&entry.name))),
    );
    for entry in &tiny.vae {
        arrays.extend(vae_array(entry, temporal));
    }
    if !temporal {
        arrays.push(Array::zeros(
            "first_stage_model.post_quant_conv.weight",
            &[4, 4, 1, 1],
        ));
        arrays.push(Array::zeros("first_stage_model.post_quant_conv.bias", &[4]));
        arrays.push(Array::zeros("first_stage_model.quant_conv.bias", &[8]));
    }
    arrays.extend(clip_arrays(tiny));
    files::write(path, &arrays);
}

/// The parameter as a file holds it.
fn array(entry: &NamedParam, name: &str) -> Array {
    let value = entry.param.get();
    let dims = entry.layout.file_dims(value.dims());
    let values = entry.layout.file_from_memory(&value.to_vec(), value.dims());
    Array::f32(name, &dims, &values)
}

fn number(text: &str) -> usize {
    text.parse().unwrap()
}

fn unet_name(name: &str) -> String {
    let parts: Vec<&str> = name.splitn(5, '.').collect();
    let block = match parts[..] {
        ["conv_in", leaf] => format!("input_blocks.0.0.{leaf}"),
        ["conv_norm_out", leaf] => format!("out.0.{leaf}"),
        ["conv_out", leaf] => format!("out.2.{leaf}"),
        ["time_embedding", layer, leaf] => format!("time_embed.{}.{leaf}", two(layer)),
        ["add_embedding", layer, leaf] => format!("label_emb.0.{}.{leaf}", two(layer)),
        ["mid_block", "resnets", which, a, rest] => {
            format!("middle_block.{}.{}", 2 * number(which), res_block(a, rest))
        }
        ["mid_block", "attentions", _, a, rest] => format!("middle_block.1.{}", attention(a, rest)),
        ["down_blocks", level, "downsamplers", _, rest] => {
            format!(
                "input_blocks.{}.0.{}",
                3 * number(level) + 3,
                rest.replace("conv", "op")
            )
        }
        ["up_blocks", level, "upsamplers", _, rest] => {
            // After the residual block, and after the transformer where there is one.
            let part = if level == "0" { 1 } else { 2 };
            format!("output_blocks.{}.{part}.{rest}", 3 * number(level) + 2)
        }
        ["down_blocks", level, kind, layer, rest] => {
            format!(
                "input_blocks.{}.{}",
                3 * number(level) + 1 + number(layer),
                inner(kind, rest)
            )
        }
        ["up_blocks", level, kind, layer, rest] => {
            format!(
                "output_blocks.{}.{}",
                3 * number(level) + number(layer),
                inner(kind, rest)
            )
        }
        _ => panic!("{name}"),
    };
    format!("{UNET}.{block}")
}

fn two(layer: &str) -> usize {
    2 * (number(layer.strip_prefix("linear_").unwrap()) - 1)
}

fn inner(kind: &str, rest: &str) -> String {
    let (a, rest) = rest.split_once('.').unwrap();
    match kind {
        "resnets" => format!("0.{}", res_block(a, rest)),
        "attentions" => format!("1.{}", attention(a, rest)),
        _ => panic!("{kind}"),
    }
}

fn res_block(a: &str, rest: &str) -> String {
    match a {
        "spatial_res_block" => sequential(rest),
        "temporal_res_block" => format!("time_stack.{}", sequential(rest)),
        _ => format!("{a}.{rest}"),
    }
}

fn sequential(rest: &str) -> String {
    let (layer, leaf) = rest.split_once('.').unwrap();
    let layer = match layer {
        "norm1" => "in_layers.0",
        "conv1" => "in_layers.2",
        "time_emb_proj" => "emb_layers.1",
        "norm2" => "out_layers.0",
        "conv2" => "out_layers.3",
        "conv_shortcut" => "skip_connection",
        _ => panic!("{rest}"),
    };
    format!("{layer}.{leaf}")
}

fn attention(a: &str, rest: &str) -> String {
    match a {
        "temporal_transformer_blocks" => format!("time_stack.{rest}"),
        "time_pos_embed" => {
            let (layer, leaf) = rest.split_once('.').unwrap();
            format!("time_pos_embed.{}.{leaf}", two(layer))
        }
        _ => format!("{a}.{rest}"),
    }
}

fn vae_array(entry: &NamedParam, temporal: bool) -> Option<Array> {
    let name = &entry.name;
    let in_time = ["temporal_res_block", "time_mixer", "time_conv_out"];
    if !temporal && in_time.iter().any(|part| name.contains(part)) {
        return None;
    }
    let levels = tiny::preset().vae_channels.len();
    let mut new = name
        .replace("mid_block.resnets.0", "mid.block_1")
        .replace("mid_block.resnets.1", "mid.block_2")
        .replace("mid_block.attentions.0", "mid.attn_1")
        .replace("group_norm", "norm")
        .replace("to_out.0", "proj_out")
        .replace("attn_1.to_", "attn_1.")
        .replace("conv_norm_out", "norm_out")
        .replace("spatial_res_block.", "")
        .replace("conv_shortcut", "nin_shortcut")
        .replace("time_mixer.", "")
        .replace("decoder.time_conv_out", "decoder.conv_out.time_mix_conv")
        .replace("downsamplers.0", "downsample")
        .replace("upsamplers.0", "upsample")
        .replace("down_blocks", "down");
    if let Some((before, rest)) = new.split_once("temporal_res_block.") {
        new = format!("{before}time_stack.{}", sequential(rest));
    }
    for level in 0..levels {
        new = new.replace(
            &format!("up_blocks.{level}."),
            &format!("up.{}.", levels - 1 - level),
        );
    }
    new = new.replace("resnets", "block");
    let root = if new.starts_with("decoder") {
        "first_stage_model"
    } else {
        CONDITION
    };
    let mut array = array(entry, &format!("{root}.{new}"));
    if array.name.contains("attn_1") && array.dims.len() == 2 {
        array.dims.extend([1, 1]);
    }
    Some(array)
}

fn clip_arrays(tiny: &Tiny) -> Vec<Array> {
    let params = &tiny.image_encoder;
    let get = |name: &str| {
        let entry = params.iter().find(|entry| entry.name == name);
        array(entry.unwrap_or_else(|| panic!("{name}")), "")
    };
    let mut arrays = Vec::new();
    for entry in params {
        let new = entry
            .name
            .replace(
                "vision_model.embeddings.position_embedding.weight",
                "positional_embedding",
            )
            .replace("vision_model.embeddings.patch_embedding", "conv1")
            .replace("vision_model.embeddings.", "")
            .replace("vision_model.pre_layrnorm", "ln_pre")
            .replace("vision_model.post_layernorm", "ln_post")
            .replace("vision_model.encoder.layers", "transformer.resblocks")
            .replace("layer_norm", "ln_")
            .replace("self_attn", "attn")
            .replace("mlp.fc1", "mlp.c_fc")
            .replace("mlp.fc2", "mlp.c_proj");
        let mut array = array(entry, &new);
        if let Some((layer, kind)) = new.split_once("q_proj.") {
            array.name = format!("{layer}in_proj_{kind}");
            for letter in ["k_proj", "v_proj"] {
                let other = get(&entry.name.replace("q_proj", letter));
                array.dims[0] += other.dims[0];
                array.bytes.extend(other.bytes);
            }
        } else if new.contains("k_proj") || new.contains("v_proj") {
            continue;
        } else if new == "visual_projection.weight" {
            array = transposed(&array, "proj");
        }
        array.name = format!("{CLIP}.visual.{}", array.name);
        arrays.push(array);
    }
    arrays
}

fn transposed(array: &Array, name: &str) -> Array {
    let [rows, columns] = array.dims[..] else {
        panic!()
    };
    let value = |row: usize, column: usize| {
        let place = 4 * (row * columns + column);
        f32::from_le_bytes(array.bytes[place..place + 4].try_into().unwrap())
    };
    let values: Vec<f32> = (0..columns)
        .flat_map(|c| (0..rows).map(move |r| (r, c)))
        .map(|(r, c)| value(r, c))
        .collect();
    Array::f32(name, &[columns, rows], &values)
}

#[test]
fn both_layouts_give_the_same_parameters() {
    let (folder, tiny) = (tempfile::tempdir().unwrap(), Tiny::new());
    let path = folder.path().join("svd.safetensors");
    write(&path, &tiny, true);
    let weights = Weights::open(&path).unwrap();
    assert_eq!(weights.format, Format::Original);
    assert_eq!(weights.unet.config.norm_eps, NormEps::Original);
    assert_eq!(weights.vae.config.kind, VaeKind::Temporal);
    tiny::assert_same(&tiny::build(&weights), &tiny);
}

#[test]
fn the_image_decoder_file_gives_the_stock_decoder() {
    let (folder, tiny) = (tempfile::tempdir().unwrap(), Tiny::new());
    let path = folder.path().join("svd_image_decoder.safetensors");
    write(&path, &tiny, false);
    let weights = Weights::open(&path).unwrap();
    assert_eq!(weights.vae.config.kind, VaeKind::Image);
    let source = weights.vae.source();
    Vae::new(&source, &weights.vae.config).unwrap();
    source.check_unused().unwrap();
    let params = source.params();
    let conv = params
        .get("decoder.up_blocks.0.resnets.1.conv2.weight")
        .unwrap();
    let same = tiny
        .vae
        .get("decoder.up_blocks.0.resnets.1.spatial_res_block.conv2.weight");
    assert_eq!(conv.get().to_vec(), same.unwrap().get().to_vec());
    assert!(params.get("post_quant_conv.weight").is_some());
}

#[test]
fn a_stranger_in_the_file_and_a_hole_in_it_are_named() {
    let (folder, tiny) = (tempfile::tempdir().unwrap(), Tiny::new());
    let path = folder.path().join("svd.safetensors");
    write(&path, &tiny, true);
    let arrays = files::read(&path);

    let mut more = arrays.clone();
    more.push(Array::zeros("model_ema.decay", &[1]));
    files::write(&path, &more);
    let error = Weights::open(&path).unwrap_err().to_string();
    assert!(error.contains("the first is `model_ema.decay`"), "{error}");

    let mut less = arrays;
    less.retain(|array| array.name != "first_stage_model.decoder.conv_out.time_mix_conv.bias");
    files::write(&path, &less);
    let weights = Weights::open(&path).unwrap();
    let error = Vae::new(&weights.vae.source(), &weights.vae.config)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`decoder.time_conv_out.bias` is missing"),
        "{error}"
    );
}

#[test]
fn a_file_of_other_sizes_or_of_no_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    files::write(
        &path,
        &[Array::zeros(
            &format!("{UNET}.input_blocks.0.0.bias"),
            &[48],
        )],
    );
    let error = Weights::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("the sizes of no preset Kinora knows (svd, svd-xt"),
        "{error}"
    );
    files::write(&path, &[Array::zeros("a", &[48])]);
    let error = Weights::open(&path).unwrap_err().to_string();
    assert!(error.contains("holds no whole model"), "{error}");
}
