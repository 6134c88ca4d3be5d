use super::*;
use crate::testing::{data, render_videos};
use kinora_media::{
    CaptionWeights, ClipRow, FootageOptions, Fps, ShardClip, ShardOptions, ShardWriter,
    render_footage,
};

/// So many small videos.
const VIDEOS: usize = 6;

fn read(folder: &Path, name: &str) -> Result<Clips> {
    let cache = folder.join("frames");
    Clips::read(&folder.join(name), &cache, &data(), &mut |_, _| {})
}

/// The videos as the clips of shards, scored in falling order.
fn shards(folder: &Path, law: &MotionLaw) {
    let paths = render_videos(folder, VIDEOS);
    let (options, weights) = (ShardOptions::default(), CaptionWeights::default());
    let mut writer =
        ShardWriter::create(&folder.join("shards"), &options, &weights).expect("a folder");
    for (number, media) in paths.iter().enumerate() {
        let info = kinora_media::probe(media).expect("a video");
        let score = (paths.len() - number) as f32;
        let row = ClipRow {
            clip_id: format!("clip{number:02}"),
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
