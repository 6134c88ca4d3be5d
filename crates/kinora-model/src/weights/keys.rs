//! What the original single file calls each array, and what diffusers calls it.
//!
//! The original file holds a whole training program: the UNet, a CLIP tower of which only the
//! picture half is used, a stock autoencoder that encodes the condition frame, and a second one
//! whose decoder is the temporal one. The parts Kinora runs are taken under the names diffusers
//! gives them; the parts it does not are known by name and left out; anything else is a stranger.

use super::clip_keys::{self, Put};

/// The network an array belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Network {
    UNet,
    Vae,
    ImageEncoder,
}

/// What becomes of one array of the original file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One array of the same values.
    Whole(Network, String),
    /// A 1×1 convolution that diffusers holds as a matrix.
    Squeezed(Network, String),
    /// A matrix that diffusers holds with its axes exchanged.
    Transposed(Network, String),
    /// Three arrays, each a third of the rows: queries, keys, values.
    Thirds(Network, [String; 3]),
    /// Known, and not used by any network here.
    LeftOut,
}

const UNET: &str = "model.diffusion_model.";
const CLIP: &str = "conditioner.embedders.0.open_clip.model.";
const CONDITION_VAE: &str = "conditioner.embedders.3.encoder.";
const FIRST_STAGE: &str = "first_stage_model.";

/// Whether a file with these names is an original single file.
pub(super) fn is_original<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.any(|name| name.starts_with(UNET))
}

/// What the decoder of the first stage is like, told from the names of the whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decoder {
    /// Whether it mixes frames. The `image_decoder` files hold the stock decoder.
    pub(super) temporal: bool,
    /// The file counts levels from the finest, diffusers from the coarsest.
    pub(super) levels: usize,
}

impl Decoder {
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Decoder {
        let mut decoder = Decoder {
            temporal: false,
            levels: 0,
        };
        for name in names {
            let Some(rest) = name.strip_prefix("first_stage_model.decoder.") else {
                continue;
            };
            decoder.temporal |= rest.ends_with("mix_factor");
            let level = rest.strip_prefix("up.").and_then(leading_number);
            if let Some((level, _)) = level {
                decoder.levels = decoder.levels.max(level + 1);
            }
        }
        decoder
    }
}

/// What becomes of the array `name` of the original file; nothing is known of a stranger.
pub(super) fn place(name: &str, decoder: Decoder) -> Option<Place> {
    use Network::{UNet, Vae};
    if let Some(rest) = name.strip_prefix(UNET) {
        return Some(Place::Whole(UNet, unet(rest)?));
    }
    if let Some(rest) = name.strip_prefix(CLIP) {
        return match rest.strip_prefix("visual.") {
            Some(rest) => clip(rest),
            None => is_text_tower(rest).then_some(Place::LeftOut),
        };
    }
    if let Some(rest) = name.strip_prefix(CONDITION_VAE) {
        // This autoencoder only encodes.
        return match head(rest) {
            "encoder" => vae_place(encoder(rest.strip_prefix("encoder.")?)?),
            "quant_conv" => Some(Place::Whole(Vae, rest.to_owned())),
            "decoder" | "post_quant_conv" => Some(Place::LeftOut),
            _ => None,
        };
    }
    let rest = name.strip_prefix(FIRST_STAGE)?;
    // And this one only decodes.
    match head(rest) {
        "decoder" => vae_place(decoder_name(rest.strip_prefix("decoder.")?, decoder)?),
        "post_quant_conv" => Some(Place::Whole(Vae, rest.to_owned())),
        "encoder" | "quant_conv" => Some(Place::LeftOut),
        _ => None,
    }
}

/// The attention in the middle of both coders is a 1×1 convolution there, a matrix here.
fn vae_place(name: String) -> Option<Place> {
    Some(
        if name.contains(".attentions.0.to_") && name.ends_with(".weight") {
            Place::Squeezed(Network::Vae, name)
        } else {
            Place::Whole(Network::Vae, name)
        },
    )
}

/// Blocks of one level, in the lists of blocks: two with a residual block and one that changes the
/// size on the way down, three with a residual block on the way up.
const BLOCKS_PER_LEVEL: usize = 3;

/// What the UNet has outside its lists of blocks.
const UNET_ENDS: [(&str, &str); 6] = [
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
];

fn unet(name: &str) -> Option<String> {
    let lists = ["input_blocks.", "middle_block.", "output_blocks."];
    let Some(list) = lists.iter().find(|list| name.starts_with(**list)) else {
        return renamed(name, &UNET_ENDS);
    };
    let (index, rest) = leading_number(&name[list.len()..])?;
    if *list == "middle_block." {
        return match index {
            0 => Some(format!("mid_block.resnets.0.{}", unet_res_block(rest)?)),
            1 => Some(format!(
                "mid_block.attentions.0.{}",
                unet_transformer(rest)?
            )),
            2 => Some(format!("mid_block.resnets.1.{}", unet_res_block(rest)?)),
            _ => None,
        };
    }
    let (part, rest) = leading_number(rest)?;
    if *list == "output_blocks." {
        let (level, layer) = (index / BLOCKS_PER_LEVEL, index % BLOCKS_PER_LEVEL);
        return up_or_down(&format!("up_blocks.{level}"), layer, part, rest);
    }
    if index == 0 {
        return (part == 0).then(|| format!("conv_in.{rest}"));
    }
    let (level, layer) = (
        (index - 1) / BLOCKS_PER_LEVEL,
        (index - 1) % BLOCKS_PER_LEVEL,
    );
    up_or_down(&format!("down_blocks.{level}"), layer, part, rest)
}

/// One array of the `layer`th block of a level; `part` counts what the block holds.
fn up_or_down(level: &str, layer: usize, part: usize, rest: &str) -> Option<String> {
    if let Some(rest) = rest.strip_prefix("op.") {
        return Some(format!("{level}.downsamplers.0.conv.{rest}"));
    }
    if let Some(rest) = rest.strip_prefix("conv.") {
        return Some(format!("{level}.upsamplers.0.conv.{rest}"));
    }
    match part {
        0 => Some(format!("{level}.resnets.{layer}.{}", unet_res_block(rest)?)),
        1 => Some(format!(
            "{level}.attentions.{layer}.{}",
            unet_transformer(rest)?
        )),
        _ => None,
    }
}

fn unet_res_block(name: &str) -> Option<String> {
    if name == "time_mixer.mix_factor" {
        return Some(name.to_owned());
    }
    match name.strip_prefix("time_stack.") {
        Some(rest) => Some(format!("temporal_res_block.{}", sequential(rest)?)),
        None => Some(format!("spatial_res_block.{}", sequential(name)?)),
    }
}

/// A residual block that the original code writes as lists of layers.
fn sequential(name: &str) -> Option<String> {
    renamed(
        name,
        &[
            ("in_layers.0", "norm1"),
            ("in_layers.2", "conv1"),
            ("emb_layers.1", "time_emb_proj"),
            ("out_layers.0", "norm2"),
            ("out_layers.3", "conv2"),
            ("skip_connection", "conv_shortcut"),
        ],
    )
}

fn unet_transformer(name: &str) -> Option<String> {
    renamed(
        name,
        &[
            ("time_stack", "temporal_transformer_blocks"),
            ("time_pos_embed.0", "time_pos_embed.linear_1"),
            ("time_pos_embed.2", "time_pos_embed.linear_2"),
            ("time_mixer.mix_factor", "time_mixer.mix_factor"),
            ("transformer_blocks", "transformer_blocks"),
            ("norm", "norm"),
            ("proj_in", "proj_in"),
            ("proj_out", "proj_out"),
        ],
    )
}

fn encoder(name: &str) -> Option<String> {
    let renamed = match name.strip_prefix("down.") {
        None => coder_ends(name, false)?,
        Some(rest) => {
            let (level, rest) = leading_number(rest)?;
            match rest.strip_prefix("block.") {
                None => {
                    let rest = rest.strip_prefix("downsample.conv.")?;
                    format!("down_blocks.{level}.downsamplers.0.conv.{rest}")
                }
                Some(rest) => {
                    let (layer, rest) = leading_number(rest)?;
                    let rest = vae_res_block(rest, false)?;
                    format!("down_blocks.{level}.resnets.{layer}.{rest}")
                }
            }
        }
    };
    Some(format!("encoder.{renamed}"))
}

fn decoder_name(name: &str, decoder: Decoder) -> Option<String> {
    let renamed = match name.strip_prefix("up.") {
        None => coder_ends(name, decoder.temporal)?,
        Some(rest) => {
            let (level, rest) = leading_number(rest)?;
            let level = (decoder.levels - 1).checked_sub(level)?;
            match rest.strip_prefix("block.") {
                None => {
                    let rest = rest.strip_prefix("upsample.conv.")?;
                    format!("up_blocks.{level}.upsamplers.0.conv.{rest}")
                }
                Some(rest) => {
                    let (layer, rest) = leading_number(rest)?;
                    let rest = vae_res_block(rest, decoder.temporal)?;
                    format!("up_blocks.{level}.resnets.{layer}.{rest}")
                }
            }
        }
    };
    Some(format!("decoder.{renamed}"))
}

/// What both coders have outside their levels.
fn coder_ends(name: &str, temporal: bool) -> Option<String> {
    if let Some(rest) = name.strip_prefix("mid.block_") {
        let (number, rest) = leading_number(rest)?;
        let index = number.checked_sub(1)?;
        return Some(format!(
            "mid_block.resnets.{index}.{}",
            vae_res_block(rest, temporal)?
        ));
    }
    renamed(
        name,
        &[
            ("conv_out.time_mix_conv", "time_conv_out"),
            ("conv_in", "conv_in"),
            ("conv_out", "conv_out"),
            ("norm_out", "conv_norm_out"),
            ("mid.attn_1.norm", "mid_block.attentions.0.group_norm"),
            ("mid.attn_1.q", "mid_block.attentions.0.to_q"),
            ("mid.attn_1.k", "mid_block.attentions.0.to_k"),
            ("mid.attn_1.v", "mid_block.attentions.0.to_v"),
            ("mid.attn_1.proj_out", "mid_block.attentions.0.to_out.0"),
        ],
    )
}

fn vae_res_block(name: &str, temporal: bool) -> Option<String> {
    if let Some(rest) = name.strip_prefix("time_stack.") {
        return Some(format!("temporal_res_block.{}", sequential(rest)?));
    }
    if name == "mix_factor" {
        return Some("time_mixer.mix_factor".to_owned());
    }
    let kept = ["norm1", "conv1", "norm2", "conv2"].map(|layer| (layer, layer));
    let name =
        renamed(name, &kept).or_else(|| renamed(name, &[("nin_shortcut", "conv_shortcut")]))?;
    Some(if temporal {
        format!("spatial_res_block.{name}")
    } else {
        name
    })
}

fn clip(name: &str) -> Option<Place> {
    use Network::ImageEncoder;
    Some(match clip_keys::vision(name)? {
        Put::Whole(name) => Place::Whole(ImageEncoder, name),
        Put::Transposed(name) => Place::Transposed(ImageEncoder, name),
        Put::Thirds(names) => Place::Thirds(ImageEncoder, names),
    })
}

/// What the file keeps of CLIP's text half. Its transformer was deleted before the model was saved;
/// files that were put together again may have it.
fn is_text_tower(name: &str) -> bool {
    const NAMES: [&str; 6] = [
        "token_embedding",
        "positional_embedding",
        "ln_final",
        "text_projection",
        "logit_scale",
        "transformer",
    ];
    NAMES.contains(&head(name))
}

/// The name with its beginning exchanged, by the first entry whose left side is the name or is
/// followed by a dot.
pub(super) fn renamed(name: &str, table: &[(&str, &str)]) -> Option<String> {
    table.iter().find_map(|(from, to)| {
        let rest = name.strip_prefix(from)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{to}{rest}"))
    })
}

/// The text before the first dot.
fn head(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// `12.rest` as 12 and `rest`.
pub(super) fn leading_number(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPORAL: Decoder = Decoder {
        temporal: true,
        levels: 4,
    };

    fn check(name: &str, expected: &str) {
        match place(name, TEMPORAL) {
            Some(Place::Whole(_, found) | Place::Squeezed(_, found)) => assert_eq!(found, expected),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn the_ends_of_every_list_of_blocks() {
        let (input, output) = (
            format!("{UNET}input_blocks"),
            format!("{UNET}output_blocks"),
        );
        check(&format!("{input}.0.0.weight"), "conv_in.weight");
        check(
            &format!("{input}.1.0.in_layers.2.weight"),
            "down_blocks.0.resnets.0.spatial_res_block.conv1.weight",
        );
        check(
            &format!("{input}.9.0.op.bias"),
            "down_blocks.2.downsamplers.0.conv.bias",
        );
        check(
            &format!("{input}.11.0.time_stack.out_layers.3.bias"),
            "down_blocks.3.resnets.1.temporal_res_block.conv2.bias",
        );
        check(
            &format!("{output}.2.1.conv.weight"),
            "up_blocks.0.upsamplers.0.conv.weight",
        );
        check(
            &format!("{output}.8.2.conv.weight"),
            "up_blocks.2.upsamplers.0.conv.weight",
        );
        check(
            &format!("{output}.11.1.time_stack.0.ff_in.net.0.proj.weight"),
            "up_blocks.3.attentions.2.temporal_transformer_blocks.0.ff_in.net.0.proj.weight",
        );
        check(
            &format!("{UNET}middle_block.1.time_pos_embed.2.bias"),
            "mid_block.attentions.0.time_pos_embed.linear_2.bias",
        );
    }

    #[test]
    fn the_decoder_counts_its_levels_the_other_way() {
        check(
            "first_stage_model.decoder.up.3.block.0.mix_factor",
            "decoder.up_blocks.0.resnets.0.time_mixer.mix_factor",
        );
        check(
            "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight",
            "decoder.up_blocks.3.resnets.0.spatial_res_block.conv_shortcut.weight",
        );
        check(
            "first_stage_model.decoder.conv_out.time_mix_conv.weight",
            "decoder.time_conv_out.weight",
        );
        check(
            "first_stage_model.decoder.conv_out.weight",
            "decoder.conv_out.weight",
        );
        let stock = Decoder {
            temporal: false,
            levels: 4,
        };
        assert_eq!(
            place("first_stage_model.decoder.up.1.block.2.norm2.bias", stock),
            Some(Place::Whole(
                Network::Vae,
                "decoder.up_blocks.2.resnets.2.norm2.bias".to_owned()
            ))
        );
    }

    #[test]
    fn the_text_half_is_known_and_a_stranger_is_not() {
        let place = |name: &str| place(name, TEMPORAL);
        assert_eq!(
            place(&format!("{CLIP}token_embedding.weight")),
            Some(Place::LeftOut)
        );
        assert_eq!(place(&format!("{CLIP}logit_scale")), Some(Place::LeftOut));
        assert_eq!(
            place(&format!("{CONDITION_VAE}decoder.conv_in.bias")),
            Some(Place::LeftOut)
        );
        assert_eq!(
            place(&format!("{FIRST_STAGE}encoder.conv_in.bias")),
            Some(Place::LeftOut)
        );
        for name in [
            "model_ema.decay".to_owned(),
            format!("{CLIP}visual.head.weight"),
            format!("{UNET}input_blocks.0.1.weight"),
            format!("{UNET}output_blocks.3.2.in_layers.0.weight"),
            format!("{FIRST_STAGE}decoder.up.9.block.0.norm1.weight"),
            format!("{FIRST_STAGE}decoder.mid.block_0.norm1.weight"),
        ] {
            assert_eq!(place(&name), None, "{name}");
        }
    }
}
