//! A still to frames through a whole small model with random weights: on a card in each type, against
//! the processor in f32.

use super::moved_off_constants;
use crate::Result;
use crate::clip::{ClipVision, ClipVisionConfig, HiddenAct};
use crate::compute::Compute;
use crate::generate::{Model, Settings, generate};
use crate::params::{Params, Source};
use crate::pixels::{Picture, frames01_from_tensor};
use crate::unet::{UNet, selfcheck_config};
use crate::vae::{Vae, VaeConfig};
use kinora_tensor::testing::relative_l2;
use kinora_tensor::{DType, Device, ops};
use std::ops::ControlFlow;

/// How the frames of a whole model came out in one element type.
#[derive(Clone, Copy, Debug)]
pub struct PipelineOutcome {
    /// The type of weights and activations.
    pub dtype: DType,
    /// Peak signal-to-noise ratio against the processor's f32 in decibels, see [`psnr_db`].
    pub psnr_db: f64,
    /// ‖found − expected‖₂ / ‖expected‖₂ of the same values.
    pub relative_l2: f64,
}

impl PipelineOutcome {
    /// What `relative_l2` may be at most in f32.
    pub const F32_RELATIVE_L2_LIMIT: f64 = 1e-3;
    /// What `psnr_db` has to be at least in 16 bits.
    pub const LEAST_PSNR_DB: f64 = 40.0;

    /// Of frames whose values are 0 to 1, the processor's being expected; infinitely far where they are
    /// not equally many.
    fn of(dtype: DType, found: &[f32], expected: &[f32]) -> Self {
        let alike = found.len() == expected.len();
        let (psnr_db, relative_l2) = match alike {
            true => (psnr_db(found, expected), relative_l2(found, expected)),
            false => (f64::NEG_INFINITY, f64::INFINITY),
        };
        PipelineOutcome {
            dtype,
            psnr_db,
            relative_l2,
        }
    }

    /// Whether the frames are near enough.
    pub fn holds(&self) -> bool {
        // A NaN is no distance.
        match self.dtype {
            DType::F32 => self.relative_l2 <= Self::F32_RELATIVE_L2_LIMIT,
            DType::F16 | DType::BF16 => self.psnr_db >= Self::LEAST_PSNR_DB,
        }
    }
}

/// −10 · log₁₀ of the mean squared difference of values from 0 to 1, in decibels.
///
/// # Panics
/// When there are not equally many of both.
pub fn psnr_db(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len(), "values of two clips");
    let squares = found.iter().zip(expected);
    let sum: f64 = squares
        .map(|(f, e)| (f64::from(*f) - f64::from(*e)).powi(2))
        .sum();
    -10.0 * (sum / found.len() as f64).log10()
}

/// Makes a clip with a small model on `device` in `dtype` and on the processor in f32.
///
/// Both start from the same f32 weights, so that their rounding counts as it does in use. The clip takes
/// three steps under guidance: on a card the first is plain, the second captured, the third replayed.
///
/// # Errors
/// When the device cannot be used, or a network refuses.
pub fn pipeline(device: Device, dtype: DType) -> Result<PipelineOutcome> {
    compare(Compute::new(device, dtype)?, |_| Ok(()))
}

/// `spoil` may change the model on the device.
fn compare(compute: Compute, spoil: impl Fn(&Params) -> Result<()>) -> Result<PipelineOutcome> {
    let expected = frames(Compute::PROCESSOR, |_| Ok(()))?;
    let found = frames(compute, spoil)?;
    Ok(PipelineOutcome::of(compute.dtype(), &found, &expected))
}

/// Pixels of a frame: latents of 5 × 7, which do not halve evenly and are more than a tile of 16 keys.
const HEIGHT: usize = 20;
const WIDTH: usize = 28;

/// The frames, values 0 to 1.
fn frames(compute: Compute, spoil: impl Fn(&Params) -> Result<()>) -> Result<Vec<f32>> {
    let (model, of_unet) = model(compute)?;
    spoil(&of_unet)?;
    let settings = Settings {
        steps: 3,
        ..Settings::default_for(model.networks().configs(), HEIGHT, WIDTH)
    };
    // Slopes in three directions, so that no two places are alike.
    let channel = |k: usize| {
        let (y, x) = (k / 3 / WIDTH, k / 3 % WIDTH);
        [11 * x, 7 * y + 3 * x, 12 * (HEIGHT - y)][k % 3] % 256
    };
    let bytes: Vec<u8> = (0..HEIGHT * WIDTH * 3).map(|k| channel(k) as u8).collect();
    let picture = Picture::new(&bytes, HEIGHT, WIDTH)?;
    let networks = model.networks();
    let clip = generate(networks, picture, &settings, &mut |_| {
        ControlFlow::Continue(())
    })?;
    Ok(frames01_from_tensor(&clip)?.to_vec())
}

/// What gives the frames, of the autoencoder.
const LAST_WEIGHT: &str = "decoder.time_conv_out.weight";

/// The model, and the parameters of its denoiser. Heads of attention are 64 wide as in the published one.
fn model(compute: Compute) -> Result<(Model, Params)> {
    let sources = [31, 32, 33].map(Source::fresh);
    let unet_config = selfcheck_config();
    let clip_config = ClipVisionConfig {
        hidden_size: 64,
        intermediate_size: 128,
        projection_dim: unet_config.cross_attention_dim[0],
        num_hidden_layers: 2,
        num_attention_heads: 1,
        num_channels: 3,
        image_size: 56,
        patch_size: 14,
        hidden_act: HiddenAct::Gelu,
        layer_norm_eps: 1e-5,
    };
    let model = Model {
        clip: ClipVision::new(&sources[0], &clip_config)?,
        vae: Vae::new(&sources[1], &VaeConfig::temporal(&[32, 64, 64], 1))?,
        unet: UNet::new(&sources[2], &unet_config)?,
        compute,
        residency: None,
        weights: None,
    };
    for source in &sources {
        let params = source.params();
        for (entry, values) in params.iter().zip(moved_off_constants(&params)?) {
            let values = match entry.name.as_str() {
                // Random networks make frames of little contrast, in which an error would be small.
                LAST_WEIGHT => ops::scale(&values, 2.0)?,
                _ => values,
            };
            entry.param.set(compute.there(&values)?);
        }
    }
    Ok((model, sources[2].params()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::{card_memory, host_device};

    #[test]
    fn frames_of_a_card_are_near_those_of_the_processor_in_every_type() -> Result<()> {
        let Some(device) = host_device(1 << 30) else {
            return Ok(());
        };
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let outcome = pipeline(device, dtype)?;
            println!("{outcome:?}");
            assert!(outcome.holds(), "{outcome:?}");
            assert_eq!(card_memory(device)?.used_bytes(), 0);
        }
        Ok(())
    }

    #[test]
    fn the_frames_are_no_even_grey_and_are_not_cut_off() -> Result<()> {
        let values = frames(Compute::PROCESSOR, |_| Ok(()))?;
        let count = values.len() as f32;
        let mean = values.iter().sum::<f32>() / count;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count;
        let cut = values.iter().filter(|v| **v == 0.0 || **v == 1.0).count();
        println!("mean {mean}, deviation {}, {cut} cut", variance.sqrt());
        assert!(variance.sqrt() > 0.1, "{}", variance.sqrt());
        assert!(cut < values.len() / 4, "{cut} of {}", values.len());
        Ok(())
    }

    #[test]
    fn a_weight_that_is_wrong_is_a_miss() -> Result<()> {
        let Some(device) = host_device(1 << 30) else {
            return Ok(());
        };
        let scaled = |factor: f32| {
            move |params: &Params| {
                let name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v.weight";
                let param = params.get(name).expect("a name of the network");
                param.set(ops::scale(&param.get(), factor)?);
                Ok(())
            }
        };
        for dtype in [DType::F32, DType::BF16] {
            for factor in [-1.0, f32::NAN] {
                let compute = Compute::new(device, dtype)?;
                let outcome = compare(compute, scaled(factor))?;
                println!("{factor}: {outcome:?}");
                assert!(!outcome.holds(), "{outcome:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn decibels_are_those_of_the_mean_square() {
        assert!((psnr_db(&[0.1, 0.1], &[0.0, 0.0]) - 20.0).abs() < 1e-5);
        assert_eq!(psnr_db(&[0.5], &[0.5]), f64::INFINITY);
        let held = |dtype, found: &[f32]| PipelineOutcome::of(dtype, found, &[1.0; 2]).holds();
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            assert!(held(dtype, &[1.0; 2]));
            assert!(!held(dtype, &[f32::NAN; 2]) && !held(dtype, &[1.0]));
        }
        // 0.9 % off is 40.9 dB, and far more than f32 may be.
        assert!(held(DType::BF16, &[0.991; 2]) && !held(DType::F32, &[0.991; 2]));
        assert!(!held(DType::F16, &[0.98; 2]));
    }
}
