//! Decodes random latents with a random autoencoder and tells how much memory was planned and taken,
//! and how long it took.
//!
//! `cargo run --release --example decode_in_bounds -- FRAMES HEIGHT WIDTH BUDGET_MIB|whole [CHANNELS]`
//!
//! The channels, such as `32,32,64,64`, are those of the full-size autoencoder where none are given.

use kinora_model::compute::Compute;
use kinora_model::params::Source;
use kinora_model::vae::{Decoding, Vae, VaeConfig, decode_peak_bytes};
use kinora_tensor::{no_grad, random::Philox};
use std::ops::ControlFlow;
use std::time::Instant;

/// The most memory this process has held so far, in MiB, as Linux tells it.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [frames, height, width, budget, channels @ ..] = &args[..] else {
        return Err("expected FRAMES HEIGHT WIDTH BUDGET_MIB|whole [CHANNELS]".into());
    };
    let (t, h, w): (usize, usize, usize) = (frames.parse()?, height.parse()?, width.parse()?);
    let config = match channels.first() {
        None => VaeConfig::svd(),
        Some(list) => {
            let channels: Result<Vec<usize>, _> = list.split(',').map(str::parse).collect();
            VaeConfig::temporal(&channels?, 2)
        }
    };
    let vae = Vae::new(&Source::fresh(1), &config)?;
    let (h, w) = (h / config.downscale(), w / config.downscale());
    let latents = Philox::new(1, 0).normal([1, t, h, w, config.latent_channels])?;

    let decoding = match budget.as_str() {
        "whole" => Decoding::Whole,
        mib => Decoding::Bounded {
            budget_bytes: mib.parse::<usize>()? << 20,
        },
    };
    let planned = decode_peak_bytes(&config, [t, h, w], decoding, Compute::PROCESSOR)?;
    let before = peak_mib();
    let start = Instant::now();
    let mut sum = 0.0;
    match decoding {
        Decoding::Bounded { budget_bytes } => {
            vae.decode_bounded(&latents, budget_bytes, |_, x| {
                sum += x.to_vec().iter().map(|v| f64::from(v.abs())).sum::<f64>();
                Ok(ControlFlow::Continue(()))
            })?
        }
        _ => {
            let x = no_grad(|| vae.decode(&latents))?;
            sum += x.to_vec().iter().map(|v| f64::from(v.abs())).sum::<f64>();
        }
    }
    println!(
        "{:.2} s; planned {:.0} MiB, taken {:.0} MiB above the {before:.0} MiB of weights; mean |x| {}",
        start.elapsed().as_secs_f64(),
        planned as f64 / (1 << 20) as f64,
        peak_mib() - before,
        sum / (t * h * w * config.downscale().pow(2) * 3) as f64
    );
    Ok(())
}
