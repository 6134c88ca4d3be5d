use super::*;
use crate::error::Result;
use crate::table::{ClipRow, IndexRow};
use std::path::{Path, PathBuf};

fn row(id: &str) -> ClipRow {
    ClipRow {
        clip_id: id.to_owned(),
        source: "a ☃.mp4".to_owned(),
        start_frame: 24,
        end_frame: 72,
        start_s: 1.0,
        end_s: 3.0,
        fps: 24.0,
        width: 64,
        height: 36,
        motion_score: Some(0.125),
        motion_bucket: Some(80),
        caption_image: Some(format!("{id}: seen")),
        caption_merged: Some(format!("{id}: both")),
        ..ClipRow::default()
    }
}

/// Clips of different lengths, the second without caption, the third with latents.
fn write(folder: &Path, options: &ShardOptions, ids: &[&str]) -> Result<ShardSummary> {
    let media = tempfile::tempdir().unwrap();
    let mut writer =
        ShardWriter::create(&folder.join("shards"), options, &CaptionWeights::default())?;
    for (index, id) in ids.iter().enumerate() {
        let path = media
            .path()
            .join(if index == 0 { "x.MP4" } else { "x.webm" });
        std::fs::write(&path, content(index)).unwrap();
        let mut row = row(id);
        if index == 1 {
            (row.caption_image, row.caption_merged) = (None, Some(String::new()));
        }
        let latents = (index == 2).then_some(("latents.npy", b"numbers".as_slice()));
        writer.push(&ShardClip {
            row: &row,
            media: &path,
            latents,
        })?;
    }
    writer.finish()
}

fn content(index: usize) -> Vec<u8> {
    (0..700 * index + 512)
        .map(|place| (place * 7 + index) as u8)
        .collect()
}

fn small() -> ShardOptions {
    ShardOptions {
        name: "lvd".to_owned(),
        max_clips: 2,
        ..ShardOptions::default()
    }
}

const IDS: [&str; 5] = ["0a", "0b", "1-c", "1_d", "2e"];

fn shard_names(folder: &Path) -> Vec<PathBuf> {
    ShardFolder::open(&folder.join("shards")).unwrap().shards()
}

#[test]
fn clips_come_back_in_order_and_by_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let summary = write(folder.path(), &small(), &IDS).unwrap();
    let shards = shard_names(folder.path());
    let bytes = shards
        .iter()
        .map(|path| std::fs::metadata(path).unwrap().len())
        .sum();
    assert_eq!(
        summary,
        ShardSummary {
            shards: 3,
            clips: 5,
            captioned: 4,
            latents: 1,
            bytes
        }
    );

    let streamed: Vec<ShardSample> = shards
        .iter()
        .flat_map(|path| ShardReader::open(path).unwrap())
        .collect::<Result<_>>()
        .unwrap();
    let shards = ShardFolder::open(&folder.path().join("shards")).unwrap();
    for (index, sample) in streamed.iter().enumerate().rev() {
        let place = &shards.index()[index];
        assert_eq!(&shards.read(place).unwrap(), sample);
        assert_eq!(sample.key, IDS[index]);
        let ending = if index == 0 { "mp4" } else { "webm" };
        assert_eq!(sample.clip().unwrap(), (ending, content(index).as_slice()));
        let description = sample.description().unwrap();
        assert_eq!(
            (description.end_frame, description.motion_bucket),
            (72, Some(80))
        );
        assert_eq!((place.frames, place.duration_s), (48, 2.0));
        assert_eq!(place.source, description.source);
        // All captions travel with their weights, in the index as in the shard.
        assert_eq!(place.captions(), description.captions);
        assert_eq!(sample.caption().unwrap(), place.caption.as_deref());
        assert_eq!(
            sample.caption().unwrap(),
            description.caption(caption_draw(IDS[index]))
        );
    }
    assert_eq!(streamed[1].caption().unwrap(), None);
    assert_eq!(streamed[1].description().unwrap().captions, []);
    assert_eq!(
        streamed[2].latents().unwrap(),
        ("latents.npy", b"numbers".as_slice())
    );
    let weights: Vec<f64> = streamed[0]
        .description()
        .unwrap()
        .captions
        .iter()
        .map(|c| c.weight)
        .collect();
    assert_eq!(weights, [0.5, 0.25]);
}

#[test]
fn equal_clips_make_equal_bytes_and_replace_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |folder: &Path| -> Vec<Vec<u8>> {
        let mut paths = shard_names(folder);
        paths.push(folder.join("shards").join(INDEX));
        paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect()
    };
    write(folder.path(), &small(), &IDS).unwrap();
    let first = bytes(folder.path());
    write(folder.path(), &small(), &IDS).unwrap();
    assert_eq!(bytes(folder.path()), first);
    // Fewer shards leave none of the old ones.
    write(folder.path(), &ShardOptions::default(), &IDS).unwrap();
    assert_eq!(
        std::fs::read_dir(folder.path().join("shards"))
            .unwrap()
            .count(),
        2
    );
    std::fs::write(folder.path().join("shards/notes.txt"), b"mine").unwrap();
    let refusal = write(folder.path(), &small(), &IDS)
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("notes.txt"), "{refusal}");
}

#[test]
fn a_shard_never_passes_its_limit_of_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let options = ShardOptions {
        max_bytes: 8192,
        ..small()
    };
    write(
        folder.path(),
        &ShardOptions {
            max_clips: 100,
            ..options
        },
        &IDS,
    )
    .unwrap();
    let shards = shard_names(folder.path());
    assert!(shards.len() > 1);
    for path in &shards {
        assert!(std::fs::metadata(path).unwrap().len() <= 8192);
    }
    // A clip larger than the limit stands alone.
    write(
        folder.path(),
        &ShardOptions {
            max_bytes: 1,
            ..small()
        },
        &IDS,
    )
    .unwrap();
    assert_eq!(shard_names(folder.path()).len(), IDS.len());
}

#[test]
fn a_flipped_bit_and_a_shortened_shard_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &ShardOptions::default(), &IDS[..2]).unwrap();
    let shards = ShardFolder::open(&folder.path().join("shards")).unwrap();
    let path = shards.shards().remove(0);
    let whole = std::fs::read(&path).unwrap();
    let content_end = whole.len() - member::END as usize;
    for place in (0..content_end).step_by(13) {
        let mut bytes = whole.clone();
        bytes[place] ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        let read: Result<Vec<_>> = shards.index().iter().map(|row| shards.read(row)).collect();
        let message = read.unwrap_err().to_string();
        assert!(message.contains("checksum"), "byte {place}: {message}");
    }
    for length in (0..whole.len())
        .step_by(97)
        .chain([content_end, whole.len() - 1])
    {
        std::fs::write(&path, &whole[..length]).unwrap();
        let read: Result<Vec<_>> = ShardReader::open(&path).unwrap().collect();
        let message = read.unwrap_err().to_string();
        assert!(message.contains("shortened"), "{length} bytes: {message}");
        let message = ShardFolder::open(&folder.path().join("shards"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("shortened"), "{length} bytes: {message}");
    }
    let mut bytes = whole.clone();
    bytes[3] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let message = ShardReader::open(&path)
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("header of a member is damaged"),
        "{message}"
    );
}

#[test]
fn ids_and_files_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |ids: &[&str], words: &str| {
        let message = write(folder.path(), &small(), ids).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
        assert!(!folder.path().join("shards").exists());
    };
    refused(&["b", "a"], "found a after b");
    refused(&["a", "a"], "ascending order");
    refused(&["a.b"], "first dot");
    refused(&[""], "cannot be a key");
    refused(&["a".repeat(98).as_str()], "longer than the 100 bytes");
    let name = ShardOptions {
        name: "a/b".to_owned(),
        ..small()
    };
    assert!(
        write(folder.path(), &name, &IDS)
            .unwrap_err()
            .to_string()
            .contains("\"a/b\"")
    );

    let target = folder.path().join("shards");
    let mut writer = ShardWriter::create(&target, &small(), &CaptionWeights::default()).unwrap();
    let empty = folder.path().join("empty.mp4");
    std::fs::write(&empty, b"").unwrap();
    let clip = row("a");
    let message = writer
        .push(&ShardClip {
            row: &clip,
            media: &empty,
            latents: None,
        })
        .unwrap_err()
        .to_string();
    assert!(message.contains("found 0 bytes"), "{message}");
}

#[test]
fn the_index_of_other_shards_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &small(), &IDS).unwrap();
    let shards = ShardFolder::open(&folder.path().join("shards")).unwrap();
    let stranger = IndexRow {
        shard: "other-000000.tar".to_owned(),
        ..shards.index()[0].clone()
    };
    assert!(
        shards
            .read(&stranger)
            .unwrap_err()
            .to_string()
            .contains("no such shard")
    );
    std::fs::remove_file(&shards.shards()[1]).unwrap();
    let missing = ShardFolder::open(&folder.path().join("shards"))
        .unwrap_err()
        .to_string();
    assert!(missing.contains("lvd-000001.tar"), "{missing}");
}
