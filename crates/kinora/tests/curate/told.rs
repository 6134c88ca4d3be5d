//! What a run tells while it works and at its end.

use crate::folder::Folder;
use serde_json::Value;

fn events(lines: &str) -> Vec<Value> {
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["event"] == name)
        .collect()
}

#[test]
fn machines_hear_how_far_it_is_and_what_each_step_cost() {
    let folder = Folder::new();
    crate::footage(&folder);
    let told = events(&folder.curate("out", &["--json"]).unwrap());

    let videos = named(&told, "progress");
    let of_videos = videos.iter().filter(|event| event["stage"] == "videos");
    let done: Vec<u64> = of_videos
        .map(|event| {
            assert_eq!(event["total"], 3);
            assert!(
                event["left_s"].as_f64().is_some_and(|left| left >= 0.0),
                "{event}"
            );
            event["done"].as_u64().unwrap()
        })
        .collect();
    assert!(done.is_sorted() && done.last() == Some(&3), "{done:?}");

    let sources = named(&told, "source");
    assert_eq!(sources.len(), 3);
    let frames = |event: &&Value| event["frames"].as_u64().unwrap();
    assert_eq!(
        sources.iter().map(frames).sum::<u64>(),
        folder.frames_decoded("out")
    );

    let published = named(&told, "published");
    let costs = published[0]["costs"].as_array().unwrap();
    for step in ["decode", "cuts", "motion"] {
        let cost = costs.iter().find(|cost| cost["step"] == step);
        let cost = cost.unwrap_or_else(|| panic!("no cost of {step} in {costs:?}"));
        assert!(cost["cpu_s"].as_f64().unwrap() > 0.0, "{cost}");
        assert!(cost["of_decode"].as_f64().unwrap() > 0.0, "{cost}");
    }
    let of_decode = |step: &str| {
        let cost = costs.iter().find(|cost| cost["step"] == step).unwrap();
        (
            cost["cpu_s"].as_f64().unwrap(),
            cost["of_decode"].as_f64().unwrap(),
        )
    };
    let ((decode_s, whole), (cuts_s, share)) = (of_decode("decode"), of_decode("cuts"));
    assert_eq!(whole, 1.0);
    // Both figures are rounded.
    assert!((share - cuts_s / decode_s).abs() < 0.01 + 0.01 * share);
}

#[test]
fn people_read_a_table_at_the_end() {
    let folder = Folder::new();
    crate::footage(&folder);
    let told = folder.curate_and_read("out");
    for line in [
        "videos",
        "cuts",
        "clips",
        "decode",
        "motion",
        "kept",
        "tables in",
    ] {
        let begins = |found: &str| found.trim_start().starts_with(line);
        assert!(told.lines().any(begins), "no line on {line} in:\n{told}");
    }
    assert!(told.contains("s of processor time") && told.contains("of the decode"));
}
