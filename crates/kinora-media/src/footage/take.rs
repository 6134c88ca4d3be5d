//! What stands between two joins of a file, and how it is joined to what came before.

use super::random::Random;
use super::shot::Shot;
use super::title::Title;
use crate::error::Result;
use crate::fps::Fps;
use crate::image::Rgb8Image;
use serde_json::{Value, json};

/// Length of a dissolve, and of a fade out and of the fade in after it, in seconds.
const JOIN_SECS: f64 = 0.5;

/// A stretch of a file that shows one thing.
#[derive(Clone, Debug)]
pub(super) struct Take {
    pub scene: Scene,
    pub frames: usize,
    /// How it follows the take before it.
    pub join: Join,
}

/// What a take shows.
#[derive(Clone, Debug)]
pub(super) enum Scene {
    /// A subject that moves.
    Moving(Shot),
    /// One moment of a shot, held.
    Held(Shot),
    /// A shot with words across it.
    Captioned(Shot, Title),
    /// Words on a plain ground.
    Title(Title),
}

/// How one take becomes the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    /// From one frame to the next.
    Cut,
    /// Both are seen while one gives way to the other.
    Dissolve,
    /// To black, and up from it.
    Fade,
}

impl Take {
    fn new(scene: Scene, frames: usize, join: Join) -> Take {
        Take {
            scene,
            frames,
            join,
        }
    }

    /// For the metadata of the file.
    pub fn described(&self, first_frame: usize) -> Value {
        let (kind, subject) = match &self.scene {
            Scene::Moving(shot) => ("moving", Some(shot)),
            Scene::Held(shot) => ("held", Some(shot)),
            Scene::Captioned(shot, _) => ("captioned", Some(shot)),
            Scene::Title(_) => ("title", None),
        };
        let join = match self.join {
            Join::Cut => "cut",
            Join::Dissolve => "dissolve",
            Join::Fade => "fade",
        };
        json!({
            "kind": kind, "subject": subject.map(|shot| shot.subject().name()),
            "first_frame": first_frame, "frames": self.frames, "join": join,
        })
    }
}

/// Cuts shots together as they are, one after the other.
pub(super) fn joined_by_cuts(shots: Vec<(Shot, usize)>) -> Vec<Take> {
    let take = |(shot, frames)| Take::new(Scene::Moving(shot), frames, Join::Cut);
    shots.into_iter().map(take).collect()
}

/// The shots as an editor would leave them to someone who looks for clips: of seven files one opens with
/// a title, one has a shot held still and one a shot with words across it, and joins are cuts, dissolves
/// and fades in turn.
pub(super) fn edited(
    shots: Vec<(Shot, usize)>,
    video: usize,
    fps: Fps,
    random: &mut Random,
) -> Vec<Take> {
    let least = frames_of(3.0 * JOIN_SECS, fps);
    let mut takes = Vec::new();
    let mut joins = [Join::Cut, Join::Dissolve, Join::Fade]
        .into_iter()
        .cycle()
        .skip(video);
    let mut push = |scene, frames: usize| {
        let join = joins.next().unwrap_or(Join::Cut);
        takes.push(Take::new(scene, frames.max(least), join));
    };
    if video % 7 == 1 {
        push(Scene::Title(Title::card(random)), frames_of(2.0, fps));
    }
    let last = shots.len() - 1;
    for (number, (shot, frames)) in shots.into_iter().enumerate() {
        match (video % 7, number == last) {
            (3, true) => push(Scene::Held(shot), frames),
            (5, true) => push(Scene::Captioned(shot, Title::caption(random)), frames),
            _ => push(Scene::Moving(shot), frames),
        }
    }
    takes
}

fn frames_of(secs: f64, fps: Fps) -> usize {
    ((secs * fps.as_f64()).round() as usize).max(1)
}

/// The first frame of each take: of a dissolve, the first in which the new one is seen.
pub(super) fn first_frames(takes: &[Take], fps: Fps) -> Vec<usize> {
    let mut next = 0;
    takes
        .iter()
        .enumerate()
        .map(|(number, take)| {
            let first = next - overlap(takes, number, fps);
            next = first + take.frames;
            first
        })
        .collect()
}

/// How many frames a take shares with the one before it.
fn overlap(takes: &[Take], number: usize, fps: Fps) -> usize {
    match takes.get(number) {
        Some(take) if number > 0 && take.join == Join::Dissolve => frames_of(JOIN_SECS, fps),
        _ => 0,
    }
}

/// Gives the pictures of a file to `write`, one by one.
pub(super) fn play(
    takes: &[Take],
    (width, height): (usize, usize),
    fps: Fps,
    write: &mut dyn FnMut(&Rgb8Image) -> Result<()>,
) -> Result<()> {
    let faded = frames_of(JOIN_SECS, fps);
    let fades = |number: usize| {
        let take = takes.get(number);
        number > 0 && take.is_some_and(|take| take.join == Join::Fade)
    };
    // What was held back of the take before, to be seen through the new one.
    let mut leaving: Vec<Rgb8Image> = Vec::new();
    for (number, take) in takes.iter().enumerate() {
        let shared = overlap(takes, number + 1, fps);
        let (comes_up, goes_down) = (fades(number), fades(number + 1));
        let before = std::mem::take(&mut leaving);
        for (index, mut picture) in pictures(take, (width, height), fps).enumerate() {
            let left = take.frames - 1 - index;
            if let Some(old) = before.get(index) {
                let share = (index + 1) as f32 / (before.len() + 1) as f32;
                picture = blended(&picture, Some(old), share);
            }
            for (fading, since_black) in [(comes_up, index), (goes_down, left)] {
                if fading && since_black < faded {
                    picture = blended(&picture, None, since_black as f32 / faded as f32);
                }
            }
            if left < shared {
                leaving.push(picture);
            } else {
                write(&picture)?;
            }
        }
    }
    Ok(())
}

fn pictures(
    take: &Take,
    (width, height): (usize, usize),
    fps: Fps,
) -> Box<dyn Iterator<Item = Rgb8Image> + '_> {
    let times_secs = (0..take.frames).map(move |frame| fps.secs_of(frame));
    match &take.scene {
        Scene::Moving(shot) => Box::new(shot.pictures(width, height, times_secs)),
        Scene::Captioned(shot, title) => {
            let scene = shot.pictures(width, height, times_secs);
            Box::new(scene.map(move |picture| title.across(&picture)))
        }
        Scene::Held(shot) => {
            let middle = fps.secs_of(take.frames / 2);
            let held = shot.pictures(width, height, std::iter::once(middle)).next();
            Box::new(std::iter::repeat_n(held, take.frames).flatten())
        }
        Scene::Title(title) => {
            let card = title.on_a_card(width, height);
            Box::new(std::iter::repeat_n(card, take.frames))
        }
    }
}

/// `share` of one picture, and the rest of another; of black where there is none.
fn blended(new: &Rgb8Image, old: Option<&Rgb8Image>, share: f32) -> Rgb8Image {
    Rgb8Image::from_fn(new.width(), new.height(), |x, y| {
        let under = old.map_or([0; 3], |old| old.pixel(x, y));
        let over = new.pixel(x, y);
        [0, 1, 2].map(|c| {
            let level = f32::from(over[c]) * share + f32::from(under[c]) * (1.0 - share);
            level.round() as u8
        })
    })
}
