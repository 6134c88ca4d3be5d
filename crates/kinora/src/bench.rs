//! `kinora bench`: what this machine can do at best, then every stage of the model against it.

mod stages;
mod train_step;

use crate::Outcome;
use crate::args::{BenchArgs, BenchStage};
use crate::progress::{Manner, Reporter};
use crate::{device, memory};
use anyhow::bail;
use kinora_model::compute::Compute;
use kinora_tensor::{machine, made_device_bytes, synchronize};
use kinora_train::compute::training_on;
use serde_json::{Map, Value, json};
use stages::Subject;
use std::io::Write as _;
use std::time::Instant;
use train_step::TrainStep;

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
    /// What a card moved, about and at least: every array it made was written and read.
    moved_gb: Option<f64>,
}

impl Row {
    /// A line of the report. Shares are of the device's best rates.
    fn line(&self, peak_gflops: f64, bandwidth_gbs: f64) -> String {
        let rate = self.tflop * 1e3 / self.seconds;
        let share = 100.0 * rate / peak_gflops;
        let mut line = format!(
            "{:<12}{:>12.1}{:>10.3}{rate:>12.1}{share:>9.0}%",
            self.name,
            self.seconds * 1e3,
            self.tflop
        );
        if let Some(moved_gb) = self.moved_gb {
            let rate = moved_gb / self.seconds;
            let share = 100.0 * rate / bandwidth_gbs;
            line += &format!("{moved_gb:>10.3}{rate:>10.1}{share:>9.0}%");
        }
        line
    }
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
    let (place, (), why) = device::choose(args.device, args.dtype, |_| Ok(()))?;
    if let (Some(why), false) = (why, args.json) {
        reporter.tell("device", &why, Value::Null)?;
    }
    let stages = stages(args, place.compute, &reporter)?;
    // The machine is always measured: a rate says little without its ceiling.
    let (peak_gflops, bandwidth_gbs) = ceiling(place.compute)?;
    let subject = Subject::new(args, place.compute)?;
    let mut report = Map::new();
    report.insert("peak_gflops".into(), rounded(peak_gflops));
    report.insert("bandwidth_gbs".into(), rounded(bandwidth_gbs));
    let mut rows = Vec::new();
    for stage in stages {
        if let Some(row) = measure(&subject, stage, args.runs, &reporter)? {
            let key = row.name.replace('-', "_");
            report.insert(format!("{key}_s"), rounded(row.seconds));
            report.insert(format!("{key}_tflop"), rounded(row.tflop));
            if let Some(moved_gb) = row.moved_gb {
                report.insert(format!("{key}_moved_gb"), rounded(moved_gb));
            }
            rows.push(row);
        }
        if stage == BenchStage::TrainStep {
            report.insert("train_step_setup".into(), TrainStep::standard().setup());
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
    let moved = match place.compute.is_on_card() {
        false => String::new(),
        true => format!("{:>10}{:>10}{:>10}", "GB", "GB/s", "of copies"),
    };
    writeln!(
        out,
        "{:<12}{:>12}{:>10}{:>12}{:>10}{moved}",
        "stage", "ms", "TFLOP", "GFLOP/s", "of peak"
    )?;
    for row in rows {
        writeln!(out, "{}", row.line(peak_gflops, bandwidth_gbs))?;
    }
    if let Some(mib) = peak_memory_mib {
        writeln!(out, "peak memory {mib} MiB")?;
    }
    Ok(Outcome::Done)
}

/// What is to be measured. A training step is left out where nothing trains, unless it is asked for.
///
/// # Errors
/// When it is.
fn stages(
    args: &BenchArgs,
    compute: Compute,
    reporter: &Reporter,
) -> anyhow::Result<Vec<BenchStage>> {
    let wanted = |stage: &BenchStage| args.stage.is_empty() || args.stage.contains(stage);
    let mut stages: Vec<BenchStage> = STAGES.into_iter().filter(wanted).collect();
    match training_on(compute.device(), Some(compute.dtype())) {
        Err(why) if args.stage.contains(&BenchStage::TrainStep) => return Err(why.into()),
        Err(why) => {
            stages.retain(|stage| *stage != BenchStage::TrainStep);
            if !args.json {
                let text = format!("no training step is measured: {why}");
                reporter.tell("left-out", &text, Value::Null)?;
            }
        }
        Ok(_) => {}
    }
    Ok(stages)
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
    let made_bytes = || match subject.compute().is_on_card() {
        false => Ok(None),
        true => made_device_bytes(device).map(Some),
    };
    let before = made_bytes()?;
    work()?;
    synchronize(device)?;
    let made_gb = made_bytes()?.zip(before).map(|(a, b)| (a - b) as f64 / 1e9);
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
        moved_gb: made_gb.map(|gb| 2.0 * gb),
    }))
}

/// Six significant places are more than a machine repeats.
fn rounded(value: f64) -> Value {
    json!((value * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_s_line_has_both_shares() {
        let row = Row {
            name: "unet-step",
            seconds: 0.1,
            tflop: 20.0,
            moved_gb: Some(150.0),
        };
        let line = row.line(400_000.0, 3000.0);
        let words: Vec<&str> = line.split_whitespace().collect();
        let expected = "unet-step 100.0 20.000 200000.0 50% 150.000 1500.0 50%";
        assert_eq!(words.join(" "), expected);
        let here = Row {
            moved_gb: None,
            ..row
        };
        assert!(here.line(400_000.0, 3000.0).ends_with(" 50%"));
    }

    fn args(words: &str) -> BenchArgs {
        use crate::args::{Cli, Verb};
        use clap::Parser as _;
        let words = format!("kinora bench {words}");
        let Verb::Bench(args) = Cli::parse_from(words.split_whitespace()).verb else {
            panic!("the verb is `bench`");
        };
        args
    }

    #[test]
    fn where_nothing_trains_no_training_step_is_measured() {
        use kinora_tensor::{DType, Device};
        let reporter = Reporter::new(Manner::Lines);
        let stages_in = |words: &str, dtype| {
            let compute = Compute::new(Device::Cuda(0), dtype).unwrap();
            stages(&args(words), compute, &reporter)
        };
        assert_eq!(stages_in("", DType::BF16).unwrap(), STAGES);
        assert_eq!(stages_in("", DType::F16).unwrap(), STAGES[..5]);
        let refused = stages_in("--stage train-step", DType::F16).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("expected bf16 or f32, found f16")
        );
    }

    #[test]
    fn a_stage_on_a_card_tells_what_it_moved() {
        let Some(card) = kinora_tensor::host_device(1 << 30) else {
            return;
        };
        let args = args("--preset tiny --frames 2 --width 16 --height 16");
        let compute = Compute::new(card, kinora_tensor::DType::F32).unwrap();
        let subject = Subject::new(&args, compute).unwrap();
        let reporter = Reporter::new(Manner::Lines);
        let row = measure(&subject, BenchStage::UnetStep, 1, &reporter).unwrap();
        // The result alone: two frames of 2 × 2 latents of four channels, written and read.
        assert!(row.unwrap().moved_gb.unwrap() > 2.0 * 2.0 * 4.0 * 4.0 * 4.0 / 1e9);
    }
}
