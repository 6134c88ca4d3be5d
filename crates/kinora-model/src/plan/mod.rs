//! What a clip will cost, told before work begins: bytes and arithmetic of every stage.

mod load;
mod memory;

pub use load::{Load, Streaming};

use crate::flops;
use crate::generate::{Configs, Settings, Stage};
use crate::vae::{Decoding, VaeConfig, can_decode, decode_peak_bytes};
use crate::{Error, Result};

/// What one stage costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageCost {
    /// The stage.
    pub stage: Stage,
    /// Multiplications and additions.
    pub flop: f64,
    /// What is in memory of all networks' weights meanwhile.
    pub weights_bytes: usize,
    /// The most bytes its activations take, on top of the weights.
    pub activation_bytes: usize,
}

impl StageCost {
    /// What is in memory at the most.
    pub fn bytes(&self) -> usize {
        self.weights_bytes + self.activation_bytes
    }
}

/// What a clip costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How weights pass through a card's memory, where they do not all fit.
    pub streaming: Option<Streaming>,
    /// Working memory and code of a card's libraries, throughout; nothing on the processor.
    pub reserve_bytes: usize,
    /// In the order of the work.
    pub stages: [StageCost; 4],
    /// How the frames come out of their latents.
    pub decoding: Decoding,
}

impl Plan {
    /// The cost of a clip by networks of these weights, all of them in memory.
    ///
    /// # Errors
    /// When the networks do not fit one another, the settings cannot be, or a bounded decode has
    /// too little room.
    pub fn new(configs: Configs<'_>, load: &Load, settings: &Settings) -> Result<Plan> {
        configs.check()?;
        settings.check(configs)?;
        let Configs { clip, vae, unet } = configs;
        let compute = load.compute();
        let size = latents_of(vae, settings);
        let [_, h, w] = size;
        let branches = if settings.guider.is_active() { 2 } else { 1 };
        let runs = branches * settings.sampler.evaluations(settings.steps);
        let cost = |stage, flop, activation_bytes| StageCost {
            stage,
            flop,
            weights_bytes: load.bytes_during(stage),
            activation_bytes,
        };
        Ok(Plan {
            streaming: None,
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

    /// The plan that fits into so many bytes. A whole decode that does not fit is bounded, which gives
    /// the same frames a little later; weights that do not all fit into a card's memory are brought as
    /// they are used.
    ///
    /// # Errors
    /// As [`Plan::new`], and when nothing fits, saying what would.
    pub fn fitting(
        configs: Configs<'_>,
        load: &Load,
        settings: &Settings,
        available_bytes: usize,
    ) -> Result<Plan> {
        let fit = Fit { configs, load };
        // What is wrong with the settings is said here.
        let needed = Plan::new(configs, load, settings)?;
        match fit.attempt(settings, available_bytes) {
            Some(plan) => Ok(plan),
            None => Err(fit.refusal(settings, available_bytes, &needed)),
        }
    }

    /// The most bytes held at any time.
    pub fn peak_bytes(&self) -> usize {
        self.reserve_bytes + self.fullest().bytes()
    }

    /// The stage that takes the most.
    pub fn fullest(&self) -> &StageCost {
        let [first, others @ ..] = &self.stages;
        let fuller = |most: &StageCost, other: &StageCost| other.bytes() > most.bytes();
        let fold = |most, other| if fuller(most, other) { other } else { most };
        others.iter().fold(first, fold)
    }

    /// The most bytes activations take in any stage.
    pub fn activation_bytes(&self) -> usize {
        let activations = self.stages.iter().map(|cost| cost.activation_bytes).max();
        activations.unwrap_or(0)
    }

    /// The most bytes weights take in any stage.
    pub fn weights_bytes(&self) -> usize {
        let weights = self.stages.iter().map(|cost| cost.weights_bytes).max();
        weights.unwrap_or(0)
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

/// The search for a plan that fits.
struct Fit<'a> {
    configs: Configs<'a>,
    load: &'a Load,
}

impl Fit<'_> {
    fn attempt(&self, settings: &Settings, available_bytes: usize) -> Option<Plan> {
        let all = self.whole_weights(settings, available_bytes);
        all.or_else(|| self.streamed(settings, available_bytes))
    }

    /// A plan with these weights; nothing where the settings cannot be, or a bounded decode has too
    /// little room.
    fn plan(&self, load: &Load, settings: &Settings) -> Option<Plan> {
        Plan::new(self.configs, load, settings).ok()
    }

    fn bounded(&self, settings: &Settings, budget_bytes: usize) -> Settings {
        Settings {
            decoding: match settings.decoding {
                Decoding::Whole => Decoding::Bounded { budget_bytes },
                other => other,
            },
            ..settings.clone()
        }
    }

    /// Whether no array is larger than the device takes.
    fn can_count(&self, settings: &Settings) -> bool {
        let (vae, compute) = (self.configs.vae, self.load.compute());
        let [t, h, w] = latents_of(vae, settings);
        let clips = match settings.guider.is_active() && settings.branches_together {
            true => 2,
            false => 1,
        };
        let largest = memory::largest_values(vae, self.configs.unet, [clips * t, h, w]);
        largest <= compute.most_values() && can_decode(vae, [t, h, w], settings.decoding, compute)
    }

    /// With all weights in memory.
    fn whole_weights(&self, settings: &Settings, available_bytes: usize) -> Option<Plan> {
        let weights_bytes = self.load.bytes_during(Stage::Decode);
        let held_bytes = weights_bytes + self.load.compute().reserve_bytes();
        let budget_bytes = available_bytes.saturating_sub(held_bytes);
        let ways = [settings.clone(), self.bounded(settings, budget_bytes)].into_iter();
        let can_be = ways.filter(|settings| self.can_count(settings));
        let mut plans = can_be.filter_map(|settings| self.plan(self.load, &settings));
        plans.find(|plan| plan.peak_bytes() <= available_bytes)
    }

    /// On a card, with weights that are brought as they are used.
    fn streamed(&self, settings: &Settings, available_bytes: usize) -> Option<Plan> {
        if !self.load.compute().is_on_card() {
            return None;
        }
        let room = available_bytes.checked_sub(self.load.beside_bytes())?;
        // The other stages first: a decode that takes no more leaves the weights the most.
        let nothing = Load::nothing(self.load.compute());
        let outline = self.plan(&nothing, &self.bounded(settings, usize::MAX))?;
        let stages = outline.stages.iter();
        let denoised = stages.filter(|cost| cost.stage != Stage::Decode);
        let denoised = denoised
            .map(|cost| cost.activation_bytes)
            .max()
            .unwrap_or(0);
        let most = room.checked_sub(self.load.least_bytes())?;
        let ways = [
            settings.clone(),
            self.bounded(settings, denoised.min(most)),
            self.bounded(settings, most),
        ];
        let can_be = ways.into_iter().filter(|settings| self.can_count(settings));
        let plans = can_be.filter_map(|settings| {
            let mut plan = self.plan(&nothing, &settings)?;
            let streaming = self
                .load
                .streaming(room.checked_sub(plan.activation_bytes())?)?;
            let held = streaming.resident_bytes + streaming.window_bytes;
            plan.stages
                .iter_mut()
                .for_each(|cost| cost.weights_bytes = held);
            plan.streaming = Some(streaming);
            Some(plan)
        });
        // What is decoded at once may take the weights' room.
        plans.min_by_key(|plan| plan.streaming.map_or(0, |s| s.run_bytes))
    }

    fn refusal(&self, settings: &Settings, available_bytes: usize, needed: &Plan) -> Error {
        let compute = self.load.compute();
        let fits = |settings: &Settings| self.attempt(settings, available_bytes).is_some();
        let remedy = smaller(settings, self.configs.vae.downscale(), fits);
        let remedy = match (remedy, compute.is_on_card()) {
            (Some(change), _) => format!("{change} would fit"),
            (None, false) => format!(
                "the weights alone take {}; free some memory, or take weights in 16 bits",
                in_words(needed.weights_bytes())
            ),
            (None, true) => format!(
                "the libraries, the autoencoder and room for two weights at a time take {}; free \
                 some of the card's memory, or allow more",
                in_words(self.load.beside_bytes() + self.load.least_bytes())
            ),
        };
        let (where_to, streamed) = match compute.is_on_card() {
            false => (String::new(), String::new()),
            true => (format!(" on {compute}"), self.least_in_words(settings)),
        };
        let message = match needed.peak_bytes() <= available_bytes {
            // It is not the sum that is too large: cuDNN counts an array's values in 31 bits.
            true => format!(
                "this clip has an array of more than {} values{where_to}{streamed}; {remedy}",
                compute.most_values()
            ),
            false => format!(
                "this clip needs {}{where_to}{streamed}, {} are free; {remedy}",
                in_words(needed.peak_bytes()),
                in_words(available_bytes)
            ),
        };
        Error::argument("memory", message)
    }

    /// The least memory with which these settings could be, weights being brought as they are used.
    fn least_in_words(&self, settings: &Settings) -> String {
        const RESOLUTION: usize = 1 << 20;
        let (mut over, mut fit) = (0, self.load.beside_bytes() + (1 << 44));
        if self.streamed(settings, fit).is_none() {
            return String::new();
        }
        while fit - over > RESOLUTION {
            let middle = over + (fit - over) / 2;
            match self.streamed(settings, middle) {
                Some(_) => fit = middle,
                None => over = middle,
            }
        }
        format!(
            ", or {} with weights brought as they are used",
            in_words(fit)
        )
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
    if let Decoding::Chunked { frames } = settings.decoding {
        let chunked = |frames| Settings {
            decoding: Decoding::Chunked { frames },
            ..base.clone()
        };
        // Of chunks the largest that fits; a decode in bounds is exact, and cuts arrays by itself.
        let smaller = (1..frames.min(base.frames)).rev();
        if let Some(chunk) = smaller.into_iter().find(|frames| fits(&chunked(*frames))) {
            return Some(format!("a decode chunk of {chunk} frames, or none,"));
        }
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

#[cfg(test)]
mod tests;
