//! `kinora train`: what a run leaves behind, and what it refuses.

use crate::place::{Ended, Place, names};
use serde_json::Value;
use std::fs;

/// The smallest autoencoder; twelve steps of about ten milliseconds.
pub fn autoencoder() -> String {
    changed(
        include_str!("../../../../fixtures/train/autoencoder.toml"),
        &[
            ("temporal = true", "temporal = false"),
            ("[32, 32]", "[8, 8]"),
            ("norm_groups = 32", "norm_groups = 2"),
            ("steps = 5\n", "steps = 12\n"),
            ("accumulate = 2", "accumulate = 1"),
            ("report_every = 2", "report_every = 5"),
            ("sample_every = 5", "sample_every = 12"),
        ],
    )
}

/// A configuration with some of its words replaced, each once.
fn changed(config: &str, changes: &[(&str, &str)]) -> String {
    let mut config = config.to_owned();
    for (from, to) in changes {
        assert!(config.contains(from), "{from}");
        config = config.replacen(from, to, 1);
    }
    config
}

const IMAGE_TO_VIDEO_MODEL: &str =
    include_str!("../../../../fixtures/train/image_to_video_model.toml");

/// The autoencoder's configuration with the other model in its place, and half the steps.
pub fn image_to_video() -> String {
    let autoencoder = autoencoder();
    let from = autoencoder.find("[model]").unwrap();
    let to = autoencoder.find("[data]").unwrap();
    let (head, tail) = (
        &autoencoder[..from],
        autoencoder[to..].replace("= 12", "= 6"),
    );
    let sampling =
        "sampling = { steps = 2, guidance_min = 1.0, guidance_max = 2.0, noise_aug = 0.02 }";
    format!("{head}{IMAGE_TO_VIDEO_MODEL}{tail}{sampling}\n")
}

/// The words that train `NAME.toml` on `videos` in the folder `run`.
pub fn words<'a>(config: &'a str, run: &'a str) -> Vec<&'a str> {
    vec!["train", config, "--data", "videos", "--run", run, "--json"]
}

/// Trains the autoencoder with some of its configuration changed.
fn train(place: &Place, run: &str, changes: &[(&str, &str)]) -> Ended {
    let config = changed(&autoencoder(), changes);
    fs::write(place.path("changed.toml"), config).unwrap();
    place.kinora(words("changed.toml", run))
}

#[test]
fn two_stages_leave_a_log_a_curve_and_a_model_that_generates() {
    let place = Place::with_still();
    place.render_footage();
    fs::write(place.path("a.toml"), autoencoder()).unwrap();
    fs::write(place.path("b.toml"), image_to_video()).unwrap();
    for (config, run, steps) in [("a.toml", "autoencoder", 12), ("b.toml", "video", 6)] {
        let ended = place.kinora(words(config, run));
        ended.done();
        assert_eq!(ended.err, "");
        let events = ended.events();
        let told = |name: &str| events.iter().filter(|event| event["event"] == name).count();
        assert_eq!(
            (told("begins"), told("finished"), told("skipped")),
            (1, 1, 0)
        );
        assert_eq!(told("saved"), steps / 3);
        let log = fs::read_to_string(place.path(run).join("log.jsonl")).unwrap();
        let lines: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), steps.div_ceil(5));
        assert_eq!(lines.last().unwrap()["step"], steps);
        assert!(lines.iter().all(|line| line["loss"].as_f64() > Some(0.0)));
        let curve = image::open(place.path(run).join("loss.png")).unwrap();
        assert!(curve.width() > 100 && curve.height() > 100);
        let mut left = names(&place.path(run));
        left.retain(|name| name != "frames");
        let expected = [
            "checkpoints",
            "config.toml",
            "log.jsonl",
            "loss.png",
            "model",
            "samples",
        ];
        assert_eq!(left, expected);
        assert_eq!(names(&place.path(run).join("checkpoints")).len(), 2);
    }
    // The run's folder, a checkpoint and the model itself are each a model to generate with.
    for model in ["video", "video/checkpoints/step-00000006", "video/model"] {
        let words = ["generate", "still.png", "--model", model, "--out", "a.npy"];
        let size = "--frames 2 --width 24 --height 16 --steps 2".split(' ');
        place.kinora(words.into_iter().chain(size)).done();
        fs::rename(
            place.path("a.npy"),
            place.path(format!("{}.npy", model.len())),
        )
        .unwrap();
    }
    let frames = |name: &str| fs::read(place.path(name)).unwrap();
    assert!(frames("5.npy") == frames("31.npy") && frames("5.npy") == frames("11.npy"));
    for (path, expected) in [
        ("video", "training run, at step 6"),
        (
            "video/checkpoints/step-00000003",
            "checkpoint of a training run, at step 3",
        ),
        ("video/model", "model folder written by Kinora"),
        ("autoencoder/model", "less than a whole model: vae"),
    ] {
        let ended = place.kinora(["inspect", path]);
        assert!(ended.done().contains(expected), "{path}: {}", ended.out);
        let ended = place.kinora(["inspect", path, "--json"]);
        ended.done();
        ended.events();
    }
}

#[test]
fn a_configuration_that_cannot_be_is_refused_by_its_key() {
    let place = Place::new();
    place.render_footage();
    for (from, to, expected) in [
        ("seed = 5", "seed = 5\nsede = 6", "`sede`"),
        ("crop_px = 16", "crop_px = 16\ncrop = 3", "`crop`"),
        ("mirror = true", "miror = true", "`miror`"),
        ("last_share = 0.1", "last_share = 0.1, first = 1", "`first`"),
        (
            "\"cosine\", last_share = 0.1",
            "\"constant\", last_share = 0.1",
            "decay.last_share",
        ),
        (
            "kind = \"autoencoder\"",
            "kind = \"autoencode\"",
            "`autoencode`",
        ),
        ("batch = 2\n", "", "`batch`"),
        ("batch = 2", "batch = 0", "run.batch: expected at least one"),
        ("1e-3", "nan", "optimiser.learning_rate: expected a number"),
        ("1e-3", "-1.0", "optimiser.learning_rate: expected a number"),
        ("beta1 = 0.9", "beta1 = 1.0", "optimiser.beta1"),
        ("clip_norm = 1.0", "clip_norm = 0.0", "optimiser.clip_norm"),
        ("disk_gb = 1.0", "disk_gb = nan", "data.disk_gb"),
        (
            "width = 24",
            "width = 23",
            "data.width: expected a multiple of 2",
        ),
        ("crop_px = 16", "crop_px = 17", "model.crop_px"),
        (
            "[8, 8]",
            "[8, 9]",
            "block_out_channels: expected multiples of 2",
        ),
        (
            "[8, 8]",
            &format!("[{}]", "8, ".repeat(70)),
            "block_out_channels: expected 1 to",
        ),
        ("[\"*\"]", "[\"unet.*\"]", "`unet.*` names no weight"),
    ] {
        let ended = train(&place, "run", &[(from, to)]);
        let said = ended.refused();
        assert!(
            said.contains(expected) && said.contains(".toml"),
            "{to}: {said}"
        );
        assert!(!place.path("run/checkpoints").exists());
    }
}

#[test]
fn a_folder_without_videos_is_refused_and_a_broken_video_is_told_and_left_out() {
    let place = Place::new();
    place.render_footage();
    let few: &[(&str, &str)] = &[("steps = 12", "steps = 2")];
    fs::write(place.path("a.toml"), autoencoder()).unwrap();
    fs::create_dir(place.path("empty")).unwrap();
    fs::create_dir(place.path("letters")).unwrap();
    fs::write(place.path("letters/letter.txt"), "Dear reader").unwrap();
    for (data, expected) in [
        ("empty", "empty: the folder holds no files"),
        ("letters", "letters/letter.txt"),
        ("nowhere", "nowhere: could not list"),
        ("a.toml", "a.toml: could not list"),
    ] {
        let ended = place.kinora(["train", "a.toml", "--data", data, "--run", "run"]);
        assert!(ended.refused().contains(expected), "{data}: {}", ended.err);
    }
    let whole = fs::read(place.path("videos/footage_001.mp4")).unwrap();
    fs::write(place.path("videos/broken.mp4"), &whole[whole.len() / 2..]).unwrap();
    fs::write(place.path("videos/notes.txt"), "notes").unwrap();
    let ended = train(&place, "run", few);
    ended.done();
    let events = ended.events();
    let mut skipped: Vec<&str> = events
        .iter()
        .filter(|event| event["event"] == "skipped" && event["reason"].is_string())
        .map(|event| event["path"].as_str().unwrap())
        .collect();
    skipped.sort_unstable();
    assert_eq!(skipped, ["videos/broken.mp4", "videos/notes.txt"]);
    // In words too.
    let ended = place.kinora([
        "train",
        "changed.toml",
        "--data",
        "videos",
        "--run",
        "other",
    ]);
    ended.done();
    assert!(
        ended.err.contains("left out: videos/broken.mp4: "),
        "{}",
        ended.err
    );
}

#[test]
fn a_run_that_is_lost_stops_with_a_message_and_publishes_nothing() {
    let place = Place::new();
    place.render_footage();
    let ended = train(&place, "run", &[("1e-3", "1e30")]);
    let said = ended.refused();
    assert!(said.contains("step 2: the loss is NaN"), "{said}");
    assert!(said.contains("lower optimiser.learning_rate"), "{said}");
    // The last step has no loss after it: its weights are looked at themselves.
    let last = [
        ("1e-3", "1e39"),
        ("steps = 12", "steps = 1"),
        ("warm_up_steps = 3", "warm_up_steps = 0"),
    ];
    let ended = train(&place, "last", &last);
    assert!(ended.refused().contains("step 1: `vae."), "{}", ended.err);
    for run in ["run", "last"] {
        let left = names(&place.path(run));
        assert!(!left.contains(&"model".to_owned()), "{left:?}");
        assert!(!left.contains(&"checkpoints".to_owned()), "{left:?}");
    }
}

#[test]
fn a_run_that_finds_no_room_says_so_and_goes_on_later() {
    let place = Place::new();
    place.render_footage();
    fs::write(place.path("a.toml"), autoencoder()).unwrap();
    let ended = place.kinora_on_a_full_disk(&words("a.toml", "run"));
    let said = ended.refused().lines().last().unwrap();
    assert!(
        said.starts_with("kinora: run/") && said.contains("too large"),
        "{said}"
    );
    place.kinora(words("a.toml", "run")).done();
    fs::write(place.path("file"), "").unwrap();
    let ended = place.kinora(words("a.toml", "file"));
    assert!(
        ended.refused().contains("file: could not create"),
        "{}",
        ended.err
    );
}

#[test]
fn a_device_that_cannot_train_is_refused_before_anything_is_read() {
    let place = Place::with_still();
    fs::write(place.path("a.toml"), autoencoder()).unwrap();
    for (words, expected) in [
        (&["--device", "cuda:999"][..], ["card", "driver"]),
        (&["--device", "gpu"], ["found `gpu`"; 2]),
        (
            &["--dtype", "f16"],
            ["gradients of this model leave the range of f16"; 2],
        ),
        (
            &["--dtype", "bf16"],
            ["the type the processor computes in"; 2],
        ),
        (
            &["--dtype", "int8"],
            ["expected f32, bf16 or f16, found `int8`"; 2],
        ),
    ] {
        let ended = place.kinora([&self::words("a.toml", "run")[..], words].concat());
        let told = ended.refused();
        assert!(
            expected.iter().any(|e| told.contains(e)),
            "{words:?}: {told}"
        );
        assert!(!place.path("run").exists());
    }
}
