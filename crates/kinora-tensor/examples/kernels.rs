//! How fast the hot operations run: `cargo run --release -p kinora-tensor --example kernels [WORD]`.
//!
//! Prints, for every operation whose name contains WORD, the median time, the rate and its share of
//! the multiply-add peak measured first on the same cores. A convolution's rate counts the
//! operations of its definition, so an algorithm that needs fewer can pass the peak.

use kinora_tensor::ops::{self, Activation, Conv2d};
use kinora_tensor::testing::numbers;
use kinora_tensor::{Result, Tensor, machine, on_the_cores};
use std::hint::black_box;
use std::time::{Duration, Instant};

type Work = Box<dyn Fn() -> Result<Tensor> + Sync>;

/// One measured operation.
struct Case {
    name: String,
    /// Multiplications and additions of the definition; 0 where bytes are what counts.
    operations: f64,
    /// Bytes of all operands and results, each counted once.
    bytes: f64,
    work: Work,
}

fn main() -> Result<()> {
    let word = std::env::args().nth(1).unwrap_or_default();
    let peak = machine::multiply_add_gflops(5) * 1e9;
    println!(
        "{:<52} {:>9} {:>9} {:>8}",
        "operation", "ms", "GFLOP/s", "of peak"
    );
    println!(
        "{:<52} {:>9} {:>9.1} {:>8}",
        "multiply-add peak",
        "",
        peak * 1e-9,
        "1.00"
    );
    for case in cases().iter().filter(|case| case.name.contains(&word)) {
        let secs = on_the_cores(|| median_secs(&case.work))?;
        print!("{:<52} {:>9.3}", case.name, secs * 1e3);
        if case.operations > 0.0 {
            let rate = case.operations / secs;
            println!(" {:>9.1} {:>8.2}", rate * 1e-9, rate / peak);
        } else {
            println!(" {:>9.1} GB/s", case.bytes / secs * 1e-9);
        }
    }
    Ok(())
}

/// The median of at least 5 runs and at most about a second of them, after one to warm up.
fn median_secs(work: &Work) -> Result<f64> {
    black_box(work()?);
    let mut secs = Vec::new();
    let begin = Instant::now();
    while secs.len() < 5 || (begin.elapsed() < Duration::from_secs(1) && secs.len() < 200) {
        let start = Instant::now();
        black_box(work()?);
        secs.push(start.elapsed().as_secs_f64());
    }
    secs.sort_by(f64::total_cmp);
    Ok(secs[secs.len() / 2])
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        linear(2048, 2048, 2048, false),
        linear(257, 1280, 1280, false),
        linear(257, 1280, 5120, false),
        linear(257, 5120, 1280, false),
        linear(5760, 320, 2560, false),
        linear(5760, 320, 2560, true),
        linear(13440, 320, 320, false),
        linear(13440, 1280, 320, false),
        linear(3360, 640, 640, false),
        linear(3360, 2560, 640, false),
        linear(840, 1280, 1280, false),
        linear(840, 1280, 10240, false),
        linear(840, 5120, 1280, false),
        linear(3072, 96, 96, true),
        linear(3072, 96, 768, true),
    ];
    // [n, h, w, i, o] of the UNet's 14 frames of 320×192, of two of 320×576, of the image autoencoder, then of the
    // decoder's 14 frames of 320×192.
    for extents in [
        [14, 24, 40, 320, 320],
        [14, 24, 40, 640, 320],
        [14, 12, 20, 640, 640],
        [14, 12, 20, 1280, 640],
        [14, 6, 10, 1280, 1280],
        [14, 6, 10, 2560, 1280],
        [2, 40, 72, 320, 320],
        [2, 20, 36, 640, 640],
        [2, 10, 18, 1280, 1280],
        [2, 5, 9, 1280, 1280],
        [2, 10, 18, 2560, 1280],
        [2, 40, 72, 8, 320],
        [2, 40, 72, 320, 4],
        [1, 128, 128, 128, 128],
        [1, 64, 64, 512, 512],
        [1, 256, 256, 128, 3],
        [4, 32, 32, 32, 32],
        [4, 16, 16, 64, 64],
        [14, 24, 40, 512, 512],
        [14, 48, 80, 512, 512],
        [14, 96, 160, 512, 256],
        [14, 96, 160, 256, 256],
        [14, 192, 320, 256, 128],
        [14, 192, 320, 128, 128],
    ] {
        cases.push(conv(extents, Conv2d::same(), false));
    }
    cases.push(conv([2, 40, 72, 320, 320], Conv2d::down(), false));
    cases.push(conv([2, 40, 72, 320, 320], Conv2d::same(), true));
    cases.push(conv([2, 10, 18, 1280, 1280], Conv2d::same(), true));
    cases.push(conv([2, 40, 72, 320, 320], Conv2d::down(), true));
    // Of the two small networks that the demo trains.
    for extents in [
        [8, 64, 64, 16, 16],
        [8, 32, 32, 32, 32],
        [8, 16, 16, 64, 64],
        [48, 16, 16, 64, 64],
        [48, 16, 16, 128, 64],
        [48, 8, 8, 96, 96],
        [64, 12, 12, 64, 64],
        [64, 6, 6, 96, 96],
        [32, 8, 8, 128, 128],
    ] {
        cases.push(conv(extents, Conv2d::same(), true));
    }
    for (extents, o) in [
        ([1, 14, 2880, 320], 320),
        ([1, 14, 720, 640], 640),
        ([1, 14, 180, 1280], 1280),
        ([1, 8, 16384, 128], 128),
        // Of the decoder, 14 frames of 320×192.
        ([1, 14, 960, 512], 512),
        ([1, 14, 3840, 512], 512),
        ([1, 14, 15360, 256], 256),
        ([1, 14, 61440, 128], 128),
    ] {
        cases.push(time_conv(extents, o, false));
    }
    for extents in [
        [14, 24, 40, 512, 512],
        [14, 48, 80, 512, 512],
        [14, 96, 160, 256, 256],
        [14, 6, 10, 1280, 1280],
        [14, 12, 20, 640, 640],
    ] {
        cases.push(doubled(extents));
    }
    cases.push(time_conv([1, 14, 2880, 320], 320, true));
    cases.push(time_conv([6, 8, 256, 64], 64, true));
    cases.push(time_conv([6, 8, 64, 96], 96, true));
    for (dims, backward) in [
        ([2, 40, 72, 320], false),
        ([14, 40, 72, 320], false),
        ([1, 256, 256, 128], false),
        ([2, 40, 72, 320], true),
        ([8, 64, 64, 32], true),
        ([48, 16, 16, 64], true),
        ([6, 128, 16, 64], true),
    ] {
        cases.push(group_norm(dims, backward));
    }
    // [pictures, tokens, channels], heads: CLIP's, then the UNet's at three levels of 192×320.
    for (extents, heads, backward) in [
        ([1, 257, 1280], 16, false),
        ([14, 960, 320], 5, false),
        ([14, 240, 640], 10, false),
        ([14, 60, 1280], 20, false),
        ([1, 9216, 320], 5, false),
        ([14, 240, 640], 10, true),
    ] {
        cases.push(attention(extents, heads, backward));
    }
    cases.push(elementwise("gelu", [257, 5120], ops::gelu));
    cases.push(elementwise("geglu", [5760, 2560], ops::geglu));
    cases.push(layer_norm([257, 1280], false));
    cases.push(layer_norm([5760, 320], false));
    cases.push(layer_norm([5760, 320], true));
    cases.push(upsample([2, 40, 72, 320]));
    cases
}

/// `y` alone, or the gradients of everything tracked behind it.
fn finish(y: Tensor, backward: bool) -> Result<Tensor> {
    if backward {
        black_box(y.clone().backward()?);
    }
    Ok(y)
}

fn tracked_if(backward: bool, tensors: Vec<Tensor>) -> Vec<Tensor> {
    let tensors = tensors.into_iter();
    tensors
        .map(|t| if backward { t.tracked() } else { t })
        .collect()
}

fn direction(backward: bool) -> &'static str {
    if backward {
        "forward+backward"
    } else {
        "forward"
    }
}

fn linear(rows: usize, i: usize, o: usize, backward: bool) -> Case {
    let operands = tracked_if(backward, vec![numbers([rows, i], 1), numbers([o, i], 2)]);
    let passes = if backward { 3.0 } else { 1.0 };
    Case {
        name: format!("linear {rows} {i}→{o} {}", direction(backward)),
        operations: passes * 2.0 * (rows * i * o) as f64,
        bytes: 0.0,
        work: Box::new(move || finish(ops::linear(&operands[0], &operands[1], None)?, backward)),
    }
}

fn conv([n, h, w, i, o]: [usize; 5], how: Conv2d, backward: bool) -> Case {
    let x = numbers([n, h, w, i], 1);
    let operands = tracked_if(backward, vec![x, numbers([o, 3, 3, i], 2), numbers([o], 3)]);
    let places = n * h.div_ceil(how.stride) * w.div_ceil(how.stride);
    let passes = if backward { 3.0 } else { 1.0 };
    Case {
        name: format!(
            "conv 3×3/{} {n}×{h}×{w} {i}→{o} {}",
            how.stride,
            direction(backward)
        ),
        operations: passes * 18.0 * (places * i * o) as f64,
        bytes: 0.0,
        work: Box::new(move || {
            let [x, w, b] = &operands[..] else {
                unreachable!("three operands")
            };
            finish(ops::conv2d(x, w, Some(b), how)?, backward)
        }),
    }
}

fn doubled([n, h, width, i, o]: [usize; 5]) -> Case {
    let (x, w, b) = (
        numbers([n, h, width, i], 1),
        numbers([o, 3, 3, i], 2),
        numbers([o], 3),
    );
    Case {
        name: format!("conv 3×3 doubled {n}×{h}×{width} {i}→{o}"),
        operations: 4.0 * 18.0 * (n * h * width * i * o) as f64,
        bytes: 0.0,
        work: Box::new(move || ops::upsample_conv2d(&x, &w, Some(&b))),
    }
}

fn time_conv([b, t, s, i]: [usize; 4], o: usize, backward: bool) -> Case {
    let x = numbers([b, t, s, i], 1);
    let operands = tracked_if(backward, vec![x, numbers([o, 3, i], 2), numbers([o], 3)]);
    let passes = if backward { 3.0 } else { 1.0 };
    Case {
        name: format!("time conv {b}×{t}×{s} {i}→{o} {}", direction(backward)),
        operations: passes * 6.0 * (b * t * s * i * o) as f64,
        bytes: 0.0,
        work: Box::new(move || {
            let [x, w, b] = &operands[..] else {
                unreachable!("three operands")
            };
            finish(ops::time_conv(x, w, Some(b))?, backward)
        }),
    }
}

fn group_norm(dims: [usize; 4], backward: bool) -> Case {
    let c = dims[3];
    let x = numbers(dims, 1);
    let bytes = x.elements() as f64 * if backward { 20.0 } else { 8.0 };
    let operands = tracked_if(backward, vec![x, numbers([c], 2), numbers([c], 3)]);
    Case {
        name: format!("group norm + SiLU {dims:?} {}", direction(backward)),
        operations: 0.0,
        bytes,
        work: Box::new(move || {
            let [x, gamma, beta] = &operands[..] else {
                unreachable!("three operands")
            };
            finish(
                ops::group_norm(x, gamma, beta, 32, 1e-5, Activation::Silu)?,
                backward,
            )
        }),
    }
}

fn layer_norm(dims: [usize; 2], backward: bool) -> Case {
    let c = dims[1];
    let x = numbers(dims, 1);
    let bytes = x.elements() as f64 * if backward { 20.0 } else { 8.0 };
    let operands = tracked_if(backward, vec![x, numbers([c], 2), numbers([c], 3)]);
    Case {
        name: format!("layer norm {dims:?} {}", direction(backward)),
        operations: 0.0,
        bytes,
        work: Box::new(move || {
            let [x, gamma, beta] = &operands[..] else {
                unreachable!("three operands")
            };
            finish(ops::layer_norm(x, gamma, beta, 1e-5)?, backward)
        }),
    }
}

fn attention(extents: [usize; 3], heads: usize, backward: bool) -> Case {
    let [n, tokens, c] = extents;
    let operands = tracked_if(
        backward,
        [1, 2, 3].map(|seed| numbers(extents, seed)).into(),
    );
    let passes = if backward { 3.5 } else { 1.0 };
    Case {
        name: format!(
            "attention {extents:?}, {heads} heads {}",
            direction(backward)
        ),
        operations: passes * 4.0 * (n * tokens * tokens * c) as f64,
        bytes: 0.0,
        work: Box::new(move || {
            let [q, k, v] = &operands[..] else {
                unreachable!("three operands")
            };
            finish(ops::attention(q, k, v, heads)?, backward)
        }),
    }
}

fn elementwise(name: &str, dims: [usize; 2], op: fn(&Tensor) -> Result<Tensor>) -> Case {
    let x = numbers(dims, 1);
    Case {
        name: format!("{name} {dims:?}"),
        operations: 0.0,
        bytes: x.elements() as f64 * 8.0,
        work: Box::new(move || op(&x)),
    }
}

fn upsample(dims: [usize; 4]) -> Case {
    let x = numbers(dims, 1);
    Case {
        name: format!("upsample {dims:?}"),
        operations: 0.0,
        bytes: x.elements() as f64 * 20.0,
        work: Box::new(move || ops::upsample_nearest(&x)),
    }
}
