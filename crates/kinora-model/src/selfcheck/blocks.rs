//! The blocks of all networks, small: heads are 64 wide as in the published model, channels few.

use super::Block;
use crate::{Result, clip, unet, vae};

pub(super) fn blocks() -> Result<Vec<Block>> {
    let mut blocks = unet::selfcheck_blocks()?;
    blocks.extend(vae::selfcheck_blocks()?);
    blocks.extend(clip::selfcheck_blocks()?);
    Ok(blocks)
}
