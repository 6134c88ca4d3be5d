//! How often each value of a score occurs, before and after filtering, as a drawing in SVG.

use super::words::{count, significant};
use std::fmt::Write as _;

const BINS: usize = 40;
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 190.0;
/// The plot within the drawing: left, top, right, bottom.
const LEFT: f64 = 8.0;
const TOP: f64 = 26.0;
const RIGHT: f64 = 352.0;
const BOTTOM: f64 = 162.0;

/// Counts of values in bins of equal width. What lies beyond the last bin is counted in it.
pub struct Histogram {
    low: f64,
    high: f64,
    before: Vec<u64>,
    after: Vec<u64>,
}

impl Histogram {
    /// Counts values. The range ends where 99.5 % of the values lie within it, so that one odd clip
    /// does not press all others into one bin, and holds `marks` in any case.
    pub fn of(before: &[f32], after: &[f32], marks: &[f64]) -> Option<Histogram> {
        let mut sorted: Vec<f32> = before.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        let at =
            |share: f64| f64::from(sorted[((sorted.len() - 1) as f64 * share).round() as usize]);
        sorted.first()?;
        let low = marks.iter().copied().fold(at(0.005), f64::min);
        let high = marks.iter().copied().fold(at(0.995), f64::max);
        let span = high - low;
        // Values near zero are shown from zero: where nothing is matters as much as where much is.
        let low = if low >= 0.0 && low < 0.3 * span {
            0.0
        } else {
            low
        };
        let high = if high > low {
            high + (high - low) * 0.02
        } else {
            low + 1.0
        };
        let counted = |values: &[f32]| {
            let mut bins = vec![0; BINS];
            for &value in values {
                let place = (f64::from(value) - low) / (high - low) * BINS as f64;
                bins[(place.max(0.0) as usize).min(BINS - 1)] += 1;
            }
            bins
        };
        Some(Histogram {
            low,
            high,
            before: counted(before),
            after: counted(after),
        })
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.low) / (self.high - self.low) * (RIGHT - LEFT)
    }

    /// The drawing: pale bars before, full bars after, a line at each bound (where it lies, and
    /// whether what is above it stays).
    pub fn svg(&self, label: &str, bounds: &[(f64, bool)]) -> String {
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\"><line class=\"base\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>"
        );
        self.draw_bars(&mut out);
        for tick in ticks(self.low, self.high) {
            let x = self.x(tick);
            let _ = write!(
                out,
                "<line class=\"base\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{BOTTOM}\" y2=\"{:.1}\"/><text x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                BOTTOM + 4.0,
                BOTTOM + 18.0,
                significant(tick, 4)
            );
        }
        for &(bound, above) in bounds {
            self.draw_bound(&mut out, bound, above);
        }
        out.push_str("</svg>");
        out
    }

    fn draw_bars(&self, out: &mut String) {
        let most = self.before.iter().chain(&self.after).copied().max();
        let most = most.unwrap_or(0).max(1) as f64;
        let step = (self.high - self.low) / BINS as f64;
        for bin in 0..BINS {
            let from = self.low + step * bin as f64;
            let (before, after) = (self.before[bin], self.after[bin]);
            if before == 0 {
                continue;
            }
            let _ = write!(
                out,
                "<g><title>{} to {}: {} clips, {} kept</title>",
                significant(from, 4),
                significant(from + step, 4),
                count(before),
                count(after)
            );
            draw_bar(out, "before", bin, before as f64 / most);
            draw_bar(out, "after", bin, after as f64 / most);
            out.push_str("</g>");
        }
    }

    fn draw_bound(&self, out: &mut String, bound: f64, above: bool) {
        let x = self.x(bound);
        let (anchor, text) = if above {
            ("start", format!("kept from {}", significant(bound, 4)))
        } else {
            ("end", format!("kept up to {}", significant(bound, 4)))
        };
        // The words stand on the side that is kept, or where there is room for them.
        let anchor = match anchor {
            "start" if x > RIGHT - 110.0 => "end",
            "end" if x < LEFT + 110.0 => "start",
            anchor => anchor,
        };
        let shift = if anchor == "start" { 4.0 } else { -4.0 };
        let _ = write!(
            out,
            "<line class=\"bound\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{BOTTOM}\"/><text class=\"bound\" style=\"text-anchor:{anchor}\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
            TOP - 16.0,
            x + shift,
            TOP - 7.0
        );
    }
}

fn draw_bar(out: &mut String, class: &str, bin: usize, share: f64) {
    if share <= 0.0 {
        return;
    }
    let width = (RIGHT - LEFT) / BINS as f64;
    // The least bar is still a line that can be seen.
    let height = ((BOTTOM - TOP) * share).max(0.8);
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{height:.2}\"/>",
        LEFT + width * bin as f64 + 0.5,
        BOTTOM - height,
        width - 1.0
    );
}

/// About five round numbers between two.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).map(|index| index as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_counted_once() {
        let values: Vec<f32> = (0..1000)
            .map(|index| index as f32 / 100.0)
            .chain([500.0])
            .collect();
        let histogram = Histogram::of(&values, &values[250..], &[2.5]).unwrap();
        assert_eq!(histogram.before.iter().sum::<u64>(), 1001);
        assert_eq!(histogram.after.iter().sum::<u64>(), 751);
        assert!(
            histogram.high < 11.0,
            "one odd value stretched the range to {}",
            histogram.high
        );
        assert!(
            histogram
                .before
                .iter()
                .zip(&histogram.after)
                .all(|(before, after)| before >= after)
        );
        assert!(Histogram::of(&[], &[], &[]).is_none());
        assert!(Histogram::of(&[0.0; 5], &[], &[0.07]).unwrap().high >= 0.07);
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(
            ticks(0.0, 1.0),
            [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
        );
        assert_eq!(ticks(-1.0, 11.0), [0.0, 2.5, 5.0, 7.5, 10.0]);
    }
}
