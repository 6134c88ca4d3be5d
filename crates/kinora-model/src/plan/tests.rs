//! Plans of the published model, by arithmetic alone.

use super::*;
use crate::clip::ClipVisionConfig;
use crate::compute::Compute;
use crate::presets::Preset;
use crate::unet::UNetConfig;
use kinora_tensor::{DType, Device};

const GIB: usize = 1 << 30;

struct Published {
    clip: ClipVisionConfig,
    vae: VaeConfig,
    unet: UNetConfig,
}

impl Published {
    fn new() -> Self {
        let preset = Preset::named("svd-xt").expect("in the table");
        Published {
            clip: preset.image_encoder(),
            vae: preset.vae(),
            unet: preset.unet(),
        }
    }

    fn configs(&self) -> Configs<'_> {
        Configs {
            clip: &self.clip,
            vae: &self.vae,
            unet: &self.unet,
        }
    }

    fn settings(&self, decoding: Decoding) -> Settings {
        Settings {
            decoding,
            ..Settings::default_for(self.configs(), 576, 1024)
        }
    }

    /// Within so many GiB of a card in bf16.
    fn plan(&self, settings: &Settings, gib: f64) -> Result<Plan> {
        let bytes = (gib * GIB as f64) as usize;
        Plan::fitting(self.configs(), &load(), settings, bytes)
    }
}

/// About the weights of the published model in f16: 3.0 GB of the denoiser, 1.3 of the tower, 0.2 of the
/// autoencoder.
fn load() -> Load {
    let compute = Compute::new(Device::Cuda(0), DType::BF16).unwrap();
    Load::with_arrays(
        compute,
        [(30, 1 << 20, 3), (160, 4 << 20, 10), (80, 9 << 20, 50)],
    )
}

#[test]
fn a_card_takes_all_weights_or_brings_what_does_not_fit_or_refuses() {
    let model = Published::new();
    let settings = model.settings(Decoding::Whole);
    let roomy = model.plan(&settings, 70.0).unwrap();
    assert_eq!(
        (roomy.streaming, roomy.fullest().weights_bytes),
        (None, load().bytes())
    );
    let mut last = 0;
    for gib in [6.5, 6.0, 5.5] {
        let plan = model.plan(&settings, gib).unwrap();
        assert!(plan.peak_bytes() as f64 <= gib * GIB as f64, "{plan:?}");
        let streaming = plan.streaming.expect("all do not fit");
        let held = streaming.resident_bytes + streaming.window_bytes;
        assert_eq!(plan.fullest().weights_bytes, held);
        // The less there is, the more is brought.
        assert!(streaming.run_bytes > last, "{gib}: {streaming:?}");
        last = streaming.run_bytes;
    }
    let refused = model.plan(&settings, 2.0).unwrap_err().to_string();
    let parts = [
        " on cuda:0 in bf16, or ",
        "with weights brought as they are used",
        " would fit",
    ];
    assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
    let least = refused
        .split(", or ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    // What it says is enough, and less is not.
    let least: f64 = least.parse().unwrap();
    assert!(model.plan(&settings, least + 0.06).is_ok(), "{refused}");
    assert!(model.plan(&settings, least - 0.06).is_err(), "{refused}");
}

#[test]
fn no_array_is_larger_than_a_card_counts() {
    let model = Published::new();
    // However much memory there is, 25 frames of 1024×576 pixels are not decoded at once.
    let plan = model.plan(&model.settings(Decoding::Whole), 1e6).unwrap();
    assert!(
        matches!(plan.decoding, Decoding::Bounded { .. }),
        "{:?}",
        plan.decoding
    );
    let fits = Decoding::Chunked { frames: 14 };
    assert_eq!(
        model.plan(&model.settings(fits), 1e6).unwrap().decoding,
        fits
    );
    let settings = model.settings(Decoding::Chunked { frames: 15 });
    let refused = model.plan(&settings, 1e6).unwrap_err().to_string();
    let parts = [
        "an array of more than 2147483647 values",
        "a decode chunk of 14 frames, or none, would fit",
    ];
    assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
    // A batch of both branches of 130 frames joins 960 channels at 72 · 128 places.
    let mut long = Settings {
        frames: 130,
        branches_together: true,
        ..model.settings(Decoding::Whole)
    };
    let refused = model.plan(&long, 1e6).unwrap_err().to_string();
    assert!(
        refused.contains("one branch of guidance after the other would fit"),
        "{refused}"
    );
    long.branches_together = false;
    model.plan(&long, 1e6).unwrap();
    long.frames = 250;
    let refused = model.plan(&long, 1e6).unwrap_err().to_string();
    assert!(
        refused.contains("more than 2147483647 values on cuda:0"),
        "{refused}"
    );
    assert!(refused.contains("frames 242"), "{refused}");
}

#[test]
fn on_the_processor_only_the_network_that_works_is_in_memory() {
    let model = Published::new();
    let mut settings = model.settings(Decoding::Whole);
    (settings.frames, settings.width, settings.height) = (2, 128, 128);
    let load = Load::on_processor(GIB, [2 * GIB, 3 * GIB, 5 * GIB]);
    let plan = Plan::new(model.configs(), &load, &settings).unwrap();
    let weights = plan.stages.map(|cost| cost.weights_bytes / GIB);
    assert_eq!(weights, [3, 4, 6, 4]); // look, encode, denoise, decode
    // So small a clip's activations are little beside the weights: its fullest stage is that of the most.
    assert_eq!(plan.fullest().stage, Stage::Denoise);
    assert_eq!(plan.peak_bytes(), plan.fullest().bytes());
    // All weights together, 11 GiB, would not fit.
    let fits = Plan::fitting(model.configs(), &load, &settings, 8 * GIB).unwrap();
    assert_eq!(fits, plan);
    let refused = Plan::fitting(model.configs(), &load, &settings, 6 * GIB).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("the weights alone take 6.0 GiB"), "{said}");
}
