//! Draws from a Gaussian whose best denoiser is known, and shows the noise becoming it.
//!
//! cargo run -p kinora-diffusion --example sample_toy

use kinora_diffusion::{Error, initial_deviation, karras, sampler};
use kinora_tensor::random::Philox;
use kinora_tensor::{Tensor, ops};
use std::ops::ControlFlow;

const MEAN: f32 = 2.0;
const DEVIATION: f32 = 0.7;

fn main() -> Result<(), Error> {
    let sigmas = karras(12, 0.02, 10.0, 7.0);
    let start = ops::scale(
        &Philox::new(7, 0).normal([20_000])?,
        initial_deviation(sigmas[0]),
    )?;

    // For data of mean m and variance s², the best guess behind x weighs x and m by their precision.
    let mut denoise = |x: &Tensor, sigma: f32| {
        let share = DEVIATION * DEVIATION / (DEVIATION * DEVIATION + sigma * sigma);
        Ok::<_, Error>(ops::affine(x, share, (1.0 - share) * MEAN)?)
    };

    println!("   sigma  -8 {:^59} 8", "x");
    println!("{:8.3} {}", sigmas[0], drawn(&start));
    sampler::heun(&mut denoise, start, &sigmas, &mut |step| {
        println!("{:8.3} {}", sigmas[step.done], drawn(step.x));
        ControlFlow::Continue(())
    })?;
    println!("the data: mean {MEAN}, standard deviation {DEVIATION}");
    Ok(())
}

/// A histogram of the values between −8 and 8 in one line of text.
fn drawn(x: &Tensor) -> String {
    let mut counts = [0_usize; 64];
    for value in x.to_vec() {
        let bin = ((value + 8.0) * 4.0).floor();
        if (0.0..64.0).contains(&bin) {
            counts[bin as usize] += 1;
        }
    }
    let most = counts.into_iter().max().unwrap_or(0).max(1);
    let shades: Vec<char> = " .:-=+*#%@".chars().collect();
    counts
        .iter()
        .map(|count| shades[count * 9 / most])
        .collect()
}
