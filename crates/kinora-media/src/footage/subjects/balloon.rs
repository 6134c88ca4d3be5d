//! A balloon.

use super::{DARK, WHITE, scaled, vivid};
use crate::drawing::{
    Canvas, Color, Place, circle, mix, oklch, polygon, rounded_box, segment, union,
};
use crate::footage::random::Random;

/// A hot-air balloon.
#[derive(Clone, Debug)]
pub(in crate::footage) struct Balloon {
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
