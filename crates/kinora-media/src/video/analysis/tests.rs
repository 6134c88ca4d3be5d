use super::*;
use std::process::Command;

/// Runs ffmpeg on a source of its own: frame n has the brightness 16 + 10 n.
fn make(source: &str, words: &[&str], out: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i"])
        .arg(format!(
            "nullsrc={source},format=yuv420p,geq=lum='16+10*N':cb=128:cr=128"
        ))
        .args(words)
        .arg(file_url(out))
        .status()
        .expect("the tests need ffmpeg: apt-get install ffmpeg");
    assert!(status.success(), "{words:?}");
}

fn read(path: &Path) -> (Vec<AnalysisFrame>, AnalysisReader) {
    let mut reader = AnalysisReader::open(path, &AnalysisOptions::default()).unwrap();
    let frames = reader.by_ref().map(|frame| frame.unwrap()).collect();
    (frames, reader)
}

/// Which frame of the source a frame is.
fn identity(frame: &AnalysisFrame) -> usize {
    let middle = frame.luma[frame.luma.len() / 2 + frame.width / 2];
    (usize::from(middle) - 11) / 10
}

#[test]
fn frames_are_small_and_each_comes_once_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    make("s=640x320:r=12:d=1", &["-qp", "4"], &path);
    let (frames, reader) = read(&path);
    assert_eq!((reader.width(), reader.height()), (288, 144));
    assert_eq!(frames.len(), 12);
    for (number, frame) in frames.iter().enumerate() {
        assert_eq!((frame.number, identity(frame)), (number as u64, number));
        assert!((frame.micros - number as i64 * 1_000_000 / 12).abs() <= 1);
        assert_eq!(
            (frame.luma.len(), frame.blue.len(), frame.red.len()),
            (41472, 10368, 10368)
        );
    }
    assert_eq!(reader.complaints(), None);
}

#[test]
fn a_late_start_and_a_variable_rate_keep_their_times_to_the_microsecond() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mkv");
    // Hours in, where seconds printed with six digits would be off by a tenth.
    let words = [
        "-vf",
        "select='not(between(n,3,7))'",
        "-fps_mode",
        "vfr",
        "-output_ts_offset",
        "12345.678",
    ];
    make(
        "s=64x48:r=10:d=1.2",
        &[&words[..], &["-qp", "4"]].concat(),
        &path,
    );
    let (frames, reader) = read(&path);
    assert_eq!(reader.first_micros(), 12_345_678_000);
    let found: Vec<_> = frames
        .iter()
        .map(|frame| (identity(frame), frame.micros))
        .collect();
    let expected = [0, 1, 2, 8, 9, 10, 11].map(|at| (at, at as i64 * 100_000));
    assert_eq!(found, expected);
}

#[test]
fn a_size_that_changes_midway_is_scaled_to_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b, both) = ["a.h264", "b.h264", "both.h264"]
        .map(|name| folder.path().join(name))
        .into();
    make("s=320x160:r=10:d=0.5", &["-qp", "4"], &a);
    make("s=160x160:r=10:d=0.5", &["-qp", "4"], &b);
    let bytes = [std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap()].concat();
    std::fs::write(&both, bytes).unwrap();
    let (frames, _) = read(&both);
    assert_eq!(
        frames.iter().map(identity).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    );
    assert!(
        frames
            .iter()
            .all(|frame| (frame.width, frame.height) == (288, 144))
    );
    assert!(
        frames
            .windows(2)
            .all(|pair| pair[0].micros <= pair[1].micros)
    );
}

#[test]
fn a_damaged_video_gives_what_it_can_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mkv");
    make(
        "s=128x96:r=12:d=2",
        &["-qp", "4", "-vf", "noise=alls=30:allf=t", "-g", "6"],
        &path,
    );
    let mut bytes = std::fs::read(&path).unwrap();
    let (middle, end) = (bytes.len() / 2, bytes.len() * 3 / 4);
    for byte in &mut bytes[middle..middle + 4000] {
        *byte = 0xa5;
    }
    std::fs::write(&path, &bytes[..end]).unwrap();
    let (frames, reader) = read(&path);
    assert!((6..24).contains(&frames.len()), "{}", frames.len());
    assert!(reader.complaints().is_some());
}

#[test]
fn no_video_is_refused_and_time_runs_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    std::fs::write(&path, b"no video").unwrap();
    assert!(AnalysisReader::open(&path, &AnalysisOptions::default()).is_err());
    make("s=64x48:r=10:d=1", &[], &path);
    let info = crate::probe(&path).unwrap();
    let hasty = AnalysisOptions {
        time_limit: Duration::ZERO,
        ..AnalysisOptions::default()
    };
    let mut reader = AnalysisReader::open_probed(&path, info, &hasty).unwrap();
    let failure = reader.next().unwrap().unwrap_err();
    assert!(matches!(failure, Error::TimedOut { .. }), "{failure}");
    assert!(reader.next().is_none());
}

#[test]
fn small_sizes_are_even_and_never_larger() {
    assert_eq!(small_size((1280, 720), 144), (256, 144));
    assert_eq!(small_size((720, 1280), 144), (144, 256));
    assert_eq!(small_size((97, 61), 144), (98, 62));
    assert_eq!(small_size((1, 1), 144), (2, 2));
    assert_eq!(small_size((5000, 10), 144), (5000, 10));
}
