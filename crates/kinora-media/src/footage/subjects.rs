//! The subjects, each drawn in coordinates of its own: frame heights, right and down from its middle,
//! looking to the right.

use super::random::Random;
use crate::drawing::{
    Canvas, Color, Place, Point, circle, ellipse, intersection, mix, oklch, polygon, rounded_box,
    segment, union,
};
use std::f32::consts::TAU;

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

/// A car with its bonnet and its lamps in front.
#[derive(Clone, Debug)]
pub(super) struct Car {
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
        let reach = 0.32;
        let shadow = |p| ellipse(p, [0.0, 0.005], [0.24, 0.022]);
        canvas.draw(&place, reach, 0.35, shadow, |_| DARK);
        let roof: [Point; 4] = if self.van {
            [[-0.2, -0.13], [-0.19, -0.27], [0.08, -0.27], [0.14, -0.13]]
        } else {
            [
                [-0.17, -0.13],
                [-0.11, -0.235],
                [0.03, -0.235],
                [0.1, -0.13],
            ]
        };
        let cabin = |p| polygon(p, &roof) - 0.012;
        let bonnet = |p| rounded_box(p, [0.0, -0.095], [0.225, 0.052], 0.035);
        canvas.draw(
            &place,
            reach,
            1.0,
            |p| union(cabin(p), bonnet(p)),
            |p| mix(self.body, DARK, ((p[1] + 0.09) * 4.0).clamp(0.0, 0.3)),
        );
        let pane = |p: Point| {
            let bar = rounded_box(p, [-0.045, -0.2], [0.009, 0.1], 0.0);
            intersection(polygon(p, &roof) + 0.014, intersection(-bar, p[1] + 0.14))
        };
        canvas.draw(&place, reach, 1.0, pane, |p| {
            mix(WHITE, GLASS, 0.5 - (p[0] + p[1]) * 3.0)
        });
        let stripe = |p| rounded_box(p, [0.0, -0.085], [0.215, 0.008], 0.004);
        canvas.draw(&place, reach, 0.9, stripe, |_| self.trim);
        let lamp = |p| circle(p, [0.208, -0.105], 0.022);
        canvas.draw(&place, reach, 1.0, lamp, |_| [1.0, 0.95, 0.6]);
        let tail = |p| rounded_box(p, [-0.215, -0.105], [0.012, 0.02], 0.006);
        canvas.draw(&place, reach, 1.0, tail, |_| [0.86, 0.12, 0.14]);
        for x in [-0.125, 0.13] {
            self.draw_wheel(canvas, &part(&place, [x, -0.045], 0.0), moved);
        }
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

/// A toy windmill on a stick.
#[derive(Clone, Debug)]
pub(super) struct Pinwheel {
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

/// A fish with stripes.
#[derive(Clone, Debug)]
pub(super) struct Fish {
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

/// A hot-air balloon.
#[derive(Clone, Debug)]
pub(super) struct Balloon {
    colors: [Color; 2],
    gores: f32,
    size: f32,
}

impl Balloon {
    pub fn new(random: &mut Random) -> Balloon {
        let second = if random.coin() {
            WHITE
        } else {
            oklch(0.85, 0.13, random.between(60.0, 110.0))
        };
        Balloon {
            colors: [vivid(random), second],
            gores: random.between(5.5, 8.5),
            size: random.between(0.85, 1.15),
        }
    }

    pub fn draw(&self, canvas: &mut Canvas, place: &Place) {
        let place = scaled(place, self.size);
        for x in [-0.045, 0.045] {
            let rope = |p| segment(p, [x * 1.6, 0.13], [x, 0.245], 0.004);
            canvas.draw(&place, 0.32, 1.0, rope, |_| DARK);
        }
        let basket = |p| rounded_box(p, [0.0, 0.265], [0.048, 0.032], 0.01);
        canvas.draw(&place, 0.32, 1.0, basket, |p| {
            mix(
                [0.66, 0.45, 0.25],
                [0.45, 0.28, 0.15],
                (p[1] - 0.235) * 14.0,
            )
        });
        let skirt = [[-0.155, 0.06], [0.155, 0.06], [0.06, 0.185], [-0.06, 0.185]];
        let envelope = |p| union(circle(p, [0.0, -0.02], 0.185), polygon(p, &skirt) - 0.012);
        canvas.draw(&place, 0.32, 1.0, envelope, |p| {
            // Stripes narrow towards the rim, as on a ball seen from the side.
            let half = (0.2_f32.powi(2) - (p[1] + 0.02).powi(2).min(0.036))
                .max(0.001)
                .sqrt();
            let around = (p[0] / half).clamp(-1.0, 1.0).asin();
            let striped = ((around * self.gores).sin() * 5.0).clamp(-0.5, 0.5) + 0.5;
            let color = mix(self.colors[0], self.colors[1], striped);
            let light = ((-p[0] - p[1]) * 1.1).clamp(-0.25, 0.22);
            if light > 0.0 {
                mix(color, WHITE, light)
            } else {
                mix(color, DARK, -light)
            }
        });
    }
}

/// An aeroplane with a propeller.
#[derive(Clone, Debug)]
pub(super) struct Plane {
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

/// A planet, banded, some with a ring.
#[derive(Clone, Debug)]
pub(super) struct Planet {
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
        let ring = |p: Point| {
            let outer = ellipse(p, [0.0; 2], [1.75, 0.5]);
            intersection(outer, -ellipse(p, [0.0; 2], [1.38, 0.36]))
        };
        let ring_color = |p: Point| mix(self.colors[1], WHITE, 0.35 + 0.2 * (p[0] * 0.5));
        if self.ringed {
            canvas.draw(&place, 1.9, 0.85, ring, ring_color);
        } else {
            canvas.draw(
                &place,
                1.2,
                0.16,
                |p| circle(p, [0.0; 2], 1.12),
                |_| self.colors[1],
            );
        }
        canvas.draw(
            &place,
            1.1,
            1.0,
            |p| circle(p, [0.0; 2], 1.0),
            |p| {
                // Bands bend with the ball; the light comes from the upper left.
                let bend = p[1] / (1.0 - 0.35 * p[0] * p[0]).max(0.3);
                let banded = 0.5 + 0.5 * (bend * self.bands + 0.5 * (p[0] * 3.0).sin()).sin();
                let color = mix(self.colors[0], self.colors[1], banded);
                let night = ((p[0] * 0.75 + p[1] * 0.55) * 0.75).clamp(-0.3, 0.62);
                if night < 0.0 {
                    mix(color, WHITE, -night * 0.6)
                } else {
                    mix(color, DARK, night)
                }
            },
        );
        if self.ringed {
            // The near half passes in front.
            canvas.draw(
                &place,
                1.9,
                0.9,
                |p| intersection(ring(p), -p[1]),
                ring_color,
            );
        }
    }
}
