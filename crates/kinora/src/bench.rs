//! `kinora bench`: what this machine can do at best, then every stage of the model against it.

mod stages;

use crate::Outcome;
use crate::args::{BenchArgs, BenchStage};
use crate::progress::{Manner, Reporter};
use crate::{device, memory};
use anyhow::bail;
use kinora_model::compute::Compute;
use kinora_tensor::{machine, synchronize};
use serde_json::{Map, Value, json};
use stages::Subject;
use std::io::Write as _;
use std::time::Instant;

/// Every stage, in the order of the report.
const STAGES: [BenchStage; 6] = [
    BenchStage::Peak,
    BenchStage::Clip,
    BenchStage::VaeEncode,
    BenchStage::UnetStep,
    BenchStage::VaeDecode,
    BenchStage::TrainStep,
];

/// What was measured of a stage.
struct Row {
    name: &'static str,
    seconds: f64,
    tflop: f64,
}

/// Measures, and tells.
///
/// # Errors
/// When the model cannot be read or does not fit in memory.
pub fn run(args: &BenchArgs) -> anyhow::Result<Outcome> {
    if args.runs == 0 {
        bail!("--runs: expected at least 1");
    }
    let reporter = Reporter::new(Manner::choose(args.json));
    let wanted = |stage: &BenchStage| args.stage.is_empty() || args.stage.contains(stage);
    let mut stages: Vec<BenchStage> = STAGES.into_iter().filter(wanted).collect();
    let (place, (), why) = device::choose(args.device, args.dtype, |_| Ok(()))?;
    if let (Some(why), false) = (why, args.json) {
        reporter.tell("device", &why, Value::Null)?;
    }
    // The machine is always measured: a rate says little without its ceiling.
    let (peak_gflops, bandwidth_gbs) = ceiling(place.compute)?;
    let subject = Subject::new(args, place.compute)?;
    if place.compute.is_on_card() && args.stage.is_empty() {
        // Asked for by name it is refused: it is measured on the processor only.
        stages.retain(|stage| *stage != BenchStage::TrainStep);
    }
    let mut report = Map::new();
    report.insert("peak_gflops".into(), rounded(peak_gflops));
    report.insert("bandwidth_gbs".into(), rounded(bandwidth_gbs));
    let mut rows = Vec::new();
    for stage in stages {
        if let Some(row) = measure(&subject, stage, args.runs, &reporter)? {
            let key = row.name.replace('-', "_");
            report.insert(format!("{key}_s"), rounded(row.seconds));
            report.insert(format!("{key}_tflop"), rounded(row.tflop));
            rows.push(row);
        }
        if stage == BenchStage::TrainStep {
            report.insert("train_step_setup".into(), stages::train_step_setup());
        }
    }
    let peak_memory_mib = peak_memory_bytes(place.compute)?.map(|bytes| bytes >> 20);
    report.insert("peak_memory_mib".into(), json!(peak_memory_mib));
    report.insert("settings".into(), subject.settings());
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", Value::Object(report))?;
        return Ok(Outcome::Done);
    }
    writeln!(
        out,
        "{}: {peak_gflops:.0} GFLOP/s, {bandwidth_gbs:.1} GB/s",
        match place.compute.is_on_card() {
            false => "this machine".to_owned(),
            true => place.compute.to_string(),
        }
    )?;
    writeln!(
        out,
        "{:<12}{:>12}{:>10}{:>12}{:>10}",
        "stage", "ms", "TFLOP", "GFLOP/s", "of peak"
    )?;
    for row in rows {
        let rate = row.tflop * 1e3 / row.seconds;
        let share = 100.0 * rate / peak_gflops;
        writeln!(
            out,
            "{:<12}{:>12.1}{:>10.3}{rate:>12.1}{share:>9.0}%",
            row.name,
            row.seconds * 1e3,
            row.tflop
        )?;
    }
    if let Some(mib) = peak_memory_mib {
        writeln!(out, "peak memory {mib} MiB")?;
    }
    Ok(Outcome::Done)
}

/// What the device does at best: GFLOP/s, those of a card as it multiplies matrices in its type; and GB/s
/// read and written.
fn ceiling(compute: Compute) -> anyhow::Result<(f64, f64)> {
    if !compute.is_on_card() {
        let peak_gflops = machine::multiply_add_gflops(5);
        return Ok((peak_gflops, machine::copy_bandwidth_gbs(5)));
    }
    // Both take a card about a hundredth of a second: 3 · 128 MiB in 16 bits, 2 · 1 GiB.
    const SIDE: usize = 8192;
    const VALUES: usize = 256 << 20;
    let device = compute.device();
    let peak_gflops = machine::matmul_gflops(device, compute.dtype(), SIDE, 5)?;
    Ok((peak_gflops, machine::device_copy_gbs(device, VALUES, 5)?))
}

/// The most memory the work took: of main memory, or of the card, whose allocator keeps what it got.
fn peak_memory_bytes(compute: Compute) -> anyhow::Result<Option<u64>> {
    if !compute.is_on_card() {
        return Ok(memory::peak_bytes());
    }
    let card = kinora_tensor::card_memory(compute.device())?;
    Ok(Some(card.taken_bytes as u64))
}

/// The median of `runs` runs of a stage after one to warm up; nothing for the machine itself.
fn measure(
    subject: &Subject,
    stage: BenchStage,
    runs: usize,
    reporter: &Reporter,
) -> anyhow::Result<Option<Row>> {
    let name = match stage {
        BenchStage::Peak => return Ok(None),
        BenchStage::Clip => "clip",
        BenchStage::VaeEncode => "vae-encode",
        BenchStage::UnetStep => "unet-step",
        BenchStage::VaeDecode => "vae-decode",
        BenchStage::TrainStep => "train-step",
    };
    let (mut work, tflop) = subject.stage(stage)?;
    let shown = reporter.stage(name, runs + 1);
    let device = subject.compute().device();
    work()?;
    synchronize(device)?;
    let mut seconds = Vec::with_capacity(runs);
    for run in 0..runs {
        shown.bar().set_position(run as u64 + 1);
        let started = Instant::now();
        work()?;
        // A card is only asked for its work; the time is that of its end.
        synchronize(device)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    shown.dismiss();
    seconds.sort_by(f64::total_cmp);
    Ok(Some(Row {
        name,
        seconds: seconds[runs / 2],
        tflop,
    }))
}

/// Six significant places are more than a machine repeats.
fn rounded(value: f64) -> Value {
    json!((value * 1e6).round() / 1e6)
}
