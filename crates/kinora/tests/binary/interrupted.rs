//! Ctrl-C, a polite end, and readers that leave: nothing broken or temporary stays behind.

use crate::place::{MODEL, Place, Running, Signal, generate_words};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

/// A run that would take minutes, in its first steps.
fn denoising(place: &Place, out: &str) -> Running {
    let words = [
        "generate",
        "still.png",
        "--model",
        MODEL,
        "--out",
        out,
        "--json",
    ];
    let size = "--frames 2 --width 32 --height 32 --steps 10000 --preview p.png".split(' ');
    let mut running = Running::start(place.command(words.into_iter().chain(size)));
    running.wait_for(|event| event["stage"] == "denoise" && event["done"].as_u64() >= Some(2));
    running
}

/// What is in the folder; the preview may or may not have been drawn yet.
fn left(place: &Place) -> Vec<String> {
    let mut names = place.names();
    names.retain(|name| name != "p.png");
    names
}

#[test]
fn ctrl_c_stops_a_clip_and_leaves_no_file() {
    for (out, signal) in [
        ("a.mp4", Signal::INT),
        ("a.gif", Signal::TERM),
        ("a.npy", Signal::HUP),
        ("frames", Signal::INT),
    ] {
        let place = Place::with_still();
        let running = denoising(&place, out);
        running.send(signal);
        let (code, rest) = running.end();
        assert_eq!(code, Some(130), "{out}");
        assert_eq!(rest.last().unwrap()["event"], "stopped", "{out}");
        assert_eq!(left(&place), ["still.png"], "{out}");
    }
}

#[test]
fn an_old_clip_survives_a_new_one_that_is_stopped() {
    let place = Place::with_still();
    place.generate("a.mp4", &[]).done();
    let old = std::fs::read(place.path("a.mp4")).unwrap();
    let running = denoising(&place, "a.mp4");
    running.send(Signal::INT);
    assert_eq!(running.end().0, Some(130));
    assert!(std::fs::read(place.path("a.mp4")).unwrap() == old);
}

#[test]
fn an_impatient_user_leaves_no_file_either() {
    for out in ["a.mp4", "a.png", "frames"] {
        let place = Place::with_still();
        let running = denoising(&place, out);
        running.send(Signal::INT);
        running.send(Signal::TERM);
        assert_eq!(running.end().0, Some(130), "{out}");
        assert_eq!(left(&place), ["still.png"], "{out}");
    }
}

#[test]
fn ctrl_c_while_footage_is_rendered_leaves_whole_videos_only() {
    let place = Place::new();
    let words = "footage videos --videos 300 --width 96 --height 96 --json".split(' ');
    let mut running = Running::start(place.command(words));
    running.wait_for(|event| event["done"].as_u64() >= Some(2));
    running.send(Signal::INT);
    assert_eq!(running.end().0, Some(130));
    let videos = crate::place::names(&place.path("videos"));
    assert!((2..300).contains(&videos.len()), "{videos:?}");
    for video in videos {
        assert!(
            video.starts_with("footage_") && video.ends_with(".mp4"),
            "{video}"
        );
        place.kinora(["inspect", &format!("videos/{video}")]).done();
    }
}

#[test]
fn a_reader_that_leaves_costs_nobody_the_clip() {
    let place = Place::with_still();
    let mut command = place.command(generate_words("still.png", "a.npy"));
    let mut child = command
        .arg("--json")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(child.wait().unwrap().success());
    // The same for the lines on standard error.
    let mut command = place.command(generate_words("still.png", "b.npy"));
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    let expected = ["a.npy", "a.npy.json", "b.npy", "b.npy.json", "still.png"];
    assert_eq!(place.names(), expected);
}

#[test]
fn reports_that_cannot_be_written_are_a_failure_with_a_sentence() {
    let place = Place::with_still();
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = place.command(generate_words("still.png", "a.npy"));
    let output = command.arg("--json").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("could not write to standard output"),
        "{said}"
    );
    assert_eq!(place.names(), ["still.png"]);
}
