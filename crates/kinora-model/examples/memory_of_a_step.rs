//! Runs the denoiser of the published size (random weights) once and tells how much memory its
//! activations were planned to take, and took.
//!
//! `cargo run --release -p kinora-model --example memory_of_a_step -- FRAMES HEIGHT WIDTH [CHANNELS]`

use kinora_diffusion::LinearGuider;
use kinora_model::compute::Compute;
use kinora_model::generate::{Configs, Settings, Stage};
use kinora_model::params::Source;
use kinora_model::plan::{Load, Plan};
use kinora_model::presets::Preset;
use kinora_model::unet::UNet;
use kinora_tensor::testing::numbers;
use kinora_tensor::{Tensor, no_grad};

/// The memory this process holds (`VmRSS:`) or has held at most (`VmHWM:`), in MiB, as Linux tells it.
fn held_mib(what: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers_given: Result<Vec<usize>, _> =
        std::env::args().skip(1).map(|a| a.parse()).collect();
    let (t, height, width, channels) = match numbers_given?[..] {
        [t, height, width] => (t, height, width, 320),
        [t, height, width, channels] => (t, height, width, channels),
        _ => return Err("expected FRAMES HEIGHT WIDTH [CHANNELS of the finest level]".into()),
    };
    let preset = Preset::named("svd").ok_or("no preset")?;
    let (clip, vae, mut unet) = (preset.image_encoder(), preset.vae(), preset.unet());
    for (wide, heads) in unet
        .block_out_channels
        .iter_mut()
        .zip(&mut unet.num_attention_heads)
    {
        *wide = *wide * channels / 320;
        *heads = *wide / 64;
    }
    let configs = Configs {
        clip: &clip,
        vae: &vae,
        unet: &unet,
    };
    let settings = Settings {
        frames: t,
        guider: LinearGuider { min: 1.0, max: 1.0 },
        ..Settings::default_for(configs, height, width)
    };
    let plan = Plan::new(configs, &Load::nothing(Compute::PROCESSOR), &settings)?;
    let planned = plan.stages.iter().find(|cost| cost.stage == Stage::Denoise);
    let planned_mib = planned.map_or(0, |cost| cost.activation_bytes) >> 20;

    let network = UNet::new(&Source::fresh(1), &unet)?;
    Tensor::release_scratch_memory();
    std::fs::write("/proc/self/clear_refs", "5")?; // the peak begins anew
    let before = held_mib("VmRSS:");
    let (h, w) = (height / 8, width / 8);
    no_grad(|| -> kinora_model::Result<()> {
        let (context, still) = (numbers([1, 1, 1024], 1), numbers([1, 1, h, w, 4], 2));
        let prepared = network.prepare(&context, &[[6.0, 127.0, 0.02]], Some(&still), t)?;
        let noisy = numbers([1, t, h, w, 4], 3);
        network
            .forward_prepared(&prepared, &noisy, &[0.5])
            .map(drop)
    })?;
    println!(
        "planned {planned_mib} MiB, took {:.0} MiB",
        held_mib("VmHWM:") - before
    );
    Ok(())
}
