//! A run that is stopped or killed and started again ends with the numbers of one that never was, to
//! the bit.

use crate::place::{Place, Running, Signal, names};
use crate::train::{autoencoder, image_to_video, words};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Every file of the finished model by its name.
fn model_files(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![run.join("model")];
    while let Some(folder) = open.pop() {
        for name in names(&folder) {
            let path = folder.join(name);
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let name = path.strip_prefix(run).unwrap().display().to_string();
                    found.push((name, fs::read(&path).unwrap()));
                }
            }
        }
    }
    found.sort();
    found
}

/// The log as it is written, without what the clock put there.
fn log_numbers(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("log.jsonl")).unwrap();
    let numbers = |line: &str| {
        let (numbers, clock) = line.split_once(",\"clips_per_sec\"").unwrap();
        assert!(clock.ends_with('}'));
        numbers.to_owned()
    };
    text.lines().map(numbers).collect()
}

/// That two runs have the same log and the same model, and nothing half written.
#[track_caller]
pub fn assert_same(place: &Place, whole: &str, other: &str) {
    let (whole, other) = (place.path(whole), place.path(other));
    assert_eq!(log_numbers(&whole), log_numbers(&other));
    let (files, others) = (model_files(&whole), model_files(&other));
    assert!(files.iter().any(|(name, _)| name.ends_with(".safetensors")));
    assert_eq!(files.len(), others.len());
    for ((name, one), (other_name, other)) in files.iter().zip(&others) {
        assert!(
            name == other_name && one == other,
            "{name} and {other_name} differ"
        );
    }
    // Nothing half written is left, wherever the kill came.
    for folder in ["", "checkpoints", "frames", "samples"] {
        let left = names(&other.join(folder));
        let broken = |name: &String| name.contains("tmp") || name.contains("unfinished");
        assert!(!left.iter().any(broken), "{folder}: {left:?}");
    }
}

/// Starts the run and sends it a signal at a moment.
fn send_at(place: &Place, config: &str, run: &str, signal: Signal, at: impl Fn(&Value) -> bool) {
    let mut running = Running::start(place.command(words(config, run)));
    running.wait_for(at);
    running.send(signal);
    let (code, rest) = running.end();
    if signal == Signal::INT {
        assert_eq!(code, Some(130));
        assert_eq!(rest.last().unwrap()["event"], "stopped");
    } else {
        assert_eq!(code, None);
    }
}

fn is_step(event: &Value, step: u64) -> bool {
    event["stage"] == "train" && event["done"].as_u64() >= Some(step)
}

#[test]
fn a_run_killed_at_many_moments_is_the_run_that_never_was() {
    let place = Place::new();
    place.render_footage();
    // So few steps a line that lines lie across checkpoints, and so many steps that a kill meets one.
    let config = autoencoder().replace("steps = 12", "steps = 40");
    fs::write(place.path("a.toml"), config).unwrap();
    place.kinora(words("a.toml", "whole")).done();
    type Moment = fn(&Value) -> bool;
    let moments: [Moment; 7] = [
        |event| event["event"] == "config",
        |event| event["stage"] == "read",
        |event| event["event"] == "begins",
        |event| is_step(event, 2),
        |event| event["event"] == "saved",
        |event| is_step(event, 12),
        |event| event["event"] == "report" && event["step"].as_u64() >= Some(25),
    ];
    for moment in moments {
        send_at(&place, "a.toml", "killed", Signal::KILL, moment);
    }
    place.kinora(words("a.toml", "killed")).done();
    assert_same(&place, "whole", "killed");
    // Killed where it is finished already, it finishes once more.
    fs::remove_dir_all(place.path("killed/model")).unwrap();
    fs::remove_file(place.path("killed/loss.png")).unwrap();
    place.kinora(words("a.toml", "killed")).done();
    assert_same(&place, "whole", "killed");
    assert!(place.path("killed/loss.png").is_file());
}

#[test]
fn ctrl_c_stops_both_kinds_of_run_where_they_go_on_to_the_bit() {
    let place = Place::new();
    place.render_footage();
    fs::write(
        place.path("a.toml"),
        autoencoder().replace("steps = 12", "steps = 24"),
    )
    .unwrap();
    fs::write(place.path("b.toml"), image_to_video()).unwrap();
    place.kinora(words("a.toml", "autoencoder")).done();
    for stop in [1, 8] {
        send_at(&place, "a.toml", "again", Signal::INT, |event| {
            is_step(event, stop)
        });
    }
    place.kinora(words("a.toml", "again")).done();
    assert_same(&place, "autoencoder", "again");
    place.kinora(words("b.toml", "video")).done();
    send_at(&place, "b.toml", "parts", Signal::INT, |event| {
        is_step(event, 1)
    });
    send_at(&place, "b.toml", "parts", Signal::KILL, |event| {
        is_step(event, 3)
    });
    place.kinora(words("b.toml", "parts")).done();
    assert_same(&place, "video", "parts");
}

#[test]
fn another_number_of_threads_gives_the_same_run() {
    let place = Place::new();
    place.render_footage();
    fs::write(place.path("a.toml"), autoencoder()).unwrap();
    for (run, threads) in [("one", "1"), ("three", "3")] {
        let mut command = place.command(words("a.toml", run));
        let output = command.env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(output.status.success());
    }
    assert_same(&place, "one", "three");
}

#[test]
fn a_run_under_other_numbers_does_not_go_on_and_says_which() {
    let place = Place::new();
    place.render_footage();
    let few = autoencoder().replace("steps = 12", "steps = 3");
    fs::write(place.path("a.toml"), &few).unwrap();
    place.kinora(words("a.toml", "run")).done();
    fs::write(place.path("a.toml"), few.replace("1e-3", "2e-3")).unwrap();
    let ended = place.kinora(words("a.toml", "run"));
    let said = ended.refused();
    assert!(
        said.contains("optimiser.learning_rate") && said.contains("0.001"),
        "{said}"
    );
    fs::write(place.path("a.toml"), &few).unwrap();
    fs::remove_file(place.path("videos/footage_000.mp4")).unwrap();
    let ended = place.kinora(words("a.toml", "run"));
    assert!(
        ended.refused().contains("the videos are not those"),
        "{}",
        ended.err
    );
}
