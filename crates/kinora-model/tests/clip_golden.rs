//! Agreement of the CLIP vision tower with transformers; `fixtures/clip/make.py` made the goldens.

#![allow(clippy::unwrap_used)] // A golden that cannot be read fails its test.

mod golden;

use golden::{Golden, fixture};
use kinora_model::clip::{ClipVision, HiddenAct};
use kinora_model::weights::{Opening, open_image_encoder};
use kinora_tensor::Tensor;
use kinora_tensor::testing::assert_close;

fn open(name: &str) -> (ClipVision, Golden) {
    let folder = fixture(&format!("clip/{name}"));
    let part = open_image_encoder(folder, &Opening::default()).unwrap();
    let source = part.source();
    let tower = ClipVision::new(&source, &part.config).unwrap();
    source.check_unused().unwrap();
    (
        tower,
        Golden::open(&format!("clip/{name}_golden.safetensors")),
    )
}

#[test]
fn embeddings_are_those_of_transformers() {
    for (name, act) in [
        ("gelu", HiddenAct::Gelu),
        ("quick_gelu", HiddenAct::QuickGelu),
    ] {
        let (tower, golden) = open(name);
        assert_eq!(tower.config().hidden_act, act);
        let found = tower.forward(&golden.get("pixels")).unwrap();
        let expected = golden.get("image_embeds");
        assert_eq!(found.dims(), expected.dims());
        assert_close(&found.to_vec(), &expected.to_vec(), 1e-5);
    }
}

#[test]
fn a_picture_of_another_size_is_refused() {
    let (tower, _) = open("gelu");
    let error = tower.forward(&Tensor::zeros([1, 28, 35, 3])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "clip vision tower: expected pictures [n, 28, 28, 3], found [1, 28, 35, 3]"
    );
}
