//! A pinwheel.

use super::{DARK, WHITE, part, scaled};
use crate::drawing::{Canvas, Color, Place, circle, intersection, mix, oklch, polygon, segment};
use crate::footage::random::Random;
use std::f32::consts::TAU;

/// A toy windmill on a stick.
#[derive(Clone, Debug)]
pub(in crate::footage) struct Pinwheel {
    colors: [Color; 4],
    radius: f32,
}

impl Pinwheel {
    pub fn new(random: &mut Random) -> Pinwheel {
        let hue = random.between(0.0, 360.0);
        let spread = random.between(60.0, 100.0);
        Pinwheel {
            colors: [0.0, 1.0, 2.0, 3.0].map(|n| oklch(0.7, 0.16, hue + n * spread)),
            radius: random.between(0.28, 0.35),
        }
    }

    /// Draws it turned clockwise by `turned` radians, whichever way the shot looks.
    pub fn draw(&self, canvas: &mut Canvas, place: &Place, turned: f32) {
        let place = Place {
            mirrored: false,
            ..scaled(place, self.radius)
        };
        let stick = |p| segment(p, [0.0, 0.0], [0.0, 2.4], 0.045);
        canvas.draw(&place, 2.5, 1.0, stick, |p| {
            mix([0.93, 0.9, 0.85], [0.6, 0.55, 0.5], p[0] * 9.0 + 0.5)
        });
        for (index, &color) in self.colors.iter().enumerate() {
            let wing = part(&place, [0.0; 2], turned + TAU * index as f32 / 4.0);
            // A square of paper folded to the middle: a full front and a darker fold behind it.
            let fold = [[0.0, 0.0], [0.0, -0.98], [-0.36, -0.62]];
            canvas.draw(
                &wing,
                1.1,
                1.0,
                |p| polygon(p, &fold) - 0.015,
                |_| mix(color, DARK, 0.35),
            );
            let front = |p| intersection(circle(p, [-0.03, -0.5], 0.5), 0.005 - p[0]);
            canvas.draw(&wing, 1.1, 1.0, front, |p| mix(color, WHITE, 0.3 * (-p[1])));
        }
        canvas.draw(&place, 0.12, 1.0, |p| circle(p, [0.0; 2], 0.11), |_| WHITE);
        canvas.draw(&place, 0.12, 1.0, |p| circle(p, [0.0; 2], 0.055), |_| DARK);
    }
}
