//! The flow from one grey picture to another, and what it costs: one side of `bench/flow.py`.
//!
//! `flow_of_pictures WIDTH HEIGHT FIRST SECOND OUT REPEATS [box|gaussian]`: two raw files of one byte
//! a pixel in, a raw file of little-endian f32 out, `[height, width, 2]` as OpenCV gives it; prints
//! the milliseconds of each repetition. The number of threads is RAYON_NUM_THREADS.

use kinora_curate::flow::{Averaging, Farneback, FlowField, FlowSettings};
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [width, height, first, second, out, repeats, averaging @ ..] = args.as_slice() else {
        return Err("expected WIDTH HEIGHT FIRST SECOND OUT REPEATS [box|gaussian]".into());
    };
    let (first, second) = (std::fs::read(first)?, std::fs::read(second)?);
    let averaging = match averaging.first().map(String::as_str) {
        Some("gaussian") => Averaging::Gaussian,
        _ => Averaging::Box,
    };
    let settings = FlowSettings {
        averaging,
        ..FlowSettings::default()
    };
    let mut farneback = Farneback::new(&settings, width.parse()?, height.parse()?)?;
    let mut found = FlowField::default();
    for _ in 0..repeats.parse::<usize>()? {
        // Both pictures are expanded each time, as OpenCV does, although a sequence needs one.
        farneback.restart();
        let started = Instant::now();
        farneback.push(&first)?;
        let field = farneback.push(&second)?;
        println!("{:.4}", started.elapsed().as_secs_f64() * 1e3);
        found.clone_from(field.ok_or("a second picture gives a flow")?);
    }
    let bytes: Vec<u8> = found
        .x
        .iter()
        .zip(&found.y)
        .flat_map(|(x, y)| [x.to_le_bytes(), y.to_le_bytes()])
        .flatten()
        .collect();
    std::fs::write(out, bytes)?;
    Ok(())
}
