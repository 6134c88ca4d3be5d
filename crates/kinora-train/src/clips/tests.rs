use super::*;
use crate::batch::Order;
use crate::testing::{data, render_videos};
use kinora_media::{
    CaptionWeights, ClipRow, FootageOptions, Fps, ShardClip, ShardOptions, ShardWriter,
    render_footage,
};
use kinora_tensor::random::Philox;

/// So many small videos.
const VIDEOS: usize = 6;

fn read(folder: &Path, name: &str) -> Result<Clips> {
    let cache = folder.join("frames");
    Clips::read(&folder.join(name), &cache, &data(), &mut |_, _| {})
}

/// The videos as the clips of shards, scored in falling order, each of a video of its own.
fn shards(folder: &Path, law: &MotionLaw) {
    shards_of(folder, law, |number| format!("{number:02}.mp4"));
}

/// Likewise, cut out of the videos that `source` names.
fn shards_of(folder: &Path, law: &MotionLaw, source: impl Fn(usize) -> String) {
    let paths = render_videos(folder, VIDEOS);
    let (options, weights) = (ShardOptions::default(), CaptionWeights::default());
    let mut writer =
        ShardWriter::create(&folder.join("shards"), &options, &weights).expect("a folder");
    for (number, media) in paths.iter().enumerate() {
        let info = kinora_media::probe(media).expect("a video");
        let score = (paths.len() - number) as f32;
        let row = ClipRow {
            clip_id: format!("clip{number:02}"),
            source: source(number),
            caption_image: Some(format!("image {number}")),
            caption_video: Some(format!("video {number}")),
            caption_merged: Some(format!("merged {number}")),
            end_frame: info.frames.expect("counted"),
            end_s: info.duration_secs.expect("told"),
            fps: 8.0,
            motion_score: Some(score),
            motion_bucket: Some(law.bucket(score)),
            ..ClipRow::default()
        };
        let (row, latents) = (&row, None);
        let clip = ShardClip {
            row,
            media,
            latents,
        };
        writer.push(&clip).expect("a clip");
    }
    writer.put_motion_law(law).expect("a law");
    writer.finish().expect("shards");
}

#[test]
fn the_motion_of_a_folders_own_clips_is_its_law() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    render_videos(folder.path(), VIDEOS);
    let clips = read(folder.path(), "videos")?;
    let law = &clips.motion_law;
    assert_eq!(law.measure(), MotionMeasure::FrameDifference);
    assert_eq!(law.samples(), clips.training.len() as u64);
    // Half of the clips that are trained on lie on each side of the middle.
    let above = clips
        .training
        .iter()
        .filter(|clip| clip.motion_bucket > 127.5);
    assert!(above.count().abs_diff(clips.training.len() / 2) <= 2);
    for clip in clips.training.iter().chain(&clips.held_out) {
        let place = &clip.place;
        let differences = &clips.videos()[place.video].differences;
        let steps = (place.frames - 1) * place.stride;
        let sum: f32 = differences[place.start + 1..][..steps].iter().sum();
        // So much a frame, and the clip skips all but every so manieth.
        let score = sum / (place.frames - 1) as f32;
        let nearest = law.bucket(score);
        assert!((f32::from(nearest) - clip.motion_bucket).abs() <= 1.0);
    }
    Ok(())
}

#[test]
fn clips_of_shards_are_told_with_the_bucket_and_the_rate_of_the_curated_set() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let law = MotionLaw::from_scores(MotionMeasure::Flow, (1..=20).map(|k| k as f32))?;
    shards(folder.path(), &law);
    // The folder itself is what a curation leaves: one that has shards.
    let clips = read(folder.path(), "")?;
    assert_eq!(clips.motion_law, law);
    let found = clips.shards.as_ref().expect("shards");
    assert_eq!((found.shards(), clips.trained_videos()), (1, VIDEOS - 1));
    for clip in &clips.training {
        assert_eq!(clip.fps, 8.0 / clip.place.stride as f32);
        let expected = law.bucket((VIDEOS - clip.place.video) as f32);
        assert_eq!(clip.motion_bucket, f32::from(expected));
    }
    // No cut is looked for: every clip is one shot.
    assert!(clips.videos().iter().all(|video| video.shots.len() == 1));
    assert!(
        clips
            .held_out
            .iter()
            .all(|clip| clip.place.video == VIDEOS - 1)
    );
    // The same clips told otherwise are other data.
    let digest = clips.digest();
    assert_eq!(read(folder.path(), "shards")?.digest(), digest);
    let other = MotionLaw::from_scores(MotionMeasure::Flow, (1..=9).map(|k| k as f32))?;
    std::fs::remove_dir_all(folder.path().join("videos")).expect("removed");
    shards(folder.path(), &other);
    assert_ne!(read(folder.path(), "shards")?.digest(), digest);
    Ok(())
}

#[test]
fn no_clip_of_a_video_that_is_kept_from_training_is_trained_on() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let law = MotionLaw::from_scores(MotionMeasure::Flow, (1..=20).map(|k| k as f32))?;
    // In the order of the ids the clips of both videos alternate; the last by name is kept.
    let source = |number: usize| ["b.mp4", "a.mp4"][number % 2].to_owned();
    shards_of(folder.path(), &law, source);
    let clips = read(folder.path(), "shards")?;
    let of = |clips: &[Clip], rest: usize| {
        !clips.is_empty() && clips.iter().all(|clip| clip.place.video % 2 == rest)
    };
    assert!(of(&clips.training, 1) && of(&clips.held_out, 0));
    // Every clip of the kept video is there to be looked at, from its beginning.
    assert_eq!(clips.held_out.len(), VIDEOS / 2);
    assert_eq!(clips.trained_videos(), VIDEOS / 2);
    // Another choice of videos is other data, though every clip is told the same.
    let digest = clips.digest();
    std::fs::remove_dir_all(folder.path().join("videos")).expect("removed");
    shards_of(folder.path(), &law, |number| {
        ["a.mp4", "b.mp4"][number % 2].to_owned()
    });
    assert_ne!(read(folder.path(), "shards")?.digest(), digest);
    // Videos are counted and not clips.
    std::fs::remove_dir_all(folder.path().join("videos")).expect("removed");
    shards_of(folder.path(), &law, |_| "a.mp4".to_owned());
    let refusal = read(folder.path(), "shards")
        .expect_err("one video")
        .to_string();
    assert!(
        refusal.contains("more videos behind the clips"),
        "{refusal}"
    );
    assert!(refusal.contains("found 1"), "{refusal}");
    Ok(())
}

#[test]
fn captions_are_told_as_often_as_their_weights_say_and_the_same_after_a_resume() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let law = MotionLaw::from_scores(MotionMeasure::Flow, (1..=20).map(|k| k as f32))?;
    shards(folder.path(), &law);
    let clips = read(folder.path(), "shards")?;
    let order = || Order::new(7, clips.training.len());
    const DRAWS: usize = 20_000;
    let draws = order().draws(&clips, true, 0, DRAWS);
    let told: Vec<&str> = draws
        .iter()
        .map(|draw| clips.caption(draw).expect("a caption"))
        .collect();
    // Each is told of itself.
    for (draw, words) in draws.iter().zip(&told) {
        assert!(words.ends_with(&format!(" {}", draw.clip.place.video)));
    }
    // Three standard deviations of a share p of n draws are 3 √(p (1 − p) / n).
    for (by, p) in [("image", 0.5), ("video", 0.25), ("merged", 0.25)] {
        let found = told.iter().filter(|words| words.starts_with(by)).count();
        let share = found as f64 / DRAWS as f64;
        let most = 3.0 * (p * (1.0 - p) / DRAWS as f64).sqrt();
        assert!((share - p).abs() < most, "{by}: {share}");
    }
    // A clip is told another caption in another epoch, and the same where a run goes on in the middle.
    let first = clips.training.len();
    let later = order().draws(&clips, true, first as u64 + 3, 40);
    let again: Vec<&str> = later
        .iter()
        .filter_map(|draw| clips.caption(draw))
        .collect();
    assert_eq!(again, told[first + 3..][..40]);
    let mut of_one: Vec<&str> = told[..40 * first].to_vec();
    of_one.retain(|words| words.ends_with(" 0"));
    of_one.sort_unstable();
    of_one.dedup();
    assert_eq!(of_one.len(), 3);
    // Neither the mirror nor the noise of a clip depends on it.
    let mut random = Philox::new(7, 3);
    let mirrored = random.next_f32() < 0.5;
    assert_eq!(
        (draws[3].mirrored, draws[3].random.position()),
        (mirrored, 1)
    );
    Ok(())
}

#[test]
fn a_video_without_room_for_a_clip_is_told() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let short = FootageOptions {
        videos: 1,
        shot_secs: 0.15,
        fps: Fps::whole(8).expect("not zero"),
        width: 24,
        height: 16,
        ..FootageOptions::default()
    };
    render_videos(folder.path(), VIDEOS);
    render_footage(&folder.path().join("videos/a"), &short, &mut |_, _| {})?;
    let clips = read(folder.path(), "videos")?;
    let reasons: Vec<&str> = clips.skipped.iter().map(|f| f.reason.as_str()).collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(
        reasons[0].contains("too few for a clip of 3"),
        "{reasons:?}"
    );
    Ok(())
}
