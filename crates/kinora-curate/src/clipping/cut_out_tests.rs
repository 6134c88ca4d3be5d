use super::super::{ClipSettings, plan_clips};
use super::*;
use crate::cuts::Cut;
use kinora_media::CutKind;
use std::process::Command;

/// Frames of the source: so many that levels of brightness tell them apart.
const FRAMES: i64 = 60;

/// Makes a video whose frame n has the brightness 20 + 3 n.
fn make(words: &str, out: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i"])
        .arg("nullsrc=s=64x48:r=10:d=6,format=yuv420p,geq=lum='20+3*N':cb=128:cr=128")
        .args(words.split_whitespace())
        .arg(out)
        .status()
        .expect("the tests need ffmpeg: apt-get install ffmpeg");
    assert!(status.success(), "{words}");
}

/// Which frames of the source a video holds, and the times of all its frames.
fn frames_of(path: &Path) -> (Vec<u64>, Vec<i64>, AnalysisReader) {
    let mut reader = AnalysisReader::open(path, &AnalysisOptions::default()).unwrap();
    let frames: Vec<AnalysisFrame> = reader.by_ref().map(|frame| frame.unwrap()).collect();
    assert_eq!(serious(&reader), None, "{}", path.display());
    let identity = |frame: &AnalysisFrame| (u64::from(frame.luma[24 * 64 + 32]) - 19) / 3;
    let micros = frames.iter().map(|frame| frame.micros).collect();
    (frames.iter().map(identity).collect(), micros, reader)
}

fn cut_at(frame: u64) -> Cut {
    Cut {
        frame,
        micros: frame as i64 * 100_000,
        kind: CutKind::Hard,
        score: 2.0,
        left: frame,
        entered: frame,
    }
}

/// Cuts a video at frame 31 and proves by decoding that each clip holds the frames planned, and none
/// from the other side.
fn check(words: &str, name: &str, ending: &str) -> Vec<(u64, u64)> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join(name);
    make(words, &source);
    let (identities, micros, reader) = frames_of(&source);
    assert_eq!(identities, (0..FRAMES as u64).collect::<Vec<_>>());
    assert_eq!(clip_ending(reader.info()), ending);
    let limit = Duration::from_secs(60);
    let (info, first) = (reader.info().clone(), reader.first_micros());
    let keyframes = find_keyframes(&source, &info, first, &micros, limit).unwrap();
    let mut spans = Vec::new();
    let settings = ClipSettings {
        least_secs: 0.3,
        ..ClipSettings::default()
    };
    let encoded = ClipSettings {
        encode: true,
        ..settings
    };
    let options = CutOutOptions {
        check: Check::Decode,
        ..CutOutOptions::default()
    };
    for settings in [settings, encoded] {
        for plan in plan_clips(&[cut_at(31)], &keyframes, &micros, &settings) {
            let out = folder.path().join(format!("{}.{ending}", plan.start_frame));
            let outcome = cut_out(&source, &info, first, &plan, &out, &options).unwrap();
            assert_eq!(
                (outcome.encoded, outcome.reason),
                (plan.encode, None),
                "{name} {plan:?}"
            );
            let (found, times, _) = frames_of(&out);
            let planned: Vec<u64> = (plan.start_frame..plan.end_frame).collect();
            assert_eq!(found, planned, "{name} {plan:?}");
            assert!(
                times
                    .windows(2)
                    .all(|pair| (pair[1] - pair[0] - 100_000).abs() <= 1000)
            );
            spans.push((plan.start_frame, plan.end_frame));
        }
    }
    // Encoded clips lose nothing.
    assert_eq!(spans[spans.len() - 2..], [(0, 31), (31, 60)]);
    spans
}

#[test]
fn closed_groups_with_reordered_pictures() {
    let words = "-c:v libx264 -qp 8 -g 12 -bf 3 -x264-params scenecut=0:b-adapt=0";
    let spans = check(words, "a.mp4", "mp4");
    assert_eq!(spans[1], (36, 60));
    assert!(
        spans[0].0 == 0 && (28..=31).contains(&spans[0].1),
        "{spans:?}"
    );
}

#[test]
fn open_groups_lose_the_pictures_that_lean_on_the_other_side() {
    let words = "-c:v libx264 -qp 8 -g 12 -bf 3 -x264-params scenecut=0:b-adapt=0:open-gop=1";
    for name in ["a.mp4", "a.mkv", "a.ts"] {
        let spans = check(words, name, "mp4");
        assert!(
            spans[0].0 == 0 && (27..=31).contains(&spans[0].1),
            "{name} {spans:?}"
        );
        assert!((32..=42).contains(&spans[1].0), "{name} {spans:?}");
    }
}

#[test]
fn vp9_with_hidden_frames_and_a_late_start() {
    let words = "-c:v libvpx-vp9 -crf 10 -b:v 0 -g 12 -lag-in-frames 12 -auto-alt-ref 1 -output_ts_offset 7.5";
    let spans = check(words, "a.webm", "webm");
    assert_eq!(spans[..2], [(0, 31), (36, 60)]);
}

#[test]
fn a_copy_that_its_container_cannot_hold_is_encoded_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (folder.path().join("a.mkv"), folder.path().join("clip.webm"));
    make("-c:v libx264 -qp 8 -g 10", &source);
    let (_, micros, reader) = frames_of(&source);
    let plan = ClipPlan {
        start_frame: 10,
        end_frame: 20,
        start_micros: micros[10],
        end_micros: micros[20],
        encode: false,
    };
    let (info, first) = (reader.info().clone(), reader.first_micros());
    let outcome = cut_out(
        &source,
        &info,
        first,
        &plan,
        &out,
        &CutOutOptions::default(),
    )
    .unwrap();
    assert!(outcome.encoded && outcome.reason.is_some());
    assert_eq!(frames_of(&out).0, (10..20).collect::<Vec<_>>());
}
