use super::*;
use crate::testing::{assert_close, numbers};

/// The definition, in f64: dw\[o, k, l, i\] = Σ dy\[place, o\] · x\[place + (k, l) − pad, i\].
fn slow<const R: usize, const RT: usize, const RR: usize>(
    job: &Gradient<'_, R, RT, RR>,
) -> Vec<f32> {
    let Gradient { grid, from, to, .. } = *job;
    let mut out = vec![0.0f64; to * RT * TAPS * from];
    let [rows, columns] = grid.to.extent;
    for place in 0..grid.outer * rows * columns {
        let (outer, row, column) = (
            place / columns / rows,
            place / columns % rows,
            place % columns,
        );
        let at = grid.to.at(row, column).unwrap() + outer * grid.to.len();
        for tap in 0..RT * TAPS {
            let y = (row + tap / TAPS).wrapping_sub(grid.pad[0]);
            let x = (column + tap % TAPS).wrapping_sub(grid.pad[1]);
            let Some(pixel) = grid.from.at(y, x) else {
                continue;
            };
            let pixel = pixel + outer * grid.from.len();
            for (o, i) in (0..to).flat_map(|o| (0..from).map(move |i| (o, i))) {
                out[(o * RT * TAPS + tap) * from + i] +=
                    f64::from(job.gradient[at * to + o]) * f64::from(job.pixels[pixel * from + i]);
            }
        }
    }
    out.into_iter().map(|v| v as f32).collect()
}

fn check<const R: usize, const RT: usize, const RR: usize>(job: &Gradient<'_, R, RT, RR>) {
    let mut out = vec![f32::NAN; job.to * RT * TAPS * job.from];
    job.run(&mut out);
    assert_close(&out, &slow(job), 3e-6);
}

#[test]
fn pictures_agree_with_the_definition() {
    for ([n, h, w], from, to, [oh, ow], pad) in [
        ([1, 1, 1], 1, 1, [1, 1], [1, 1]),
        ([2, 5, 7], 3, 4, [5, 7], [1, 1]),
        ([1, 9, 6], 70, 33, [7, 4], [0, 0]),
        ([3, 4, 3], 7, 65, [5, 6], [2, 0]),
        ([13, 12, 12], 16, 40, [12, 12], [1, 1]), // More tiles than are at the points at once.
        ([40, 12, 13], 33, 9, [12, 13], [1, 1]),  // Several parts.
    ] {
        let (x, dy) = (numbers([n, h, w, from], 1), numbers([n, oh, ow, to], 2));
        check(&GradientOverPictures {
            grid: Grid::pictures(n, [h, w], [oh, ow], pad),
            pixels: x.as_f32().unwrap(),
            gradient: dy.as_f32().unwrap(),
            from,
            to,
        });
    }
}

#[test]
fn it_pays_where_channels_make_up_for_the_way_to_the_points() {
    let pays = |n: usize, side: usize, channels: usize| {
        GradientOverPictures {
            grid: Grid::pictures(n, [side; 2], [side; 2], [1; 2]),
            pixels: &[],
            gradient: &[],
            from: channels,
            to: channels,
        }
        .pays()
    };
    assert!(pays(64, 12, 64));
    assert!(pays(32, 8, 128));
    assert!(!pays(64, 24, 32), "few channels");
    assert!(!pays(64, 6, 96), "tiles that are half empty");
    assert!(
        !pays(14, 24, 320),
        "a gradient too large for a task to hold"
    );
}

#[test]
fn frames_agree_with_the_definition() {
    for (clips, frames, places, from, to) in [
        (1, 1, 1, 1, 1),
        (2, 5, 3, 4, 2),
        (1, 4, 7, 100, 33),
        (2, 14, 90, 9, 40),
    ] {
        let dims = [clips, frames, places];
        let x = numbers([dims[0], dims[1], dims[2], from], 1);
        let dy = numbers([dims[0], dims[1], dims[2], to], 2);
        check(&GradientAlongTime {
            grid: Grid::frames(clips, frames, places),
            pixels: x.as_f32().unwrap(),
            gradient: dy.as_f32().unwrap(),
            from,
            to,
        });
    }
}
