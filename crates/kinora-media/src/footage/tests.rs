use super::take::Join;
use super::*;
use crate::metadata::read_metadata;
use crate::video::{ReadOptions, Reader};

fn options() -> FootageOptions {
    FootageOptions {
        videos: 3,
        width: 48,
        height: 32,
        shot_secs: 0.5,
        ..FootageOptions::default()
    }
}

/// Centre of what differs between two pictures, in pixels, and how much differs.
fn change(a: &Rgb8Image, b: &Rgb8Image) -> ([f32; 2], f32) {
    let (mut sum, mut center) = (0.0, [0.0; 2]);
    for y in 0..a.height() {
        for x in 0..a.width() {
            let pairs = a.pixel(x, y).into_iter().zip(b.pixel(x, y));
            let weight: f32 = pairs.map(|(a, b)| f32::from(a.abs_diff(b))).sum();
            sum += weight;
            center = [center[0] + weight * x as f32, center[1] + weight * y as f32];
        }
    }
    (
        [center[0] / sum, center[1] / sum],
        sum / a.data().len() as f32,
    )
}

fn held_out(subject: Subject, index: u64) -> Vec<Rgb8Image> {
    let options = FootageOptions {
        fps: Fps::whole(8).unwrap(),
        ..FootageOptions::default()
    };
    render_held_out_shot(subject, index, 14, &options).unwrap()
}

#[test]
fn every_subject_moves_plainly_and_smoothly() {
    for subject in Subject::ALL {
        for index in 0..3 {
            let frames = held_out(subject, index);
            for pair in frames.windows(2) {
                let (_, amount) = change(&pair[0], &pair[1]);
                assert!(
                    (0.5..25.0).contains(&amount),
                    "{}: {amount}",
                    subject.name()
                );
            }
        }
    }
}

#[test]
fn balloons_rise_and_cars_go_where_they_look() {
    for index in 0..4 {
        let frames = held_out(Subject::Balloon, index);
        let (early, _) = change(&frames[0], &frames[1]);
        let (late, _) = change(&frames[12], &frames[13]);
        assert!(late[1] < early[1] - 15.0, "{early:?} {late:?}");
    }
    // The yellow lamp is on the side to which the car drives.
    let is_lamp = |[r, g, b]: [u8; 3]| r > 220 && g > 200 && (90..190).contains(&b);
    let (mut left, mut right) = (0, 0);
    for index in 0..12 {
        let frames = held_out(Subject::Car, index);
        let (early, _) = change(&frames[5], &frames[6]);
        let (late, _) = change(&frames[7], &frames[8]);
        let rightward = late[0] > early[0];
        let road = (65..84).flat_map(|y| (0..96).map(move |x| (x, y)));
        let lamps: Vec<f32> = road
            .filter(|&(x, y)| is_lamp(frames[6].pixel(x, y)))
            .map(|(x, _)| x as f32)
            .collect();
        let lamp = lamps.iter().sum::<f32>() / lamps.len() as f32;
        let car = (early[0] + late[0]) / 2.0;
        assert_eq!(lamp > car, rightward, "car {index}: lamp {lamp}, car {car}");
        *(if rightward { &mut right } else { &mut left }) += 1;
    }
    assert!(
        left > 1 && right > 1,
        "both ways must occur: {left} {right}"
    );
}

#[test]
fn the_same_seed_gives_the_same_pictures_and_another_others() {
    let frames = held_out(Subject::Fish, 0);
    assert!(frames == held_out(Subject::Fish, 0));
    assert!(frames != held_out(Subject::Fish, 1));
    let other = FootageOptions {
        seed: 1,
        fps: Fps::whole(8).unwrap(),
        ..FootageOptions::default()
    };
    assert!(frames != render_held_out_shot(Subject::Fish, 0, 14, &other).unwrap());
    // Nor is the held-out shot one of those in the files.
    for video in 0..60 {
        for (shot, count) in plan_video(video, &FootageOptions::default()) {
            let first = pictures(&shot, count, &FootageOptions::default())
                .next()
                .unwrap();
            assert!(first != frames[0]);
        }
    }
}

#[test]
fn files_hold_their_shots_and_say_where_they_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    let target = folder.path().join("new/footage");
    let paths = render_footage(&target, &options(), &mut |done, of| told.push((done, of))).unwrap();
    assert_eq!(told, [(1, 3), (2, 3), (3, 3)]);
    let mut subjects = std::collections::BTreeSet::new();
    for (index, path) in paths.iter().enumerate() {
        let metadata = read_metadata(path).unwrap().unwrap();
        let shots = metadata["shots"].as_array().unwrap();
        assert_eq!(shots.len(), 1 + index);
        let reader = Reader::open(path, &ReadOptions::default()).unwrap();
        let frames: Vec<_> = reader.map(|frame| frame.unwrap().picture).collect();
        let planned: u64 = shots
            .iter()
            .map(|shot| shot["frames"].as_u64().unwrap())
            .sum();
        assert_eq!(frames.len() as u64, planned);
        for (number, shot) in shots.iter().enumerate() {
            subjects.insert(shot["subject"].as_str().unwrap().to_owned());
            let first = shot["first_frame"].as_u64().unwrap() as usize;
            if number > 0 {
                let (_, across) = change(&frames[first - 1], &frames[first]);
                let (_, within) = change(&frames[first], &frames[first + 1]);
                assert!(across > 4.0 * within, "{across} {within}");
            }
        }
    }
    assert_eq!(subjects.len(), 6, "six shots show every subject");
    let bytes = std::fs::read(&paths[1]).unwrap();
    render_footage(&target, &options(), &mut |_, _| ()).unwrap();
    assert!(
        bytes == std::fs::read(&paths[1]).unwrap(),
        "the same options, the same files"
    );
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for wrong in [
        FootageOptions {
            width: 0,
            ..options()
        },
        FootageOptions {
            height: 100_000,
            ..options()
        },
        FootageOptions {
            shot_secs: f64::NAN,
            ..options()
        },
    ] {
        assert!(render_footage(folder.path(), &wrong, &mut |_, _| ()).is_err());
    }
    let none = FootageOptions {
        videos: 0,
        ..options()
    };
    assert!(
        render_footage(folder.path(), &none, &mut |_, _| ())
            .unwrap()
            .is_empty()
    );
}

/// By how much the right picture must be shifted to the left to look like the left one, in pixels.
fn shift(a: &Rgb8Image, b: &Rgb8Image, rows: std::ops::Range<usize>) -> i32 {
    let difference = |dx: i32| -> u32 {
        let columns = 12..84;
        let places = rows
            .clone()
            .flat_map(|y| columns.clone().map(move |x| (x, y)));
        let shifted = |x: usize| (x as i32 + dx) as usize;
        let level = |(x, y): (usize, usize)| {
            u32::from(a.pixel(x, y)[1].abs_diff(b.pixel(shifted(x), y)[1]))
        };
        places.map(level).sum()
    };
    (-12..=12).min_by_key(|&dx| difference(dx)).unwrap()
}

#[test]
fn the_camera_follows_the_plane() {
    for index in 0..4 {
        let frames = held_out(Subject::Plane, index);
        let shifts: Vec<i32> = frames
            .windows(2)
            .map(|pair| shift(&pair[0], &pair[1], 74..90))
            .collect();
        // 0.42 frame heights a second, a tenth more or less, are 4.5 to 5.5 pixels a frame here.
        let way = shifts[0].signum();
        assert!(
            shifts.iter().all(|shift| (4..=6).contains(&(shift * way))),
            "{shifts:?}"
        );
    }
}

#[test]
fn planets_grow() {
    for index in 0..3 {
        let frames = held_out(Subject::Planet, index);
        let lit = |picture: &Rgb8Image| {
            let middle = (20..76).flat_map(|y| (20..76).map(move |x| (x, y)));
            middle
                .filter(|&(x, y)| picture.pixel(x, y).iter().any(|&c| c > 150))
                .count()
        };
        let (early, late) = (lit(&frames[0]), lit(&frames[13]));
        assert!(late as f32 > 1.6 * early as f32, "{early} {late}");
    }
}

#[test]
fn pinwheels_turn_clockwise() {
    for index in 0..3 {
        let frames = held_out(Subject::Pinwheel, index);
        let (hub, _) = change(&frames[0], &frames[6]);
        // Colours around the hub; y runs down, so a growing angle is clockwise.
        let around = |picture: &Rgb8Image, degrees: i32| {
            let (sin, cos) = (degrees as f32).to_radians().sin_cos();
            picture.pixel(
                (hub[0] + 17.0 * cos) as usize,
                (hub[1] + 17.0 * sin) as usize,
            )
        };
        let difference = |turned: i32| -> u32 {
            let at = |degrees: i32| {
                let pairs = around(&frames[0], degrees)
                    .into_iter()
                    .zip(around(&frames[1], degrees + turned));
                pairs.map(|(a, b)| u32::from(a.abs_diff(b))).sum::<u32>()
            };
            (0..360).step_by(2).map(at).sum()
        };
        let turned = (-44..=44).min_by_key(|&turned| difference(turned)).unwrap();
        assert!(
            (8..20).contains(&turned),
            "{turned} degrees in an eighth of a second"
        );
    }
}

fn edited() -> FootageOptions {
    FootageOptions {
        videos: 7,
        width: 64,
        height: 64,
        shot_secs: 2.0,
        edited: true,
        ..FootageOptions::default()
    }
}

fn played(video: usize) -> (Vec<Take>, Vec<usize>, Vec<Rgb8Image>) {
    let options = edited();
    let takes = takes_of_video(video, &options);
    let firsts = take::first_frames(&takes, options.fps);
    let mut frames = Vec::new();
    take::play(&takes, (64, 64), options.fps, &mut |picture| {
        frames.push(picture.clone());
        Ok(())
    })
    .unwrap();
    (takes, firsts, frames)
}

fn light(picture: &Rgb8Image) -> f32 {
    let levels = picture.data().iter().map(|&level| f32::from(level));
    levels.sum::<f32>() / picture.data().len() as f32
}

#[test]
fn edited_footage_has_what_curation_looks_for() {
    let (mut kinds, mut joins) = (Vec::new(), Vec::new());
    for video in 0..7 {
        let (takes, firsts, frames) = played(video);
        let last = firsts.last().unwrap() + takes.last().unwrap().frames;
        assert_eq!(frames.len(), last, "video {video}");
        for (number, (take, &first)) in takes.iter().zip(&firsts).enumerate() {
            let described = take.described(first);
            kinds.push(described["kind"].as_str().unwrap().to_owned());
            if number == 0 {
                continue;
            }
            joins.push(take.join);
            let (_, across) = change(&frames[first - 1], &frames[first]);
            match take.join {
                Join::Cut => assert!(across > 8.0, "{across}"),
                // Half a second of twelve frames: none shows more than a part of the change.
                Join::Dissolve => assert!(across < 12.0, "{across}"),
                Join::Fade => {
                    assert!(light(&frames[first]) == 0.0 && light(&frames[first - 1]) == 0.0);
                    assert!(light(&frames[first + 12]) > 20.0);
                    assert!(light(&frames[first - 13]) > 20.0);
                }
            }
        }
    }
    for kind in ["moving", "held", "captioned", "title"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind}: {kinds:?}");
    }
    for join in [Join::Cut, Join::Dissolve, Join::Fade] {
        assert!(joins.contains(&join), "{join:?}");
    }
}

#[test]
fn a_held_shot_and_a_title_do_not_move_and_a_captioned_one_does() {
    for (video, kind, moves) in [
        (3, "held", false),
        (1, "title", false),
        (5, "captioned", true),
    ] {
        let (takes, firsts, frames) = played(video);
        let mut described = takes.iter().zip(firsts);
        let (take, first) = described
            .find(|(take, first)| take.described(*first)["kind"] == kind)
            .unwrap();
        let middle = first + take.frames / 2;
        assert_eq!(frames[middle - 4] != frames[middle + 4], moves, "{kind}");
    }
}
