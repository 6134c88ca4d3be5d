use super::*;
use crate::testing::{assert_close, numbers};
use half::{bf16, f16};

/// Every extent beside a boundary: one line, fewer than a vector, one more than a panel, two stretches
/// of the inner extent and one term, two panels of two vectors, several tasks.
const CASES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [3, 5, 7],
    [16, 33, 17],
    [257, 64, 65],
    [49, 513, 50],
    [33, 70, 60],
    [7, 1100, 100],
    [100, 1100, 7],
    [65, 100, 9],
    [600, 130, 700],
];

fn slow(m: usize, k: usize, n: usize, a: &[f32], b: &[f32]) -> Vec<f32> {
    let sum = |i: usize, j: usize| -> f64 {
        (0..k)
            .map(|t| f64::from(a[i * k + t]) * f64::from(b[t * n + j]))
            .sum()
    };
    (0..m * n).map(|at| sum(at / n, at % n) as f32).collect()
}

fn transposed<T: Copy>(values: &[T], rows: usize, cols: usize) -> Vec<T> {
    let at = |at: usize| values[at % rows * cols + at / rows];
    (0..rows * cols).map(at).collect()
}

#[test]
fn both_ways_agree_with_the_triple_loop_in_every_orientation() {
    for [m, k, n] in CASES {
        let (x, y) = (numbers([m, k], 1).to_vec(), numbers([k, n], 2).to_vec());
        let (xt, yt) = (transposed(&x, m, k), transposed(&y, k, n));
        let expected = slow(m, k, n, &x, &y);
        let orientations = [
            (MatRef::new(&x, m, k), MatRef::new(&y, k, n)),
            (MatRef::new(&xt, k, m).t(), MatRef::new(&y, k, n)),
            (MatRef::new(&x, m, k), MatRef::new(&yt, n, k).t()),
            (MatRef::new(&xt, k, m).t(), MatRef::new(&yt, n, k).t()),
        ];
        for (a, b) in orientations {
            for along in [Along::Rows, Along::Columns] {
                let mut out = vec![f32::NAN; m * n];
                product(&mut out, n, a, b, Start::Zero, along);
                assert_close(&out, &expected, 1e-6);
                product(&mut out, n, a, b, Start::Result, along);
                let twice: Vec<f32> = expected.iter().map(|sum| 2.0 * sum).collect();
                assert_close(&out, &twice, 1e-6);
            }
        }
    }
}

#[test]
fn a_row_is_added_and_rows_may_lie_apart() {
    let (m, k, n, stride) = (19, 600, 53, 60);
    let (x, y) = (numbers([m, k], 1).to_vec(), numbers([k, n], 2).to_vec());
    let row = numbers([n], 3).to_vec();
    for along in [Along::Rows, Along::Columns] {
        let mut out = vec![7.0; m * stride];
        let (a, b) = (MatRef::new(&x, m, k), MatRef::new(&y, k, n));
        product(&mut out, stride, a, b, Start::Row(&row), along);
        let expected = slow(m, k, n, &x, &y);
        for (out, expected) in out.chunks(stride).zip(expected.chunks(n)) {
            let expected: Vec<f32> = expected.iter().zip(&row).map(|(a, b)| a + b).collect();
            assert_close(&out[..n], &expected, 1e-6);
            assert!(out[n..].iter().all(|&value| value == 7.0));
        }
    }
}

#[test]
fn values_of_sixteen_bits_are_read_as_what_they_are() {
    fn check<T: Widen>(round: impl Fn(f32) -> T) {
        for [m, k, n] in CASES {
            let x = numbers([m, k], 1).to_vec();
            let y: Vec<T> = numbers([k, n], 2)
                .to_vec()
                .into_iter()
                .map(&round)
                .collect();
            let wide: Vec<f32> = y.iter().map(|value| value.wide()).collect();
            let expected = slow(m, k, n, &x, &wide);
            let yt = transposed(&y, k, n);
            for along in [Along::Rows, Along::Columns] {
                for b in [MatRef::new(&y, k, n), MatRef::new(&yt, n, k).t()] {
                    let mut out = vec![f32::NAN; m * n];
                    product(&mut out, n, MatRef::new(&x, m, k), b, Start::Zero, along);
                    assert_close(&out, &expected, 1e-6);
                }
            }
        }
    }
    check(f16::from_f32);
    check(bf16::from_f32);
}

#[test]
fn does_not_depend_on_the_number_of_threads() {
    let (m, k, n) = (300, 700, 200);
    let (x, y) = (numbers([m, k], 1).to_vec(), numbers([k, n], 2).to_vec());
    let run = |threads: usize, along| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let mut out = vec![0.0; m * n];
            let (a, b) = (MatRef::new(&x, m, k), MatRef::new(&y, k, n));
            product(&mut out, n, a, b, Start::Zero, along);
            out
        })
    };
    for along in [Along::Rows, Along::Columns] {
        assert_eq!(run(1, along), run(5, along));
    }
}
