//! Agreement of the captioner with open_clip; `fixtures/coca/make.py` made the goldens.

#![allow(clippy::unwrap_used)] // A golden that cannot be read fails its test.

mod golden;

use golden::{Golden, fixture};
use kinora_model::judges::coca::{Beams, Captioner, Coca, CocaConfig, Decoding};
use kinora_model::params::Source;
use kinora_model::weights::{Opening, open_coca_model};
use kinora_tensor::testing::assert_close;
use kinora_tensor::{Tensor, no_grad};
use serde_json::Value;

fn open() -> (Coca, Golden) {
    let part = open_coca_model(fixture("coca/tiny"), &Opening::default()).unwrap();
    let coca = Coca::new(&part.source(), &part.config).unwrap();
    (coca, Golden::open("coca/golden.safetensors"))
}

#[test]
fn embeddings_and_logits_are_those_of_open_clip() {
    let (coca, golden) = open();
    let images = golden.get("pixels");
    let found = coca.embed(&images).unwrap();
    let expected = golden.get("image_latent");
    assert_close(&found.to_vec(), &expected.to_vec(), 1e-5);
    let text = golden.get("text");
    let texts: Vec<Vec<usize>> = text
        .to_vec()
        .chunks(text.dims()[1])
        .map(|row| row.iter().map(|v| *v as usize).collect())
        .collect();
    let found = coca.logits(&images, &texts).unwrap();
    let expected = golden.get("logits");
    assert_eq!(found.dims(), expected.dims());
    assert_close(&found.to_vec(), &expected.to_vec(), 1e-5);
}

#[test]
fn greedy_and_beam_captions_are_those_of_open_clip() {
    let (coca, golden) = open();
    let text = std::fs::read_to_string(fixture("coca/captions.json")).unwrap();
    let runs: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(runs.len() >= 6);
    for run in runs {
        let number = |key: &str| run[key].as_u64().map(|v| v as usize);
        let decoding = Decoding {
            seq_len: number("seq_len").unwrap(),
            min_seq_len: number("min_seq_len").unwrap(),
            beams: number("num_beams").map(|beams| Beams {
                beams,
                groups: number("num_beam_groups").unwrap(),
            }),
        };
        let expected: Vec<Vec<usize>> = serde_json::from_value(run["tokens"].clone()).unwrap();
        let found = no_grad(|| coca.generate(&golden.get("pixels"), &decoding)).unwrap();
        assert_eq!(found, expected, "{decoding:?}");
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let (coca, golden) = open();
    let images = golden.get("pixels");
    let error = |decoding: Decoding| coca.generate(&images, &decoding).unwrap_err().to_string();
    // The tiny decoder reads 14 tokens, the default is 30.
    assert_eq!(
        error(Decoding::default()),
        "caption: seq_len: expected more than min_seq_len 5 and at most 14, found 30"
    );
    let beams = Some(Beams {
        beams: 6,
        groups: 4,
    });
    let uneven = Decoding {
        seq_len: 10,
        beams,
        ..Decoding::default()
    };
    assert!(error(uneven).contains("found 6 in 4"));
    let error = coca.logits(&images, &[vec![1]]).unwrap_err().to_string();
    assert!(error.contains("expected 5 texts of one length"), "{error}");
    let error = coca.embed(&Tensor::zeros([1, 21, 28, 3])).unwrap_err();
    assert!(error.to_string().contains("found [1, 21, 28, 3]"));
    let error = Captioner::open(fixture("coca/tiny"), &Opening::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected a vocabulary of 49408 tokens, CLIP's, found 64")
    );
}

#[test]
fn clip_is_not_taken_for_coca_nor_the_other_way() {
    let error = open_coca_model(fixture("clip_text/open_clip"), &Opening::default()).unwrap_err();
    assert!(error.to_string().contains("expected CoCa"), "{error}");
    let error =
        kinora_model::weights::open_clip_model(fixture("coca/tiny"), None, &Opening::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("expected CLIP, found CoCa"), "{error}");
}

#[test]
fn a_network_that_no_file_gave_has_the_same_parameters() {
    let part = open_coca_model(fixture("coca/tiny"), &Opening::default()).unwrap();
    let source = Source::fresh(1);
    Coca::new(&source, &part.config).unwrap();
    assert_eq!(source.params().values(), part.values());
    CocaConfig::vit_l_14().check().unwrap();
}
