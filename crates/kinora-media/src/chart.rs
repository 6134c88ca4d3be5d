//! A line chart as a picture, drawn here so that a loss curve needs no graphics library and no fonts.

use crate::drawing::{Canvas, Color, Point, Text, mix, oklch, text_width};
use crate::error::{Error, Result};
use crate::image::Rgb8Image;
use std::path::Path;

const WIDTH: usize = 960;
const HEIGHT: usize = 540;
/// The plot within the picture: left, top, right, bottom.
const FRAME: [f32; 4] = [92.0, 64.0, 930.0, 470.0];
const PAPER: Color = [0.992, 0.992, 0.988];
const INK: Color = [0.16, 0.18, 0.22];
const QUIET: Color = [0.45, 0.47, 0.52];
const GRID: Color = [0.885, 0.89, 0.90];
/// Hues that stay apart for most eyes.
const HUES: [f32; 6] = [255.0, 45.0, 155.0, 330.0, 95.0, 205.0];

/// What a chart shows.
#[derive(Clone, Debug, Default)]
pub struct Chart<'a> {
    /// Above the plot.
    pub title: &'a str,
    /// Below the plot.
    pub x_label: &'a str,
    /// Above the vertical axis.
    pub y_label: &'a str,
    /// Whether equal ratios are equal heights; values not above zero are then left out.
    pub log_y: bool,
    /// The lines.
    pub series: &'a [Series<'a>],
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Series<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// Its points (x, y), in order of x. Points that are not finite are left out.
    pub points: &'a [(f64, f64)],
}

/// Draws a line chart and writes it as PNG or JPEG. Where a line has many points, it is drawn pale,
/// with its running mean over it.
///
/// # Errors
/// When no point can be shown, or the file cannot be written.
pub fn line_chart(path: &Path, chart: &Chart<'_>) -> Result<()> {
    draw_chart(chart)?.save(path)
}

/// As [`line_chart`], but hands the picture over.
///
/// # Errors
/// When no point can be shown.
pub fn draw_chart(chart: &Chart<'_>) -> Result<Rgb8Image> {
    let lines: Vec<Vec<(f64, f64)>> = chart
        .series
        .iter()
        .map(|series| shown_points(series.points, chart.log_y))
        .collect();
    let all = || lines.iter().flatten();
    let Some(x_axis) = Axis::spanning(all().map(|point| point.0), false, 8) else {
        return Err(Error::argument(
            "chart",
            format!("{:?} has no point that can be shown", chart.title),
        ));
    };
    let y_axis = Axis::spanning(all().map(|point| point.1), chart.log_y, 6)
        .expect("a chart with x values has y values");
    let mut canvas = Canvas::filled(WIDTH, HEIGHT, PAPER);
    draw_axes(&mut canvas, chart, &x_axis, &y_axis);
    for (index, points) in lines.iter().enumerate() {
        draw_line(&mut canvas, points, line_color(index), &x_axis, &y_axis);
    }
    draw_legend(&mut canvas, chart.series);
    Ok(canvas.to_rgb8())
}

fn line_color(index: usize) -> Color {
    oklch(0.58, 0.15, HUES[index % HUES.len()])
}

fn shown_points(points: &[(f64, f64)], log_y: bool) -> Vec<(f64, f64)> {
    points
        .iter()
        .filter(|(x, y)| x.is_finite() && y.is_finite() && (!log_y || *y > 0.0))
        .map(|&(x, y)| (x, if log_y { y.log10() } else { y }))
        .collect()
}

/// An axis: the span shown and the values marked on it (decimal logarithms where `log`).
struct Axis {
    low: f64,
    high: f64,
    marks: Vec<(f64, String)>,
}

impl Axis {
    fn spanning(values: impl Iterator<Item = f64>, log: bool, about: usize) -> Option<Axis> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            return None;
        }
        if high - low < 1e-9 * high.abs().max(1e-6) {
            // A constant line runs through the middle.
            let room = (0.1 * high.abs()).max(0.1);
            (low, high) = (low - room, high + room);
        }
        let margin = 0.03 * (high - low);
        let (low, high) = (low - margin, high + margin);
        let marks = if log {
            log_marks(low, high, about)
        } else {
            even_marks(low, high, about)
        };
        Some(Axis { low, high, marks })
    }

    fn share(&self, value: f64) -> f32 {
        ((value - self.low) / (self.high - self.low)) as f32
    }
}

/// Multiples of 1, 2 or 5 times a power of ten, about as many as asked for.
fn even_marks(low: f64, high: f64, about: usize) -> Vec<(f64, String)> {
    let rough = (high - low) / about as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= rough)
        .unwrap_or(10.0);
    let step = factor * power;
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last)
        .map(|index| index as f64 * step)
        .map(|value| (value, number_text(value, decimals)))
        .collect()
}

/// 1, 2 and 5 times the powers of ten in the span, or evenly spaced values where it holds too few.
fn log_marks(low: f64, high: f64, about: usize) -> Vec<(f64, String)> {
    let decades = low.floor() as i32..=high.ceil() as i32;
    let factors: &[f64] = if high - low > 3.0 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let marks: Vec<_> = decades
        .flat_map(|power| {
            factors
                .iter()
                .map(move |factor| factor * 10_f64.powi(power))
        })
        .filter(|value| (low..=high).contains(&value.log10()))
        .map(|value| (value.log10(), number_text(value, 3)))
        .collect();
    if marks.len() >= 3 {
        return marks;
    }
    even_marks(10_f64.powf(low), 10_f64.powf(high), about)
        .into_iter()
        .filter(|(value, _)| *value > 0.0)
        .map(|(value, text)| (value.log10(), text))
        .collect()
}

fn number_text(value: f64, decimals: usize) -> String {
    let size = value.abs();
    if size >= 1e6 || (size > 0.0 && size < 1e-3) {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    if size >= 1e4 && size % 1000.0 == 0.0 {
        return format!("{}k", value / 1000.0);
    }
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn place(x: f32, y: f32) -> Point {
    let [left, top, right, bottom] = FRAME;
    [left + x * (right - left), bottom - y * (bottom - top)]
}

fn draw_axes(canvas: &mut Canvas, chart: &Chart<'_>, x_axis: &Axis, y_axis: &Axis) {
    let small = Text {
        height: 10.0,
        weight: 1.3,
        color: QUIET,
    };
    for (value, text) in &y_axis.marks {
        let y = y_axis.share(*value);
        canvas.stroke(&[place(0.0, y), place(1.0, y)], 1.0, GRID, 1.0);
        small.draw_ending(canvas, text, FRAME[0] - 12.0, place(0.0, y)[1] - 5.0);
    }
    for (value, text) in &x_axis.marks {
        let [x, bottom] = place(x_axis.share(*value), 0.0);
        canvas.stroke(&[[x, bottom], [x, bottom + 6.0]], 1.2, QUIET, 1.0);
        small.draw_centered(canvas, text, x, bottom + 14.0);
    }
    canvas.stroke(&[place(0.0, 0.0), place(1.0, 0.0)], 1.4, QUIET, 1.0);
    let title = Text {
        height: 14.0,
        weight: 1.9,
        color: INK,
    };
    let fitted = title.fitted(chart.title, FRAME[2] - 30.0);
    title.draw(canvas, &fitted, [30.0, 22.0]);
    small.draw_ending(canvas, chart.x_label, FRAME[2], HEIGHT as f32 - 26.0);
    small.draw(canvas, chart.y_label, [30.0, HEIGHT as f32 - 26.0]);
}

/// Points beyond which a line gets a running mean over it.
const MANY: usize = 60;

fn draw_line(
    canvas: &mut Canvas,
    points: &[(f64, f64)],
    color: Color,
    x_axis: &Axis,
    y_axis: &Axis,
) {
    let placed = |points: &[(f64, f64)]| -> Vec<Point> {
        let place = |&(x, y): &(f64, f64)| place(x_axis.share(x), y_axis.share(y));
        points.iter().map(place).collect()
    };
    if points.len() < MANY {
        canvas.stroke(&placed(points), 2.2, color, 1.0);
        if points.len() < 30 {
            for p in placed(points) {
                canvas.stroke(&[p, p], 6.0, color, 1.0);
            }
        }
        return;
    }
    canvas.stroke(&placed(points), 1.0, mix(color, PAPER, 0.35), 0.45);
    canvas.stroke(&placed(&running_mean(points)), 2.6, color, 1.0);
}

/// The mean of each point and its neighbours on both sides, so that it does not lag behind what it
/// follows (at the two ends, of those that there are).
fn running_mean(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = (points.len() / 40).max(2);
    let mean = |at: usize| {
        let near = &points[at.saturating_sub(reach)..(at + reach + 1).min(points.len())];
        let sum: f64 = near.iter().map(|point| point.1).sum();
        (points[at].0, sum / near.len() as f64)
    };
    (0..points.len()).map(mean).collect()
}

fn draw_legend(canvas: &mut Canvas, series: &[Series<'_>]) {
    let text = Text {
        height: 10.0,
        weight: 1.4,
        color: INK,
    };
    let mut right = FRAME[2];
    for (index, line) in series.iter().enumerate().rev() {
        let left = right - text_width(line.name, text.height);
        text.draw(canvas, line.name, [left, 46.0]);
        canvas.stroke(
            &[[left - 28.0, 51.0], [left - 10.0, 51.0]],
            3.0,
            line_color(index),
            1.0,
        );
        right = left - 52.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(marks: &[(f64, String)]) -> Vec<&str> {
        marks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn marks_are_round_numbers() {
        assert_eq!(
            texts(&even_marks(0.03, 1.02, 5)),
            ["0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(texts(&even_marks(-30.0, 1000.0, 5)), ["0", "500", "1000"]);
        assert_eq!(texts(&even_marks(0.0, 41_000.0, 4)), ["0", "20k", "40k"]);
        assert_eq!(
            texts(&log_marks(-2.0, 0.1, 6)),
            ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]
        );
        assert_eq!(
            texts(&log_marks(-5.0, 0.0, 6)),
            ["1e-5", "1e-4", "0.001", "0.01", "0.1", "1"]
        );
        assert!(log_marks(0.30, 0.45, 6).len() >= 3);
    }

    #[test]
    fn a_line_is_drawn_where_its_values_are() {
        let points: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i), f64::from(i))).collect();
        let series = [Series {
            name: "",
            points: &points,
        }];
        let chart = Chart {
            series: &series,
            ..Chart::default()
        };
        let picture = draw_chart(&chart).unwrap();
        let [x, y] = place(0.5, 0.5).map(|c| c.round() as usize);
        assert_ne!(picture.pixel(x, y), picture.pixel(x - 60, y - 60));
        let mean = running_mean(&points);
        let inner = mean[2..48].iter().zip(&points[2..48]);
        assert!(inner.into_iter().all(|(a, b)| (a.1 - b.1).abs() < 1e-9));
    }

    #[test]
    fn odd_values_are_left_out_and_a_constant_is_a_line() {
        let odd = [
            (0.0, f64::NAN),
            (1.0, -3.0),
            (2.0, 0.0),
            (3.0, f64::INFINITY),
        ];
        let series = [Series {
            name: "odd",
            points: &odd,
        }];
        let mut chart = Chart {
            title: "nothing",
            log_y: true,
            series: &series,
            ..Chart::default()
        };
        assert!(
            draw_chart(&chart)
                .unwrap_err()
                .to_string()
                .contains("nothing")
        );
        chart.log_y = false;
        draw_chart(&chart).unwrap();
        for constant in [0.0, 5.0, -1e-9, 1e12] {
            let points = [(4.0, constant)];
            let series = [Series {
                name: "constant",
                points: &points,
            }];
            draw_chart(&Chart {
                series: &series,
                ..Chart::default()
            })
            .unwrap();
        }
    }
}
