//! What `kinora inspect` is told of weights.

use crate::files::{self, Array};
use crate::original;
use crate::tiny::Tiny;
use kinora_model::weights::{self, Format, describe};
use kinora_tensor::DType;

#[test]
fn a_model_folder() {
    let (folder, tiny) = (tempfile::tempdir().unwrap(), Tiny::new());
    tiny.save(folder.path(), DType::F16);
    let found = describe(folder.path(), None).unwrap();
    assert_eq!(found.kind, "model folder written by Kinora");
    assert_eq!(found.format, Some(Format::Diffusers));
    assert_eq!(found.preset.as_deref(), Some("tiny"));
    assert_eq!(found.num_frames, Some(3));
    let unet = &found.parts[0];
    assert_eq!((unet.name.as_str(), unet.arrays), ("unet", tiny.unet.len()));
    assert_eq!(unet.parameters, tiny.unet.values());
    assert_eq!(unet.bytes, 2 * tiny.unet.values());
    assert_eq!(unet.dtypes["f16"], unet.parameters);
    let text = found.to_string();
    assert!(text.contains("sizes of preset tiny"), "{text}");
    assert!(text.contains(&found.fingerprint), "{text}");
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["format"], "diffusers");
    assert_eq!(json["parts"][1]["name"], "vae");
}

#[test]
fn an_original_file_and_what_it_holds_beside_the_networks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("svd_xt.safetensors");
    let tiny = Tiny::new();
    original::write(&path, &tiny, true);
    let found = describe(&path, None).unwrap();
    assert_eq!(found.kind, "original single file");
    assert_eq!(found.preset.as_deref(), Some("tiny"));
    let names: Vec<&str> = found.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["unet", "vae", "image_encoder", "not used"]);
    assert_eq!(found.parts[1].parameters, tiny.vae.values());
    assert_eq!(found.parts[3].arrays, original::LEFT_OUT.len());
    original::write(&path, &tiny, false);
    let found = describe(&path, None).unwrap();
    assert_eq!(found.kind, "original single file with the image decoder");
}

#[test]
fn one_network_and_a_file_by_itself() {
    let (folder, tiny) = (tempfile::tempdir().unwrap(), Tiny::new());
    tiny.save(folder.path(), DType::F32);
    let found = describe(folder.path().join("vae"), None).unwrap();
    assert_eq!(found.kind, "less than a whole model: vae");
    std::fs::remove_file(folder.path().join("model_index.json")).unwrap();
    let found = describe(folder.path(), None).unwrap();
    assert_eq!(
        found.kind,
        "less than a whole model: unet and vae and image_encoder"
    );

    let file = |part: &str| {
        let found = describe(folder.path().join(part), None).unwrap();
        assert_eq!((found.format, found.parts.len()), (None, 1));
        found.kind
    };
    let one = "weights of one network";
    assert_eq!(
        file("unet/diffusion_pytorch_model.safetensors"),
        format!("{one}: unet")
    );
    assert_eq!(
        file("vae/diffusion_pytorch_model.safetensors"),
        format!("{one}: vae")
    );
    assert_eq!(
        file("image_encoder/model.safetensors"),
        format!("{one}: image_encoder")
    );
    let path = folder.path().join("other.safetensors");
    files::write(&path, &[Array::zeros("a", &[3])]);
    assert_eq!(
        file("other.safetensors"),
        "safetensors file of no model Kinora knows"
    );
}

#[test]
fn the_fingerprint_follows_the_values_and_not_the_place() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tiny = Tiny::new();
    tiny.save(one.path(), DType::F32);
    tiny.save(other.path(), DType::F32);
    let fingerprint = |folder: &tempfile::TempDir| {
        let found = describe(folder.path(), None).unwrap().fingerprint;
        assert_eq!(
            weights::Weights::open(folder.path()).unwrap().fingerprint(),
            found
        );
        assert_eq!(found.len(), 64);
        found
    };
    assert_eq!(fingerprint(&one), fingerprint(&other));
    let bias = tiny.vae.get("decoder.conv_out.bias").unwrap();
    bias.update(|values| values[2] += 0.25).unwrap();
    tiny.save(other.path(), DType::F32);
    assert_ne!(fingerprint(&one), fingerprint(&other));
}
