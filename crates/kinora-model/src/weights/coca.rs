//! CoCa, opened: open_clip's single file.

use super::clip::{config_beside, open_clip_file, renamed_archive};
use super::clip_keys::{self, Put, thirds};
use super::keys::{leading_number, renamed};
use super::open_clip_config;
use super::part::{Opening, Part};
use crate::judges::coca::CocaConfig;
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// Opens CoCa: open_clip's weights file, or the folder that holds it. The settings are in
/// `open_clip_config.json` beside it; a file without is taken for `coca_ViT-L-14`.
///
/// # Errors
/// When it is another file, broken, or does not fit its settings; the text names the file, the array
/// and the remedy.
pub fn open_coca_model(path: impl AsRef<Path>, opening: &Opening) -> Result<Part<CocaConfig>> {
    let path = path.as_ref();
    let found = std::fs::metadata(path).map_err(|error| Error::io(path, "open", error))?;
    let file = match (found.is_dir(), open_clip_file(path)?) {
        (false, _) => path.to_owned(),
        (true, Some(file)) => file,
        (true, None) => {
            return Err(Error::file(
                path,
                "expected a file open_clip*.safetensors in this folder; published CoCa weights may be \
                 a pickle (open_clip_pytorch_model.bin): convert it to safetensors and give the file",
            ));
        }
    };
    let config = match config_beside(&file)? {
        Some(config) => CocaConfig::from_open_clip(&config)
            .map_err(|message| Error::file(file.with_file_name(open_clip_config::FILE), message))?,
        None => CocaConfig::vit_l_14(),
    };
    config.check()?;
    Ok(Part {
        config,
        archive: Arc::new(renamed_archive(&file, opening, place)?),
    })
}

/// What becomes of the array `name`.
fn place(name: &str) -> Option<Option<Put>> {
    let whole = |name: &str| Some(Put::Whole(name.to_owned()));
    let put = match name {
        "logit_scale" => whole(name),
        "text.cls_emb" => whole("text_model.embeddings.class_embedding"),
        "text_decoder.text_projection" => {
            Some(Put::Transposed("text_decoder.output.weight".to_owned()))
        }
        // The causal masks, which older releases saved.
        "text.attn_mask" | "text_decoder.attn_mask" => return Some(None),
        _ => None,
    };
    if put.is_some() {
        return Some(put);
    }
    let put = if let Some(rest) = name.strip_prefix("visual.attn_pool.") {
        pooler(rest)
    } else if let Some(rest) = name.strip_prefix("visual.") {
        clip_keys::vision(rest)
    } else if let Some(rest) = name.strip_prefix("text_decoder.") {
        decoder(rest)
    } else {
        clip_keys::text(name.strip_prefix("text.")?)
    };
    put.map(Some)
}

/// The projections are packed where the picture's tokens are as wide as the queries.
fn pooler(name: &str) -> Option<Put> {
    if let Some(kind) = name.strip_prefix("attn.in_proj_") {
        return Some(thirds("attn_pool.attn", kind));
    }
    let renamed = renamed(
        name,
        &[
            ("query", "query"),
            ("ln_q", "ln_q"),
            ("ln_k", "ln_k"),
            ("attn.q_proj_weight", "attn.q_proj.weight"),
            ("attn.k_proj_weight", "attn.k_proj.weight"),
            ("attn.v_proj_weight", "attn.v_proj.weight"),
            ("attn.out_proj", "attn.out_proj"),
        ],
    )?;
    Some(Put::Whole(format!("attn_pool.{renamed}")))
}

fn decoder(name: &str) -> Option<Put> {
    if let Some(rest) = name.strip_prefix("resblocks.") {
        let (layer, rest) = leading_number(rest)?;
        return clip_keys::block(&format!("text_decoder.layers.{layer}"), rest);
    }
    if let Some(rest) = name.strip_prefix("cross_attn.") {
        let (layer, rest) = leading_number(rest)?;
        let layer = format!("text_decoder.cross_layers.{layer}");
        return match rest.strip_prefix("ln_1_kv.") {
            Some(rest) => Some(Put::Whole(format!("{layer}.layer_norm1_kv.{rest}"))),
            None => clip_keys::block(&layer, rest),
        };
    }
    let renamed = renamed(name, &[("ln_final", "final_layer_norm")])?;
    Some(Put::Whole(format!("text_decoder.{renamed}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_array_has_its_place() {
        for (name, expected) in [
            ("visual.attn_pool.query", "attn_pool.query"),
            (
                "visual.attn_pool.attn.k_proj_weight",
                "attn_pool.attn.k_proj.weight",
            ),
            ("visual.ln_post.bias", "vision_model.post_layernorm.bias"),
            (
                "text.transformer.resblocks.2.ln_2.weight",
                "text_model.encoder.layers.2.layer_norm2.weight",
            ),
            (
                "text_decoder.cross_attn.3.ln_1_kv.weight",
                "text_decoder.cross_layers.3.layer_norm1_kv.weight",
            ),
            (
                "text_decoder.cross_attn.3.ln_1.weight",
                "text_decoder.cross_layers.3.layer_norm1.weight",
            ),
            (
                "text_decoder.ln_final.bias",
                "text_decoder.final_layer_norm.bias",
            ),
        ] {
            assert_eq!(
                place(name),
                Some(Some(Put::Whole(expected.to_owned()))),
                "{name}"
            );
        }
        assert_eq!(place("text.attn_mask"), Some(None));
        assert_eq!(place("visual.attn_pool_contrastive.query"), None);
        assert_eq!(place("token_embedding.weight"), None);
    }
}
