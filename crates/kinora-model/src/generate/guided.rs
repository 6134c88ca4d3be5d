//! The denoiser of a clip under guidance.

use super::progress::{Progress, Stage};
use super::settings::Settings;
use crate::Result;
use crate::compute::Compute;
use crate::conditioner::Conditioning;
use crate::unet::{Prepared, UNet};
use kinora_diffusion::{LinearGuider, v_scaling};
use kinora_tensor::{DType, Tensor, ops};

/// The UNet with all that stays the same over the steps computed once.
pub(super) struct Guided<'a> {
    unet: &'a UNet,
    compute: Compute,
    guider: LinearGuider,
    branches: Branches,
}

enum Branches {
    /// The still is known; no guidance.
    Conditional(Prepared),
    /// First without the still, then with it: half the memory of both together.
    InTurn { uncond: Prepared, cond: Prepared },
    /// A batch of two, the one without the still first.
    Together(Prepared),
}

impl<'a> Guided<'a> {
    pub(super) fn new(
        unet: &'a UNet,
        compute: Compute,
        conditioning: &Conditioning,
        settings: &Settings,
    ) -> Result<Self> {
        let (frames, guider) = (settings.frames, settings.guider);
        let prepare = |context: &Tensor, concat: &Tensor, clips: usize| {
            let added = vec![conditioning.added; clips];
            unet.prepare(context, &added, Some(concat), frames)
        };
        let alone = |one: &Conditioning| prepare(&one.context, &one.concat, 1);
        let conditioning = conditioning.on(compute)?;
        let without = conditioning.without_still().on(compute)?;
        let branches = if !guider.is_active() {
            Branches::Conditional(alone(&conditioning)?)
        } else if settings.branches_together {
            let context = ops::concat(&[&without.context, &conditioning.context], 0)?;
            let concat = ops::concat(&[&without.concat, &conditioning.concat], 0)?;
            Branches::Together(prepare(&context, &concat, 2)?)
        } else {
            Branches::InTurn {
                uncond: alone(&without)?,
                cond: alone(&conditioning)?,
            }
        };
        Ok(Guided {
            unet,
            compute,
            guider,
            branches,
        })
    }

    /// How often the network runs for one estimate.
    pub(super) fn passes(&self) -> usize {
        match self.branches {
            Branches::Conditional(_) | Branches::Together(_) => 1,
            Branches::InTurn { .. } => 2,
        }
    }

    /// Whether every branch is replayed, and why one could not be captured.
    pub(super) fn captured(&self) -> (bool, Option<String>) {
        let branches = match &self.branches {
            Branches::Conditional(one) | Branches::Together(one) => vec![one],
            Branches::InTurn { uncond, cond } => vec![uncond, cond],
        };
        let all = branches.iter().all(|one| one.step().is_captured());
        (all, branches.iter().find_map(|one| one.step().refusal()))
    }

    /// D(x; σ).
    ///
    /// # Shapes
    /// `noised` and the result are `[1, t, h, w, c]`.
    pub(super) fn denoised(
        &self,
        noised: &Tensor,
        sigma: f32,
        progress: &Progress<'_>,
    ) -> Result<Tensor> {
        let scaling = v_scaling(sigma);
        // The still's latents were never scaled: the UNet has them from `prepare`.
        let input = self.compute.there(&scaling.input(noised)?)?;
        let pass = |prepared: &Prepared, input: &Tensor| -> Result<Tensor> {
            let clips = input.dims()[0];
            let labels = vec![scaling.c_noise; clips];
            let output = self.unet.forward_prepared(prepared, input, &labels)?;
            progress.advance(Stage::Denoise)?;
            // Estimates and the sampler's state are f32 whatever the network computes in.
            Ok(output.to_dtype(DType::F32)?)
        };
        let output = match &self.branches {
            Branches::Conditional(cond) => pass(cond, &input)?,
            Branches::InTurn { uncond, cond } => {
                let uncond = pass(uncond, &input)?;
                self.guider.combine(&uncond, &pass(cond, &input)?)?
            }
            Branches::Together(both) => {
                let outputs = pass(both, &ops::repeat(&input, 0, 2)?)?;
                let uncond = ops::narrow(&outputs, 0, 0, 1)?;
                let cond = ops::narrow(&outputs, 0, 1, 1)?;
                self.guider.combine(&uncond, &cond)?
            }
        };
        Ok(scaling.denoised(noised, &output)?)
    }
}
