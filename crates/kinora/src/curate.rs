//! `kinora curate`: videos become clips with scores, and scores a curated set.

mod summary;
mod told;

use crate::Outcome;
use crate::args::{CurateAllArgs, CurateArgs, CurateFolderArgs, CuratePart, CurateSelectArgs};
use crate::interrupt::Interrupt;
use crate::progress::{Manner, Reporter};
use anyhow::{Context as _, bail};
use kinora_curate::annotate::Workshop;
use kinora_curate::config::Config;
use kinora_curate::judges::Judges;
use kinora_curate::ledger::Ledger;
use kinora_curate::report::Tally;
use kinora_curate::run::run as run_slice;
use kinora_curate::select::{filter_clips, write_report, write_shards};
use kinora_curate::sources::{self, Slice, Stores};
use kinora_curate::step::Asked;
use serde_json::json;
use told::Told;

/// Curates, or does one part of it.
///
/// # Errors
/// When the videos or the configuration cannot be read, ffmpeg is missing, or a file cannot be written.
pub fn run(args: &CurateArgs) -> anyhow::Result<Outcome> {
    match (&args.part, &args.all) {
        (Some(CuratePart::Merge(args)), _) => merge(args),
        (
            Some(
                part @ (CuratePart::Filter(args)
                | CuratePart::Shards(args)
                | CuratePart::Report(args)),
            ),
            _,
        ) => select(part, args),
        (None, Some(args)) => all(args),
        (None, None) => bail!("expected videos, --config and --out; see `kinora curate --help`"),
    }
}

/// All of the work, or one slice of its first part.
fn all(args: &CurateAllArgs) -> anyhow::Result<Outcome> {
    let reporter = Reporter::new(Manner::choose(args.json));
    let config = Config::read(&args.config)?;
    let stores = Stores::from_environment();
    let names = sources::find(&args.videos, &args.out, &stores)?;
    let slice = args.shard.unwrap_or(Slice::WHOLE);
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("{}: could not be made", args.out.display()))?;
    let (judges, makers) = Judges::open(&config)?;
    let ledger = Ledger::new(&args.out);
    ledger.begin(&names, &config, &makers, slice)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.workers.unwrap_or(cores).max(1);
    let interrupt = Interrupt::at_once()?;
    interrupt.wait_for_safe_points();
    let workshop = Workshop {
        config,
        asked: Asked { only: args.only },
        judges,
        makers,
        ledger,
        stores,
        decoder_threads: (cores / workers.min(names.len())).max(1),
        stop: &interrupt.stop,
    };
    let mine = (0..names.len())
        .filter(|&number| slice.holds(number))
        .count();
    let mut told = Told::new(&reporter, mine);
    let ran = run_slice(&workshop, &names, slice, workers, &mut |event| {
        told.take(event)
    });
    told.end()?;
    let ran = match ran {
        Err(kinora_curate::Error::Stopped) => {
            let text = "stopped; the same command goes on from here";
            reporter.tell("stopped", text, json!({}))?;
            return Ok(Outcome::Stopped);
        }
        other => other?,
    };
    told::annotated(&reporter, &ran, slice)?;
    match args.shard {
        Some(_) => Ok(outcome((ran.failed + ran.partial) as u64)),
        None => publish(&reporter, &workshop.ledger),
    }
}

/// Publishes the tables of a folder whose slices are all done, and what follows from them.
fn merge(args: &CurateFolderArgs) -> anyhow::Result<Outcome> {
    let reporter = Reporter::new(Manner::choose(args.json));
    publish(&reporter, &Ledger::new(&args.folder))
}

/// Publishes the tables, chooses the clips, and writes shards and the report.
fn publish(reporter: &Reporter, ledger: &Ledger) -> anyhow::Result<Outcome> {
    let config = ledger.config()?;
    let merged = kinora_curate::merge::merge(ledger)?;
    summary::tell(reporter, &merged, ledger.folder())?;
    let mut tally = choose(reporter, ledger, &config)?;
    shards(reporter, ledger, &config)?;
    report(reporter, ledger, &mut tally)?;
    Ok(outcome(merged.failed + merged.partial))
}

/// One of the parts that follow from the tables.
fn select(part: &CuratePart, args: &CurateSelectArgs) -> anyhow::Result<Outcome> {
    let reporter = Reporter::new(Manner::choose(args.json));
    let ledger = Ledger::new(&args.folder);
    let config = match &args.config {
        Some(path) => ledger.choose(&Config::read(path)?)?,
        None => ledger.config()?,
    };
    match part {
        CuratePart::Shards(_) => shards(&reporter, &ledger, &config)?,
        CuratePart::Report(_) => {
            let mut tally = choose(&reporter, &ledger, &config)?;
            report(&reporter, &ledger, &mut tally)?;
        }
        CuratePart::Filter(_) | CuratePart::Merge(_) => {
            choose(&reporter, &ledger, &config)?;
        }
    }
    Ok(Outcome::Done)
}

fn choose(reporter: &Reporter, ledger: &Ledger, config: &Config) -> anyhow::Result<Tally> {
    let (summary, tally) = filter_clips(ledger.folder(), config)?;
    summary::tell_kept(reporter, &summary)?;
    Ok(tally)
}

fn shards(reporter: &Reporter, ledger: &Ledger, config: &Config) -> anyhow::Result<()> {
    if let Some(summary) = write_shards(ledger.folder(), config)? {
        let text = format!(
            "  {:<16} {} with {} clips, {} of them captioned, {} with latents, {:.1} MB",
            "shards",
            summary.shards,
            summary.clips,
            summary.captioned,
            summary.latents,
            summary.bytes as f64 / 1e6
        );
        reporter.tell("shards", &text, json!({ "shards": summary }))?;
    }
    Ok(())
}

fn report(reporter: &Reporter, ledger: &Ledger, tally: &mut Tally) -> anyhow::Result<()> {
    let folder = ledger.folder();
    let name = folder
        .canonicalize()
        .unwrap_or_else(|_| folder.to_path_buf());
    let title = name.file_name().unwrap_or_default().to_string_lossy();
    let page = write_report(folder, &title, tally)?;
    let text = format!("  {:<16} {}", "report", page.display());
    reporter.tell("report", &text, json!({ "report": page }))?;
    Ok(())
}

/// A set of which a part failed is a set, and the caller should know.
fn outcome(failures: u64) -> Outcome {
    match failures {
        0 => Outcome::Done,
        _ => Outcome::DoneWithFailures,
    }
}
