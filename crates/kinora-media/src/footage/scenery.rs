//! What is behind the subjects. Everything is a function of the place, so that a camera may pan and
//! zoom over it without end.

use super::random::Random;
use crate::drawing::{Canvas, Color, Place, Point, circle, mix, oklch, rounded_box, union};

/// Smooth noise of about unit grain, 0–1.
fn noise([x, y]: Point, key: u32) -> f32 {
    let corner = |x: i32, y: i32| {
        let mut hash =
            (x as u32).wrapping_mul(0x8da6_b343) ^ (y as u32).wrapping_mul(0xd816_3841) ^ key;
        hash = (hash ^ (hash >> 15)).wrapping_mul(0x2c1b_3c6d);
        hash = (hash ^ (hash >> 12)).wrapping_mul(0x297a_2d39);
        ((hash ^ (hash >> 15)) >> 8) as f32 / (1 << 24) as f32
    };
    let (left, top) = (x.floor(), y.floor());
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (right, down) = (ease(x - left), ease(y - top));
    let (left, top) = (left as i32, top as i32);
    let row = |y| corner(left, y) + (corner(left + 1, y) - corner(left, y)) * right;
    row(top) + (row(top + 1) - row(top)) * down
}

/// From pixels to frame heights.
fn unit(p: Point, pixels: f32) -> Point {
    [p[0] / pixels, p[1] / pixels]
}

/// A sky with clouds and a sun.
#[derive(Clone, Debug)]
pub(super) struct Sky {
    top: Color,
    horizon: Color,
    sun: Point,
    sun_color: Color,
    clouds: [Point; 3],
    key: u32,
}

impl Sky {
    pub fn new(random: &mut Random) -> Sky {
        // Noon, morning, evening, dusk: hues above and at the horizon.
        let moods = [
            (0.70, 0.12, 245.0, 0.92, 0.045, 220.0),
            (0.74, 0.09, 225.0, 0.94, 0.06, 95.0),
            (0.62, 0.12, 285.0, 0.87, 0.10, 55.0),
            (0.55, 0.13, 265.0, 0.83, 0.10, 20.0),
        ];
        let (light, chroma, hue, low_light, low_chroma, low_hue) = moods[random.below(moods.len())];
        let turn = random.between(-12.0, 12.0);
        let cloud = |random: &mut Random, index: usize| {
            let x = (index as f32 + random.between(0.1, 0.9)) * 0.6;
            [x, random.between(0.08, 0.34)]
        };
        Sky {
            top: oklch(light, chroma, hue + turn),
            horizon: oklch(low_light, low_chroma, low_hue + turn),
            sun: [random.between(0.12, 0.88), random.between(0.12, 0.4)],
            sun_color: oklch(0.95, 0.09, 95.0),
            clouds: [0, 1, 2].map(|index| cloud(random, index)),
            key: random.below(1 << 30) as u32,
        }
    }

    /// Draws it with the clouds `passed` frame heights to the left; the sun is too far to move.
    pub fn draw(&self, canvas: &mut Canvas, passed: f32) {
        let pixels = canvas.height() as f32;
        canvas.paint(|p, _| {
            let [x, y] = unit(p, pixels);
            let haze = 0.05 * (noise([x * 3.0 + 50.0, y * 5.0], self.key) - 0.5);
            mix(self.top, self.horizon, y / 0.72 + haze)
        });
        let sun = Place {
            origin: [self.sun[0] * canvas.width() as f32, self.sun[1] * pixels],
            scale: pixels,
            angle_radians: 0.0,
            mirrored: false,
        };
        for (radius, opacity) in [(0.13, 0.18), (0.1, 0.25), (0.07, 1.0)] {
            canvas.draw(
                &sun,
                radius,
                opacity,
                |p| circle(p, [0.0; 2], radius),
                |_| self.sun_color,
            );
        }
        self.draw_clouds(canvas, pixels, passed);
    }

    /// Clouds come round again after 1.8 frame heights, with room to leave the frame unseen.
    fn draw_clouds(&self, canvas: &mut Canvas, pixels: f32, passed: f32) {
        const ROUND: f32 = 1.8;
        let laps = (canvas.width() as f32 / pixels / ROUND).ceil() as i32;
        for &[x, y] in &self.clouds {
            for lap in 0..=laps {
                let x = (x - passed).rem_euclid(ROUND) - 0.25 + lap as f32 * ROUND;
                let place = Place {
                    origin: [x * pixels, y * pixels],
                    scale: pixels,
                    angle_radians: 0.0,
                    mirrored: false,
                };
                canvas.draw(&place, 0.2, 0.85, cloud_distance, |p| {
                    mix([1.0; 3], self.horizon, 0.25 + p[1] * 4.0)
                });
            }
        }
    }
}

fn cloud_distance(p: Point) -> f32 {
    let base = rounded_box(p, [0.0, 0.03], [0.14, 0.025], 0.025);
    let left = circle(p, [-0.055, 0.012], 0.045);
    let right = circle(p, [0.04, 0.0], 0.058);
    union(base, union(left, right))
}

/// Hills, and a meadow before them.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    far: Color,
    near: Color,
    grass: Color,
    horizon: f32,
    phases: [f32; 3],
    key: u32,
}

impl Fields {
    pub fn new(random: &mut Random) -> Fields {
        let hue = random.between(125.0, 160.0);
        Fields {
            far: oklch(
                random.between(0.62, 0.7),
                0.06,
                hue + random.between(20.0, 90.0),
            ),
            near: oklch(random.between(0.55, 0.62), 0.1, hue),
            grass: oklch(random.between(0.66, 0.76), 0.13, hue - 12.0),
            horizon: random.between(0.6, 0.66),
            phases: [0, 1, 2].map(|_| random.between(0.0, 6.3)),
            key: random.below(1 << 30) as u32,
        }
    }

    /// Draws them `passed` frame heights to the left, the farther hills by less.
    pub fn draw(&self, canvas: &mut Canvas, passed: f32) {
        let pixels = canvas.height() as f32;
        let tops: Vec<[f32; 3]> = (0..canvas.width())
            .map(|column| self.tops((column as f32 + 0.5) / pixels, passed))
            .collect();
        canvas.paint(|p, color| {
            let [x, y] = unit(p, pixels);
            let [far, near, meadow] = tops[p[0] as usize];
            let over = |top: f32| ((y - top) * pixels + 0.5).clamp(0.0, 1.0);
            if over(meadow) < 1.0 {
                let color = mix(mix(color, self.far, over(far)), self.near, over(near));
                return mix(color, self.grass, over(meadow));
            }
            let grain = noise([(x + passed) * 7.0, y * 16.0], self.key) - 0.5;
            let light = 0.16 * grain - 0.35 * (y - 0.85);
            self.grass.map(|c| c * (1.0 + light))
        });
    }

    /// Where the far hills, the near hills and the meadow begin in a column.
    fn tops(&self, x: f32, passed: f32) -> [f32; 3] {
        let [a, b, c] = self.phases;
        let ridge = |x: f32, rise: f32, a: f32, b: f32| {
            rise * (0.6 * (x * 3.7 + a).sin() + 0.4 * (x * 7.9 + b).sin())
        };
        [
            self.horizon - 0.07 + ridge(x + 0.45 * passed, 0.07, a, b),
            self.horizon + 0.02 + ridge(x + 0.75 * passed, 0.05, b, c),
            self.horizon + 0.12 + ridge(x + passed, 0.012, c, a),
        ]
    }

    /// Trees along the meadow's edge, `passed` frame heights to the left.
    pub fn draw_trees(&self, canvas: &mut Canvas, passed: f32) {
        const APART: f32 = 0.34;
        let pixels = canvas.height() as f32;
        let frame_width = canvas.width() as f32 / pixels;
        let first = (passed / APART).floor() as i32 - 1;
        let last = ((passed + frame_width) / APART).ceil() as i32 + 1;
        for index in first..=last {
            let chance = |salt: f32| noise([index as f32, salt], self.key);
            let x = (index as f32 + 0.7 * chance(1.0)) * APART - passed;
            let place = Place {
                origin: [
                    x * pixels,
                    (self.horizon + 0.15 + 0.1 * chance(2.0)) * pixels,
                ],
                scale: (0.75 + 0.6 * chance(3.0)) * pixels,
                angle_radians: 0.0,
                mirrored: false,
            };
            let trunk = |p| rounded_box(p, [0.0, -0.02], [0.009, 0.03], 0.003);
            canvas.draw(&place, 0.2, 1.0, trunk, |_| [0.42, 0.3, 0.22]);
            let dark = mix(self.near, [0.08, 0.2, 0.12], 0.35 + 0.3 * chance(4.0));
            let crown = |p| {
                let lower = circle(p, [0.0, -0.08], 0.05);
                union(lower, circle(p, [0.0, -0.12], 0.036))
            };
            canvas.draw(&place, 0.2, 1.0, crown, |p| {
                mix(dark, self.grass, -(p[0] + p[1] + 0.1) * 7.0)
            });
        }
    }

    /// A road before them.
    pub fn draw_road(&self, canvas: &mut Canvas) {
        let pixels = canvas.height() as f32;
        let (asphalt, edge, line) = ([0.36, 0.37, 0.42], [0.83, 0.82, 0.78], [0.95, 0.93, 0.85]);
        canvas.paint(|p, color| {
            let [x, y] = unit(p, pixels);
            let within = |middle: f32, half: f32| {
                ((half - (y - middle).abs()) * pixels + 0.5).clamp(0.0, 1.0)
            };
            let dash = if (x * 3.2 + self.phases[0]).rem_euclid(1.0) < 0.55 {
                1.0
            } else {
                0.0
            };
            let color = mix(color, edge, within(0.87, 0.098));
            let color = mix(color, asphalt, within(0.87, 0.085));
            mix(color, line, within(0.895, 0.009) * dash)
        });
    }
}

/// Under water: light from above, sand and weeds below.
#[derive(Clone, Debug)]
pub(super) struct Sea {
    top: Color,
    deep: Color,
    sand: Color,
    weed: Color,
    weeds: [f32; 4],
    phase: f32,
    key: u32,
}

impl Sea {
    pub fn new(random: &mut Random) -> Sea {
        let hue = random.between(200.0, 250.0);
        let hue_of_weed = random.between(120.0, 175.0);
        Sea {
            top: oklch(random.between(0.76, 0.85), 0.1, hue - 10.0),
            deep: oklch(random.between(0.4, 0.5), 0.11, hue + 15.0),
            sand: oklch(random.between(0.74, 0.82), 0.07, random.between(60.0, 90.0)),
            weed: oklch(random.between(0.5, 0.6), 0.12, hue_of_weed),
            weeds: [0, 1, 2, 3].map(|_| random.between(0.03, 0.97)),
            phase: random.between(0.0, 6.3),
            key: random.below(1 << 30) as u32,
        }
    }

    pub fn draw(&self, canvas: &mut Canvas) {
        let pixels = canvas.height() as f32;
        canvas.paint(|p, _| {
            let [x, y] = unit(p, pixels);
            let beam = (noise([(x - 0.35 * y) * 7.0 + self.phase, 0.5], self.key) - 0.45).max(0.0);
            let water = mix(self.top, self.deep, y / 0.95);
            let water = mix(water, [1.0; 3], 0.5 * beam * (0.8 - y).max(0.0));
            let floor = 0.84 + 0.02 * (x * 5.0 + self.phase).sin();
            let grain = 0.14 * (noise([x * 12.0, y * 26.0], self.key) - 0.5);
            let sand = self.sand.map(|c| c * (1.0 + grain - 0.6 * (y - 0.86)));
            mix(water, sand, ((y - floor) * pixels + 0.5).clamp(0.0, 1.0))
        });
        for (index, x) in self.weeds.iter().enumerate() {
            let height = 0.1 + 0.045 * index as f32;
            let place = Place {
                origin: [x * canvas.width() as f32, 0.9 * pixels],
                scale: pixels,
                angle_radians: 0.0,
                mirrored: index % 2 == 1,
            };
            let leaf = |p: Point| {
                let bend = 0.025 * (p[1] * 22.0).sin();
                let taper = 0.02 * (1.0 + p[1] / height).max(0.05);
                ((p[0] - bend).abs() - taper).max(-p[1] - height).max(p[1])
            };
            canvas.draw(&place, height + 0.05, 0.9, leaf, |p| {
                mix(self.weed, self.top, (-p[1] / height) * 0.35)
            });
        }
    }
}

/// Space with stars that part as one flies.
#[derive(Clone, Debug)]
pub(super) struct Space {
    inner: Color,
    outer: Color,
    stars: Vec<[f32; 3]>,
}

impl Space {
    pub fn new(random: &mut Random) -> Space {
        let hue = random.between(250.0, 330.0);
        let star = |random: &mut Random| {
            let (angle, away) = (random.between(0.0, 6.3), random.between(0.0, 1.0));
            [
                angle.cos() * away,
                angle.sin() * away,
                random.between(0.008, 0.016),
            ]
        };
        Space {
            inner: oklch(random.between(0.3, 0.38), 0.1, hue),
            outer: oklch(0.16, 0.05, hue - 30.0),
            stars: (0..22).map(|_| star(random)).collect(),
        }
    }

    /// Draws it magnified by `zoom` about `middle` (frame heights).
    pub fn draw(&self, canvas: &mut Canvas, middle: Point, zoom: f32) {
        let pixels = canvas.height() as f32;
        canvas.paint(|p, _| {
            let [x, y] = unit(p, pixels);
            let away = (x - middle[0]).hypot(y - middle[1]);
            mix(self.inner, self.outer, away / 0.75)
        });
        for &[x, y, radius] in &self.stars {
            let place = Place {
                origin: [
                    (middle[0] + x * zoom) * pixels,
                    (middle[1] + y * zoom) * pixels,
                ],
                scale: pixels,
                angle_radians: 0.0,
                mirrored: false,
            };
            canvas.draw(
                &place,
                radius * 2.0,
                0.25,
                |p| circle(p, [0.0; 2], radius * 1.8),
                |_| [1.0; 3],
            );
            canvas.draw(
                &place,
                radius,
                1.0,
                |p| circle(p, [0.0; 2], radius),
                |_| [1.0, 0.98, 0.92],
            );
        }
    }
}
