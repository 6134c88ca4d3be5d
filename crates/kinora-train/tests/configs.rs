//! Every file in `configs/` is read, and the paper's stages run when their sizes are made small.

mod common;

use common::{AUTOENCODER, Place};
use kinora_train::config::{Config, Model};
use kinora_train::{Error, Outcome};
use std::path::{Path, PathBuf};

/// The configurations of runs: all but those of curation, which its own tests read.
fn configs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let entries = std::fs::read_dir(folder).expect("configs");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.to_string_lossy().ends_with("curate.toml"))
        .collect();
    found.sort();
    found
}

#[test]
fn every_file_is_read_and_its_header_tells_command_cost_and_number() -> Result<(), Error> {
    let found = configs();
    assert!(found.len() >= 5, "{found:?}");
    for path in found {
        let config = Config::read(&path)?;
        // What is saved in the run's folder reads back as the same run.
        assert_eq!(Config::parse(&path, &config.to_toml())?, config);
        let text = std::fs::read_to_string(&path).expect("a file");
        for word in ["# command ", "# cost ", "# expect "] {
            assert!(text.contains(word), "{}: no `{word}`", path.display());
        }
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        assert!(text.contains(&format!("configs/{name}")), "{name}");
    }
    Ok(())
}

#[test]
fn the_stages_of_the_paper_are_files() -> Result<(), Error> {
    // Appendix D.4: frames, width, height, P_mean, P_std.
    let stages = [
        ("i2v_base", 14, 576, 320, 0.7, 1.6),
        ("i2v_14", 14, 1024, 576, 1.0, 1.6),
        ("i2v_25", 25, 1024, 576, 1.0, 1.6),
    ];
    let place = Place::new();
    place.train(AUTOENCODER, "svd", Some(1))?;
    place.train(AUTOENCODER, "svd", None)?;
    for (name, frames, width, height, mean, std) in stages {
        let path = configs()
            .into_iter()
            .find(|path| path.ends_with(format!("{name}.toml")));
        let mut config = Config::read(&path.expect("the stage's file"))?;
        assert_eq!(
            (config.data.frames, config.data.width, config.data.height),
            (frames, width, height)
        );
        assert_eq!(config.optimiser.learning_rate, 3e-5);
        assert_eq!(
            (config.clips_per_step(), config.average.decay),
            (768, 0.9999)
        );
        let Model::ImageToVideo(model) = &config.model else {
            panic!("{name} makes videos")
        };
        assert_eq!((model.noise.mean, model.noise.std), (mean, std));
        assert_eq!((model.still_noise.mean, model.still_noise.std), (-3.0, 0.5));
        make_small(&mut config);
        let outcome = place.train_config(&config, name, None)?;
        assert!(matches!(outcome, Outcome::Finished(_)));
    }
    Ok(())
}

/// Sizes for a test, everything else as it is.
fn make_small(config: &mut Config) {
    let Model::ImageToVideo(model) = &mut config.model else {
        panic!("makes videos")
    };
    model.unet.block_out_channels = vec![32; 4];
    model.unet.attention_heads = vec![1; 4];
    model.unet.addition_time_embed_dim = 8;
    let tower = &mut model.image_encoder;
    (tower.image_size, tower.patch_size, tower.layers) = (28, 14, 1);
    (
        tower.hidden_size,
        tower.intermediate_size,
        tower.attention_heads,
    ) = (8, 8, 1);
    tower.projection_dim = 8;
    config.start.initialise_from = None;
    (config.data.width, config.data.height, config.data.frames) = (32, 16, 3);
    config.data.strides = vec![1];
    config.data.held_out = 1;
    (config.run.steps, config.run.batch, config.run.accumulate) = (1, 1, 2);
    config.run.sampling.as_mut().expect("makes samples").steps = 2;
}

#[test]
fn mistakes_are_named() {
    let text = |from: &str, to: &str| {
        let changed = AUTOENCODER.replace(from, to);
        assert_ne!(changed, AUTOENCODER, "{from}");
        Config::parse(Path::new("a.toml"), &changed)
            .expect_err("refused")
            .to_string()
    };
    for (from, to, expected) in [
        ("batch = 2", "batch = 0", "run.batch: expected at least one"),
        ("batch = 2", "batch = 2\nbatches = 3", "batches"),
        (
            "latent_channels = 4",
            "latent_channels = 4\nlatents = 4",
            "latents",
        ),
        ("clip_norm = 1.0", "", "clip_norm"),
        (
            "crop_px = 16",
            "crop_px = 17",
            "model.crop_px: expected a multiple of 2 up to 16, found 17",
        ),
        (
            "norm_groups = 32",
            "norm_groups = 8",
            "model.norm_groups: expected 32",
        ),
        (
            "[32, 32]",
            "[32, 40]",
            "expected multiples of 32, the groups of the norms, found 40",
        ),
        (
            "[start]",
            "[start]\ncontinue_from = \"a\"\ninitialise_from = \"b\"",
            "found both",
        ),
    ] {
        let found = text(from, to);
        assert!(
            found.starts_with("a.toml: ") && found.contains(expected),
            "{to}: {found}"
        );
    }
}
