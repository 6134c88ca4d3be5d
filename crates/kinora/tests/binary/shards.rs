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
    let sources = kept.index().iter().map(|row| row.source.as_str());
    let last = sources.clone().max().unwrap();
    let trained = sources.clone().filter(|source| *source != last).count();
    assert!(trained > 0 && trained < kept.index().len());
    let events = ended.events();
    let told = of_kind(&events, "shards");
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&told[0]["shards"], &told[0]["clips"], &told[0]["path"]),
        (
            &1.into(),
            // All clips of one video are kept from training.
            &trained.into(),
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

#[test]
fn latents_in_the_shards_change_no_bit_of_a_run() {
    let place = curated();
    place.kinora(words("a.toml", "lvd", "autoencoder")).done();
    let ended = place.kinora(words("b.toml", "lvd", "encoded"));
    ended.done();
    assert!(of_kind(&ended.events(), "latents").is_empty());

    let settings = "\n[shards.latents]\nautoencoder = \"autoencoder/model\"\nwidth = 24\n\
        height = 16\nmax_fps = 8\nmirror = true\n";
    let config = fs::read_to_string(place.path("curate.toml")).unwrap() + settings;
    fs::write(place.path("latents.toml"), config).unwrap();
    let write = |config: &str| {
        let ended = place.kinora(["curate", "shards", "lvd", "--config", config, "--json"]);
        ended.done();
        let told = ended.events()[0]["shards"]["latents"].as_u64();
        let files = names(&place.path("lvd/shards"));
        let read = |name: &String| fs::read(place.path("lvd/shards").join(name)).unwrap();
        let bytes: Vec<Vec<u8>> = files.iter().map(read).collect();
        (told, files, bytes)
    };
    let first = write("latents.toml");
    let kept = ShardFolder::open(&place.path("lvd/shards")).unwrap();
    assert_eq!(first.0, Some(kept.index().len() as u64));
    assert!(first.1.contains(&"latents.json".to_owned()));
    // From the shards before, and made anew: the same bytes.
    assert!(write("latents.toml") == first);
    fs::remove_dir_all(place.path("lvd/shards")).unwrap();
    assert!(write("latents.toml") == first);

    let taken = |ended: &crate::place::Ended| {
        ended.done();
        let events = ended.events();
        let told = of_kind(&events, "latents");
        assert_eq!(told.len(), 1);
        (told[0]["taken"].clone(), told[0]["reason"].clone())
    };
    let mut running = Running::start(place.command(words("b.toml", "lvd", "taken")));
    running.wait_for(|event| event["event"] == "saved");
    running.send(Signal::KILL);
    running.end();
    let ended = place.kinora(words("b.toml", "lvd", "taken"));
    assert_eq!(taken(&ended), (true.into(), Value::Null));
    assert_same(&place, "encoded", "taken");
    let each = image_to_video().replace("keep_latents = true", "keep_latents = false");
    fs::write(place.path("each.toml"), each).unwrap();
    let ended = place.kinora(words("each.toml", "lvd", "each"));
    assert_eq!(taken(&ended).0, true);
    assert_same(&place, "encoded", "each");

    // Of another size or another autoencoder they are told and passed over.
    for (from, to, expected) in [
        ("width = 24", "width = 32", "24×16 at up to 8"),
        ("../autoencoder", "../other", "fingerprint"),
    ] {
        if to == "../other" {
            let other = autoencoder().replace("seed = 5", "seed = 6");
            fs::write(place.path("other.toml"), other).unwrap();
            place.kinora(words("other.toml", "lvd", "other")).done();
        }
        let config = image_to_video();
        assert!(config.contains(from), "{from}");
        fs::write(place.path("c.toml"), config.replacen(from, to, 1)).unwrap();
        let ended = place.kinora(words("c.toml", "lvd", &to[to.len() - 2..]));
        let (taken, reason) = taken(&ended);
        assert_eq!(taken, false);
        assert!(reason.as_str().unwrap().contains(expected), "{reason}");
    }
}
