//! A car.

use super::{DARK, GLASS, WHITE, flat, part, scaled, vivid};
use crate::drawing::{
    Canvas, Color, Place, Point, circle, ellipse, intersection, mix, oklch, polygon, rounded_box,
    segment, union,
};
use crate::footage::random::Random;

/// No part of it is farther from its middle.
const REACH: f32 = 0.32;

/// A car with its bonnet and its lamps in front.
#[derive(Clone, Debug)]
pub(in crate::footage) struct Car {
    body: Color,
    trim: Color,
    size: f32,
    van: bool,
}

impl Car {
    pub fn new(random: &mut Random) -> Car {
        Car {
            body: vivid(random),
            trim: oklch(0.92, 0.02, random.between(0.0, 360.0)),
            size: random.between(0.85, 1.15),
            van: random.coin(),
        }
    }

    /// Where its wheels stand.
    pub fn ground(&self) -> f32 {
        0.86
    }

    /// Draws it after it has come `moved` frame heights, by which its wheels have turned.
    pub fn draw(&self, canvas: &mut Canvas, place: &Place, moved: f32) {
        let place = scaled(place, self.size);
        let shadow = |p| ellipse(p, [0.0, 0.005], [0.24, 0.022]);
        canvas.draw(&place, REACH, 0.35, shadow, flat(DARK));
        self.draw_body(canvas, &place);
        let stripe = |p| rounded_box(p, [0.0, -0.085], [0.215, 0.008], 0.004);
        canvas.draw(&place, REACH, 0.9, stripe, flat(self.trim));
        let lamp = |p| circle(p, [0.208, -0.105], 0.022);
        canvas.draw(&place, REACH, 1.0, lamp, flat([1.0, 0.95, 0.6]));
        let tail = |p| rounded_box(p, [-0.215, -0.105], [0.012, 0.02], 0.006);
        canvas.draw(&place, REACH, 1.0, tail, flat([0.86, 0.12, 0.14]));
        for x in [-0.125, 0.13] {
            self.draw_wheel(canvas, &part(&place, [x, -0.045], 0.0), moved);
        }
    }

    fn draw_body(&self, canvas: &mut Canvas, place: &Place) {
        let roof: [Point; 4] = if self.van {
            [[-0.2, -0.13], [-0.19, -0.27], [0.08, -0.27], [0.14, -0.13]]
        } else {
            [[-0.17, -0.13], [-0.11, -0.23], [0.03, -0.23], [0.1, -0.13]]
        };
        let bonnet = |p| rounded_box(p, [0.0, -0.095], [0.225, 0.052], 0.035);
        let body = |p| union(polygon(p, &roof) - 0.012, bonnet(p));
        let shaded = |p: Point| mix(self.body, DARK, ((p[1] + 0.09) * 4.0).clamp(0.0, 0.3));
        canvas.draw(place, REACH, 1.0, body, shaded);
        let bar = |p| rounded_box(p, [-0.045, -0.2], [0.009, 0.1], 0.0);
        let above_bonnet = |p: Point| intersection(-bar(p), p[1] + 0.14);
        let pane = |p| intersection(polygon(p, &roof) + 0.014, above_bonnet(p));
        let glass = |p: Point| mix(WHITE, GLASS, 0.5 - (p[0] + p[1]) * 3.0);
        canvas.draw(place, REACH, 1.0, pane, glass);
    }

    fn draw_wheel(&self, canvas: &mut Canvas, place: &Place, moved: f32) {
        let radius = 0.052;
        canvas.draw(
            place,
            radius,
            1.0,
            |p| circle(p, [0.0; 2], radius),
            |_| DARK,
        );
        let side = if place.mirrored { -1.0 } else { 1.0 };
        let turned = part(place, [0.0; 2], side * moved / (radius * self.size));
        let spokes = |p: Point| {
            let across = segment(p, [-0.024, 0.0], [0.024, 0.0], 0.007);
            let along = segment(p, [0.0, -0.024], [0.0, 0.024], 0.007);
            let rim = (circle(p, [0.0; 2], 0.029)).abs() - 0.006;
            union(rim, union(across, along))
        };
        canvas.draw(&turned, radius, 1.0, spokes, |_| [0.85, 0.86, 0.88]);
    }
}
