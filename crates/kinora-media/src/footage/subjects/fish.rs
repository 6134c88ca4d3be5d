//! A fish.

use super::{DARK, WHITE, flat, part, scaled, warm};
use crate::drawing::{
    Canvas, Color, Place, Point, circle, ellipse, mix, oklch, polygon, segment, union,
};
use crate::footage::random::Random;

/// No part of it is farther from its middle.
const REACH: f32 = 0.22;

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
        self.draw_fins(canvas, &place, side * beat);
        let body = |p| ellipse(p, [0.0, 0.0], [0.17, 0.095]);
        canvas.draw(&place, REACH, 1.0, body, |p| self.skin(p));
        let flipper = part(&place, [0.01, 0.025], side * (0.6 + 0.25 * beat));
        let leaf = |p| ellipse(p, [-0.03, 0.0], [0.042, 0.02]);
        canvas.draw(&flipper, REACH, 1.0, leaf, flat(self.fin_color()));
        let eye = |p| circle(p, [0.105, -0.022], 0.027);
        canvas.draw(&place, REACH, 1.0, eye, flat(WHITE));
        let pupil = |p| circle(p, [0.112, -0.022], 0.014);
        canvas.draw(&place, REACH, 1.0, pupil, flat(DARK));
        let mouth = |p| segment(p, [0.145, 0.03], [0.125, 0.035], 0.006);
        canvas.draw(&place, REACH, 0.8, mouth, flat(DARK));
    }

    fn draw_fins(&self, canvas: &mut Canvas, place: &Place, swing: f32) {
        let tail = part(place, [-0.14, 0.0], 0.3 * swing);
        let fan = [[0.02, 0.0], [-0.1, -0.095], [-0.075, 0.0], [-0.1, 0.095]];
        let fan = |p| polygon(p, &fan) - 0.012;
        canvas.draw(&tail, REACH, 1.0, fan, flat(self.fin_color()));
        let above = [[-0.09, -0.06], [-0.05, -0.14], [0.03, -0.13], [0.06, -0.06]];
        let below = [[-0.06, 0.06], [-0.07, 0.13], [0.0, 0.09]];
        let fins = |p| union(polygon(p, &above), polygon(p, &below)) - 0.008;
        canvas.draw(place, REACH, 1.0, fins, flat(self.fin_color()));
    }

    fn fin_color(&self) -> Color {
        mix(self.body, DARK, 0.22)
    }

    /// Stripes behind the head, and a pale belly.
    fn skin(&self, p: Point) -> Color {
        let wave = (p[0] * self.stripes + 6.0 * p[1] * p[1] + 0.6).sin();
        let behind_head = if p[0] < 0.075 { 1.0 } else { 0.0 };
        let striped = (wave * 4.0 - 1.2).clamp(0.0, 1.0) * behind_head;
        let color = mix(self.body, self.stripe, 0.85 * striped);
        mix(color, WHITE, (p[1] * 4.0).clamp(0.0, 0.35))
    }
}
