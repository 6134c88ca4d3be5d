//! The blocks of the autoencoders as `kinora selfcheck` runs them.

use super::blocks::{PixelAttention, SpatialBlock, SpatioTemporalBlock, Upsampler};
use super::recompute::Recompute;
use super::{Vae, VaeConfig, VaeKind};
use crate::Result;
use crate::params::Source;
use crate::selfcheck::{Block, Input};
use kinora_tensor::ops;

const GROUPS: usize = 32;

pub(crate) fn blocks() -> Result<Vec<Block>> {
    let temporal = VaeConfig::temporal(&[64, 128], 2);
    let image = VaeConfig {
        kind: VaeKind::Image,
        up_block_types: Some(vec!["UpDecoderBlock2D".to_owned(); 2]),
        ..VaeConfig::temporal(&[32, 64], 1)
    };
    Ok(vec![
        spatial()?,
        spatio_temporal()?,
        // One head as wide as all channels: of 64 there is a kernel, of others there is not.
        attention(64)?,
        attention(96)?,
        upsampler()?,
        encoder("vae encoder", &temporal)?,
        decoder("vae temporal decoder", &temporal)?,
        encoder("image autoencoder, encoder", &image)?,
        decoder("image autoencoder, decoder", &image)?,
    ])
}

fn spatial() -> Result<Block> {
    let source = Source::fresh(1);
    let block = SpatialBlock::new(&source, 64, 96, GROUPS)?;
    let inputs = vec![Input::new(&[2, 6, 5, 64], 1)];
    Block::new("vae residual block", &source, inputs, move |x| {
        block.forward(&x[0])
    })
}

fn spatio_temporal() -> Result<Block> {
    let source = Source::fresh(2);
    let block = SpatioTemporalBlock::new(&source, 96, 64, GROUPS)?;
    let inputs = vec![Input::new(&[2, 3, 4, 5, 96], 1)];
    Block::new("vae spatio-temporal block", &source, inputs, move |x| {
        block.forward(x[0].clone(), Recompute::Nothing)
    })
}

fn attention(channels: usize) -> Result<Block> {
    let source = Source::fresh(3);
    let block = PixelAttention::new(&source, channels, GROUPS)?;
    let inputs = vec![Input::new(&[2, 9, 8, channels], 1)];
    let name = format!("vae attention, one head of {channels}");
    Block::new(&name, &source, inputs, move |x| block.forward(&x[0]))
}

fn upsampler() -> Result<Block> {
    let source = Source::fresh(4);
    let block = Upsampler::new(&source, 64)?;
    let inputs = vec![Input::new(&[2, 3, 5, 64], 1)];
    Block::new("vae upsampler", &source, inputs, move |x| {
        block.forward(&x[0])
    })
}

fn encoder(name: &str, config: &VaeConfig) -> Result<Block> {
    let source = Source::fresh(5);
    let vae = Vae::new(&source, config)?;
    let inputs = vec![Input::new(&[2, 8, 12, 3], 1)];
    Block::new(name, &source, inputs, move |x| {
        let moments = vae.encode(&x[0])?;
        Ok(ops::concat(&[&moments.mean, &moments.logvar], 3)?)
    })
}

fn decoder(name: &str, config: &VaeConfig) -> Result<Block> {
    let source = Source::fresh(6);
    let vae = Vae::new(&source, config)?;
    let inputs = vec![Input::new(&[1, 3, 4, 6, config.latent_channels], 1)];
    Block::new(name, &source, inputs, move |x| vae.decode(&x[0]))
}
