use super::*;
use crate::metadata::{read_metadata, side_file};
use crate::video::{ReadOptions, Reader, probe};
use serde_json::json;

const WIDTH: usize = 48;
const HEIGHT: usize = 32;
const FRAMES: usize = 9;

/// A bright disc that crosses a gradient.
fn frame(index: usize) -> Rgb8Image {
    frame_of(index, WIDTH, HEIGHT)
}

fn frame_of(index: usize, width: usize, height: usize) -> Rgb8Image {
    Rgb8Image::from_fn(width, height, |x, y| {
        let (dx, dy) = (x as f32 - 6.0 - 4.0 * index as f32, y as f32 - 15.0);
        if dx * dx + dy * dy < 64.0 {
            [240, 180, 40]
        } else {
            [40 + 2 * x as u8, 60, 200 - 3 * y as u8]
        }
    })
}

fn metadata() -> Metadata {
    let value = json!({"seed": 7, "prompt": "ünïcode \"quoted\" = ; \\ %d", "model": "a1b2", "nested": {"fps": 7}});
    value.as_object().unwrap().clone()
}

fn write(path: &Path) {
    let fps = Fps::whole(7).unwrap();
    let mut writer = Writer::create(path, WIDTH, HEIGHT, fps, &metadata()).unwrap();
    for index in 0..FRAMES {
        writer.push(&frame(index)).unwrap();
    }
    assert_eq!(writer.frames(), FRAMES);
    writer.finish().unwrap();
}

fn mean_difference(a: &Rgb8Image, b: &Rgb8Image) -> f64 {
    let pairs = a.data().iter().zip(b.data());
    let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.data().len() as f64
}

/// Writes, decodes and compares: every frame within `allowed` levels in the mean, at its time.
fn check_video(name: &str, allowed: f64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    write(&path);
    let decoded: Vec<_> = Reader::open(&path, &ReadOptions::default())
        .unwrap()
        .map(|frame| frame.unwrap())
        .collect();
    assert_eq!(decoded.len(), FRAMES, "{name}");
    for (index, decoded) in decoded.iter().enumerate() {
        let difference = mean_difference(&decoded.picture, &frame(index));
        assert!(
            difference <= allowed,
            "{name}: frame {index} differs by {difference}"
        );
        let time = index as f64 / 7.0;
        assert!(
            (decoded.time_secs - time).abs() < 0.02,
            "{name}: {}",
            decoded.time_secs
        );
    }
    assert_eq!(read_metadata(&path).unwrap().unwrap(), metadata(), "{name}");
    // The video alone is left, and a second run writes the same bytes over it.
    let bytes = std::fs::read(&path).unwrap();
    write(&path);
    assert!(bytes == std::fs::read(&path).unwrap(), "{name}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

// Half the colour resolution is the format's; it costs these small, sharp, vivid discs 2.5 levels and more.
#[test]
fn mp4_comes_back_plays_everywhere_and_starts_at_once() {
    check_video("clip.mp4", 3.5);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    write(&path);
    let info = probe(&path).unwrap();
    assert_eq!(
        (info.codec.as_str(), info.pixel_format.as_str()),
        ("h264", "yuv420p")
    );
    assert_eq!(
        (info.fps, info.frames),
        (Fps::whole(7), Some(FRAMES as u64))
    );
    let bytes = std::fs::read(&path).unwrap();
    let place = |name: &[u8]| bytes.windows(4).position(|window| window == name).unwrap();
    assert!(place(b"moov") < place(b"mdat"), "the index must come first");
}

#[test]
fn webm_comes_back() {
    check_video("clip.webm", 4.5);
}

/// Colour matrix and range agree between what is written, what is declared and what is read: flat
/// colours, on which nothing else can go wrong, come back.
#[test]
fn colours_do_not_shift() {
    let folder = tempfile::tempdir().unwrap();
    let colours = [
        [250, 10, 20],
        [5, 240, 30],
        [20, 30, 250],
        [128; 3],
        [0; 3],
        [255; 3],
    ];
    for name in ["a.mp4", "a.webm"] {
        let path = folder.path().join(name);
        let fps = Fps::whole(6).unwrap();
        let mut writer = Writer::create(&path, 32, 32, fps, &Metadata::new()).unwrap();
        for colour in colours {
            writer
                .push(&Rgb8Image::from_fn(32, 32, |_, _| colour))
                .unwrap();
        }
        writer.finish().unwrap();
        let reader = Reader::open(&path, &ReadOptions::default()).unwrap();
        for (frame, colour) in reader.zip(colours) {
            let found = frame.unwrap().picture.pixel(16, 16);
            let difference = (0..3).map(|c| found[c].abs_diff(colour[c])).max().unwrap();
            assert!(difference <= 4, "{name}: {colour:?} became {found:?}");
        }
    }
}

#[test]
fn gif_comes_back_and_is_endless() {
    check_video("clip.gif", 3.0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gif");
    write(&path);
    let bytes = std::fs::read(&path).unwrap();
    let endless = b"NETSCAPE2.0\x03\x01\x00\x00\x00";
    assert!(bytes.windows(endless.len()).any(|window| window == endless));
}

#[test]
fn animated_png_comes_back_exactly() {
    check_video("clip.png", 0.0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    write(&path);
    // Another decoder's opinion: the frames, their number and their delay.
    let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    assert_eq!(
        reader.info().animation_control().unwrap().num_frames,
        FRAMES as u32
    );
    assert_eq!(reader.info().animation_control().unwrap().num_plays, 0);
    let mut data = vec![0; WIDTH * HEIGHT * 3];
    for index in 0..FRAMES {
        reader.next_frame(&mut data).unwrap();
        let control = reader.info().frame_control().unwrap();
        assert_eq!((control.delay_num, control.delay_den), (1, 7));
        assert_eq!(data, frame(index).data());
    }
    // And as a plain picture it is its first frame.
    assert_eq!(crate::read_image(&path).unwrap(), frame(0));
}

#[test]
fn a_folder_comes_back_exactly_and_is_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["frames", "frames/"] {
        let path = folder.path().join(name);
        write(&path);
        for index in 0..FRAMES {
            let picture = crate::read_image(&path.join(format!("frame_{index:05}.png"))).unwrap();
            assert_eq!(picture, frame(index));
        }
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), FRAMES);
        assert_eq!(read_metadata(&path).unwrap().unwrap(), metadata());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    assert!(folder.path().join("frames.json").is_file());
}

#[test]
fn npy_keeps_every_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.npy");
    let values: Vec<f32> = (0..2 * 3 * 5 * 3).map(|i| i as f32 / 89.0 + 1e-7).collect();
    let mut writer = Writer::create(&path, 5, 3, Fps::whole(7).unwrap(), &metadata()).unwrap();
    writer.push_f32(&values[..45]).unwrap();
    writer.push_f32(&values[45..]).unwrap();
    writer.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', "));
    let header = String::from_utf8_lossy(&bytes[10..128]);
    assert!(header.contains("'shape': (2, 3, 5, 3)") && header.ends_with(" \n"));
    let read: Vec<f32> = bytes[128..]
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect();
    assert_eq!(read, values);
    assert_eq!(read_metadata(&path).unwrap().unwrap(), metadata());
    assert_eq!(side_file(&path), folder.path().join("clip.npy.json"));
}

#[test]
fn values_are_rounded_to_the_nearest_level() {
    let levels: Vec<u8> = [-1.0, 0.0, 0.5 / 255.0 + 1e-6, 0.5, 1.0, 2.0, f32::NAN]
        .map(byte_from_unit)
        .to_vec();
    assert_eq!(levels, [0, 0, 1, 128, 255, 255, 0]);
    assert!((0..=255).all(|level: u8| byte_from_unit(f32::from(level) / 255.0) == level));
}

#[test]
fn odd_sizes_are_padded_for_h264_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (name, width, height) in [("a.mp4", 50, 32), ("a.webm", 49, 31), ("a.gif", 49, 31)] {
        let path = folder.path().join(name);
        let fps = Fps::whole(10).unwrap();
        let mut writer = Writer::create(&path, 49, 31, fps, &Metadata::new()).unwrap();
        writer.push(&frame_of(0, 49, 31)).unwrap();
        writer.finish().unwrap();
        let info = probe(&path).unwrap();
        assert_eq!((info.width, info.height), (width, height), "{name}");
    }
}

#[test]
fn an_abandoned_output_leaves_nothing() {
    for name in ["a.mp4", "a.webm", "a.gif", "a.png", "a.npy", "a"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let fps = Fps::whole(7).unwrap();
        let mut writer = Writer::create(&path, WIDTH, HEIGHT, fps, &metadata()).unwrap();
        writer.push(&frame(0)).unwrap();
        drop(writer);
        let empty = Writer::create(&path, WIDTH, HEIGHT, fps, &metadata()).unwrap();
        let refusal = empty.finish().unwrap_err().to_string();
        assert!(refusal.contains("at least one frame"), "{refusal}");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "{name}"
        );
    }
}

#[test]
fn wrong_names_and_sizes_are_refused_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let create = |name: &str| {
        let path = folder.path().join(name);
        Writer::create(
            &path,
            WIDTH,
            HEIGHT,
            Fps::whole(7).unwrap(),
            &Metadata::new(),
        )
    };
    let refusal = create("a.avi").unwrap_err().to_string();
    assert!(
        refusal.contains(".webm") && refusal.contains(".avi"),
        "{refusal}"
    );
    let refusal = create("no/such/a.mp4").unwrap_err().to_string();
    assert!(refusal.contains("does not exist"), "{refusal}");
    let mut writer = create("a.png").unwrap();
    let refusal = writer.push(&frame_of(0, 8, 8)).unwrap_err().to_string();
    assert!(
        refusal.contains("48×32") && refusal.contains("8×8"),
        "{refusal}"
    );
    assert!(writer.push_f32(&[0.0; 5]).is_err());
}

#[test]
fn a_strangers_comment_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.png");
    frame(0).save(&path).unwrap();
    assert_eq!(read_metadata(&path).unwrap(), None);
    let damaged = folder.path().join("damaged.gif");
    std::fs::write(&damaged, b"GIF89a\x01\x00").unwrap();
    assert!(read_metadata(&damaged).is_err());
    assert!(read_metadata(&folder.path().join("missing.mp4")).is_err());
    let frames = folder.path().join("frames");
    std::fs::create_dir(&frames).unwrap();
    assert_eq!(read_metadata(&frames).unwrap(), None);
}
