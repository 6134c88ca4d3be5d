//! A fish.

use super::{DARK, WHITE, part, scaled, warm};
use crate::drawing::{Canvas, Color, Place, circle, ellipse, mix, oklch, polygon, segment, union};
use crate::footage::random::Random;

/// A fish with stripes.
#[derive(Clone, Debug)]
pub(in crate::footage) struct Fish {
    body: Color,
    stripe: Color,
    stripes: f32,
    size: f32,
}

impl Fish {
    pub fn new(random: &mut Random) -> Fish {
        Fish {
            body: warm(random),
            stripe: if random.coin() {
                WHITE
            } else {
                oklch(0.4, 0.12, random.between(240.0, 330.0))
            },
            stripes: random.between(28.0, 44.0),
            size: random.between(0.85, 1.2),
        }
    }

    /// Draws it with its tail swung by `beat`, -1 to 1.
    pub fn draw(&self, canvas: &mut Canvas, place: &Place, beat: f32) {
        let place = scaled(place, self.size);
        let side = if place.mirrored { -1.0 } else { 1.0 };
        let tail = part(&place, [-0.14, 0.0], side * 0.3 * beat);
        let fan = [[0.02, 0.0], [-0.1, -0.095], [-0.075, 0.0], [-0.1, 0.095]];
        let fin_color = mix(self.body, DARK, 0.22);
        canvas.draw(
            &tail,
            0.16,
            1.0,
            |p| polygon(p, &fan) - 0.012,
            |_| fin_color,
        );
        let fins = [
            [-0.09, -0.06],
            [-0.05, -0.145],
            [0.03, -0.13],
            [0.06, -0.06],
        ];
        let below = [[-0.06, 0.06], [-0.07, 0.13], [0.0, 0.09]];
        let fins = |p| union(polygon(p, &fins), polygon(p, &below)) - 0.008;
        canvas.draw(&place, 0.2, 1.0, fins, |_| fin_color);
        canvas.draw(
            &place,
            0.2,
            1.0,
            |p| ellipse(p, [0.0, 0.0], [0.17, 0.095]),
            |p| {
                let wave = (p[0] * self.stripes + 6.0 * p[1] * p[1] + 0.6).sin();
                let striped =
                    (wave * 4.0 - 1.2).clamp(0.0, 1.0) * if p[0] < 0.075 { 1.0 } else { 0.0 };
                let color = mix(self.body, self.stripe, 0.85 * striped);
                mix(color, WHITE, (p[1] * 4.0).clamp(0.0, 0.35))
            },
        );
        let flipper = part(&place, [0.01, 0.025], side * (0.6 + 0.25 * beat));
        canvas.draw(
            &flipper,
            0.1,
            1.0,
            |p| ellipse(p, [-0.03, 0.0], [0.042, 0.02]),
            |_| fin_color,
        );
        canvas.draw(
            &place,
            0.2,
            1.0,
            |p| circle(p, [0.105, -0.022], 0.027),
            |_| WHITE,
        );
        canvas.draw(
            &place,
            0.2,
            1.0,
            |p| circle(p, [0.112, -0.022], 0.014),
            |_| DARK,
        );
        let mouth = |p| segment(p, [0.145, 0.03], [0.125, 0.035], 0.006);
        canvas.draw(&place, 0.2, 0.8, mouth, |_| DARK);
    }
}
