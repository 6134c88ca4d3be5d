//! The judge on real (tiny) weights of both layouts; `fixtures/clip_text/make.py` made them.

use super::*;
use kinora_model::clip::ClipVision;

fn fixture(name: &str) -> String {
    format!("{}/../../fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn judge(layout: &str) -> ClipJudge {
    ClipJudge::open(&ClipSettings {
        weights: fixture(&format!("clip_text/{layout}")),
        aesthetic: None,
        activation: None,
    })
    .unwrap()
}

fn frame(seed: usize, width: usize, height: usize) -> Rgb8Image {
    Rgb8Image::from_fn(width, height, |x, y| {
        let v = (x * 7 + y * 13 + seed * 101) % 256;
        [v as u8, (v * 3 % 256) as u8, (255 - v) as u8]
    })
}

#[test]
fn frames_of_many_clips_are_embedded_as_each_alone() {
    let judge = judge("open_clip");
    let frames: Vec<Rgb8Image> = (0..19).map(|k| frame(k, 60 + k, 40)).collect();
    let frames: Vec<&Rgb8Image> = frames.iter().collect();
    let together = judge.embed_frames(&frames).unwrap();
    assert_eq!(together.len(), 19);
    for (frame, embedding) in frames.iter().zip(&together) {
        assert_eq!(embedding.len(), judge.width());
        let alone = judge.embed_frames(&[frame]).unwrap();
        kinora_tensor::testing::assert_close(&alone[0], embedding, 1e-6);
        let length: f32 = embedding.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }
    assert!(judge.embed_frames(&[]).unwrap().is_empty());
    assert!(judge.embed_captions(&[]).unwrap().is_empty());
}

#[test]
fn the_embedding_is_that_of_the_tower_on_the_prepared_picture() {
    let judge = judge("transformers");
    let part = open_clip_model(fixture("clip_text/transformers"), None, &Opening::default());
    let part = part.unwrap();
    let tower = ClipVision::new(&part.source(), &part.config.vision).unwrap();
    let frame = frame(3, 57, 31);
    let picture = Picture::new(frame.data(), 31, 57).unwrap();
    let images = part.config.preprocess.images(&[picture], 28).unwrap();
    let expected = tower.forward(&images).unwrap().to_vec();
    let length = expected.iter().map(|v| v * v).sum::<f32>().sqrt();
    let expected: Vec<f32> = expected.iter().map(|v| v / length).collect();
    let found = judge.embed_frames(&[&frame]).unwrap();
    kinora_tensor::testing::assert_close(&found[0], &expected, 1e-6);
}

#[test]
fn likeness_is_the_mean_cosine_and_a_clip_has_that_of_its_best_caption() {
    let frames = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![0.6, 0.8]];
    assert!((similarity(&frames, &[1.0, 0.0]) - 1.6 / 3.0).abs() < 1e-6);
    assert_eq!(similarity(&frames[..1], &[-1.0, 0.0]), -1.0);
    assert_eq!(similarity(&[], &[1.0, 0.0]), 0.0);
    assert_eq!(best_similarity(&[0.1, 0.3, -0.2]), Some(0.3));
    assert_eq!(best_similarity(&[]), None);
}

/// A linear head in a file, its weights k / 10 and its bias 5.
fn head(folder: &Path, width: usize) -> PathBuf {
    let path = folder.join(format!("head_{width}.safetensors"));
    let header = format!(
        r#"{{"weight":{{"dtype":"F32","shape":[1,{width}],"data_offsets":[0,{0}]}},"bias":{{"dtype":"F32","shape":[1],"data_offsets":[{0},{1}]}}}}"#,
        4 * width,
        4 * width + 4
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend((0..width).flat_map(|k| (k as f32 / 10.0).to_le_bytes()));
    bytes.extend(5.0_f32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn the_aesthetic_score_is_the_mean_over_the_frames() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |width: usize| ClipSettings {
        weights: fixture("clip_text/open_clip"),
        aesthetic: Some(head(folder.path(), width)),
        activation: None,
    };
    let with_head = ClipJudge::open(&settings(24)).unwrap();
    let mut frames = vec![vec![0.0; 24]; 2];
    frames[0][10] = 1.0;
    frames[1][20] = 1.0;
    let found = with_head.aesthetic(&frames).unwrap().unwrap();
    assert!((found - (5.0 + (1.0 + 2.0) / 2.0)).abs() < 1e-6);
    assert_eq!(with_head.aesthetic(&[]).unwrap(), None);
    let without = judge("open_clip");
    assert_eq!(without.aesthetic(&frames).unwrap(), None);
    // The cache must not take the one for the other, nor one layout for the other.
    assert_ne!(with_head.params(), without.params());
    assert_ne!(judge("transformers").params(), without.params());
    assert_eq!(judge("open_clip").params(), without.params());
    let error = ClipJudge::open(&settings(768)).unwrap_err().to_string();
    assert!(error.contains("judges embeddings of width 768"), "{error}");
}

#[test]
fn weights_that_are_nowhere_are_refused() {
    let settings = ClipSettings {
        weights: "/no/such/folder".to_owned(),
        aesthetic: None,
        activation: None,
    };
    let error = ClipJudge::open(&settings).unwrap_err().to_string();
    assert!(
        error.contains("no such file or folder, and no hub id either"),
        "{error}"
    );
    let error = toml::from_str::<ClipSettings>("weights = \"x\"\ncrop = 1").unwrap_err();
    assert!(error.to_string().contains("unknown field"), "{error}");
}
