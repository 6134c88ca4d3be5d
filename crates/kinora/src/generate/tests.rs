//! The whole verb on what stands in for a card.

use super::*;
use crate::args::{Cli, Verb};
use clap::Parser as _;
use kinora_tensor::{Device, card_memory, host_device};
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

    /// `kinora generate` of a tiny clip.
    fn generate(&self, device: Device, words: &[&str]) -> anyhow::Result<Outcome> {
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
        work(&args, &AtomicBool::new(false))
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
    let values = || {
        let bytes = std::fs::read(folder.path("a.npy")).unwrap();
        let values = bytes[128..].as_chunks::<4>().0.iter();
        values.map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>()
    };
    folder.generate(Device::Cpu, &[]).unwrap();
    let expected = values();
    for (dtype, most) in [("f32", 1e-4), ("bf16", 0.02)] {
        let preview = folder.path("p.png").display().to_string();
        let words = ["--dtype", dtype, "--preview", &preview];
        assert!(matches!(
            folder.generate(card, &words).unwrap(),
            Outcome::Done
        ));
        let found = values();
        let squares = found.iter().zip(&expected).map(|(f, e)| (f - e).powi(2));
        let apart = (squares.sum::<f32>() / expected.len() as f32).sqrt();
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

#[test]
fn a_card_too_small_is_refused_before_the_work_with_a_setting_that_fits() {
    let folder = Folder::new();
    let Some(card) = host_device(1700 << 20) else {
        return;
    };
    let refused = |words: &[&str]| folder.generate(card, words).err().unwrap().to_string();
    let said = refused(&["--width", "1024", "--height", "576", "--frames", "25"]);
    let expected = format!("on {card} in bf16, 1.7 GiB are free; ");
    assert!(
        said.contains(&expected) && said.contains(" would fit"),
        "{said}"
    );
    let said = refused(&["--max-memory-gib", "0.5"]);
    assert!(
        said.contains("the weights and the libraries alone take 1.6 GiB"),
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
