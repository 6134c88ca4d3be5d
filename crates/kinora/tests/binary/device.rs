//! Where there is no card: what `--device` says then, and what it leaves.

use crate::place::{Ended, Place, generate_words};
use std::fs;

/// A still, and a driver that is none, which goes before that of the machine.
fn place() -> Place {
    let place = Place::with_still();
    fs::create_dir(place.path("driver")).unwrap();
    fs::write(place.path("driver/libcuda.so.1"), "not a library\n").unwrap();
    place
}

fn run(place: &Place, words: &[&str]) -> Ended {
    let mut command = place.command(words);
    command.env("LD_LIBRARY_PATH", place.path("driver"));
    crate::place::ended(&mut command)
}

#[test]
fn a_card_that_cannot_be_used_is_a_sentence_and_leaves_no_file() {
    let place = place();
    for (device, dtype) in [("cuda", "bf16"), ("cuda:3", "f32")] {
        let mut words = generate_words("still.png", "a.gif");
        words.extend(["--device", device, "--dtype", dtype]);
        let ended = run(&place, &words);
        let said = ended.refused();
        let ordinal = device.strip_prefix("cuda:").unwrap_or("0");
        let expected = format!("kinora: cuda:{ordinal}: NVIDIA's driver cannot be used");
        let last = said.lines().last().unwrap();
        assert!(last.starts_with(&expected), "{said}");
        assert!(last.contains("libcuda.so.1"), "{said}");
        assert_eq!(place.names(), ["driver", "still.png"]);
    }
    // Before a model is downloaded: that would fail here with another message.
    let words = "generate still.png --model somebody/something --out a.gif --device cuda";
    let ended = run(&place, &words.split(' ').collect::<Vec<_>>());
    assert!(ended.refused().contains("libcuda.so.1"), "{}", ended.err);
    let ended = run(&place, &["bench", "--preset", "tiny", "--device", "cuda"]);
    assert!(ended.refused().contains("libcuda.so.1"), "{}", ended.err);
}

#[test]
fn auto_goes_to_the_processor_and_says_why() {
    let place = place();
    let mut words = generate_words("still.png", "a.npy");
    words.extend(["--device", "auto"]);
    let ended = run(&place, &words);
    ended.done();
    let why = "device: cpu in f32, as no card was taken: NVIDIA's driver cannot be used";
    let lines: Vec<&str> = ended.err.lines().filter(|l| l.starts_with(why)).collect();
    assert_eq!(lines.len(), 1, "{}", ended.err);
    // The clip is that of the processor.
    let words = generate_words("still.png", "b.npy");
    run(&place, &words).done();
    assert!(fs::read(place.path("a.npy")).unwrap() == fs::read(place.path("b.npy")).unwrap());
    words_in_json(&place);
}

fn words_in_json(place: &Place) {
    let mut words = generate_words("still.png", "c.npy");
    words.extend(["--device", "auto", "--json", "--plan"]);
    let ended = run(place, &words);
    ended.done();
    let events = ended.events();
    let named = |name: &str| events.iter().find(|event| event["event"] == name).unwrap();
    assert_eq!(named("device")["device"], "cpu");
    assert_eq!(
        (&named("plan")["device"], &named("plan")["dtype"]),
        (&"cpu".into(), &"f32".into())
    );
}

#[test]
fn devices_and_types_that_cannot_be_are_refused_by_name() {
    let place = Place::with_still();
    for (words, expected) in [
        (
            &["--device", "gpu"][..],
            "expected `auto`, `cpu`, `cuda`, or `cuda:` and a number",
        ),
        (&["--device", "cuda:x"], "found `cuda:x`"),
        (
            &["--dtype", "int8"],
            "expected f32, bf16 or f16, found `int8`",
        ),
        (
            &["--dtype", "bf16"],
            "dtype: expected f32, the type the processor computes in",
        ),
    ] {
        let ended = place.generate("a.npy", words);
        assert!(
            ended.refused().contains(expected),
            "{words:?}: {}",
            ended.err
        );
    }
    assert_eq!(place.names(), ["still.png"]);
}
