//! Small data for the tests of this crate.

use crate::config::Data;
use kinora_media::{FootageOptions, Fps, render_footage};
use std::path::{Path, PathBuf};

/// Clips of three frames of 24×16.
pub(crate) fn data() -> Data {
    Data {
        width: 24,
        height: 16,
        frames: 3,
        max_fps: 8,
        strides: vec![1, 2],
        disk_gb: 1.0,
        mirror: true,
        held_out: 1,
    }
}

/// Videos of that size, rendered into the folder `videos`.
pub(crate) fn render_videos(folder: &Path, videos: usize) -> Vec<PathBuf> {
    let options = FootageOptions {
        videos,
        width: 24,
        height: 16,
        fps: Fps::whole(8).expect("not zero"),
        shot_secs: 1.0,
        ..FootageOptions::default()
    };
    render_footage(&folder.join("videos"), &options, &mut |_, _| {}).expect("footage")
}
