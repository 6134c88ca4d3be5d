use super::*;

const WIDTH: usize = 256;
const HEIGHT: usize = 144;

/// A texture without repetition that moves `pixels` to the right and half as many down; `tone` chooses
/// another one, so that a change of it is a cut.
fn frame(number: u64, micros: i64, pixels: f64, tone: u8) -> AnalysisFrame {
    let luma = (0..WIDTH * HEIGHT).map(|k| {
        let x = (k % WIDTH) as f64 - pixels;
        let y = (k / WIDTH) as f64 - pixels / 2.0;
        let waves = (0.41 * x + 0.19 * y).sin() + (0.47 * y - 0.15 * x).cos() + (0.037 * x).sin();
        (62.0 + f64::from(tone) + 20.0 * waves).round() as u8
    });
    AnalysisFrame {
        number,
        micros,
        width: WIDTH,
        height: HEIGHT,
        luma: luma.collect(),
        blue: Vec::new(),
        red: Vec::new(),
    }
}

/// The track of frames at these times, moving `speed` pixels a second; of another tone from each of
/// the `cuts` on.
fn track(times: impl IntoIterator<Item = i64>, speed: f64, cuts: &[i64]) -> MotionTrack {
    let mut meter = MotionMeter::new(MotionSettings::default()).unwrap();
    for (number, micros) in times.into_iter().enumerate() {
        let shots = cuts.iter().filter(|cut| **cut <= micros).count();
        let pixels = speed * micros as f64 * 1e-6;
        let frame = frame(number as u64, micros, pixels, (shots % 2) as u8 * 120);
        meter.push(&frame).unwrap();
    }
    meter.finish().unwrap()
}

/// Times of frames at a constant rate.
fn times(per_second: f64, seconds: f64) -> impl Iterator<Item = i64> {
    (0..(per_second * seconds) as i64).map(move |k| (k as f64 / per_second * 1e6).round() as i64)
}

/// The score of a movement of the whole picture of `speed` pixels a second to the right and half of it down.
fn expected(speed: f64) -> f32 {
    let (x, y) = (0.5 * speed * 28.0 / 256.0, 0.25 * speed * 16.0 / 144.0);
    x.hypot(y) as f32
}

#[test]
fn the_score_is_the_displacement_in_half_a_second_in_pixels_of_the_map() {
    for (rate, speed) in [
        (24.0, 6.0),
        (29.97, 6.0),
        (10.0, 3.0),
        (3.0, 6.0),
        (1.0, 4.0),
    ] {
        let track = track(times(rate, 6.0), speed, &[]);
        let score = motion_score(&track, 0, 6_000_000).unwrap();
        // What leaves or enters the picture cannot be seen, so that the mean is a little less.
        let ratio = score / expected(speed);
        assert!(
            (0.93..1.02).contains(&ratio),
            "{rate} frames a second: {ratio}"
        );
    }
}

#[test]
fn pictures_are_taken_twice_a_second_by_their_times() {
    let regular = |track: &MotionTrack| -> Vec<(i64, i64)> {
        track
            .pairs
            .iter()
            .map(|p| (p.first_micros, p.second_micros))
            .collect()
    };
    let half = 500_000;
    let steady = regular(&track(times(24.0, 2.1), 1.0, &[]));
    assert_eq!(
        steady,
        [
            (0, half),
            (half, 2 * half),
            (2 * half, 3 * half),
            (3 * half, 4 * half)
        ]
    );
    // A late frame moves its own pick and no other; where none come, the pair is longer.
    let late = [
        0, 400_000, 620_000, 990_000, 1_000_000, 3_300_000, 3_499_000, 3_500_000,
    ];
    let expected = [
        (0, 620_000),
        (620_000, 1_000_000),
        (1_000_000, 3_300_000),
        (3_300_000, 3_500_000),
    ];
    assert_eq!(regular(&track(late, 1.0, &[])), expected);
}

#[test]
fn nothing_moves_in_a_still_and_one_frame_has_no_score() {
    let still = track(times(24.0, 3.0), 0.0, &[]);
    assert_eq!(motion_score(&still, 0, 3_000_000), Some(0.0));
    let one = track([0], 5.0, &[]);
    assert_eq!(motion_score(&one, 0, 40_000), None);
    let none = MotionMeter::new(MotionSettings::default())
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(motion_score(&none, 0, i64::MAX), None);
}

#[test]
fn pairs_across_a_cut_count_for_neither_clip() {
    let cut = 1_750_000;
    let track = track(times(24.0, 4.0), 6.0, &[cut]);
    let across = track
        .pairs
        .iter()
        .find(|p| p.first_micros < cut && p.second_micros >= cut);
    let across = across.unwrap().magnitude;
    for (start, end) in [(0, cut), (cut, 4_000_000)] {
        let score = motion_score(&track, start, end).unwrap();
        assert!((0.93..1.02).contains(&(score / expected(6.0))), "{score}");
        let inside = |p: &&MotionPair| p.first_micros >= start && p.second_micros < end;
        let inside: Vec<f32> = track
            .pairs
            .iter()
            .filter(inside)
            .map(|p| p.magnitude)
            .collect();
        assert!(!inside.contains(&across));
        let mean = inside.iter().sum::<f32>() / inside.len() as f32;
        assert!((score - mean).abs() < 1e-6);
    }
}

#[test]
fn a_shot_too_short_for_a_pair_is_measured_by_closer_pictures() {
    // From 1.1 s to 1.9 s there is one tick, 1.5 s, and so no regular pair.
    let (start, end) = (1_100_000, 1_900_000);
    let short = track(times(24.0, 3.0), 6.0, &[start, end]);
    assert!(
        !short
            .pairs
            .iter()
            .any(|p| p.first_micros >= start && p.second_micros < end)
    );
    let score = motion_score(&short, start, end).unwrap();
    assert!((0.9..1.1).contains(&(score / expected(6.0))), "{score}");
    // Shorter than the distance of the closer pictures: nothing was measured, nothing is told.
    assert_eq!(motion_score(&short, 1_130_000, 1_200_000), None);
    // Without a possible cut no closer pictures were looked at but those at the end.
    let plain = track(times(24.0, 3.0), 6.0, &[]);
    assert!(
        plain
            .close_pairs
            .iter()
            .all(|p| p.first_micros >= 2_500_000)
    );
    // A video that ends before the second tick has these alone.
    let brief = track(times(24.0, 0.45), 6.0, &[]);
    assert!(brief.pairs.is_empty());
    assert!((0.9..1.1).contains(&(motion_score(&brief, 0, 450_000).unwrap() / expected(6.0))));
}

#[test]
fn a_track_survives_writing_to_the_bit() {
    let track = track(times(24.0, 2.0), 7.0, &[700_000]);
    assert!(!track.close_pairs.is_empty());
    let text = serde_json::to_string(&track).unwrap();
    assert_eq!(serde_json::from_str::<MotionTrack>(&text).unwrap(), track);
    assert!(
        track
            .pairs
            .iter()
            .all(|pair| pair.magnitude == pair.map.mean_magnitude())
    );
    assert_eq!(track.version, MotionSettings::default().version());
    // 28 × 16 cells of 4 bytes, and a third more as text.
    assert!(text.len() < (track.pairs.len() + track.close_pairs.len()) * 2700);
}

#[test]
fn a_frame_of_another_size_and_senseless_settings_are_refused() {
    let mut meter = MotionMeter::new(MotionSettings::default()).unwrap();
    meter.push(&frame(0, 0, 0.0, 0)).unwrap();
    let mut other = frame(1, 40_000, 0.0, 0);
    (other.width, other.height) = (HEIGHT, WIDTH);
    assert!(
        meter
            .push(&other)
            .unwrap_err()
            .to_string()
            .contains("frame 1")
    );
    let mut cut_off = frame(1, 40_000, 0.0, 0);
    cut_off.luma.pop();
    assert!(meter.push(&cut_off).is_err());
    for settings in [
        MotionSettings {
            pictures_per_second: 0.0,
            ..MotionSettings::default()
        },
        MotionSettings {
            map_short_side: 0,
            ..MotionSettings::default()
        },
    ] {
        assert!(MotionMeter::new(settings).is_err());
    }
}
