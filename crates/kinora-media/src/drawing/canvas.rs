//! A picture to draw on.

use super::color::{Color, mix};
use super::distance::Point;
use crate::image::Rgb8Image;

/// An f32 picture. Pixel (i, j) covers the square from (i, j) to (i + 1, j + 1).
#[derive(Clone, Debug)]
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Color>,
}

/// Where and how a drawing in coordinates of its own stands on a canvas.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Where the drawing's origin comes to stand, pixels.
    pub origin: Point,
    /// Pixels in one unit of the drawing.
    pub scale: f32,
    /// By how much it is turned clockwise.
    pub angle_radians: f32,
    /// Whether left and right change places.
    pub mirrored: bool,
}

impl Place {
    /// The map from the canvas to the drawing's own coordinates; its sine and cosine are taken once.
    fn local_from_canvas(&self) -> impl Fn(Point) -> Point {
        let Place {
            origin,
            scale,
            angle_radians,
            mirrored,
        } = *self;
        let (sin, cos) = angle_radians.sin_cos();
        let (sin, cos) = (sin / scale, cos / scale);
        let side = if mirrored { -1.0 } else { 1.0 };
        move |p| {
            let (x, y) = (p[0] - origin[0], p[1] - origin[1]);
            [side * (x * cos + y * sin), y * cos - x * sin]
        }
    }
}

impl Canvas {
    /// One colour everywhere.
    pub fn filled(width: usize, height: usize, color: Color) -> Canvas {
        Canvas {
            width,
            height,
            pixels: vec![color; width * height],
        }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Gives every pixel a colour by the place of its middle and the colour it has.
    pub fn paint(&mut self, color: impl Fn(Point, Color) -> Color) {
        for (index, pixel) in self.pixels.iter_mut().enumerate() {
            let (x, y) = (index % self.width, index / self.width);
            *pixel = color([x as f32 + 0.5, y as f32 + 0.5], *pixel);
        }
    }

    /// Lays a colour over a shape. `bounds` (left, top, right, bottom, pixels) must hold the shape;
    /// `distance` is its signed distance in pixels, from which the edge gets its half tones.
    pub fn fill(
        &mut self,
        bounds: [f32; 4],
        opacity: f32,
        distance: impl Fn(Point) -> f32,
        color: impl Fn(Point) -> Color,
    ) {
        let clip = |value: f32, most: usize| value.clamp(0.0, most as f32) as usize;
        let (left, right) = (
            clip(bounds[0] - 1.0, self.width),
            clip(bounds[2] + 2.0, self.width),
        );
        let (top, bottom) = (
            clip(bounds[1] - 1.0, self.height),
            clip(bounds[3] + 2.0, self.height),
        );
        for y in top..bottom {
            for x in left..right {
                let p = [x as f32 + 0.5, y as f32 + 0.5];
                let coverage = (0.5 - distance(p)).clamp(0.0, 1.0) * opacity;
                if coverage > 0.0 {
                    let pixel = &mut self.pixels[y * self.width + x];
                    *pixel = mix(*pixel, color(p), coverage);
                }
            }
        }
    }

    /// Draws a shape given in coordinates of its own: no part of it may lie farther than `reach` from
    /// their origin.
    pub fn draw(
        &mut self,
        place: &Place,
        reach: f32,
        opacity: f32,
        distance: impl Fn(Point) -> f32,
        color: impl Fn(Point) -> Color,
    ) {
        let ([x, y], reach) = (place.origin, reach * place.scale);
        let local = place.local_from_canvas();
        self.fill(
            [x - reach, y - reach, x + reach, y + reach],
            opacity,
            |p| distance(local(p)) * place.scale,
            |p| color(local(p)),
        );
    }

    /// Draws a line through `points` (pixels), `width` pixels wide.
    pub fn stroke(&mut self, points: &[Point], width: f32, color: Color, opacity: f32) {
        // Coverages of neighbouring pieces are joined by their maximum: laid over each other, the
        // joints of a half-transparent line would be darker.
        let mut coverage = std::collections::BTreeMap::new();
        for pair in points.windows(2) {
            let reach = width / 2.0 + 1.0;
            let span = |axis: usize, most: usize| {
                let (a, b) = (pair[0][axis], pair[1][axis]);
                let clip = |value: f32| value.clamp(0.0, most as f32) as usize;
                clip(a.min(b) - reach)..clip(a.max(b) + reach + 1.0)
            };
            for y in span(1, self.height) {
                for x in span(0, self.width) {
                    let p = [x as f32 + 0.5, y as f32 + 0.5];
                    let distance = super::segment(p, pair[0], pair[1], width / 2.0);
                    let part = (0.5 - distance).clamp(0.0, 1.0);
                    if part > 0.0 {
                        let most: &mut f32 = coverage.entry((y, x)).or_default();
                        *most = most.max(part);
                    }
                }
            }
        }
        for ((y, x), part) in coverage {
            let pixel = &mut self.pixels[y * self.width + x];
            *pixel = mix(*pixel, color, part * opacity);
        }
    }

    /// Lays a picture, scaled between its pixels, into the box from (`left`, `top`) of `width`×`height`.
    pub fn lay(
        &mut self,
        picture: &Rgb8Image,
        left: usize,
        top: usize,
        width: usize,
        height: usize,
    ) {
        let source = |at: usize, size: usize, of: usize| {
            let middle = (at as f32 + 0.5) * of as f32 / size as f32 - 0.5;
            let low = middle.floor().clamp(0.0, (of - 1) as f32);
            let share = (middle - low).clamp(0.0, 1.0);
            (low as usize, (low as usize + 1).min(of - 1), share)
        };
        let color = |x: usize, y: usize| picture.pixel(x, y).map(|c| f32::from(c) / 255.0);
        for y in 0..height.min(self.height.saturating_sub(top)) {
            let (above, below, down) = source(y, height, picture.height());
            for x in 0..width.min(self.width.saturating_sub(left)) {
                let (before, after, right) = source(x, width, picture.width());
                let upper = mix(color(before, above), color(after, above), right);
                let lower = mix(color(before, below), color(after, below), right);
                self.pixels[(top + y) * self.width + left + x] = mix(upper, lower, down);
            }
        }
    }

    /// The canvas at `1 / factor` of its size, each pixel the mean of those it covers.
    pub fn shrunk(&self, factor: usize) -> Canvas {
        let mut small = Canvas::filled(self.width / factor, self.height / factor, [0.0; 3]);
        let share = 1.0 / (factor * factor) as f32;
        for (index, pixel) in small.pixels.iter_mut().enumerate() {
            let (x, y) = (index % small.width * factor, index / small.width * factor);
            for row in y..y + factor {
                for color in &self.pixels[row * self.width + x..][..factor] {
                    *pixel = [0, 1, 2].map(|c| pixel[c] + color[c] * share);
                }
            }
        }
        small
    }

    /// In eight bits, rounded.
    pub fn to_rgb8(&self) -> Rgb8Image {
        Rgb8Image::from_fn(self.width, self.height, |x, y| {
            self.pixels[y * self.width + x].map(|c| (c.clamp(0.0, 1.0) * 255.0).round() as u8)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawing::circle;

    fn sum(canvas: &Canvas) -> f32 {
        canvas.pixels.iter().map(|pixel| pixel[0]).sum()
    }

    #[test]
    fn a_disc_has_its_area_wherever_it_stands() {
        for center in [[20.0, 20.0], [20.3, 19.6]] {
            let mut canvas = Canvas::filled(40, 40, [0.0; 3]);
            let bounds = [0.0, 0.0, 40.0, 40.0];
            canvas.fill(bounds, 1.0, |p| circle(p, center, 9.0), |_| [1.0; 3]);
            let area = std::f32::consts::PI * 81.0;
            assert!((sum(&canvas) / area - 1.0).abs() < 0.01);
            assert!((sum(&canvas.shrunk(2)) * 4.0 - sum(&canvas)).abs() < 0.1);
        }
    }

    #[test]
    fn a_place_turns_mirrors_and_scales() {
        let place = Place {
            origin: [10.0, 20.0],
            scale: 2.0,
            angle_radians: std::f32::consts::FRAC_PI_2,
            mirrored: true,
        };
        // A quarter clockwise puts the drawing's right at the bottom; mirrored, its left.
        let [x, y] = place.local_from_canvas()([10.0, 26.0]);
        assert!((x + 3.0).abs() < 1e-5 && y.abs() < 1e-5, "{x} {y}");
    }

    #[test]
    fn laying_keeps_a_picture_of_the_same_size() {
        let picture = Rgb8Image::from_fn(3, 2, |x, y| [40 * x as u8, 90 * y as u8, 7]);
        let mut canvas = Canvas::filled(5, 4, [0.0; 3]);
        canvas.lay(&picture, 1, 1, 3, 2);
        let out = canvas.to_rgb8();
        assert!((0..3).all(|x| (0..2).all(|y| out.pixel(x + 1, y + 1) == picture.pixel(x, y))));
        canvas.lay(&picture, 4, 3, 30, 20); // what hangs over is cut off
    }

    #[test]
    fn the_joints_of_a_line_are_not_darker() {
        let mut canvas = Canvas::filled(30, 9, [0.0; 3]);
        let points = [[3.0, 4.5], [10.0, 4.5], [20.0, 4.5], [27.0, 4.5]];
        canvas.stroke(&points, 3.0, [1.0; 3], 0.5);
        let most = canvas.pixels.iter().map(|p| p[0]).fold(0.0, f32::max);
        assert!((most - 0.5).abs() < 1e-6);
    }
}
