//! A run that is interrupted and goes on ends with the numbers of one that never stopped, to the bit.

mod common;

use common::{AUTOENCODER, Place, image_to_video, log_numbers, model_files};
use kinora_train::{Error, Outcome};
use std::fs;
use std::path::Path;

fn assert_same_run(place: &Place, one: &str, other: &str) {
    let (one, other) = (place.run_folder(one), place.run_folder(other));
    assert_eq!(log_numbers(&one), log_numbers(&other));
    let (files, others) = (model_files(&one), model_files(&other));
    let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&files), names(&others));
    for ((name, one), (_, other)) in files.iter().zip(&others) {
        assert!(one == other, "{name} differs");
    }
}

#[test]
fn stopping_and_resuming_changes_no_bit() -> Result<(), Error> {
    let place = Place::new();
    place.train(AUTOENCODER, "autoencoder", None)?;
    assert!(matches!(
        place.train(AUTOENCODER, "again", Some(2))?,
        Outcome::Stopped(_)
    ));
    // Killed after its third step, past the checkpoint of the second: a line too many in the log,
    // the last one cut, and a checkpoint half written.
    let again = place.run_folder("again");
    let log = again.join("log.jsonl");
    let mut text = fs::read_to_string(&log).expect("a log");
    text.push_str(&text.clone().replace("\"step\":2", "\"step\":3"));
    text.push_str("{\"step\":4,\"lo");
    fs::write(&log, text).expect("the log");
    fs::create_dir(again.join("checkpoints/step-00000003.unfinished")).expect("a folder");
    assert!(matches!(
        place.train(AUTOENCODER, "again", Some(4))?,
        Outcome::Stopped(_)
    ));
    assert!(matches!(
        place.train(AUTOENCODER, "again", None)?,
        Outcome::Finished(_)
    ));
    assert_same_run(&place, "autoencoder", "again");

    let config = image_to_video();
    place.train(&config, "whole", None)?;
    assert!(matches!(
        place.train(&config, "parts", Some(1))?,
        Outcome::Stopped(_)
    ));
    assert!(matches!(
        place.train(&config, "parts", None)?,
        Outcome::Finished(_)
    ));
    assert_same_run(&place, "whole", "parts");

    // Computing blocks again on the way back changes nothing but the order of some sums.
    let again = config.replace("recompute = false", "recompute = true");
    place.train(&again, "recomputed", None)?;
    let recomputed = log_numbers(&place.run_folder("recomputed"));
    for (one, other) in log_numbers(&place.run_folder("whole"))
        .iter()
        .zip(&recomputed)
    {
        assert!((one.1 - other.1).abs() < 1e-5, "{one:?} {other:?}");
    }
    refuses_what_does_not_fit(&place, &config);
    starts_from_others(&place, &config)
}

fn refuses_what_does_not_fit(place: &Place, config: &str) {
    let text = |config: &str| {
        let error = place.train(config, "parts", None).expect_err("refused");
        error.to_string()
    };
    let found = text(&config.replace("learning_rate = 1e-3", "learning_rate = 2e-3"));
    assert!(
        found.contains("optimiser.learning_rate: the checkpoint was made with 0.001"),
        "{found}"
    );
    let found = text(&config.replace("strides = [1]", "strides = [2]"));
    assert!(found.contains("data.strides"), "{found}");
    let lost = config.replace("../autoencoder", "../nowhere");
    let found = place
        .train(&lost, "lost", None)
        .expect_err("refused")
        .to_string();
    assert!(
        found.contains("nowhere: expected a finished autoencoder"),
        "{found}"
    );
    let slip = config.replace("trainable = [\"*\"]", "trainable = [\"unet.conv_inn.*\"]");
    let found = place
        .train(&slip, "slip", None)
        .expect_err("refused")
        .to_string();
    assert!(
        found.contains("`unet.conv_inn.*` names no weight"),
        "{found}"
    );
}

fn starts_from_others(place: &Place, config: &str) -> Result<(), Error> {
    let start =
        |key: &str, from: &str| config.replace("[start]", &format!("[start]\n{key} = \"{from}\""));
    // Nothing but the time embedding is trained, from a finished model: all else stays as it was.
    let only = start("initialise_from", "../whole/model").replace(
        "trainable = [\"*\"]",
        "trainable = [\"unet.time_embedding.*\"]",
    );
    place.train(&only, "initialised", None)?;
    let (before, after) = (place.run_folder("whole"), place.run_folder("initialised"));
    let changed = changed_weights(&before, &after);
    assert!(!changed.is_empty());
    assert!(
        changed
            .iter()
            .all(|name| name.starts_with("time_embedding.")),
        "{changed:?}"
    );
    let continued = start("continue_from", "../whole");
    place.train(&continued, "continued", None)?;
    assert!(!changed_weights(&before, &place.run_folder("continued")).is_empty());
    Ok(())
}

/// Names of the denoiser's weights that differ between two runs.
fn changed_weights(one: &Path, other: &Path) -> Vec<String> {
    let read = |run: &Path| {
        fs::read(run.join("model/unet/diffusion_pytorch_model.safetensors")).expect("weights")
    };
    let (one, other) = (read(one), read(other));
    let one = safetensors::SafeTensors::deserialize(&one).expect("a weights file");
    let other = safetensors::SafeTensors::deserialize(&other).expect("a weights file");
    let differs = |name: &&str| {
        one.tensor(name).expect("its own").data() != other.tensor(name).expect("the same").data()
    };
    let mut names: Vec<String> = one
        .names()
        .into_iter()
        .filter(differs)
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}
