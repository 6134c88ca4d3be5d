//! Decoding in bounded memory that equals decoding at once.
//!
//! A frame's pixels meet other frames in two ways only: by convolutions along time, which read one
//! pixel of each neighbour, and by the norms of temporal blocks, which need the sums over the whole
//! clip. Neither needs the clip in memory at once. Spatial blocks run frame by frame in bands of
//! rows, whose convolutions read one row above and below; temporal blocks run over bands of rows of
//! all frames, once for the sums, once for the result. Between two passes a clip's activations wait
//! in memory or, where that is too small, on disk. The sums are taken in f64, so the result differs
//! from that of `decode` by rounding alone.

mod park;
mod plan;
mod steps;

pub use plan::{Decoding, can_decode, decode_peak_bytes};
pub(in crate::vae) use steps::Steps;

use super::VaeConfig;
use super::blocks::{PixelAttention, SpatialBlock, TemporalBlock, Upsampler};
use crate::Result;
use crate::compute::Compute;
use crate::layers::{Conv2d, GroupNorm};
use kinora_tensor::ops::Moments;
use kinora_tensor::{Tensor, ops};
use park::{Park, Size};
use plan::Plan;
use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use steps::Step;

/// Decodes one clip.
///
/// # Shapes
/// `latents` `[t, h, w, z]`; `sink` gets each frame's number and the frame, `[1, d·h, d·w, o]`.
pub(in crate::vae) fn decode(
    steps: &Steps<'_>,
    config: &VaeConfig,
    latents: &Tensor,
    budget_bytes: usize,
    sink: &mut dyn FnMut(usize, Tensor) -> Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>> {
    let &[t, h, w, _] = latents.dims() else {
        unreachable!("the caller cut clips of four axes");
    };
    let compute = Compute::new(latents.device(), latents.dtype())?;
    let plan = Plan::new(config, [t, h, w], budget_bytes, compute)?;
    decode_as(steps, &plan, latents, sink)
}

fn decode_as(
    steps: &Steps<'_>,
    plan: &Plan,
    latents: &Tensor,
    sink: &mut dyn FnMut(usize, Tensor) -> Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>> {
    let (whole, streamed) = steps.steps.split_at(plan.whole_steps);
    let mut x = match steps.post_quant_conv {
        None => steps.conv_in.forward(latents)?,
        Some(point) => steps.conv_in.forward(&point.forward(latents)?)?,
    };
    for step in whole {
        step.release_other_sizes();
        x = step.whole(x)?;
    }
    let mut clip = Clip::of_whole(&x)?;
    drop(x);
    for step in streamed {
        Tensor::release_scratch_memory();
        clip = match step {
            Step::Attend(attention) => clip.attended(attention, plan)?,
            Step::Block {
                upsampler,
                spatial,
                temporal,
            } => {
                let (clip, sums) = clip.through(*upsampler, spatial, plan)?;
                match temporal {
                    None => clip,
                    Some(temporal) => clip.through_time(temporal, &sums, plan)?,
                }
            }
        };
    }
    clip.finish(steps, plan, sink)
}

impl Step<'_> {
    /// Freed arrays wait for others of their size, which do not come any more when the size changes.
    fn release_other_sizes(&self) {
        if let Step::Block {
            upsampler: Some(_), ..
        } = self
        {
            Tensor::release_scratch_memory();
        }
    }

    /// The step over a whole clip, `[t, h, w, i]`.
    fn whole(&self, mut x: Tensor) -> Result<Tensor> {
        match self {
            Step::Attend(attention) => attention.forward(&x),
            Step::Block {
                upsampler,
                spatial,
                temporal,
            } => {
                if let Some(upsampler) = upsampler {
                    x = upsampler.forward(&x)?;
                }
                x = spatial.forward(&x)?;
                let Some(temporal) = temporal else {
                    return Ok(x);
                };
                let dims = x.dims().to_vec();
                x = x.reshape([&[1], &dims[..]].concat())?; // one clip
                Ok(temporal.forward(&x)?.reshape(dims)?)
            }
        }
    }
}

/// Activations of a clip, and the sums over each of its frames.
struct Clip {
    park: Park,
    frames: Vec<Moments>,
}

impl Clip {
    fn of_whole(x: &Tensor) -> Result<Self> {
        Ok(Clip {
            park: Park::of_whole(x)?,
            frames: Moments::of_each(x)?,
        })
    }

    /// Attention within each frame.
    fn attended(self, attention: &PixelAttention, plan: &Plan) -> Result<Self> {
        let size = self.park.size;
        let target = self.park_for(size, plan)?;
        let to = target.as_ref().unwrap_or(&self.park);
        let mut frames = Vec::with_capacity(size.frames);
        for frame in 0..size.frames {
            let y = attention.forward(&self.park.read(frame, 0..size.h)?)?;
            frames.extend(Moments::of_each(&y)?);
            to.write(frame, 0, &y)?;
        }
        let park = target.unwrap_or(self.park);
        Ok(Clip { park, frames })
    }

    /// A spatial block, after upsampling where there is some; and the sums over the whole result.
    fn through(
        self,
        upsampler: Option<&Upsampler>,
        block: &SpatialBlock,
        plan: &Plan,
    ) -> Result<(Self, Moments)> {
        let mut size = self.park.size;
        if upsampler.is_some() {
            (size.h, size.w) = (2 * size.h, 2 * size.w);
        }
        size.c = block.o;
        let target = self.park_for(size, plan)?;
        let to = target.as_ref().unwrap_or(&self.park);
        let mut frames = Vec::with_capacity(size.frames);
        let mut all = Moments::new(size.c);
        for frame in 0..size.frames {
            let sums = match upsampler {
                None => spatial(
                    block,
                    (&self.park, frame),
                    &self.frames[frame],
                    (to, frame),
                    plan,
                )?,
                Some(upsampler) => {
                    let (lifted, sums) = upsampled(upsampler, &self.park, frame, plan)?;
                    spatial(block, (&lifted, 0), &sums, (to, frame), plan)?
                }
            };
            all.add(&sums)?;
            frames.push(sums);
            if target.is_some() {
                self.park.forget(frame);
            }
        }
        let park = target.unwrap_or(self.park);
        Ok((Clip { park, frames }, all))
    }

    /// A new park for results of this size; none where they can take the place of what is there.
    fn park_for(&self, size: Size, plan: &Plan) -> Result<Option<Park>> {
        if size == self.park.size && self.park.is_writable() {
            return Ok(None);
        }
        Park::new(size, plan.clip_place, self.park.at()).map(Some)
    }

    /// A temporal block over the clip, whose sums are `all`, in its place.
    fn through_time(self, block: &TemporalBlock, all: &Moments, plan: &Plan) -> Result<Self> {
        let size = self.park.size;
        let all = std::slice::from_ref(all);
        let first_half = |x: &Tensor| block.conv1.forward(&block.norm1.forward_silu_with(x, all)?);
        let bands = || {
            let rows = plan.time_band_rows(size.h, size.frames * self.park.row_bytes());
            bands(size.h, rows)
        };
        let kept = plan
            .keeps_inner
            .then(|| Park::new(size, plan.clip_place, self.park.at()));
        let kept = kept.transpose()?;
        let mut inner = vec![Moments::new(size.c)];
        for rows in bands() {
            let h = first_half(&self.park.read_all(rows.clone())?)?; // [1, t, rows, w, c]
            inner[0].add(&Moments::of_each(&h)?[0])?;
            if let Some(kept) = &kept {
                kept.write_all(rows.start, &h)?;
            }
        }
        let mut frames = vec![Moments::new(size.c); size.frames];
        for rows in bands() {
            let x = self.park.read_all(rows.clone())?;
            let mut h = match &kept {
                Some(kept) => kept.read_all(rows.clone())?,
                None => first_half(&x)?,
            };
            h = block.norm2.forward_silu_with(&h, &inner)?;
            let y = block.blend(&x, &h)?;
            let by_frame = y.reshape([size.frames, rows.len(), size.w, size.c])?;
            for (sums, part) in frames.iter_mut().zip(Moments::of_each(&by_frame)?) {
                sums.add(&part)?;
            }
            self.park.write_all(rows.start, &y)?;
        }
        let park = self.park;
        Ok(Clip { park, frames })
    }

    /// The last convolutions. Frames leave as soon as the frame after them is known.
    fn finish(
        self,
        steps: &Steps<'_>,
        plan: &Plan,
        sink: &mut dyn FnMut(usize, Tensor) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let count = self.park.size.frames;
        let mut window: VecDeque<Tensor> = VecDeque::new(); // up to three pictures in a row
        for frame in 0..count {
            window.push_back(self.picture(frame, steps.norm, steps.conv_out, plan)?);
            self.park.forget(frame);
            let Some(time_conv) = steps.time_conv_out else {
                let picture = window.pop_back().expect("just put there");
                if sink(frame, picture)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                continue;
            };
            let last = frame + 1 == count;
            // The picture before this one has both its neighbours; this one too if it is the last.
            let ready = frame.saturating_sub(1)..frame + usize::from(last);
            let first = frame + 1 - window.len();
            let pictures: Vec<&Tensor> = window.iter().collect();
            let joined = ops::concat(&pictures, 0)?;
            let joined = joined.reshape([&[1], joined.dims()].concat())?; // [1, ≤ 3, h, w, o]
            let timed = time_conv.forward(&joined)?;
            for number in ready {
                let picture = ops::narrow(&timed, 1, number - first, 1)?;
                let picture = picture.reshape(&picture.dims()[1..])?;
                if sink(number, picture)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if window.len() == 3 {
                window.pop_front();
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The last norm and the last convolution of pictures, `[1, h, w, o]`.
    fn picture(
        &self,
        frame: usize,
        norm: &GroupNorm,
        conv: &Conv2d,
        plan: &Plan,
    ) -> Result<Tensor> {
        let mut parts = Vec::new();
        convolved(
            norm,
            &self.frames[frame],
            conv,
            (&self.park, frame),
            plan,
            |_, part| {
                parts.push(part);
                Ok(())
            },
        )?;
        Ok(ops::concat(&parts.iter().collect::<Vec<_>>(), 1)?)
    }
}

/// One frame upsampled and convolved, and the sums over it.
fn upsampled(
    upsampler: &Upsampler,
    source: &Park,
    frame: usize,
    plan: &Plan,
) -> Result<(Park, Moments)> {
    let Size { h, w, c, .. } = source.size;
    let size = Size {
        frames: 1,
        h: 2 * h,
        w: 2 * w,
        c,
    };
    let target = Park::new(size, plan.frame_place, source.at())?;
    let mut sums = Moments::new(c);
    for rows in bands(size.h, plan.band_rows(size.h, target.row_bytes())) {
        let halo = Halo::around(&rows, size.h);
        let from = halo.rows.start / 2..halo.rows.end.div_ceil(2);
        let skipped = halo.rows.start - 2 * from.start;
        let mut x = ops::upsample_nearest(&source.read(frame, from)?)?;
        if x.dims()[1] != halo.rows.len() {
            x = ops::narrow(&x, 1, skipped, halo.rows.len())?;
        }
        let y = upsampler.0.forward_padded(&x, halo.pad)?;
        sums.add(&Moments::of_each(&y)?[0])?;
        target.write(0, rows.start, &y)?;
    }
    Ok((target, sums))
}

/// A spatial block over one frame, whose sums are given, from one park to another or to the same;
/// and the sums over the result.
fn spatial(
    block: &SpatialBlock,
    source: (&Park, usize),
    sums: &Moments,
    (target, to): (&Park, usize),
    plan: &Plan,
) -> Result<Moments> {
    let c = block.o;
    let (from, frame) = source;
    let size = Size {
        frames: 1,
        c,
        ..from.size
    };
    let inner = Park::new(size, plan.frame_place, from.at())?;
    let mut inner_sums = Moments::new(c);
    convolved(&block.norm1, sums, &block.conv1, source, plan, |rows, h| {
        inner_sums.add(&Moments::of_each(&h)?[0])?;
        inner.write(0, rows.start, &h)
    })?;
    let mut sums = Moments::new(c);
    convolved(
        &block.norm2,
        &inner_sums,
        &block.conv2,
        (&inner, 0),
        plan,
        |rows, h| {
            let y = block.add_input(&from.read(frame, rows.clone())?, &h)?;
            sums.add(&Moments::of_each(&y)?[0])?;
            target.write(to, rows.start, &y)
        },
    )?;
    Ok(sums)
}

/// Norm, SiLU and a 3×3 convolution over one frame, handed out band by band.
fn convolved(
    norm: &GroupNorm,
    sums: &Moments,
    conv: &Conv2d,
    (source, frame): (&Park, usize),
    plan: &Plan,
    mut take: impl FnMut(Range<usize>, Tensor) -> Result<()>,
) -> Result<()> {
    let h = source.size.h;
    for rows in bands(h, plan.band_rows(h, source.row_bytes())) {
        let halo = Halo::around(&rows, h);
        let mut x = source.read(frame, halo.rows)?;
        x = norm.forward_silu_with(&x, std::slice::from_ref(sums))?;
        x = conv.forward_padded(&x, halo.pad)?;
        take(rows, x)?;
    }
    Ok(())
}

/// The rows a 3×3 convolution reads for a band of its result, and the zeros it finds beyond the
/// picture.
struct Halo {
    rows: Range<usize>,
    pad: ops::Pad,
}

impl Halo {
    fn around(rows: &Range<usize>, h: usize) -> Self {
        Halo {
            rows: rows.start.saturating_sub(1)..(rows.end + 1).min(h),
            pad: ops::Pad {
                top: usize::from(rows.start == 0),
                bottom: usize::from(rows.end == h),
                left: 1,
                right: 1,
            },
        }
    }
}

/// `0..h` in bands of so many rows.
fn bands(h: usize, rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..h)
        .step_by(rows)
        .map(move |start| start..(start + rows).min(h))
}

#[cfg(test)]
mod tests {
    use super::park::Place;
    use super::*;
    use crate::params::Source;
    use crate::vae::{Vae, VaeKind};
    use kinora_tensor::DType;
    use kinora_tensor::testing::{numbers, relative_l2};

    /// An autoencoder whose every layer has a say, and latents for it.
    fn example(kind: VaeKind) -> (Vae, Tensor) {
        example_on(kind, Compute::PROCESSOR)
    }

    fn example_on(kind: VaeKind, compute: Compute) -> (Vae, Tensor) {
        let mut config = VaeConfig::temporal(&[32, 64], 2);
        config.kind = kind;
        let source = Source::fresh(3).on(compute);
        let vae = Vae::new(&source, &config).unwrap();
        for (k, entry) in source.params().iter().enumerate() {
            if entry.name.contains("temporal_res_block.conv2") || entry.name.contains("time_mixer")
            {
                let dims = entry.param.get().dims().to_vec();
                let values = ops::scale(&numbers(dims, k as u64), 0.3).unwrap();
                entry.param.set(compute.there(&values).unwrap());
            }
        }
        let frames = if kind == VaeKind::Temporal { 4 } else { 1 };
        (vae, numbers([1, frames, 13, 5, 4], 4))
    }

    /// The frames that come out of one plan, in a row.
    fn decoded(steps: &Steps<'_>, latents: &Tensor, plan: &Plan) -> Vec<f32> {
        let mut frames = Vec::new();
        let mut expected = 0;
        let clip = latents.reshape(&latents.dims()[1..]).unwrap();
        let flow = decode_as(steps, plan, &clip, &mut |number, frame| {
            assert_eq!(number, expected);
            expected += 1;
            frames.extend(frame.to_vec());
            Ok(ControlFlow::Continue(()))
        });
        assert!(flow.unwrap().is_continue());
        frames
    }

    #[test]
    fn every_plan_gives_the_frames_of_the_whole_decode() {
        for kind in [VaeKind::Temporal, VaeKind::Image] {
            let (vae, latents) = example(kind);
            let whole = vae.decode(&latents).unwrap().to_vec();
            let steps = vae.decoder.steps();
            let count = steps.steps.len();
            assert_eq!(count, super::steps::extents(&vae.config, 13, 5).len());
            for whole_steps in [0, 1, 5, count] {
                for (clip_place, frame_place, keeps_inner) in [
                    (Place::Near, Place::Near, true),
                    (Place::Near, Place::Away, false),
                    (Place::Away, Place::Near, false),
                    (Place::Away, Place::Away, true),
                ] {
                    for band_bytes in [1, 64 << 10] {
                        let plan = Plan {
                            whole_steps,
                            clip_place,
                            frame_place,
                            keeps_inner,
                            band_bytes,
                            peak_bytes: 0,
                        };
                        let distance = relative_l2(&decoded(&steps, &latents, &plan), &whole);
                        // Bands may be convolved by another algorithm than whole pictures, which
                        // rounds differently by about 1e-6 in each layer.
                        assert!(distance <= 4e-6, "{plan:?}: {distance:.1e}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_card_gives_the_frames_of_its_whole_decode() {
        let exact = example(VaeKind::Temporal);
        let exact_latents = ops::narrow(&exact.1, 3, 0, 2).unwrap();
        let exact = exact.0.decode(&exact_latents).unwrap().to_vec();
        for dtype in [DType::F32, DType::BF16] {
            let Some(device) = kinora_tensor::host_device(1 << 28) else {
                return;
            };
            let compute = Compute::new(device, dtype).unwrap();
            let (vae, latents) = example_on(VaeKind::Temporal, compute);
            let latents = ops::narrow(&latents, 3, 0, 2).unwrap();
            let latents = compute.there(&latents).unwrap();
            let whole = vae.decode(&latents).unwrap().to_vec();
            // Both round as often: neither is further from the other than both may be from f32.
            let rounding = relative_l2(&whole, &exact);
            let most = (2.0 * rounding).max(4e-6);
            let steps = vae.decoder.steps();
            for (whole_steps, place, keeps_inner) in
                [(0, Place::Near, true), (1, Place::Away, false)]
            {
                let plan = Plan {
                    whole_steps,
                    clip_place: place,
                    frame_place: place,
                    keeps_inner,
                    band_bytes: 1,
                    peak_bytes: 0,
                };
                let distance = relative_l2(&decoded(&steps, &latents, &plan), &whole);
                println!("{dtype}, {place:?}: {distance:.1e}, from f32 {rounding:.1e}");
                assert!(
                    rounding <= 3e-2 && distance <= most,
                    "{dtype}, {plan:?}: {distance:.1e} apart, {rounding:.1e} from f32"
                );
            }
        }
    }

    #[test]
    fn a_sink_may_stop() {
        let (vae, latents) = example(VaeKind::Temporal);
        let mut seen = 0;
        let sink = |_, _| {
            seen += 1;
            Ok(if seen == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        };
        vae.decode_bounded(&latents, 1 << 30, sink).unwrap();
        assert_eq!(seen, 2);
    }

    #[test]
    fn bands_cover_every_row_once_and_halos_reach_one_further() {
        for (h, rows) in [(1, 1), (12, 12), (25, 12), (7, 3)] {
            let all: Vec<usize> = bands(h, rows).flatten().collect();
            assert_eq!(all, (0..h).collect::<Vec<_>>());
            for band in bands(h, rows) {
                let halo = Halo::around(&band, h);
                let seen = halo.rows.len() + halo.pad.top + halo.pad.bottom;
                assert_eq!(seen, band.len() + 2);
            }
        }
    }
}
