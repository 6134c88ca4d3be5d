//! Boxes, and the share of a picture under their union.

/// A box around a word or a line: a convex quadrilateral in pixels, the origin in the upper left
/// corner of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextBox {
    /// Its corners (x, y), one after the other around it.
    pub corners: [[f32; 2]; 4],
}

impl TextBox {
    /// A box from its corners (x, y), one after the other around it.
    pub fn new(corners: [[f32; 2]; 4]) -> Self {
        TextBox { corners }
    }

    /// An upright box from its edges in pixels; `right` and `bottom` are outside it.
    pub fn upright(left: f32, top: f32, right: f32, bottom: f32) -> Self {
        TextBox::new([[left, top], [right, top], [right, bottom], [left, bottom]])
    }
}

/// The share of a picture of `width` × `height` pixels whose pixels lie, by their centres, in at
/// least one of the boxes. Exact for upright boxes on whole pixels.
pub fn covered_share(boxes: &[TextBox], width: usize, height: usize) -> f64 {
    let mut mask = vec![false; width * height];
    for text in boxes {
        for row in 0..height {
            if let Some(columns) = columns_inside(text, row as f32 + 0.5, width) {
                mask[row * width..][columns].fill(true);
            }
        }
    }
    let covered = mask.iter().filter(|&&covered| covered).count();
    covered as f64 / (width * height).max(1) as f64
}

/// The columns whose centres lie between the left and the right edge of the box at height `y`.
fn columns_inside(text: &TextBox, y: f32, width: usize) -> Option<std::ops::Range<usize>> {
    let (mut left, mut right) = (f32::INFINITY, f32::NEG_INFINITY);
    for at in 0..4 {
        let ([x0, y0], [x1, y1]) = (text.corners[at], text.corners[(at + 1) % 4]);
        // Half open, so that a corner at this height counts for one of its two edges.
        if (y0 <= y) != (y1 <= y) {
            let x = x0 + (y - y0) / (y1 - y0) * (x1 - x0);
            (left, right) = (left.min(x), right.max(x));
        }
    }
    // A centre on the left edge is inside, one on the right edge is not; `as` clamps at both ends.
    let column = |x: f32| ((x - 0.5).ceil() as usize).min(width);
    (left < right).then(|| column(left)..column(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(boxes: &[TextBox]) -> f64 {
        covered_share(boxes, 100, 80)
    }

    #[test]
    fn an_upright_box_covers_its_area() {
        assert_eq!(share(&[]), 0.0);
        assert_eq!(share(&[TextBox::upright(10.0, 20.0, 30.0, 60.0)]), 0.1);
        assert_eq!(share(&[TextBox::upright(-10.0, -10.0, 200.0, 200.0)]), 1.0);
        assert_eq!(share(&[TextBox::upright(30.0, 20.0, 30.0, 60.0)]), 0.0);
    }

    #[test]
    fn what_overlaps_counts_once() {
        // 20·20 + 20·20 − 10·10, by inclusion and exclusion.
        let two = [
            TextBox::upright(0.0, 0.0, 20.0, 20.0),
            TextBox::upright(10.0, 10.0, 30.0, 30.0),
        ];
        assert_eq!(share(&two), 700.0 / 8000.0);
        assert_eq!(share(&[two[0], two[0], two[0]]), 400.0 / 8000.0);
    }

    #[test]
    fn three_boxes_by_inclusion_and_exclusion() {
        let boxes = [(5, 5, 45, 35), (20, 0, 60, 20), (30, 10, 50, 70)];
        let three =
            boxes.map(|(l, t, r, b)| TextBox::upright(l as f32, t as f32, r as f32, b as f32));
        let area = |which: &[(i32, i32, i32, i32)]| -> f64 {
            let (l, r) = (
                which.iter().map(|b| b.0).max(),
                which.iter().map(|b| b.2).min(),
            );
            let (t, b) = (
                which.iter().map(|b| b.1).max(),
                which.iter().map(|b| b.3).min(),
            );
            f64::from((r.unwrap() - l.unwrap()).max(0) * (b.unwrap() - t.unwrap()).max(0))
        };
        let [a, b, c] = boxes;
        let union =
            area(&[a]) + area(&[b]) + area(&[c]) - area(&[a, b]) - area(&[a, c]) - area(&[b, c])
                + area(&[a, b, c]);
        assert_eq!(share(&three), union / 8000.0);
    }

    #[test]
    fn a_turned_square_covers_its_area() {
        // A square of diagonal 60 has the area 60² / 2; the mask knows it to the pixels of its edge.
        let square = TextBox::new([[50.0, 10.0], [80.0, 40.0], [50.0, 70.0], [20.0, 40.0]]);
        assert!((share(&[square]) * 8000.0 - 1800.0).abs() <= 60.0);
        let other_way = TextBox::new([[20.0, 40.0], [50.0, 70.0], [80.0, 40.0], [50.0, 10.0]]);
        assert_eq!(share(&[square]), share(&[other_way]));
    }
}
