//! A plane.

use super::{DARK, GLASS, WHITE, scaled, vivid};
use crate::drawing::{
    Canvas, Color, Place, Point, circle, ellipse, intersection, mix, polygon, union,
};
use crate::footage::random::Random;

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
        let reach = 0.34;
        let fin = [
            [-0.25, -0.02],
            [-0.285, -0.14],
            [-0.225, -0.14],
            [-0.14, -0.03],
        ];
        canvas.draw(
            &place,
            reach,
            1.0,
            |p| polygon(p, &fin) - 0.008,
            |_| self.wing,
        );
        let hull = |p: Point| {
            let tail = [[-0.27, -0.035], [0.12, -0.062], [0.12, 0.062], [-0.27, 0.0]];
            union(
                polygon(p, &tail) - 0.01,
                ellipse(p, [0.12, 0.0], [0.13, 0.072]),
            )
        };
        canvas.draw(&place, reach, 1.0, hull, |p| {
            mix(self.body, DARK, (p[1] * 4.5).clamp(0.0, 0.3))
        });
        let stripe = |p| intersection(hull(p), (p[1] - 0.012).abs() - 0.012);
        canvas.draw(&place, reach, 1.0, stripe, |_| self.wing);
        let cockpit =
            |p: Point| intersection(ellipse(p, [0.075, -0.05], [0.07, 0.055]), p[1] + 0.045);
        canvas.draw(&place, reach, 1.0, cockpit, |p| {
            mix(GLASS, WHITE, -p[0] * 4.0 + 0.4)
        });
        let wing = [[-0.07, 0.02], [0.07, 0.02], [-0.02, 0.13], [-0.11, 0.13]];
        canvas.draw(
            &place,
            reach,
            1.0,
            |p| polygon(p, &wing) - 0.012,
            |p| mix(self.wing, DARK, (p[1] * 2.0).clamp(0.0, 0.3)),
        );
        let elevator = [[-0.27, -0.03], [-0.19, -0.03], [-0.25, 0.03], [-0.3, 0.03]];
        canvas.draw(
            &place,
            reach,
            1.0,
            |p| polygon(p, &elevator) - 0.008,
            |_| self.wing,
        );
        // The blade itself is too fast to be seen: a pale disc, seen from the side, that shimmers.
        let blade = 0.03 * (secs * 31.0).sin();
        let disc = |p| ellipse(p, [0.258, 0.0], [0.016, 0.105 + blade]);
        canvas.draw(&place, reach, 0.5, disc, |_| [0.9, 0.92, 0.95]);
        canvas.draw(
            &place,
            reach,
            1.0,
            |p| circle(p, [0.25, 0.0], 0.022),
            |_| DARK,
        );
    }
}
