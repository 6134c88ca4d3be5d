use super::*;
use std::path::{Path, PathBuf};

/// A smooth texture, defined everywhere: fine waves for exactness, coarse ones for reach.
fn texture(x: f64, y: f64) -> f64 {
    let waves = |x: f64, y: f64| {
        (0.43 * x + 0.21 * y).sin()
            + (0.51 * y - 0.17 * x).cos()
            + (0.37 * x - 0.49 * y + 1.0).sin()
            + (0.05 * x + 0.06 * y).cos()
    };
    128.0 + 14.5 * (waves(x, y) + waves(x / 2.0, y / 2.0))
}

fn picture((width, height): (usize, usize), f: impl Fn(f64, f64) -> f64) -> Vec<u8> {
    (0..width * height)
        .map(|k| f((k % width) as f64, (k / width) as f64).round() as u8)
        .collect()
}

/// Mean distance between the flow and the truth, `margin` pixels from the edges on.
fn mean_error(flow: &FlowField, margin: usize, truth: impl Fn(f64, f64) -> (f64, f64)) -> f64 {
    let (mut total, mut count) = (0.0, 0);
    for y in margin..flow.height - margin {
        for x in margin..flow.width - margin {
            let (dx, dy) = truth(x as f64, y as f64);
            let k = y * flow.width + x;
            total += (f64::from(flow.x[k]) - dx).hypot(f64::from(flow.y[k]) - dy);
            count += 1;
        }
    }
    total / f64::from(count)
}

#[test]
fn a_translation_is_recovered() {
    let size = (256, 192);
    for (dx, dy) in [(1.0, 0.0), (-2.5, 3.25), (9.0, -6.0)] {
        let first = picture(size, texture);
        let second = picture(size, |x, y| texture(x - dx, y - dy));
        for averaging in [Averaging::Box, Averaging::Gaussian] {
            let settings = FlowSettings {
                averaging,
                ..FlowSettings::default()
            };
            let flow = flow_between(&settings, size, &first, &second).unwrap();
            let error = mean_error(&flow, 20, |_, _| (dx, dy));
            assert!(error < 0.03, "({dx}, {dy}), {averaging:?}: {error}");
        }
    }
}

#[test]
fn an_affine_motion_is_recovered() {
    // p ↦ M p + t about the middle of the picture: turned by 1°, stretched, moved.
    let size = (161, 131);
    let (cx, cy) = (80.0, 65.0);
    let ([a, b, c, d], [tx, ty]) = ([1.015, -0.0175, 0.0175, 0.99], [1.5, -0.75]);
    let det = a * d - b * c;
    let back = |x: f64, y: f64| {
        let (u, v) = (x - cx - tx, y - cy - ty);
        ((d * u - b * v) / det + cx, (a * v - c * u) / det + cy)
    };
    let first = picture(size, texture);
    let second = picture(size, |x, y| {
        let (x, y) = back(x, y);
        texture(x, y)
    });
    let flow = flow_between(&FlowSettings::default(), size, &first, &second).unwrap();
    let error = mean_error(&flow, 30, |x, y| {
        let (u, v) = (x - cx, y - cy);
        ((a - 1.0) * u + b * v + tx, c * u + (d - 1.0) * v + ty)
    });
    assert!(error < 0.05, "{error}");
}

#[test]
fn what_stands_still_has_no_flow_at_all() {
    for size in [(97, 65), (20, 9), (5, 7), (1, 3), (1, 1)] {
        let still = picture(size, texture);
        let flow = flow_between(&FlowSettings::default(), size, &still, &still).unwrap();
        assert!(flow.x.iter().chain(&flow.y).all(|d| *d == 0.0), "{size:?}");
        // A plain brightness cannot be seen to move, wherever it goes.
        let (black, white) = (vec![0; size.0 * size.1], vec![255; size.0 * size.1]);
        let flow = flow_between(&FlowSettings::default(), size, &black, &white).unwrap();
        let largest = flow
            .x
            .iter()
            .chain(&flow.y)
            .fold(0.0_f32, |m, d| m.max(d.abs()));
        assert!(largest < 1e-3, "{size:?}: {largest}");
    }
}

#[test]
fn pictures_of_any_size_have_finite_flow() {
    for width in [1, 2, 3, 5, 9, 16, 17, 31, 33] {
        for height in [1, 2, 4, 10, 15, 32, 64] {
            let size = (width, height);
            let first = picture(size, texture);
            let second = picture(size, |x, y| 255.0 - texture(y * 3.0, x));
            for averaging in [Averaging::Box, Averaging::Gaussian] {
                let settings = FlowSettings {
                    averaging,
                    ..FlowSettings::default()
                };
                let flow = flow_between(&settings, size, &first, &second).unwrap();
                assert_eq!(
                    (flow.width, flow.height, flow.x.len()),
                    (width, height, width * height)
                );
                assert!(
                    flow.x.iter().chain(&flow.y).all(|d| d.is_finite()),
                    "{size:?}"
                );
            }
        }
    }
}

#[test]
fn a_sequence_gives_what_its_pairs_give_and_a_restart_forgets() {
    let size = (120, 90);
    let at = |t: f64| picture(size, move |x, y| texture(x - t, y + 0.5 * t));
    let pictures = [at(0.0), at(1.5), at(1.0), at(4.0)];
    let settings = FlowSettings::default();
    let mut farneback = Farneback::new(&settings, size.0, size.1).unwrap();
    for _ in 0..2 {
        assert!(farneback.push(&pictures[0]).unwrap().is_none());
        for pair in pictures.windows(2) {
            let alone = flow_between(&settings, size, &pair[0], &pair[1]).unwrap();
            assert_eq!(farneback.push(&pair[1]).unwrap(), Some(&alone));
        }
        farneback.restart();
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let size = (640, 330);
    let first = picture(size, texture);
    let second = picture(size, |x, y| texture(x * 1.01 - 2.0, y - 1.0));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap()
            .install(|| flow_between(&FlowSettings::default(), size, &first, &second).unwrap())
    };
    let one = with(1);
    assert!(one == with(2) && one == with(3));
}

#[test]
fn settings_that_make_no_sense_are_refused_with_the_reason() {
    let refused = |change: fn(&mut FlowSettings)| {
        let mut settings = FlowSettings::default();
        change(&mut settings);
        let error = Farneback::new(&settings, 64, 48).map(drop).unwrap_err();
        error.to_string()
    };
    assert!(refused(|s| s.pyramid_scale = 1.0).contains("pyramid_scale"));
    assert!(refused(|s| s.sigma = f64::NAN).contains("sigma"));
    assert!(refused(|s| s.window = 0).contains("window"));
    assert!(refused(|s| s.iterations = 0).contains("iterations"));
    assert!(refused(|s| s.neighbourhood = 1000).contains("neighbourhood"));
    let settings = FlowSettings::default();
    assert!(Farneback::new(&settings, 0, 5).is_err());
    assert!(Farneback::new(&settings, usize::MAX, 5).is_err());
    let mut farneback = Farneback::new(&settings, 8, 6).unwrap();
    assert!(
        farneback
            .push(&[0; 47])
            .unwrap_err()
            .to_string()
            .contains("48")
    );
}

#[derive(Deserialize)]
struct Case {
    name: String,
    width: usize,
    height: usize,
    flow: FlowSettings,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/farneback")
}

/// The flow of OpenCV with the same settings (`fixtures/farneback/make.py`): a mean distance of at most
/// 1e-4 pixels, and nowhere more than 0.01.
#[test]
fn agrees_with_opencv() {
    let cases = std::fs::read_to_string(fixtures().join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&cases).unwrap();
    assert!(cases.len() >= 7);
    for case in cases {
        let data = std::fs::read(fixtures().join(format!("{}.bin", case.name))).unwrap();
        let pixels = case.width * case.height;
        let (first, rest) = data.split_at(pixels);
        let (second, expected) = rest.split_at(pixels);
        let (expected, rest) = expected.as_chunks::<4>();
        assert!(
            expected.len() == 2 * pixels && rest.is_empty(),
            "{}",
            case.name
        );
        let size = (case.width, case.height);
        let flow = flow_between(&case.flow, size, first, second).unwrap();
        let distance = |k: usize| {
            let value = |k: usize| f64::from(f32::from_le_bytes(expected[k]));
            let (x, y) = (f64::from(flow.x[k]), f64::from(flow.y[k]));
            (x - value(2 * k)).hypot(y - value(2 * k + 1))
        };
        let mean = (0..pixels).map(distance).sum::<f64>() / pixels as f64;
        let largest = (0..pixels).map(distance).fold(0.0, f64::max);
        assert!(
            mean < 1e-4 && largest < 0.01,
            "{}: {mean} {largest}",
            case.name
        );
    }
}
