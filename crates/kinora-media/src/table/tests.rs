use super::columns::TableRow;
use super::*;
use crate::error::Result;
use std::path::{Path, PathBuf};

fn clip(index: usize) -> ClipRow {
    ClipRow {
        clip_id: format!("{index:08x}"),
        source: format!("videos/{}.mp4", index / 3),
        start_frame: 10 * index as u64,
        end_frame: 10 * index as u64 + 7,
        start_s: index as f64 / 3.0,
        end_s: index as f64 / 3.0 + 0.1,
        fps: 30_000.0 / 1001.0,
        width: 640,
        height: u32::MAX,
        ..ClipRow::default()
    }
}

fn full_clip() -> ClipRow {
    ClipRow {
        file: Some("clips/ä ☃.mp4".to_owned()),
        motion_score: Some(f32::MIN_POSITIVE),
        motion_bucket: Some(255),
        text_area: Some(0.0),
        embeddings: Some(vec![0.5, -0.25, 1e-7, f32::MAX]),
        clip_similarity: Some(-1.0),
        similarity_image: Some(0.1),
        similarity_video: Some(0.2),
        similarity_merged: Some(0.3),
        aesthetic: Some(5.5),
        caption_image: Some(String::new()),
        caption_video: Some("a \"quoted\"\nline".to_owned()),
        caption_merged: Some("both".to_owned()),
        versions: JudgeVersions {
            cuts: "cascade 1".to_owned(),
            caption_merged: "endpoint 1".to_owned(),
            ..JudgeVersions::default()
        },
        status: Status::Partial,
        reason: Some("the captioner was silent".to_owned()),
        ..clip(7)
    }
}

fn clips() -> Vec<ClipRow> {
    let empty_list = ClipRow {
        embeddings: Some(Vec::new()),
        status: Status::Failed,
        ..clip(1)
    };
    vec![clip(0), empty_list, full_clip(), clip(3), full_clip()]
}

fn written(rows: &[ClipRow]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clips.parquet");
    write_table(&path, rows).unwrap();
    (folder, path)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/tables")
        .join(name)
}

fn refusal<R: TableRow>(result: Result<Vec<R>>) -> String {
    match result {
        Ok(rows) => panic!("{} rows were read", rows.len()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn clips_come_back_as_they_were_and_equal_rows_make_equal_bytes() {
    let (folder, path) = written(&clips());
    assert_eq!(read_table::<ClipRow>(&path).unwrap(), clips());
    let again = folder.path().join("again.parquet");
    write_table(&again, &clips()).unwrap();
    assert_eq!(
        std::fs::read(&path).unwrap(),
        std::fs::read(&again).unwrap()
    );
    write_table::<ClipRow>(&again, &[]).unwrap();
    assert_eq!(read_table::<ClipRow>(&again).unwrap(), []);
}

#[test]
fn the_other_tables_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let cuts = [CutKind::Hard, CutKind::Fade, CutKind::Gradual].map(|kind| CutRow {
        source: "a.mp4".to_owned(),
        frame: 283,
        seconds: 11.8,
        kind,
        score: 1.5,
    });
    write_table(&path, &cuts).unwrap();
    assert_eq!(read_table::<CutRow>(&path).unwrap(), cuts);

    let sources = [SourceRow {
        source: "b.mp4".to_owned(),
        content: "ff".to_owned(),
        bytes: 1 << 40,
        duration_s: 30.0,
        frames: 720,
        fps: 24.0,
        width: 1280,
        height: 720,
        codec: "vp9".to_owned(),
        cuts: 3,
        clips: 4,
        status: Status::Failed,
        reason: Some("no video stream".to_owned()),
    }];
    write_table(&path, &sources).unwrap();
    assert_eq!(read_table::<SourceRow>(&path).unwrap(), sources);

    let index = [IndexRow {
        shard: "lvd-000000.tar".to_owned(),
        clip_id: "a".to_owned(),
        offset: 512,
        size: 4096,
        crc32: u32::MAX,
        motion_bucket: Some(3),
        source: "b.mp4".to_owned(),
        caption_video: Some("a fox".to_owned()),
        weight_video: 0.25,
        latents: Some("latents.npy".to_owned()),
        ..IndexRow::default()
    }];
    write_table(&path, &index).unwrap();
    assert_eq!(read_table::<IndexRow>(&path).unwrap(), index);
}

#[test]
fn every_column_is_in_the_documents() {
    fn undocumented<R: TableRow>() -> Vec<&'static str> {
        let text = include_str!("../../../../docs/formats.md");
        let columns = R::columns();
        let names = columns.iter().map(|column| column.name());
        names
            .filter(|name| !text.contains(&format!("`{name}`")))
            .collect()
    }
    assert_eq!(undocumented::<ClipRow>(), [""; 0]);
    assert_eq!(undocumented::<CutRow>(), [""; 0]);
    assert_eq!(undocumented::<SourceRow>(), [""; 0]);
    assert_eq!(undocumented::<DropRow>(), [""; 0]);
    assert_eq!(undocumented::<IndexRow>(), [""; 0]);
}

#[test]
fn many_rows_stream_through_several_groups() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dropped.parquet");
    let row = |index: usize| DropRow {
        clip_id: format!("{index:08x}"),
        rule: "motion_score".to_owned(),
        rules: "motion_score,aesthetic".to_owned(),
    };
    let count = 70_000;
    let mut writer = TableWriter::create(&path).unwrap();
    for index in 0..count {
        writer.push(row(index)).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), count as u64);
    let reader = TableReader::<DropRow>::open(&path).unwrap();
    assert_eq!(reader.row_count(), count as u64);
    let mut found = 0;
    for (index, read) in reader.enumerate() {
        assert_eq!(read.unwrap(), row(index));
        found += 1;
    }
    assert_eq!(found, count);
}

#[test]
fn long_cells_end_a_group_early() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clips.parquet");
    let mut writer = TableWriter::create(&path).unwrap();
    for index in 0..9 {
        let embeddings = Some(vec![index as f32; 64 << 10]);
        writer
            .push(ClipRow {
                embeddings,
                ..clip(index)
            })
            .unwrap();
    }
    writer.finish().unwrap();
    let mut last = None;
    for (index, row) in TableReader::<ClipRow>::open_columns(&path, &["clip_id", "embeddings"])
        .unwrap()
        .enumerate()
    {
        let row = row.unwrap();
        let embeddings = row.embeddings.unwrap();
        assert_eq!(row.clip_id, clip(index).clip_id);
        assert_eq!(embeddings.len(), 64 << 10);
        assert!(embeddings.iter().all(|&value| value == index as f32));
        last = Some(index);
    }
    assert_eq!(last, Some(8));
}

#[test]
fn only_the_columns_named_are_read() {
    let (_folder, path) = written(&clips());
    let names = ["clip_id", "motion_score"];
    let read: Vec<ClipRow> = TableReader::open_columns(&path, &names)
        .unwrap()
        .collect::<Result<_>>()
        .unwrap();
    let expected: Vec<ClipRow> = clips()
        .into_iter()
        .map(|row| ClipRow {
            clip_id: row.clip_id,
            motion_score: row.motion_score,
            ..ClipRow::default()
        })
        .collect();
    assert_eq!(read, expected);
    let unknown = TableReader::<ClipRow>::open_columns(&path, &["speed"]).map(|_| Vec::new());
    let message = refusal::<ClipRow>(unknown);
    assert!(message.contains("no column \"speed\""), "{message}");
    assert!(message.contains("motion_score"), "{message}");
}

#[test]
fn tables_that_pyarrow_wrote_are_read() {
    let clips = read_table::<ClipRow>(&fixture("clips.parquet")).unwrap();
    let plain = ClipRow {
        clip_id: "a1".to_owned(),
        source: "ä/☃.mp4".to_owned(),
        start_frame: 10,
        end_frame: 40,
        start_s: 0.5,
        end_s: 1.75,
        fps: 24.0,
        width: 640,
        height: 360,
        ..ClipRow::default()
    };
    let mut full = ClipRow {
        clip_id: "b2".to_owned(),
        file: Some("clips/b2.mp4".to_owned()),
        motion_score: Some(0.25),
        motion_bucket: Some(255),
        text_area: Some(0.0),
        embeddings: Some(vec![0.5, -0.25, 1e-7]),
        clip_similarity: Some(0.3125),
        similarity_image: Some(-1.0),
        aesthetic: Some(5.5),
        caption_image: Some(String::new()),
        caption_merged: Some("two\nlines".to_owned()),
        status: Status::Partial,
        reason: Some("no video captioner".to_owned()),
        ..plain.clone()
    };
    full.versions.motion = "farneback 1".to_owned();
    let empty = ClipRow {
        clip_id: "c3".to_owned(),
        embeddings: Some(Vec::new()),
        ..plain.clone()
    };
    assert_eq!(clips, [plain, full, empty]);
    let cuts = read_table::<CutRow>(&fixture("cuts.parquet")).unwrap();
    assert_eq!((cuts[1].frame, cuts[1].kind), (376, CutKind::Gradual));
}

#[test]
fn what_does_not_belong_is_refused_by_name() {
    let cuts = |name: &str| refusal(read_table::<CutRow>(&fixture(name)));
    for (name, words) in [
        ("cuts_more.parquet", "unknown column \"colour\""),
        ("cuts_fewer.parquet", "column \"score\" is missing"),
        (
            "cuts_wide.parquet",
            "column \"score\": expected FLOAT, found DOUBLE",
        ),
        (
            "cuts_gap.parquet",
            "column seconds: row 1: expected a number, found an empty cell",
        ),
        (
            "cuts_kind.parquet",
            "expected one of hard fade gradual, found \"sudden\"",
        ),
        (
            "cuts_below.parquet",
            "column frame: expected a number not below zero, found -1",
        ),
    ] {
        let message = cuts(name);
        assert!(message.contains(words), "{name}: {message}");
        assert!(message.contains(name), "{message}");
    }
    let gap = refusal(read_table::<ClipRow>(&fixture("clips_list_gap.parquet")));
    assert!(gap.contains("a list has an empty number"), "{gap}");
    let other = refusal(read_table::<ClipRow>(&fixture("make.py")));
    assert!(
        other.contains("expected a Parquet table of clips"),
        "{other}"
    );
}

#[test]
fn a_flipped_bit_is_refused_or_changes_nothing() {
    let (_folder, path) = written(&clips());
    let whole = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for place in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        std::fs::write(&path, &bytes).unwrap();
        match read_table::<ClipRow>(&path) {
            Ok(rows) => assert_eq!(rows, clips(), "byte {place} of {}", whole.len()),
            Err(_) => refused += 1,
        }
    }
    // What may change without harm is in the footer: statistics, the name of the writer.
    assert!(refused > whole.len() / 21, "{refused} of {}", whole.len());
}

#[test]
fn a_shortened_table_is_refused() {
    let (_folder, path) = written(&clips());
    let whole = std::fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(41).chain([whole.len() - 1]) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let message = refusal(read_table::<ClipRow>(&path));
        assert!(message.contains("make the table again"), "{message}");
    }
}

#[test]
fn a_table_is_there_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clips.parquet");
    let mut writer = TableWriter::create(&path).unwrap();
    writer.push(clip(0)).unwrap();
    assert!(!path.exists());
    drop(writer);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let mut writer = TableWriter::create(&path).unwrap();
    let far = ClipRow {
        start_frame: u64::MAX,
        ..clip(0)
    };
    writer.push(far).unwrap();
    let message = writer.finish().unwrap_err().to_string();
    assert!(message.contains("column start_frame"), "{message}");
    assert!(!path.exists());
}
