//! A whole model of the preset `tiny`, with nothing left at the values layers begin with.

use kinora_model::clip::ClipVision;
use kinora_model::params::{Params, Source};
use kinora_model::presets::Preset;
use kinora_model::unet::UNet;
use kinora_model::vae::Vae;
use kinora_model::weights::{Model, Weights, save_model};
use kinora_tensor::testing::numbers;
use kinora_tensor::{DType, ops};
use std::path::Path;

pub fn preset() -> &'static Preset {
    Preset::named("tiny").unwrap()
}

/// The parameters of the three networks, all drawn anew.
pub struct Tiny {
    pub unet: Params,
    pub vae: Params,
    pub image_encoder: Params,
}

impl Tiny {
    pub fn new() -> Tiny {
        let sources = [1, 2, 3].map(Source::fresh);
        UNet::new(&sources[0], &preset().unet()).unwrap();
        Vae::new(&sources[1], &preset().vae()).unwrap();
        ClipVision::new(&sources[2], &preset().image_encoder()).unwrap();
        let mut seed = 0;
        for entry in sources
            .iter()
            .flat_map(|source| source.params().iter().cloned().collect::<Vec<_>>())
        {
            seed += 1;
            let value = numbers(entry.param.get().shape(), seed);
            // What f16 holds exactly, so that every precision stores the same.
            let value = ops::scale(&value, 0.25)
                .unwrap()
                .cast(DType::F16)
                .cast(DType::F32);
            entry.param.set(value);
        }
        let [unet, vae, image_encoder] = sources.map(|source| source.params());
        Tiny {
            unet,
            vae,
            image_encoder,
        }
    }

    pub fn save(&self, path: &Path, dtype: DType) {
        let (unet, vae) = (preset().unet(), preset().vae());
        let image_encoder = preset().image_encoder();
        let model = Model {
            unet: (&unet, &self.unet),
            vae: (&vae, &self.vae),
            image_encoder: (&image_encoder, &self.image_encoder),
        };
        save_model(path, &model, dtype).unwrap();
    }
}

/// The parameters of the three networks built from opened weights, nothing left over.
pub fn build(weights: &Weights) -> Tiny {
    let (unet, vae) = (weights.unet.source(), weights.vae.source());
    let image_encoder = weights.image_encoder.source();
    UNet::new(&unet, &weights.unet.config).unwrap();
    Vae::new(&vae, &weights.vae.config).unwrap();
    ClipVision::new(&image_encoder, &weights.image_encoder.config).unwrap();
    for source in [&unet, &vae, &image_encoder] {
        source.check_unused().unwrap();
    }
    Tiny {
        unet: unet.params(),
        vae: vae.params(),
        image_encoder: image_encoder.params(),
    }
}

/// Same names, same extents, same values.
pub fn assert_same(found: &Tiny, expected: &Tiny) {
    let pairs = [
        (&found.unet, &expected.unet),
        (&found.vae, &expected.vae),
        (&found.image_encoder, &expected.image_encoder),
    ];
    for (found, expected) in pairs {
        assert_eq!(found.len(), expected.len());
        for entry in expected {
            let found = found
                .get(&entry.name)
                .unwrap_or_else(|| panic!("no {}", entry.name));
            let (found, expected) = (found.get(), entry.param.get());
            assert_eq!(found.dims(), expected.dims(), "{}", entry.name);
            assert_eq!(found.to_vec(), expected.to_vec(), "{}", entry.name);
        }
    }
}
