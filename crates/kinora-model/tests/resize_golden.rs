//! Agreement with Pillow and diffusers on odd pictures; `fixtures/resize/make.py` made the golden.

#![allow(clippy::unwrap_used)] // A golden that cannot be read fails its test.

use kinora_model::conditioner::{antialiased, lanczos};
use kinora_model::pixels::Picture;
use kinora_tensor::testing::assert_close;
use safetensors::SafeTensors;

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/resize/golden.safetensors"
);

/// The numbers in a name such as `lanczos_61x109_to_32x64`.
fn numbers(name: &str) -> Vec<usize> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn picture<'a>(file: &SafeTensors<'a>, height: usize, width: usize) -> Picture<'a> {
    let name = format!("picture_{height}x{width}");
    Picture::new(file.tensor(&name).unwrap().data(), height, width).unwrap()
}

/// Calls `check` with every array whose name begins so.
fn each(prefix: &str, mut check: impl FnMut(&SafeTensors<'_>, &str, &[u8])) {
    let bytes = std::fs::read(GOLDEN).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let names: Vec<&str> = file
        .names()
        .into_iter()
        .filter(|n| n.starts_with(prefix))
        .collect();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        check(&file, name, file.tensor(name).unwrap().data());
    }
}

#[test]
fn lanczos_is_pillow_s_to_the_last_bit() {
    each("lanczos_", |file, name, expected| {
        let sizes = numbers(name);
        let found = lanczos(picture(file, sizes[0], sizes[1]), sizes[2], sizes[3]);
        assert!(found == expected, "{name}");
    });
}

#[test]
fn the_resize_in_front_of_clip_is_that_of_diffusers() {
    each("clip_", |file, name, expected| {
        let sizes = numbers(name);
        let size = sizes[2];
        let found = antialiased(picture(file, sizes[0], sizes[1]), size).unwrap();
        let stride = if size == 224 { 7 } else { 1 };
        let kept = |k: &usize| {
            (k / 3 / size).is_multiple_of(stride) && (k / 3 % size).is_multiple_of(stride)
        };
        let found = found.to_vec();
        let found: Vec<f32> = (0..found.len()).filter(kept).map(|k| found[k]).collect();
        let expected: Vec<f32> = expected
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        assert_close(&found, &expected, 1e-6);
    });
}
