//! The page, section by section.

use super::histogram::Histogram;
use super::sets::set_rows;
use super::tally::{Sample, Shown};
use super::words::{count, duration, escaped, percent, shortened, significant};
use super::{Report, Tally};
use crate::filter::{Axis, Cause, Threshold};
use base64::Engine as _;
use std::fmt::Write as _;

const STYLE: &str = include_str!("style.css");
/// Longer side of a picture in a contact sheet, pixels: sharp on a screen of twice the density.
const PICTURE_SIDE: usize = 400;
const PICTURE_QUALITY: u8 = 74;

pub fn page(report: &Report<'_>) -> String {
    let mut out = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';img-src data:;style-src 'unsafe-inline'\">",
    );
    let title = escaped(report.title);
    let _ = write!(
        out,
        "<title>{title} · curation report</title><style>{STYLE}</style></head><body><main>"
    );
    put_head(&mut out, &title, report.tally);
    put_sets(&mut out, report.tally);
    put_histograms(&mut out, report.tally);
    put_rules(&mut out, report.tally);
    put_sheets(&mut out, report);
    put_failures(&mut out, report.tally);
    put_costs(&mut out, report);
    put_judges(&mut out, report.tally);
    out.push_str("<footer>Made by <code>kinora curate</code>. Scores, captions and verdicts of every clip are in <code>clips.parquet</code>, <code>kept.parquet</code> and <code>dropped.parquet</code>.</footer></main></body></html>\n");
    out
}

fn put_head(out: &mut String, title: &str, tally: &Tally) {
    let (before, after) = (&tally.before, &tally.after);
    let _ = write!(
        out,
        "<h1>{title}</h1><p class=\"quiet\">Curation report: what was found in the videos, what stays for training, and why.</p><div class=\"facts\">"
    );
    let failed = match tally.failed_sources {
        0 => "videos".to_owned(),
        failed => format!("videos, {} failed", count(failed)),
    };
    let facts = [
        (count(tally.sources), failed),
        (count(before.clips), "clips found".to_owned()),
        (
            count(after.clips),
            format!(
                "clips kept, {}",
                percent(after.clips as f64, before.clips as f64)
            ),
        ),
        (
            duration(after.seconds),
            format!("kept of {}", duration(before.seconds)),
        ),
    ];
    for (value, words) in facts {
        let _ = write!(
            out,
            "<div class=\"fact\"><b>{value}</b><span>{words}</span></div>"
        );
    }
    out.push_str("</div>");
}

fn put_sets(out: &mut String, tally: &Tally) {
    out.push_str("<h2>Before and after filtering</h2><div class=\"scroll\"><table><tr><th></th><th>before</th><th>after</th></tr>");
    for [name, before, after] in set_rows(&tally.before, &tally.after) {
        let _ = write!(
            out,
            "<tr><td>{name}</td><td>{before}</td><td>{after}</td></tr>"
        );
    }
    out.push_str("</table></div>");
}

/// Name of an axis for people, with its unit, and what to say where nobody judged.
fn about(axis: Axis) -> (&'static str, &'static str, &'static str) {
    let unread = "not known";
    match axis {
        Axis::DurationS => ("Duration", "seconds", unread),
        Axis::ShortSide => ("Short side", "pixels", unread),
        Axis::Fps => ("Frame rate", "frames a second", unread),
        Axis::MotionScore => (
            "Motion",
            "mean flow at 2 frames a second, pixels of a map with a short side of 16",
            "not judged: the motion step was not run",
        ),
        Axis::ClipSimilarity => (
            "Likeness to captions",
            "cosine of CLIP embeddings",
            "not judged: no weights given",
        ),
        Axis::Aesthetic => (
            "Aesthetics",
            "score, about 1 to 10",
            "not judged: no weights given",
        ),
        Axis::TextArea => (
            "Text",
            "share of the picture under text",
            "not judged: no text detector was run",
        ),
    }
}

fn put_histograms(out: &mut String, tally: &Tally) {
    out.push_str("<h2>Scores</h2><p class=\"quiet\"><i class=\"key\" style=\"background:var(--pale)\"></i>before <i class=\"key\" style=\"background:var(--full)\"></i>after filtering; the last bar holds what lies beyond it</p><div class=\"charts\">");
    let order = [
        Axis::MotionScore,
        Axis::ClipSimilarity,
        Axis::Aesthetic,
        Axis::TextArea,
        Axis::DurationS,
        Axis::ShortSide,
        Axis::Fps,
    ];
    // Size and rate are of few kinds; they are drawn where a rule stands on them.
    let plain = |axis| matches!(axis, Axis::ShortSide | Axis::Fps);
    for axis in order {
        if plain(axis) && tally.threshold(axis).is_none() {
            continue;
        }
        let (name, unit, unjudged) = about(axis);
        let _ = write!(out, "<div class=\"chart\"><h3>{name}</h3><p>{unit}</p>");
        let place = axis as usize;
        let bounds = tally.threshold(axis).map(bounds).unwrap_or_default();
        let marks: Vec<f64> = bounds.iter().map(|bound| bound.0).collect();
        let (before, after) = (&tally.before.values[place], &tally.after.values[place]);
        match Histogram::of(before, after, &marks) {
            Some(histogram) => out.push_str(&histogram.svg(name, &bounds)),
            None => {
                let _ = write!(out, "<p class=\"none\">{unjudged}</p>");
            }
        }
        out.push_str("</div>");
    }
    out.push_str("</div>");
}

/// The bounds of a threshold, each with whether what is above it stays.
fn bounds(threshold: &Threshold) -> Vec<(f64, bool)> {
    let low = threshold.low.map(|bound| (bound, true));
    let high = threshold.high.map(|bound| (bound, false));
    low.into_iter().chain(high).collect()
}

fn put_rules(out: &mut String, tally: &Tally) {
    out.push_str("<h2>Rules</h2><p class=\"quiet\">Each rule is measured on all clips by itself; a clip can fall to several.</p><div class=\"scroll\"><table><tr><th>rule</th><th>keeps</th><th>judged</th><th>took out first</th><th>would alone</th><th>share</th></tr>");
    let asked = tally.thresholds.iter().filter(|threshold| threshold.asked);
    let mut causes: Vec<Cause> = asked.map(|threshold| Cause::Axis(threshold.axis)).collect();
    causes.extend(tally.fallen.keys());
    causes.sort_unstable();
    causes.dedup();
    for cause in causes {
        let fallen = tally.fallen.get(&cause);
        let (first, all) = fallen.map_or((0, 0), |fallen| (fallen.first, fallen.all));
        let threshold = match cause {
            Cause::Axis(axis) => tally.threshold(axis),
            _ => None,
        };
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            cause_words(cause),
            threshold.map_or_else(|| "–".to_owned(), kept_words),
            threshold.map_or_else(|| "–".to_owned(), |threshold| count(threshold.judged)),
            count(first),
            count(all),
            match cause {
                // Those that failed are not among the clips found.
                Cause::Failed => "–".to_owned(),
                _ => percent(all as f64, tally.before.clips as f64),
            },
        );
    }
    out.push_str("</table></div>");
}

fn cause_words(cause: Cause) -> String {
    match cause {
        Cause::Failed => "Failed".to_owned(),
        Cause::Axis(axis) => about(axis).0.to_owned(),
        Cause::Missing(axis) => format!("{}: no score", about(axis).0),
        Cause::NoCaption => "No caption".to_owned(),
    }
}

fn kept_words(threshold: &Threshold) -> String {
    let value = |bound: f64| significant(bound, 4);
    match (threshold.low, threshold.high) {
        (None, None) if threshold.judged == 0 => "all: not judged".to_owned(),
        (None, None) => "all".to_owned(),
        (Some(low), None) => format!("from {}", value(low)),
        (None, Some(high)) => format!("up to {}", value(high)),
        (Some(low), Some(high)) => format!("{} to {}", value(low), value(high)),
    }
}

fn put_sheets(out: &mut String, report: &Report<'_>) {
    let tally = report.tally;
    out.push_str("<h2>Clips</h2><p class=\"quiet\">A sample of each set, drawn by the hash of the clip's id.</p>");
    let score = |axis: Axis| {
        move |shown: &Shown| {
            let value = shown.values[axis as usize];
            value.map(|value| format!("{} {}", about(axis).0.to_lowercase(), significant(value, 3)))
        }
    };
    let kept = |shown: &Shown| score(Axis::MotionScore)(shown);
    put_sheet(out, report, "Kept", tally.after.clips, &tally.kept, &kept);
    for (&cause, fallen) in &tally.fallen {
        let title = format!("Taken out: {}", cause_words(cause).to_lowercase());
        match cause {
            Cause::Axis(axis) => {
                put_sheet(
                    out,
                    report,
                    &title,
                    fallen.all,
                    &fallen.sample,
                    &score(axis),
                );
            }
            _ => put_sheet(out, report, &title, fallen.all, &fallen.sample, &|_| None),
        }
    }
}

fn put_sheet(
    out: &mut String,
    report: &Report<'_>,
    title: &str,
    clips: u64,
    sample: &Sample,
    score: &dyn Fn(&Shown) -> Option<String>,
) {
    let _ = write!(
        out,
        "<details open><summary>{title}<span>{} clips</span></summary><div class=\"sheet\">",
        count(clips)
    );
    for shown in sample.shown() {
        put_figure(out, report, shown, score(shown));
    }
    if sample.shown().next().is_none() {
        out.push_str("<p class=\"quiet\">none</p>");
    }
    out.push_str("</div></details>");
}

fn put_figure(out: &mut String, report: &Report<'_>, shown: &Shown, score: Option<String>) {
    out.push_str("<figure>");
    match (report.thumbnail)(&shown.clip_id) {
        Some(picture) => {
            let jpeg = picture.shrunk(PICTURE_SIDE).to_jpeg(PICTURE_QUALITY);
            let data = base64::engine::general_purpose::STANDARD.encode(jpeg);
            let _ = write!(
                out,
                "<img alt=\"a frame of clip {}\" loading=\"lazy\" src=\"data:image/jpeg;base64,{data}\">",
                escaped(&shown.clip_id)
            );
        }
        None => out.push_str("<div class=\"blank\">no picture</div>"),
    }
    let facts: Vec<String> = score.into_iter().chain([shown.length.clone()]).collect();
    let source = shown.source.rsplit('/').next().unwrap_or(&shown.source);
    let _ = write!(
        out,
        "<figcaption><b>{}</b>{}{} <small title=\"{}\">{}</small></figcaption></figure>",
        escaped(&facts.join(" · ")),
        shown
            .caption
            .as_ref()
            .map_or_else(String::new, |caption| format!(
                "<em>{}</em>",
                escaped(caption)
            )),
        if shown.caption.is_some() { "" } else { "<br>" },
        escaped(&format!("{} {}", shown.source, shown.clip_id)),
        escaped(&shortened(source, 40)),
    );
}

fn put_failures(out: &mut String, tally: &Tally) {
    out.push_str("<h2>Failures</h2>");
    if tally.reasons.is_empty() {
        out.push_str("<p class=\"quiet\">Nothing failed.</p>");
        return;
    }
    // Most frequent first; names keep the order of equal ones.
    let mut reasons: Vec<_> = tally.reasons.iter().collect();
    reasons.sort_by_key(|(_, [videos, clips])| std::cmp::Reverse(videos + clips));
    out.push_str(
        "<div class=\"scroll\"><table><tr><th>reason</th><th>videos</th><th>clips</th></tr>",
    );
    for (reason, [videos, clips]) in reasons {
        let _ = write!(
            out,
            "<tr><td class=\"words\">{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&shortened(reason, 400)),
            count(*videos),
            count(*clips)
        );
    }
    out.push_str("</table></div>");
}

fn put_costs(out: &mut String, report: &Report<'_>) {
    out.push_str("<h2>Cost</h2>");
    if report.costs.is_empty() {
        out.push_str("<p class=\"quiet\">Nothing was measured.</p>");
        return;
    }
    let _ = write!(
        out,
        "<p class=\"quiet\">{}</p><div class=\"scroll\"><table><tr><th>step</th><th>items</th><th>processor</th><th>an item</th><th>passed</th><th>of decoding</th><th></th></tr>",
        cost_words(report)
    );
    let costs = || report.costs.iter().map(|cost| cost.cpu_s);
    let most = costs().fold(f64::MIN_POSITIVE, f64::max);
    for cost in report.costs {
        let share = report
            .decode_cpu_s
            .map(|decode| percent(cost.cpu_s, decode));
        let each = match cost.items {
            0 => "–".to_owned(),
            items => format!("{} ms", significant(1000.0 * cost.cpu_s / items as f64, 3)),
        };
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{each}</td><td>{}</td><td>{}</td><td class=\"bar\"><i style=\"width:{:.1}%\"></i></td></tr>",
            escaped(&cost.step),
            count(cost.items),
            duration(cost.cpu_s),
            duration(cost.wall_s),
            share.unwrap_or_else(|| "–".to_owned()),
            100.0 * cost.cpu_s / most,
        );
    }
    out.push_str("</table></div>");
}

fn cost_words(report: &Report<'_>) -> String {
    let all: f64 = report.costs.iter().map(|cost| cost.cpu_s).sum();
    match report.decode_cpu_s {
        Some(decode) if decode > 0.0 => format!(
            "Processor time; decoding alone took {}, all steps together {} ({} times that).",
            duration(decode),
            duration(all),
            significant(all / decode, 3)
        ),
        _ => "Processor time; decoding alone was not measured.".to_owned(),
    }
}

fn put_judges(out: &mut String, tally: &Tally) {
    out.push_str("<h2>Judges</h2><div class=\"scroll\"><table><tr><th>column</th><th style=\"text-align:left\">filled by</th></tr>");
    for (column, versions) in &tally.judges {
        let words: Vec<String> = versions.iter().map(|version| escaped(version)).collect();
        let words = match words.is_empty() {
            true => "<span class=\"quiet\">not judged</span>".to_owned(),
            false => words.join("<br>"),
        };
        let _ = write!(
            out,
            "<tr><td>{column}</td><td class=\"words\">{words}</td></tr>"
        );
    }
    out.push_str("</table></div>");
}
