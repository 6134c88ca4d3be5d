//! The settings of a UNet as a file spells them.

use super::config::{LevelKind, NormEps, UNetConfig};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The settings in a file's spelling: one value for all levels, or one for each.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    sample_size: Option<usize>,
    in_channels: usize,
    out_channels: usize,
    down_block_types: Vec<DownKind>,
    up_block_types: Vec<UpKind>,
    block_out_channels: Vec<usize>,
    addition_time_embed_dim: usize,
    projection_class_embeddings_input_dim: usize,
    layers_per_block: PerLevel,
    cross_attention_dim: PerLevel,
    transformer_layers_per_block: PerLevel,
    num_attention_heads: PerLevel,
    num_frames: usize,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum DownKind {
    #[serde(rename = "DownBlockSpatioTemporal")]
    Plain,
    #[serde(rename = "CrossAttnDownBlockSpatioTemporal")]
    Attends,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum UpKind {
    #[serde(rename = "UpBlockSpatioTemporal")]
    Plain,
    #[serde(rename = "CrossAttnUpBlockSpatioTemporal")]
    Attends,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PerLevel {
    One(usize),
    Each(Vec<usize>),
}

impl PerLevel {
    fn spread(self, levels: usize) -> Vec<usize> {
        match self {
            PerLevel::One(value) => vec![value; levels],
            PerLevel::Each(values) => values,
        }
    }

    fn gathered(values: Vec<usize>) -> Self {
        match values.as_slice() {
            [first, rest @ ..] if rest.iter().all(|v| v == first) => PerLevel::One(*first),
            _ => PerLevel::Each(values),
        }
    }
}

impl Default for File {
    fn default() -> Self {
        UNetConfig::image_to_video(25).into()
    }
}

impl TryFrom<File> for UNetConfig {
    type Error = Error;

    fn try_from(file: File) -> Result<Self> {
        let levels = file.block_out_channels.len();
        let down = file.down_block_types.iter().map(|kind| match kind {
            DownKind::Plain => LevelKind::Plain,
            DownKind::Attends => LevelKind::Attends,
        });
        let up = file.up_block_types.iter().map(|kind| match kind {
            UpKind::Plain => LevelKind::Plain,
            UpKind::Attends => LevelKind::Attends,
        });
        let config = UNetConfig {
            sample_size: file.sample_size,
            in_channels: file.in_channels,
            out_channels: file.out_channels,
            down_block_types: down.collect(),
            up_block_types: up.collect(),
            block_out_channels: file.block_out_channels,
            addition_time_embed_dim: file.addition_time_embed_dim,
            projection_class_embeddings_input_dim: file.projection_class_embeddings_input_dim,
            layers_per_block: file.layers_per_block.spread(levels),
            cross_attention_dim: file.cross_attention_dim.spread(levels),
            transformer_layers_per_block: file.transformer_layers_per_block.spread(levels),
            num_attention_heads: file.num_attention_heads.spread(levels),
            num_frames: file.num_frames,
            norm_eps: NormEps::Diffusers,
        };
        config.check()?;
        Ok(config)
    }
}

impl From<UNetConfig> for File {
    fn from(config: UNetConfig) -> Self {
        let down = config.down_block_types.iter().map(|kind| match kind {
            LevelKind::Plain => DownKind::Plain,
            LevelKind::Attends => DownKind::Attends,
        });
        let up = config.up_block_types.iter().map(|kind| match kind {
            LevelKind::Plain => UpKind::Plain,
            LevelKind::Attends => UpKind::Attends,
        });
        File {
            sample_size: config.sample_size,
            in_channels: config.in_channels,
            out_channels: config.out_channels,
            down_block_types: down.collect(),
            up_block_types: up.collect(),
            block_out_channels: config.block_out_channels,
            addition_time_embed_dim: config.addition_time_embed_dim,
            projection_class_embeddings_input_dim: config.projection_class_embeddings_input_dim,
            layers_per_block: PerLevel::gathered(config.layers_per_block),
            cross_attention_dim: PerLevel::gathered(config.cross_attention_dim),
            transformer_layers_per_block: PerLevel::gathered(config.transformer_layers_per_block),
            num_attention_heads: PerLevel::gathered(config.num_attention_heads),
            num_frames: config.num_frames,
        }
    }
}
