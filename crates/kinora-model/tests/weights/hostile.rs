//! Files that are broken, cut short or something else, written here and refused by name.

use crate::files::{self, Array};
use kinora_model::Error;
use kinora_model::weights::{Opening, Weights, open_arrays};
use std::fs;
use std::path::{Path, PathBuf};

/// What opening says of a file of these bytes.
fn refusal(bytes: &[u8]) -> String {
    refusal_named("a.safetensors", bytes)
}

fn refusal_named(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let error = open_arrays(&path, &Opening::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains(name), "the file is named: {error}");
    // What opens whole models says the same.
    assert_eq!(Weights::open(&path).unwrap_err().to_string(), error);
    error
}

/// What opening says of a file of this header before this many bytes of zeros.
fn refusal_of(header: &str, data_bytes: usize) -> String {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data_bytes, 0);
    refusal(&bytes)
}

fn good_file(folder: &Path) -> PathBuf {
    let path = folder.join("a.safetensors");
    files::write(
        &path,
        &[Array::zeros("first", &[4]), Array::zeros("second", &[2, 3])],
    );
    path
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(good_file(folder.path())).unwrap();
    for length in 0..bytes.len() {
        let error = refusal(&bytes[..length]);
        assert!(error.contains("download"), "{length}: {error}");
    }
    let error = refusal(&bytes[..bytes.len() - 3]);
    assert!(error.contains("`second` ends at byte 40"), "{error}");
    assert!(error.contains("cut short by at least 3 bytes"), "{error}");
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(refusal(&longer).contains("1 bytes after `second` belong to no array"));
}

#[test]
fn overlaps_holes_and_lies_about_size_are_refused() {
    let two = |a: [usize; 2], b: [usize; 2], data: usize| {
        let header = format!(
            r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[{},{}]}},"b":{{"dtype":"F32","shape":[2],"data_offsets":[{},{}]}}}}"#,
            a[0], a[1], b[0], b[1]
        );
        refusal_of(&header, data)
    };
    assert!(two([0, 8], [4, 12], 12).contains("`b` overlaps `a`"));
    assert!(two([0, 8], [0, 8], 8).contains("`b` overlaps `a`"));
    assert!(two([0, 8], [12, 20], 20).contains("4 bytes between `a` and `b` belong to no array"));
    assert!(two([4, 12], [12, 20], 20).contains("4 bytes between the header and `a`"));
    assert!(
        two([0, 8], [8, 12], 12).contains("`b` F32 [2] takes 8 bytes, and the header gives it 4")
    );
    assert!(two([0, 8], [16, 8], 16).contains("`b` ends at byte 8, before it begins at 16"));
}

#[test]
fn extents_that_overflow_are_refused() {
    let header =
        |shape: &str| format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,16]}}}}"#);
    let huge = header("[4294967296,4294967296,4]");
    assert!(refusal_of(&huge, 16).contains("takes more than"));
    let wraps = header("[4611686018427387908]"); // times four bytes is 16, modulo 2⁶⁴
    assert!(refusal_of(&wraps, 16).contains("takes more than"));
    assert!(refusal_of(&header("[-4]"), 16).contains("the header cannot be read"));
    assert!(refusal_of(&header("[99999999999999999999999]"), 16).contains("cannot be read"));
}

#[test]
fn a_header_that_is_too_long_is_refused_before_it_is_read() {
    let mut bytes = 100_000_001u64.to_le_bytes().to_vec();
    bytes.extend(b"{}");
    assert!(refusal(&bytes).contains("more than the 100000000"));
    let mut bytes = u64::MAX.to_le_bytes().to_vec();
    bytes.extend(b"{}");
    assert!(refusal(&bytes).contains("18446744073709551615 bytes long"));
    let mut bytes = 1000u64.to_le_bytes().to_vec();
    bytes.extend(b"{}");
    assert!(refusal(&bytes).contains("1000 bytes long but the file ends after 2"));
}

#[test]
fn an_array_described_twice_is_refused() {
    let entry = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let error = refusal_of(&format!("{{{entry},{entry}}}"), 4);
    assert!(error.contains("`a` is described twice"), "{error}");
    let error = refusal_of(r#"{"__metadata__":{},"__metadata__":{}}"#, 0);
    assert!(
        error.contains("`__metadata__` is described twice"),
        "{error}"
    );
}

#[test]
fn a_header_that_is_no_header_is_refused() {
    for header in [
        "{",
        "[]",
        "{}}",
        r#"{"a":1}"#,
        r#"{"a":{"dtype":"F32","shape":[1]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#,
        "{\"\u{0}\":{}}",
    ] {
        assert!(
            refusal_of(header, 4).contains("the header cannot be read"),
            "{header}"
        );
    }
    let mut bytes = 4u64.to_le_bytes().to_vec();
    bytes.extend([b'{', 0xFF, 0xFE, b'}']);
    assert!(refusal(&bytes).contains("the header cannot be read"));
    // Deep nesting must not exhaust the stack.
    let deep = format!(r#"{{"a":{}"#, "[".repeat(200_000));
    assert!(refusal_of(&deep, 0).contains("the header cannot be read"));
}

#[test]
fn types_that_nothing_computes_with_are_refused_by_name() {
    for (dtype, bytes) in [("F64", 8), ("I64", 8), ("F8_E4M3", 1), ("F99", 3)] {
        let header =
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,{bytes}]}}}}"#);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        files::by_hand(&path, &header, bytes);
        let error = open_arrays(&path, &Opening::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("`a` holds {dtype} values")),
            "{error}"
        );
        assert!(error.contains("F32, F16 and BF16"), "{error}");
    }
}

#[test]
fn something_else_in_the_place_of_weights_is_told_for_what_it_is() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9559625564\n";
    assert!(refusal(pointer).contains("Git LFS pointer"));
    assert!(refusal(pointer).contains("git lfs pull"));
    for pickle in [
        &b"PK\x03\x04rest of a zip archive"[..],
        b"\x80\x02}q\x00(X\x05\x00\x00\x00",
    ] {
        assert!(refusal(pickle).contains("PyTorch pickle"));
        assert!(refusal_named("pytorch_model.bin", pickle).contains("save_file"));
    }
    assert!(refusal_named("svd.ckpt", b"anything at all").contains("PyTorch pickle"));
    assert!(refusal(b"<!DOCTYPE html><html>").contains("web page"));
    assert!(refusal(b"\n <html lang=en>").contains("web page"));
    assert!(refusal(b"GGUF\x03\x00\x00\x00 more").contains("GGUF"));
    assert!(refusal(b"").contains("the file is empty"));
    // A header 640 bytes long begins as a pickle of protocol 2 does.
    let mut header = r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#.to_owned();
    header.push_str(&" ".repeat(640 - header.len()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    files::by_hand(&path, &header, 0);
    assert_eq!(fs::read(&path).unwrap()[..2], [0x80, 0x02]);
    open_arrays(&path, &Opening::default()).unwrap();
}

#[test]
fn a_pickle_in_the_place_of_a_network_is_told_for_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    crate::tiny::Tiny::new().save(folder.path(), kinora_tensor::DType::F16);
    let unet = folder.path().join("unet");
    fs::remove_file(unet.join("diffusion_pytorch_model.safetensors")).unwrap();
    fs::write(unet.join("diffusion_pytorch_model.bin"), b"PK\x03\x04").unwrap();
    let error = Weights::open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("diffusion_pytorch_model.bin: this is a PyTorch pickle"),
        "{error}"
    );
}

#[test]
fn values_that_are_not_finite_are_found_and_the_first_array_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    // Longer than one core's share, the bad value in the last.
    let mut values = vec![0.5; 200_000];
    values[199_998] = f32::NEG_INFINITY;
    values[199_999] = f32::NAN;
    files::write(
        &path,
        &[
            Array::f32(
                "fine",
                &[4],
                &[f32::MAX, f32::MIN, -0.0, f32::MIN_POSITIVE / 2.0],
            ),
            Array::f32("spoilt", &[200_000], &values),
        ],
    );
    match open_arrays(&path, &Opening::default()).unwrap_err() {
        Error::NotFinite {
            name,
            count,
            elements,
            index,
            value,
            ..
        } => {
            assert_eq!(
                (name.as_str(), count, elements, index),
                ("spoilt", 2, 200_000, 199_998)
            );
            assert_eq!(value, f32::NEG_INFINITY);
        }
        other => panic!("{other}"),
    }
    let trusting = Opening {
        scan_values: false,
        ..Opening::default()
    };
    open_arrays(&path, &trusting).unwrap();
}

#[test]
fn sixteen_bit_values_that_are_not_finite_are_found() {
    use half::{bf16, f16};
    use safetensors::Dtype;
    let cases = [
        (Dtype::F16, f16::INFINITY.to_bits(), f16::MAX.to_bits()),
        (Dtype::F16, f16::NAN.to_bits(), f16::MIN.to_bits()),
        (Dtype::BF16, bf16::NAN.to_bits(), bf16::MAX.to_bits()),
        (
            Dtype::BF16,
            bf16::NEG_INFINITY.to_bits(),
            bf16::MIN.to_bits(),
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    for (dtype, bad, good) in cases {
        for (bits, refused) in [(bad, true), (good, false)] {
            let bytes = [0, bits, 0]
                .iter()
                .flat_map(|b: &u16| b.to_le_bytes())
                .collect();
            let array = Array {
                name: "a".to_owned(),
                dtype,
                dims: vec![3],
                bytes,
            };
            files::write(&path, &[array]);
            let opened = open_arrays(&path, &Opening::default());
            assert_eq!(opened.is_err(), refused, "{dtype:?} {bits:04x}");
        }
    }
}
