//! The points of F(P − 2, 3) along one axis, and what takes pixels and taps to them.
//!
//! A polynomial of degree P − 1 is known by its values at P points: pairs ±p, ∞, and 0 where P is even. The powers of
//! the p stay near 1, which keeps the rounding error low; they are exact in binary, as are most products of their
//! squares. F(4, 3) has ±5/8 and ±3/2, whose error is half of what the usual ±1 and ±2 leave; those of F(7, 3) are the
//! best of all multiples of 1/16 where numbers are random.

use super::rule::TAPS;

/// Pairs of points that a rule has at most.
const MOST: usize = 4;

/// The points of a rule of P.
pub(super) struct Points<const P: usize>;

impl<const P: usize> Points<P> {
    /// 1 where 0 is a point, the first; otherwise 0.
    pub(super) const ZERO: usize = (P + 1) % 2;
    /// How many pairs ±p there are; ∞ is the last point.
    pub(super) const PAIRS: usize = (P - 1) / 2;

    const EXACTLY: [f64; MOST] = match P {
        6 => [0.625, 1.5, 0.0, 0.0],
        9 => [0.25, 0.6875, 1.125, 2.1875],
        _ => panic!("there are rules of 6 and of 9 points"),
    };

    /// The p of each pair, to the powers 0 to P − 3, those that results are made with.
    pub(super) const POWERS: [[f32; P]; MOST] = {
        let mut powers = [[1.0; P]; MOST];
        let mut pair = 0;
        while pair < Self::PAIRS {
            let (mut exactly, mut j) = (1.0, 0);
            while j < P {
                powers[pair][j] = exactly as f32;
                exactly *= Self::EXACTLY[pair];
                j += 1;
            }
            pair += 1;
        }
        powers
    };

    /// The coefficients of Π (x² − p²) over all pairs, of x⁰, x², and so on.
    pub(super) const ALL: [f32; MOST + 1] = rounded(Self::without(MOST));

    /// The same over all pairs but one, for each of them.
    pub(super) const OTHERS: [[f32; MOST + 1]; MOST] = {
        let mut others = [[0.0; MOST + 1]; MOST];
        let mut pair = 0;
        while pair < Self::PAIRS {
            others[pair] = rounded(Self::without(pair));
            pair += 1;
        }
        others
    };

    /// What takes three taps to each point: its powers over the product of its differences from all other points.
    pub(super) const FROM_TAPS: [[f32; TAPS]; P] = {
        let mut from_taps = [[0.0; TAPS]; P];
        from_taps[P - 1][TAPS - 1] = 1.0;
        if Self::ZERO == 1 {
            from_taps[0][0] = (1.0 / Self::without(MOST)[0]) as f32;
        }
        let mut pair = 0;
        while pair < Self::PAIRS {
            let p = Self::EXACTLY[pair];
            let polynomial = Self::without(pair);
            let (mut differences, mut power, mut k) = (0.0, 2.0 * p, 0);
            if Self::ZERO == 1 {
                power *= p;
            }
            while k < Self::PAIRS {
                differences += polynomial[k] * power;
                power *= p * p;
                k += 1;
            }
            let at = Self::ZERO + 2 * pair;
            from_taps[at] = [
                (1.0 / differences) as f32,
                (p / differences) as f32,
                (p * p / differences) as f32,
            ];
            let [even, odd, square] = from_taps[at];
            from_taps[at + 1] = if Self::ZERO == 1 {
                [even, -odd, square]
            } else {
                [-even, odd, -square]
            };
            pair += 1;
        }
        from_taps
    };

    /// The coefficients of Π (x² − p²) over all pairs but `left_out`.
    const fn without(left_out: usize) -> [f64; MOST + 1] {
        let mut product = [0.0; MOST + 1];
        product[0] = 1.0;
        let mut pair = 0;
        while pair < Self::PAIRS {
            if pair != left_out {
                let square = Self::EXACTLY[pair] * Self::EXACTLY[pair];
                let mut k = MOST;
                while k > 0 {
                    product[k] = product[k - 1] - square * product[k];
                    k -= 1;
                }
                product[0] *= -square;
            }
            pair += 1;
        }
        product
    }
}

const fn rounded(values: [f64; MOST + 1]) -> [f32; MOST + 1] {
    let mut out = [0.0; MOST + 1];
    let mut k = 0;
    while k <= MOST {
        out[k] = values[k] as f32;
        k += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::rule::{Taps, pixels_to_points, points_to_results, taps_to_points};
    use super::*;
    use pulp::Scalar;

    /// Equation (5) of Lavin & Gray (2016), Y = Aᵀ((G g) ⊙ (Bᵀ d)), against the definition y_j = Σ_k d_{j+k} g_k,
    /// where pixels may stand twice.
    fn assert_results_are_those_of_the_definition<const P: usize, const Q: usize>(
        phases: &[Option<usize>],
    ) {
        let d: [f32; P] = std::array::from_fn(|k| 0.3 + ((k * 7 + 3) % 11) as f32 / 8.0);
        let g = [0.75, -1.25, 0.4375];
        let simd = Scalar::new();
        let pixels = pixels_to_points(simd, d);
        for phase in phases {
            let taps = taps_to_points::<_, P>(simd, Taps::new(simd, g, *phase));
            let products: [f32; P] = std::array::from_fn(|p| pixels[p] * taps[p]);
            let results: [f32; Q] = points_to_results(simd, products);
            for (j, result) in results.into_iter().enumerate() {
                let seen = match phase {
                    None => [d[j], d[j + 1], d[j + 2]],
                    Some(0) => [d[j], d[j + 1], d[j + 1]],
                    Some(_) => [d[j], d[j], d[j + 1]],
                };
                let expected = seen[0] * g[0] + seen[1] * g[1] + seen[2] * g[2];
                assert!((result - expected).abs() < 2e-5, "{j}: {result} {expected}");
            }
        }
    }

    #[test]
    fn rules_give_what_the_definition_gives() {
        assert_results_are_those_of_the_definition::<6, 4>(&[None]);
        assert_results_are_those_of_the_definition::<6, 5>(&[Some(0), Some(1)]);
        assert_results_are_those_of_the_definition::<9, 7>(&[None]);
    }

    /// F(4, 3) by hand: Π (x² − p²) = x⁴ − (a² + b²) x² + a²b², and the differences of 5/8 from all other points.
    #[test]
    fn polynomials_are_those_written_out() {
        let [a2, b2] = [0.390625, 2.25];
        assert_eq!(Points::<6>::ALL[..3], [a2 * b2, -(a2 + b2), 1.0]);
        assert_eq!(Points::<6>::OTHERS[0][..2], [-b2, 1.0]);
        let differences = 0.625 * (0.625 + 0.625) * (0.625 - 1.5) * (0.625 + 1.5);
        assert_eq!(Points::<6>::FROM_TAPS[1][0], 1.0 / differences);
        assert_eq!(Points::<9>::OTHERS[0][3], 1.0);
    }
}
