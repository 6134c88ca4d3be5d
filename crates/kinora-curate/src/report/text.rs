//! The report in a few lines for a terminal.

use super::words::{count, duration, percent, shortened, significant};
use super::{Report, SetTally};
use crate::filter::Cause;
use std::fmt::Write as _;

/// A summary to print at the end of a run: the paper's table before and after filtering, what each
/// rule took out, why things failed, what the steps cost.
#[must_use]
pub fn report_text(report: &Report<'_>) -> String {
    let tally = report.tally;
    let mut out = String::new();
    let rows = set_rows(&tally.before, &tally.after)
        .into_iter()
        .map(Vec::from);
    put_table(&mut out, &["", "before", "after"], rows.collect());
    put_table(
        &mut out,
        &["rule", "took out first", "would alone", "share"],
        rule_rows(report),
    );
    let reasons = tally
        .reasons
        .iter()
        .map(|(reason, [videos, clips])| vec![plain(reason), count(*videos), count(*clips)]);
    put_table(
        &mut out,
        &["failed because", "videos", "clips"],
        reasons.collect(),
    );
    put_table(
        &mut out,
        &["step", "items", "cpu s", "wall s", "of decoding"],
        cost_rows(report),
    );
    out
}

fn rule_rows(report: &Report<'_>) -> Vec<Vec<String>> {
    let rows = report.tally.fallen.iter().map(|(cause, fallen)| {
        let share = match cause {
            Cause::Failed => "–".to_owned(),
            _ => percent(fallen.all as f64, report.tally.before.clips as f64),
        };
        vec![cause.name(), count(fallen.first), count(fallen.all), share]
    });
    rows.collect()
}

fn cost_rows(report: &Report<'_>) -> Vec<Vec<String>> {
    let rows = report.costs.iter().map(|cost| {
        let share = report
            .decode_cpu_s
            .map(|decode| percent(cost.cpu_s, decode));
        vec![
            cost.step.clone(),
            count(cost.items),
            format!("{:.1}", cost.cpu_s),
            format!("{:.1}", cost.wall_s),
            share.unwrap_or_else(|| "–".to_owned()),
        ]
    });
    rows.collect()
}

/// A reason on one short line. Control characters of a foreign program must not reach a terminal.
fn plain(reason: &str) -> String {
    let line = reason.replace(char::is_control, " ");
    shortened(&line, 72)
}

/// The rows of the paper's Table 1: name, before, after.
pub(super) fn set_rows(before: &SetTally, after: &SetTally) -> Vec<[String; 3]> {
    let row = |name: &str, value: &dyn Fn(&SetTally) -> String| {
        [name.to_owned(), value(before), value(after)]
    };
    let mean = |set: &SetTally, value: f64, unit: &str| {
        if set.clips == 0 {
            "–".to_owned()
        } else {
            format!("{}{unit}", significant(value, 4))
        }
    };
    vec![
        row("clips", &|set| count(set.clips)),
        row("mean clip duration", &|set| {
            mean(set, set.mean_seconds(), " s")
        }),
        row("total duration", &|set| duration(set.seconds)),
        row("mean frames", &|set| mean(set, set.mean_frames(), "")),
        row("mean clips per video", &|set| {
            mean(set, set.clips_per_video(), "")
        }),
        row("videos", &|set| count(set.videos.len() as u64)),
    ]
}

/// Columns as wide as their longest cell, the first to the left, the others to the right; nothing
/// where there are no rows.
fn put_table(out: &mut String, header: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let mut lines = vec![
        header
            .iter()
            .map(|cell| (*cell).to_owned())
            .collect::<Vec<_>>(),
    ];
    lines.extend(rows);
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for (number, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(out, "{cell:<width$}"),
                _ => write!(out, "  {cell:>width$}"),
            };
        }
        out.push('\n');
        if number == 0 {
            let whole = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
            out.push_str(&"─".repeat(whole));
            out.push('\n');
        }
    }
    out.push('\n');
}
