//! What a clip will cost, told before work begins: bytes and arithmetic of every stage.

mod memory;

use crate::compute::Compute;
use crate::flops;
use crate::generate::{Configs, Settings, Stage};
use crate::vae::{Decoding, VaeConfig, can_decode_whole, decode_peak_bytes};
use crate::{Error, Result};

/// What one stage costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageCost {
    /// The stage.
    pub stage: Stage,
    /// Multiplications and additions.
    pub flop: f64,
    /// The most bytes its activations take, on top of the weights.
    pub activation_bytes: usize,
}

/// What a clip costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// All networks together; they stay in memory throughout.
    pub weights_bytes: usize,
    /// Working memory and code of a card's libraries, likewise; nothing on the processor.
    pub reserve_bytes: usize,
    /// In the order of the work.
    pub stages: [StageCost; 4],
    /// How the frames come out of their latents.
    pub decoding: Decoding,
}

impl Plan {
    /// The cost of a clip by networks whose weights take so many bytes where they compute so.
    ///
    /// # Errors
    /// When the networks do not fit one another, the settings cannot be, or a bounded decode has
    /// too little room.
    pub fn new(
        configs: Configs<'_>,
        (weights_bytes, compute): (usize, Compute),
        settings: &Settings,
    ) -> Result<Plan> {
        configs.check()?;
        settings.check(configs)?;
        let Configs { clip, vae, unet } = configs;
        let size = latents_of(vae, settings);
        let [_, h, w] = size;
        let branches = if settings.guider.is_active() { 2 } else { 1 };
        let runs = branches * settings.sampler.evaluations(settings.steps);
        let cost = |stage, flop, activation_bytes| StageCost {
            stage,
            flop,
            activation_bytes,
        };
        Ok(Plan {
            weights_bytes,
            reserve_bytes: compute.reserve_bytes(),
            stages: [
                cost(
                    Stage::Look,
                    flops::clip(clip),
                    memory::clip_bytes(clip, compute),
                ),
                cost(
                    Stage::Encode,
                    flops::vae_encode(vae, settings.height, settings.width),
                    memory::encode_bytes(vae, [h, w], compute),
                ),
                cost(
                    Stage::Denoise,
                    runs as f64 * flops::unet(unet, settings.frames, h, w),
                    memory::denoise_bytes(
                        unet,
                        size,
                        branches,
                        settings.branches_together,
                        compute,
                    ),
                ),
                cost(
                    Stage::Decode,
                    flops::vae_decode(vae, settings.frames, h, w),
                    decode_peak_bytes(vae, size, settings.decoding, compute)?,
                ),
            ],
            decoding: settings.decoding,
        })
    }

    /// The plan that fits into so many bytes: a whole decode that does not fit is bounded, which
    /// gives the same frames a little later.
    ///
    /// # Errors
    /// As [`Plan::new`], and when nothing fits, saying what would.
    pub fn fitting(
        configs: Configs<'_>,
        (weights_bytes, compute): (usize, Compute),
        settings: &Settings,
        available_bytes: usize,
    ) -> Result<Plan> {
        let held_bytes = weights_bytes + compute.reserve_bytes();
        let load = (weights_bytes, compute);
        let attempt = |settings: &Settings| -> Result<Option<Plan>> {
            let fits = |plan: &Plan| plan.peak_bytes() <= available_bytes;
            let plan = Plan::new(configs, load, settings)?;
            let can_be = settings.decoding != Decoding::Whole
                || can_decode_whole(configs.vae, latents_of(configs.vae, settings), compute);
            if can_be && (fits(&plan) || settings.decoding != Decoding::Whole) {
                return Ok(Some(plan).filter(fits));
            }
            let budget_bytes = available_bytes.saturating_sub(held_bytes);
            let bounded = Settings {
                decoding: Decoding::Bounded { budget_bytes },
                ..settings.clone()
            };
            // What is wrong with the settings was said above; what is left is too little room.
            Ok(Plan::new(configs, load, &bounded).ok().filter(fits))
        };
        if let Some(plan) = attempt(settings)? {
            return Ok(plan);
        }
        let needed = Plan::new(configs, load, settings)?.peak_bytes();
        let fits = |settings: &Settings| matches!(attempt(settings), Ok(Some(_)));
        let remedy = smaller(settings, configs.vae.downscale(), fits).map_or_else(
            || {
                format!(
                    "the weights{} alone take {}; free some memory, or take weights in 16 bits",
                    if compute.is_on_card() {
                        " and the libraries"
                    } else {
                        ""
                    },
                    in_words(held_bytes)
                )
            },
            |change| format!("{change} would fit"),
        );
        Err(Error::argument(
            "memory",
            format!(
                "this clip needs {}{}, {} are free; {remedy}",
                in_words(needed),
                if compute.is_on_card() {
                    format!(" on {compute}")
                } else {
                    String::new()
                },
                in_words(available_bytes)
            ),
        ))
    }

    /// The most bytes held at any time.
    pub fn peak_bytes(&self) -> usize {
        let activations = self.stages.iter().map(|cost| cost.activation_bytes).max();
        self.weights_bytes + self.reserve_bytes + activations.unwrap_or(0)
    }

    /// All multiplications and additions.
    pub fn flop(&self) -> f64 {
        self.stages.iter().map(|cost| cost.flop).sum()
    }

    /// How long the work takes at so many multiplications and additions a second.
    pub fn seconds_at(&self, flop_per_second: f64) -> f64 {
        self.flop() / flop_per_second
    }
}

/// Frames, rows and columns of a clip's latents.
fn latents_of(vae: &VaeConfig, settings: &Settings) -> [usize; 3] {
    let side = vae.downscale();
    [
        settings.frames,
        settings.height / side,
        settings.width / side,
    ]
}

/// The least changes to settings that make them fit, in words that name the setting: fewer frames,
/// or smaller ones.
fn smaller(settings: &Settings, side: usize, fits: impl Fn(&Settings) -> bool) -> Option<String> {
    let base = Settings {
        branches_together: false,
        ..settings.clone()
    };
    if settings.branches_together && fits(&base) {
        return Some("one branch of guidance after the other".to_owned());
    }
    let with_frames = |frames| Settings {
        frames,
        ..base.clone()
    };
    // Memory grows with the frames, so that halving finds the most that fit.
    let (mut fit, mut over) = (0, base.frames);
    while over - fit > 1 {
        let middle = fit + (over - fit) / 2;
        match fits(&with_frames(middle)) {
            true => fit = middle,
            false => over = middle,
        }
    }
    // One frame is no clip.
    let frames = (fit > 1).then(|| format!("frames {fit}"));
    // Multiples of 64 keep every level of the networks even.
    let grid = side.max(64);
    let shrunk = |length: usize, sixteenths: usize| {
        ((length * sixteenths / 16 / grid).max(1) * grid).min(length)
    };
    let sizes = (1..16).rev().map(|sixteenths| Settings {
        width: shrunk(base.width, sixteenths),
        height: shrunk(base.height, sixteenths),
        ..base.clone()
    });
    let size = sizes.into_iter().find(|settings| fits(settings));
    let size = size.map(|size| format!("width {} and height {}", size.width, size.height));
    let both: Vec<String> = frames.into_iter().chain(size).collect();
    (!both.is_empty()).then(|| both.join(", or "))
}

/// Bytes in words.
fn in_words(bytes: usize) -> String {
    let mib = bytes as f64 / (1u64 << 20) as f64;
    match mib {
        mib if mib < 1024.0 => format!("{mib:.0} MiB"),
        mib => format!("{:.1} GiB", mib / 1024.0),
    }
}
