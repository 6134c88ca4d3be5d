//! What a run of `generate` will take, told before it begins, and refused where it cannot fit.

use crate::memory;
use anyhow::bail;
use kinora_model::flops;
use kinora_model::generate::Settings;
use kinora_model::vae::{Decoding, decode_peak_bytes};
use kinora_model::weights::{Weights, describe};
use kinora_tensor::machine;
use serde::Serialize;
use std::fmt;

/// Share of the machine's peak that whole networks have been seen to reach; the estimate of time
/// rests on it until the first step has been timed.
const EXPECTED_SHARE_OF_PEAK: f64 = 0.5;

/// Memory and time of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Bytes of the weights.
    pub weights_bytes: u64,
    /// Bytes of the denoiser's activations at their peak.
    pub denoise_bytes: u64,
    /// Bytes of the decoder's activations at their peak.
    pub decode_bytes: u64,
    /// Bytes the run may use.
    pub budget_bytes: u64,
    /// Arithmetic of the whole run, in TFLOP.
    pub tflop: f64,
    /// Estimated seconds.
    pub estimated_s: f64,
    /// How frames come out of their latents.
    pub decoding: String,
}

impl Plan {
    /// Plans a run, and bounds the decode where the whole does not fit.
    ///
    /// # Errors
    /// When the run cannot fit, naming what would.
    pub fn new(
        weights: &Weights,
        settings: &mut Settings,
        max_memory_gib: Option<f64>,
    ) -> anyhow::Result<Self> {
        let side = weights.vae.config.downscale();
        let (t, h, w) = (
            settings.frames,
            settings.height / side,
            settings.width / side,
        );
        let weights_bytes: usize = describe(&weights.path, None)?
            .parts
            .iter()
            .map(|part| part.bytes)
            .sum();
        let weights_bytes = weights_bytes as u64;
        let budget_bytes = match max_memory_gib {
            Some(gib) if gib > 0.0 => (gib * f64::from(1 << 30)) as u64,
            Some(gib) => bail!("--max-memory-gib: expected a number above zero, found {gib}"),
            None => memory::available_bytes().unwrap_or(u64::MAX),
        };
        let denoise_bytes = denoise_peak_bytes(&weights.unet.config, t, h, w);
        let left = budget_bytes.saturating_sub(weights_bytes);
        if denoise_bytes > left {
            bail!(
                "this needs {} for the weights and {} for denoising, and may use {}; ask for fewer frames or \
                 a smaller size ({} frames of {}×{} would take a quarter), or use the fp16 variant of the model",
                gib(weights_bytes),
                gib(denoise_bytes),
                gib(budget_bytes),
                settings.frames,
                settings.width / 2,
                settings.height / 2,
            );
        }
        let peak = |decoding| decode_peak_bytes(&weights.vae.config, [t, h, w], decoding);
        if settings.decoding == Decoding::Whole && peak(Decoding::Whole)? as u64 > left / 2 {
            settings.decoding = Decoding::Bounded {
                budget_bytes: (left / 2) as usize,
            };
        }
        let decode_bytes = peak(settings.decoding)? as u64;
        if decode_bytes > left {
            bail!(
                "decoding takes {} and {} are left beside the weights; leave --decode-chunk out to decode \
                 exactly in bounded memory, or give it fewer frames",
                gib(decode_bytes),
                gib(left),
            );
        }
        let tflop = arithmetic(weights, settings, [t, h, w]);
        let rate = machine::multiply_add_gflops(1) * EXPECTED_SHARE_OF_PEAK / 1e3;
        Ok(Plan {
            weights_bytes,
            denoise_bytes,
            decode_bytes,
            budget_bytes,
            tflop,
            estimated_s: crate::progress::round(tflop / rate),
            decoding: match settings.decoding {
                Decoding::Whole => "exact, at once".to_owned(),
                Decoding::Bounded { budget_bytes } => {
                    format!("exact, within {}", gib(budget_bytes as u64))
                }
                Decoding::Chunked { frames } => format!("approximate, {frames} frames at a time"),
            },
        })
    }
}

/// The skip connections of all levels wait while the finest is worked on, whose widest moment is the
/// feed-forward: eight widths for the gate's input, four for its result, and a few for what waits.
fn denoise_peak_bytes(
    config: &kinora_model::unet::UNetConfig,
    t: usize,
    h: usize,
    w: usize,
) -> u64 {
    let places = |level: usize| t * (h >> level).max(1) * (w >> level).max(1);
    let skips: usize = config
        .block_out_channels
        .iter()
        .enumerate()
        .map(|(level, c)| (config.layers_per_block[level] + 1) * c * places(level))
        .sum();
    let finest = 18 * config.block_out_channels[0] * places(0);
    4 * (skips + finest) as u64
}

fn arithmetic(weights: &Weights, settings: &Settings, [t, h, w]: [usize; 3]) -> f64 {
    let branches = if settings.guider.is_active() {
        2.0
    } else {
        1.0
    };
    let passes = branches * settings.sampler.evaluations(settings.steps) as f64;
    let flop = flops::clip(&weights.image_encoder.config)
        + flops::vae_encode(&weights.vae.config, settings.height, settings.width)
        + passes * flops::unet(&weights.unet.config, t, h, w)
        + flops::vae_decode(&weights.vae.config, t, h, w);
    flop / 1e12
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "plan: {} of weights, {} to denoise, {} to decode ({}); {:.1} TFLOP, about {}",
            gib(self.weights_bytes),
            gib(self.denoise_bytes),
            gib(self.decode_bytes),
            self.decoding,
            self.tflop,
            duration(self.estimated_s),
        )
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
