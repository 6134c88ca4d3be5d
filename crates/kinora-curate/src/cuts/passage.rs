//! A change from one picture to another over several frames, at a lower rate: dissolves, fades and
//! wipes.
//!
//! What tells them from motion: in a dissolve, a fade or a wipe every place goes from the old picture to
//! the new one without ever leaving what lies between the two. Where something moves, other things pass
//! by.

use super::scores::Lag;
use super::sketch::{Distance, Sketch, far_distance};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Windows whose ends differ by fewer levels are not kept.
const FAINT_LEVELS: f32 = 5.0;

/// A frame with so much less contrast than both ends is nearly plain: a fade.
pub(super) const FADE_DIP: f32 = 0.7;

/// A window of picks whose ends differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passage {
    /// First frame that is more of the new picture than of the old.
    pub frame: u64,
    /// Frame with the least contrast in the window.
    pub plainest: u64,
    /// First frame that is no longer wholly the old picture.
    pub left: u64,
    /// First frame that is wholly the new picture.
    pub entered: u64,
    /// First frame of the window.
    pub from: u64,
    /// Last frame of the window.
    pub to: u64,
    /// Mean difference of the ends, levels.
    pub difference: f32,
    /// The same where blocks of brightness may have moved, levels.
    pub moved: f32,
    /// Share of cells whose brightness or colour the other end does not have.
    pub histogram: f32,
    /// Mean contrast of the ends, levels.
    pub contrast: f32,
    /// Contrast of the plainer end as a share of the other's: near 0 for half of a fade.
    pub balance: f32,
    /// Correlation of the ends, −1 to 1: near 1 for the same picture, brighter or darker.
    pub likeness: f32,
    /// How far the frames between leave what lies between the ends, as a share of their difference: 0
    /// for a dissolve or a wipe of stills.
    pub excess: f32,
    /// How much less contrast the plainest frame has than the end with less, as a share: 1 for a fade,
    /// about a third for a dissolve, about 0 for a wipe.
    pub dip: f32,
    /// How far the way from one end to the other is from a straight one.
    pub bend: f32,
    /// Largest part of the way (of a fade: of the contrast) that is made from one frame to the next: 1
    /// for a hard cut.
    pub jump: f32,
}

impl Passage {
    /// What neither motion explains nor the same colours elsewhere, levels.
    pub(super) fn unexplained(&self) -> f32 {
        let apart = Distance {
            plain: self.difference,
            moved: self.moved,
            histogram: self.histogram,
        };
        apart.unexplained()
    }

    /// Contrast of the plainer end, levels.
    pub(super) fn weaker(&self) -> f32 {
        2.0 * self.contrast * self.balance / (1.0 + self.balance)
    }

    /// What is unexplained as a share of the contrast of the end with more, which is what it could differ
    /// by: ten levels more, so that little is not measured by nothing. The end with more, because in the
    /// middle of a dissolve there is less, and a window that ends there shall not seem to see more.
    pub(super) fn share(&self) -> f32 {
        let stronger = 2.0 * self.contrast / (1.0 + self.balance);
        self.unexplained() / (stronger + 10.0)
    }
}

#[derive(Debug)]
pub(super) struct Window {
    lag: Lag,
    /// Numbers of the frames picked.
    picks: VecDeque<u64>,
    next_micros: i64,
}

impl Window {
    pub fn new(lag: &Lag) -> Window {
        Window {
            lag: *lag,
            picks: VecDeque::new(),
            next_micros: 0,
        }
    }

    /// Looks at the last of the frames kept; when it is picked, and the window is full, measures it.
    pub fn push(&mut self, kept: &VecDeque<Sketch>) -> Option<Passage> {
        let last = kept.back()?;
        if last.micros < self.next_micros {
            return None;
        }
        let step = 1_000_000 / self.lag.picks_per_sec;
        self.next_micros = (last.micros / step + 1) * step;
        self.picks.push_back(last.number);
        if self.picks.len() <= self.lag.picks {
            return None;
        }
        while self.picks.len() > self.lag.picks + 1 {
            self.picks.pop_front();
        }
        let first = kept.front()?.number;
        let frames: Option<Vec<&Sketch>> = self
            .picks
            .iter()
            .map(|pick| kept.get(usize::try_from(pick.checked_sub(first)?).ok()?))
            .collect();
        measure(&frames?, kept)
    }
}

fn measure(picks: &[&Sketch], kept: &VecDeque<Sketch>) -> Option<Passage> {
    let (a, b) = (picks.first()?, picks.last()?);
    let apart = far_distance(a, b);
    if apart.plain < FAINT_LEVELS {
        return None;
    }
    let between: Vec<&Sketch> = kept
        .iter()
        .filter(|frame| frame.number > a.number && frame.number < b.number)
        .collect();
    let plainest = between
        .iter()
        .copied()
        .min_by(|x, y| x.contrast.total_cmp(&y.contrast))?;
    let weaker = a.contrast.min(b.contrast);
    let dip = 1.0 - plainest.contrast / weaker.max(1.0);
    let steps: Vec<f32> = between.iter().map(|frame| progress(a, b, frame)).collect();
    let first_at = |share: f32| {
        let at = steps.iter().position(|&step| step >= share);
        at.map_or(b.number, |at| between[at].number)
    };
    let (left, entered, jump) = if dip > FADE_DIP {
        let (left, entered) = fade_ends(a, b, &between, plainest);
        let contrasts = between.iter().map(|frame| frame.contrast / weaker.max(1.0));
        (left, entered, largest_step(contrasts))
    } else {
        let way = std::iter::once(0.0).chain(steps.iter().copied());
        (first_at(0.1), first_at(0.9), largest_step(way.chain([1.0])))
    };
    let inner = &picks[1..picks.len() - 1];
    let mean = |measure: fn(&Sketch, &Sketch, &Sketch) -> f32| {
        let sum: f32 = inner.iter().map(|frame| measure(a, b, frame)).sum();
        sum / inner.len().max(1) as f32
    };
    Some(Passage {
        frame: first_at(0.5),
        left,
        entered,
        plainest: plainest.number,
        from: a.number,
        to: b.number,
        difference: apart.plain,
        moved: apart.moved,
        histogram: apart.histogram,
        contrast: (a.contrast + b.contrast) / 2.0,
        balance: weaker / a.contrast.max(b.contrast).max(1.0),
        likeness: correlation(a, b),
        excess: mean(excess),
        dip,
        bend: mean(bend),
        jump,
    })
}

/// First frame that is less than `a` and first that is all of `b`. On its way through a plain picture a
/// frame is as near to the one as to the other: the contrast tells how far it is.
fn fade_ends(a: &Sketch, b: &Sketch, between: &[&Sketch], plainest: &Sketch) -> (u64, u64) {
    let is_whole = |frame: &Sketch, end: &Sketch| frame.contrast >= 0.92 * end.contrast;
    let faded = between.iter().find(|frame| !is_whole(frame, a));
    let risen = between
        .iter()
        .find(|frame| frame.number > plainest.number && is_whole(frame, b));
    (
        faded.map_or(plainest.number, |frame| frame.number),
        risen.map_or(b.number, |frame| frame.number),
    )
}

/// The largest difference of two neighbours.
fn largest_step(values: impl Iterator<Item = f32>) -> f32 {
    let (mut before, mut largest) = (None, 0.0_f32);
    for value in values {
        largest = largest.max(before.map_or(0.0, |before: f32| (value - before).abs()));
        before = Some(value);
    }
    largest
}

/// How far a frame leaves what lies between two others, as a share of their difference.
fn excess(a: &Sketch, b: &Sketch, frame: &Sketch) -> f32 {
    let (mut outside, mut apart) = (0_u32, 0_u32);
    for ((&a, &b), &cell) in a.coarse.iter().zip(&b.coarse).zip(&frame.coarse) {
        let (low, high) = (a.min(b), a.max(b));
        outside += u32::from(low.saturating_sub(cell)) + u32::from(cell.saturating_sub(high));
        apart += u32::from(high - low);
    }
    outside as f32 / apart.max(1) as f32
}

/// Correlation of two frames about the mean of each plane.
fn correlation(a: &Sketch, b: &Sketch) -> f32 {
    let plane = a.coarse.len() / 3;
    let (mut both, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (a, b) in a
        .coarse
        .chunks(plane.max(1))
        .zip(b.coarse.chunks(plane.max(1)))
    {
        let mean = |cells: &[u8]| {
            let sum: u32 = cells.iter().map(|&cell| u32::from(cell)).sum();
            sum as f32 / cells.len() as f32
        };
        let (mean_a, mean_b) = (mean(a), mean(b));
        for (&a, &b) in a.iter().zip(b) {
            let (a, b) = (f32::from(a) - mean_a, f32::from(b) - mean_b);
            both += a * b;
            of_a += a * a;
            of_b += b * b;
        }
    }
    both / (of_a * of_b).sqrt().max(1.0)
}

/// How far along the straight way from `a` to `b` a frame is: 0 at `a`, 1 at `b`.
fn progress(a: &Sketch, b: &Sketch, frame: &Sketch) -> f32 {
    let (mut along, mut whole) = (0_i32, 0_i32);
    for ((&a, &b), &cell) in a.coarse.iter().zip(&b.coarse).zip(&frame.coarse) {
        let way = i32::from(b) - i32::from(a);
        along += way * (i32::from(cell) - i32::from(a));
        whole += way * way;
    }
    along as f32 / whole.max(1) as f32
}

/// Mean distance of a frame from its place on the straight way, as a share of the difference.
fn bend(a: &Sketch, b: &Sketch, frame: &Sketch) -> f32 {
    let at = progress(a, b, frame).clamp(0.0, 1.0);
    let (mut off, mut apart) = (0.0, 0.0);
    for ((&a, &b), &cell) in a.coarse.iter().zip(&b.coarse).zip(&frame.coarse) {
        let (a, b) = (f32::from(a), f32::from(b));
        off += (f32::from(cell) - (a + at * (b - a))).abs();
        apart += (b - a).abs();
    }
    off / apart.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame whose coarse cells are given.
    fn frame(coarse: &[u8]) -> Sketch {
        Sketch {
            coarse: coarse.to_vec(),
            ..Sketch::default()
        }
    }

    #[test]
    fn what_lies_between_has_no_excess_and_a_mixture_lies_straight() {
        let (a, b) = (frame(&[0, 100, 200]), frame(&[100, 100, 0]));
        let quarter = frame(&[25, 100, 150]);
        assert_eq!(excess(&a, &b, &quarter), 0.0);
        assert!((progress(&a, &b, &quarter) - 0.25).abs() < 1e-6);
        assert!(bend(&a, &b, &quarter) < 1e-6);
        // Half wiped: each cell is of the one or the other.
        let wiped = frame(&[100, 100, 200]);
        assert_eq!(excess(&a, &b, &wiped), 0.0);
        // progress (100·100)/(100² + 200²) = 0.2, off by 80 and 40 of a difference of 300.
        assert!((progress(&a, &b, &wiped) - 0.2).abs() < 1e-6);
        assert!((bend(&a, &b, &wiped) - 120.0 / 300.0).abs() < 1e-6);
        // Something else passes by: 30 and 55 outside of a difference of 300.
        assert!((excess(&a, &b, &frame(&[130, 100, 255])) - 85.0 / 300.0).abs() < 1e-6);
    }

    #[test]
    fn the_same_picture_darker_correlates_by_one() {
        let bright = frame(&[10, 90, 50, 130, 10, 70]);
        let dark = frame(&[25, 65, 45, 85, 35, 65]); // each half as far from its plane's mean
        assert!((correlation(&bright, &dark) - 1.0).abs() < 1e-6);
        let inverse = frame(&[90, 10, 130, 50, 70, 10]);
        assert!((correlation(&bright, &inverse) + 1.0).abs() < 1e-6);
    }
}
