//! What became of the videos, as one page to look at.
//!
//! The page needs nothing beside it: style, charts and pictures are in it, no script is, and it
//! asks for nothing from elsewhere. Words that come from file names, captions and settings are
//! escaped.

mod histogram;
mod page;
mod sets;
mod tally;
mod words;

pub use tally::{SetTally, Tally};

use kinora_media::Rgb8Image;

/// What one step cost over all videos.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepCost {
    /// Its name: `cuts`, `flow`, …
    pub step: String,
    /// What it was done to: videos, frames or clips.
    pub items: u64,
    /// Processor seconds, with those of the programs it ran.
    pub cpu_s: f64,
    /// Seconds that passed, summed over workers.
    pub wall_s: f64,
}

/// What a report shows.
pub struct Report<'a> {
    /// Above all: the name of the data set.
    pub title: &'a str,
    /// The clips, counted.
    pub tally: &'a Tally,
    /// The steps in the order in which they are done.
    pub costs: &'a [StepCost],
    /// Processor seconds of decoding alone, with which each step is compared; none where unknown.
    pub decode_cpu_s: Option<f64>,
    /// The picture of a clip, best of its middle frame, in any size; none where there is none.
    pub thumbnail: &'a dyn Fn(&str) -> Option<Rgb8Image>,
}

/// The report as the text of `report.html`.
#[must_use]
pub fn report_html(report: &Report<'_>) -> String {
    page::page(report)
}

#[cfg(test)]
mod tests;
