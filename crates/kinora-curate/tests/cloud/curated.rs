//! A whole curation of what is in a store: rows, reasons, and what a second run asks for.

use super::store::{Fault, Request, SECRET, Store, TOKEN};
use super::stores;
use kinora_curate::annotate::Workshop;
use kinora_curate::config::{Config, Text};
use kinora_curate::judges::Judges;
use kinora_curate::ledger::Ledger;
use kinora_curate::merge::merge;
use kinora_curate::run::{Ran, run};
use kinora_curate::sources::{Slice, Stores, find};
use kinora_curate::step::Asked;
use kinora_media::{ClipRow, Fps, Metadata, Rgb8Image, SourceRow, Status, Writer, read_table};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A film of two seconds, as a file's bytes; others for another `shade`.
fn film(shade: u8) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mp4");
    let fps = Fps::whole(12).unwrap();
    let mut writer = Writer::create(&path, 64, 48, fps, &Metadata::new()).unwrap();
    for frame in 0..24 {
        let picture = Rgb8Image::from_fn(64, 48, |x, y| {
            [(4 * x + 3 * frame) as u8, (5 * y) as u8, shade]
        });
        writer.push(&picture).unwrap();
    }
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

/// Curates into `out`, as the command does up to the tables.
fn curate(words: &[&str], out: &Path, stores: &Stores) -> Ran {
    let text = include_str!("../../../../configs/curate.toml");
    let mut config = Config::parse(text).unwrap();
    config.text = Text::None {};
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let names = find(&words, out, stores).unwrap();
    let (judges, makers) = Judges::open(&config).unwrap();
    let ledger = Ledger::new(out);
    ledger
        .begin(&names, &config, &makers, Slice::WHOLE)
        .unwrap();
    let workshop = Workshop {
        config,
        asked: Asked { only: None },
        judges,
        makers,
        ledger,
        stores: stores.clone(),
        decoder_threads: 1,
        stop: &AtomicBool::new(false),
    };
    let ran = run(&workshop, &names, Slice::WHOLE, 2, &mut |_| ()).unwrap();
    merge(&workshop.ledger).unwrap();
    ran
}

fn sources_of(out: &Path) -> Vec<SourceRow> {
    read_table(&out.join("sources.parquet")).unwrap()
}

fn clips_of(out: &Path) -> Vec<ClipRow> {
    read_table(&out.join("clips.parquet")).unwrap()
}

/// Whether any file below a folder has these bytes in it.
fn is_said_in(folder: &Path, secret: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => is_said_in(&path, secret),
            false => {
                let bytes = std::fs::read(path).unwrap();
                bytes
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes())
            }
        }
    })
}

#[test]
fn what_a_store_holds_is_curated_and_its_faults_are_rows() {
    let (good, other) = (film(10), film(200));
    let store = Store::with(&[
        ("films/a.mp4", &good),
        ("films/broken.mp4", &other),
        ("films/refused.mp4", &other),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let stores = stores(&store);
    // One more than there is, from a list.
    let list = folder.path().join("videos.txt");
    std::fs::write(&list, "s3://films\ns3://films/missing.mp4\n").unwrap();
    let words = [list.to_str().unwrap()];
    store.fail(|_, request: &Request| match request.key.as_str() {
        "broken.mp4" if request.is_get() => Fault::CutAfter(500),
        "refused.mp4" if request.is_get() => Fault::Status(403, "AccessDenied"),
        _ => Fault::None,
    });
    let ran = curate(&words, &out, &stores);
    assert_eq!((ran.inputs, ran.failed), (4, 3));
    let rows = sources_of(&out);
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.source.as_str(), row.status))
        .collect();
    let expected = [
        ("s3://films/a.mp4", Status::Ok),
        ("s3://films/broken.mp4", Status::Failed),
        ("s3://films/missing.mp4", Status::Failed),
        ("s3://films/refused.mp4", Status::Failed),
    ];
    assert_eq!(told, expected);
    let reason = |at: usize| rows[at].reason.clone().unwrap();
    assert!(
        reason(1).starts_with("the answer of the store broke off"),
        "{}",
        reason(1)
    );
    assert!(
        reason(2).starts_with("the store has nothing of this name (404"),
        "{}",
        reason(2)
    );
    assert!(
        reason(3).starts_with("the store refuses (403 AccessDenied)"),
        "{}",
        reason(3)
    );
    // The clips are those of the file itself.
    let local = folder.path().join("a.mp4");
    std::fs::write(&local, &good).unwrap();
    let beside = folder.path().join("beside");
    curate(&[local.to_str().unwrap()], &beside, &stores);
    let ids = |out: &Path| clips_of(out).into_iter().map(|clip| clip.clip_id);
    assert!(ids(&out).eq(ids(&beside)) && ids(&out).count() == 1);
    assert!(clips_of(&out)[0].motion_score.is_some());
    // Copies are gone, and nothing that was written holds a key.
    assert_eq!(
        std::fs::read_dir(out.join("ledger/fetched"))
            .unwrap()
            .count(),
        0
    );
    assert!(!is_said_in(&out, SECRET) && !is_said_in(&out, TOKEN));

    // The same again: what is done is asked about and not fetched, what failed is tried anew.
    store.fail(|_, _| Fault::None);
    let ran = curate(&words, &out, &stores);
    assert_eq!((ran.reused, ran.failed), (1, 1));
    let keys: Vec<String> = store.gets().into_iter().map(|get| get.key).collect();
    assert!(!keys.contains(&"a.mp4".to_owned()), "{keys:?}");
    let rows = sources_of(&out);
    let failed: Vec<_> = rows
        .iter()
        .filter(|row| row.status == Status::Failed)
        .collect();
    assert!(
        failed.len() == 1 && failed[0].source.ends_with("missing.mp4"),
        "{rows:?}"
    );
    // An object that is another now is fetched again.
    store.fail(|_, _| Fault::None);
    store.objects().insert("films/a.mp4".to_owned(), film(90));
    let ran = curate(&words, &out, &stores);
    assert_eq!((ran.reused, ran.failed), (2, 1));
    let keys: Vec<String> = store.gets().into_iter().map(|get| get.key).collect();
    assert_eq!(keys, ["a.mp4"]);
    assert_ne!(sources_of(&out)[0].content, rows[0].content);
}
