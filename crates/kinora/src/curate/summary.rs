//! The table at the end of a curation.

use crate::progress::{Reporter, round};
use kinora_curate::filter::FilterSummary;
use kinora_curate::merge::Merged;
use serde_json::json;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// Reasons that are named one by one; the report has them all.
const REASONS_NAMED: usize = 5;

/// Tells what was published.
///
/// # Errors
/// When standard output is closed.
pub fn tell(reporter: &Reporter, merged: &Merged, folder: &Path) -> io::Result<()> {
    let costs: Vec<_> = costs_by_size(merged)
        .into_iter()
        .map(|(step, cost, share)| {
            json!({
                "step": step, "cpu_s": round(cost.cpu_s()), "wall_s": round(cost.wall_s),
                "items": cost.items, "of_decode": share.map(round),
            })
        })
        .collect();
    let fields = json!({
        "folder": folder, "sources": merged.sources, "failed": merged.failed,
        "partial": merged.partial, "duplicates": merged.duplicates, "cuts": merged.cuts,
        "clips": merged.clips, "clips_s": round(merged.clips_s), "filled": merged.filled,
        "reasons": merged.reasons, "costs": costs, "elapsed_s": round(reporter.elapsed_s()),
    });
    reporter.tell("published", &text(merged, folder), fields)
}

/// Tells which clips stay, and to what the others fell.
///
/// # Errors
/// When standard output is closed.
pub fn tell_kept(reporter: &Reporter, summary: &FilterSummary) -> io::Result<()> {
    let mut text = format!(
        "  {:<16} {} of {} clips",
        "kept", summary.kept, summary.clips
    );
    for cause in &summary.causes {
        let _ = write!(
            text,
            "\n  {:<16} {} clips, {} of them before another rule",
            cause.cause, cause.all, cause.first
        );
    }
    reporter.tell("kept", &text, json!({ "filter": summary }))
}

fn text(merged: &Merged, folder: &Path) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "  {name:<16} {value}");
    };
    line(
        "videos",
        format!(
            "{} ({} failed, {} in part, {} twice)",
            merged.sources, merged.failed, merged.partial, merged.duplicates
        ),
    );
    line("cuts", merged.cuts.to_string());
    let mean = merged.clips_s / (merged.clips.max(1)) as f64;
    line(
        "clips",
        format!(
            "{}, {mean:.2} s on average, {:.1} s in all",
            merged.clips, merged.clips_s
        ),
    );
    for (column, filled) in &merged.filled {
        line(column, format!("{filled} of {}", merged.clips));
    }
    for (reason, count) in most_frequent(merged) {
        line(&format!("{count} ×"), reason.to_owned());
    }
    for (step, cost, share) in costs_by_size(merged) {
        let share = share.map_or(String::new(), |share| format!(", {share:.2} of the decode"));
        line(
            step,
            format!("{:.2} s of processor time{share}", cost.cpu_s()),
        );
    }
    let _ = write!(text, "  {:<16} {}", "tables in", folder.display());
    text
}

fn most_frequent(merged: &Merged) -> Vec<(&str, u64)> {
    let mut reasons: Vec<(&str, u64)> = merged
        .reasons
        .iter()
        .map(|(reason, count)| (reason.as_str(), *count))
        .collect();
    reasons.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    reasons.truncate(REASONS_NAMED);
    reasons
}

/// The steps by what they cost, the dearest first, each with its share of the decode's cost.
fn costs_by_size(merged: &Merged) -> Vec<(&str, kinora_curate::cost::Cost, Option<f64>)> {
    let steps = &merged.costs.steps;
    let decode = steps.get("decode").map(|cost| cost.cpu_s());
    let mut costs: Vec<_> = steps
        .iter()
        .map(|(step, cost)| {
            let share = decode.filter(|decode| *decode > 0.0);
            (
                step.as_str(),
                *cost,
                share.map(|decode| cost.cpu_s() / decode),
            )
        })
        .collect();
    costs.sort_by(|a, b| b.1.cpu_s().total_cmp(&a.1.cpu_s()).then(a.0.cmp(b.0)));
    costs
}
