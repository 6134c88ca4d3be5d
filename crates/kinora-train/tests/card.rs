//! Training where the arrays lie on a card, or on what stands in for one here: it runs the kernels' own
//! sources on the processor.

mod common;

use common::{AUTOENCODER, Place, image_to_video, log_numbers, model_files};
use kinora_tensor::testing::relative_l2;
use kinora_tensor::{DType, Device, host_device};
use kinora_train::compute::{Standing, training_on};
use kinora_train::{Compute, Config, Error, Event, Outcome};
use std::path::Path;

/// What the stand-in may hold, in bytes: more than any run here takes.
const ENOUGH: usize = 1 << 30;
/// Not even the weights.
const TINY: usize = 1 << 16;

/// A configuration made as short as it can be: the stand-in takes a thread of a block at a time.
fn short(text: &str) -> Result<Config, Error> {
    let text = text
        .replace("steps = 5", "steps = 4")
        .replace("batch = 2", "batch = 1")
        .replace("crop_px = 16", "crop_px = 8")
        .replace("report_every = 2", "report_every = 1")
        .replace("checkpoint_every = 3", "checkpoint_every = 100")
        .replace("sample_every = 5", "sample_every = 100");
    Config::parse(Path::new("card.toml"), &text)
}

fn card(bytes: usize, dtype: DType) -> Result<Option<Compute>, Error> {
    let made = host_device(bytes).map(|device| training_on(device, Some(dtype)));
    made.transpose()
}

/// The largest distances between two runs, relative: of a loss or a gradient's length, and of the
/// weights of the finished models.
fn distances(place: &Place, one: &str, other: &str) -> [f64; 2] {
    let (one, other) = (place.run_folder(one), place.run_folder(other));
    let (lines, others) = (log_numbers(&one), log_numbers(&other));
    assert_eq!(lines.len(), others.len());
    let apart = |a: f64, b: f64| (a - b).abs() / b.abs();
    let told = lines.iter().zip(&others);
    let told = told.flat_map(|(a, b)| [apart(a.1, b.1), apart(a.3, b.3)]);
    let weights = |run: &Path| -> Vec<f32> {
        let files = model_files(run).into_iter();
        let files = files.filter(|(name, _)| name.ends_with(".safetensors"));
        let mut values = Vec::new();
        for (_, bytes) in files {
            let file = safetensors::SafeTensors::deserialize(&bytes).expect("a weights file");
            let mut names = file.names();
            names.sort();
            for name in names {
                let data = file
                    .tensor(name)
                    .expect("its own")
                    .data()
                    .as_chunks::<4>()
                    .0;
                values.extend(data.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
        }
        values
    };
    let apart = relative_l2(&weights(&one), &weights(&other));
    [told.fold(0.0, f64::max), apart]
}

#[test]
fn an_autoencoder_on_a_card_is_the_processors_and_goes_on_from_where_it_stopped()
-> Result<(), Error> {
    let Some(card) = card(ENOUGH, DType::F32)? else {
        return Ok(());
    };
    let place = Place::new();
    // Without an epsilon above rounding errors a step of AdamW is as long for a small gradient as for a large one,
    // and where a gradient is its own rounding error a weight goes another way.
    let config = short(&AUTOENCODER.replace("epsilon = 1e-8", "epsilon = 1e-5"))?;
    place.train_config(&config, "here", None)?;
    place.train_on(card, &config, "there", None)?;
    // Both compute in f32 and add up in other orders.
    let near = |name: &str| {
        let [told, weights] = distances(&place, name, "here");
        println!("autoencoder {name}: log {told:.1e}, weights {weights:.1e}");
        assert!(told <= 1e-4 && weights <= 1e-5, "{told:.1e}, {weights:.1e}");
    };
    near("there");

    // Stopped and resumed on the card, to the bit.
    assert!(matches!(
        place.train_on(card, &config, "parts", Some(2))?,
        Outcome::Stopped(_)
    ));
    place.train_on(card, &config, "parts", None)?;
    let [whole, parts] = ["there", "parts"].map(|run| place.run_folder(run));
    assert_eq!(log_numbers(&whole), log_numbers(&parts));
    assert!(model_files(&whole) == model_files(&parts));

    // Begun in one place and ended in the other.
    place.train_on(card, &config, "there_and_here", Some(2))?;
    place.train_config(&config, "there_and_here", None)?;
    near("there_and_here");
    place.train_config(&config, "here_and_there", Some(2))?;
    place.train_on(card, &config, "here_and_there", None)?;
    near("here_and_there");
    Ok(())
}

#[test]
fn an_image_to_video_model_is_too_and_learns_in_bf16() -> Result<(), Error> {
    let Some(card) = card(ENOUGH, DType::F32)? else {
        return Ok(());
    };
    let place = Place::new();
    place.train_config(&short(AUTOENCODER)?, "autoencoder", None)?;
    // Without latents kept, so that the frozen encoder works in every step.
    let text = image_to_video().replace("keep_latents = true", "keep_latents = false");
    let config = short(&text)?;
    place.train_config(&config, "here", None)?;
    place.train_on(card, &config, "there", None)?;
    let [told, weights] = distances(&place, "there", "here");
    println!("videos in f32: log {told:.1e}, weights {weights:.1e}");
    assert!(told <= 1e-4 && weights <= 1e-3, "{told:.1e}, {weights:.1e}");

    // Blocks computed again, after a stop, on the card.
    let recomputing = short(&text.replace("recompute = false", "recompute = true"))?;
    place.train_on(card, &recomputing, "recomputed", Some(1))?;
    place.train_on(card, &recomputing, "recomputed", None)?;
    let [told, weights] = distances(&place, "recomputed", "here");
    println!("videos recomputed: log {told:.1e}, weights {weights:.1e}");
    assert!(told <= 1e-4 && weights <= 1e-3, "{told:.1e}, {weights:.1e}");

    // In bf16 the latents are kept, and made in bf16 as well: a loss is a few of its roundings away.
    let halves = training_on(card.device(), Some(DType::BF16))?;
    place.train_on(halves, &short(&image_to_video())?, "halves", None)?;
    let [told, weights] = distances(&place, "halves", "here");
    println!("videos in bf16: log {told:.1e}, weights {weights:.1e}");
    assert!(told <= 0.05 && weights <= 0.05, "{told:.1e}, {weights:.1e}");
    Ok(())
}

#[test]
fn an_autoencoder_in_bf16_learns_as_fast() -> Result<(), Error> {
    let Some(card) = card(ENOUGH, DType::BF16)? else {
        return Ok(());
    };
    let place = Place::new();
    let longer = AUTOENCODER
        .replace("steps = 5", "steps = 20")
        .replace("accumulate = 2", "accumulate = 1")
        .replace("report_every = 2", "report_every = 5")
        .replace(
            "decay = { law = \"cosine\", last_share = 0.1 }",
            "decay = { law = \"constant\" }",
        );
    let longer = short(&longer)?;
    place.train_config(&longer, "here", None)?;
    place.train_on(card, &longer, "there", None)?;
    let losses = |run: &str| -> Vec<f64> {
        let lines = log_numbers(&place.run_folder(run));
        lines.iter().map(|line| line.1).collect()
    };
    let (bf16, f32) = (losses("there"), losses("here"));
    println!("autoencoder: bf16 {bf16:.4?}, f32 {f32:.4?}");
    assert!(bf16[3] < 0.9 * bf16[0], "{bf16:?}");
    for (bf16, f32) in bf16.iter().zip(f32) {
        assert!((bf16 - f32).abs() <= 0.05 * f32, "{bf16} {f32}");
    }
    Ok(())
}

#[test]
fn what_a_card_cannot_do_is_told_and_the_last_checkpoint_stays_whole() -> Result<(), Error> {
    let place = Place::new();
    let config = short(AUTOENCODER)?;
    let refused = |card: Compute, config: &Config, run: &str| {
        let error = place.train_on(card, config, run, None);
        error.expect_err("refused").to_string()
    };
    let nowhere = training_on(Device::Cuda(999), None)?;
    let found = refused(nowhere, &config, "nowhere");
    assert!(found.starts_with("cuda:999: "), "{found}");
    assert!(!place.run_folder("nowhere").exists());

    // Room for a model and its optimiser, and not for the gradients of a step.
    let mut standing = Standing::default();
    place.train_watched(Compute::PROCESSOR, &config, "whole", &mut |event| {
        if let Event::Memory { standing: told, .. } = event {
            standing = *told;
        }
        false
    })?;
    let small = standing.bytes() - standing.gradients_bytes * 3 / 4;

    let of = |bytes: usize| card(bytes, DType::F32);
    let (Some(card), Some(small), Some(tiny)) = (of(ENOUGH)?, of(small)?, of(TINY)?) else {
        return Ok(());
    };
    // A step that makes the weights infinite: the next loss is no number.
    let wild = AUTOENCODER.replace("learning_rate = 1e-3", "learning_rate = 1e38");
    let found = refused(card, &short(&wild)?, "wild");
    assert!(found.starts_with("step 2: "), "{found}");
    assert!(found.contains("the run stopped there"), "{found}");

    // No room for the model; or for what stands there, and not for a step.
    let found = refused(tiny, &config, "tiny");
    assert!(
        found.starts_with("bringing the model there: cuda:"),
        "{found}"
    );
    let found = refused(small, &config, "small");
    assert!(found.starts_with("step 1: cuda:"), "{found}");
    assert!(found.contains(": out of memory: "), "{found}");
    assert!(
        found.contains("run.recompute = true, with a smaller run.batch"),
        "{found}"
    );
    assert!(found.ends_with("no checkpoint was written yet"), "{found}");

    // The last checkpoint stays whole, and another device goes on from it.
    place.train_config(&config, "cramped", Some(3))?;
    let found = refused(small, &config, "cramped");
    assert!(found.starts_with("step 4: cuda:"), "{found}");
    assert!(
        found.ends_with("goes on from the checkpoint of step 3"),
        "{found}"
    );
    place.train_config(&config, "cramped", None)?;
    let [cramped, whole] = ["cramped", "whole"].map(|run| place.run_folder(run));
    assert_eq!(log_numbers(&cramped), log_numbers(&whole));
    assert!(model_files(&cramped) == model_files(&whole));
    Ok(())
}
