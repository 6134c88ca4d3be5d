//! From the two maps to boxes around words, step by step as the public program does it.

use super::rectangle::{Place, smallest_rectangle};
use super::{CraftSettings, ScoreMaps};

/// Words of fewer places are noise.
const LEAST_PLACES: usize = 10;

/// Places that hang together: what is above a threshold and touches by its sides.
struct Component {
    /// The places, as numbers in the map, in no order.
    places: Vec<usize>,
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
}

pub(super) fn word_boxes(maps: &ScoreMaps, settings: &CraftSettings) -> Vec<[[f32; 2]; 4]> {
    let is_text = |at: usize| maps.region[at] > settings.low_text;
    let is_link = |at: usize| maps.affinity[at] > settings.link_threshold;
    let joined: Vec<bool> = (0..maps.region.len())
        .map(|at| is_text(at) || is_link(at))
        .collect();
    let mut boxes = Vec::new();
    for component in components(&joined, maps.width) {
        let best = component.places.iter().map(|&at| maps.region[at]);
        let best = best.fold(f32::NEG_INFINITY, f32::max);
        if component.places.len() < LEAST_PLACES || best < settings.text_threshold {
            continue;
        }
        // Links held the characters together; the word is where its characters are.
        let characters = component.places.iter().copied();
        let characters = characters.filter(|&at| is_text(at) || !is_link(at));
        let grown = grown(characters, &component, [maps.height, maps.width]);
        if !grown.is_empty() {
            boxes.push(box_around(&grown));
        }
    }
    boxes
}

/// The components in the order of their first places.
fn components(joined: &[bool], width: usize) -> Vec<Component> {
    let mut seen = vec![false; joined.len()];
    let mut found = Vec::new();
    for start in 0..joined.len() {
        if !joined[start] || seen[start] {
            continue;
        }
        seen[start] = true;
        let (x, y) = (start % width, start / width);
        let mut component = Component {
            places: vec![start],
            left: x,
            right: x,
            top: y,
            bottom: y,
        };
        let mut next = 0;
        while let Some(&at) = component.places.get(next) {
            next += 1;
            let (x, y) = (at % width, at / width);
            component.left = component.left.min(x);
            component.right = component.right.max(x);
            component.top = component.top.min(y);
            component.bottom = component.bottom.max(y);
            let neighbours = [
                (x > 0).then(|| at - 1),
                (x + 1 < width).then_some(at + 1),
                at.checked_sub(width),
                (at + width < joined.len()).then_some(at + width),
            ];
            for neighbour in neighbours.into_iter().flatten() {
                if joined[neighbour] && !seen[neighbour] {
                    seen[neighbour] = true;
                    component.places.push(neighbour);
                }
            }
        }
        found.push(component);
    }
    found
}

/// The outermost places of every row after each place of `characters` has grown to a square. The
/// maps mark the middles of characters; how much is missing follows from how full the component's
/// box is.
fn grown(
    characters: impl Iterator<Item = usize>,
    component: &Component,
    [height, width]: [usize; 2],
) -> Vec<Place> {
    let [w, h] = [
        component.right - component.left + 1,
        component.bottom - component.top + 1,
    ];
    let fullness = component.places.len() as f64 * w.min(h) as f64 / (w * h) as f64;
    let growth = (fullness.sqrt() * 2.0) as usize;
    // A square with growth + 1 places a side; where it has no middle, more lies below and right.
    let (after, before) = (growth.div_ceil(2), growth / 2);
    let rows = component.top.saturating_sub(growth)..(component.bottom + growth + 2).min(height);
    let columns = component.left.saturating_sub(growth)..(component.right + growth + 2).min(width);
    let mut spans = vec![[usize::MAX, 0]; rows.len()];
    for at in characters {
        let (x, y) = (at % width, at / width);
        let left = x.saturating_sub(before).max(columns.start);
        let right = (x + after).min(columns.end - 1);
        let top = y.saturating_sub(before).max(rows.start);
        let bottom = (y + after).min(rows.end - 1);
        for span in &mut spans[top - rows.start..=bottom - rows.start] {
            *span = [span[0].min(left), span[1].max(right)];
        }
    }
    let spans = spans
        .iter()
        .zip(rows)
        .filter(|(span, _)| span[0] <= span[1]);
    spans
        .flat_map(|(span, y)| span.map(|x| [x as f64, y as f64]))
        .collect()
}

/// The box around `places`: the smallest rectangle, or the upright one where that is nearly square
/// (around a single character, which would otherwise stand on its corner).
fn box_around(places: &[Place]) -> [[f32; 2]; 4] {
    let turned = smallest_rectangle(places);
    let length = |a: Place, b: Place| (a[0] - b[0]).hypot(a[1] - b[1]);
    let (w, h) = (length(turned[0], turned[1]), length(turned[1], turned[2]));
    let ratio = w.max(h) / (w.min(h) + 1e-5);
    let corners = if (1.0 - ratio).abs() <= 0.1 {
        let (mut low, mut high) = (places[0], places[0]);
        for place in places {
            for axis in 0..2 {
                low[axis] = low[axis].min(place[axis]);
                high[axis] = high[axis].max(place[axis]);
            }
        }
        [low, [high[0], low[1]], high, [low[0], high[1]]]
    } else {
        turned
    };
    clockwise_from_upper_left(corners).map(|corner| corner.map(|at| at as f32))
}

/// The corners clockwise on the screen (rows go down), beginning with the one of the smallest x + y.
fn clockwise_from_upper_left(mut corners: [Place; 4]) -> [Place; 4] {
    let [a, b, c, _] = corners;
    if (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0]) < 0.0 {
        corners.reverse();
    }
    let sum = |corner: &Place| corner[0] + corner[1];
    let mut first = 0;
    for at in 1..4 {
        // Two corners may lie equally near; rounding must not choose between them.
        if sum(&corners[at]) < sum(&corners[first]) - 1e-9 {
            first = at;
        }
    }
    corners.rotate_left(first);
    corners
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Maps in which `#` is a character's middle, `+` its rim, `-` a link, `*` a link on a rim.
    fn maps(rows: &[&str]) -> ScoreMaps {
        let value = |of: [(char, f32); 3]| -> Vec<f32> {
            let sign = |c: char| {
                of.iter()
                    .find(|(sign, _)| *sign == c)
                    .map_or(0.0, |(_, v)| *v)
            };
            rows.iter().flat_map(|row| row.chars().map(sign)).collect()
        };
        ScoreMaps {
            height: rows.len(),
            width: rows[0].len(),
            region: value([('#', 0.9), ('+', 0.5), ('*', 0.5)]),
            affinity: value([('-', 0.9), ('*', 0.9), ('_', 0.0)]),
        }
    }

    fn found(rows: &[&str]) -> Vec<[[f32; 2]; 4]> {
        word_boxes(&maps(rows), &CraftSettings::default())
    }

    #[test]
    fn a_link_joins_two_characters_and_a_gap_parts_them() {
        let word = found(&[
            "....................",
            "....................",
            "...++++......++++...",
            "...+##+------+##+...",
            "...++++......++++...",
            "....................",
            "....................",
        ]);
        // 30 places in a box of 14 × 3: 2·√(30 · 3 / 42) = 2.9, so it grows by 2: 1 each way.
        assert_eq!(word, [[[2.0, 1.0], [17.0, 1.0], [17.0, 5.0], [2.0, 5.0]]]);
        let apart = found(&[
            "....................",
            "...++++......++++...",
            "...+##+......+##+...",
            "...++++......++++...",
            "....................",
        ]);
        assert_eq!(apart.len(), 2);
    }

    #[test]
    fn what_is_faint_or_small_is_no_word() {
        assert!(found(&["......", ".++++.", ".++++.", ".++++.", "......"]).is_empty());
        assert!(found(&["......", ".+##+.", ".++++.", ".+....", "......"]).is_empty());
        assert!(found(&["......", "------", "------", "......"]).is_empty());
        assert!(found(&["......"]).is_empty());
    }

    #[test]
    fn touching_by_a_corner_is_not_touching() {
        let joined: Vec<bool> = "#..#.....#..#".chars().map(|c| c == '#').collect();
        let found = components(&joined[..12], 4);
        assert_eq!(found.len(), 3);
        let diagonal: Vec<bool> = "#..#".chars().map(|c| c == '#').collect();
        assert_eq!(components(&diagonal, 2).len(), 2);
    }

    #[test]
    fn a_nearly_square_box_stands_upright() {
        // A disc: its smallest rectangle may be turned, its box is not.
        let places: Vec<Place> = (0..11 * 11)
            .map(|i| [f64::from(i % 11) - 5.0, f64::from(i / 11) - 5.0])
            .filter(|[x, y]| x.hypot(*y) <= 5.0)
            .collect();
        let upright = [[-5.0, -5.0], [5.0, -5.0], [5.0, 5.0], [-5.0, 5.0]];
        assert_eq!(box_around(&places), upright);
    }
}
