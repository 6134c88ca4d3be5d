//! One shot: a subject in a scene, and where it is at each moment.
//!
//! Scenes are laid out in units of the frame's height: x runs right from 0 to the frame's width over
//! its height, y down from 0 to 1.

use super::random::Random;
use super::scenery::{Fields, Sea, Sky, Space};
use super::subjects::{Balloon, Car, Fish, Pinwheel, Plane, Planet};
use crate::drawing::{Canvas, Place};
use crate::image::Rgb8Image;
use std::f32::consts::TAU;

/// Each pixel is the mean of this many squared: edges within a shape have no half tones of their own.
const SUPERSAMPLING: usize = 2;

/// What a shot shows, and thereby how it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Drives where it looks.
    Car,
    /// Turns clockwise.
    Pinwheel,
    /// Swims where it looks.
    Fish,
    /// Rises.
    Balloon,
    /// Flies where it looks, followed by the camera: the scene pans.
    Plane,
    /// Comes nearer: the scene zooms.
    Planet,
}

impl Subject {
    /// All of them, in the order in which footage shows them.
    pub const ALL: [Subject; 6] = [
        Subject::Car,
        Subject::Pinwheel,
        Subject::Fish,
        Subject::Balloon,
        Subject::Plane,
        Subject::Planet,
    ];

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Subject::Car => "car",
            Subject::Pinwheel => "pinwheel",
            Subject::Fish => "fish",
            Subject::Balloon => "balloon",
            Subject::Plane => "plane",
            Subject::Planet => "planet",
        }
    }
}

/// A shot, ready to be drawn at any moment.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    backdrop: Backdrop,
    actor: Actor,
    /// Speed as a share of the usual one.
    pace: f32,
    /// Length in seconds, by which paths are laid so that the subject stays in the frame.
    secs: f32,
    /// Whether the subject looks to the left.
    leftward: bool,
    /// Where the subject is at half time, as shares of the frame.
    middle: [f32; 2],
    /// Where in its cycle it starts, 0–1.
    phase: f32,
}

#[derive(Clone, Debug)]
enum Backdrop {
    Road(Sky, Fields),
    Meadow(Sky, Fields),
    Sea(Sea),
    Space(Space),
}

#[derive(Clone, Debug)]
enum Actor {
    Car(Car),
    Pinwheel(Pinwheel),
    Fish(Fish),
    Balloon(Balloon),
    Plane(Plane),
    Planet(Planet),
}

/// Frame heights a second of what moves. Fast enough to be plain in a second of video.
const DRIVE_SPEED: f32 = 0.34;
const SWIM_SPEED: f32 = 0.28;
const RISE_SPEED: f32 = 0.24;
/// The nearest scenery behind the plane; what is farther passes more slowly.
const PAN_SPEED: f32 = 0.42;
const TURN_RADIANS_PER_SEC: f32 = 1.9;
/// The picture grows by a factor of e in the inverse of this many seconds.
const ZOOM_PER_SEC: f32 = 0.45;

impl Shot {
    pub fn new(subject: Subject, random: &mut Random, secs: f32) -> Shot {
        let leftward = random.coin();
        let middle = [random.between(0.4, 0.6), random.between(0.0, 1.0)];
        let (pace, phase) = (random.between(0.9, 1.1), random.between(0.0, 1.0));
        let backdrop = match subject {
            Subject::Car => Backdrop::Road(Sky::new(random), Fields::new(random)),
            Subject::Pinwheel | Subject::Balloon | Subject::Plane => {
                Backdrop::Meadow(Sky::new(random), Fields::new(random))
            }
            Subject::Fish => Backdrop::Sea(Sea::new(random)),
            Subject::Planet => Backdrop::Space(Space::new(random)),
        };
        let actor = match subject {
            Subject::Car => Actor::Car(Car::new(random)),
            Subject::Pinwheel => Actor::Pinwheel(Pinwheel::new(random)),
            Subject::Fish => Actor::Fish(Fish::new(random)),
            Subject::Balloon => Actor::Balloon(Balloon::new(random)),
            Subject::Plane => Actor::Plane(Plane::new(random)),
            Subject::Planet => Actor::Planet(Planet::new(random)),
        };
        Shot {
            backdrop,
            actor,
            pace,
            secs,
            leftward,
            middle,
            phase,
        }
    }

    pub fn subject(&self) -> Subject {
        match self.actor {
            Actor::Car(_) => Subject::Car,
            Actor::Pinwheel(_) => Subject::Pinwheel,
            Actor::Fish(_) => Subject::Fish,
            Actor::Balloon(_) => Subject::Balloon,
            Actor::Plane(_) => Subject::Plane,
            Actor::Planet(_) => Subject::Planet,
        }
    }

    /// The pictures at `times_secs` after the shot's start, one by one.
    pub fn pictures(
        &self,
        width: usize,
        height: usize,
        times_secs: impl Iterator<Item = f64>,
    ) -> impl Iterator<Item = Rgb8Image> {
        let camera_rests = !matches!(self.subject(), Subject::Plane | Subject::Planet);
        let blank = Canvas::filled(width * SUPERSAMPLING, height * SUPERSAMPLING, [0.0; 3]);
        let aspect = width as f32 / height as f32;
        let mut resting = None;
        times_secs.map(move |secs| {
            let moment = Moment {
                secs: secs as f32,
                pixels: blank.height() as f32,
                aspect,
            };
            // Where the camera rests, the backdrop (most of the work) is the same in every picture.
            let drawn = match resting.take() {
                Some(drawn) => drawn,
                None => self.backdrop_at(&moment, blank.clone()),
            };
            let mut canvas = drawn.clone();
            if camera_rests {
                resting = Some(drawn);
            }
            self.draw_actor(&moment, &mut canvas);
            canvas.shrunk(SUPERSAMPLING).to_rgb8()
        })
    }

    fn backdrop_at(&self, moment: &Moment, mut canvas: Canvas) -> Canvas {
        match &self.backdrop {
            Backdrop::Road(sky, fields) => {
                sky.draw(&mut canvas, 0.0);
                fields.draw(&mut canvas, 0.0);
                fields.draw_road(&mut canvas);
            }
            Backdrop::Meadow(sky, fields) => {
                let passed = match self.actor {
                    Actor::Plane(_) => self.moved(moment, PAN_SPEED),
                    _ => 0.0,
                };
                let passed = if self.leftward { -passed } else { passed };
                sky.draw(&mut canvas, passed * 0.6);
                fields.draw(&mut canvas, passed);
                if matches!(self.actor, Actor::Plane(_)) {
                    fields.draw_trees(&mut canvas, passed);
                }
            }
            Backdrop::Sea(sea) => sea.draw(&mut canvas),
            Backdrop::Space(space) => {
                let zoom = self.moved(moment, ZOOM_PER_SEC).exp();
                space.draw(&mut canvas, [0.5 * moment.aspect, 0.5], zoom);
            }
        }
        canvas
    }

    fn draw_actor(&self, moment: &Moment, canvas: &mut Canvas) {
        let [across, down] = self.middle;
        let cycle = |per_sec: f32| (TAU * (self.phase + moment.secs * per_sec)).sin();
        match &self.actor {
            Actor::Car(car) => {
                let moved = self.moved(moment, DRIVE_SPEED);
                let at = [self.along(moment, moved), car.ground()];
                car.draw(canvas, &self.place(moment, at, 1.0), moved);
            }
            Actor::Pinwheel(pinwheel) => {
                let turned = TAU * self.phase + moment.secs * TURN_RADIANS_PER_SEC * self.pace;
                let at = [across * moment.aspect, 0.38 + 0.1 * down];
                pinwheel.draw(canvas, &self.place(moment, at, 1.0), turned);
            }
            Actor::Fish(fish) => {
                let x = self.along(moment, self.moved(moment, SWIM_SPEED));
                let at = [x, 0.32 + 0.3 * down + 0.015 * cycle(0.4)];
                fish.draw(canvas, &self.place(moment, at, 1.0), cycle(1.5));
            }
            Actor::Balloon(balloon) => {
                let y = 0.42 + 0.12 * down - self.moved(moment, RISE_SPEED);
                let at = [(2.0 * across - 0.5) * moment.aspect, y];
                balloon.draw(canvas, &self.place(moment, at, 1.0));
            }
            Actor::Plane(plane) => {
                let at = [0.5 * moment.aspect, 0.36 + 0.12 * down + 0.012 * cycle(0.5)];
                plane.draw(canvas, &self.place(moment, at, 1.0), moment.secs);
            }
            Actor::Planet(planet) => {
                let zoom = self.moved(moment, ZOOM_PER_SEC).exp();
                let off = [0.2 * (across - 0.5), 0.06 * (down - 0.5)];
                let at = [0.5 * moment.aspect + off[0] * zoom, 0.5 + off[1] * zoom];
                planet.draw(canvas, &self.place(moment, at, zoom));
            }
        }
    }

    /// How far something of this speed has come, counted from half time.
    fn moved(&self, moment: &Moment, speed: f32) -> f32 {
        (moment.secs - self.secs / 2.0) * speed * self.pace
    }

    /// Where something is that moves the way it looks.
    fn along(&self, moment: &Moment, moved: f32) -> f32 {
        let middle = self.middle[0] * moment.aspect;
        if self.leftward {
            middle - moved
        } else {
            middle + moved
        }
    }

    fn place(&self, moment: &Moment, [x, y]: [f32; 2], scale: f32) -> Place {
        Place {
            origin: [x * moment.pixels, y * moment.pixels],
            scale: scale * moment.pixels,
            angle_radians: 0.0,
            mirrored: self.leftward,
        }
    }
}

/// The moment and the canvas a shot is drawn for.
struct Moment {
    secs: f32,
    /// Pixels in a frame height.
    pixels: f32,
    /// Width of the frame over its height.
    aspect: f32,
}
