//! A plane.

use super::{DARK, GLASS, WHITE, flat, scaled, vivid};
use crate::drawing::{
    Canvas, Color, Place, Point, circle, ellipse, intersection, mix, polygon, union,
};
use crate::footage::random::Random;

/// No part of it is farther from its middle.
const REACH: f32 = 0.34;

/// An aeroplane with a propeller.
#[derive(Clone, Debug)]
pub(in crate::footage) struct Plane {
    body: Color,
    wing: Color,
    size: f32,
}

impl Plane {
    pub fn new(random: &mut Random) -> Plane {
        Plane {
            body: if random.coin() { WHITE } else { vivid(random) },
            wing: vivid(random),
            size: random.between(0.9, 1.2),
        }
    }

    /// Draws it with the propeller where it is after `secs`.
    pub fn draw(&self, canvas: &mut Canvas, place: &Place, secs: f32) {
        let place = scaled(place, self.size);
        let fin = [
            [-0.25, -0.02],
            [-0.28, -0.14],
            [-0.22, -0.14],
            [-0.14, -0.03],
        ];
        let fin = |p| polygon(p, &fin) - 0.008;
        canvas.draw(&place, REACH, 1.0, fin, flat(self.wing));
        self.draw_hull(canvas, &place);
        let wing = [[-0.07, 0.02], [0.07, 0.02], [-0.02, 0.13], [-0.11, 0.13]];
        let wing = |p| polygon(p, &wing) - 0.012;
        let shaded = |p: Point| mix(self.wing, DARK, (p[1] * 2.0).clamp(0.0, 0.3));
        canvas.draw(&place, REACH, 1.0, wing, shaded);
        let elevator = [[-0.27, -0.03], [-0.19, -0.03], [-0.25, 0.03], [-0.3, 0.03]];
        let elevator = |p| polygon(p, &elevator) - 0.008;
        canvas.draw(&place, REACH, 1.0, elevator, flat(self.wing));
        // The blade itself is too fast to be seen: a pale disc, seen from the side, that shimmers.
        let blade = 0.03 * (secs * 31.0).sin();
        let disc = |p| ellipse(p, [0.258, 0.0], [0.016, 0.105 + blade]);
        canvas.draw(&place, REACH, 0.5, disc, flat([0.9, 0.92, 0.95]));
        let nose = |p| circle(p, [0.25, 0.0], 0.022);
        canvas.draw(&place, REACH, 1.0, nose, flat(DARK));
    }

    fn draw_hull(&self, canvas: &mut Canvas, place: &Place) {
        let tail = [[-0.27, -0.035], [0.12, -0.062], [0.12, 0.062], [-0.27, 0.0]];
        let front = |p| ellipse(p, [0.12, 0.0], [0.13, 0.072]);
        let hull = |p| union(polygon(p, &tail) - 0.01, front(p));
        let shaded = |p: Point| mix(self.body, DARK, (p[1] * 4.5).clamp(0.0, 0.3));
        canvas.draw(place, REACH, 1.0, hull, shaded);
        let stripe = |p: Point| intersection(hull(p), (p[1] - 0.012).abs() - 0.012);
        canvas.draw(place, REACH, 1.0, stripe, flat(self.wing));
        let dome = |p| ellipse(p, [0.075, -0.05], [0.07, 0.055]);
        let cockpit = |p: Point| intersection(dome(p), p[1] + 0.045);
        let glass = |p: Point| mix(GLASS, WHITE, 0.4 - p[0] * 4.0);
        canvas.draw(place, REACH, 1.0, cockpit, glass);
    }
}
