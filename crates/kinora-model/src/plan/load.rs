//! What the weights of a model take of a device's memory, whole or with some brought as they are used.

use crate::compute::Compute;
use crate::generate::Stage;
use crate::weights::Weights;
use kinora_tensor::{ResidencyPlan, WeightBytes};

/// The weights of a model where they are to be computed with, array by array.
#[derive(Clone, Debug)]
pub struct Load {
    compute: Compute,
    vae: Vec<WeightBytes>,
    /// The denoiser's, then the tower's that looks at the still, which is used once.
    others: Vec<WeightBytes>,
    /// How many of the others are the tower's.
    once: usize,
    /// On the processor, what loading copies of all networks' weights.
    copied_bytes: usize,
    /// On the processor, what is read where it lies: of the tower, the autoencoder and the denoiser. Pages
    /// of it are in memory while the network works.
    mapped_bytes: [usize; 3],
}

/// How weights that do not all fit pass through a card's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streaming {
    /// What the weights of the denoiser and of the tower may take, with the window.
    pub budget_bytes: usize,
    /// What stays on the card, the autoencoder included.
    pub resident_bytes: usize,
    /// The stretch of the card's memory that the others pass through.
    pub window_bytes: usize,
    /// What is copied for every run of the denoiser.
    pub run_bytes: usize,
    /// What is copied once in a clip, to look at the still.
    pub once_bytes: usize,
}

impl Load {
    /// Of weights that were opened.
    pub fn of(weights: &Weights, compute: Compute) -> Load {
        let mut others = weights.unet.arrays_on(compute);
        let tower = weights.image_encoder.arrays_on(compute);
        let once = tower.len();
        others.extend(tower);
        let parts = [
            weights.image_encoder.copied_and_mapped_bytes(),
            weights.vae.copied_and_mapped_bytes(),
            weights.unet.copied_and_mapped_bytes(),
        ];
        Load {
            compute,
            vae: weights.vae.arrays_on(compute),
            others,
            once,
            copied_bytes: parts.iter().map(|[copied, _]| copied).sum(),
            mapped_bytes: parts.map(|[_, mapped]| mapped),
        }
    }

    /// On the processor: so many bytes that loading copies, and read where they lie of the tower, the
    /// autoencoder and the denoiser.
    #[cfg(test)]
    pub(super) fn on_processor(copied_bytes: usize, mapped_bytes: [usize; 3]) -> Load {
        Load {
            copied_bytes,
            mapped_bytes,
            ..Load::nothing(Compute::PROCESSOR)
        }
    }

    /// Of no weights: for plans of activations alone.
    pub fn nothing(compute: Compute) -> Load {
        Load {
            compute,
            vae: Vec::new(),
            others: Vec::new(),
            once: 0,
            copied_bytes: 0,
            mapped_bytes: [0; 3],
        }
    }

    /// Of arrays stored in f16: of the autoencoder, the denoiser and the tower so many, half the values of
    /// each, and which one in how many is that large; the others have a thousandth.
    #[cfg(test)]
    pub(super) fn with_arrays(
        compute: Compute,
        [vae, unet, clip]: [(usize, usize, usize); 3],
    ) -> Load {
        let arrays = |(count, values, every): (usize, usize, usize)| -> Vec<WeightBytes> {
            let number = 0..count * every;
            let values = number.map(|k| {
                if k % every == 0 {
                    2 * values
                } else {
                    values / 1000
                }
            });
            values
                .map(|values| compute.weight_bytes(values, kinora_tensor::DType::F16))
                .collect()
        };
        let (mut others, once) = (arrays(unet), arrays(clip));
        let count = once.len();
        others.extend(once);
        Load {
            vae: arrays(vae),
            others,
            once: count,
            ..Load::nothing(compute)
        }
    }

    /// Where they are to be computed with.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// All of them.
    pub fn bytes(&self) -> usize {
        staying(&self.vae) + staying(&self.others)
    }

    /// What is in memory of them during a stage: all that a card takes; on the processor what was
    /// copied, and what is read where it lies of the network that works.
    pub fn bytes_during(&self, stage: Stage) -> usize {
        let [tower, autoencoder, denoiser] = self.mapped_bytes;
        match (self.compute.is_on_card(), stage) {
            (true, _) => self.bytes(),
            (false, Stage::Look) => self.copied_bytes + tower,
            (false, Stage::Denoise) => self.copied_bytes + denoiser,
            (false, Stage::Encode | Stage::Decode) => self.copied_bytes + autoencoder,
        }
    }

    /// What is on the device beside activations however little memory weights are given: libraries, the
    /// autoencoder, and a weight in the type of the computation that is stored in another.
    pub(super) fn beside_bytes(&self) -> usize {
        let cast = self.others.iter().filter(|w| w.staying != w.passing);
        let largest = cast.map(|w| w.staying).max().unwrap_or(0);
        self.compute.reserve_bytes() + staying(&self.vae) + largest
    }

    /// The least that weights may be given where they do not all fit.
    pub(super) fn least_bytes(&self) -> usize {
        ResidencyPlan::least_bytes(&self.others)
    }

    /// How they pass within a budget; nothing where there is not even room for a window.
    pub(super) fn streaming(&self, budget_bytes: usize) -> Option<Streaming> {
        let plan = ResidencyPlan::new(&self.others, self.once, budget_bytes).ok()?;
        let passing = |numbers: std::ops::Range<usize>| {
            let away = numbers.filter(|number| !plan.stays[*number]);
            away.map(|number| self.others[number].passing).sum()
        };
        let of_unet = self.others.len() - self.once;
        Some(Streaming {
            budget_bytes,
            resident_bytes: staying(&self.vae) + plan.resident_bytes,
            window_bytes: plan.window_bytes,
            run_bytes: passing(0..of_unet),
            once_bytes: passing(of_unet..self.others.len()),
        })
    }
}

fn staying(weights: &[WeightBytes]) -> usize {
    weights.iter().map(|w| w.staying).sum()
}
