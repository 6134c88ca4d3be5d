//! `kinora generate`: what it writes, and what it refuses.

use crate::place::{MODEL, Place, generate_words, names};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::ffi::OsStringExt as _;

#[test]
fn every_kind_of_output_says_how_it_was_made() {
    let place = Place::with_still();
    for out in [
        "a.mp4", "a.webm", "a.gif", "a.png", "a.npy", "frames", "A.MP4",
    ] {
        place
            .generate(out, &["--seed", "12345678901", "--fps", "5"])
            .done();
        let said = place.kinora(["inspect", out, "--json"]);
        let said: Value = serde_json::from_str(said.done()).unwrap();
        let made = &said["made_with"];
        assert_eq!(said["kind"], "video", "{out}");
        for (key, expected) in [
            ("seed", json!(12345678901_u64)),
            ("frames", json!(2)),
            ("width", json!(32)),
            ("height", json!(32)),
            ("steps", json!(2)),
            ("fps", json!(5)),
            ("noise_aug", json!(0.02)),
            ("guidance_max", json!(3.0)),
            ("image", json!("still.png")),
            ("sampler", json!("euler")),
            ("model", json!(MODEL)),
        ] {
            assert_eq!(made[key], expected, "{out}: {key}");
        }
        // The hash that `inspect` tells of the model is the one in the video.
        let model = place.kinora(["inspect", MODEL]);
        let hash = made["model_fingerprint"].as_str().unwrap();
        assert!(model.done().contains(hash), "{out}");
        let words = place.kinora(["inspect", out]);
        assert!(
            words.done().contains("12345678901") && words.out.contains(hash),
            "{out}"
        );
    }
    assert_eq!(
        names(&place.path("frames")),
        ["frame_00000.png", "frame_00001.png"]
    );
    let mut expected = vec![
        "A.MP4",
        "a.gif",
        "a.mp4",
        "a.npy",
        "a.npy.json",
        "a.png",
        "a.webm",
    ];
    expected.extend(["frames", "frames.json", "still.png"]);
    assert_eq!(place.names(), expected);
}

#[test]
fn the_same_seed_gives_the_same_bytes_whatever_the_threads() {
    let place = Place::with_still();
    for (out, seed, threads) in [
        ("a.npy", "7", "1"),
        ("b.npy", "7", "2"),
        ("c.npy", "8", "1"),
    ] {
        let mut command = place.command(generate_words("still.png", out));
        command
            .args(["--seed", seed])
            .env("RAYON_NUM_THREADS", threads);
        assert!(command.status().unwrap().success());
    }
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    assert!(bytes("a.npy") == bytes("b.npy"));
    assert!(bytes("a.npy") != bytes("c.npy"));
    // A version 1.0 array of two frames of 32×32 in f32, every value in 0–1.
    let array = bytes("a.npy");
    assert!(array.starts_with(b"\x93NUMPY\x01\x00"));
    assert_eq!(array.len(), 128 + 4 * 2 * 32 * 32 * 3);
    let values = array[128..].as_chunks::<4>().0;
    assert!(
        values
            .iter()
            .all(|v| (0.0..=1.0).contains(&f32::from_le_bytes(*v)))
    );
}

#[test]
fn json_lines_tell_the_whole_story_and_nothing_else() {
    let place = Place::with_still();
    let ended = place.generate("a.npy", &["--json", "--preview", "p.png"]);
    ended.done();
    assert_eq!(ended.err, "");
    let events = ended.events();
    let named = |name: &str| -> Vec<&Value> {
        events
            .iter()
            .filter(|event| event["event"] == name)
            .collect()
    };
    assert_eq!(named("plan").len(), 1);
    assert!(named("plan")[0]["peak_bytes"].as_u64() > Some(0));
    let stages: Vec<&str> = named("stage")
        .iter()
        .map(|e| e["stage"].as_str().unwrap())
        .collect();
    assert_eq!(
        stages,
        ["open", "load", "look", "encode", "denoise", "decode"]
    );
    let steps = named("progress");
    let steps = steps.iter().filter(|event| event["stage"] == "denoise");
    assert!(steps.clone().count() >= 2);
    assert!(steps.clone().all(|event| event["left_s"].is_number()));
    assert_eq!(events.last().unwrap()["event"], "done");
    assert_eq!(events.last().unwrap()["out"], "a.npy");
    // The preview: the first, the middle and the last frame of a clip of two are two.
    let preview = image::open(place.path("p.png")).unwrap();
    assert!(preview.width() >= 64 && preview.height() >= 32);
}

#[test]
fn a_plan_is_told_and_nothing_is_done() {
    let place = Place::with_still();
    let ended = place.generate("a.mp4", &["--plan", "--preview", "p.png"]);
    ended.done();
    assert!(
        ended.err.contains("plan: ") && ended.err.contains("memory"),
        "{}",
        ended.err
    );
    assert_eq!(place.names(), ["still.png"]);
}

#[test]
fn what_cannot_fit_hears_of_the_setting_that_would() {
    let place = Place::with_still();
    let generate = |words: &str| {
        let fixed =
            format!("generate still.png --model {MODEL} --out a.npy --steps 2 --plan {words}");
        place.kinora(fixed.split(' '))
    };
    let square = "--width 32 --height 32 --max-memory-gib 0.2 --frames";
    let said = generate(&format!("{square} 10000")).refused().to_owned();
    let frames = said
        .split("frames ")
        .nth(1)
        .unwrap_or_else(|| panic!("{said}"));
    let frames = frames.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    assert!(said.contains("would fit") && said.contains("GiB"), "{said}");
    // What it names does fit, and one frame more does not.
    generate(&format!("{square} {frames}")).done();
    let more = frames.parse::<usize>().unwrap() + 1;
    generate(&format!("{square} {more}")).refused();
    let large = generate("--width 4096 --height 4096 --frames 2 --max-memory-gib 0.2");
    let said = large.refused();
    let size = said
        .split("width ")
        .nth(1)
        .unwrap_or_else(|| panic!("{said}"));
    let (width, height) = size.split_once(" and height ").unwrap();
    let height = height.split(' ').next().unwrap();
    let words = format!("--width {width} --height {height} --frames 2 --max-memory-gib 0.2");
    generate(&words).done();
    let small = generate("--width 32 --height 32 --frames 2 --max-memory-gib 0.001");
    assert!(
        small.refused().contains("the weights alone take 3 MiB"),
        "{}",
        small.err
    );
    assert_eq!(place.names(), ["still.png"]);
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let place = Place::with_still();
    let huge = "18446744073709551615";
    for (words, expected) in [
        (["--frames", "0"], "frames: expected at least 1"),
        (["--frames", huge], "frames: expected at most"),
        (["--steps", "0"], "steps: expected at least 1"),
        (["--steps", huge], "steps: expected at most"),
        (["--width", "36"], "the nearest is 40×32"),
        (["--width", huge], "size: expected at most"),
        (["--fps", "0"], "fps: expected 1 to 1000"),
        (["--fps", "4000000000"], "fps: expected 1 to 1000"),
        (
            ["--motion-bucket", "nan"],
            "motion bucket: expected a number",
        ),
        (
            ["--noise-aug", "inf"],
            "noise on the still: expected a number",
        ),
        (
            ["--guidance-max", "nan"],
            "last guidance scale: expected a number",
        ),
        (["--decode-chunk", "0"], "decode chunk: expected at least 1"),
        (
            ["--max-memory-gib", "0"],
            "--max-memory-gib: expected a number above zero",
        ),
        (["--sampler", "dpm"], "possible values: euler, heun, dpmpp"),
        (["--device", "abacus"], "--device"),
        (["--variant", "fp8"], "--variant"),
        (["--seed", "-1"], "invalid value '-1' for '--seed <SEED>'"),
        (
            ["--motion-bucket", "-5"],
            "motion bucket: expected a number from 0 up, found -5",
        ),
        (
            ["--preview", "p.bmp"],
            "pictures are written as .png or .jpg",
        ),
        (["--preview", "no/p.png"], "the folder no does not exist"),
    ] {
        let kept: Vec<&str> = generate_words("still.png", "a.npy");
        // The last value of a flag that is given twice would be an error of its own.
        let mut all: Vec<&str> = Vec::new();
        for pair in kept[2..].chunks(2).filter(|pair| pair[0] != words[0]) {
            all.extend(pair);
        }
        let said = place.kinora(["generate", "still.png"].iter().chain(&all).chain(&words));
        let said = said.refused();
        assert!(said.contains(expected), "{words:?}: {said}");
    }
    assert_eq!(place.names(), ["still.png"]);
}

#[test]
fn sizes_in_multiples_of_eight_are_made_and_others_hear_of_the_nearest() {
    let place = Place::with_still();
    for (width, height) in [("8", "8"), ("40", "24"), ("72", "16")] {
        let size = ["--width", width, "--height", height];
        let mut words = generate_words("still.png", "a.gif");
        words.truncate(words.len() - 6);
        words.extend(["--steps", "1"].iter().chain(&size));
        place.kinora(words).done();
        let gif = image::open(place.path("a.gif")).unwrap();
        assert_eq!(
            (gif.width(), gif.height()),
            (width.parse().unwrap(), height.parse().unwrap())
        );
    }
}

#[test]
fn outputs_that_cannot_be_are_refused_before_the_work() {
    let place = Place::with_still();
    fs::create_dir(place.path("papers")).unwrap();
    fs::write(place.path("papers/thesis.tex"), "x").unwrap();
    fs::create_dir(place.path("a.mp4")).unwrap();
    for (out, expected) in [
        ("a.avi", "not .avi; rename the output"),
        ("a.mp4", "a folder of that name is in the way"),
        ("no/a.mp4", "the folder no does not exist; create it first"),
        ("still.png/a.mp4", "still.png is a file, not a folder"),
        ("papers", "thesis.tex"),
        ("/dev/full", "is in the way"),
    ] {
        let words = generate_words("still.png", out);
        // Refused before the download of gigabytes: that would fail here with another message.
        let words = words.iter().map(|word| match *word {
            MODEL => "somebody/something",
            word => word,
        });
        let said = place.kinora(words);
        assert!(said.refused().contains(expected), "{out}: {}", said.err);
    }
    assert_eq!(place.names(), ["a.mp4", "papers", "still.png"]);
    assert_eq!(names(&place.path("papers")), ["thesis.tex"]);
}

#[test]
fn a_full_disk_is_told_in_a_sentence_and_leaves_nothing() {
    let place = Place::with_still();
    for out in ["a.npy", "a.png", "a.gif", "a.mp4", "a.webm", "frames"] {
        let words = generate_words("still.png", out);
        let larger: Vec<&str> = words
            .iter()
            .map(|w| if *w == "32" { "128" } else { w })
            .collect();
        let ended = place.kinora_on_a_full_disk(&larger);
        let said = ended.refused().lines().last().unwrap();
        assert!(said.starts_with(&format!("kinora: {out}")), "{said}");
        assert!(
            said.contains("too large") || said.contains("failed"),
            "{said}"
        );
        assert_eq!(place.names(), ["still.png"], "{out}");
    }
}

#[test]
fn frames_of_no_number_are_never_written() {
    let place = Place::with_still();
    let ended = place.generate("a.mp4", &["--guidance-max", "1e38"]);
    assert!(ended.refused().contains("--guidance-max"), "{}", ended.err);
    assert_eq!(place.names(), ["still.png"]);
}

#[test]
fn names_may_be_any_bytes() {
    let place = Place::with_still();
    let odd = std::ffi::OsString::from_vec(b"o\xff=';\".npy".to_vec());
    let mut command = place.command(["generate", "still.png", "--model", MODEL, "--json"]);
    command
        .args("--frames 1 --width 32 --height 32 --steps 1 --out".split(' '))
        .arg(&odd);
    assert!(command.status().unwrap().success());
    assert!(place.path(&odd).exists());
    let inspected = place
        .command(["inspect", "--json"])
        .arg(&odd)
        .output()
        .unwrap();
    assert!(inspected.status.success());
}

#[test]
fn without_ffmpeg_what_needs_it_is_refused_at_once_and_the_rest_works() {
    let place = Place::with_still();
    let without = |out: &str| {
        let mut command = place.command(generate_words("still.png", out));
        command.env("PATH", "").output().unwrap()
    };
    let refused = without("a.mp4");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("apt-get install ffmpeg") && !said.contains("load"),
        "{said}"
    );
    assert!(without("a.png").status.success());
    assert_eq!(place.names(), ["a.png", "still.png"]);
}
