//! The subjects, each drawn in coordinates of its own: frame heights, right and down from its middle,
//! looking to the right.

mod balloon;
mod car;
mod fish;
mod pinwheel;
mod plane;
mod planet;

use super::random::Random;
use crate::drawing::{Color, Place, Point, oklch};
pub(super) use balloon::Balloon;
pub(super) use car::Car;
pub(super) use fish::Fish;
pub(super) use pinwheel::Pinwheel;
pub(super) use plane::Plane;
pub(super) use planet::Planet;

const WHITE: Color = [0.98, 0.98, 0.96];
const DARK: Color = [0.13, 0.14, 0.18];
const GLASS: Color = [0.66, 0.83, 0.93];

/// A colour that stands out, of any hue.
fn vivid(random: &mut Random) -> Color {
    oklch(
        random.between(0.58, 0.72),
        random.between(0.15, 0.2),
        random.between(0.0, 360.0),
    )
}

/// Vivid, but not of the hues of the sea.
fn warm(random: &mut Random) -> Color {
    oklch(
        random.between(0.66, 0.78),
        random.between(0.14, 0.18),
        random.between(-30.0, 110.0),
    )
}

/// One colour all over.
fn flat(color: Color) -> impl Fn(Point) -> Color {
    move |_| color
}

/// The same place at another scale.
fn scaled(place: &Place, size: f32) -> Place {
    Place {
        scale: place.scale * size,
        ..*place
    }
}

/// The place of a part whose origin is at `at` in the drawing's coordinates, turned clockwise as the
/// viewer sees it.
fn part(place: &Place, at: Point, angle_radians: f32) -> Place {
    let side = if place.mirrored { -1.0 } else { 1.0 };
    Place {
        origin: [
            place.origin[0] + side * at[0] * place.scale,
            place.origin[1] + at[1] * place.scale,
        ],
        angle_radians: place.angle_radians + angle_radians,
        ..*place
    }
}
