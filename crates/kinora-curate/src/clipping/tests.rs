use super::*;
use kinora_media::CutKind;

fn cut(frame: u64, left: u64, entered: u64) -> Cut {
    Cut {
        frame,
        micros: frame as i64 * 100_000,
        kind: if left == entered {
            CutKind::Hard
        } else {
            CutKind::Gradual
        },
        score: 2.0,
        left,
        entered,
    }
}

/// Ten frames a second.
fn tenths(frames: i64) -> Vec<i64> {
    (0..frames).map(|frame| frame * 100_000).collect()
}

fn packet(tenth: i64, key: bool) -> Packet {
    Packet {
        micros: tenth * 100_000,
        key,
    }
}

fn spans(plans: &[ClipPlan]) -> Vec<(u64, u64)> {
    plans
        .iter()
        .map(|plan| (plan.start_frame, plan.end_frame))
        .collect()
}

/// Every frame a place to end before, every tenth one to start with.
fn simple(frames: u64) -> Keyframes {
    Keyframes {
        starts: (0..frames).step_by(10).collect(),
        ends: (1..=frames).collect(),
    }
}

#[test]
fn a_start_moves_on_to_a_key_frame_and_never_back_over_the_cut() {
    let settings = ClipSettings::default();
    let cuts = [cut(31, 31, 31), cut(60, 60, 60)];
    let plans = plan_clips(&cuts, &simple(100), &tenths(100), &settings);
    assert_eq!(spans(&plans), [(0, 31), (40, 60), (60, 100)]);
    assert_eq!(plans[1].start_micros, 4_000_000);
    assert_eq!(plans[2].end_micros, 10_000_000);
}

#[test]
fn frames_of_two_shots_are_in_no_clip() {
    let cuts = [cut(35, 28, 42)];
    let plans = plan_clips(&cuts, &simple(100), &tenths(100), &ClipSettings::default());
    assert_eq!(spans(&plans), [(0, 28), (50, 100)]);
    let exact = ClipSettings {
        encode: true,
        ..ClipSettings::default()
    };
    let plans = plan_clips(&cuts, &simple(100), &tenths(100), &exact);
    assert_eq!(spans(&plans), [(0, 28), (42, 100)]);
}

#[test]
fn short_clips_are_left_out_and_long_shots_split_evenly() {
    let settings = ClipSettings {
        least_secs: 2.0,
        most_secs: 4.0,
        encode: false,
    };
    let plans = plan_clips(&[cut(15, 15, 15)], &simple(115), &tenths(115), &settings);
    // The first shot is too short; the second starts at 20, and 9.5 s make three parts.
    assert_eq!(spans(&plans), [(20, 50), (50, 80), (80, 115)]);
    // Without key frames nearby a part ends when it must, and the next waits for one.
    let rare = Keyframes {
        starts: vec![0, 70],
        ends: (1..=115).collect(),
    };
    assert_eq!(
        spans(&plan_clips(&[], &rare, &tenths(115), &settings))[..2],
        [(0, 40), (70, 110)]
    );
    assert!(plan_clips(&[], &Keyframes::default(), &tenths(115), &settings).is_empty());
    assert!(plan_clips(&[], &simple(0), &[], &settings).is_empty());
}

#[test]
fn a_copy_ends_where_nothing_leans_over_the_end() {
    // Coded I0 P3 B1 B2 | I6 (open: B4 B5 come after it) P9 B7 B8.
    let order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8];
    let packets: Vec<Packet> = order
        .iter()
        .map(|&at| packet(at + 7, at == 0 || at == 6))
        .collect();
    let found = Keyframes::new(&packets, 700_000, &tenths(10));
    assert_eq!(found.starts, [0, 6]);
    assert_eq!(found.ends, [1, 4, 7, 10]);
    // A cut at 6: the first clip has to do without 4 and 5, which cannot be decoded without 6.
    let settings = ClipSettings {
        least_secs: 0.1,
        ..ClipSettings::default()
    };
    let plans = plan_clips(&[cut(6, 6, 6)], &found, &tenths(10), &settings);
    assert_eq!(spans(&plans), [(0, 4), (6, 10)]);
}

#[test]
fn a_packet_without_a_frame_is_no_place_to_cut() {
    let packets = [packet(0, true), packet(1, false), packet(20, true)];
    let found = Keyframes::new(&packets, 0, &tenths(2));
    assert_eq!(found.starts, [0]);
    assert_eq!(found.ends, [1, 2]);
}
