//! A still to frames with a whole model on a card, or on what stands in for one here, against the
//! processor in f32.

#![allow(clippy::unwrap_used)] // A golden that cannot be read fails its test.

#[allow(dead_code)] // The pictures alone are needed here.
mod golden;

use golden::{Golden, fixture};
use kinora_diffusion::Sampler;
use kinora_model::compute::Compute;
use kinora_model::generate::{Event, Model, Settings, generate};
use kinora_model::pixels::{Picture, frames01_from_tensor};
use kinora_model::selfcheck::psnr_db;
use kinora_model::vae::Decoding;
use kinora_model::weights::Weights;
use kinora_model::{Error, Result};
use kinora_tensor::testing::relative_l2;
use kinora_tensor::{DType, Device, card_memory, host_device};
use std::ops::ControlFlow;

const BUDGET_BYTES: usize = 1 << 30;

fn model(compute: Compute) -> Result<Model> {
    Model::load_on(&Weights::open(fixture("pipeline/model"))?, compute)
}

fn settings(model: &Model) -> Settings {
    Settings {
        frames: 2,
        steps: 2,
        seed: 7,
        // Latents of 3 rows, which do not halve evenly; the stand-in is slow.
        ..Settings::default_for(model.networks().configs(), 24, 32)
    }
}

/// The frames, 0 to 1.
fn frames(model: &Model, settings: &Settings) -> Result<Vec<f32>> {
    let golden = Golden::open("pipeline/golden.safetensors");
    let file = golden.file();
    let picture = file.tensor("picture_small").unwrap();
    let picture = Picture::new(picture.data(), picture.shape()[0], picture.shape()[1])?;
    let mut listen = |event: &Event<'_>| {
        if let Event::Step(step) = event {
            // The sampler's state stays where the networks are, in f32.
            let found = (step.x.device(), step.x.dtype(), step.denoised.dtype());
            assert_eq!(found, (model.compute.device(), DType::F32, DType::F32));
        }
        ControlFlow::Continue(())
    };
    let frames = generate(model.networks(), picture, settings, &mut listen)?;
    assert_eq!(frames.device(), Device::Cpu);
    Ok(frames01_from_tensor(&frames)?.to_vec())
}

/// The frames on the processor in f32, and on the stand-in in this type; none where there is no stand-in.
fn both(
    dtype: DType,
    change: impl Fn(&mut Settings),
    on_card: impl Fn(&mut Settings),
) -> Result<Option<[Vec<f32>; 2]>> {
    let Some(device) = host_device(BUDGET_BYTES) else {
        return Ok(None);
    };
    let reference = model(Compute::PROCESSOR)?;
    let mut wanted = settings(&reference);
    change(&mut wanted);
    let expected = frames(&reference, &wanted)?;
    on_card(&mut wanted);
    let found = frames(&model(Compute::new(device, dtype)?)?, &wanted)?;
    // Everything was given back with the model.
    assert_eq!(card_memory(device)?.used_bytes(), 0);
    Ok(Some([found, expected]))
}

fn check_f32(name: &str, change: impl Fn(&mut Settings), on_card: impl Fn(&mut Settings)) {
    let Some([found, expected]) = both(DType::F32, change, on_card).unwrap() else {
        return;
    };
    let distance = relative_l2(&found, &expected);
    println!("{name}: f32 {distance:.1e} relative L2 from the processor");
    assert!(distance <= 1e-3, "{name}: {distance:.1e}");
}

#[test]
fn a_clip_is_the_same_on_a_card() {
    check_f32("decoded at once", |_| {}, |_| {});
}

#[test]
fn a_clip_in_sixteen_bits_stays_near_on_a_card() {
    for (dtype, at_least) in [(DType::F16, 55.0), (DType::BF16, 40.0)] {
        let Some([found, expected]) = both(dtype, |_| {}, |_| {}).unwrap() else {
            return;
        };
        let found = psnr_db(&found, &expected);
        println!("{dtype}: {found:.1} dB of f32 on the processor");
        assert!(found >= at_least, "{dtype}: {found:.1} dB");
    }
}

#[test]
fn weights_that_are_brought_as_they_are_used_are_as_near() {
    let Some(device) = host_device(BUDGET_BYTES) else {
        return;
    };
    let reference = model(Compute::PROCESSOR).unwrap();
    let wanted = Settings {
        steps: 3,
        ..settings(&reference)
    };
    let expected = frames(&reference, &wanted).unwrap();
    let weights = Weights::open(fixture("pipeline/model")).unwrap();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let compute = Compute::new(device, dtype).unwrap();
        let near = |model: Model| psnr_db(&frames(&model, &wanted).unwrap(), &expected);
        let resident = near(Model::load_on(&weights, compute).unwrap());
        let streamed = Model::load_within(&weights, compute, 600 << 10).unwrap();
        let bytes = streamed.residency.as_ref().unwrap().streamed_bytes();
        let streamed = near(streamed);
        println!(
            "{dtype}: {resident:.1} dB with all weights there, {streamed:.1} with {bytes} brought"
        );
        assert!(bytes > 0 && streamed >= 40.0 && (streamed - resident).abs() < 6.0);
    }
}

#[test]
fn a_clip_decoded_in_bounds_is_the_same_on_a_card() {
    let bounded = |settings: &mut Settings| {
        settings.decoding = Decoding::Bounded {
            budget_bytes: 3 << 20,
        };
    };
    check_f32("decoded in bounds", |_| {}, bounded);
}

#[test]
fn other_settings_are_the_same_on_a_card() {
    let heun = |settings: &mut Settings| {
        settings.branches_together = true;
        settings.sampler = Sampler::Heun;
        settings.decoding = Decoding::Chunked { frames: 1 };
    };
    check_f32("both branches, Heun, in chunks", heun, |_| {});
    let alone = |settings: &mut Settings| {
        settings.guider.max = 1.0;
        settings.sampler = Sampler::DpmPp2M;
    };
    check_f32("unguided, DPM-Solver++", alone, |_| {});
}

#[test]
fn a_card_that_is_too_small_is_a_sentence_wherever_it_shows() {
    let Some(device) = host_device(BUDGET_BYTES) else {
        return;
    };
    let in_f32 = |device| Compute::new(device, DType::F32).unwrap();
    let loaded = model(in_f32(device)).unwrap();
    let weights_bytes = card_memory(device).unwrap().used_bytes();
    drop(loaded);
    // While the weights are loaded, while the still is looked at, and while frames are decoded.
    for bytes in [
        weights_bytes / 2,
        weights_bytes + 1000,
        weights_bytes + (300 << 10),
    ] {
        let device = host_device(bytes).unwrap();
        let tried = model(in_f32(device)).and_then(|model| frames(&model, &settings(&model)));
        let error = tried.unwrap_err();
        assert!(matches!(error, Error::Tensor(_)), "{error:?}");
        let text = error.to_string();
        let expected = format!("{device}: out of memory: ");
        assert!(
            text.contains(&expected) && text.contains("take fewer frames"),
            "{text}"
        );
        assert_eq!(card_memory(device).unwrap().used_bytes(), 0);
    }
}
