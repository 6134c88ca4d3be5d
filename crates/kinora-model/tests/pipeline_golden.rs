//! A still to frames with a whole model, against diffusers; `fixtures/pipeline/make.py` made the model
//! and what diffusers makes of the same stills and seeds.

#![allow(clippy::unwrap_used)] // A golden that cannot be read fails its test.

mod golden;

use golden::{Golden, fixture};
use kinora_diffusion::LinearGuider;
use kinora_model::generate::{Event, Model, Settings, Stage, generate};
use kinora_model::pixels::{Picture, frames01_from_tensor};
use kinora_model::vae::Decoding;
use kinora_model::weights::Weights;
use kinora_tensor::Tensor;
use kinora_tensor::testing::assert_close;
use std::ops::ControlFlow;

/// What whole runs may differ by. Measured: 1e-6, and 6e-6 in a single step from σ = 700, whose
/// subtraction leaves the last bits of numbers that large.
const TOLERANCE: f64 = 5e-5;

#[derive(serde::Deserialize)]
struct Run {
    picture: String,
    seed: u64,
    width: usize,
    height: usize,
    num_frames: usize,
    num_inference_steps: usize,
    fps: u32,
    motion_bucket_id: f32,
    noise_aug_strength: f32,
    #[serde(default = "one")]
    min_guidance_scale: f32,
    #[serde(default = "three")]
    max_guidance_scale: f32,
    decode_chunk_size: Option<usize>,
}

fn one() -> f32 {
    1.0
}

fn three() -> f32 {
    3.0
}

impl Run {
    fn named(name: &str) -> Run {
        let text = std::fs::read_to_string(fixture("pipeline/runs.json")).unwrap();
        let mut runs: serde_json::Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(runs[name].take()).unwrap()
    }

    fn settings(&self, model: &Model) -> Settings {
        Settings {
            frames: self.num_frames,
            steps: self.num_inference_steps,
            fps: self.fps,
            motion_bucket: self.motion_bucket_id,
            noise_aug: self.noise_aug_strength,
            guider: LinearGuider {
                min: self.min_guidance_scale,
                max: self.max_guidance_scale,
            },
            seed: self.seed,
            decoding: match self.decode_chunk_size {
                Some(frames) => Decoding::Chunked { frames },
                None => Decoding::Whole,
            },
            ..Settings::default_for(model.networks().configs(), self.height, self.width)
        }
    }
}

struct Case {
    model: Model,
    golden: Golden,
    run: Run,
}

impl Case {
    fn open(name: &str) -> Case {
        let weights = Weights::open(fixture("pipeline/model")).unwrap();
        Case {
            model: Model::load(&weights).unwrap(),
            golden: Golden::open("pipeline/golden.safetensors"),
            run: Run::named(name),
        }
    }

    fn generate(
        &self,
        settings: &Settings,
        observer: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> kinora_model::Result<Tensor> {
        let file = self.golden.file();
        let picture = file
            .tensor(&format!("picture_{}", self.run.picture))
            .unwrap();
        let &[height, width, _] = picture.shape() else {
            panic!("a picture has three axes");
        };
        let picture = Picture::new(picture.data(), height, width)?;
        generate(self.model.networks(), picture, settings, observer)
    }

    fn frames(&self, settings: &Settings) -> Vec<f32> {
        let frames = self.generate(settings, &mut |_| ControlFlow::Continue(()));
        frames01_from_tensor(&frames.unwrap()).unwrap().to_vec()
    }
}

fn check(name: &str) {
    let case = Case::open(name);
    let found = case.frames(&case.run.settings(&case.model));
    let expected = case.golden.get(&format!("frames_{name}")).to_vec();
    assert_close(&found, &expected, TOLERANCE);
}

#[test]
fn a_square_clip_is_that_of_diffusers() {
    check("square");
}

#[test]
fn a_clip_whose_latents_do_not_halve_evenly_is_that_of_diffusers() {
    check("odd");
}

#[test]
fn other_numbers_and_a_chunked_decode_are_those_of_diffusers() {
    check("other");
}

#[test]
fn without_guidance_and_in_one_step_it_is_that_of_diffusers() {
    check("unguided");
}

#[test]
fn both_branches_together_give_the_same_clip() {
    let case = Case::open("square");
    let settings = Settings {
        branches_together: true,
        ..case.run.settings(&case.model)
    };
    assert_close(
        &case.frames(&settings),
        &case.golden.get("frames_square").to_vec(),
        TOLERANCE,
    );
}

#[test]
fn a_bounded_decode_gives_the_same_clip() {
    let case = Case::open("square");
    let settings = Settings {
        decoding: Decoding::Bounded {
            budget_bytes: 128 << 20,
        },
        ..case.run.settings(&case.model)
    };
    assert_close(
        &case.frames(&settings),
        &case.golden.get("frames_square").to_vec(),
        TOLERANCE,
    );
}

#[test]
fn news_come_in_order_and_every_part_is_counted() {
    let case = Case::open("square");
    let settings = case.run.settings(&case.model);
    let (mut parts, mut steps) = (Vec::new(), Vec::new());
    let mut observer = |event: &Event<'_>| {
        match event {
            Event::Progress {
                stage,
                done,
                parts: all,
            } => parts.push((*stage, *done, *all)),
            Event::Step(step) => {
                assert_eq!(step.denoised.dims(), [1, 3, 8, 8, 4]);
                steps.push((step.done, step.steps));
            }
            // The processor captures nothing.
            Event::Denoised { captured, refusal } => {
                assert_eq!((*captured, *refusal), (false, None));
            }
        }
        ControlFlow::Continue(())
    };
    case.generate(&settings, &mut observer).unwrap();
    let mut expected = vec![(Stage::Look, 0, 1), (Stage::Look, 1, 1)];
    expected.extend([(Stage::Encode, 0, 1), (Stage::Encode, 1, 1)]);
    // Four steps of two branches each.
    expected.extend((0..=8).map(|done| (Stage::Denoise, done, 8)));
    expected.extend([(Stage::Decode, 0, 3), (Stage::Decode, 3, 3)]);
    assert_eq!(parts, expected);
    assert_eq!(steps, [(1, 4), (2, 4), (3, 4), (4, 4)]);
}

#[test]
fn it_can_be_stopped_at_any_news() {
    let case = Case::open("square");
    let settings = case.run.settings(&case.model);
    let stop_after = |count: usize| {
        let mut heard = 0;
        let mut observer = |_: &Event<'_>| {
            heard += 1;
            if heard > count {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let stopped = case.generate(&settings, &mut observer).unwrap_err();
        (stopped.to_string(), heard)
    };
    for (count, during) in [
        (0, "looking at the still"),
        (2, "encoding the still"),
        (5, "denoising"),
        (7, "denoising"),
        (18, "decoding"),
    ] {
        let expected = format!("stopped while {during}, as asked");
        assert_eq!(stop_after(count), (expected, count + 1));
    }
}
