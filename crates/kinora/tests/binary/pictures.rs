//! Stills of every kind: the same picture in another format is the same still.

use crate::place::{Place, colours, generate_words};
use image::{DynamicImage, ImageBuffer, Luma, Rgb, Rgba};
use std::fs;

/// The frames that come of a still.
fn frames_of(place: &Place, still: &str) -> Vec<u8> {
    place.kinora(generate_words(still, "a.npy")).done();
    fs::read(place.path("a.npy")).unwrap()
}

#[test]
fn the_format_of_a_still_changes_nothing() {
    let place = Place::with_still();
    let plain = colours(24, 16);
    let expected = frames_of(&place, "still.png");
    let wide: ImageBuffer<Rgb<u16>, Vec<u16>> = ImageBuffer::from_fn(24, 16, |x, y| {
        Rgb(plain
            .get_pixel(x, y)
            .0
            .map(|value| u16::from(value) * 256 + 99))
    });
    wide.save(place.path("sixteen_bits.png")).unwrap();
    // Alpha is dropped, not blended with a background.
    let clear: ImageBuffer<Rgba<u8>, Vec<u8>> = ImageBuffer::from_fn(24, 16, |x, y| {
        let [r, g, b] = plain.get_pixel(x, y).0;
        Rgba([r, g, b, (x * 5) as u8])
    });
    clear.save(place.path("alpha.png")).unwrap();
    plain.save(place.path("a.bmp")).unwrap();
    plain.save(place.path("a.tiff")).unwrap();
    fs::copy(place.path("a.bmp"), place.path("named_wrongly.jpeg")).unwrap();
    for still in [
        "sixteen_bits.png",
        "alpha.png",
        "a.bmp",
        "a.tiff",
        "named_wrongly.jpeg",
    ] {
        assert!(frames_of(&place, still) == expected, "{still}");
    }
}

#[test]
fn a_grey_still_is_the_picture_of_equal_colours() {
    let place = Place::new();
    let grey: ImageBuffer<Luma<u8>, Vec<u8>> =
        ImageBuffer::from_fn(24, 16, |x, y| Luma([(x * 9 + y) as u8]));
    grey.save(place.path("grey.png")).unwrap();
    let colour = DynamicImage::ImageLuma8(grey).into_rgb8();
    colour.save(place.path("colour.png")).unwrap();
    assert!(frames_of(&place, "grey.png") == frames_of(&place, "colour.png"));
}

#[test]
fn a_note_of_the_camera_turns_the_still_upright() {
    let place = Place::new();
    let side: ImageBuffer<Rgb<u8>, Vec<u8>> =
        ImageBuffer::from_fn(48, 32, |x, y| Rgb([(x * 5) as u8, (y * 7) as u8, 128]));
    side.save(place.path("side.jpg")).unwrap();
    let jpeg = fs::read(place.path("side.jpg")).unwrap();
    // EXIF in its shortest form: one entry, 0x0112, saying that row 0 is the right side (6).
    let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let note = [b"Exif\0\0".as_slice(), tiff].concat();
    let length = (note.len() as u16 + 2).to_be_bytes();
    let noted = [&jpeg[..2], &[0xff, 0xe1], &length, &note, &jpeg[2..]].concat();
    fs::write(place.path("noted.jpg"), noted).unwrap();
    let upright = image::open(place.path("side.jpg")).unwrap().rotate90();
    upright.save(place.path("upright.png")).unwrap();
    assert!(frames_of(&place, "noted.jpg") == frames_of(&place, "upright.png"));
    assert!(frames_of(&place, "noted.jpg") != frames_of(&place, "side.jpg"));
}

#[test]
fn the_smallest_still_and_the_thinnest_are_stills() {
    let place = Place::new();
    for (width, height) in [(1, 1), (1, 2000), (2000, 1)] {
        colours(width, height).save(place.path("s.png")).unwrap();
        frames_of(&place, "s.png");
    }
}

#[test]
fn what_is_no_still_is_refused_with_its_name_and_a_remedy() {
    let place = Place::with_still();
    let whole = fs::read(place.path("still.png")).unwrap();
    fs::write(place.path("cut.png"), &whole[..whole.len() / 2]).unwrap();
    colours(64, 64).save(place.path("whole.jpg")).unwrap();
    let whole = fs::read(place.path("whole.jpg")).unwrap();
    fs::write(place.path("cut.jpg"), &whole[..whole.len() * 2 / 3]).unwrap();
    fs::write(place.path("letter.png"), "Dear reader, this is a letter.").unwrap();
    fs::write(place.path("empty.png"), "").unwrap();
    let before = place.names();
    for (still, expected) in [
        ("cut.png", "fetch it again"),
        ("cut.jpg", "cut short; fetch it again"),
        ("letter.png", "convert it to PNG or JPEG"),
        ("empty.png", "the file is empty"),
        ("missing.png", "No such file"),
        (".", "this is a folder; give a picture file"),
    ] {
        let ended = place.kinora(generate_words(still, "a.npy"));
        let said = ended.refused().lines().last().unwrap();
        assert!(
            said.contains(still) && said.contains(expected),
            "{still}: {said}"
        );
        assert!(
            said.matches("No such file").count() < 2,
            "told twice: {said}"
        );
    }
    assert_eq!(place.names(), before);
}
