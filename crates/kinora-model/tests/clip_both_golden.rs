//! Agreement of both CLIP towers, of the tokenizer and of the preprocessing with transformers and
//! open_clip; `fixtures/clip_text/make.py` made the goldens.

#![allow(clippy::unwrap_used)] // A golden that cannot be read fails its test.

mod golden;

use golden::{Golden, fixture};
use kinora_model::clip::{Clip, Crop, Dialect, HiddenAct, Preprocess, Tokenizer};
use kinora_model::pixels::Picture;
use kinora_model::weights::{Opening, open_clip_model};
use kinora_tensor::testing::assert_close;
use serde_json::Value;

fn open(name: &str) -> (Clip, Golden) {
    let folder = fixture(&format!("clip_text/{name}"));
    let part = open_clip_model(folder, None, &Opening::default()).unwrap();
    let clip = Clip::new(&part.source(), &part.config).unwrap();
    let golden = Golden::open(&format!("clip_text/{name}_golden.safetensors"));
    (clip, golden)
}

/// The tokens of the texts, which are kept as whole numbers in f32.
fn texts(golden: &Golden) -> Vec<Vec<i32>> {
    let ids = golden.get("ids");
    let values = ids.to_vec();
    values
        .chunks(ids.dims()[1])
        .map(|row| row.iter().map(|v| *v as i32).collect())
        .collect()
}

#[test]
fn both_towers_are_those_of_transformers_and_of_open_clip() {
    for (name, act) in [
        ("transformers", HiddenAct::QuickGelu),
        ("open_clip", HiddenAct::Gelu),
    ] {
        let (clip, golden) = open(name);
        assert_eq!(clip.config().text.hidden_act, act);
        let found = clip.embed_texts(&texts(&golden)).unwrap();
        let expected = golden.get("text_embeds");
        assert_eq!(found.dims(), expected.dims());
        assert_close(&found.to_vec(), &expected.to_vec(), 1e-5);
        let images = clip.vision().forward(&golden.get("pixels")).unwrap();
        let mut images = images.to_vec();
        for row in images.chunks_exact_mut(24) {
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.iter_mut().for_each(|v| *v /= length);
        }
        assert_close(&images, &golden.get("image_embeds").to_vec(), 1e-5);
        let texts = found.to_vec();
        let mut logits = Vec::new();
        for image in images.chunks(24) {
            for text in texts.chunks(24) {
                let cosine: f32 = image.iter().zip(text).map(|(a, b)| a * b).sum();
                logits.push(clip.logit_factor() * cosine);
            }
        }
        assert_close(&logits, &golden.get("logits_per_image").to_vec(), 1e-5);
    }
}

#[test]
fn a_text_alone_is_the_same_as_among_others() {
    let (clip, golden) = open("open_clip");
    let texts = texts(&golden);
    let together = clip.embed_texts(&texts).unwrap().to_vec();
    for (text, expected) in texts.iter().zip(together.chunks(24)) {
        let alone = clip.embed_texts(std::slice::from_ref(text)).unwrap();
        assert_close(&alone.to_vec(), expected, 1e-6);
    }
    let none: [Vec<i32>; 0] = [];
    assert_eq!(clip.embed_texts(&none).unwrap().dims(), [0, 24]);
}

#[test]
fn texts_the_tower_cannot_read_are_refused() {
    let (clip, _) = open("open_clip");
    let error = |text: &[i32]| clip.embed_texts(&[text]).unwrap_err().to_string();
    assert!(error(&[62, 70]).ends_with("expected tokens from 0 to 63, found 70 at place 1"));
    assert!(error(&[62, -1, 63]).ends_with("found -1 at place 1"));
    assert!(error(&[]).contains("expected a text of 1 to 12 tokens, found one of 0 tokens"));
    let long: Vec<i32> = (0..13).collect();
    assert!(error(&long).contains("found one of 13 tokens"));
}

#[test]
fn tokens_are_those_of_open_clip_and_of_transformers() {
    let text = std::fs::read_to_string(fixture("clip_text/tokens.json")).unwrap();
    let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(entries.len() >= 35);
    let tokenizer = Tokenizer::new();
    let mut wrong = Vec::new();
    for entry in &entries {
        let text = entry["text"].as_str().unwrap();
        for (key, dialect, fill) in [
            ("open_clip", Dialect::OpenClip, 0),
            ("transformers", Dialect::Transformers, Tokenizer::END),
        ] {
            let mut expected: Vec<i32> = serde_json::from_value(entry[key].clone()).unwrap();
            expected.resize(77, fill);
            let found = tokenizer.tokens(text, dialect);
            if found[..] != expected[..] {
                let first = found.iter().zip(&expected).position(|(a, b)| a != b);
                wrong.push(format!(
                    "{key}: {text:?} at {first:?}\n  {found:?}\n  {expected:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pictures_are_made_ready_as_open_clip_and_transformers_do() {
    let golden = Golden::open("clip_text/preprocess.safetensors");
    let file = golden.file();
    let mut seen = 0;
    for name in file.names() {
        let Some(sizes) = name.strip_prefix("picture_") else {
            continue;
        };
        let view = file.tensor(name).unwrap();
        let &[height, width, 3] = view.shape() else {
            panic!("{name}")
        };
        let picture = Picture::new(view.data(), height, width).unwrap();
        for (key, crop) in [("open_clip", Crop::Nearest), ("transformers", Crop::Down)] {
            let found = Preprocess::new(crop).images(&[picture], 24).unwrap();
            let expected = golden.get(&format!("{key}_{sizes}"));
            // Bytes are equal before they become numbers, so only roundings are left.
            for (found, expected) in found.to_vec().iter().zip(expected.to_vec()) {
                assert!((found - expected).abs() < 1e-5, "{key} {sizes}");
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 12);
}
