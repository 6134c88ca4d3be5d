use super::*;
use crate::metadata::Metadata;
use crate::writer::Writer;
use std::process::Command;

/// Runs ffmpeg to make something that [`Writer`] never writes.
fn ffmpeg(words: &[&str], out: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(words)
        .arg(file_url(out))
        .status()
        .expect("the tests need ffmpeg: apt-get install ffmpeg");
    assert!(status.success(), "{words:?}");
}

/// Twelve frames at 12 a second, 64×48; frame i has the grey level 20 i.
fn steps(path: &Path) {
    let fps = Fps::whole(12).unwrap();
    let mut writer = Writer::create(path, 64, 48, fps, &Metadata::new()).unwrap();
    for index in 0..12 {
        let level = 20 * index as u8;
        writer
            .push(&Rgb8Image::from_fn(64, 48, |_, _| [level; 3]))
            .unwrap();
    }
    writer.finish().unwrap();
}

fn frames(path: &Path, options: &ReadOptions) -> Vec<Frame> {
    let reader = Reader::open(path, options).unwrap();
    reader.map(|frame| frame.unwrap()).collect()
}

/// Which of the twelve a frame is.
fn step(frame: &Frame) -> usize {
    (usize::from(frame.picture.pixel(5, 5)[1]) + 10) / 20
}

#[test]
fn every_frame_comes_once_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    steps(&path);
    let frames = frames(&path, &ReadOptions::default());
    assert_eq!(frames.len(), 12);
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!((frame.index, step(frame)), (index, index));
        assert!((frame.time_secs - index as f64 / 12.0).abs() < 1e-3);
    }
}

#[test]
fn a_span_at_another_rate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    steps(&path);
    let options = ReadOptions {
        fps: Fps::whole(6),
        start_secs: 0.25,
        span_secs: Some(0.5),
        ..ReadOptions::default()
    };
    let frames = frames(&path, &options);
    assert_eq!(frames.iter().map(step).collect::<Vec<_>>(), [3, 5, 7]);
    assert!((frames[1].time_secs - (0.25 + 1.0 / 6.0)).abs() < 1e-3);
    let beyond = ReadOptions {
        start_secs: 50.0,
        ..ReadOptions::default()
    };
    let refusal = Reader::open(&path, &beyond)
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err();
    assert!(refusal.to_string().contains("no frame"), "{refusal}");
}

#[test]
fn variable_rates_keep_their_times() {
    let folder = tempfile::tempdir().unwrap();
    let (even, uneven) = (folder.path().join("a.mp4"), folder.path().join("b.mkv"));
    steps(&even);
    let even = even.to_str().unwrap();
    let filter = "select='not(between(n,3,7))'";
    ffmpeg(
        &["-i", even, "-vf", filter, "-fps_mode", "vfr", "-qp", "0"],
        &uneven,
    );
    let frames = frames(&uneven, &ReadOptions::default());
    assert_eq!(
        frames.iter().map(step).collect::<Vec<_>>(),
        [0, 1, 2, 8, 9, 10, 11]
    );
    assert!(
        (frames[3].time_secs - 8.0 / 12.0).abs() < 2e-3,
        "{}",
        frames[3].time_secs
    );
}

#[test]
fn covering_cuts_the_middle_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let fps = Fps::whole(5).unwrap();
    let mut writer = Writer::create(&path, 60, 20, fps, &Metadata::new()).unwrap();
    // Thirds of red, green and blue: a square from the middle is all green.
    let thirds = Rgb8Image::from_fn(60, 20, |x, _| {
        [[250, 0, 0], [0, 250, 0], [0, 0, 250]][x / 20]
    });
    writer.push(&thirds).unwrap();
    writer.finish().unwrap();
    let options = ReadOptions {
        size: Some((40, 40)),
        ..ReadOptions::default()
    };
    let square = &frames(&path, &options)[0].picture;
    assert_eq!((square.width(), square.height()), (40, 40));
    assert_eq!(square.pixel(20, 20), [0, 250, 0]);
    assert!(square.pixel(3, 20)[1] > 240 && square.pixel(36, 20)[1] > 240);
    assert_eq!(cover((60, 20), (40, 40)), (120, 40));
    assert_eq!(cover((1920, 1080), (96, 96)), (171, 96));
    assert_eq!(cover((1, 1), (7, 5)), (7, 7));
}

#[test]
fn turned_and_wide_pixels_are_made_upright_and_square() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    steps(&path);
    let plain = path.to_str().unwrap();
    let wide = folder.path().join("wide.mp4");
    ffmpeg(&["-i", plain, "-vf", "setsar=2/1", "-qp", "0"], &wide);
    let reader = Reader::open(&wide, &ReadOptions::default()).unwrap();
    assert_eq!((reader.width(), reader.height()), (128, 48));
    assert_eq!(reader.count(), 12);
    // A quarter turn, written into the matrix of the track header (version 0: 52 bytes in).
    let mut bytes = std::fs::read(&path).unwrap();
    let header = bytes.windows(4).position(|name| name == b"tkhd").unwrap();
    let one = 0x1_0000_i32;
    for (index, value) in [0, one, 0, -one, 0, 0, 0, 0, 0x4000_0000]
        .iter()
        .enumerate()
    {
        let at = header + 44 + 4 * index;
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    let turned = folder.path().join("turned.mp4");
    std::fs::write(&turned, bytes).unwrap();
    let reader = Reader::open(&turned, &ReadOptions::default()).unwrap();
    assert_eq!(reader.info().rotation.degrees(), 90);
    assert_eq!(
        (reader.info().coded_width, reader.info().coded_height),
        (64, 48)
    );
    assert_eq!((reader.width(), reader.height()), (48, 64));
    assert_eq!(reader.count(), 12);
}

#[test]
fn hostile_names_are_names() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("a.mp4");
    steps(&source);
    for name in [
        "-i",
        "a\nb.mp4",
        "concat:x|y.mp4",
        "http:evil.mp4",
        "%d ' ; $(x).mp4",
        "ü.mp4",
    ] {
        let path = folder.path().join(name);
        std::fs::copy(&source, &path).unwrap();
        assert_eq!(
            Reader::open(&path, &ReadOptions::default())
                .unwrap()
                .count(),
            12,
            "{name}"
        );
    }
}

#[test]
fn what_is_no_video_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.mp4");
    steps(&whole);
    let whole_bytes = std::fs::read(&whole).unwrap();
    let playlist = format!("#EXTM3U\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n", whole.display());
    let cases: [(&str, &[u8], &str); 6] = [
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"not a video at all", "not a video"),
        (
            "readme.txt",
            b"just some words\nand more of them\n",
            "video",
        ),
        ("short.mp4", &whole_bytes[..40], "video"),
        ("list.m3u8", playlist.as_bytes(), "video"),
        (
            "net.m3u8",
            b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
            "video",
        ),
    ];
    for (name, bytes, words) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let refusal = Reader::open(&path, &ReadOptions::default())
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains(words) && refusal.contains(name),
            "{name}: {refusal}"
        );
    }
    let sound = folder.path().join("sound.mp3");
    ffmpeg(
        &[
            "-f",
            "lavfi",
            "-i",
            "sine=d=0.2",
            "-c:a",
            "pcm_s16le",
            "-f",
            "wav",
        ],
        &sound,
    );
    let refusal = Reader::open(&sound, &ReadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("no video stream"), "{refusal}");
    let refusal = Reader::open(folder.path(), &ReadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("folder"), "{refusal}");
}

#[test]
fn a_damaged_video_gives_what_it_can_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    let fps = Fps::whole(12).unwrap();
    let mut writer = Writer::create(&path, 64, 48, fps, &Metadata::new()).unwrap();
    for index in 0..24 {
        let noise = |x: usize, y: usize| ((x * 37 + y * 101 + index * 53) * 7919 % 251) as u8;
        writer
            .push(&Rgb8Image::from_fn(64, 48, |x, y| [noise(x, y); 3]))
            .unwrap();
    }
    writer.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let mut reader = Reader::open(&path, &ReadOptions::default()).unwrap();
    let given = reader.by_ref().filter(|frame| frame.is_ok()).count();
    assert!((1..24).contains(&given), "{given}");
    assert!(reader.complaints().is_some_and(|words| !words.is_empty()));
}

#[test]
fn time_runs_out_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    steps(&path);
    let options = ReadOptions {
        time_limit: Duration::from_millis(1),
        ..ReadOptions::default()
    };
    let info = crate::probe(&path).unwrap();
    let mut reader = Reader::open_probed(&path, info, &options).unwrap();
    let failure = reader.find_map(|frame| frame.err()).unwrap();
    assert!(matches!(failure, Error::TimedOut { .. }), "{failure}");
    assert!(reader.next().is_none());
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    steps(&path);
    let plain = ReadOptions::default();
    for options in [
        ReadOptions {
            size: Some((0, 4)),
            ..plain.clone()
        },
        ReadOptions {
            start_secs: -1.0,
            ..plain.clone()
        },
        ReadOptions {
            span_secs: Some(f64::NAN),
            ..plain.clone()
        },
    ] {
        assert!(matches!(
            Reader::open(&path, &options),
            Err(Error::Argument { .. })
        ));
    }
}
