//! What open_clip calls the arrays of a tower, and what transformers calls them.
//!
//! Three files hold towers of this kind: open_clip's own, the original file of Stable Video Diffusion
//! (its vision tower), and CoCa.

use super::keys::{leading_number, renamed};

/// What becomes of one array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// One array of the same values.
    Whole(String),
    /// A matrix that is held with its axes exchanged.
    Transposed(String),
    /// Three arrays, each a third of the rows: queries, keys, values.
    Thirds([String; 3]),
}

/// What a vision tower has outside its layers. The spelling `pre_layrnorm` is that of transformers.
const VISION_ENDS: [(&str, &str); 5] = [
    ("class_embedding", "embeddings.class_embedding"),
    ("conv1", "embeddings.patch_embedding"),
    (
        "positional_embedding",
        "embeddings.position_embedding.weight",
    ),
    ("ln_pre", "pre_layrnorm"),
    ("ln_post", "post_layernorm"),
];

/// What a text tower has outside its layers.
const TEXT_ENDS: [(&str, &str); 3] = [
    ("token_embedding", "embeddings.token_embedding"),
    (
        "positional_embedding",
        "embeddings.position_embedding.weight",
    ),
    ("ln_final", "final_layer_norm"),
];

/// An array of the vision tower, whose prefix `visual.` is off.
pub(super) fn vision(name: &str) -> Option<Put> {
    if name == "proj" {
        return Some(Put::Transposed("visual_projection.weight".to_owned()));
    }
    tower(name, "vision_model", &VISION_ENDS)
}

/// An array of the text tower.
pub(super) fn text(name: &str) -> Option<Put> {
    if name == "text_projection" {
        return Some(Put::Transposed("text_projection.weight".to_owned()));
    }
    tower(name, "text_model", &TEXT_ENDS)
}

fn tower(name: &str, model: &str, ends: &[(&str, &str)]) -> Option<Put> {
    let Some(rest) = name.strip_prefix("transformer.resblocks.") else {
        return Some(Put::Whole(format!("{model}.{}", renamed(name, ends)?)));
    };
    let (layer, rest) = leading_number(rest)?;
    block(&format!("{model}.encoder.layers.{layer}"), rest)
}

/// An array of the block that is called `layer` here.
pub(super) fn block(layer: &str, name: &str) -> Option<Put> {
    if let Some(kind) = name.strip_prefix("attn.in_proj_") {
        return Some(thirds(&format!("{layer}.self_attn"), kind));
    }
    let renamed = renamed(
        name,
        &[
            ("ln_1", "layer_norm1"),
            ("ln_2", "layer_norm2"),
            ("attn.out_proj", "self_attn.out_proj"),
            ("mlp.c_fc", "mlp.fc1"),
            ("mlp.c_proj", "mlp.fc2"),
        ],
    )?;
    Some(Put::Whole(format!("{layer}.{renamed}")))
}

/// The packed projections of an attention; `kind` is `weight` or `bias`.
pub(super) fn thirds(attention: &str, kind: &str) -> Put {
    Put::Thirds(['q', 'k', 'v'].map(|letter| format!("{attention}.{letter}_proj.{kind}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towers_are_those_of_transformers() {
        let whole = |name: &str| Some(Put::Whole(name.to_owned()));
        assert_eq!(
            vision("conv1.weight"),
            whole("vision_model.embeddings.patch_embedding.weight")
        );
        assert_eq!(
            text("positional_embedding"),
            whole("text_model.embeddings.position_embedding.weight")
        );
        assert_eq!(
            text("transformer.resblocks.11.mlp.c_proj.bias"),
            whole("text_model.encoder.layers.11.mlp.fc2.bias")
        );
        assert_eq!(
            text("text_projection"),
            Some(Put::Transposed("text_projection.weight".to_owned()))
        );
        let Some(Put::Thirds([q, _, v])) = vision("transformer.resblocks.0.attn.in_proj_weight")
        else {
            panic!("thirds")
        };
        assert_eq!(q, "vision_model.encoder.layers.0.self_attn.q_proj.weight");
        assert_eq!(v, "vision_model.encoder.layers.0.self_attn.v_proj.weight");
        assert_eq!(vision("transformer.resblocks.0.attn.rel_pos"), None);
        assert_eq!(vision("head.weight"), None);
    }
}
