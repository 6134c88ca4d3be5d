//! The three detectors over what the meter measured, and how their findings become one list.

use super::{Cut, CutSettings, FrameScores, Passage};
use kinora_media::CutKind;
use std::ops::Range;

pub(super) fn cuts(scores: &FrameScores, settings: &CutSettings) -> Vec<Cut> {
    let hard = hard_cuts(scores, settings);
    let (fades, mut gradual, edges) = passage_cuts(scores, settings);
    // A change is seen by several windows: the one that sees it best speaks for it. Fades come first: to
    // a window within one of its halves, and to frames within it, a fade is a change of another kind.
    // Then the long windows, which see slow changes from end to end and not just a part.
    let mut kept = whole_fades(fades, settings);
    kept.iter_mut().for_each(|fade| end_at_cuts(fade, &hard));
    let passage_micros = (settings.passage_secs * 1e6) as i64;
    let same = |one: &Cut, other: &Cut| {
        let both_last = one.kind != CutKind::Hard && other.kind != CutKind::Hard;
        let near = both_last && (one.micros - other.micros).abs() < passage_micros;
        near || (one.left <= other.entered && other.left <= one.entered)
    };
    for finds in gradual.iter_mut().rev() {
        finds.retain(|(_, cut)| {
            is_gradual(cut, &hard, &edges) && !kept.iter().any(|other| same(cut, other))
        });
        kept.extend(strongest(std::mem::take(finds), same));
    }
    let free = |cut: &Cut| !kept.iter().any(|other| same(cut, other));
    let hard: Vec<Cut> = hard.into_iter().filter(free).collect();
    kept.extend(hard);
    let gap_micros = (settings.least_gap_secs * 1e6) as i64;
    let kept = kept.into_iter().map(|cut| (cut.score, cut)).collect();
    let mut cuts = strongest(kept, |one, other| {
        (one.micros - other.micros).abs() < gap_micros
    });
    cuts.sort_by_key(|cut| cut.frame);
    cuts
}

/// A gradual cut with its weight.
type Weighted = (f32, Cut);

/// Finds at the two lower rates: fades of both; dissolves and wipes of each; and the frames of fades at
/// the ends of the video.
fn passage_cuts(
    scores: &FrameScores,
    settings: &CutSettings,
) -> (Vec<Cut>, [Vec<Weighted>; 2], Vec<Range<u64>>) {
    let (mut fades, edges) = plain_spans(scores, settings);
    let mut gradual = [Vec::new(), Vec::new()];
    let least = [settings.quick_share, settings.slow_share];
    for (rate, passages) in scores.passages.iter().enumerate() {
        let calm = |passage: &&Passage| passage.jump <= settings.most_jump;
        for passage in passages.iter().filter(calm) {
            if passage.dip >= settings.fade_dip {
                fades.extend(fade_cut(passage, scores, settings));
            } else {
                gradual[rate].extend(gradual_cut(passage, least[rate], scores, settings));
            }
        }
    }
    (fades, gradual, edges)
}

/// A video that begins or ends with a fade has no cut there; and where a hard cut is sure, what seems to
/// dissolve is the same cut.
fn is_gradual(cut: &Cut, hard: &[Cut], edges: &[Range<u64>]) -> bool {
    let explained =
        |other: &Cut| other.score >= SURE && cut.left <= other.frame && other.frame <= cut.entered;
    let at_edge = |edge: &Range<u64>| edge.contains(&cut.left) || edge.contains(&cut.entered);
    !hard.iter().any(explained) && !edges.iter().any(at_edge)
}

/// Each fade once, from where the first window sees it begin to where the last sees it end.
fn whole_fades(mut fades: Vec<Cut>, settings: &CutSettings) -> Vec<Cut> {
    let near_micros = (settings.passage_secs * 1e6) as i64;
    fades.sort_by_key(|fade| (fade.frame, fade.left));
    let mut whole: Vec<Cut> = Vec::new();
    for fade in fades {
        match whole.last_mut() {
            Some(last) if fade.micros - last.micros < near_micros => {
                last.left = last.left.min(fade.left);
                last.entered = last.entered.max(fade.entered);
                if fade.score > last.score {
                    (last.frame, last.micros, last.score) = (fade.frame, fade.micros, fade.score);
                }
            }
            _ => whole.push(fade),
        }
    }
    whole
}

/// A cut so many times as strong as a threshold is one even where a fade seems to go on.
const SURE: f32 = 1.5;

/// A fade does not reach over a hard cut: beyond it is another shot, whose contrast means nothing to it.
fn end_at_cuts(fade: &mut Cut, hard: &[Cut]) {
    for cut in hard.iter().filter(|cut| cut.score >= SURE) {
        if (fade.left..fade.frame).contains(&cut.frame) {
            fade.left = cut.frame + 1;
        } else if cut.frame > fade.frame {
            fade.entered = fade.entered.min(cut.frame - 1);
        }
    }
}

/// Of cuts with their weights the one with the most among all that are the same, of the rest again the
/// one with the most, and so on.
fn strongest(mut cuts: Vec<Weighted>, same: impl Fn(&Cut, &Cut) -> bool) -> Vec<Cut> {
    cuts.sort_by(|(a, one), (b, other)| b.total_cmp(a).then(one.frame.cmp(&other.frame)));
    let mut kept: Vec<Cut> = Vec::new();
    for (_, cut) in cuts {
        if !kept.iter().any(|other| same(&cut, other)) {
            kept.push(cut);
        }
    }
    kept
}

/// At the video's own rate: changes that last and that stand out among those around them.
fn hard_cuts(scores: &FrameScores, settings: &CutSettings) -> Vec<Cut> {
    let is_strong = |&at: &usize| scores.lasting[at] >= settings.hard_levels;
    let cut = |at: usize| {
        // One level more, so that noise around a cut between stills is no measure.
        let usual = median_around(&scores.change, at, settings.hard_neighbours) + 1.0;
        let ratio = scores.lasting[at] / usual / settings.hard_ratio;
        let score = ratio.min(scores.lasting[at] / settings.hard_levels);
        (score >= 1.0).then(|| Cut {
            frame: at as u64,
            micros: scores.micros[at],
            kind: CutKind::Hard,
            score,
            left: at as u64,
            entered: at as u64,
        })
    };
    (1..scores.frames())
        .filter(is_strong)
        .filter_map(cut)
        .collect()
}

/// Median of the values to both sides of `at`, without its own. The first frame has none before it and
/// counts for nothing.
fn median_around(values: &[f32], at: usize, reach: usize) -> f32 {
    let range = at.saturating_sub(reach).max(1)..(at + reach + 1).min(values.len());
    let mut near: Vec<f32> = range
        .filter(|&other| other != at)
        .map(|other| values[other])
        .collect();
    near.sort_by(f32::total_cmp);
    match near.len() {
        0 => 0.0,
        count => (near[(count - 1) / 2] + near[count / 2]) / 2.0,
    }
}

/// At a lower rate: a passage that is no motion, from one picture to another. It weighs as much as its
/// ends differ: a window over a part of it sees less.
fn gradual_cut(
    passage: &Passage,
    least_share: f32,
    scores: &FrameScores,
    settings: &CutSettings,
) -> Option<Weighted> {
    if passage.balance < settings.least_balance || passage.likeness > settings.most_likeness {
        return None;
    }
    let motion = settings.excess_weight * passage.excess + settings.bend_weight * passage.bend;
    let score = passage.share() * (1.0 - motion) / least_share;
    let cut = passage_cut(passage, passage.frame, CutKind::Gradual, score, scores)?;
    Some((passage.difference * (1.0 - motion), cut))
}

/// At a lower rate: a passage through a plain picture.
fn fade_cut(passage: &Passage, scores: &FrameScores, settings: &CutSettings) -> Option<Cut> {
    // From or to a plain picture is half of a fade.
    if passage.weaker() < 2.0 * settings.plain_levels {
        return None;
    }
    let score = (passage.dip / settings.fade_dip).min(passage.share() / settings.fade_share);
    passage_cut(passage, passage.plainest + 1, CutKind::Fade, score, scores)
}

fn passage_cut(
    passage: &Passage,
    frame: u64,
    kind: CutKind,
    score: f32,
    scores: &FrameScores,
) -> Option<Cut> {
    let micros = *scores.micros.get(frame as usize)?;
    (score >= 1.0).then(|| Cut {
        frame,
        micros,
        kind,
        score,
        left: passage.left.min(frame),
        entered: passage.entered.max(frame),
    })
}

/// Plain frames for long enough, with pictures before and after them; and, at either end of the video,
/// all frames of a fade from or to a plain picture.
fn plain_spans(scores: &FrameScores, settings: &CutSettings) -> (Vec<Cut>, Vec<Range<u64>>) {
    let is_plain = |&at: &usize| scores.contrast[at] < settings.plain_levels;
    let (mut cuts, mut edges) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(first) = (at..scores.frames()).find(is_plain) {
        let end = (first..scores.frames()).find(|frame| !is_plain(frame));
        let end = end.unwrap_or(scores.frames());
        let left = fade_end(scores, first, settings, false);
        let entered = fade_end(scores, end.saturating_sub(1), settings, true);
        at = end;
        if first == 0 || end == scores.frames() {
            edges.push(left..entered + 1);
            continue;
        }
        let secs = (scores.micros[end] - scores.micros[first]) as f64 / 1e6;
        if secs >= settings.plain_secs {
            cuts.push(Cut {
                frame: end as u64,
                micros: scores.micros[end],
                kind: CutKind::Fade,
                score: (secs / settings.plain_secs) as f32,
                left,
                entered: entered.max(end as u64),
            });
        }
    }
    (cuts, edges)
}

/// How far a fade goes on from a plain frame, forwards or backwards: to where the contrast is nearly what
/// it is a second away.
fn fade_end(scores: &FrameScores, plain: usize, settings: &CutSettings, forwards: bool) -> u64 {
    let micros = (settings.passage_secs * 1e6) as i64;
    let near = |at: &usize| (scores.micros[*at] - scores.micros[plain]).abs() <= micros;
    let frames: Vec<usize> = if forwards {
        (plain..scores.frames()).take_while(near).collect()
    } else {
        (0..=plain).rev().take_while(near).collect()
    };
    let whole = frames.last().map_or(0.0, |&last| scores.contrast[last]);
    let end = frames
        .iter()
        .find(|&&at| scores.contrast[at] >= 0.92 * whole);
    end.map_or(plain, |&at| at) as u64
}
