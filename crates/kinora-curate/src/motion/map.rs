//! Flow made small: one vector for each cell of a grid whose short side is a handful of cells.

use crate::flow::FlowField;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

/// Steps of a stored displacement in a pixel of the map: fine beside the 0.04 of a still scene, and
/// an i16 reaches across any map.
const STEPS: f32 = 1024.0;

/// A small flow map: displacements in pixels of this map in half a second, in steps of 1/1024.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct MotionMap {
    width: u16,
    height: u16,
    /// First all to the right, then all down, row by row.
    steps: Vec<i16>,
}

impl MotionMap {
    /// The mean vector of each cell of a grid whose short side is `short_side` cells, in pixels of
    /// that grid, times `gain`.
    pub(super) fn of_flow(flow: &FlowField, short_side: u16, gain: f32) -> Self {
        let (width, height) = map_size((flow.width, flow.height), short_side);
        let (columns, rows) = (cells(flow.width, width), cells(flow.height, height));
        let steps_per_pixel =
            |map: u16, picture: usize| f32::from(map) / picture as f32 * gain * STEPS;
        let mut steps = Vec::with_capacity(2 * columns.len() * rows.len());
        for (plane, scale) in [
            (&flow.x, steps_per_pixel(width, flow.width)),
            (&flow.y, steps_per_pixel(height, flow.height)),
        ] {
            let means = area_means(plane, flow.width, &columns, &rows);
            // A saturating conversion: no map is a quarter as wide as an i16 reaches.
            steps.extend(means.iter().map(|mean| (mean * scale).round() as i16));
        }
        MotionMap {
            width,
            height,
            steps,
        }
    }

    /// Width and height in cells.
    pub fn size(&self) -> (usize, usize) {
        (self.width.into(), self.height.into())
    }

    /// Displacement to the right and down of the cell in a row and a column, in pixels of the map in
    /// half a second.
    pub fn vector(&self, row: usize, column: usize) -> (f32, f32) {
        let cell = row * usize::from(self.width) + column;
        let down = usize::from(self.width) * usize::from(self.height);
        let pixels = |steps: i16| f32::from(steps) / STEPS;
        (pixels(self.steps[cell]), pixels(self.steps[down + cell]))
    }

    /// Mean length of the vectors, in pixels of the map in half a second.
    pub fn mean_magnitude(&self) -> f32 {
        let (x, y) = self.steps.split_at(self.steps.len() / 2);
        let length = |(x, y): (&i16, &i16)| f64::from(*x).hypot(f64::from(*y));
        let total: f64 = x.iter().zip(y).map(length).sum();
        (total / x.len() as f64 / f64::from(STEPS)) as f32
    }
}

/// A map's width and height: the short side given, the long one in proportion.
fn map_size((width, height): (usize, usize), short_side: u16) -> (u16, u16) {
    let short = width.min(height) as f64;
    let cells = |side: usize| {
        let cells = (side as f64 / short * f64::from(short_side)).round();
        // A picture a thousand times as wide as high has a coarser map in its long direction.
        cells.clamp(1.0, 4096.0) as u16
    };
    (cells(width), cells(height))
}

/// For each of `count` equal cells along `len` pixels: the first pixel that it covers, and what part
/// of it each of the pixels from there on makes up.
fn cells(len: usize, count: u16) -> Vec<(usize, Vec<f32>)> {
    let size = len as f64 / f64::from(count);
    let cell = |k: u16| {
        let (from, to) = (f64::from(k) * size, (f64::from(k) + 1.0) * size);
        let first = from.floor() as usize;
        let end = (to.ceil() as usize).clamp(first + 1, len);
        let part = |pixel: usize| {
            let covered = to.min(pixel as f64 + 1.0) - from.max(pixel as f64);
            (covered.max(0.0) / size) as f32
        };
        (first, (first..end).map(part).collect())
    };
    (0..count).map(cell).collect()
}

/// The mean of `plane` over each cell.
fn area_means(
    plane: &[f32],
    width: usize,
    columns: &[(usize, Vec<f32>)],
    rows: &[(usize, Vec<f32>)],
) -> Vec<f32> {
    let mut means = Vec::with_capacity(columns.len() * rows.len());
    let mut line = vec![0.0_f32; width];
    for (first, parts) in rows {
        line.fill(0.0);
        for (row, part) in plane[first * width..].chunks_exact(width).zip(parts) {
            for (sum, value) in line.iter_mut().zip(row) {
                *sum += part * value;
            }
        }
        means.extend(columns.iter().map(|(first, parts)| -> f32 {
            line[*first..]
                .iter()
                .zip(parts)
                .map(|(sum, part)| sum * part)
                .sum()
        }));
    }
    means
}

/// A map as it is written: its steps as little-endian bytes in base64.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    width: u16,
    height: u16,
    steps: String,
}

impl From<MotionMap> for Written {
    fn from(map: MotionMap) -> Self {
        let bytes: Vec<u8> = map
            .steps
            .iter()
            .flat_map(|step| step.to_le_bytes())
            .collect();
        Written {
            width: map.width,
            height: map.height,
            steps: BASE64.encode(bytes),
        }
    }
}

impl TryFrom<Written> for MotionMap {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let bytes = BASE64
            .decode(&written.steps)
            .map_err(|error| format!("motion map: expected base64, found {error}"))?;
        let expected = 4 * usize::from(written.width) * usize::from(written.height);
        if bytes.len() != expected || expected == 0 {
            return Err(format!(
                "motion map: expected {expected} bytes for {}×{} cells and at least one cell, found {}",
                written.width,
                written.height,
                bytes.len()
            ));
        }
        let (steps, _) = bytes.as_chunks::<2>();
        Ok(MotionMap {
            width: written.width,
            height: written.height,
            steps: steps.iter().map(|step| i16::from_le_bytes(*step)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(width: usize, height: usize, f: impl Fn(usize, usize) -> (f32, f32)) -> FlowField {
        let vectors = (0..width * height).map(|k| f(k % width, k / width));
        let (x, y) = vectors.unzip();
        FlowField {
            width,
            height,
            x,
            y,
        }
    }

    #[test]
    fn a_uniform_displacement_keeps_its_share_of_the_picture() {
        // 9 pixels of 144 are one of 16; 256 columns become 28, and 16 pixels 1.75 of them.
        let map = MotionMap::of_flow(&field(256, 144, |_, _| (16.0, -9.0)), 16, 1.0);
        assert_eq!(map.size(), (28, 16));
        for row in 0..16 {
            for column in 0..28 {
                let (x, y) = map.vector(row, column);
                assert!((x - 1.75).abs() < 1e-3 && (y + 1.0).abs() < 1e-3);
            }
        }
        let expected = 1.75_f32.hypot(1.0);
        assert!((map.mean_magnitude() - expected).abs() < 1e-3);
    }

    #[test]
    fn cells_share_the_pixels_they_cut() {
        // 5 pixels in 2 cells: 1, 1, ½ and ½, 1, 1, each over 2½.
        assert_eq!(
            cells(5, 2),
            [(0, vec![0.4, 0.4, 0.2]), (2, vec![0.2, 0.4, 0.4])]
        );
        for (len, count) in [(256, 28), (144, 16), (7, 16), (1, 3), (16, 16)] {
            for (first, parts) in cells(len, count) {
                assert!(first + parts.len() <= len);
                assert!((parts.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn opposite_motions_inside_a_cell_cancel_and_in_two_cells_do_not() {
        let flow = |period: usize| {
            field(64, 64, move |x, _| {
                if (x / period).is_multiple_of(2) {
                    (4.0, 0.0)
                } else {
                    (-4.0, 0.0)
                }
            })
        };
        assert_eq!(MotionMap::of_flow(&flow(2), 16, 1.0).mean_magnitude(), 0.0);
        assert!((MotionMap::of_flow(&flow(16), 16, 1.0).mean_magnitude() - 1.0).abs() < 1e-3);
    }

    #[test]
    fn survives_writing_and_refuses_damage() {
        let map = MotionMap::of_flow(
            &field(90, 40, |x, y| (x as f32 * 0.1, -(y as f32))),
            16,
            0.7,
        );
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(serde_json::from_str::<MotionMap>(&text).unwrap(), map);
        let damaged = text.replace("\"width\":36", "\"width\":35");
        assert!(serde_json::from_str::<MotionMap>(&damaged).is_err());
    }
}
