//! `kinora curate` as a black box: whatever the videos, however often it is killed, however the work is
//! shared out, the same set comes out.

#![allow(clippy::unwrap_used)] // What cannot be set up fails its test.

mod folder;
mod judges;
mod told;

use folder::{Folder, published};
use kinora_media::{ClipRow, SourceRow, Status, read_table};
use std::time::Duration;

/// Three videos of one to three shots each.
fn footage(folder: &Folder) {
    folder
        .kinora(&["footage", "videos", "--videos", "3"])
        .unwrap();
}

#[test]
fn every_worker_number_and_every_share_of_the_work_gives_the_same_bytes() {
    let folder = Folder::new();
    footage(&folder);
    folder.curate("one", &["--workers", "1"]).unwrap();
    let one = published(&folder.path("one"));
    assert!(one.contains_key("clips.parquet") && one.contains_key("motion_law.json"));
    assert!(
        one.keys().any(|name| name.starts_with("clips/")),
        "{:?}",
        one.keys()
    );

    folder.curate("four", &["--workers", "4"]).unwrap();
    assert_same(&one, &published(&folder.path("four")));

    // The slices may come in any order and any number of times.
    folder.curate("shared", &["--shard", "2/3"]).unwrap();
    let refusal = folder.kinora(&["curate", "merge", "shared"]).unwrap_err();
    assert!(refusal.contains("footage_000.mp4"), "{refusal}");
    assert!(!folder.path("shared/clips.parquet").exists());
    for slice in ["0/3", "2/3", "1/3", "0/3"] {
        folder.curate("shared", &["--shard", slice]).unwrap();
    }
    folder.kinora(&["curate", "merge", "shared"]).unwrap();
    assert_same(&one, &published(&folder.path("shared")));
}

#[test]
fn steps_done_one_by_one_give_what_they_give_together() {
    let folder = Folder::new();
    footage(&folder);
    folder.curate("together", &[]).unwrap();
    folder.curate("one_by_one", &["--only", "cuts"]).unwrap();
    let clips: Vec<ClipRow> = read_table(&folder.path("one_by_one/clips.parquet")).unwrap();
    assert!(!clips.is_empty());
    assert!(
        clips
            .iter()
            .all(|clip| clip.file.is_none() && clip.motion_score.is_none())
    );

    folder.curate("one_by_one", &["--only", "motion"]).unwrap();
    let clips: Vec<ClipRow> = read_table(&folder.path("one_by_one/clips.parquet")).unwrap();
    assert!(
        clips
            .iter()
            .all(|clip| clip.file.is_none() && clip.motion_score.is_some())
    );

    folder.curate("one_by_one", &[]).unwrap();
    assert_same(
        &published(&folder.path("together")),
        &published(&folder.path("one_by_one")),
    );
}

#[test]
fn a_second_run_decodes_nothing() {
    let folder = Folder::new();
    footage(&folder);
    folder.curate("out", &[]).unwrap();
    let first = published(&folder.path("out"));
    let told = folder.curate("out", &["--json"]).unwrap();
    assert_eq!(told.matches("\"reused\":true").count(), 3, "{told}");
    assert_same(&first, &published(&folder.path("out")));
    // A threshold that moves needs the measurements, not the videos.
    let config = folder
        .config()
        .replace("least_secs = 1.0", "least_secs = 2.0");
    std::fs::write(folder.path("curate.toml"), config).unwrap();
    let before = folder.frames_decoded("out");
    folder.curate("out", &[]).unwrap();
    assert_eq!(folder.frames_decoded("out"), before);
    let clips: Vec<ClipRow> = read_table(&folder.path("out/clips.parquet")).unwrap();
    assert!(clips.iter().all(|clip| clip.duration_s() >= 2.0));
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_bytes() {
    let folder = Folder::new();
    footage(&folder);
    let began = std::time::Instant::now();
    folder.curate("whole", &[]).unwrap();
    let whole_run = began.elapsed();
    let whole = published(&folder.path("whole"));
    // Moments all over the run, in no order: a part of the golden ratio apart.
    let mut kills = 0;
    for turn in 0..8u32 {
        let share = (0.618_034 * f64::from(turn + 1)).fract();
        let moment = Duration::from_secs_f64(whole_run.as_secs_f64() * share * 0.8);
        kills += u32::from(folder.curate_and_kill("killed", moment));
        check_no_half_file(&folder);
    }
    assert!(kills > 0, "no run was long enough to be killed");
    folder.curate("killed", &[]).unwrap();
    assert_same(&whole, &published(&folder.path("killed")));
}

/// A table is whole or not there.
fn check_no_half_file(folder: &Folder) {
    let table = folder.path("killed/clips.parquet");
    if table.exists() {
        read_table::<ClipRow>(&table).unwrap();
    }
}

#[test]
fn whatever_the_file_it_ends_as_a_row() {
    let folder = Folder::new();
    folder.strange_videos();
    let told = folder.curate("out", &[]).unwrap_err();
    let rows: Vec<SourceRow> = read_table(&folder.path("out/sources.parquet")).unwrap();
    let row = |name: &str| {
        let row = rows
            .iter()
            .find(|row| row.source == format!("videos/{name}"));
        row.unwrap_or_else(|| panic!("{name} has no row\n{told}"))
    };
    for (name, words) in [
        ("empty.mp4", "empty"),
        ("sound.wav", "no video stream"),
        ("words.mp4", ""),
        ("playlist.mp4", "playlist"),
        ("spying.mp4", ""), // Refused by ffmpeg itself or by us, as its version has it.
        ("huge.y4m", "beyond"),
        ("stub.png", ""),
    ] {
        let row = row(name);
        assert_eq!(row.status, Status::Failed, "{row:?}");
        let reason = row.reason.as_deref().unwrap_or_default();
        assert!(!reason.is_empty() && reason.contains(words), "{row:?}");
    }
    let cut_short = row("cut_short.mkv");
    assert_ne!(cut_short.status, Status::Failed, "{cut_short:?}");
    for (name, width, height) in [
        ("late.mkv", 64, 48),
        ("turned.mp4", 48, 64),
        ("wide_pixels.mp4", 128, 48),
        ("interlaced.ts", 64, 48),
        ("uneven.mkv", 64, 48),
    ] {
        let row = row(name);
        assert_eq!((row.width, row.height), (width, height), "{row:?}");
        assert_ne!(row.status, Status::Failed, "{row:?}");
        assert!(row.frames >= 40 && row.clips >= 1, "{row:?}");
    }
    // A stream without times: its clips are encoded, since nothing in it can be entered at a time.
    let bare = row("no_duration.h264");
    assert_eq!((bare.status, bare.frames, bare.clips), (Status::Ok, 50, 1));
    let clips: Vec<ClipRow> = read_table(&folder.path("out/clips.parquet")).unwrap();
    for clip in &clips {
        assert!(
            clip.end_frame > clip.start_frame && clip.end_s > clip.start_s,
            "{clip:?}"
        );
        let file = clip.file.as_ref().unwrap_or_else(|| panic!("{clip:?}"));
        let frames = folder.frames_in(&format!("out/{file}"));
        assert_eq!(frames, clip.frames(), "{clip:?}");
    }
}

#[test]
fn the_same_bytes_under_two_names_give_their_clips_once() {
    let folder = Folder::new();
    footage(&folder);
    std::fs::copy(
        folder.path("videos/footage_001.mp4"),
        folder.path("videos/copy.mp4"),
    )
    .unwrap();
    folder.curate("out", &[]).unwrap();
    let clips: Vec<ClipRow> = read_table(&folder.path("out/clips.parquet")).unwrap();
    let mut ids: Vec<&str> = clips.iter().map(|clip| clip.clip_id.as_str()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    let rows: Vec<SourceRow> = read_table(&folder.path("out/sources.parquet")).unwrap();
    let second = rows
        .iter()
        .find(|row| row.source.ends_with("footage_001.mp4"))
        .unwrap();
    assert_eq!(second.clips, 0);
    assert!(
        second.reason.as_ref().unwrap().contains("copy.mp4"),
        "{second:?}"
    );
}

#[test]
fn thresholds_move_in_a_moment_and_shards_follow() {
    let folder = Folder::new();
    footage(&folder);
    folder.curate("out", &[]).unwrap();
    let all: Vec<ClipRow> = read_table(&folder.path("out/clips.parquet")).unwrap();
    let config = folder.config();
    let strict = config.replace(
        "drop_lowest_percent = 25.0 # motion",
        "drop_lowest_percent = 50.0 # motion",
    );
    assert_ne!(strict, config);
    std::fs::write(folder.path("strict.toml"), strict).unwrap();
    folder
        .kinora(&["curate", "filter", "out", "--config", "strict.toml"])
        .unwrap();
    let kept: Vec<ClipRow> = read_table(&folder.path("out/kept.parquet")).unwrap();
    assert!(
        kept.len() <= all.len() - all.len() / 2 + 1,
        "{} of {}",
        kept.len(),
        all.len()
    );
    folder.kinora(&["curate", "shards", "out"]).unwrap();
    let shards = kinora_media::ShardFolder::open(&folder.path("out/shards")).unwrap();
    assert_eq!(shards.index().len(), kept.len());
    folder.kinora(&["curate", "report", "out"]).unwrap();
    let page = std::fs::read_to_string(folder.path("out/report.html")).unwrap();
    assert!(page.contains("motion") && page.contains("decode"));
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let folder = Folder::new();
    footage(&folder);
    let config = folder.config().replace("least_secs", "least_seconds");
    std::fs::write(folder.path("typo.toml"), config).unwrap();
    for (words, expected) in [
        (
            vec!["curate", "videos", "--config", "typo.toml", "--out", "x"],
            "least_seconds",
        ),
        (
            vec!["curate", "nowhere", "--config", "curate.toml", "--out", "x"],
            "nowhere",
        ),
        (
            vec!["curate", "merge", "videos"],
            "is no folder of a curation",
        ),
        #[cfg(not(feature = "cloud"))]
        (
            vec![
                "curate",
                "s3://films/a",
                "--config",
                "curate.toml",
                "--out",
                "x",
            ],
            "--features cloud",
        ),
        (
            vec![
                "curate",
                "videos",
                "--config",
                "curate.toml",
                "--out",
                "x",
                "--shard",
                "3/3",
            ],
            "0/4",
        ),
        (
            vec![
                "curate",
                "videos",
                "--config",
                "curate.toml",
                "--out",
                "x",
                "--only",
                "tea",
            ],
            "motion",
        ),
    ] {
        let told = folder.kinora(&words).unwrap_err();
        assert!(told.contains(expected), "{words:?}: {told}");
    }
}

fn assert_same(
    expected: &std::collections::BTreeMap<String, Vec<u8>>,
    found: &std::collections::BTreeMap<String, Vec<u8>>,
) {
    let names = |files: &std::collections::BTreeMap<String, Vec<u8>>| {
        files.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(expected), names(found));
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{name} differs");
    }
}
