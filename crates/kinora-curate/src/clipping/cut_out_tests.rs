use super::super::{ClipSettings, Keyframes, plan_clips};
use super::*;
use crate::cuts::Cut;
use kinora_media::{CutKind, probe_packets};
use std::path::PathBuf;
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
    let (info, packets) = probe_packets(&source, Duration::from_secs(60)).unwrap();
    assert_eq!(&info, reader.info());
    let first = reader.first_micros();
    let keyframes = Keyframes::new(&packets, first, &micros);
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
        let plans = plan_clips(&[cut_at(31)], &keyframes, &micros, &settings);
        let outs: Vec<PathBuf> = (0..plans.len())
            .map(|at| folder.path().join(format!("{at}.{ending}")))
            .collect();
        let clips = plans.iter().zip(&outs);
        let clips: Vec<ClipFile> = clips.map(|(plan, out)| ClipFile { plan, out }).collect();
        let made = cut_out(&source, &info, first, &clips, &options);
        for (clip, made) in clips.iter().zip(made) {
            let plan = clip.plan;
            let made = made.unwrap();
            assert_eq!(
                (made.encoded, made.reason),
                (plan.encode, None),
                "{name} {plan:?}"
            );
            let (found, times, _) = frames_of(clip.out);
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

/// A source whose key frames come every ten frames, and what a reader knows of it.
fn tens(folder: &Path, name: &str) -> (PathBuf, VideoInfo, i64, Vec<i64>) {
    let source = folder.join(name);
    make("-c:v libx264 -qp 8 -g 10 -bf 0", &source);
    let (_, micros, reader) = frames_of(&source);
    let (info, first) = (reader.info().clone(), reader.first_micros());
    (source, info, first, micros)
}

fn copy_of(frames: std::ops::Range<u64>, micros: &[i64]) -> ClipPlan {
    ClipPlan {
        start_frame: frames.start,
        end_frame: frames.end,
        start_micros: micros[frames.start as usize],
        end_micros: micros[frames.end as usize],
        encode: false,
    }
}

#[test]
fn a_copy_that_its_container_cannot_hold_is_encoded_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (source, info, first, micros) = tens(folder.path(), "a.mkv");
    let plans = [copy_of(10..20, &micros), copy_of(20..30, &micros)];
    let outs = ["bad.webm", "good.mp4"].map(|name| folder.path().join(name));
    let clips = [0, 1].map(|at| ClipFile {
        plan: &plans[at],
        out: &outs[at],
    });
    let made = cut_out(&source, &info, first, &clips, &CutOutOptions::default());
    let made: Vec<CutOut> = made.into_iter().map(|made| made.unwrap()).collect();
    assert!(made[0].encoded && made[0].reason.is_some());
    // Its sister of the same run is copied all the same.
    assert!(!made[1].encoded && made[1].reason.is_none());
    assert_eq!(frames_of(&outs[0]).0, (10..20).collect::<Vec<_>>());
    assert_eq!(frames_of(&outs[1]).0, (20..30).collect::<Vec<_>>());
}

#[test]
fn a_clip_is_the_same_whatever_clips_are_copied_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (source, info, first, micros) = tens(folder.path(), "a.mp4");
    let plans = [0, 10, 20, 40].map(|from| copy_of(from..from + 10, &micros));
    let copied = |numbers: &[usize], sort: &str| -> Vec<Vec<u8>> {
        let name = |at: &usize| folder.path().join(format!("{sort}-{at}.mp4"));
        let outs: Vec<PathBuf> = numbers.iter().map(name).collect();
        let clips = numbers.iter().zip(&outs);
        let clips = clips.map(|(&at, out)| ClipFile {
            plan: &plans[at],
            out,
        });
        let clips: Vec<ClipFile> = clips.collect();
        let made = cut_out(&source, &info, first, &clips, &CutOutOptions::default());
        assert!(made.into_iter().all(|made| !made.unwrap().encoded));
        outs.iter().map(|out| std::fs::read(out).unwrap()).collect()
    };
    let together = copied(&[0, 1, 2, 3], "together");
    for at in [0, 2, 3] {
        assert!(copied(&[at], "alone")[0] == together[at], "clip {at}");
    }
    assert!(copied(&[1, 3], "two")[..] == [together[1].clone(), together[3].clone()]);
}

#[test]
fn a_copy_of_other_frames_than_planned_is_encoded() {
    let packet = |tenth: i64, key| Packet {
        micros: tenth * 100_000,
        key,
    };
    let tenths: Vec<i64> = (0..60).map(|frame| frame * 100_000).collect();
    let plan = copy_of(10..13, &tenths);
    let whole = [packet(0, true), packet(2, false), packet(1, false)];
    assert_eq!(fault(&whole, &plan), None);
    assert!(fault(&whole[..2], &plan).unwrap().contains("found 2"));
    let leaning = [packet(1, true), packet(0, false), packet(2, false)];
    assert!(fault(&leaning, &plan).unwrap().contains("no key frame"));
}

#[test]
fn a_run_holds_neighbours_and_not_too_many() {
    let minutes: Vec<i64> = (0..100).map(|minute| minute * 60_000_000).collect();
    let plans: Vec<ClipPlan> = (0..80).map(|at| copy_of(at..at + 1, &minutes)).collect();
    let run = |plans: &[ClipPlan]| {
        let clips = plans.iter().map(|plan| ClipFile {
            plan,
            out: Path::new("a.mp4"),
        });
        in_one_run(&clips.collect::<Vec<_>>())
    };
    assert_eq!(run(&plans), MOST_AT_ONCE);
    assert_eq!(run(&plans[..3]), 3);
    assert_eq!(
        run(&[plans[0].clone(), plans[1].clone(), plans[7].clone()]),
        2
    );
    let mut encoded = plans[1].clone();
    encoded.encode = true;
    assert_eq!(run(&[plans[0].clone(), encoded.clone()]), 1);
    assert_eq!(run(&[encoded.clone(), encoded]), 1);
    assert_eq!(run(&[]), 0);
}

#[test]
fn a_stream_without_times_is_cut_by_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let (source, info, first, micros) = tens(folder.path(), "a.h264");
    let (_, packets) = probe_packets(&source, Duration::from_secs(60)).unwrap();
    assert!(packets.is_empty());
    let plans = [31..59, 3..31].map(|frames| ClipPlan {
        encode: true,
        ..copy_of(frames, &micros)
    });
    let outs = ["late.mp4", "early.mp4"].map(|name| folder.path().join(name));
    for (plan, out) in plans.iter().zip(&outs) {
        let clip = ClipFile { plan, out };
        let made = cut_out(&source, &info, first, &[clip], &CutOutOptions::default());
        assert!(made.into_iter().all(|made| made.unwrap().encoded));
        let planned: Vec<u64> = (plan.start_frame..plan.end_frame).collect();
        assert_eq!(frames_of(out).0, planned);
    }
}
