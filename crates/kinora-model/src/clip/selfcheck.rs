//! The blocks of the towers as `kinora selfcheck` runs them.

use super::block::{Block as TowerBlock, BlockSizes};
use super::{ClipVision, ClipVisionConfig, HiddenAct};
use crate::Result;
use crate::params::Source;
use crate::selfcheck::{Block, Input};

/// Heads of 80 channels, as those of ViT-H.
const SIZES: BlockSizes = BlockSizes {
    width: 160,
    inner: 320,
    heads: 2,
    act: HiddenAct::Gelu,
    eps: 1e-5,
};

pub(crate) fn blocks() -> Result<Vec<Block>> {
    let source = Source::fresh(1);
    let block = TowerBlock::new(&source, SIZES)?;
    let tokens = || vec![Input::new(&[2, 17, SIZES.width], 1)];
    let seeing = Block::new("clip block", &source, tokens(), move |x| {
        block.forward(&x[0])
    })?;

    let source = Source::fresh(2);
    let block = TowerBlock::new(&source, SIZES)?;
    let causal = Block::new("clip text block", &source, tokens(), move |x| {
        block.forward_causal(&x[0])
    })?;

    let config = ClipVisionConfig {
        hidden_size: 128,
        intermediate_size: 192,
        projection_dim: 48,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        image_size: 28,
        patch_size: 7,
        ..ClipVisionConfig::vit_h_14()
    };
    let source = Source::fresh(3);
    let tower = ClipVision::new(&source, &config)?;
    let picture = vec![Input::new(&[2, 28, 28, 3], 1)];
    let vision = Block::new("clip vision tower", &source, picture, move |x| {
        tower.forward(&x[0])
    })?;
    Ok(vec![seeing, causal, vision])
}
