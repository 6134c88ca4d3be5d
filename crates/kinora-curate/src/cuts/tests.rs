use super::*;
use kinora_media::AnalysisFrame;

const WIDTH: usize = 128;
const HEIGHT: usize = 72;

/// A picture without end, different for each `seed`: smooth blobs of several sizes, 0 to 255.
fn level(seed: u64, plane: u64, x: f64, y: f64) -> f64 {
    let mut sum = 0.0;
    for octave in 0..3_u64 {
        let mut mixed = (seed * 31 + plane * 7 + octave + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 29;
        mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let angle = |bits: u64| (bits & 0xffff) as f64 / 65536.0 * std::f64::consts::TAU;
        let (way, phase) = (angle(mixed), angle(mixed >> 16));
        let period = 60.0 / f64::from(1 << octave) * (1.0 + angle(mixed >> 32) / 12.0);
        let along = (x * way.cos() + y * way.sin()) / period * std::f64::consts::TAU;
        let across = (x * way.sin() - y * way.cos()) / (period * 1.3) * std::f64::consts::TAU;
        // As in photographs, the finer the fainter.
        sum += (along + phase).sin() * (across + 2.0 * phase).cos() / f64::from(1 << octave);
    }
    128.0 + 70.0 * sum
}

/// Planes of a shot that has moved by `offset` pixels: brightness, blue, red.
fn picture(seed: u64, offset: [f64; 2]) -> [Vec<f64>; 3] {
    let plane = |number: u64, step: usize, mildness: f64| {
        let rows = (0..HEIGHT / step).flat_map(|y| (0..WIDTH / step).map(move |x| (x, y)));
        rows.map(|(x, y)| {
            let (x, y) = ((x * step) as f64 + offset[0], (y * step) as f64 + offset[1]);
            128.0 + (level(seed, number, x, y) - 128.0) * mildness
        })
        .collect()
    };
    [plane(0, 1, 1.0), plane(1, 2, 0.3), plane(2, 2, 0.3)]
}

fn still(seed: u64) -> [Vec<f64>; 3] {
    picture(seed, [0.0, 0.0])
}

fn plain(brightness: f64) -> [Vec<f64>; 3] {
    let chroma = vec![128.0; WIDTH * HEIGHT / 4];
    [vec![brightness; WIDTH * HEIGHT], chroma.clone(), chroma]
}

fn mixed(a: &[Vec<f64>; 3], b: &[Vec<f64>; 3], share: f64) -> [Vec<f64>; 3] {
    [0, 1, 2].map(|plane| {
        let pairs = a[plane].iter().zip(&b[plane]);
        pairs.map(|(a, b)| a + share * (b - a)).collect()
    })
}

/// `b` from the left up to a share of the width, `a` beyond.
fn wiped(a: &[Vec<f64>; 3], b: &[Vec<f64>; 3], share: f64) -> [Vec<f64>; 3] {
    [(0, WIDTH), (1, WIDTH / 2), (2, WIDTH / 2)].map(|(plane, width)| {
        let pairs = a[plane].iter().zip(&b[plane]).enumerate();
        pairs
            .map(|(at, (a, b))| {
                if ((at % width) as f64) < share * width as f64 {
                    *b
                } else {
                    *a
                }
            })
            .collect()
    })
}

/// What the meter measures of pictures shown at so many a second.
fn measured(pictures: &[[Vec<f64>; 3]], fps: f64) -> FrameScores {
    let mut meter = CutMeter::new();
    for (number, planes) in pictures.iter().enumerate() {
        let bytes = |plane: usize| {
            planes[plane]
                .iter()
                .map(|level| level.clamp(0.0, 255.0) as u8)
                .collect()
        };
        meter.push(&AnalysisFrame {
            number: number as u64,
            micros: (number as f64 * 1e6 / fps) as i64,
            width: WIDTH,
            height: HEIGHT,
            luma: bytes(0),
            blue: bytes(1),
            red: bytes(2),
        });
    }
    meter.finish()
}

fn found(pictures: &[[Vec<f64>; 3]], fps: f64) -> Vec<Cut> {
    cuts(&measured(pictures, fps), &CutSettings::default())
}

/// Frames of one still, frames of a change, frames of another.
fn joined(before: usize, change: &[[Vec<f64>; 3]], after: usize) -> Vec<[Vec<f64>; 3]> {
    let mut pictures = vec![still(1); before];
    pictures.extend_from_slice(change);
    pictures.extend(vec![still(2); after]);
    pictures
}

fn dissolve(frames: usize) -> Vec<[Vec<f64>; 3]> {
    let share = |at: usize| (at + 1) as f64 / (frames + 1) as f64;
    (0..frames)
        .map(|at| mixed(&still(1), &still(2), share(at)))
        .collect()
}

#[test]
fn a_hard_cut_is_found_at_its_frame_whatever_the_rate() {
    for fps in [5.0, 24.0, 60.0] {
        let cuts = found(&joined(40, &[], 30), fps);
        assert_eq!(cuts.len(), 1, "{fps}: {cuts:?}");
        assert_eq!((cuts[0].frame, cuts[0].kind), (40, CutKind::Hard));
        assert_eq!((cuts[0].left, cuts[0].entered), (40, 40));
        assert_eq!(cuts[0].micros, (40.0 * 1e6 / fps) as i64);
    }
    // Between two shots that both move.
    let pan = |seed: u64, at: usize| picture(seed, [1.5 * at as f64, 0.5 * at as f64]);
    let moving: Vec<_> = (0..60)
        .map(|at| pan(if at < 25 { 3 } else { 4 }, at))
        .collect();
    let cuts = found(&moving, 24.0);
    assert_eq!(cuts.iter().map(|cut| cut.frame).collect::<Vec<_>>(), [25]);
}

#[test]
fn dissolves_are_found_once_with_their_ends() {
    for (fps, frames) in [(24.0, 8), (24.0, 20), (24.0, 44), (60.0, 60)] {
        let cuts = found(&joined(90, &dissolve(frames), 90), fps);
        assert_eq!(cuts.len(), 1, "{fps} {frames}: {cuts:?}");
        let (cut, last) = (&cuts[0], 90 + frames as u64);
        assert_eq!(cut.kind, CutKind::Gradual);
        assert!((90..last).contains(&cut.frame), "{cut:?}");
        // A tenth of the way is left to the shots.
        assert!(cut.left.abs_diff(90) <= 1 + frames as u64 / 7, "{cut:?}");
        assert!(
            cut.entered.abs_diff(last) <= 1 + frames as u64 / 7,
            "{cut:?}"
        );
    }
}

#[test]
fn fades_through_black_and_white_are_found_short_and_long() {
    for (brightness, half, hold) in [(16.0, 6, 0), (235.0, 12, 2), (16.0, 20, 100)] {
        let mut change = Vec::new();
        for at in 0..half {
            change.push(mixed(
                &still(1),
                &plain(brightness),
                (at + 1) as f64 / half as f64,
            ));
        }
        change.extend(vec![plain(brightness); hold]);
        for at in 0..half {
            change.push(mixed(
                &plain(brightness),
                &still(2),
                at as f64 / half as f64,
            ));
        }
        let cuts = found(&joined(60, &change, 60), 24.0);
        assert_eq!(cuts.len(), 1, "{brightness} {half} {hold}: {cuts:?}");
        assert_eq!(cuts[0].kind, CutKind::Fade);
        let span = 60 + half as u64 - 2..60 + change.len() as u64;
        assert!(
            span.contains(&cuts[0].frame),
            "{brightness} {half} {hold}: {cuts:?}"
        );
        assert!(
            cuts[0].left <= 64 && cuts[0].entered + 4 >= 60 + change.len() as u64,
            "{cuts:?}"
        );
    }
}

#[test]
fn slow_wipes_are_found() {
    for frames in [12, 40] {
        let share = |at: usize| (at + 1) as f64 / (frames + 1) as f64;
        let change: Vec<_> = (0..frames)
            .map(|at| wiped(&still(1), &still(2), share(at)))
            .collect();
        let cuts = found(&joined(60, &change, 60), 24.0);
        assert_eq!(cuts.len(), 1, "{frames}: {cuts:?}");
        assert_eq!(cuts[0].kind, CutKind::Gradual);
        assert!(
            (60..60 + frames as u64).contains(&cuts[0].frame),
            "{cuts:?}"
        );
    }
}

#[test]
fn flashes_pans_shaking_hands_stills_and_fades_at_the_ends_are_no_cuts() {
    let none = |what: &str, pictures: Vec<[Vec<f64>; 3]>| {
        let cuts = found(&pictures, 24.0);
        assert!(cuts.is_empty(), "{what}: {cuts:?}");
    };
    none("still", vec![still(1); 80]);
    for frames in 1..=3 {
        let flash: Vec<_> = vec![mixed(&still(1), &plain(255.0), 0.8); frames];
        none(
            "flash",
            [vec![still(1); 40], flash, vec![still(1); 40]].concat(),
        );
    }
    none(
        "pan",
        (0..90)
            .map(|at| picture(5, [9.0 * at as f64, 0.0]))
            .collect(),
    );
    let start = |at: usize| if at < 40 { 0.0 } else { 2.0 * (at - 40) as f64 };
    none(
        "start of a pan",
        (0..90).map(|at| picture(6, [start(at), 0.0])).collect(),
    );
    let shake = |at: usize| {
        let at = at as f64;
        [
            4.0 * (at * 1.9).sin() + 3.0 * (at * 0.7).cos(),
            4.0 * (at * 2.3).cos(),
        ]
    };
    none("shake", (0..90).map(|at| picture(7, shake(at))).collect());
    let fade = |at: usize| mixed(&plain(16.0), &still(1), (at as f64 / 20.0).min(1.0));
    none("fade in", (0..90).map(fade).collect());
    none("fade out", (0..90).rev().map(fade).collect());
    none(
        "darkening",
        (0..90)
            .map(|at| mixed(&still(1), &plain(60.0), at as f64 / 180.0))
            .collect(),
    );
}

#[test]
fn thresholds_move_without_decoding_again() {
    let scores = measured(
        &[joined(40, &dissolve(12), 40), vec![still(3); 40]].concat(),
        24.0,
    );
    let kinds = |settings: &CutSettings| -> Vec<CutKind> {
        cuts(&scores, settings).iter().map(|cut| cut.kind).collect()
    };
    let usual = CutSettings::default();
    assert_eq!(kinds(&usual), [CutKind::Gradual, CutKind::Hard]);
    let no_hard = CutSettings {
        hard_levels: 1000.0,
        ..usual.clone()
    };
    assert_eq!(kinds(&no_hard), [CutKind::Gradual]);
    let no_gradual = CutSettings {
        quick_share: 100.0,
        slow_share: 100.0,
        ..usual.clone()
    };
    assert_eq!(kinds(&no_gradual), [CutKind::Hard]);
    // Scores that have been to a file and back give the same cuts.
    let text = serde_json::to_string(&scores).unwrap();
    let back: FrameScores = serde_json::from_str(&text).unwrap();
    assert_eq!(cuts(&back, &usual), cuts(&scores, &usual));
    assert!(serde_json::from_str::<CutSettings>(r#"{"hard_level": 3}"#).is_err());
    assert!(cuts(&FrameScores::default(), &usual).is_empty());
    assert!(found(&[still(1)], 24.0).is_empty());
}

#[test]
fn memory_is_bounded_and_every_frame_counts() {
    let mut meter = CutMeter::new();
    let mut frame = AnalysisFrame {
        width: 16,
        height: 16,
        luma: vec![0; 256],
        blue: vec![128; 64],
        red: vec![128; 64],
        ..AnalysisFrame::default()
    };
    for number in 0..4000 {
        // A thousand frames a second; and some with the same time.
        (frame.number, frame.micros) = (number, (number as i64 / 2) * 2000);
        frame.luma.fill((number % 251) as u8);
        meter.push(&frame);
        assert!(meter.kept() <= 600);
    }
    let scores = meter.finish();
    assert_eq!(scores.frames(), 4000);
    assert_eq!(scores.lasting.len(), 4000);
}
