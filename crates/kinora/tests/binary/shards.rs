//! `kinora train` on what `kinora curate` wrote.

use crate::place::{Place, Running, Signal, names};
use crate::resume::assert_same;
use crate::train::{autoencoder, image_to_video};
use kinora_media::{MotionLaw, ShardFolder};
use serde_json::Value;
use std::fs;

/// Three videos, curated into `lvd`, and the configurations `a.toml` and `b.toml` to train with.
fn curated() -> Place {
    let place = Place::new();
    let words = "footage videos --videos 3 --width 64 --height 48";
    place.kinora(words.split(' ')).done();
    let config = include_str!("../../../../configs/curate.toml");
    // No program beside ffmpeg is asked.
    let (before, text) = config.split_once("judge = \"tesseract\"").unwrap();
    let (_, after) = text.split_once("\n\n").unwrap();
    let config = format!("{before}judge = \"none\"\n\n{after}");
    fs::write(place.path("curate.toml"), config).unwrap();
    let words = "curate videos --config curate.toml --out lvd";
    place.kinora(words.split(' ')).done();
    fs::write(place.path("a.toml"), autoencoder()).unwrap();
    fs::write(place.path("b.toml"), image_to_video()).unwrap();
    place
}

fn words<'a>(config: &'a str, data: &'a str, run: &'a str) -> Vec<&'a str> {
    vec!["train", config, "--data", data, "--run", run, "--json"]
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|e| e["event"] == kind).collect()
}

#[test]
fn a_run_on_shards_resumes_to_the_bit_and_its_model_tells_the_law_of_motion() {
    let place = curated();
    let ended = place.kinora(words("a.toml", "lvd", "autoencoder"));
    ended.done();
    let kept = ShardFolder::open(&place.path("lvd/shards")).unwrap();
    let events = ended.events();
    let told = of_kind(&events, "shards");
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&told[0]["shards"], &told[0]["clips"], &told[0]["path"]),
        (
            &1.into(),
            // One clip is kept from training.
            &(kept.index().len() - 1).into(),
            &"lvd/shards".into()
        )
    );
    assert!(of_kind(&events, "skipped").is_empty());

    // The folder of the shards itself, and a kill in the middle.
    let mut running = Running::start(place.command(words("a.toml", "lvd/shards", "killed")));
    running.wait_for(|event| event["event"] == "saved");
    running.send(Signal::KILL);
    assert_eq!(running.end().0, None);
    let ended = place.kinora(words("a.toml", "lvd/shards", "killed"));
    ended.done();
    assert!(ended.out.contains("resumes from"), "{}", ended.out);
    assert_same(&place, "autoencoder", "killed");

    place.kinora(words("b.toml", "lvd", "video")).done();
    let law = |folder: &str| MotionLaw::of_folder(&place.path(folder)).unwrap().unwrap();
    assert_eq!(law("video/model"), law("lvd"));
    for model in ["video", "video/model"] {
        let ended = place.kinora(["inspect", model]);
        let text = ended.done();
        assert!(text.contains("motion buckets by optical flow"), "{text}");
        let ended = place.kinora(["inspect", model, "--json"]);
        ended.done();
        assert_eq!(ended.events()[0]["motion_law"]["measure"], "flow");
    }
    let words = words("a.toml", "lvd", "autoencoder");
    let ended = place.kinora(&words[..words.len() - 1]);
    ended.done();
    assert!(ended.err.contains("training on "), "{}", ended.err);
}

#[test]
fn damage_is_told_and_data_that_changed_are_refused() {
    let place = curated();
    place.kinora(words("a.toml", "lvd", "whole")).done();
    let shards = ShardFolder::open(&place.path("lvd/shards")).unwrap();
    let shard = place.path("lvd/shards/clips-000000.tar");
    let bytes = fs::read(&shard).unwrap();

    let first = &shards.index()[0];
    let mut damaged = bytes.clone();
    damaged[first.offset as usize + 2000] ^= 1;
    fs::write(&shard, damaged).unwrap();
    let ended = place.kinora(words("a.toml", "lvd", "damaged"));
    ended.done();
    let events = ended.events();
    let skipped = of_kind(&events, "skipped");
    assert_eq!(skipped.len(), 1);
    let path = skipped[0]["path"].as_str().unwrap();
    assert!(path.contains(&first.clip_id), "{path}");
    assert!(skipped[0]["reason"].as_str().unwrap().contains("checksum"));
    // What was decoded before the damage is still whole.
    place.kinora(words("a.toml", "lvd", "whole")).done();

    fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    let ended = place.kinora(words("a.toml", "lvd", "other"));
    assert!(ended.refused().contains("it is shortened"), "{}", ended.err);
    fs::write(&shard, &bytes).unwrap();

    // Another choice of clips is other data.
    let config = fs::read_to_string(place.path("curate.toml")).unwrap();
    let strict = config.replace("percent = 25.0 # motion", "percent = 60.0 # motion");
    assert_ne!(strict, config);
    fs::write(place.path("strict.toml"), strict).unwrap();
    for part in ["filter", "shards"] {
        let words = ["curate", part, "lvd", "--config", "strict.toml"];
        place.kinora(words).done();
    }
    let fewer = ShardFolder::open(&place.path("lvd/shards")).unwrap();
    let (fewer, all) = (fewer.index().len(), shards.index().len());
    assert!((2..all).contains(&fewer), "{fewer} of {all}");
    let ended = place.kinora(words("a.toml", "lvd", "whole"));
    assert!(ended.refused().contains("give --data the same folder"));

    fs::remove_dir_all(place.path("lvd/shards")).unwrap();
    let ended = place.kinora(words("a.toml", "lvd", "other"));
    assert!(ended.refused().contains("`kinora curate shards`"));
    assert!(!names(&place.path("other")).contains(&"checkpoints".to_owned()));
}
