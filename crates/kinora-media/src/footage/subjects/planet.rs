//! A planet.

use super::{DARK, WHITE, flat, scaled};
use crate::drawing::{Canvas, Color, Place, Point, circle, ellipse, intersection, mix, oklch};
use crate::footage::random::Random;

/// No part of it is farther from its middle.
const REACH: f32 = 1.9;

/// A planet, banded, some with a ring.
#[derive(Clone, Debug)]
pub(in crate::footage) struct Planet {
    colors: [Color; 2],
    bands: f32,
    tilt: f32,
    ringed: bool,
    radius: f32,
}

impl Planet {
    pub fn new(random: &mut Random) -> Planet {
        let hue = random.between(0.0, 360.0);
        Planet {
            colors: [
                oklch(random.between(0.6, 0.7), 0.13, hue),
                oklch(
                    random.between(0.76, 0.86),
                    0.1,
                    hue + random.between(-70.0, 70.0),
                ),
            ],
            bands: random.between(5.0, 9.0),
            tilt: random.between(-0.5, 0.5),
            ringed: random.coin(),
            radius: random.between(0.17, 0.21),
        }
    }

    pub fn draw(&self, canvas: &mut Canvas, place: &Place) {
        let place = Place {
            angle_radians: self.tilt,
            mirrored: false,
            ..scaled(place, self.radius)
        };
        let inner = |p| ellipse(p, [0.0; 2], [1.38, 0.36]);
        let ring = |p| intersection(ellipse(p, [0.0; 2], [1.75, 0.5]), -inner(p));
        let ring_color = |p: Point| mix(self.colors[1], WHITE, 0.35 + 0.1 * p[0]);
        if self.ringed {
            canvas.draw(&place, REACH, 0.85, ring, ring_color);
        } else {
            let air = |p| circle(p, [0.0; 2], 1.12);
            canvas.draw(&place, REACH, 0.16, air, flat(self.colors[1]));
        }
        let ball = |p| circle(p, [0.0; 2], 1.0);
        canvas.draw(&place, REACH, 1.0, ball, |p| self.ground(p));
        if self.ringed {
            // The near half passes in front.
            let near = |p: Point| intersection(ring(p), -p[1]);
            canvas.draw(&place, REACH, 0.9, near, ring_color);
        }
    }

    /// Bands that bend with the ball, lit from the upper left.
    fn ground(&self, p: Point) -> Color {
        let bend = p[1] / (1.0 - 0.35 * p[0] * p[0]).max(0.3);
        let banded = 0.5 + 0.5 * (bend * self.bands + 0.5 * (p[0] * 3.0).sin()).sin();
        let color = mix(self.colors[0], self.colors[1], banded);
        let night = ((p[0] * 0.75 + p[1] * 0.55) * 0.75).clamp(-0.3, 0.62);
        if night < 0.0 {
            mix(color, WHITE, -night * 0.6)
        } else {
            mix(color, DARK, night)
        }
    }
}
