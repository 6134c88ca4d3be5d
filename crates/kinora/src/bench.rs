//! `kinora bench`: what this machine can do at best, then every stage of the model against it.

mod stages;

use crate::Outcome;
use crate::args::{BenchArgs, BenchStage};
use crate::memory;
use crate::progress::{Manner, Reporter};
use anyhow::bail;
use kinora_tensor::machine;
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
    let stages: Vec<BenchStage> = STAGES.into_iter().filter(wanted).collect();
    // The machine is always measured: a rate says little without its ceiling.
    let peak_gflops = machine::multiply_add_gflops(5);
    let bandwidth_gbs = machine::copy_bandwidth_gbs(5);
    let subject = Subject::new(args)?;
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
    let peak_memory_mib = memory::peak_bytes().map(|bytes| bytes >> 20);
    report.insert("peak_memory_mib".into(), json!(peak_memory_mib));
    report.insert("settings".into(), subject.settings());
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", Value::Object(report))?;
        return Ok(Outcome::Done);
    }
    writeln!(
        out,
        "this machine: {peak_gflops:.0} GFLOP/s, {bandwidth_gbs:.1} GB/s"
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
    work()?;
    let mut seconds = Vec::with_capacity(runs);
    for run in 0..runs {
        shown.bar().set_position(run as u64 + 1);
        let started = Instant::now();
        work()?;
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
