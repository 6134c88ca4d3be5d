use super::*;
use std::path::PathBuf;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pictures")
}

/// The largest difference of a byte from what PIL reads.
fn difference_from_pil(name: &str) -> u8 {
    let found = read_image(&fixtures().join(name)).unwrap();
    let expected = read_image(&fixtures().join(format!("{name}.expected.png"))).unwrap();
    assert_eq!(
        (found.width(), found.height()),
        (expected.width(), expected.height()),
        "{name}"
    );
    let pairs = found.data().iter().zip(expected.data());
    pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn every_format_reads_as_pil_reads_it() {
    let mut read = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".expected.png") || name.ends_with(".py") {
            continue;
        }
        let allowed = if name.ends_with(".jpg") { 4 } else { 0 };
        let difference = difference_from_pil(&name);
        assert!(difference <= allowed, "{name} differs by {difference}");
        read += 1;
    }
    assert!(read >= 24, "only {read} fixtures");
}

#[test]
fn sixteen_bits_keep_the_upper_eight() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep.png");
    let grey = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(2, 1, vec![0x12ff, 0xfe00]);
    DynamicImage::ImageLuma16(grey.unwrap())
        .save(&path)
        .unwrap();
    assert_eq!(
        read_image(&path).unwrap().data(),
        [0x12, 0x12, 0x12, 0xfe, 0xfe, 0xfe]
    );
    let colour =
        image::ImageBuffer::<image::Rgba<u16>, _>::from_raw(1, 1, vec![0x12ff, 0x3400, 0x5680, 0]);
    DynamicImage::ImageRgba16(colour.unwrap())
        .save(&path)
        .unwrap();
    assert_eq!(read_image(&path).unwrap().data(), [0x12, 0x34, 0x56]);
}

#[test]
fn content_decides_and_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really_a_png.jpg");
    std::fs::copy(fixtures().join("rgb.png"), &path).unwrap();
    assert_eq!(
        read_image(&path).unwrap(),
        read_image(&fixtures().join("rgb.png")).unwrap()
    );
}

/// Refused, with `words` in the reason and the file's name before it.
fn check_refused(name: &str, bytes: &[u8], words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let refusal = read_image(&path).unwrap_err().to_string();
    assert!(
        refusal.contains(words) && refusal.contains(name),
        "{name}: {refusal}"
    );
}

#[test]
fn what_is_no_picture_is_refused_with_a_reason() {
    check_refused("empty.png", b"", "empty");
    check_refused("text.png", b"hello, I am a text", "not a picture");
    check_refused("noise.tga", &[0xab; 64], "damaged");
    let whole = std::fs::read(fixtures().join("rgb.png")).unwrap();
    check_refused("short.png", &whole[..whole.len() - 60], "damaged");
    for name in ["colour.jpg", "progressive.jpg", "turned_6.jpg"] {
        let whole = std::fs::read(fixtures().join(name)).unwrap();
        for kept in [whole.len() - 2, whole.len() * 4 / 5] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("short.jpg");
            std::fs::write(&path, &whole[..kept]).unwrap();
            let refusal = read_image(&path).unwrap_err().to_string();
            assert!(
                refusal.contains("short.jpg"),
                "{name} cut at {kept}: {refusal}"
            );
        }
    }
}

#[test]
fn folders_and_missing_files_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = read_image(folder.path()).unwrap_err().to_string();
    assert!(refusal.contains("folder"), "{refusal}");
    let refusal = read_image(&folder.path().join("nothing.png"))
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("No such file"), "{refusal}");
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    // The head of a PNG that claims 60000×60000 pixels.
    let mut head = b"IHDR".to_vec();
    head.extend(60_000u32.to_be_bytes());
    head.extend(60_000u32.to_be_bytes());
    head.extend([8, 2, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    png.extend(&head);
    png.extend(crc32fast::hash(&head).to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    check_refused("bomb.png", &png, "60000×60000");
}

#[test]
fn one_pixel_goes_round() {
    let folder = tempfile::tempdir().unwrap();
    let picture = Rgb8Image::new(1, 1, vec![10, 200, 30]).unwrap();
    let path = folder.path().join("dot.png");
    picture.save(&path).unwrap();
    assert_eq!(read_image(&path).unwrap(), picture);
    picture.save(&folder.path().join("dot.jpeg")).unwrap();
    assert!(picture.save(&folder.path().join("dot.webp")).is_err());
    assert!(Rgb8Image::new(1, 1, vec![0; 4]).is_err());
    assert!(Rgb8Image::new(0, 1, vec![]).is_err());
}
