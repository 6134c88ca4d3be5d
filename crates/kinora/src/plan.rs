//! What a run of `generate` will take, told before it begins, and refused where it cannot fit.

use crate::memory;
use anyhow::bail;
use kinora_model::generate::{Configs, Settings};
use kinora_model::plan::Plan;
use kinora_model::vae::Decoding;
use kinora_model::weights::{Weights, describe};
use kinora_tensor::machine;
use serde_json::{Value, json};

/// Share of the machine's peak that whole networks reach; the estimate of time rests on it until
/// the first step has been timed.
const EXPECTED_SHARE_OF_PEAK: f64 = 0.5;

/// The plan of a run, in words and in fields. A whole decode that does not fit is bounded in
/// `settings`, which gives the same frames.
///
/// # Errors
/// When the run cannot fit; the text names settings that would.
pub fn make(
    weights: &Weights,
    settings: &mut Settings,
    max_memory_gib: Option<f64>,
) -> anyhow::Result<(String, Value)> {
    let parts = describe(&weights.path, None)?.parts;
    let weights_bytes = parts.iter().map(|part| part.bytes).sum();
    let available_bytes = match max_memory_gib {
        Some(gib) if gib > 0.0 => (gib * f64::from(1 << 30)) as usize,
        Some(gib) => bail!("--max-memory-gib: expected a number above zero, found {gib}"),
        None => memory::available_bytes().map_or(usize::MAX, |bytes| bytes as usize),
    };
    let plan = Plan::fitting(
        Configs::of(weights),
        weights_bytes,
        settings,
        available_bytes,
    )?;
    settings.decoding = plan.decoding;
    let decoding = match plan.decoding {
        Decoding::Whole => "decoded exactly, at once".to_owned(),
        Decoding::Bounded { budget_bytes } => {
            format!("decoded exactly, within {}", gib(budget_bytes))
        }
        Decoding::Chunked { frames } => format!("decoded approximately, {frames} frames at a time"),
    };
    let rate = machine::multiply_add_gflops(1) * 1e9 * EXPECTED_SHARE_OF_PEAK;
    let seconds = plan.seconds_at(rate);
    let text = format!(
        "plan: {} of memory at most, {} of it weights, {} free; {decoding}; {:.1} TFLOP, about {}",
        gib(plan.peak_bytes()),
        gib(plan.weights_bytes),
        gib(available_bytes),
        plan.flop() / 1e12,
        duration(seconds),
    );
    let fields = json!({
        "peak_bytes": plan.peak_bytes(), "weights_bytes": plan.weights_bytes,
        "available_bytes": available_bytes, "decoding": decoding,
        "tflop": plan.flop() / 1e12, "estimated_s": crate::progress::round(seconds),
    });
    Ok((text, fields))
}

fn gib(bytes: usize) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
