//! The whole verb on what stands in for a card.

use super::*;
use crate::args::{Cli, Verb};
use clap::Parser as _;
use kinora_tensor::testing::{assert_close, numbers};
use kinora_tensor::{Device, card_memory, host_device, peak_device_bytes};
use std::path::PathBuf;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pipeline/model");

/// A folder with a still, and a place for the clip.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let colour = |x, y| image::Rgb([(x * 10) as u8, (y * 15) as u8, (x * y) as u8]);
        let still = image::RgbImage::from_fn(24, 16, colour);
        still.save(folder.path().join("still.png")).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The values of the clip.
    fn values(&self) -> Vec<f32> {
        let bytes = std::fs::read(self.path("a.npy")).unwrap();
        let values = bytes[128..].as_chunks::<4>().0.iter();
        values.map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// `kinora generate` of a tiny clip.
    fn generate(&self, device: Device, words: &[&str]) -> anyhow::Result<Outcome> {
        work(&self.args(device, words)?, &AtomicBool::new(false))
    }

    fn args(&self, device: Device, words: &[&str]) -> anyhow::Result<GenerateArgs> {
        let mut all = vec!["kinora".to_owned(), "generate".to_owned()];
        all.push(self.path("still.png").display().to_string());
        all.extend(["--model", MODEL, "--out"].map(str::to_owned));
        all.push(self.path("a.npy").display().to_string());
        all.push(format!("--device={device}"));
        let fixed = "--frames 2 --width 16 --height 16 --steps 1".split(' ');
        let fixed: Vec<&str> = fixed.collect();
        // A flag may be given once.
        let kept = fixed.chunks(2).filter(|pair| !words.contains(&pair[0]));
        all.extend(kept.flatten().chain(words).map(|word| word.to_string()));
        let Verb::Generate(args) = Cli::try_parse_from(all)?.verb else {
            panic!("the verb is `generate`");
        };
        Ok(args)
    }

    fn names(&self) -> Vec<String> {
        let listing = std::fs::read_dir(self.0.path()).unwrap();
        let names = listing.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

#[test]
fn a_clip_is_written_from_a_card_and_is_that_of_the_processor() {
    let Some(card) = host_device(8 << 30) else {
        return;
    };
    let folder = Folder::new();
    folder.generate(Device::Cpu, &[]).unwrap();
    let expected = folder.values();
    // One step from σ = 700 multiplies what rounding does: over six seeds bf16 is 0.009 to 0.06 away.
    for (dtype, most) in [("f32", 1e-4), ("bf16", 0.1)] {
        let preview = folder.path("p.png").display().to_string();
        let words = ["--dtype", dtype, "--preview", &preview];
        assert!(matches!(
            folder.generate(card, &words).unwrap(),
            Outcome::Done
        ));
        let found = folder.values();
        let apart = root_mean_square(&found, &expected);
        println!("{dtype}: {apart:.1e} root mean square of values from 0 to 1");
        assert!(apart <= most, "{dtype}: {apart}");
        let facts = std::fs::read_to_string(folder.path("a.npy.json")).unwrap();
        assert!(facts.contains("cuda") && facts.contains(dtype), "{facts}");
    }
    assert_eq!(
        folder.names(),
        ["a.npy", "a.npy.json", "p.png", "still.png"]
    );
    assert_eq!(card_memory(card).unwrap().used_bytes(), 0);
}

fn root_mean_square(found: &[f32], expected: &[f32]) -> f32 {
    let squares = found.iter().zip(expected).map(|(f, e)| (f - e).powi(2));
    (squares.sum::<f32>() / expected.len() as f32).sqrt()
}

/// What the plan says where `gib` are allowed.
fn planned(args: &GenerateArgs, gib: Option<f64>) -> anyhow::Result<plan::Planned> {
    let weights = Weights::open(MODEL)?;
    let settings = settings(args, Path::new(MODEL), &weights)?;
    let (_, planned, _) = device::choose(args.device, args.dtype, |place| {
        plan::make(&weights, &settings, gib, place)
    })?;
    Ok(planned)
}

#[test]
fn a_limit_governs_the_card_and_what_does_not_fit_is_brought_as_it_is_used() {
    let folder = Folder::new();
    folder.generate(Device::Cpu, &["--steps", "3"]).unwrap();
    let exact = folder.values();
    for dtype in ["f32", "bf16"] {
        let devices = [(); 3].map(|()| host_device(8 << 30));
        let [Some(large), Some(limited), Some(by_hand)] = devices else {
            return;
        };
        let words = ["--dtype", dtype, "--steps", "3"];
        folder.generate(large, &words).unwrap();
        let expected = folder.values();
        let args = folder.args(by_hand, &words).unwrap();
        let all = planned(&args, None).unwrap();
        assert_eq!((all.streaming, all.limit_bytes), (None, None));
        // A third of the weights less than all of it.
        let [peak, weights] =
            ["peak_bytes", "weights_bytes"].map(|key| all.fields[key].as_u64().unwrap());
        let gib = (peak - weights / 3) as f64 / f64::from(1 << 30);

        let gib_in_words = gib.to_string();
        let words = [&words[..], &["--max-memory-gib", &gib_in_words]].concat();
        folder.generate(limited, &words).unwrap();
        let apart = root_mean_square(&folder.values(), &expected);
        let peaks = [large, limited].map(|card| peak_device_bytes(card).unwrap());
        // What stays was rounded to bf16 and what passes keeps the f16 of its file until it is used: the
        // two are two roundings of one clip.
        let rounding = root_mean_square(&expected, &exact);
        println!("{dtype}: {apart:.1e} apart, {rounding:.1e} by rounding, within {peaks:?} bytes");
        assert!(apart <= 2.0 * rounding, "{dtype}: {apart} {rounding}");
        let tight = planned(&args, Some(gib)).unwrap();
        assert!(peaks[1] < peaks[0] && peaks[1] <= tight.limit_bytes.unwrap());

        // What is told: before it, and after it.
        let streaming = tight.streaming.unwrap();
        assert!(
            tight
                .text
                .contains(" are brought for every run of the UNet ("),
            "{}",
            tight.text
        );
        assert_eq!(
            tight.fields["streamed_bytes_a_step"],
            2 * streaming.run_bytes
        );
        let weights = Weights::open(MODEL).unwrap();
        let compute = Compute::new(by_hand, args.dtype.unwrap()).unwrap();
        let model = Model::load_within(&weights, compute, streaming.budget_bytes).unwrap();
        let (text, fields) = on_card::told(&model, false, None).unwrap();
        assert!(
            text.ends_with("not captured: weights are brought as they are used"),
            "{text}"
        );
        let streamed = streaming.run_bytes + streaming.once_bytes;
        let told = fields["streamed_bytes"].as_u64().unwrap() as usize;
        println!("{dtype}: {streamed} bytes planned to pass, {told} do; {text}");
        // The plan goes through the weights in another order, so one more or less may stay.
        let largest = 256 << 10;
        assert!(
            told > 0 && told.abs_diff(streamed) <= largest,
            "{told} {streamed}"
        );
        assert_eq!(fields["copied_bytes"], 0);
    }
}

#[test]
fn a_card_that_is_too_small_for_all_weights_takes_them_as_they_are_used() {
    let folder = Folder::new();
    let Some(card) = host_device(8 << 30) else {
        return;
    };
    let all = planned(&folder.args(card, &[]).unwrap(), None).unwrap();
    let [peak, weights] =
        ["peak_bytes", "weights_bytes"].map(|key| all.fields[key].as_u64().unwrap());
    // Without --max-memory-gib: it is the card that has no more.
    let small = host_device((peak - weights / 4) as usize).unwrap();
    let tight = planned(&folder.args(small, &[]).unwrap(), None).unwrap();
    assert!(
        tight.streaming.is_some_and(|s| s.run_bytes > 0),
        "{}",
        tight.text
    );
    folder.generate(small, &[]).unwrap();
    assert_eq!(card_memory(small).unwrap().used_bytes(), 0);
}

#[test]
fn a_card_too_small_is_refused_before_the_work_with_a_setting_that_fits() {
    let folder = Folder::new();
    let Some(card) = host_device(1700 << 20) else {
        return;
    };
    let refused = |words: &[&str]| folder.generate(card, words).err().unwrap().to_string();
    let said = refused(&["--width", "1024", "--height", "576", "--frames", "25"]);
    let expected = format!("on {card} in bf16, or ");
    let all = [
        &expected,
        " GiB with weights brought as they are used, 1.7 GiB are free; ",
        " would fit",
    ];
    assert!(all.iter().all(|part| said.contains(part)), "{said}");
    let said = refused(&["--max-memory-gib", "0.5"]);
    assert!(
        said.contains(
            "the libraries, the autoencoder and room for two weights at a time take 1.6 GiB"
        ),
        "{said}"
    );
    assert_eq!(folder.names(), ["still.png"]);
}

#[test]
fn memory_that_runs_out_during_the_work_is_a_sentence_and_leaves_no_file() {
    let folder = Folder::new();
    // The plan believes what it is told; the card has less than the encoder's first layers take.
    let Some(card) = host_device(64 << 20) else {
        return;
    };
    let words = "--dtype f32 --max-memory-gib 8 --width 512 --height 512".split(' ');
    let error = folder.generate(card, &words.collect::<Vec<_>>()).err();
    let said = crate::in_words(&error.unwrap());
    assert!(said.contains(&format!("{card}: out of memory: ")), "{said}");
    assert!(said.contains("take fewer frames"), "{said}");
    assert_eq!(folder.names(), ["still.png"]);
    assert_eq!(card_memory(card).unwrap().used_bytes(), 0);
}

#[test]
fn a_preview_keeps_to_the_memory_of_a_bounded_decode_and_is_the_same_picture() {
    let folder = Folder::new();
    let args = folder.args(Device::Cpu, &[]).unwrap();
    let model = Model::load(&Weights::open(MODEL).unwrap()).unwrap();
    let (reporter, stop) = (Reporter::new(Manner::Lines), AtomicBool::new(false));
    let latents = numbers([1, 1, 4, 4, model.vae.config().latent_channels], 1);
    let decoded = |decoding| {
        let watch = Watch {
            reporter: &reporter,
            stop: &stop,
            stage: None,
            args: &args,
            vae: &model.vae,
            decoding,
            compute: model.compute,
            failed: None,
            step: (false, None),
        };
        watch.decoded(&latents)
    };
    let whole = decoded(Decoding::Whole).unwrap();
    let budget_bytes = 1 << 30;
    let bounded = decoded(Decoding::Bounded { budget_bytes }).unwrap();
    assert_eq!(bounded.dims(), &whole.dims()[1..]); // without the axis of clips
    assert_close(&bounded.to_vec(), &whole.to_vec(), 1e-5);
    // The budget is kept: one that nothing fits into is refused.
    let refused = decoded(Decoding::Bounded { budget_bytes: 1 }).unwrap_err();
    assert!(refused.to_string().contains("the budget is 1"), "{refused}");
}
