//! A frame as detectors see it: means of 4×4 pixels, so that noise, grain and the blocks of a codec
//! are averaged away, and how two such frames differ.

use kinora_media::AnalysisFrame;

/// Side of the square of pixels whose mean is a cell.
const CELL: usize = 4;
/// Side of the square of cells that is looked for as a whole in another frame.
pub(super) const BLOCK: usize = 8;
/// How far it is looked for, in cells: a twelfth of the width of a wide frame, in one step.
pub(super) const REACH: isize = 5;
/// Bins of the histogram of brightness, and of each colour.
const BINS: usize = 32;

/// One plane of cells, row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plane {
    pub width: usize,
    pub height: usize,
    pub cells: Vec<u8>,
}

/// A frame, small.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sketch {
    pub number: u64,
    pub micros: i64,
    /// Means of 4×4 pixels.
    pub luma: Plane,
    /// Brightness as means of 8×8 pixels.
    pub coarse_luma: Plane,
    /// Brightness, blue and red as means of 8×8 pixels, one after the other.
    pub coarse: Vec<u8>,
    /// Shares of cells by brightness, blue and red.
    pub histogram: Vec<f32>,
    /// Mean brightness, levels.
    pub mean: f32,
    /// Mean distance of a cell from the mean brightness, plus the same of both colours, levels.
    pub contrast: f32,
}

impl Sketch {
    pub fn new(frame: &AnalysisFrame) -> Sketch {
        let (half_width, half_height) = (frame.width.div_ceil(2), frame.height.div_ceil(2));
        let luma = pooled(&frame.luma, frame.width, frame.height, CELL);
        let blue = pooled(&frame.blue, half_width, half_height, CELL);
        let red = pooled(&frame.red, half_width, half_height, CELL);
        let coarse_luma = pooled(&luma.cells, luma.width, luma.height, 2);
        let mut histogram = Vec::with_capacity(3 * BINS);
        let mut contrast = 0.0;
        for plane in [&luma, &blue, &red] {
            histogram.extend(shares(&plane.cells));
            contrast += deviation(&plane.cells);
        }
        let mut coarse = coarse_luma.cells.clone();
        coarse.extend(&blue.cells);
        coarse.extend(&red.cells);
        Sketch {
            number: frame.number,
            micros: frame.micros,
            mean: mean(&luma.cells),
            luma,
            coarse_luma,
            coarse,
            histogram,
            contrast,
        }
    }
}

/// How one frame differs from another.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Distance {
    /// Mean difference of brightness and both colours at the same place, levels.
    pub plain: f32,
    /// Mean difference of brightness where each block may have moved, levels.
    pub moved: f32,
    /// Share of the cells whose brightness or colour the other frame does not have, 0 to 1.
    pub histogram: f32,
}

pub(super) fn plain_difference(a: &Sketch, b: &Sketch) -> f32 {
    3.0 * absolute_difference(&a.coarse, &b.coarse) as f32 / a.coarse.len().max(1) as f32
}

pub(super) fn histogram_difference(a: &Sketch, b: &Sketch) -> f32 {
    let pairs = a.histogram.iter().zip(&b.histogram);
    pairs.map(|(a, b)| (a - b).abs()).sum::<f32>() / 6.0
}

/// What a whole histogram of other colours counts for, in levels.
const HISTOGRAM_LEVELS: f32 = 40.0;

impl Distance {
    /// What neither motion explains nor the same colours elsewhere, levels.
    pub fn unexplained(&self) -> f32 {
        self.moved + HISTOGRAM_LEVELS * self.histogram
    }
}

/// [`distance`] of frames that are a while apart: what moves may have come twice as far.
pub(super) fn far_distance(a: &Sketch, b: &Sketch) -> Distance {
    Distance {
        plain: plain_difference(a, b),
        moved: moved_difference(&a.coarse_luma, &b.coarse_luma),
        histogram: histogram_difference(a, b),
    }
}

pub(super) fn distance(a: &Sketch, b: &Sketch) -> Distance {
    Distance {
        plain: plain_difference(a, b),
        moved: moved_difference(&a.luma, &b.luma),
        histogram: histogram_difference(a, b),
    }
}

/// Mean absolute difference of `b` from whatever part of `a` is most like it, block by block, levels:
/// what remains of a difference when all that could have moved has moved.
pub(super) fn moved_difference(a: &Plane, b: &Plane) -> f32 {
    if (a.width, a.height) != (b.width, b.height) || a.cells.is_empty() {
        return 0.0;
    }
    let mut sum = 0;
    for top in (0..b.height).step_by(BLOCK) {
        // The last blocks lie over their neighbours, so that all are whole.
        let top = top.min(b.height.saturating_sub(BLOCK));
        for left in (0..b.width).step_by(BLOCK) {
            let left = left.min(b.width.saturating_sub(BLOCK));
            sum += best_match(a, b, left, top);
        }
    }
    let block = BLOCK.min(b.width) * BLOCK.min(b.height);
    let blocks = b.width.div_ceil(BLOCK) * b.height.div_ceil(BLOCK);
    sum as f32 / (blocks * block) as f32
}

/// The least sum of absolute differences of the block of `b` at (`left`, `top`) from blocks of `a`
/// within [`REACH`].
fn best_match(a: &Plane, b: &Plane, left: usize, top: usize) -> u32 {
    let (width, height) = (BLOCK.min(b.width), BLOCK.min(b.height));
    let rows = |plane: &Plane, x: usize, y: usize, row: usize| {
        let from = (y + row) * plane.width + x;
        from..from + width
    };
    let reach = |at: usize, most: usize| {
        let least = at.saturating_sub(REACH as usize);
        least..=(at + REACH as usize).min(most)
    };
    let still: u32 = (0..height)
        .map(|row| {
            let range = rows(b, left, top, row);
            absolute_difference(&a.cells[range.clone()], &b.cells[range])
        })
        .sum();
    // Less than a level a cell is noise, whatever has moved.
    let mut best = still;
    if still as usize <= width * height {
        return best;
    }
    for y in reach(top, a.height - height) {
        for x in reach(left, a.width - width) {
            let mut sum = 0;
            for row in 0..height {
                let (from, to) = (rows(a, x, y, row), rows(b, left, top, row));
                sum += absolute_difference(&a.cells[from], &b.cells[to]);
                if sum >= best {
                    break;
                }
            }
            best = best.min(sum);
        }
    }
    best
}

fn absolute_difference(a: &[u8], b: &[u8]) -> u32 {
    if let (Ok(a), Ok(b)) = (<&[u8; 8]>::try_from(a), <&[u8; 8]>::try_from(b)) {
        return a
            .iter()
            .zip(b)
            .map(|(a, b)| u32::from(a.abs_diff(*b)))
            .sum();
    }
    a.iter()
        .zip(b)
        .map(|(a, b)| u32::from(a.abs_diff(*b)))
        .sum()
}

/// Means of `cell`×`cell` squares; what is left over at the right and below is left out.
fn pooled(pixels: &[u8], width: usize, height: usize, cell: usize) -> Plane {
    let cell = cell.min(width).min(height).max(1);
    let (cells_wide, cells_high) = (width / cell, height / cell);
    let mut cells = Vec::with_capacity(cells_wide * cells_high);
    let mut columns = vec![0_u16; cells_wide * cell];
    for row in 0..cells_high {
        columns.fill(0);
        for y in row * cell..(row + 1) * cell {
            let pixels = &pixels[y * width..][..cells_wide * cell];
            for (sum, pixel) in columns.iter_mut().zip(pixels) {
                *sum += u16::from(*pixel);
            }
        }
        let area = (cell * cell) as u16;
        let sums = columns
            .chunks_exact(cell)
            .map(|sums| sums.iter().sum::<u16>());
        cells.extend(sums.map(|sum| ((sum + area / 2) / area) as u8));
    }
    Plane {
        width: cells_wide,
        height: cells_high,
        cells,
    }
}

fn mean(cells: &[u8]) -> f32 {
    let sum: u32 = cells.iter().map(|&cell| u32::from(cell)).sum();
    sum as f32 / cells.len().max(1) as f32
}

fn deviation(cells: &[u8]) -> f32 {
    let middle = mean(cells).round() as u8;
    let sum: u32 = cells
        .iter()
        .map(|cell| u32::from(cell.abs_diff(middle)))
        .sum();
    sum as f32 / cells.len().max(1) as f32
}

fn shares(cells: &[u8]) -> [f32; BINS] {
    let mut counts = [0_u32; BINS];
    for &cell in cells {
        counts[usize::from(cell) * BINS / 256] += 1;
    }
    counts.map(|count| count as f32 / cells.len().max(1) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(width: usize, height: usize, level: impl Fn(usize, usize) -> u8) -> Plane {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Plane {
            width,
            height,
            cells: places.map(|(x, y)| level(x, y)).collect(),
        }
    }

    fn speckle(x: usize, y: usize) -> u8 {
        ((x * 73 + y * 151 + x * y * 17) % 200) as u8
    }

    #[test]
    fn cells_are_means() {
        let ramp: Vec<u8> = (0..80).map(|at| (at % 10) as u8 * 10).collect();
        let pooled = pooled(&ramp, 10, 8, 4);
        assert_eq!((pooled.width, pooled.height), (2, 2));
        assert_eq!(pooled.cells, [15, 55, 15, 55]);
        assert_eq!(super::pooled(&[7; 6], 3, 2, 4).cells, [7]);
    }

    #[test]
    fn what_has_moved_within_reach_does_not_differ() {
        let a = plane(40, 24, speckle);
        let near = plane(40, 24, |x, y| speckle(x + 3, y + 2));
        // Only blocks at the right and bottom, whose like has come into view, differ.
        let still = absolute_difference(&a.cells, &near.cells) as f32 / 960.0;
        assert!(moved_difference(&a, &near) < 0.45 * still);
        let inner = best_match(&a, &near, 8, 8);
        assert_eq!(inner, 0);
        let far = plane(40, 24, |x, y| speckle(x + 90, y + 55));
        assert!(moved_difference(&a, &far) > 0.5 * still);
        assert_eq!(moved_difference(&a, &a), 0.0);
        assert_eq!(
            moved_difference(&plane(3, 2, speckle), &plane(3, 2, speckle)),
            0.0
        );
    }

    #[test]
    fn colours_that_the_other_has_too_are_no_difference() {
        let sketch = |levels: [u8; 2]| Sketch {
            histogram: [shares(&levels), shares(&[128, 128]), shares(&[128, 128])].concat(),
            ..Sketch::default()
        };
        assert_eq!(
            histogram_difference(&sketch([10, 200]), &sketch([200, 10])),
            0.0
        );
        // Half of the cells of one plane of three.
        let half = histogram_difference(&sketch([10, 200]), &sketch([10, 90]));
        assert!((half - 1.0 / 6.0).abs() < 1e-6);
    }
}
