//! Training where the arrays lie on a card, or on what stands in for one here: it runs the kernels' own
//! sources on the processor.

mod common;

use common::{AUTOENCODER, Place, image_to_video, log_numbers, model_files};
use kinora_tensor::testing::relative_l2;
use kinora_tensor::{DType, Device, host_device};
use kinora_train::{Compute, Config, Error, Outcome};
use std::path::Path;

/// What the stand-in may hold, in bytes: more than any run here takes.
const ENOUGH: usize = 1 << 30;

fn parsed(text: &str) -> Result<Config, Error> {
    Config::parse(Path::new("card.toml"), text)
}

fn card(bytes: usize, dtype: DType) -> Result<Option<Compute>, Error> {
    let made = host_device(bytes).map(|device| Compute::new(device, Some(dtype)));
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
fn a_run_on_a_card_is_the_processors_and_goes_on_from_where_it_stopped() -> Result<(), Error> {
    let Some(card) = card(ENOUGH, DType::F32)? else {
        return Ok(());
    };
    let place = Place::new();
    let config = parsed(AUTOENCODER)?;
    place.train_config(&config, "autoencoder", None)?;
    place.train_on(card, &config, "there", None)?;
    // Both compute in f32 and add up in other orders: six digits of a loss agree, fewer of a gradient.
    // A step of AdamW is as long for a small gradient as for a large one, so where a gradient is its
    // own rounding error a weight may go the other way.
    let [told, weights] = distances(&place, "there", "autoencoder");
    println!("autoencoder in f32: log {told:.1e}, weights {weights:.1e}");
    assert!(told <= 1e-3 && weights <= 1e-3, "{told:.1e}, {weights:.1e}");

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
    for (name, first, second) in [
        ("to_the_processor", card, Compute::PROCESSOR),
        ("to_the_card", Compute::PROCESSOR, card),
    ] {
        place.train_on(first, &config, name, Some(3))?;
        place.train_on(second, &config, name, None)?;
        let [told, weights] = distances(&place, name, "autoencoder");
        println!("{name}: log {told:.1e}, weights {weights:.1e}");
        assert!(told <= 1e-3 && weights <= 1e-3, "{told:.1e}, {weights:.1e}");
    }
    image_to_video_is_too(&place, card)?;
    bf16_stays_near(&place)?;
    what_a_card_cannot_do_is_told(&place)
}

fn image_to_video_is_too(place: &Place, card: Compute) -> Result<(), Error> {
    // Without latents kept, so that the frozen encoder works in every step.
    let text = image_to_video().replace("keep_latents = true", "keep_latents = false");
    let config = parsed(&text)?;
    place.train_config(&config, "videos", None)?;
    place.train_on(card, &config, "videos_there", Some(2))?;
    place.train_on(card, &config, "videos_there", None)?;
    let [told, weights] = distances(place, "videos_there", "videos");
    println!("videos in f32: log {told:.1e}, weights {weights:.1e}");
    assert!(told <= 1e-3 && weights <= 1e-3, "{told:.1e}, {weights:.1e}");

    let recomputing = parsed(&text.replace("recompute = false", "recompute = true"))?;
    place.train_on(card, &recomputing, "recomputed", None)?;
    let [told, weights] = distances(place, "recomputed", "videos_there");
    println!("recomputed: log {told:.1e}, weights {weights:.1e}");
    assert!(told <= 1e-4 && weights <= 1e-3, "{told:.1e}, {weights:.1e}");
    Ok(())
}

fn bf16_stays_near(place: &Place) -> Result<(), Error> {
    let Some(card) = card(ENOUGH, DType::BF16)? else {
        return Ok(());
    };
    let losses = |run: &str| -> Vec<f64> {
        let lines = log_numbers(&place.run_folder(run));
        lines.iter().map(|line| line.1).collect()
    };
    // Every loss of the short run for videos is within a few roundings of f32's.
    let videos = image_to_video();
    place.train_on(card, &parsed(&videos)?, "videos_bf16", None)?;
    for (bf16, f32) in losses("videos_bf16").iter().zip(losses("videos")) {
        println!("videos: bf16 {bf16:.5}, f32 {f32:.5}");
        assert!((bf16 - f32).abs() <= 0.02 * f32, "{bf16} {f32}");
    }
    // An autoencoder learns as fast.
    let longer = AUTOENCODER
        .replace("steps = 5", "steps = 24")
        .replace("report_every = 2", "report_every = 6")
        .replace(
            "decay = { law = \"cosine\", last_share = 0.1 }",
            "decay = { law = \"constant\" }",
        )
        .replace("checkpoint_every = 3", "checkpoint_every = 100")
        .replace("sample_every = 5", "sample_every = 100");
    let longer = parsed(&longer)?;
    place.train_config(&longer, "longer", None)?;
    place.train_on(card, &longer, "longer_bf16", None)?;
    let (bf16, f32) = (losses("longer_bf16"), losses("longer"));
    println!("autoencoder: bf16 {bf16:.4?}, f32 {f32:.4?}");
    assert!(bf16[3] < 0.9 * bf16[0], "{bf16:?}");
    for (bf16, f32) in bf16.iter().zip(f32) {
        assert!((bf16 - f32).abs() <= 0.05 * f32, "{bf16} {f32}");
    }
    Ok(())
}

fn what_a_card_cannot_do_is_told(place: &Place) -> Result<(), Error> {
    let config = parsed(AUTOENCODER)?;
    let refused = |card: Compute, config: &Config, run: &str| {
        let error = place.train_on(card, config, run, None);
        error.expect_err("refused").to_string()
    };
    // A step that makes the weights infinite: the next loss is no number.
    if let Some(card) = card(ENOUGH, DType::F32)? {
        let wild = parsed(&AUTOENCODER.replace("learning_rate = 1e-3", "learning_rate = 1e38"))?;
        let found = refused(card, &wild, "wild");
        assert!(
            found.starts_with("step 2: ") && found.contains("the run stopped there"),
            "{found}"
        );
    }
    // Room for what stands there, and not for a step.
    let Some(small) = card(8 << 20, DType::F32)? else {
        return Ok(());
    };
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
    let [cramped, whole] = ["cramped", "autoencoder"].map(|run| place.run_folder(run));
    assert_eq!(log_numbers(&cramped), log_numbers(&whole));
    assert!(model_files(&cramped) == model_files(&whole));

    // Not even room for the model, and a card that is not there.
    if let Some(tiny) = card(1 << 16, DType::F32)? {
        let found = refused(tiny, &config, "tiny");
        assert!(
            found.starts_with("bringing the model there: cuda:"),
            "{found}"
        );
    }
    let nowhere = Compute::new(Device::Cuda(999), None)?;
    let found = refused(nowhere, &config, "nowhere");
    assert!(found.starts_with("cuda:999: "), "{found}");
    Ok(())
}
