use super::super::{CacheOptions, ClipCache};
use super::*;
use crate::image::Rgb8Image;
use crate::metadata::Metadata;
use crate::motion_law::MotionMeasure;
use crate::shard::{CaptionWeights, ShardClip, ShardOptions, ShardWriter};
use crate::table::ClipRow;
use crate::writer::Writer;

const OPTIONS: CacheOptions = CacheOptions {
    width: 32,
    height: 24,
    max_fps: 6,
    max_bytes: 10 << 20,
};

/// Eight grey frames at 12 a second with a flash in the middle, as bright as `level` says.
fn clip_file(path: &Path, level: u8) {
    let fps = Fps::whole(12).unwrap();
    let mut writer = Writer::create(path, 32, 24, fps, &Metadata::new()).unwrap();
    for index in 0..8 {
        let level = if index < 4 { level } else { 255 - level };
        let picture = Rgb8Image::from_fn(32, 24, |_, _| [level; 3]);
        writer.push(&picture).unwrap();
    }
    writer.finish().unwrap();
}

fn row(id: &str, motion_score: Option<f32>, law: Option<&MotionLaw>) -> ClipRow {
    ClipRow {
        clip_id: id.to_owned(),
        end_frame: 8,
        end_s: 8.0 / 12.0,
        fps: 12.0,
        motion_bucket: motion_score.and_then(|score| law.map(|law| law.bucket(score))),
        motion_score,
        ..ClipRow::default()
    }
}

/// A folder with shards of clips of these scores; every shard has two clips.
struct Shards {
    folder: tempfile::TempDir,
}

impl Shards {
    fn of(scores: &[Option<f32>]) -> Shards {
        let law = MotionLaw::from_scores(MotionMeasure::Flow, scores.iter().flatten().copied());
        Shards::with_law(scores, law.ok().as_ref(), |_| ())
    }

    fn with_law(
        scores: &[Option<f32>],
        law: Option<&MotionLaw>,
        change: impl Fn(&mut ClipRow),
    ) -> Shards {
        let shards = Shards {
            folder: tempfile::tempdir().unwrap(),
        };
        let options = ShardOptions {
            max_clips: 2,
            ..ShardOptions::default()
        };
        let weights = CaptionWeights::default();
        let mut writer = ShardWriter::create(&shards.path("shards"), &options, &weights).unwrap();
        for (number, score) in scores.iter().enumerate() {
            let media = shards.path("clip.mp4");
            clip_file(&media, 40 + 20 * number as u8);
            let mut row = row(&format!("c{number}"), *score, law);
            change(&mut row);
            let (row, media) = (&row, media.as_path());
            let latents = None;
            writer
                .push(&ShardClip {
                    row,
                    media,
                    latents,
                })
                .unwrap();
        }
        if let Some(law) = law {
            writer.put_motion_law(law).unwrap();
        }
        writer.finish().unwrap();
        shards
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn find(&self) -> Result<ShardClips> {
        Ok(ShardClips::find(self.folder.path())?.expect("shards"))
    }

    fn build(&self) -> Result<ClipCache> {
        let cache = self.path("cache");
        ClipCache::build_from_shards(&self.find()?, &cache, &OPTIONS, &|_, _| ())
    }

    /// Changes the bytes of a shard.
    fn damage(&self, change: impl Fn(&mut Vec<u8>)) {
        let path = self.path("shards/clips-000000.tar");
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
    }
}

fn skipped(cache: &ClipCache) -> Vec<(String, &str)> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let files = cache.skipped().iter();
    files
        .map(|file| (name(&file.path), file.reason.as_str()))
        .collect()
}

#[test]
fn every_clip_is_one_shot_with_its_score_and_is_decoded_once() {
    let shards = Shards::of(&[Some(1.0), Some(2.0), Some(3.0)]);
    let found = shards.find().unwrap();
    assert_eq!(found.shards(), 2);
    assert_eq!(found.motion_law().unwrap().bucket(3.0), 234);
    let cache = shards.build().unwrap();
    assert!(cache.skipped().is_empty(), "{:?}", cache.skipped());
    for (number, video) in cache.videos().iter().enumerate() {
        // Twelve frames a second are thinned to six; the flash is no cut.
        assert_eq!((video.frames, video.fps), (4, Fps::whole(6).unwrap()));
        assert_eq!((video.shots.len(), &video.shots[0]), (1, &(0..4)));
        assert_eq!(video.motion_score, Some(1.0 + number as f32));
        let name = format!("clips-00000{}.tar/c{number}.mp4", number / 2);
        assert!(video.source.ends_with(name), "{}", video.source.display());
    }
    let last = cache.clips(1, 1).unwrap().get(8);
    assert_eq!(last.video, 2);
    assert!(cache.read(&last).unwrap()[0].abs_diff(80) <= 2);
    // The decoded frames are taken the second time, though the clip itself is damaged now.
    shards.damage(|bytes| bytes[2000] ^= 1);
    assert!(shards.build().unwrap().skipped().is_empty());
    // Nothing but the cache is left.
    let left = std::fs::read_dir(shards.path("cache")).unwrap();
    assert_eq!(left.count(), 6);
}

#[test]
fn a_damaged_clip_is_left_out_with_its_reason_and_a_shortened_shard_is_refused() {
    let shards = Shards::of(&[Some(1.0), Some(2.0), Some(3.0)]);
    shards.damage(|bytes| bytes[2000] ^= 1);
    let cache = shards.build().unwrap();
    assert_eq!(cache.videos().len(), 2);
    let found = skipped(&cache);
    assert_eq!(found[0].0, "c0.mp4");
    assert!(found[0].1.contains("checksum"), "{found:?}");
    shards.damage(|bytes| bytes.truncate(3000));
    let refusal = shards.find().unwrap_err().to_string();
    assert!(refusal.contains("it is shortened"), "{refusal}");
    std::fs::remove_file(shards.path("shards/clips-000000.tar")).unwrap();
    let refusal = shards.find().unwrap_err().to_string();
    assert!(
        refusal.contains("clips-000000.tar: could not open"),
        "{refusal}"
    );
}

#[test]
fn a_clip_that_is_not_what_the_index_says_is_left_out() {
    let law = MotionLaw::from_scores(MotionMeasure::Flow, [1.0, 2.0]).unwrap();
    let shards = Shards::with_law(&[Some(1.0), Some(2.0)], Some(&law), |row| {
        if row.clip_id == "c1" {
            row.end_s = 4.0; // The file has two thirds of a second.
        }
    });
    let cache = shards.build().unwrap();
    let found = skipped(&cache);
    assert_eq!((cache.videos().len(), found[0].0.as_str()), (1, "c1.mp4"));
    assert!(
        found[0]
            .1
            .contains("expected about 24 frames at 6 a second")
            && found[0].1.contains("decoded 4"),
        "{found:?}"
    );
}

#[test]
fn clips_know_their_video_and_their_captions() {
    let shards = Shards::with_law(&[None, None, None], None, |row| {
        let odd = row.clip_id == "c1";
        row.source = if odd { "b.mp4" } else { "a.mp4" }.to_owned();
        row.caption_image = odd.then(|| "a fox".to_owned());
        row.caption_merged = odd.then(|| "a fox in snow".to_owned());
    });
    let cache = shards.build().unwrap();
    let origins = cache
        .videos()
        .iter()
        .map(|video| video.origin.to_str().unwrap());
    assert_eq!(origins.collect::<Vec<_>>(), ["a.mp4", "b.mp4", "a.mp4"]);
    let told = |draw| cache.videos()[1].caption(draw).unwrap();
    // Weights of 0.5 and 0.25, with none between: two thirds and a third.
    assert_eq!([told(0.0), told(0.66)], ["a fox"; 2]);
    assert_eq!([told(0.67), told(0.99)], ["a fox in snow"; 2]);
    assert_eq!(cache.videos()[0].caption(0.5), None);
}

#[test]
fn scores_and_their_law_belong_together() {
    // Without any score there is no law to ask for.
    let shards = Shards::of(&[None, None]);
    assert!(shards.find().unwrap().motion_law().is_none());
    assert_eq!(shards.build().unwrap().videos()[1].motion_score, None);
    // Without some, those clips are left out.
    let shards = Shards::of(&[Some(1.0), None, Some(3.0)]);
    let cache = shards.build().unwrap();
    assert_eq!(cache.videos().len(), 2);
    assert!(skipped(&cache)[0].1.contains("motion was not judged"));
    // A law of other clips, or none.
    let other = MotionLaw::from_scores(MotionMeasure::Flow, [7.0, 8.0]).unwrap();
    other.write(&shards.path("shards")).unwrap();
    let refusal = shards.find().unwrap_err().to_string();
    assert!(refusal.contains("of different curations"), "{refusal}");
    std::fs::remove_file(shards.path("shards/motion_law.json")).unwrap();
    let refusal = shards.find().unwrap_err().to_string();
    assert!(refusal.contains("expected motion_law.json"), "{refusal}");
}

#[test]
fn shards_are_known_by_their_index() {
    let shards = Shards::of(&[Some(1.0)]);
    assert!(ShardClips::find(&shards.path("shards")).unwrap().is_some());
    let folder = tempfile::tempdir().unwrap();
    assert!(ShardClips::find(folder.path()).unwrap().is_none());
    std::fs::write(folder.path().join("clips.parquet"), "").unwrap();
    let refusal = ShardClips::find(folder.path()).unwrap_err().to_string();
    assert!(refusal.contains("kinora curate shards"), "{refusal}");
}
