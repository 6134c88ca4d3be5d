//! What a run of `generate` will take, told before it begins, and refused where it cannot fit.

use crate::device::Place;
use anyhow::bail;
use kinora_model::compute::Compute;
use kinora_model::generate::{Configs, Settings};
use kinora_model::plan::{Load, Plan, Streaming};
use kinora_model::vae::Decoding;
use kinora_model::weights::Weights;
use kinora_tensor::machine;
use serde_json::{Value, json};

/// Share of the machine's peak that whole networks reach; the estimate of time rests on it until
/// the first step has been timed. On a card it is not measured yet.
const EXPECTED_SHARE_OF_PEAK: f64 = 0.5;

/// The plan of a run.
pub struct Planned {
    /// In words.
    pub text: String,
    /// In fields.
    pub fields: Value,
    /// How the frames come out of their latents: a whole decode that does not fit is bounded, which
    /// gives the same frames.
    pub decoding: Decoding,
    /// How weights pass through a card's memory, where they do not all fit.
    pub streaming: Option<Streaming>,
    /// The most that may be asked of a card, where a limit was given.
    pub limit_bytes: Option<usize>,
}

/// Plans a run on a device that is ready.
///
/// # Errors
/// When the run cannot fit; the text names settings that would.
pub fn make(
    weights: &Weights,
    settings: &Settings,
    max_memory_gib: Option<f64>,
    place: &Place,
) -> anyhow::Result<Planned> {
    let compute = place.compute;
    let available_bytes = match max_memory_gib {
        Some(gib) if gib > 0.0 => (gib * f64::from(1 << 30)) as usize,
        Some(gib) => bail!("--max-memory-gib: expected a number above zero, found {gib}"),
        None => place.free_bytes.unwrap_or(usize::MAX),
    };
    let load = Load::of(weights, compute);
    let plan = Plan::fitting(Configs::of(weights), &load, settings, available_bytes)?;
    let runs_a_step = runs_a_step(settings);
    let decoding = match plan.decoding {
        Decoding::Whole => "decoded exactly, at once".to_owned(),
        Decoding::Bounded { budget_bytes } => {
            format!("decoded exactly, within {}", gib(budget_bytes))
        }
        Decoding::Chunked { frames } => format!("decoded approximately, {frames} frames at a time"),
    };
    let seconds = plan.seconds_at(rate(compute)? * EXPECTED_SHARE_OF_PEAK);
    let (memory, reserve) = match compute.is_on_card() {
        false => ("memory".to_owned(), String::new()),
        true => (
            format!("the memory of {compute}"),
            format!(", {} for its libraries", gib(plan.reserve_bytes)),
        ),
    };
    let passing = plan.streaming.map_or_else(String::new, |streaming| {
        format!(
            "; {} of the weights stay there, {} are brought for every run of the UNet ({} a step) and \
             {} once",
            gib(streaming.resident_bytes),
            gib(streaming.run_bytes),
            gib(runs_a_step * streaming.run_bytes),
            gib(streaming.once_bytes)
        )
    });
    let text = format!(
        "plan: {} of {memory} at most, {} of it weights{reserve}, {} free{passing}; {decoding}; {:.1} \
         TFLOP, about {}",
        gib(plan.peak_bytes()),
        gib(plan.fullest().weights_bytes),
        gib(available_bytes),
        plan.flop() / 1e12,
        duration(seconds),
    );
    let fields = json!({
        "device": compute.device().to_string(), "dtype": compute.dtype().to_string(),
        "peak_bytes": plan.peak_bytes(), "weights_bytes": plan.fullest().weights_bytes,
        "reserve_bytes": plan.reserve_bytes,
        "resident_bytes": plan.streaming.map_or(plan.fullest().weights_bytes, |s| s.resident_bytes),
        "streamed_bytes_a_step": plan.streaming.map_or(0, |s| runs_a_step * s.run_bytes),
        "streamed_bytes_once": plan.streaming.map_or(0, |s| s.once_bytes),
        "available_bytes": available_bytes, "decoding": decoding,
        "tflop": plan.flop() / 1e12, "estimated_s": crate::progress::round(seconds),
    });
    Ok(Planned {
        text,
        fields,
        decoding: plan.decoding,
        streaming: plan.streaming,
        limit_bytes: max_memory_gib
            .filter(|_| compute.is_on_card())
            .map(|_| available_bytes.saturating_sub(compute.libraries_bytes())),
    })
}

/// How often the UNet runs for one step, rounded up.
fn runs_a_step(settings: &Settings) -> usize {
    let branches = match settings.guider.is_active() && !settings.branches_together {
        true => 2,
        false => 1,
    };
    let evaluations = settings.sampler.evaluations(settings.steps);
    branches * evaluations.div_ceil(settings.steps.max(1))
}

/// Multiplications and additions a second at best: of the cores in f32, of a card as it multiplies
/// matrices in the type it computes in.
fn rate(compute: Compute) -> anyhow::Result<f64> {
    // Large enough to fill a card for a moment.
    const SIDE: usize = 2048;
    let gflops = match compute.is_on_card() {
        false => machine::multiply_add_gflops(1),
        true => machine::matmul_gflops(compute.device(), compute.dtype(), SIDE, 1)?,
    };
    Ok(gflops * 1e9)
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
