//! The smallest rectangle, turned as it must be, around a set of places.

/// A place (x, y).
pub(super) type Place = [f64; 2];

/// The corners of the rectangle of least area around `places`, one after the other around it.
///
/// One of its sides lies along an edge of the convex hull; of edges that give the same area the
/// first around the hull is taken. A single place gives it four times.
///
/// # Panics
/// When there is no place.
pub(super) fn smallest_rectangle(places: &[Place]) -> [Place; 4] {
    let hull = convex_hull(places);
    assert!(!hull.is_empty(), "a rectangle around nothing");
    if let [only] = hull[..] {
        return [only; 4];
    }
    let mut best = ([[0.0; 2]; 4], f64::INFINITY);
    for (at, &[x0, y0]) in hull.iter().enumerate() {
        let [x1, y1] = hull[(at + 1) % hull.len()];
        let length = (x1 - x0).hypot(y1 - y0);
        let (u, v) = ((x1 - x0) / length, (y1 - y0) / length);
        // The extent of the hull along this edge and across it.
        let along = extent(hull.iter().map(|[x, y]| x * u + y * v));
        let across = extent(hull.iter().map(|[x, y]| y * u - x * v));
        let area = (along[1] - along[0]) * (across[1] - across[0]);
        // Equal areas differ by rounding alone.
        if area < best.1 * (1.0 - 1e-9) {
            let corner = |a: f64, c: f64| [a * u - c * v, a * v + c * u];
            let [[a0, a1], [c0, c1]] = [along, across];
            best = (
                [
                    corner(a0, c0),
                    corner(a1, c0),
                    corner(a1, c1),
                    corner(a0, c1),
                ],
                area,
            );
        }
    }
    best.0
}

fn extent(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| {
        [low.min(value), high.max(value)]
    })
}

/// The corners of the convex hull, one after the other around it, none on a line between its
/// neighbours (Andrew's monotone chain).
fn convex_hull(places: &[Place]) -> Vec<Place> {
    let mut places = places.to_vec();
    places.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    places.dedup();
    if places.len() < 3 {
        return places;
    }
    let mut hull = half_hull(places.iter());
    let mut back = half_hull(places.iter().rev());
    hull.pop();
    back.pop();
    hull.append(&mut back);
    hull
}

fn half_hull<'a>(places: impl Iterator<Item = &'a Place>) -> Vec<Place> {
    let mut half: Vec<Place> = Vec::new();
    for &place in places {
        while let [.., a, b] = half[..]
            && (b[0] - a[0]) * (place[1] - a[1]) <= (b[1] - a[1]) * (place[0] - a[0])
        {
            half.pop();
        }
        half.push(place);
    }
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area([a, b, c, _]: [Place; 4]) -> f64 {
        (b[0] - a[0]).hypot(b[1] - a[1]) * (c[0] - b[0]).hypot(c[1] - b[1])
    }

    #[test]
    fn an_upright_block_is_its_own_rectangle() {
        let places: Vec<Place> = (0..12)
            .map(|i| [f64::from(i % 4), f64::from(i / 4)])
            .collect();
        let found = smallest_rectangle(&places);
        assert!((area(found) - 6.0).abs() < 1e-12);
        for corner in [[0.0, 0.0], [3.0, 0.0], [3.0, 2.0], [0.0, 2.0]] {
            assert!(
                found
                    .iter()
                    .any(|c| (c[0] - corner[0]).hypot(c[1] - corner[1]) < 1e-12)
            );
        }
    }

    #[test]
    fn a_turned_block_keeps_its_area() {
        for turn in [0.1f64, 0.7, 1.3, 2.9] {
            let (cos, sin) = (turn.cos(), turn.sin());
            let places: Vec<Place> = (0..50)
                .map(|i| (f64::from(i % 10), f64::from(i / 10)))
                .map(|(x, y)| [x * cos - y * sin, x * sin + y * cos])
                .collect();
            assert!((area(smallest_rectangle(&places)) - 36.0).abs() < 1e-9);
        }
    }

    #[test]
    fn places_on_a_line_give_a_rectangle_without_area() {
        let line: Vec<Place> = (0..5).map(|i| [f64::from(i), 2.0 * f64::from(i)]).collect();
        let found = smallest_rectangle(&line);
        assert!(area(found).abs() < 1e-9);
        assert_eq!(smallest_rectangle(&[[3.0, 4.0]; 7]), [[3.0, 4.0]; 4]);
    }

    #[test]
    fn the_hull_has_no_place_between_others() {
        let places: Vec<Place> = (0..25)
            .map(|i| [f64::from(i % 5), f64::from(i / 5)])
            .collect();
        assert_eq!(convex_hull(&places).len(), 4);
    }
}
