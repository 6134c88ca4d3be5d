use super::*;
use crate::testing::{data, render_videos};

/// The clips of two small videos, and the folder that holds them.
fn clips() -> (tempfile::TempDir, Clips) {
    let folder = tempfile::tempdir().expect("a folder");
    render_videos(folder.path(), 2);
    let cache = folder.path().join("frames");
    let videos = folder.path().join("videos");
    let clips = Clips::read(&videos, &cache, &data(), &mut |_, _| {}).expect("clips");
    (folder, clips)
}

#[test]
fn an_epoch_shows_every_clip_once_and_epochs_differ() {
    let order = Order::new(3, 100);
    let epoch = |order: &Order, number: u64| -> Vec<usize> {
        (number * 100..(number + 1) * 100)
            .map(|k| order.at(k))
            .collect()
    };
    for number in [0, 1, 5] {
        let mut seen = epoch(&order, number);
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }
    assert_ne!(epoch(&order, 0), epoch(&order, 1));
    assert_ne!(epoch(&order, 0), epoch(&Order::new(4, 100), 0));
}

#[test]
fn a_clip_does_not_depend_on_the_clips_before_it() -> Result<()> {
    let (_folder, clips) = clips();
    let order = || Order::new(3, clips.training.len());
    let mut together = order().draws(&clips, true, 0, 20);
    let mut alone = order().draws(&clips, true, 13, 2);
    assert_eq!(together[13].clip, alone[0].clip);
    assert_eq!(together[13].mirrored, alone[0].mirrored);
    let together = normal(&mut together[13..15], &[4, 2])?;
    assert_eq!(together.to_vec(), normal(&mut alone, &[4, 2])?.to_vec());
    Ok(())
}

#[test]
fn strides_are_told_as_rates_and_held_out_videos_are_kept_apart() {
    let (_folder, clips) = clips();
    for clip in &clips.training {
        assert_eq!(clip.place.video, 0);
        assert_eq!(clip.fps, 8.0 / clip.place.stride as f32);
    }
    assert!(clips.training.iter().any(|clip| clip.place.stride == 2));
    // The second video has two shots, and each is looked at from its beginning.
    assert_eq!(clips.held_out.len(), clips.videos()[1].shots.len());
    assert!(clips.held_out.iter().all(|clip| clip.place.video == 1));
}

#[test]
fn a_mirrored_row_is_turned_around_pixel_by_pixel() {
    let mut bytes = Vec::new();
    extend(
        &mut bytes,
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
        2,
        true,
    );
    assert_eq!(bytes, [4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9]);
}

#[test]
fn a_crop_is_a_square_of_the_frame() -> Result<()> {
    let (_folder, clips) = clips();
    let mut draws = vec![Draw::plain(clips.training[0])];
    let whole = frames(&clips, &draws, 3)?.to_vec();
    let crop = cropped_frames(&clips, &mut draws, 5)?;
    assert_eq!(crop.dims(), [1, 3, 5, 5, 3]);
    let crop = crop.to_vec();
    // The place that was drawn is found by its first row, and all rows are below it in every frame.
    let row = |at: usize| &whole[at..at + 15];
    let places = (0..12 * 20).map(|k| 3 * (k / 20 * 24 + k % 20));
    let fits = |at: &usize| {
        (0..15).all(|k| crop[k * 15..][..15] == *row(at + k / 5 * (16 * 24 * 3) + k % 5 * 72))
    };
    assert!(places.into_iter().any(|at| fits(&at)));
    Ok(())
}

#[test]
fn places_reach_both_ends() {
    let mut random = Philox::new(1, 0);
    let found: Vec<usize> = (0..200).map(|_| place(&mut random, 3)).collect();
    assert!((0..=3).all(|expected| found.contains(&expected)));
    assert!(found.iter().all(|place| *place <= 3));
}
