//! The verbs that look: doctor, bench, sheet, footage, and the help of them all.

use crate::place::{Place, colours};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

const VERBS: [&str; 8] = [
    "generate",
    "train",
    "footage",
    "inspect",
    "bench",
    "sheet",
    "doctor",
    "selfcheck",
];

#[test]
fn every_verb_has_help_and_unknown_words_are_refused() {
    let place = Place::new();
    let all = place.kinora(["--help"]);
    for verb in VERBS {
        assert!(all.done().contains(&format!("\n  {verb} ")), "{verb}");
        let help = place.kinora([verb, "--help"]);
        assert!(
            help.done().starts_with(|c: char| c.is_uppercase()),
            "{verb}"
        );
        assert!(
            help.out.contains(&format!("Usage: kinora {verb}")),
            "{verb}"
        );
        // Every flag is explained.
        let mut lines = help.out.lines().peekable();
        while let Some(line) = lines.next() {
            let is_flag = line.trim_start().starts_with("--");
            let alone = line.trim().split("  ").count() == 1;
            assert!(
                !is_flag || !alone || lines.peek().is_some_and(|next| !next.trim().is_empty()),
                "{verb}: {line}"
            );
        }
        let ended = place.kinora([verb, "--no-such-flag"]);
        assert!(
            ended.refused().contains("--no-such-flag"),
            "{verb}: {}",
            ended.err
        );
    }
    assert_eq!(place.kinora::<&str>([]).code, Some(2));
    assert!(place.kinora(["dance"]).refused().contains("dance"));
    assert!(place.kinora(["--version"]).done().starts_with("kinora "));
}

#[test]
fn the_doctor_tells_what_is_missing() {
    let place = Place::new();
    let doctor = |path: &str, words: &[&str]| {
        let mut command = place.command(["doctor"]);
        let output = command.args(words).env("PATH", path).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, said) = doctor("", &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("missing  ffmpeg") && said.contains("apt-get install ffmpeg"),
        "{said}"
    );
    let (code, said) = doctor("", &["--json"]);
    assert_eq!(code, Some(1));
    let report: Value = serde_json::from_str(&said).unwrap();
    let missing: BTreeSet<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["found"].is_null())
        .map(|finding| finding["name"].as_str().unwrap())
        .collect();
    assert!(
        missing.is_superset(&["ffmpeg", "ffprobe", "hub token"].into()),
        "{missing:?}"
    );
    assert!(place.kinora(["doctor"]).done().contains("ok       ffmpeg"));
}

#[test]
fn a_card_that_is_not_there_is_a_sentence_and_never_a_panic() {
    let place = Place::new();
    // A driver that is no library.
    fs::write(place.path("libcuda.so.1"), "not a library\n").unwrap();
    let with = |words: &[&str]| {
        let mut command = place.command(words);
        let output = command
            .env("LD_LIBRARY_PATH", place.path(""))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = with(&["selfcheck", "--device", "cuda:7"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.starts_with("kinora: cuda:7: NVIDIA's driver cannot be used"),
        "{said}"
    );
    assert!(said.contains("libcuda.so.1"), "{said}");
    let (_, said) = with(&["doctor"]);
    assert!(
        said.contains("missing  cuda") && said.contains("libcuda.so.1"),
        "{said}"
    );
    let ended = place.kinora(["selfcheck", "--device", "cuda:x"]);
    assert!(ended.refused().contains("expected `cuda`"), "{}", ended.err);
}

#[test]
fn bench_has_the_keys_that_scripts_read() {
    let place = Place::new();
    let bench = |words: &str| {
        let words =
            format!("bench --preset tiny --frames 2 --width 32 --height 32 --runs 1 --json{words}");
        let ended = place.kinora(words.split(' '));
        ended.done();
        assert_eq!(ended.out.lines().count(), 1);
        ended.events().remove(0)
    };
    let every = [
        "clip_s",
        "vae_encode_s",
        "unet_step_s",
        "vae_decode_s",
        "train_step_s",
    ];
    let report = bench("");
    for key in every
        .iter()
        .chain(&["peak_gflops", "bandwidth_gbs", "peak_memory_mib"])
    {
        assert!(report[key].as_f64() > Some(0.0), "{key}: {}", report[key]);
    }
    let alone = bench(" --stage vae-decode");
    let measured: Vec<&str> = every
        .into_iter()
        .filter(|key| alone.get(key).is_some())
        .collect();
    assert_eq!(measured, ["vae_decode_s"]);
    for (words, expected) in [
        ("--preset tinny", "expected one of svd, svd-xt, small, tiny"),
        ("--preset tiny --width 33", "multiples of"),
        ("--runs 0", "--runs: expected at least 1"),
        ("--stage dance", "--stage"),
        ("--model nowhere", "nowhere"),
    ] {
        let ended = place.kinora(["bench"].into_iter().chain(words.split(' ')));
        assert!(ended.refused().contains(expected), "{words}: {}", ended.err);
    }
}

#[test]
fn footage_is_the_same_for_the_same_seed_and_a_scene_is_held_out() {
    let place = Place::new();
    let footage = |words: &str| place.kinora(format!("footage {words}").split(' '));
    footage("a --videos 2 --width 32 --height 18 --seed 3").done();
    footage("b --videos 2 --width 32 --height 18 --seed 3").done();
    footage(
        "c --videos 2 --width 32 --height 18 --seed 4 --held-out still.png --held-out-frames 3",
    )
    .done();
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    assert!(bytes("a/footage_001.mp4") == bytes("b/footage_001.mp4"));
    assert!(bytes("a/footage_001.mp4") != bytes("c/footage_001.mp4"));
    assert_eq!(image::open(place.path("still.png")).unwrap().width(), 32);
    assert_eq!(crate::place::names(&place.path("still_continued")).len(), 3);
    assert!(
        place
            .kinora(["inspect", "a/footage_000.mp4"])
            .done()
            .contains("kinora footage")
    );
    for (words, expected) in [
        ("d --width 3", "expected a size from 16×16"),
        (
            "d --videos 0 --held-out s.png --subject cat",
            "expected one of car",
        ),
        (
            "d --videos 0 --held-out s.png --held-out-frames 0",
            "--held-out-frames",
        ),
        (
            "d --videos 0 --held-out s.png --held-out-fps 0",
            "--held-out-fps",
        ),
        ("d --videos 0 --held-out s.bmp", "written as .png or .jpg"),
        ("still.png", "could not create the folder"),
    ] {
        let ended = footage(words);
        assert!(ended.refused().contains(expected), "{words}: {}", ended.err);
    }
}

#[test]
fn a_sheet_has_a_row_for_each_of_what_it_is_given() {
    let place = Place::with_still();
    place.render_footage();
    fs::create_dir(place.path("frames")).unwrap();
    for frame in 0..3 {
        colours(24, 16)
            .save(place.path(format!("frames/frame_{frame:05}.png")))
            .unwrap();
    }
    // A name with the sign that captions end with.
    fs::copy(place.path("still.png"), place.path("a=b.png")).unwrap();
    let rows = [
        "videos/footage_000.mp4",
        "true=still.png",
        "frames",
        "a=b.png",
    ];
    let sheet = |rows: &[&str], out: &str| {
        place.kinora(["sheet", "--columns", "3", "--out", out].iter().chain(rows))
    };
    sheet(&rows, "four.png").done();
    sheet(&rows[..2], "two.jpg").done();
    let height = |name: &str| image::open(place.path(name)).unwrap().height();
    assert!(height("four.png") > height("two.jpg") + 32);
    for (row, out, expected) in [
        ("nowhere.mp4", "s.png", "nowhere.mp4"),
        ("still.png", "s.bmp", "written as .png or .jpg"),
        ("still.png", "no/s.png", "the folder no does not exist"),
        ("hub=nowhere.png", "s.png", "row nowhere.png"),
    ] {
        let ended = sheet(&[row], out);
        assert!(ended.refused().contains(expected), "{row}: {}", ended.err);
    }
}
