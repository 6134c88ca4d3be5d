//! Signed distances: negative inside a shape, positive outside, in the units of the point.

/// A place: right, and down.
pub(crate) type Point = [f32; 2];

fn length([x, y]: Point) -> f32 {
    (x * x + y * y).sqrt() // `hypot` guards against overflow, at five times the cost
}

fn minus(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1]
}

/// A disc.
pub(crate) fn circle(p: Point, center: Point, radius: f32) -> f32 {
    length(minus(p, center)) - radius
}

/// An ellipse along the axes: exact on the edge and in sign, a close guess elsewhere.
pub(crate) fn ellipse(p: Point, center: Point, radii: Point) -> f32 {
    let [x, y] = minus(p, center);
    let once = length([x / radii[0], y / radii[1]]);
    let twice = length([x / (radii[0] * radii[0]), y / (radii[1] * radii[1])]);
    if twice < 1e-12 {
        return -radii[0].min(radii[1]);
    }
    once * (once - 1.0) / twice
}

/// A box of half-sizes `half` whose corners are rounded by `radius`.
pub(crate) fn rounded_box(p: Point, center: Point, half: Point, radius: f32) -> f32 {
    let [x, y] = minus(p, center);
    let (x, y) = (x.abs() - half[0] + radius, y.abs() - half[1] + radius);
    length([x.max(0.0), y.max(0.0)]) + x.max(y).min(0.0) - radius
}

/// A line from `a` to `b` of half-width `radius` with round ends.
pub(crate) fn segment(p: Point, a: Point, b: Point, radius: f32) -> f32 {
    let (along, to) = (minus(b, a), minus(p, a));
    let share = (dot(to, along) / dot(along, along).max(1e-12)).clamp(0.0, 1.0);
    length(minus(to, [along[0] * share, along[1] * share])) - radius
}

/// A polygon of any shape that does not cross itself.
pub(crate) fn polygon(p: Point, corners: &[Point]) -> f32 {
    let mut nearest = f32::INFINITY;
    let mut inside = false;
    for (i, &a) in corners.iter().enumerate() {
        let b = corners[(i + 1) % corners.len()];
        nearest = nearest.min(segment(p, a, b, 0.0));
        // A ray to the right crosses the outline an odd number of times from inside.
        if (a[1] > p[1]) != (b[1] > p[1])
            && p[0] < a[0] + (b[0] - a[0]) * (p[1] - a[1]) / (b[1] - a[1])
        {
            inside = !inside;
        }
    }
    if inside { -nearest } else { nearest }
}

/// Inside either.
pub(crate) fn union(a: f32, b: f32) -> f32 {
    a.min(b)
}

/// Inside both.
pub(crate) fn intersection(a: f32, b: f32) -> f32 {
    a.max(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: f32, expected: f32) {
        assert!(
            (found - expected).abs() < 1e-5,
            "{found} instead of {expected}"
        );
    }

    #[test]
    fn distances_have_their_closed_forms() {
        check(circle([3.0, 4.0], [0.0, 0.0], 2.0), 3.0);
        check(
            segment([5.0, 1.0], [0.0, 0.0], [3.0, 0.0], 0.5),
            5.0_f32.sqrt() - 0.5,
        );
        check(rounded_box([0.0, 0.0], [0.0, 0.0], [4.0, 2.0], 0.5), -2.0);
        check(rounded_box([7.0, 6.0], [0.0, 0.0], [4.0, 2.0], 0.0), 5.0);
        let square = [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]];
        check(polygon([1.0, 0.5], &square), -0.5);
        check(polygon([5.0, 6.0], &square), 5.0);
        check(ellipse([0.0, 2.0], [0.0, 0.0], [3.0, 2.0]), 0.0);
        check(ellipse([3.0, 0.0], [0.0, 0.0], [3.0, 2.0]), 0.0);
        check(ellipse([0.0, 0.0], [0.0, 0.0], [3.0, 2.0]), -2.0);
    }
}
