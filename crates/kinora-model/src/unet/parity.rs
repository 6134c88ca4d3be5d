//! Each kind of block against diffusers: `fixtures/unet/make.py` wrote what it should give.

use super::config::{LevelKind, NormEps, UNetConfig};
use super::level::{DownLevel, Known, MiddleLevel, UpLevel, Walk};
use super::res_block::ResBlock;
use super::transformer::{Extents, Transformer};
use crate::Result;
use crate::params::Source;
use kinora_tensor::testing::relative_l2;
use kinora_tensor::{Tensor, ops};
use std::collections::HashMap;
use std::path::Path;

/// What each block may differ by. Measured: 2e-7 to 6e-7, as diffusers' own f32 does.
const TOLERANCE: f64 = 1e-5;

/// Arrays by name.
struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn read(file: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/unet");
        let bytes = std::fs::read(folder.join(file)).expect("run fixtures/unet/make.py");
        let arrays = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let tensor = |view: safetensors::tensor::TensorView| {
            let values: Vec<f32> = match view.dtype() {
                safetensors::Dtype::F16 => {
                    let bits = view.data().as_chunks::<2>().0.iter();
                    bits.map(|b| half::f16::from_le_bytes(*b).to_f32())
                        .collect()
                }
                _ => {
                    let bits = view.data().as_chunks::<4>().0.iter();
                    bits.map(|b| f32::from_le_bytes(*b)).collect()
                }
            };
            Tensor::from_vec(values, view.shape()).expect("the file's own shape")
        };
        Golden(
            arrays
                .iter()
                .map(|(name, view)| (name.to_owned(), tensor(view)))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> &Tensor {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no `{name}` in the golden"))
    }

    /// The embedding as stages take it.
    fn embedding(&self) -> Tensor {
        ops::silu(self.get("emb")).expect("f32")
    }

    fn assert(&self, name: &str, found: &Tensor) {
        let expected = self.get(name);
        assert_eq!(found.dims(), expected.dims(), "{name}");
        let distance = relative_l2(&found.to_vec(), &expected.to_vec());
        println!("{name}: {distance:.1e}");
        assert!(
            distance <= TOLERANCE,
            "{name}: relative L2 distance {distance:.1e}"
        );
    }
}

/// Puts a golden's weights into a network of which `scope` is the part that the golden holds. Each
/// must find the other's name.
fn fill(source: &Source, scope: &str, case: &str) {
    let mut weights = Golden::read(&format!("{case}.weights.safetensors")).0;
    for entry in &source.params().with(scope) {
        let name = &entry.name[scope.len()..];
        let value = weights
            .remove(name)
            .unwrap_or_else(|| panic!("no weight `{name}`"));
        let dims = entry.param.get().dims().to_vec();
        assert_eq!(entry.layout.file_dims(&dims), value.dims(), "{name}");
        let moved = entry.layout.memory_from_file(&value.to_vec(), &dims);
        entry
            .param
            .set(Tensor::from_vec(moved, dims).expect("as many values"));
    }
    let left: Vec<&String> = weights.keys().collect();
    assert!(left.is_empty(), "not used: {left:?}");
}

fn walk<'a>(golden: &Golden, context: &'a Tensor) -> Walk<'a> {
    Walk {
        embedding: golden.embedding(),
        known: Known::Context(context),
        image_only: false,
        recompute: false,
    }
}

/// Three levels, of which the goldens hold the middle one or what belongs to the last.
fn config(kind: LevelKind, widths: [usize; 3], layers: usize) -> UNetConfig {
    UNetConfig {
        block_out_channels: widths.to_vec(),
        down_block_types: vec![kind; 3],
        up_block_types: vec![kind; 3],
        layers_per_block: vec![layers; 3],
        cross_attention_dim: vec![24; 3],
        transformer_layers_per_block: vec![1; 3],
        num_attention_heads: vec![2; 3],
        norm_eps: NormEps::Diffusers,
        ..UNetConfig::image_to_video(3)
    }
}

#[test]
fn residual_block() -> Result<()> {
    let (golden, source) = (Golden::read("res_block.safetensors"), Source::fresh(0));
    let block = ResBlock::new(&source, 32, 64, 48, 1e-6)?;
    fill(&source, "", "res_block");
    let (x, embedding) = (golden.get("x"), golden.embedding());
    golden.assert("y", &block.forward(x, &embedding, false)?);
    golden.assert("y_image", &block.forward(x, &embedding, true)?);
    Ok(())
}

#[test]
fn a_single_clip_is_what_it_is_in_a_batch() -> Result<()> {
    let (golden, source) = (Golden::read("res_block.safetensors"), Source::fresh(0));
    let block = ResBlock::new(&source, 32, 64, 48, 1e-6)?;
    fill(&source, "", "res_block");
    let second = |x: &Tensor| ops::narrow(x, 0, 1, 1);
    let embedding = second(&golden.embedding())?;
    let found = block.forward(&second(golden.get("x"))?, &embedding, false)?;
    let expected = second(golden.get("y"))?;
    assert!(relative_l2(&found.to_vec(), &expected.to_vec()) <= TOLERANCE);
    Ok(())
}

#[test]
fn transformer() -> Result<()> {
    let (golden, source) = (Golden::read("transformer.safetensors"), Source::fresh(0));
    let extents = Extents {
        channels: 32,
        heads: 2,
        depth: 2,
        context: 24,
    };
    let block = Transformer::new(&source, extents)?;
    fill(&source, "", "transformer");
    for tokens in [1, 4] {
        let constants = block.constants(golden.get(&format!("context.{tokens}")), 3)?;
        let x = golden.get("x");
        golden.assert(
            &format!("y.{tokens}"),
            &block.forward(x, &constants, false)?,
        );
        golden.assert(
            &format!("y_image.{tokens}"),
            &block.forward(x, &constants, true)?,
        );
    }
    Ok(())
}

fn down_level(case: &str, kind: LevelKind, layers: usize, contexts: &[&str]) -> Result<()> {
    let (golden, source) = (
        Golden::read(&format!("{case}.safetensors")),
        Source::fresh(0),
    );
    let level = DownLevel::new(&source, &config(kind, [64, 32, 64], layers), 1)?;
    fill(&source, "down_blocks.1.", case);
    for suffix in contexts {
        let none = Tensor::zeros([2, 1, 24]);
        let context = golden.0.get(&format!("context{suffix}")).unwrap_or(&none);
        let results = level.forward(golden.get("x"), &mut walk(&golden, context))?;
        assert_eq!(results.len(), layers + 1);
        for (k, found) in results.iter().enumerate() {
            golden.assert(&format!("out{k}{suffix}"), found);
        }
        golden.assert(&format!("y{suffix}"), &results[layers]);
    }
    Ok(())
}

#[test]
fn down() -> Result<()> {
    down_level("down", LevelKind::Plain, 2, &[""])
}

#[test]
fn cross_attention_down() -> Result<()> {
    down_level("cross_attn_down", LevelKind::Attends, 1, &[".1", ".4"])
}

#[test]
fn middle() -> Result<()> {
    let (golden, source) = (Golden::read("mid.safetensors"), Source::fresh(0));
    let level = MiddleLevel::new(&source, &config(LevelKind::Attends, [32; 3], 1))?;
    fill(&source, "mid_block.", "mid");
    for tokens in [1, 4] {
        let context = golden.get(&format!("context.{tokens}"));
        let found = level.forward(golden.get("x"), &mut walk(&golden, context))?;
        golden.assert(&format!("y.{tokens}"), &found);
    }
    Ok(())
}

/// `size` is that of the finer level's skips.
fn up_level(case: &str, kind: LevelKind, size: [usize; 2], contexts: &[&str]) -> Result<()> {
    let (golden, source) = (
        Golden::read(&format!("{case}.safetensors")),
        Source::fresh(0),
    );
    let level = UpLevel::new(&source, &config(kind, [64, 32, 64], 1), 1)?;
    fill(&source, "up_blocks.1.", case);
    for suffix in contexts {
        let none = Tensor::zeros([2, 1, 24]);
        let context = golden.0.get(&format!("context{suffix}")).unwrap_or(&none);
        let finer = Tensor::zeros([2, 3, size[0], size[1], 64]);
        let mut skips = vec![
            finer,
            golden.get("skip0").clone(),
            golden.get("skip1").clone(),
        ];
        let found = level.forward(golden.get("x"), &mut skips, &mut walk(&golden, context))?;
        assert_eq!(skips.len(), 1);
        golden.assert(&format!("y{suffix}"), &found);
    }
    Ok(())
}

#[test]
fn up_to_an_odd_size() -> Result<()> {
    up_level("up", LevelKind::Plain, [5, 4], &[""])
}

#[test]
fn cross_attention_up() -> Result<()> {
    up_level("cross_attn_up", LevelKind::Attends, [4, 6], &[".1", ".4"])
}
