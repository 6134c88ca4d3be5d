//! The second half of `scripts/full_size_parity.py`: runs what diffusers ran on the same weights and
//! inputs, and prints how far the results are from its results, as JSON.
//!
//! `cargo run --release -p kinora-model --example full_size_parity -- FOLDER`

use kinora_model::generate::{self, Model, Settings};
use kinora_model::pixels::{Picture, frames01_from_tensor};
use kinora_model::unet::Pass;
use kinora_model::weights::Weights;
use kinora_model::{conditioner, unet::UNet};
use kinora_tensor::testing::relative_l2;
use kinora_tensor::{Tensor, no_grad, ops};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let folder = std::env::args()
        .nth(1)
        .ok_or("give the folder that scripts/full_size_parity.py wrote")?;
    let folder = Path::new(&folder);
    let settings: Value = serde_json::from_slice(&std::fs::read(folder.join("reference.json"))?)?;
    let bytes = std::fs::read(folder.join("reference.safetensors"))?;
    let reference = Reference {
        arrays: SafeTensors::deserialize(&bytes)?,
        seconds: &settings["seconds"],
    };
    let (model, load_secs) = timed(|| Ok(Model::load(&Weights::open(folder)?)?))?;
    let mut rows = vec![json!({"part": "load", "kinora_s": load_secs})];
    no_grad(|| parts(&model, &reference, &mut rows))?;
    rows.push(whole(&model, &reference, &settings)?);
    println!("{}", serde_json::to_string_pretty(&json!(rows))?);
    Ok(())
}

/// What diffusers was given and gave.
struct Reference<'a> {
    arrays: SafeTensors<'a>,
    seconds: &'a Value,
}

impl Reference<'_> {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let view = self.arrays.tensor(name)?;
        let bits = view.data().as_chunks::<4>().0.iter();
        let values = bits.map(|bits| f32::from_le_bytes(*bits)).collect();
        Ok(Tensor::from_vec(values, view.shape())?)
    }

    fn picture(&self) -> Result<(&[u8], usize, usize)> {
        let view = self.arrays.tensor("picture")?;
        Ok((view.data(), view.shape()[0], view.shape()[1]))
    }

    /// One line of the table. `part` is what diffusers was timed at, and how it was done here.
    fn row(
        &self,
        part: &str,
        expected: &str,
        work: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Value> {
        let (found, secs) = timed(work)?;
        let timed_there = part.split(',').next().unwrap_or(part);
        let distance = relative_l2(&found.to_vec(), &self.tensor(expected)?.to_vec());
        Ok(json!({
            "part": part, "relative_l2": format!("{distance:.2e}"),
            "kinora_s": secs, "diffusers_s": self.seconds[timed_there],
        }))
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    let result = work()?;
    Ok((
        result,
        (start.elapsed().as_secs_f64() * 100.0).round() / 100.0,
    ))
}

/// Each network by itself.
fn parts(model: &Model, reference: &Reference, rows: &mut Vec<Value>) -> Result<()> {
    let (bytes, height, width) = reference.picture()?;
    let picture = Picture::new(bytes, height, width)?;
    rows.push(reference.row("clip", "clip.embeds", || {
        Ok(conditioner::context_from_picture(&model.clip, picture)?)
    })?);
    let x = reference.tensor("vae.x")?;
    rows.push(reference.row("vae encode", "vae.mean", || Ok(model.vae.encode(&x)?.mean))?);
    let latents = reference.tensor("vae.latents")?; // [t, h, w, 4]
    let clip: Vec<usize> = [&[1], latents.dims()].concat();
    rows.push(reference.row("vae decode", "vae.y", || {
        Ok(model.vae.decode(&latents.reshape(clip)?)?)
    })?);
    unet_both_ways(&model.unet, reference, rows)
}

fn unet_both_ways(unet: &UNet, reference: &Reference, rows: &mut Vec<Value>) -> Result<()> {
    let (x, context) = (
        reference.tensor("unet.x")?,
        reference.tensor("unet.context")?,
    );
    let (c_noise, added) = (
        reference.tensor("unet.c_noise")?,
        reference.tensor("unet.added")?,
    );
    let (c_noise, added) = (c_noise.to_vec(), [added.to_vec()]);
    rows.push(reference.row("unet", "unet.y", || {
        Ok(unet.forward(&x, &c_noise, &context, &added, Pass::default())?)
    })?);
    let (noisy, condition) = (ops::narrow(&x, 4, 0, 4)?, ops::narrow(&x, 4, 4, 4)?);
    let prepared = unet.prepare(&context, &added, Some(&condition), x.dims()[1])?;
    rows.push(reference.row("unet, prepared", "unet.y", || {
        Ok(unet.forward_prepared(&prepared, &noisy, &c_noise)?)
    })?);
    Ok(())
}

/// From the picture and the seed to frames.
fn whole(model: &Model, reference: &Reference, settings: &Value) -> Result<Value> {
    let number = |name: &str| settings[name].as_u64().ok_or(format!("no `{name}`"));
    let size = number("size")? as usize;
    let wanted = Settings {
        frames: number("frames")? as usize,
        steps: number("steps")? as usize,
        seed: number("seed")?,
        ..Settings::default_for(model.networks().configs(), size, size)
    };
    let (bytes, height, width) = reference.picture()?;
    let picture = Picture::new(bytes, height, width)?;
    let mut listen = |_: &generate::Event| ControlFlow::Continue(());
    reference.row("whole", "frames", || {
        let frames = generate::generate(model.networks(), picture, &wanted, &mut listen)?;
        Ok(frames01_from_tensor(&frames)?)
    })
}
