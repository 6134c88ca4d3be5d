//! `cargo run --release -p kinora-train --example train -- CONFIG.toml DATA RUN`: a run with plain
//! lines for progress, the smallest program around the library.

use kinora_train::{Compute, Config, Event, Places};
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [config, data, run] = words.as_slice() else {
        return Err("expected CONFIG.toml DATA RUN".into());
    };
    let config = Config::read(Path::new(config))?;
    let stop = AtomicBool::new(false);
    let outcome = kinora_train::run(
        &config,
        &Places {
            data: Path::new(data),
            run: Path::new(run),
            compute: Compute::PROCESSOR,
        },
        &stop,
        &mut |event| {
            if !matches!(event, Event::Step { .. }) {
                println!("{event:?}");
            }
        },
    )?;
    println!("{outcome:?}");
    Ok(())
}
