//! Agreement of CRAFT with PyTorch and OpenCV; `fixtures/craft/make.py` made the goldens.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod golden;

use golden::{Golden, fixture};
use kinora_model::judges::craft::{Craft, CraftSettings, PUBLIC_WIDTH, ScoreMaps, word_boxes};
use kinora_model::params::Source;
use kinora_model::pixels::Picture;
use std::collections::BTreeMap;

const NARROW: &str = "craft/narrow.safetensors";

fn narrow() -> Craft {
    Craft::open_of_width(&fixture(NARROW), 4).unwrap()
}

/// The bytes and the extents [height, width] of a picture.
fn picture(golden: &Golden) -> (Vec<u8>, usize, usize) {
    let picture = golden.get("picture");
    let &[height, width, 3] = picture.dims() else {
        panic!("{picture:?}");
    };
    let bytes = picture.to_vec().iter().map(|value| *value as u8).collect();
    (bytes, height, width)
}

/// Magnified by OpenCV there and by us here, whose linear interpolation differs by a level at most;
/// so the maps are compared to 1e-5 on the picture as OpenCV magnified it.
#[test]
fn maps_are_those_of_pytorch() {
    let golden = Golden::open("craft/narrow_golden.safetensors");
    let seen = golden.get("seen");
    let &[height, width, 3] = seen.dims() else {
        panic!("{seen:?}");
    };
    let bytes: Vec<u8> = seen.to_vec().iter().map(|value| *value as u8).collect();
    let as_it_is = CraftSettings {
        magnification: 1.0,
        ..CraftSettings::default()
    };
    let seen = Picture::new(&bytes, height, width).unwrap();
    let maps = narrow().maps(seen, &as_it_is).unwrap();
    let expected = golden.get("maps");
    assert_eq!([maps.height, maps.width, 2], expected.dims());
    let found = maps
        .region
        .iter()
        .zip(&maps.affinity)
        .flat_map(|(r, a)| [*r, *a]);
    let expected = expected.to_vec();
    // Against what varies: a mean that is right must not hide what is wrong.
    let mean = [0, 1].map(|at| {
        let values = expected.iter().skip(at).step_by(2).map(|v| f64::from(*v));
        2.0 * values.sum::<f64>() / expected.len() as f64
    });
    let (mut difference, mut size) = (0f64, 0f64);
    for (at, (found, expected)) in found.zip(&expected).enumerate() {
        difference += f64::from(found - expected).powi(2);
        size += (f64::from(*expected) - mean[at % 2]).powi(2);
    }
    let relative = (difference / size).sqrt();
    assert!(relative <= 1e-5, "relative L2 {relative:e}");
}

#[test]
fn a_whole_picture_gives_nearly_the_same_maps() {
    let golden = Golden::open("craft/narrow_golden.safetensors");
    let (bytes, height, width) = picture(&golden);
    let shown = Picture::new(&bytes, height, width).unwrap();
    let maps = narrow().maps(shown, &CraftSettings::default()).unwrap();
    let expected = golden.get("maps").to_vec();
    let spread = expected.iter().map(|v| v.abs()).fold(0f32, f32::max);
    for (at, expected) in expected.chunks_exact(2).enumerate() {
        assert!((maps.region[at] - expected[0]).abs() < 0.02 * spread);
        assert!((maps.affinity[at] - expected[1]).abs() < 0.02 * spread);
    }
}

#[test]
fn names_and_extents_are_those_of_the_public_weights() {
    let text = std::fs::read_to_string(fixture("craft/names.json")).unwrap();
    let mut expected: BTreeMap<String, Vec<usize>> = serde_json::from_str(&text).unwrap();
    expected.retain(|name, _| !name.ends_with("num_batches_tracked"));
    let source = Source::fresh(1);
    Craft::from_source(&source, PUBLIC_WIDTH, String::new()).unwrap();
    let params = source.params();
    let found: BTreeMap<String, Vec<usize>> = params
        .iter()
        .map(|entry| {
            (
                entry.name.clone(),
                entry.layout.file_dims(entry.param.get().dims()),
            )
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn boxes_are_those_of_opencv() {
    let golden = Golden::open("craft/boxes_golden.safetensors");
    let mut compared = 0;
    for case in 0..4 {
        let region = golden.get(&format!("region_{case}"));
        let maps = ScoreMaps {
            height: region.dims()[0],
            width: region.dims()[1],
            region: region.to_vec(),
            affinity: golden.get(&format!("affinity_{case}")).to_vec(),
        };
        let found = word_boxes(&maps, &CraftSettings::default());
        let expected = golden.get(&format!("boxes_{case}")).to_vec();
        assert_eq!(found.len() * 8, expected.len(), "case {case}");
        for expected in expected.chunks_exact(8) {
            // OpenCV numbers components in an order of its own.
            let distance = |corners: &[[f32; 2]; 4]| -> f32 {
                let off = corners
                    .iter()
                    .flatten()
                    .zip(expected)
                    .map(|(a, b)| (a - b).abs());
                off.fold(0.0, f32::max)
            };
            let nearest = found.iter().map(distance).fold(f32::INFINITY, f32::min);
            assert!(
                nearest < 2e-3,
                "case {case}: {expected:?} is {nearest} from the nearest"
            );
            compared += 1;
        }
    }
    assert!(compared >= 12, "{compared}");
}

#[test]
fn boxes_are_given_in_pixels_of_the_picture() {
    let bytes = vec![128u8; 64 * 128 * 3];
    let shown = Picture::new(&bytes, 64, 128).unwrap();
    // Every place above the lowest threshold: one word that fills the canvas.
    let everything = CraftSettings {
        text_threshold: -1e9,
        link_threshold: 1e9,
        low_text: -1e9,
        canvas_pixels: 128,
        magnification: 1.0,
    };
    let boxes = narrow().boxes(shown, &everything).unwrap();
    assert_eq!(
        boxes,
        [[[0.0, 0.0], [126.0, 0.0], [126.0, 62.0], [0.0, 62.0]]]
    );
    let half = CraftSettings {
        canvas_pixels: 64,
        ..everything
    };
    let boxes = narrow().boxes(shown, &half).unwrap();
    assert_eq!(boxes[0][2], [124.0, 60.0]);
}

#[test]
fn other_files_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let pickle = folder.path().join("craft_mlt_25k.pth");
    std::fs::write(&pickle, b"\x80\x02}q\x00.").unwrap();
    let refused = Craft::open(&pickle).unwrap_err().to_string();
    assert!(
        refused.contains("pickle") && refused.contains("save_file"),
        "{refused}"
    );
    let refused = Craft::open(&fixture(NARROW)).unwrap_err().to_string();
    assert!(refused.contains("basenet.slice1.0.weight"), "{refused}");
    let refused = Craft::open_of_width(&fixture(NARROW), 6)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("multiple of 4"), "{refused}");
}

#[test]
fn weights_are_named_by_their_content() {
    let craft = narrow();
    assert_eq!(craft.fingerprint().len(), 64);
    assert_eq!(craft.fingerprint(), narrow().fingerprint());
}
