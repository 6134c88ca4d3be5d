use super::*;
use crate::footage::{FootageOptions, render_footage};
use crate::image::Rgb8Image;
use crate::metadata::{Metadata, read_metadata};
use crate::writer::Writer;

fn cache_options() -> CacheOptions {
    CacheOptions {
        width: 32,
        height: 24,
        max_fps: 30,
        max_bytes: 100 << 20,
    }
}

/// A video of grey frames, given by their levels.
fn write_levels(path: &Path, fps: u32, levels: &[u8]) {
    let fps = Fps::whole(fps).unwrap();
    let mut writer = Writer::create(path, 32, 24, fps, &Metadata::new()).unwrap();
    for &level in levels {
        writer
            .push(&Rgb8Image::from_fn(32, 24, |_, _| [level; 3]))
            .unwrap();
    }
    writer.finish().unwrap();
}

fn build(videos: &Path, options: &CacheOptions) -> Result<ClipCache> {
    let cache = videos.parent().unwrap().join("cache");
    ClipCache::build(&VideoFolder::open(videos)?, &cache, options, &|_, _| ())
}

fn folder_of_videos() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let videos = folder.path().join("videos");
    std::fs::create_dir(&videos).unwrap();
    (folder, videos)
}

#[test]
fn clips_lie_within_shots_and_hold_their_frames() {
    let (_folder, videos) = folder_of_videos();
    // Two shots of 10 and 8 frames; a frame's level says which it is.
    let levels: Vec<u8> = (0..10)
        .map(|i| 20 + 2 * i)
        .chain((0..8).map(|i| 180 + 2 * i))
        .collect();
    write_levels(&videos.join("b.mp4"), 12, &levels);
    write_levels(&videos.join("a.mp4"), 10, &[90; 5]);
    let cache = build(&videos, &cache_options()).unwrap();
    assert_eq!(cache.videos()[1].shots, [0..10, 10..18]);
    assert_eq!(
        (cache.videos()[0].frames, cache.videos()[0].fps),
        (5, Fps::whole(10).unwrap())
    );
    let index = cache.clips(3, 2).unwrap();
    assert_eq!(index.len(), 1 + 6 + 4);
    let starts: Vec<_> = (0..11)
        .map(|n| index.get(n))
        .map(|c| (c.video, c.start))
        .collect();
    assert_eq!(starts[0], (0, 0));
    assert_eq!(starts[6..8], [(1, 5), (1, 10)]);
    let data = cache.read(&index.get(6)).unwrap();
    assert_eq!(data.len(), 3 * 24 * 32 * 3);
    for (frame, level) in data.chunks(24 * 32 * 3).zip([30, 34, 38]) {
        assert!(
            frame.iter().all(|byte: &u8| byte.abs_diff(level) <= 2),
            "{}",
            frame[0]
        );
    }
    let refusal = cache.clips(6, 2).unwrap_err().to_string();
    assert!(
        refusal.contains("span 11") && refusal.contains("longest shot has 10"),
        "{refusal}"
    );
    let outside = Clip {
        video: 1,
        start: 14,
        stride: 2,
        frames: 3,
    };
    assert!(cache.read(&outside).is_err());
}

#[test]
fn the_second_time_nothing_is_decoded_and_a_changed_source_is() {
    let (folder, videos) = folder_of_videos();
    let path = videos.join("a.mp4");
    write_levels(&path, 12, &[50; 6]);
    build(&videos, &cache_options()).unwrap();
    let listing = || {
        let entries = std::fs::read_dir(folder.path().join("cache")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let names = listing();
    assert_eq!(names.len(), 2);
    // A byte changed in the cache shows that the frames come from there.
    let frames_path = names
        .iter()
        .find(|name| name.ends_with(".rgb") || name.extension().unwrap() == "rgb");
    let frames_path = frames_path.unwrap();
    let mut bytes = std::fs::read(frames_path).unwrap();
    bytes[0] = 201;
    std::fs::write(frames_path, &bytes).unwrap();
    let cache = build(&videos, &cache_options()).unwrap();
    let first = cache.read(&cache.clips(1, 1).unwrap().get(0)).unwrap();
    assert_eq!(first[0], 201);
    // A cache cut short is made again, and so is one of another source or size.
    std::fs::write(frames_path, &bytes[..100]).unwrap();
    let cache = build(&videos, &cache_options()).unwrap();
    assert!(cache.read(&cache.clips(1, 1).unwrap().get(0)).unwrap()[0] < 60);
    write_levels(&path, 12, &[220; 7]);
    let cache = build(&videos, &cache_options()).unwrap();
    assert!(cache.read(&cache.clips(7, 1).unwrap().get(0)).unwrap()[0] > 200);
    assert!(listing().len() > 2);
}

#[test]
fn unusable_files_are_named_with_their_reasons() {
    let (_folder, videos) = folder_of_videos();
    write_levels(&videos.join("good.mp4"), 12, &[50; 6]);
    std::fs::write(videos.join("empty.mp4"), b"").unwrap();
    std::fs::write(
        videos.join("README.md"),
        b"# About these videos\n\nfrom somewhere\n",
    )
    .unwrap();
    std::fs::write(videos.join(".hidden"), b"x").unwrap();
    std::fs::create_dir(videos.join("more")).unwrap();
    write_levels(&videos.join("more/deep.webm"), 12, &[50; 6]);
    let cache = build(&videos, &cache_options()).unwrap();
    assert_eq!(cache.videos().len(), 2);
    let skipped: Vec<_> = cache
        .skipped()
        .iter()
        .map(|file| file.path.file_name().unwrap())
        .collect();
    assert_eq!(skipped, ["README.md", "empty.mp4"]);
    assert!(cache.skipped()[1].reason.contains("empty"));
    std::fs::remove_file(videos.join("good.mp4")).unwrap();
    std::fs::remove_dir_all(videos.join("more")).unwrap();
    let refusal = build(&videos, &cache_options()).unwrap_err().to_string();
    assert!(refusal.contains("none of 2 files"), "{refusal}");
    assert!(VideoFolder::open(&videos.join("nowhere")).is_err());
}

#[test]
fn the_disk_has_a_limit() {
    let (_folder, videos) = folder_of_videos();
    write_levels(&videos.join("a.mp4"), 12, &[50; 6]);
    let narrow = CacheOptions {
        max_bytes: 5 * 32 * 24 * 3,
        ..cache_options()
    };
    let refusal = build(&videos, &narrow).unwrap_err().to_string();
    assert!(refusal.contains("allow more"), "{refusal}");
    build(&videos, &cache_options()).unwrap();
}

#[test]
fn fast_videos_are_thinned_by_a_whole_number() {
    let rate = |fps: &str, most| thinned(fps.parse().unwrap(), most).to_string();
    assert_eq!(rate("24", 30), "24");
    assert_eq!(rate("60", 30), "30");
    assert_eq!(rate("60000/1001", 30), "30000/1001");
    assert_eq!(rate("50", 30), "25");
    assert_eq!(rate("100", 30), "25");
}

#[test]
fn the_cuts_of_our_own_footage_are_found_and_no_others() {
    let (_folder, videos) = folder_of_videos();
    let footage = FootageOptions {
        videos: 12,
        width: 64,
        height: 64,
        shot_secs: 1.0,
        ..FootageOptions::default()
    };
    let paths = render_footage(&videos, &footage, &mut |_, _| ()).unwrap();
    let cache = build(&videos, &cache_options()).unwrap();
    for (path, cached) in paths.iter().zip(cache.videos()) {
        let metadata = read_metadata(path).unwrap().unwrap();
        let shots = metadata["shots"].as_array().unwrap();
        let starts: Vec<u64> = shots
            .iter()
            .map(|shot| shot["first_frame"].as_u64().unwrap())
            .collect();
        let found: Vec<u64> = cached.shots.iter().map(|shot| shot.start as u64).collect();
        assert_eq!(found, starts, "{}", path.display());
    }
}
