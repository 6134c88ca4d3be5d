//! How a decode fits into a number of bytes, decided before it begins.
//!
//! Counted are activations, on top of the weights. Early steps are small and run over the whole clip
//! at once, as `decode` runs them; from the first step that would not fit, the rest is streamed.

use super::park::{Place, Size};
use super::steps::{Extents, StepKind, extents};
use crate::compute::Compute;
use crate::vae::VaeConfig;
use crate::{Error, Result};

/// What the kernels of a convolution or an attention take for themselves.
const WORKSPACE_BYTES: usize = 96 << 20;
/// What freed arrays may hold while they wait for others of their size.
const WAITING_BYTES: usize = 512 << 20;
/// Bands of rows are cut in multiples of this, the tile of the fastest convolution and then some, so
/// that its tiles lie as they do in the whole picture.
const ROW_MULTIPLE: usize = 12;

/// How the frames of a clip come out of its latents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoding {
    /// `decode`.
    Whole,
    /// `decode_chunked`.
    Chunked {
        /// Frames of a chunk.
        frames: usize,
    },
    /// `decode_bounded`.
    Bounded {
        /// The number of bytes to keep to.
        budget_bytes: usize,
    },
}

/// The most bytes that decoding a clip takes for its activations, on top of the weights, estimated
/// from the settings alone.
///
/// Whole, the widest step counts: four to five arrays of the size of its result. Streamed, it is one
/// array over the whole clip (none where that lies on disk), one frame or two, and a few bands of
/// rows.
///
/// # Shapes
/// `t` frames of latents of `h` × `w`.
///
/// # Errors
/// When the budget is smaller than the leanest way needs, saying how much that is.
pub fn decode_peak_bytes(
    config: &VaeConfig,
    [t, h, w]: [usize; 3],
    decoding: Decoding,
    compute: Compute,
) -> Result<usize> {
    let frames_bytes = frames_values(config, [t, h, w]) * compute.value_bytes();
    let whole = |t| whole_bytes(config, [t, h, w], compute) + frames_bytes;
    Ok(match decoding {
        Decoding::Whole => whole(t),
        Decoding::Chunked { frames } => whole(frames.clamp(1, t.max(1))) + 2 * frames_bytes,
        Decoding::Bounded { budget_bytes } => {
            Plan::new(config, [t, h, w], budget_bytes, compute)?.peak_bytes
        }
    })
}

/// Whether no array of the decode has more values than the device takes in one: on a card, those of 25
/// frames of 1024×576 pixels at once do. A bounded decode cuts its arrays small enough.
///
/// # Shapes
/// `t` frames of latents of `h` × `w`.
pub fn can_decode(
    config: &VaeConfig,
    [t, h, w]: [usize; 3],
    decoding: Decoding,
    compute: Compute,
) -> bool {
    let together = match decoding {
        Decoding::Whole => t,
        Decoding::Chunked { frames } => frames.min(t),
        // Its plan counts them.
        Decoding::Bounded { .. } => return true,
    };
    let steps = extents(config, h, w);
    let mut largest = steps.iter().map(|step| largest_values(step, together));
    largest.all(|values| values <= compute.most_values())
}

/// One way to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// How many steps run over the whole clip.
    pub(super) whole_steps: usize,
    /// Where a clip's activations wait once they are streamed.
    pub(super) clip_place: Place,
    /// Where those of a single frame wait.
    pub(super) frame_place: Place,
    /// Whether the inner activation of temporal blocks waits too, or is computed twice.
    pub(super) keeps_inner: bool,
    /// The size of the largest array of a band.
    pub(super) band_bytes: usize,
    /// What all this needs.
    pub(super) peak_bytes: usize,
}

impl Plan {
    /// The fastest plan that keeps to the budget.
    pub(super) fn new(
        config: &VaeConfig,
        [t, h, w]: [usize; 3],
        budget_bytes: usize,
        compute: Compute,
    ) -> Result<Self> {
        let steps = extents(config, h, w);
        let mut leanest = usize::MAX;
        for mut plan in Self::candidates(&steps, t, budget_bytes, compute) {
            plan.peak_bytes = plan.needed_bytes(config, &steps, t, compute);
            if plan.peak_bytes <= budget_bytes {
                return Ok(plan);
            }
            leanest = leanest.min(plan.peak_bytes);
        }
        Err(Error::argument(
            "decode budget",
            format!(
                "{t} frames of {}×{} pixels need {leanest} bytes at the least, the budget is \
                 {budget_bytes}; raise it, or decode fewer or smaller frames",
                w * config.downscale(),
                h * config.downscale()
            ),
        ))
    }

    /// From the fastest to the leanest: with less and less in memory; and for each, with as many
    /// steps over the whole clip as can be, then with fewer.
    fn candidates(
        steps: &[Extents],
        t: usize,
        budget_bytes: usize,
        compute: Compute,
    ) -> impl Iterator<Item = Plan> {
        let fits = |step: &&Extents| {
            whole_step_values(step, t) * compute.value_bytes() <= budget_bytes
                && largest_values(step, t) <= compute.most_values()
        };
        let most = steps.iter().take_while(fits).count();
        let places = [
            (Place::Near, Place::Near, true),
            (Place::Near, Place::Near, false),
            (Place::Away, Place::Near, false),
            (Place::Away, Place::Away, false),
        ];
        let choices = places.into_iter().flat_map(move |place| {
            let parts = |whole_steps| [32, 64, 128].map(|part| (whole_steps, part));
            let fewer = (0..=most).rev().flat_map(parts);
            fewer.map(move |choice| (place, choice))
        });
        choices.map(
            move |((clip_place, frame_place, keeps_inner), (whole_steps, part))| Plan {
                whole_steps,
                clip_place,
                frame_place,
                keeps_inner,
                band_bytes: (budget_bytes / part).clamp(1 << 18, 64 << 20),
                peak_bytes: 0,
            },
        )
    }

    fn needed_bytes(
        &self,
        config: &VaeConfig,
        steps: &[Extents],
        t: usize,
        compute: Compute,
    ) -> usize {
        let value_bytes = compute.value_bytes();
        let (whole, streamed) = steps.split_at(self.whole_steps);
        let whole_peak = whole.iter().map(|step| whole_step_values(step, t)).max();
        let streamed_peak = streamed
            .iter()
            .enumerate()
            .map(|(k, step)| {
                // The last whole array is read until the first streamed step is done with it.
                let before = if k == 0 { input_values(step, t) } else { 0 };
                before + self.streamed_step_values(step, t, value_bytes)
            })
            .max();
        let alive = whole_peak.unwrap_or(0).max(streamed_peak.unwrap_or(0))
            + self.output_values(config, steps, t, value_bytes);
        match compute.is_on_card() {
            false => alive * value_bytes + WORKSPACE_BYTES,
            true => compute.held_bytes(alive * value_bytes),
        }
    }

    fn streamed_step_values(&self, step: &Extents, t: usize, value_bytes: usize) -> usize {
        let (h, w) = (step.h, step.w);
        let frame = |c| Size { frames: 1, h, w, c }.values();
        let clip = t * frame(step.o);
        let mut waiting = 0;
        if self.clip_place == Place::Near {
            // Frames of the input are let go as those of the result come.
            waiting += clip.max(input_values(step, t)) + frame(step.o);
            if self.keeps_inner && step.temporal {
                waiting += clip;
            }
        }
        if self.frame_place == Place::Near && step.kind != StepKind::Attend {
            let lifted = step.kind == StepKind::UpsamplingBlock;
            waiting += frame(step.o) + if lifted { frame(step.i) } else { 0 };
        }
        let spatial = match step.kind {
            // Attention takes a frame at a time: its input, norm, queries, keys, values and results.
            StepKind::Attend => 9 * frame(step.o),
            _ => {
                let widest = step.i.max(step.o);
                let rows = self.band_rows(h, w * widest * value_bytes) + 2;
                6 * rows * w * widest
            }
        };
        let row = t * w * step.o;
        let temporal = 6 * self.time_band_rows(h, row * value_bytes) * row;
        waiting + spatial.max(if step.temporal { temporal } else { 0 })
    }

    /// The pictures before and after the last convolution, and bands on the way to them.
    fn output_values(
        &self,
        config: &VaeConfig,
        steps: &[Extents],
        t: usize,
        value_bytes: usize,
    ) -> usize {
        let Some(last) = steps.last() else { return 0 };
        let pictures = 8 * last.h * last.w * config.out_channels;
        let whole = self.whole_steps == steps.len();
        pictures
            + if whole {
                input_values(last, t).min(3 * self.band_bytes / value_bytes)
            } else {
                0
            }
    }

    /// Rows of a band over one frame whose rows take `row_bytes`.
    pub(super) fn band_rows(&self, h: usize, row_bytes: usize) -> usize {
        let rows = self.band_bytes / row_bytes.max(1);
        (rows / ROW_MULTIPLE * ROW_MULTIPLE)
            .max(ROW_MULTIPLE)
            .min(h)
    }

    /// Rows of a band over all frames, whose rows together take `row_bytes`.
    pub(super) fn time_band_rows(&self, h: usize, row_bytes: usize) -> usize {
        (self.band_bytes / row_bytes.max(1)).clamp(1, h)
    }
}

/// What `decode` needs at its widest step.
fn whole_bytes(config: &VaeConfig, [t, h, w]: [usize; 3], compute: Compute) -> usize {
    let steps = extents(config, h, w);
    let widest = steps.iter().map(|step| whole_step_values(step, t)).max();
    let widest = widest.unwrap_or(0) * compute.value_bytes();
    match compute.is_on_card() {
        false => widest + widest.min(WAITING_BYTES) + WORKSPACE_BYTES,
        true => compute.held_bytes(widest),
    }
}

/// The decoded pictures.
fn frames_values(config: &VaeConfig, [t, h, w]: [usize; 3]) -> usize {
    let d = config.downscale();
    t * d * h * d * w * config.out_channels
}

/// The array a step takes, over the whole clip.
fn input_values(step: &Extents, frames: usize) -> usize {
    let (h, w, c) = (step.h, step.w, step.i);
    let full = Size { frames, h, w, c }.values();
    if step.kind == StepKind::UpsamplingBlock {
        full / 4
    } else {
        full
    }
}

/// The largest array of a step over the whole clip.
fn largest_values(step: &Extents, frames: usize) -> usize {
    let &Extents { h, w, i, o, .. } = step;
    frames * h * w * i.max(o)
}

/// What a step needs over the whole clip: the arrays alive together at its worst moment.
fn whole_step_values(step: &Extents, frames: usize) -> usize {
    let Extents { h, w, i, o, .. } = *step;
    let size = |c| Size { frames, h, w, c }.values();
    let (x, y) = (size(i), size(o));
    match step.kind {
        StepKind::Attend => 7 * x,
        kind => {
            let lift = if kind == StepKind::UpsamplingBlock {
                input_values(step, frames) + 2 * x
            } else {
                0
            };
            let shortcut = if i == o { 0 } else { y };
            // Input, norm and convolution; input, convolution, shortcut and sum.
            let spatial = (2 * x + y).max(x + 2 * y + shortcut);
            // Input, what is added, the temporal side, and the blend.
            let temporal = if step.temporal { 4 * y } else { 0 };
            lift.max(spatial).max(temporal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::{DType, Device};

    const MIB: usize = 1 << 20;

    fn bounded(thw: [usize; 3], budget_bytes: usize) -> Plan {
        let processor = Compute::PROCESSOR;
        Plan::new(&VaeConfig::svd(), thw, budget_bytes, processor).unwrap()
    }

    #[test]
    fn a_smaller_budget_never_needs_more() {
        let config = VaeConfig::svd();
        let thw = [25, 72, 128];
        let whole = decode_peak_bytes(&config, thw, Decoding::Whole, Compute::PROCESSOR).unwrap();
        // Five arrays of 25·576·1024·128 values, and the workspace.
        assert!(
            whole > 5 * 25 * 576 * 1024 * 128 * 4 && whole < 45 << 30,
            "{whole}"
        );
        let mut last = usize::MAX;
        for budget_mib in [60_000, 20_000, 9_000, 4_000, 1_000, 700] {
            let plan = bounded(thw, budget_mib * MIB);
            assert!(plan.peak_bytes <= budget_mib * MIB);
            assert!(plan.peak_bytes <= last, "{budget_mib} MiB");
            last = plan.peak_bytes;
        }
    }

    #[test]
    fn memory_is_used_while_there_is_some() {
        let thw = [25, 72, 128];
        let all = bounded(thw, 64 << 30);
        assert_eq!(all.whole_steps, extents(&VaeConfig::svd(), 72, 128).len());
        let some = bounded(thw, 20 << 30);
        assert_eq!((some.clip_place, some.keeps_inner), (Place::Near, true));
        let less = bounded(thw, 12 << 30);
        assert_eq!((less.clip_place, less.keeps_inner), (Place::Near, false));
        let little = bounded(thw, 4 << 30);
        assert_eq!(
            (little.clip_place, little.frame_place),
            (Place::Away, Place::Near)
        );
        let least = bounded(thw, 1 << 30);
        assert_eq!(
            (least.clip_place, least.frame_place),
            (Place::Away, Place::Away)
        );
    }

    #[test]
    fn a_budget_nothing_fits_is_refused_with_what_would() {
        let refused = Plan::new(
            &VaeConfig::svd(),
            [25, 72, 128],
            64 * MIB,
            Compute::PROCESSOR,
        );
        let refused = refused.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("25 frames of 1024×576 pixels need"), "{text}");
    }

    #[test]
    fn a_card_takes_half_in_sixteen_bits_and_no_array_that_cudnn_cannot_count() {
        let config = VaeConfig::svd();
        let card = |dtype| Compute::new(Device::Cuda(0), dtype).unwrap();
        let (wide, half) = (card(DType::F32), card(DType::BF16));
        // 256 channels of 576×1024 pixels: 14 frames are 2.11e9 values, 15 are over 2³¹.
        for (t, can) in [(14, true), (15, false), (25, false)] {
            let decodes = |frames, decoding, compute| {
                can_decode(&config, [frames, 72, 128], decoding, compute)
            };
            assert_eq!(decodes(t, Decoding::Whole, half), can, "{t}");
            assert!(decodes(t, Decoding::Whole, Compute::PROCESSOR));
            let chunked = Decoding::Chunked { frames: t };
            assert_eq!(decodes(25, chunked, half), can, "{t}");
        }
        let thw = [14, 72, 128];
        let bytes = |compute| decode_peak_bytes(&config, thw, Decoding::Whole, compute).unwrap();
        assert_eq!(bytes(wide), 2 * bytes(half));
        let plan = Plan::new(&config, [25, 72, 128], 70 << 30, half).unwrap();
        let steps = extents(&config, 72, 128);
        assert!(plan.whole_steps < steps.len() && plan.clip_place == Place::Near);
        for budget_mib in [60_000, 20_000, 9_000, 4_000, 1_000] {
            let plan = Plan::new(&config, [25, 72, 128], budget_mib * MIB, half).unwrap();
            assert!(plan.peak_bytes <= budget_mib * MIB);
        }
    }

    #[test]
    fn bands_are_whole_tiles_until_the_picture_ends() {
        let plan = bounded([25, 72, 128], 1 << 30);
        for (h, row) in [(576, 128 * 1024), (576, 1), (5, 1 << 30), (576, 1 << 30)] {
            let rows = plan.band_rows(h, row);
            assert!(rows == h || rows.is_multiple_of(ROW_MULTIPLE) && rows > 0);
        }
    }
}
