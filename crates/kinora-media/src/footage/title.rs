//! Words on the screen, as films and broadcasts have them.

use super::random::Random;
use crate::drawing::{Canvas, Color, Text, mix, oklch, text_width};
use crate::image::Rgb8Image;

/// Drawn at this many times the size and shrunk: letters get even edges.
const SUPERSAMPLING: usize = 2;

/// A few lines of large letters.
#[derive(Clone, Debug)]
pub(super) struct Title {
    lines: &'static [&'static str],
    ground: [Color; 2],
    ink: Color,
}

const CARDS: [&[&str]; 4] = [
    &["THE LONG", "ROAD HOME"],
    &["PART TWO", "The Harbour"],
    &["A FILM", "BY NOBODY"],
    &["SUMMER", "HOLIDAY"],
];
const CAPTIONS: [&[&str]; 3] = [&["EVENING NEWS"], &["BREAKING NEWS"], &["LIVE REPORT"]];

impl Title {
    /// For a card that shows nothing else.
    pub fn card(random: &mut Random) -> Title {
        let hue = random.between(0.0, 360.0);
        Title {
            lines: CARDS[random.below(CARDS.len())],
            ground: [oklch(0.28, 0.06, hue), oklch(0.18, 0.04, hue + 40.0)],
            ink: oklch(0.96, 0.02, hue + 180.0),
        }
    }

    /// For a band across the lower part of a scene.
    pub fn caption(random: &mut Random) -> Title {
        let hue = random.between(0.0, 360.0);
        Title {
            lines: CAPTIONS[random.below(CAPTIONS.len())],
            ground: [oklch(0.3, 0.1, hue), oklch(0.22, 0.08, hue)],
            ink: [1.0; 3],
        }
    }

    /// The words alone, in the middle of the picture.
    pub fn on_a_card(&self, width: usize, height: usize) -> Rgb8Image {
        let (width, height) = (width * SUPERSAMPLING, height * SUPERSAMPLING);
        let mut canvas = Canvas::filled(width, height, self.ground[0]);
        canvas.paint(|p, above| mix(above, self.ground[1], p[1] / height as f32));
        let middle = height as f32 / 2.0;
        self.write(&mut canvas, [middle * 0.5, middle * 1.5]);
        canvas.shrunk(SUPERSAMPLING).to_rgb8()
    }

    /// The words on a band across the lower third of a picture.
    pub fn across(&self, picture: &Rgb8Image) -> Rgb8Image {
        let (width, height) = (picture.width(), picture.height());
        let sides = [width * SUPERSAMPLING, height * SUPERSAMPLING];
        let mut canvas = Canvas::filled(sides[0], sides[1], [0.0; 3]);
        let scale = SUPERSAMPLING as f32;
        let [top, bottom] = [0.68, 0.94].map(|share| share * sides[1] as f32);
        canvas.paint(|p, _| {
            if (top..bottom).contains(&p[1]) {
                return mix(
                    self.ground[0],
                    self.ground[1],
                    (p[1] - top) / (bottom - top),
                );
            }
            let [x, y] = [p[0] / scale, p[1] / scale].map(|side| side as usize);
            picture
                .pixel(x.min(width - 1), y.min(height - 1))
                .map(|level| f32::from(level) / 255.0)
        });
        self.write(&mut canvas, [top, bottom]);
        canvas.shrunk(SUPERSAMPLING).to_rgb8()
    }

    /// Sets the lines as large as they go between two heights, with room around them.
    fn write(&self, canvas: &mut Canvas, [top, bottom]: [f32; 2]) {
        let pitch = (bottom - top) / self.lines.len() as f32;
        let room = canvas.width() as f32 * 0.84;
        let widest = self.lines.iter().map(|line| text_width(line, 1.0));
        let height = (pitch * 0.55).min(room / widest.fold(f32::EPSILON, f32::max));
        let text = Text {
            height,
            weight: height * 0.16,
            color: self.ink,
        };
        for (number, line) in self.lines.iter().enumerate() {
            let line_top = top + pitch * number as f32 + (pitch - height) / 2.0;
            text.draw_centered(canvas, line, canvas.width() as f32 / 2.0, line_top);
        }
    }
}
