//! Which weights are trained: names with `*` for anything.
//!
//! The stages of Stable Video Diffusion differ in this, not in code: everything for most of them,
//! the time embedding alone for the first fine-tuning of the image model (`TIME_EMBEDDING`), and
//! the layers that see time when an image model is kept as it is (`TEMPORAL`).

use crate::{Error, Result};
use kinora_tensor::Param;
use std::path::Path;

/// One weight of a model under training.
#[derive(Clone, Debug)]
pub struct Weight {
    /// The folder of its network and its name there: `unet.conv_in.weight`.
    pub name: String,
    /// The place that holds it.
    pub param: Param,
}

/// The layers of a UNet that see time, as a configuration would list them.
pub const TEMPORAL: [&str; 4] = [
    "unet.*temporal_res_block.*",
    "unet.*temporal_transformer_blocks.*",
    "unet.*time_pos_embed.*",
    "unet.*time_mixer.*",
];

/// The embedding of the noise level.
pub const TIME_EMBEDDING: [&str; 1] = ["unet.time_embedding.*"];

/// Whether `name` is what `pattern` says, `*` standing for any run of characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            // Every later start is tried, so that `*a*b` finds its `a` wherever it stands.
            (0..=rest.len())
                .filter(|at| rest.is_char_boundary(*at))
                .any(|at| matches(tail, &rest[at..]))
        }),
    }
}

/// Lets the weights that any of `patterns` names be trained, freezes the others, and says how many
/// values are trained.
///
/// # Errors
/// When a pattern names nothing: it is a slip of the pen, and would leave something frozen unseen.
pub fn set_trainable(config: &Path, weights: &[Weight], patterns: &[String]) -> Result<usize> {
    for pattern in patterns {
        if !weights.iter().any(|weight| matches(pattern, &weight.name)) {
            let example = weights.first().map_or("", |weight| &weight.name);
            return Err(Error::config(
                config,
                format!(
                    "optimiser.trainable: `{pattern}` names no weight of this model; names look like `{example}`, and `*` stands for anything"
                ),
            ));
        }
    }
    let mut trained = 0;
    for Weight { name, param } in weights {
        let wanted = patterns.iter().any(|pattern| matches(pattern, name));
        param.set_trainable(wanted);
        if wanted {
            trained += param.get().elements();
        }
    }
    Ok(trained)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_tensor::Tensor;

    #[test]
    fn a_pattern_that_names_nothing_is_refused_and_the_others_decide() -> Result<()> {
        let weight = |name: &str| Weight {
            name: name.to_owned(),
            param: Param::new(Tensor::zeros([3])),
        };
        let weights = [weight("unet.conv_in.weight"), weight("vae.conv_in.weight")];
        let config = Path::new("run.toml");
        assert_eq!(set_trainable(config, &weights, &["unet.*".to_owned()])?, 3);
        assert!(weights[0].param.is_trainable() && !weights[1].param.is_trainable());
        let error = set_trainable(config, &weights, &["net.*".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("`net.*` names no weight"));
        Ok(())
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, expected) in [
            ("*", "unet.conv_in.weight", true),
            ("unet.*", "unet.conv_in.weight", true),
            ("unet.*", "vae.encoder.conv_in.weight", false),
            ("*.weight", "unet.conv_in.bias", false),
            ("unet.*.weight", "unet.a.weight.b.weight", true),
            ("*a*b", "xaab", true),
            ("*a*b", "xaabc", false),
            ("unet.conv_in.weight", "unet.conv_in.weight", true),
            ("unet.conv_in", "unet.conv_in.weight", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
