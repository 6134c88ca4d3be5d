//! Model folders: written, opened again, in every precision and in shards; and what is refused.

use crate::files::{self, Array};
use crate::tiny::{self, Tiny};
use kinora_model::Error;
use kinora_model::params::{Init, Layout, Source};
use kinora_model::unet::{NormEps, UNet};
use kinora_model::weights::{self, Format, Opening, Variant, Weights};
use kinora_tensor::DType;
use std::fs;
use std::path::Path;

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

fn refusal(path: &Path) -> String {
    Weights::open(path).unwrap_err().to_string()
}

/// A model folder, and the place it is in.
fn model(dtype: DType) -> (tempfile::TempDir, Tiny) {
    let (folder, tiny) = (tempfile::tempdir().unwrap(), Tiny::new());
    tiny.save(folder.path(), dtype);
    (folder, tiny)
}

#[test]
fn what_is_saved_opens_with_the_same_values() {
    for dtype in [DType::F32, DType::F16] {
        let (folder, tiny) = model(dtype);
        let weights = Weights::open(folder.path()).unwrap();
        assert_eq!(weights.format, Format::Diffusers);
        assert_eq!(weights.unet.config, tiny::preset().unet());
        assert_eq!(weights.vae.config, tiny::preset().vae());
        assert_eq!(weights.image_encoder.config, tiny::preset().image_encoder());
        let built = tiny::build(&weights);
        tiny::assert_same(&built, &tiny);
        for entry in &built.unet {
            // Sixteen bits stay sixteen bits, also where the axes were moved.
            assert_eq!(entry.param.get().dtype(), dtype, "{}", entry.name);
        }
        assert_eq!(weights.unet.values(), tiny.unet.values());
    }
}

#[test]
fn other_libraries_read_what_is_saved_in_the_published_order_of_axes() {
    let (folder, tiny) = model(DType::F32);
    let arrays = files::read(&folder.path().join(UNET));
    assert_eq!(arrays.len(), tiny.unet.len());
    let find = |name: &str| arrays.iter().find(|array| array.name == name).unwrap();
    assert_eq!(find("conv_in.weight").dims, [32, 8, 3, 3]);
    let time = "down_blocks.0.resnets.0.temporal_res_block.conv1.weight";
    assert_eq!(find(time).dims, [32, 32, 3, 1, 1]);
    // [o, i, kh, kw] in the file, [o, kh, kw, i] in memory.
    let (file, memory) = (
        &find("conv_in.weight").bytes,
        tiny.unet.get("conv_in.weight").unwrap(),
    );
    let value = |o: usize, i: usize, y: usize, x: usize| {
        let place = 4 * (((o * 8 + i) * 3 + y) * 3 + x);
        f32::from_le_bytes(file[place..place + 4].try_into().unwrap())
    };
    let memory = memory.get().to_vec();
    for (o, i, y, x) in [(0, 0, 0, 0), (31, 7, 2, 1), (5, 3, 1, 2)] {
        assert_eq!(value(o, i, y, x), memory[((o * 3 + y) * 3 + x) * 8 + i]);
    }
}

#[test]
fn equal_parameters_give_equal_bytes_and_no_leftovers() {
    let (one, tiny) = model(DType::F32);
    let other = tempfile::tempdir().unwrap();
    tiny.save(other.path(), DType::F32);
    tiny.save(other.path(), DType::F32); // Over itself, as a checkpoint does.
    let bytes = |folder: &Path| fs::read(folder.join(UNET)).unwrap();
    assert_eq!(bytes(one.path()), bytes(other.path()));
    let mut names: Vec<_> = fs::read_dir(other.path().join("unet"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["config.json", "diffusion_pytorch_model.safetensors"]
    );
}

#[test]
fn weights_stay_readable_when_their_file_is_saved_over() {
    let (folder, tiny) = model(DType::F32);
    let built = tiny::build(&Weights::open(folder.path()).unwrap());
    for entry in &tiny.unet {
        entry
            .param
            .set(kinora_tensor::Tensor::zeros(entry.param.get().shape()));
    }
    tiny.save(folder.path(), DType::F32);
    let name = "mid_block.attentions.0.proj_in.weight";
    assert!(
        built
            .unet
            .get(name)
            .unwrap()
            .get()
            .to_vec()
            .iter()
            .any(|v| *v != 0.0)
    );
}

#[test]
fn the_wanted_precision_is_taken_or_the_highest_there_is() {
    let (folder, tiny) = model(DType::F32);
    let half = tempfile::tempdir().unwrap();
    tiny.save(half.path(), DType::F16);
    let parts = [
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("image_encoder", "model"),
    ];
    for (part, stem) in parts {
        let from = half.path().join(part).join(format!("{stem}.safetensors"));
        let to = folder
            .path()
            .join(part)
            .join(format!("{stem}.fp16.safetensors"));
        fs::copy(from, to).unwrap();
    }
    let dtype = |variant| {
        let opening = Opening {
            variant,
            ..Opening::default()
        };
        let built = tiny::build(&Weights::open_with(folder.path(), &opening)?);
        tiny::assert_same(&built, &tiny);
        Ok::<_, Error>(built.vae.get("quant_conv.weight").unwrap().get().dtype())
    };
    assert_eq!(dtype(None).unwrap(), DType::F32);
    assert_eq!(dtype(Some(Variant::Fp16)).unwrap(), DType::F16);
    let error = dtype(Some(Variant::Bf16)).unwrap_err().to_string();
    assert!(
        error.contains("unet: expected weights named diffusion_pytorch_model.bf16.safetensors"),
        "{error}"
    );
    assert!(
        error.contains("found config.json, diffusion_pytorch_model.fp16.safetensors"),
        "{error}"
    );
    assert!(error.contains("ask for another variant"), "{error}");
    for (part, stem) in parts {
        fs::remove_file(folder.path().join(part).join(format!("{stem}.safetensors"))).unwrap();
    }
    assert_eq!(dtype(None).unwrap(), DType::F16);
    assert!(dtype(Some(Variant::Fp32)).is_err());
}

/// Splits the denoiser's file in two, as large models are published.
fn shard(folder: &Path) -> [String; 2] {
    let arrays = files::read(&folder.join(UNET));
    fs::remove_file(folder.join(UNET)).unwrap();
    let names = [1, 2].map(|n| format!("diffusion_pytorch_model-0000{n}-of-00002.safetensors"));
    let mut map = serde_json::Map::new();
    let halves = arrays.split_at(arrays.len() / 2);
    for (name, half) in names.iter().zip([halves.0, halves.1]) {
        files::write(&folder.join("unet").join(name), half);
        for array in half {
            map.insert(array.name.clone(), name.clone().into());
        }
    }
    let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": map});
    let path = folder.join("unet/diffusion_pytorch_model.safetensors.index.json");
    fs::write(path, index.to_string()).unwrap();
    names
}

#[test]
fn shards_are_one_network() {
    let (folder, tiny) = model(DType::F32);
    let whole = Weights::open(folder.path()).unwrap().fingerprint();
    let names = shard(folder.path());
    let weights = Weights::open(folder.path()).unwrap();
    tiny::assert_same(&tiny::build(&weights), &tiny);
    // Where the arrays lie does not change what they are.
    assert_eq!(weights.fingerprint(), whole);

    let shards = names.map(|name| folder.path().join("unet").join(name));
    fs::copy(&shards[0], &shards[1]).unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("is already in"), "{error}");
    fs::remove_file(&shards[1]).unwrap();
    let error = refusal(folder.path());
    assert!(
        error.contains("00002-of-00002.safetensors: this shard is missing"),
        "{error}"
    );
}

#[test]
fn an_index_does_not_point_out_of_its_folder() {
    let (folder, _) = model(DType::F32);
    fs::remove_file(folder.path().join(UNET)).unwrap();
    let index = folder
        .path()
        .join("unet/diffusion_pytorch_model.safetensors.index.json");
    for name in [
        "../vae/diffusion_pytorch_model.safetensors",
        "/etc/passwd",
        "..",
    ] {
        fs::write(&index, format!("{{\"weight_map\": {{\"a\": \"{name}\"}}}}")).unwrap();
        let error = refusal(folder.path());
        assert!(
            error.contains("is not the name of a file beside the index"),
            "{error}"
        );
    }
}

#[test]
fn one_network_opens_from_the_model_or_from_its_own_folder() {
    let (folder, tiny) = model(DType::F32);
    for path in [folder.path().to_owned(), folder.path().join("vae")] {
        let vae = weights::open_vae(&path, &Opening::default()).unwrap();
        assert_eq!(vae.values(), tiny.vae.values());
    }
    let unet = weights::open_unet(folder.path(), &Opening::default()).unwrap();
    assert_eq!(unet.config.norm_eps, NormEps::Diffusers);
}

#[test]
fn missing_unused_and_misshapen_arrays_are_named() {
    let (folder, _) = model(DType::F32);
    let path = folder.path().join(UNET);
    let arrays = files::read(&path);
    let build = |arrays: &[Array]| {
        files::write(&path, arrays);
        let unet = weights::open_unet(folder.path(), &Opening::default()).unwrap();
        let source = unet.source();
        let built = UNet::new(&source, &unet.config).map(|_| ());
        built.and_then(|()| source.check_unused()).unwrap_err()
    };
    let place = arrays
        .iter()
        .position(|array| array.name == "conv_norm_out.bias")
        .unwrap();

    let mut missing = arrays.clone();
    missing.remove(place);
    let error = build(&missing);
    assert!(matches!(&error, Error::Missing { name, .. } if name == "conv_norm_out.bias"));
    assert!(
        error
            .to_string()
            .contains("diffusion_pytorch_model.safetensors: `conv_norm_out.bias` is missing")
    );

    let mut unused = arrays.clone();
    unused.push(Array::zeros("lora.up", &[2]));
    unused.push(Array::zeros("lora.down", &[2]));
    let error = build(&unused).to_string();
    assert!(
        error.contains("2 arrays belong to no part of the network, the first is `lora.down`"),
        "{error}"
    );

    let mut misshapen = arrays.clone();
    misshapen[place] = Array::zeros("conv_norm_out.bias", &[16]);
    let error = build(&misshapen).to_string();
    assert!(
        error.contains("`conv_norm_out.bias`: expected [32], found [16]"),
        "{error}"
    );
    assert!(error.contains("kinora inspect"), "{error}");
}

#[test]
fn a_list_of_positions_from_older_releases_is_read_over() {
    let (folder, tiny) = model(DType::F32);
    let path = folder.path().join("image_encoder/model.safetensors");
    let mut arrays = files::read(&path);
    arrays.push(Array {
        name: "vision_model.embeddings.position_ids".to_owned(),
        dtype: safetensors::Dtype::I64,
        dims: vec![1, 17],
        bytes: vec![0; 17 * 8],
    });
    files::write(&path, &arrays);
    tiny::assert_same(&tiny::build(&Weights::open(folder.path()).unwrap()), &tiny);
}

#[test]
fn a_folder_that_is_no_model_says_what_to_give_instead() {
    let (folder, _) = model(DType::F32);
    let root = folder.path();
    assert!(refusal(&root.join("unet")).contains("give the folder above it"));
    fs::rename(root.join("vae"), root.join("elsewhere")).unwrap();
    assert!(refusal(root).contains("the folder `vae` is missing"));
    fs::rename(root.join("elsewhere"), root.join("vae")).unwrap();

    let index = root.join("model_index.json");
    fs::write(&index, r#"{"_class_name": "StableDiffusionXLPipeline"}"#).unwrap();
    assert!(refusal(root).contains("found StableDiffusionXLPipeline"));
    fs::remove_file(&index).unwrap();
    assert!(refusal(root).contains("`model_index.json` is missing, though"));

    let empty = tempfile::tempdir().unwrap();
    assert!(refusal(empty.path()).contains("give the folder of a model"));
    fs::write(empty.path().join("svd.safetensors"), []).unwrap();
    assert!(refusal(empty.path()).contains("if svd.safetensors is an original single file"));
    assert!(refusal(&empty.path().join("nowhere")).contains("could not open"));
}

#[test]
fn a_network_without_settings_or_with_wrong_ones_is_refused() {
    let (folder, _) = model(DType::F32);
    let config = folder.path().join("vae/config.json");
    fs::write(&config, r#"{"_class_name": "AutoencoderTiny"}"#).unwrap();
    assert!(refusal(folder.path()).contains("vae/config.json"));
    fs::remove_file(&config).unwrap();
    assert!(refusal(folder.path()).contains("the settings of the network are missing"));
}

#[test]
fn arrays_that_keep_their_order_are_read_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    files::write(
        &path,
        &[Array::f32("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])],
    );
    let weight = || {
        let source = weights::open_arrays(&path, &Opening::default()).unwrap();
        let weight = source
            .param("w", &[2, 3], Layout::Plain, Init::Zeros)
            .unwrap();
        weight.get().as_f32().unwrap().as_ptr() as usize
    };
    // The header is a multiple of eight bytes long, so that every value is aligned, and a page
    // begins the map; a copy would lie anywhere.
    let (first, header) = (weight(), fs::metadata(&path).unwrap().len() as usize - 24);
    assert_eq!(first % 4096, header % 4096);
}

#[test]
fn presence_decides_what_is_optional() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    files::write(&path, &[Array::zeros("norm.weight", &[4])]);
    let source = weights::open_arrays(&path, &Opening::default()).unwrap();
    let norm = source.at("norm");
    let take = |name| {
        norm.optional(name, &[4], Layout::Plain, Init::Zeros)
            .unwrap()
    };
    assert!(take("weight").is_some());
    assert!(take("bias").is_none());
    source.check_unused().unwrap();
    assert!(
        Source::fresh(0)
            .optional("bias", &[4], Layout::Plain, Init::Ones)
            .unwrap()
            .is_some()
    );
}
