//! Each kind of block against diffusers; `fixtures/vae/make.py` made the golden.

use super::blocks::{PixelAttention, SpatioTemporalBlock};
use super::recompute::Recompute;
use super::temporal_decoder::TemporalDecoder;
use super::{Decoder, Vae};
use crate::params::Source;
use crate::vae::VaeConfig;
use crate::weights::{Opening, open_vae};
use golden::{Golden, fixture};
use kinora_tensor::Tensor;
use kinora_tensor::testing::{assert_close, numbers};

#[path = "../../tests/golden/mod.rs"]
mod golden;

const TOLERANCE: f64 = 1e-5;

fn open() -> (TemporalDecoder, Golden) {
    let part = open_vae(fixture("vae/temporal"), &Opening::default()).unwrap();
    let vae = Vae::new(&part.source(), &part.config).unwrap();
    let Decoder::Temporal(decoder) = vae.decoder else {
        panic!("the fixture is a temporal autoencoder");
    };
    (decoder, Golden::open("vae/temporal_golden.safetensors"))
}

/// What came out of a module, `[10, h, w, c]`, as the two clips of five frames it belongs to.
fn clips(golden: &Golden, name: &str) -> Tensor {
    let x = golden.get(name);
    x.reshape([&[2, 5], &x.dims()[1..]].concat()).unwrap()
}

#[test]
fn a_spatio_temporal_block_agrees() {
    let (decoder, golden) = open();
    let x = clips(&golden, "decoder.conv_in.out");
    let y = decoder.middle.blocks[0]
        .forward(x, Recompute::Nothing)
        .unwrap();
    let expected = golden.get("decoder.mid_block.resnets.0.out");
    assert_close(&y.to_vec(), &expected.to_vec(), TOLERANCE);
}

#[test]
fn a_block_that_narrows_its_channels_agrees() {
    let (decoder, golden) = open();
    let x = clips(&golden, "decoder.up_blocks.0.out");
    let y = decoder.levels[1].blocks[0]
        .forward(x, Recompute::Nothing)
        .unwrap();
    let expected = golden.get("decoder.up_blocks.1.resnets.0.out");
    assert_close(&y.to_vec(), &expected.to_vec(), TOLERANCE);
}

#[test]
fn attention_among_pixels_agrees() {
    let (decoder, golden) = open();
    let x = golden.get("decoder.mid_block.resnets.0.out");
    let y = decoder.middle.before(1).unwrap().forward(&x).unwrap();
    let expected = golden.get("decoder.mid_block.attentions.0.out");
    assert_close(&y.to_vec(), &expected.to_vec(), TOLERANCE);
}

#[test]
fn the_middle_and_a_level_agree() {
    let (decoder, golden) = open();
    let x = clips(&golden, "decoder.conv_in.out");
    let y = decoder.middle.forward(x, Recompute::Nothing).unwrap();
    let expected = clips(&golden, "decoder.mid_block.out");
    assert_close(&y.to_vec(), &expected.to_vec(), TOLERANCE);
    let y = decoder.levels[0]
        .forward(expected, Recompute::Nothing)
        .unwrap();
    let expected = clips(&golden, "decoder.up_blocks.0.out");
    assert_eq!(y.dims(), expected.dims());
    assert_close(&y.to_vec(), &expected.to_vec(), TOLERANCE);
}

#[test]
fn a_fresh_temporal_block_changes_nothing() {
    let source = Source::fresh(1);
    let block = SpatioTemporalBlock::new(&source, 32, 32, 32).unwrap();
    let x = numbers([1, 3, 4, 5, 32], 2);
    let frames = x.reshape([3, 4, 5, 32]).unwrap();
    let spatial = block.spatial.forward(&frames).unwrap();
    let both = block.forward(x, Recompute::Nothing).unwrap();
    assert_close(&both.to_vec(), &spatial.to_vec(), 1e-7);
    let attention = PixelAttention::new(&source.at("attention"), 32, 32).unwrap();
    assert_eq!(attention.forward(&frames).unwrap().dims(), [3, 4, 5, 32]);
}

#[test]
fn the_preset_has_the_published_number_of_parameters() {
    // Drawing a hundred million values takes a second; then it is the true constructor that counts.
    let source = Source::fresh(0);
    Vae::new(&source, &VaeConfig::svd()).unwrap();
    let params = source.params();
    assert_eq!(params.values(), 97_742_847);
    assert_eq!(params.len(), 374);
    assert_eq!(params.with("encoder.").values(), 34_163_592);
    assert_eq!(params.with("decoder.").values(), 63_579_183);
}
