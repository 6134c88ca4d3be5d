//! Footage of our own: short videos of a few shots each, joined by hard cuts, to train and test on
//! where there is no footage at hand. Edited, it has what curation is to find and to leave out: titles,
//! shots held still, words across a scene, dissolves and fades.
//!
//! What comes next can be told from a still: a car, a fish and a plane go where they look, a pinwheel
//! turns clockwise, a balloon rises, a planet comes nearer. The plane is followed by the camera, so
//! its shots pan; the planet's shots zoom. Colours, sizes, places and scenery vary with the seed. The
//! same options give the same frames, and with the same ffmpeg the same files.

mod random;
mod scenery;
mod shot;
mod subjects;
mod take;
mod title;

use crate::error::{Error, Result};
use crate::fps::Fps;
use crate::image::Rgb8Image;
use crate::metadata::Metadata;
use crate::writer::Writer;
use random::Random;
use shot::Shot;
pub use shot::Subject;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use take::Take;

/// What footage to render.
#[derive(Clone, Debug)]
pub struct FootageOptions {
    /// Number of files.
    pub videos: usize,
    /// Seed of everything that varies.
    pub seed: u64,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Frame rate.
    pub fps: Fps,
    /// Length of a shot in seconds; each is up to a tenth longer or shorter.
    pub shot_secs: f64,
    /// Whether it is edited as a broadcast is, with titles, dissolves, fades and shots held still, and
    /// not only cut.
    pub edited: bool,
}

impl Default for FootageOptions {
    fn default() -> Self {
        FootageOptions {
            videos: 48,
            seed: 0,
            width: 96,
            height: 96,
            fps: Fps::whole(24).expect("24 is not zero"),
            shot_secs: 2.4,
            edited: false,
        }
    }
}

/// Numbers that keep the draws of different things apart.
const PLAN_STREAM: u64 = 1;
const HELD_OUT_STREAM: u64 = 2;
const EDIT_STREAM: u64 = 3;

/// Renders the videos into a folder, which is made where it does not exist, on all cores. `progress`
/// is told how many of how many are done. Gives back their paths in order. Each file says in its
/// metadata which subject each shot shows and where it starts.
///
/// # Errors
/// When an option makes no sense, ffmpeg is not installed, or a file cannot be written.
pub fn render_footage(
    folder: &Path,
    options: &FootageOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<PathBuf>> {
    check_options(options)?;
    std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    let paths: Vec<PathBuf> = (0..options.videos)
        .map(|index| folder.join(format!("footage_{index:03}.mp4")))
        .collect();
    let next = AtomicUsize::new(0);
    let (send, done) = channel();
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..workers.min(options.videos) {
            let (send, next, paths) = (send.clone(), &next, &paths);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(path) = paths.get(index) else { return };
                    if send.send(render_video(path, index, options)).is_err() {
                        return; // nobody waits any more: another video has failed
                    }
                }
            });
        }
        drop(send);
        for (count, outcome) in done.into_iter().enumerate() {
            outcome?;
            progress(count + 1, options.videos);
        }
        Ok(())
    })?;
    Ok(paths)
}

fn check_options(options: &FootageOptions) -> Result<()> {
    let sides = 16..=4096;
    if !sides.contains(&options.width) || !sides.contains(&options.height) {
        return Err(Error::argument(
            "footage",
            format!(
                "expected a size from 16×16 to 4096×4096, found {}×{}",
                options.width, options.height
            ),
        ));
    }
    if !(0.1..=600.0).contains(&options.shot_secs) {
        return Err(Error::argument(
            "footage",
            format!(
                "expected shots of 0.1 s to 600 s, found {} s",
                options.shot_secs
            ),
        ));
    }
    Ok(())
}

fn render_video(path: &Path, index: usize, options: &FootageOptions) -> Result<()> {
    let takes = takes_of_video(index, options);
    let first_frames = take::first_frames(&takes, options.fps);
    let described = takes.iter().zip(first_frames);
    let shots: Vec<_> = described
        .map(|(take, first)| take.described(first))
        .collect();
    let mut metadata = Metadata::new();
    metadata.insert("made_by".into(), "kinora footage".into());
    metadata.insert("seed".into(), options.seed.into());
    metadata.insert("video".into(), index.into());
    metadata.insert("shots".into(), shots.into());
    let size = (options.width, options.height);
    let mut writer = Writer::create(path, size.0, size.1, options.fps, &metadata)?;
    take::play(&takes, size, options.fps, &mut |picture| {
        writer.push(picture)
    })?;
    writer.finish()
}

fn takes_of_video(index: usize, options: &FootageOptions) -> Vec<Take> {
    let shots = plan_video(index, options);
    if !options.edited {
        return take::joined_by_cuts(shots);
    }
    let mut random = Random::new(options.seed, (EDIT_STREAM << 56) | index as u64);
    take::edited(shots, index, options.fps, &mut random)
}

/// One to three shots. Subjects follow one another in a fixed turn through the whole footage, so that
/// each kind has its share however few the videos.
fn plan_video(index: usize, options: &FootageOptions) -> Vec<(Shot, usize)> {
    let count_of = |video: usize| 1 + video % 3;
    let before: usize = (0..index).map(count_of).sum();
    (0..count_of(index))
        .map(|number| {
            let stream = (PLAN_STREAM << 56) | (before + number) as u64;
            let mut random = Random::new(options.seed, stream);
            let subject = Subject::ALL[(before + number) % Subject::ALL.len()];
            let secs = options.shot_secs * f64::from(random.between(0.9, 1.1));
            let frames = ((secs * options.fps.as_f64()).round() as usize).max(1);
            (Shot::new(subject, &mut random, secs as f32), frames)
        })
        .collect()
}

/// A shot that no file of [`render_footage`] holds, whatever its options: its first frame is a still
/// to be continued, the rest its true continuation. Shots with other `index` are others.
///
/// # Errors
/// When an option makes no sense.
pub fn render_held_out_shot(
    subject: Subject,
    index: u64,
    frames: usize,
    options: &FootageOptions,
) -> Result<Vec<Rgb8Image>> {
    check_options(options)?;
    let mut random = Random::new(options.seed, (HELD_OUT_STREAM << 56) | index);
    let secs = options.fps.secs_of(frames) as f32;
    let shot = Shot::new(subject, &mut random, secs);
    Ok(pictures(&shot, frames, options).collect())
}

fn pictures(
    shot: &Shot,
    frames: usize,
    options: &FootageOptions,
) -> impl Iterator<Item = Rgb8Image> {
    let times_secs = (0..frames).map(|frame| options.fps.secs_of(frame));
    shot.pictures(options.width, options.height, times_secs)
}

#[cfg(test)]
#[path = "footage/tests.rs"]
mod tests;
