//! Our own letters: strokes on a small grid, drawn as lines with round ends, so that one table serves
//! every size and no font file is needed.
//!
//! A glyph is a list of strokes; a stroke a list of points, each two digits in base 36: right from 0,
//! down from 0 (top of the capitals) over 4 (top of the small letters) to 12 (the line they stand on)
//! and 16 (the depth of g). A stroke that starts with `~` is a smooth curve through its points.

use super::canvas::Canvas;
use super::color::Color;
use super::distance::Point;

/// Height of the capitals on the grid.
const CAPITAL: f32 = 12.0;
/// Room after a glyph on the grid.
const GAP: f32 = 3.2;
/// Width of a blank on the grid.
const BLANK: f32 = 4.0;

/// A glyph's strokes.
fn strokes(letter: char) -> &'static str {
    match letter {
        'A' => "0c408c 1878",
        'B' => "000c 0040 ~4061736546 0646 ~4667897b4c 0c4c",
        'C' => "~82603012061a3c6c8a",
        'D' => "000c 0030 ~306184886b3c 0c3c",
        'E' => "70000c7c 0656",
        'F' => "70000c 0656",
        'G' => "~82603012061a3c6c8a 8a8757",
        'H' => "000c 808c 0686",
        'I' => "000c",
        'J' => "6068 ~686a5b3c1b09",
        'K' => "000c 8007 358c",
        'L' => "000c7c",
        'M' => "0c005aa0ac",
        'N' => "0c008c80",
        'O' => "~4072867a4c1a061240",
        'P' => "0c00 0040 ~4061736647 0747",
        'Q' => "~4072867a4c1a061240 598d",
        'R' => "0c00 0040 ~4061736647 0747 377c",
        'S' => "~725020032557795c2c0a",
        'T' => "0080 404c",
        'U' => "0008 ~081b4c7b88 8880",
        'V' => "004c80",
        'W' => "002c538ca0",
        'X' => "008c 800c",
        'Y' => "004680 464c",
        'Z' => "00800c8c",
        'a' => "~3455685b3c1b081534 646c",
        'b' => "000c ~3455685b3c1b081534",
        'c' => "~553415081b3c5b",
        'd' => "606c ~3455685b3c1b081534",
        'e' => "0868 ~68553415081b3c6b",
        'f' => "~50302326 262c 0444",
        'g' => "~3455685b3c1b081534 646c ~6c5f3g0f",
        'h' => "000c ~0724446668 686c",
        'i' => "040c 0101",
        'j' => "242d ~2d1f0g 2121",
        'k' => "000c 5409 276c",
        'l' => "000c",
        'm' => "040c ~0715345658 585c ~576584a6a8 a8ac",
        'n' => "040c ~0724446668 686c",
        'o' => "~3455685b3c1b081534",
        'p' => "040g ~3455685b3c1b081534",
        'q' => "646g ~3455685b3c1b081534",
        'r' => "040c ~08153444",
        's' => "~5534151738595b3c0b",
        't' => "212a ~2a2b3c5c 0454",
        'u' => "0408 ~080a2c4c69 646c",
        'v' => "043c64",
        'w' => "042c456c84",
        'x' => "046c 640c",
        'y' => "043c 641g",
        'z' => "04640c6c",
        '0' => "~3052665a3c1a061230",
        '1' => "03303c",
        '2' => "~031130516356 560c6c",
        '3' => "~022040634626 ~2647694c2c0a",
        '4' => "500878 505c",
        '5' => "601005 ~053466694c2c0a",
        '6' => "~501308 ~081b3c5b6856351608",
        '7' => "00602c",
        '8' => "~305163553615031130 ~3657695b3c1b091736",
        '9' => "~645130110416375664 ~64591c",
        '.' => "0c0c",
        ',' => "1c0e",
        ':' => "0606 0c0c",
        ';' => "1606 1c0e",
        '-' => "0747",
        '–' | '—' => "0777",
        '+' => "343a 0767",
        '=' => "0565 0969",
        '/' => "600c",
        '|' => "000c",
        '(' => "~301306193c",
        ')' => "~002336290c",
        '[' => "20000c2c",
        ']' => "00202c0c",
        '<' => "64076a",
        '>' => "04670a",
        '%' => "801c ~2042240220 ~789a7c5a78",
        '!' => "0008 0c0c",
        '?' => "~022040625537 3738 3c3c",
        '\'' | '’' => "0003",
        '"' => "0003 3033",
        '_' => "0c6c",
        '*' => "323a 0468 6408",
        '×' => "165a 561a",
        '#' => "201c 706c 0484 0888",
        '·' => "0707",
        '…' => "0c0c 3c3c 6c6c",
        '→' => "0787 548759",
        _ => "00600c6c0c00",
    }
}

/// The polylines of a glyph on the grid.
fn outline(letter: char) -> Vec<Vec<Point>> {
    let digit = |byte: u8| (byte as char).to_digit(36).unwrap_or(0) as f32;
    let mut lines = Vec::new();
    for stroke in strokes(letter).split(' ') {
        let smooth = stroke.strip_prefix('~');
        let points: Vec<Point> = smooth
            .unwrap_or(stroke)
            .as_bytes()
            .chunks(2)
            .map(|pair| [digit(pair[0]), digit(pair[1])])
            .collect();
        lines.push(if smooth.is_some() {
            smoothed(&points)
        } else {
            points
        });
    }
    lines
}

/// A Catmull–Rom curve through the points; closed when the last is the first.
fn smoothed(points: &[Point]) -> Vec<Point> {
    const PIECES: usize = 6;
    let count = points.len();
    let closed = points.first() == points.last();
    let at = |index: isize| {
        if closed {
            points[index.rem_euclid(count as isize - 1) as usize]
        } else {
            points[index.clamp(0, count as isize - 1) as usize]
        }
    };
    let mut curve = vec![points[0]];
    for i in 0..count as isize - 1 {
        let [before, from, to, after] = [at(i - 1), at(i), at(i + 1), at(i + 2)];
        for piece in 1..=PIECES {
            let t = piece as f32 / PIECES as f32;
            curve.push([0, 1].map(|axis| {
                let (a, b, c, d) = (before[axis], from[axis], to[axis], after[axis]);
                let slope = c - a;
                let bend = 2.0 * a - 5.0 * b + 4.0 * c - d;
                let twist = 3.0 * (b - c) + d - a;
                b + 0.5 * t * (slope + t * (bend + t * twist))
            }));
        }
    }
    curve
}

/// Width of a glyph on the grid, without the gap after it.
fn glyph_width(letter: char) -> f32 {
    if letter == ' ' {
        return BLANK;
    }
    let points = outline(letter).into_iter().flatten();
    points.map(|[x, _]| x).fold(0.0, f32::max)
}

/// Width in pixels of a text whose capitals are `height` pixels high.
pub(crate) fn text_width(text: &str, height: f32) -> f32 {
    let grid: f32 = text.chars().map(|letter| glyph_width(letter) + GAP).sum();
    (grid - GAP).max(0.0) * height / CAPITAL
}

/// How a text is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    /// Height of the capitals, pixels.
    pub height: f32,
    /// Width of the strokes, pixels.
    pub weight: f32,
    /// Colour of the strokes.
    pub color: Color,
}

impl Text {
    /// Sets a line whose capitals have their top left corner at `corner`.
    pub fn draw(&self, canvas: &mut Canvas, text: &str, corner: Point) {
        let scale = self.height / CAPITAL;
        let mut left = corner[0];
        for letter in text.chars() {
            if letter != ' ' {
                for line in outline(letter) {
                    let line: Vec<Point> = line
                        .into_iter()
                        .map(|[x, y]| [left + x * scale, corner[1] + y * scale])
                        .collect();
                    canvas.stroke(&line, self.weight, self.color, 1.0);
                }
            }
            left += (glyph_width(letter) + GAP) * scale;
        }
    }

    /// Sets a line whose middle is at `middle_x`.
    pub fn draw_centered(&self, canvas: &mut Canvas, text: &str, middle_x: f32, top: f32) {
        let left = middle_x - text_width(text, self.height) / 2.0;
        self.draw(canvas, text, [left, top]);
    }

    /// Sets a line that ends at `right`.
    pub fn draw_ending(&self, canvas: &mut Canvas, text: &str, right: f32, top: f32) {
        self.draw(canvas, text, [right - text_width(text, self.height), top]);
    }

    /// The text, cut with an ellipsis to fit in `width` pixels.
    pub fn fitted(&self, text: &str, width: f32) -> String {
        if text_width(text, self.height) <= width {
            return text.to_owned();
        }
        let mut kept: Vec<char> = text.chars().collect();
        while kept.pop().is_some() {
            let shortened: String = kept.iter().chain(&['…']).collect();
            if text_width(&shortened, self.height) <= width {
                return shortened;
            }
        }
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_letter_has_a_shape_of_its_own() {
        let unknown = strokes('\u{1}');
        let letters = ('a'..='z')
            .chain('A'..='Z')
            .chain('0'..='9')
            .chain(".,:;-+=/()[]<>%!?'\"_*#×·…→".chars());
        for letter in letters {
            assert_ne!(strokes(letter), unknown, "{letter}");
            for [x, y] in outline(letter).into_iter().flatten() {
                assert!(
                    (-0.8..=11.0).contains(&x) && (-0.8..=16.8).contains(&y),
                    "{letter}: {x} {y}"
                );
            }
        }
    }

    #[test]
    fn a_curve_passes_through_its_points() {
        let points = [[0.0, 0.0], [3.0, 1.0], [4.0, 5.0], [0.0, 0.0]];
        let curve = smoothed(&points);
        assert!(points.iter().all(|p| {
            curve
                .iter()
                .any(|q| (p[0] - q[0]).abs() + (p[1] - q[1]).abs() < 1e-5)
        }));
    }

    #[test]
    fn a_text_lies_within_its_width_and_is_cut_to_fit() {
        let text = Text {
            height: 12.0,
            weight: 1.5,
            color: [1.0; 3],
        };
        let width = text_width("Kinora 24 fps", 12.0);
        let mut canvas = Canvas::filled(width as usize + 20, 30, [0.0; 3]);
        text.draw(&mut canvas, "Kinora 24 fps", [10.0, 8.0]);
        let picture = canvas.to_rgb8();
        let inked = |x: usize| (0..30).any(|y| picture.pixel(x, y)[0] > 0);
        assert!(!(0..8).any(inked) && (9..12).any(inked));
        assert!(!(picture.width() - 7..picture.width()).any(inked));
        assert_eq!(text.fitted("short", 500.0), "short");
        let cut = text.fitted("a rather long caption", 60.0);
        assert!(cut.ends_with('…') && text_width(&cut, 12.0) <= 60.0);
        assert_eq!(text.fitted("anything", 0.0), "");
    }
}
