use super::*;
use crate::testing::{assert_close, numbers, relative_l2};
use crate::{DType, Tensor};

/// The definition in f64, from pixels `[n, h, w, i]` and a weight `[o, 3, 3, i]` (or, backwards, from
/// `[n, h, w, o]`), with `pad` rows and columns of zeros before the first.
fn slow(
    x: &Tensor,
    w: &Tensor,
    b: &[f32],
    to: [usize; 2],
    pad: [usize; 2],
    backward: bool,
) -> Vec<f32> {
    let &[n, height, width, from] = x.dims() else {
        panic!("pictures")
    };
    let inner = w.shape().last();
    let channels = if backward { inner } else { w.dims()[0] };
    let (x, w) = (x.to_vec(), w.to_vec());
    let mut out = Vec::new();
    for place in 0..n * to[0] * to[1] * channels {
        let (place, c) = (place / channels, place % channels);
        let (rest, column) = (place / to[1], place % to[1]);
        let (picture, row) = (rest / to[0], rest % to[0]);
        let mut sum = f64::from(b[c]);
        for tap in 0..9 {
            let y = (row + tap / 3).wrapping_sub(pad[0]);
            let z = (column + tap % 3).wrapping_sub(pad[1]);
            if y < height && z < width {
                for k in 0..from {
                    let pixel = x[((picture * height + y) * width + z) * from + k];
                    let weight = if backward {
                        w[(k * 9 + 8 - tap) * inner + c]
                    } else {
                        w[(c * 9 + tap) * inner + k]
                    };
                    sum += f64::from(pixel) * f64::from(weight);
                }
            }
        }
        out.push(sum as f32);
    }
    out
}

fn run_pictures(
    x: &Tensor,
    w: &Tensor,
    b: &[f32],
    to: [usize; 2],
    pad: [usize; 2],
    direction: Direction,
) -> Vec<f32> {
    let &[n, height, width, from] = x.dims() else {
        panic!("pictures")
    };
    let job = OverPictures {
        grid: Grid::pictures(n, [height, width], to, pad),
        pixels: x.as_f32().unwrap(),
        weight: Weight::new(w, direction),
        bias: Some(b),
        onto: None,
        from,
        to: b.len(),
    };
    let mut out = vec![f32::NAN; n * to[0] * to[1] * b.len()];
    job.run(&mut out);
    out
}

#[test]
fn pictures_agree_with_the_definition_both_ways() {
    // (pictures, rows, columns), channels read and written, result rows and columns, zeros before.
    for ([n, h, w], from, to, places, pad) in [
        ([1, 1, 1], 1, 1, [1, 1], [1, 1]),
        ([2, 5, 7], 3, 4, [5, 7], [1, 1]),
        ([1, 9, 6], 100, 33, [7, 4], [0, 0]),
        ([3, 4, 3], 7, 65, [5, 6], [2, 0]),
        ([1, 6, 70], 193, 5, [8, 69], [2, 1]),
        // Several blocks of tiles, several stretches of channels.
        ([1, 70, 71], 210, 3, [70, 71], [1, 1]),
    ] {
        let x = numbers([n, h, w, from], 1);
        let b = numbers([to], 3).to_vec();
        let forward = numbers([to, 3, 3, from], 2);
        let y = run_pictures(&x, &forward, &b, places, pad, Direction::Forward);
        assert_close(&y, &slow(&x, &forward, &b, places, pad, false), 2e-6);
        let backward = numbers([from, 3, 3, to], 4);
        let y = run_pictures(&x, &backward, &b, places, pad, Direction::Backward);
        assert_close(&y, &slow(&x, &backward, &b, places, pad, true), 2e-6);
    }
}

#[test]
fn doubled_pictures_agree_with_the_definition() {
    for ([n, h, w], from, to) in [
        ([1, 1, 1], 1, 1),
        ([2, 4, 5], 3, 4),
        ([1, 5, 9], 100, 33),
        ([3, 10, 3], 7, 65),
        // Several blocks of tiles, several stretches of channels.
        ([1, 70, 71], 210, 3),
    ] {
        let x = numbers([n, h, w, from], 1);
        let weight = numbers([to, 3, 3, from], 2);
        let b = numbers([to], 3).to_vec();
        let job = OverDoubled {
            grid: Grid::doubled(n, [h, w]),
            pixels: x.as_f32().unwrap(),
            weight: Weight::new(&weight, Direction::Forward),
            bias: Some(&b),
            onto: None,
            from,
            to,
        };
        let size = [2 * h, 2 * w];
        let mut y = vec![f32::NAN; n * size[0] * size[1] * to];
        job.run(&mut y);
        let doubled = crate::ops::upsample_nearest(&x).unwrap();
        let expected = slow(&doubled, &weight, &b, size, [1, 1], false);
        assert_close(&y, &expected, 2e-6);
    }
}

#[test]
fn weights_of_sixteen_bits_give_what_their_wide_copies_give() {
    let (x, b) = (numbers([2, 6, 5, 20], 1), numbers([9], 3).to_vec());
    for dtype in [DType::F16, DType::BF16] {
        for (shape, direction) in [
            ([9, 3, 3, 20], Direction::Forward),
            ([20, 3, 3, 9], Direction::Backward),
        ] {
            let narrow = numbers(shape, 2).cast(dtype);
            let wide = narrow.cast(DType::F32);
            let run = |w: &Tensor| run_pictures(&x, w, &b, [6, 5], [1, 1], direction);
            assert_eq!(run(&narrow), run(&wide));
        }
    }
}

/// A clip `[clips, frames, places, from]` along time by F(Q, 3).
fn run_frames<const P: usize, const Q: usize>(x: &Tensor, w: &Tensor) -> Vec<f32> {
    let &[clips, frames, places, from] = x.dims() else {
        panic!("clips")
    };
    let to = w.dims()[0];
    let job = Winograd::<1, P, Q> {
        grid: Grid::frames(clips, frames, places),
        pixels: x.as_f32().unwrap(),
        weight: Weight::new(w, Direction::Forward),
        bias: None,
        onto: None,
        from,
        to,
    };
    let mut out = vec![f32::NAN; clips * frames * places * to];
    job.run(&mut out);
    out
}

/// The same clip as pictures [frames, places] under a kernel that looks along the rows only.
fn slow_frames(x: &Tensor, w: &Tensor) -> Vec<f32> {
    let &[to, _, from] = w.dims() else {
        panic!("a weight of frames")
    };
    let mut kernel = vec![0.0; to * 9 * from];
    for (row, values) in w.to_vec().chunks(from).enumerate() {
        let start = (row / 3 * 9 + row % 3 * 3 + 1) * from;
        kernel[start..start + from].copy_from_slice(values);
    }
    let kernel = Tensor::from_vec(kernel, [to, 3, 3, from]).unwrap();
    let places = [x.dims()[1], x.dims()[2]];
    slow(x, &kernel, &vec![0.0; to], places, [1, 1], false)
}

#[test]
fn frames_agree_with_the_definition() {
    for (clips, frames, places, from, to) in [
        (1, 1, 1, 1, 1),
        (2, 5, 3, 4, 2),
        (1, 4, 7, 100, 33),
        (3, 7, 1, 17, 3),
        (1, 8, 2, 3, 64),
        (1, 14, 5, 9, 40),
        // Several blocks of tiles, several stretches of channels.
        (1, 14, 210, 193, 65),
    ] {
        let x = numbers([clips, frames, places, from], 1);
        let w = numbers([to, 3, from], 2);
        let expected = slow_frames(&x, &w);
        assert_close(&run_frames::<POINTS, RESULTS>(&x, &w), &expected, 1e-6);
        assert_close(&run_frames::<9, 7>(&x, &w), &expected, 3e-6);
    }
}

#[test]
fn frames_are_cut_by_seven_where_that_leaves_fewer_products() {
    let w = numbers([64, 3, 64], 2);
    let by_seven = |frames: usize| {
        let x = numbers([1, frames, 60, 64], 1);
        let job = AlongTime {
            grid: Grid::frames(1, frames, 60),
            pixels: x.as_f32().unwrap(),
            weight: Weight::new(&w, Direction::Forward),
            bias: None,
            onto: None,
            from: 64,
            to: 64,
        };
        job.by_seven().is_some()
    };
    // 9 products for 7 frames, 6 for 4.
    let chosen: Vec<usize> = (1..26).filter(|frames| by_seven(*frames)).collect();
    assert_eq!(chosen, [5, 6, 7, 13, 14, 17, 18, 19, 20, 21, 25]);
}

/// Both ways over all groups, with different numbers of them to a task.
fn assert_the_same_in_cache_and_in_blocks<const R: usize, const P: usize, const Q: usize>(
    job: &Winograd<'_, R, P, Q>,
) {
    let groups = job.tiles().div_ceil(TILES);
    let mut expected = vec![f32::NAN; job.grid.outer * job.grid.to.len() * job.to];
    job.in_blocks(groups, &Shared::new(&mut expected));
    for per_task in [1, 2, 5, groups] {
        let mut y = vec![f32::NAN; expected.len()];
        job.in_cache(groups, per_task, &Shared::new(&mut y));
        assert_eq!(y, expected, "{per_task} of {groups} groups to a task");
    }
}

#[test]
fn groups_that_stay_in_cache_give_what_blocks_give() {
    for ([n, h, w], from, to) in [
        ([1, 1, 1], 1, 1),
        ([3, 12, 13], 64, 64),
        ([2, 9, 30], 70, 96),
        ([5, 6, 6], 130, 33),
    ] {
        let (x, bias) = (numbers([n, h, w, from], 1), numbers([to], 3).to_vec());
        for (direction, shape) in [
            (Direction::Forward, [to, 3, 3, from]),
            (Direction::Backward, [from, 3, 3, to]),
        ] {
            let weight = numbers(shape, 2);
            assert_the_same_in_cache_and_in_blocks(&OverPictures {
                grid: Grid::pictures(n, [h, w], [h, w], [1, 1]),
                pixels: x.as_f32().unwrap(),
                weight: Weight::new(&weight, direction),
                bias: Some(&bias),
                onto: None,
                from,
                to,
            });
        }
        let weight = numbers([to, 3, from], 2);
        assert_the_same_in_cache_and_in_blocks(&AlongTime {
            grid: Grid::frames(n, h, w),
            pixels: x.as_f32().unwrap(),
            weight: Weight::new(&weight, Direction::Forward),
            bias: None,
            onto: None,
            from,
            to,
        });
    }
}

#[test]
fn few_channels_stay_in_cache_and_many_do_not() {
    let in_cache = |channels: usize| {
        let (x, w) = (
            numbers([1, 4, 4, channels], 1),
            numbers([channels, 3, 3, channels], 2),
        );
        let job = OverPictures {
            grid: Grid::pictures(1, [4; 2], [4; 2], [1; 2]),
            pixels: x.as_f32().unwrap(),
            weight: Weight::new(&w, Direction::Forward),
            bias: None,
            onto: None,
            from: channels,
            to: channels,
        };
        job.groups_in_cache(1 << 20)
    };
    assert_eq!(in_cache(64), Some(5));
    assert_eq!(in_cache(320), None);
}

/// What the models' blocks may differ by is 1e-5; a convolution must stay well below. Measured: 9e-7
/// at 320 channels and 1.2e-6 at 1280.
#[test]
fn the_rounding_error_is_a_tenth_of_what_a_block_may_differ_by() {
    let x = numbers([1, 8, 8, 320], 1);
    // All of one sign on average, as after a SiLU: the hardest common case.
    let x = crate::ops::affine(&x, 1.0, 0.3).unwrap();
    let (w, b) = (numbers([32, 3, 3, 320], 2), vec![0.0; 32]);
    let y = run_pictures(&x, &w, &b, [8, 8], [1, 1], Direction::Forward);
    let error = relative_l2(&y, &slow(&x, &w, &b, [8, 8], [1, 1], false));
    assert!(error < 1.5e-6, "{error:e}");
    // Along time: measured 3.3e-7 by F(4, 3) and 1.2e-6 by F(7, 3).
    let x = numbers([1, 14, 4, 320], 1);
    let x = crate::ops::affine(&x, 1.0, 0.3).unwrap();
    let w = numbers([32, 3, 320], 2);
    let expected = slow_frames(&x, &w);
    let [by_four, by_seven] = [
        run_frames::<POINTS, RESULTS>(&x, &w),
        run_frames::<9, 7>(&x, &w),
    ]
    .map(|y| relative_l2(&y, &expected));
    assert!(
        by_four < 1e-6 && by_seven < 2e-6,
        "{by_four:e} {by_seven:e}"
    );
}

#[test]
fn it_pays_where_there_are_enough_channels_and_tiles() {
    let pays = |side: usize, channels: usize| {
        let (x, w) = (
            numbers([2, side, side, channels], 1),
            numbers([channels, 3, 3, channels], 2),
        );
        let job = OverPictures {
            grid: Grid::pictures(2, [side; 2], [side; 2], [1; 2]),
            pixels: x.as_f32().unwrap(),
            weight: Weight::new(&w, Direction::Forward),
            bias: None,
            onto: None,
            from: channels,
            to: channels,
        };
        job.pays()
    };
    assert!(pays(32, 64));
    assert!(!pays(32, 4));
    assert!(!pays(2, 256));
}
