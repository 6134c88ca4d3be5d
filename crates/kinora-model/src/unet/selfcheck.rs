//! The blocks of the UNet as `kinora selfcheck` runs them.

use super::config::{LevelKind, UNetConfig};
use super::level::{DownLevel, Known, MiddleLevel, UpLevel, Walk};
use super::network::{Pass, UNet};
use super::res_block::ResBlock;
use super::transformer::{Extents, Transformer};
use crate::Result;
use crate::params::Source;
use crate::selfcheck::{Block, Input};
use kinora_tensor::{Tensor, ops};

/// Extents of all clips here.
const CLIP: [usize; 4] = [2, 3, 3, 4];

fn clip(channels: usize, seed: u64) -> Input {
    let [b, t, h, w] = CLIP;
    Input::new(&[b, t, h, w, channels], seed)
}

fn embedding(config: &UNetConfig) -> Input {
    Input::f32(&[CLIP[0], config.embedding_channels()], 21)
}

fn context(config: &UNetConfig, tokens: usize) -> Input {
    Input::new(&[CLIP[0], tokens, config.cross_attention_dim[0]], 22)
}

/// Two levels, one of which attends with heads of 64 channels.
pub(crate) fn config() -> UNetConfig {
    use LevelKind::{Attends, Plain};
    UNetConfig {
        down_block_types: vec![Attends, Plain],
        up_block_types: vec![Plain, Attends],
        block_out_channels: vec![128, 64],
        addition_time_embed_dim: 16,
        projection_class_embeddings_input_dim: 48,
        layers_per_block: vec![1; 2],
        cross_attention_dim: vec![24; 2],
        transformer_layers_per_block: vec![1; 2],
        num_attention_heads: vec![2, 1],
        ..UNetConfig::image_to_video(CLIP[1])
    }
}

fn walk<'a>(embedding: &Tensor, context: &'a Tensor, recompute: bool) -> Walk<'a> {
    Walk {
        embedding: embedding.clone(),
        known: Known::Context(context),
        image_only: false,
        recompute,
    }
}

pub(crate) fn blocks() -> Result<Vec<Block>> {
    let mut blocks = vec![residual(64, 128)?, residual(64, 64)?];
    // One token of context takes the short way, several do not.
    blocks.extend([transformer(1)?, transformer(5)?]);
    blocks.extend([down()?, middle()?, up()?]);
    blocks.extend([whole(false)?, whole(true)?, prepared()?]);
    Ok(blocks)
}

fn residual(i: usize, o: usize) -> Result<Block> {
    let (source, config) = (Source::fresh(1), config());
    let block = ResBlock::new(&source, i, o, config.embedding_channels(), 1e-5)?;
    let inputs = vec![clip(i, 1), embedding(&config)];
    let name = format!("unet residual block, {i} to {o} channels");
    Block::new(&name, &source, inputs, move |x| {
        block.forward(&x[0], &x[1], false)
    })
}

fn transformer(tokens: usize) -> Result<Block> {
    let (source, config) = (Source::fresh(2), config());
    let extents = Extents {
        channels: 128,
        heads: 2,
        depth: 1,
        context: config.cross_attention_dim[0],
    };
    let block = Transformer::new(&source, extents)?;
    let inputs = vec![clip(128, 1), context(&config, tokens)];
    let name = format!("unet transformer, {tokens} tokens of context");
    Block::new(&name, &source, inputs, move |x| {
        let constants = block.constants(&x[1], CLIP[1])?;
        block.forward(&x[0], &constants, false)
    })
}

fn down() -> Result<Block> {
    let (source, config) = (Source::fresh(3), config());
    let level = DownLevel::new(&source, &config, 0)?;
    let inputs = vec![clip(128, 1), embedding(&config), context(&config, 1)];
    Block::new("unet down level", &source, inputs, move |x| {
        let results = level.forward(&x[0], &mut walk(&x[1], &x[2], false))?;
        joined(&results)
    })
}

fn middle() -> Result<Block> {
    let (source, config) = (Source::fresh(4), config());
    let level = MiddleLevel::new(&source, &config)?;
    let inputs = vec![clip(64, 1), embedding(&config), context(&config, 1)];
    Block::new("unet middle level", &source, inputs, move |x| {
        level.forward(&x[0], &mut walk(&x[1], &x[2], false))
    })
}

/// The coarser level on the way up, with the skips that are there when it ends.
fn up() -> Result<Block> {
    let (source, config) = (Source::fresh(5), config());
    let level = UpLevel::new(&source, &config, 1)?;
    let [b, t, h, w] = CLIP;
    let mut inputs = vec![clip(64, 1), embedding(&config), context(&config, 1)];
    // Where the finer level is of odd extents, doubling gives one row and column too many.
    inputs.push(Input::new(&[b, t, 2 * h - 1, 2 * w - 1, 128], 2));
    inputs.extend([clip(128, 3), clip(64, 4)]);
    Block::new("unet up level", &source, inputs, move |x| {
        let mut skips = x[3..].to_vec();
        level.forward(&x[0], &mut skips, &mut walk(&x[1], &x[2], false))
    })
}

const C_NOISE: [f32; 2] = [0.3, -0.8];
const ADDED: [[f32; 3]; 2] = [[6.0, 127.0, 0.02], [5.0, 30.0, 0.1]];

fn whole(recompute: bool) -> Result<Block> {
    let (source, config) = (Source::fresh(6), config());
    let net = UNet::new(&source, &config)?;
    let inputs = vec![clip(8, 1), context(&config, 1)];
    let name = match recompute {
        false => "unet",
        true => "unet, blocks recomputed",
    };
    let pass = Pass {
        image_only: false,
        recompute,
    };
    Block::new(name, &source, inputs, move |x| {
        net.forward(&x[0], &C_NOISE, &x[1], &ADDED, pass)
    })
}

/// As it is sampled: the condition's half of the first convolution once.
fn prepared() -> Result<Block> {
    let (source, config) = (Source::fresh(7), config());
    let net = UNet::new(&source, &config)?;
    let inputs = vec![clip(4, 1), clip(4, 2), context(&config, 1)];
    Block::new("unet, conditions prepared", &source, inputs, move |x| {
        let prepared = net.prepare(&x[2], &ADDED, Some(&x[1]), CLIP[1])?;
        net.forward_prepared(&prepared, &x[0], &C_NOISE)
    })
}

/// All results in one row.
fn joined(results: &[Tensor]) -> Result<Tensor> {
    let rows = results.iter().map(|x| x.reshape([x.elements()]));
    let rows = rows.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(ops::concat(&rows.iter().collect::<Vec<_>>(), 0)?)
}
