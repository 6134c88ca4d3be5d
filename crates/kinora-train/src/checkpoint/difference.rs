//! Whether a checkpoint was made under the configuration at hand.

use crate::config::{Config, Decay};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use toml::Value;

/// What may change between stopping and resuming: it moves no weight.
const FREE: [&str; 7] = [
    "start.",
    "run.report_every",
    "run.checkpoint_every",
    "run.keep_checkpoints",
    "run.sample_every",
    "run.sampling.",
    "run.recompute",
];

/// Refuses a checkpoint made under other numbers, naming the first that differs.
///
/// # Errors
/// When one differs, or the checkpoint's configuration cannot be read.
pub(super) fn check(checkpoint: &Path, config: &Config) -> Result<()> {
    let path = checkpoint.join("config.toml");
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let refuse = |message: String| Err(Error::checkpoint(checkpoint, message));
    let (before, now) = (flat(&text), flat(&config.to_toml()));
    let (before, now) = match (before, now) {
        (Ok(before), Ok(now)) => (before, now),
        (Err(error), _) | (_, Err(error)) => {
            return refuse(format!("config.toml cannot be read: {error}"));
        }
    };
    // Under a constant learning rate a longer run only goes on where the shorter one ended.
    let longer_is_free = config.optimiser.decay == Decay::Constant;
    let free = |key: &str| {
        FREE.iter().any(|free| key.starts_with(free)) || (key == "run.steps" && longer_is_free)
    };
    let keys = before.keys().chain(now.keys());
    for key in keys.filter(|key| !free(key)) {
        let (before, now) = (before.get(key), now.get(key));
        if before != now {
            let show = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
            return refuse(format!(
                "{key}: the checkpoint was made with {}, the configuration says {}; change it back, give another run folder, or begin a new run with start.continue_from",
                show(before),
                show(now)
            ));
        }
    }
    Ok(())
}

/// Every value of a TOML text by its dotted key.
pub(crate) fn flat(text: &str) -> std::result::Result<BTreeMap<String, Value>, String> {
    fn gather(key: String, value: Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Table(table) => {
                for (name, value) in table {
                    let dot = if key.is_empty() { "" } else { "." };
                    gather(format!("{key}{dot}{name}"), value, into);
                }
            }
            value => {
                into.insert(key, value);
            }
        }
    }
    let table: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut found = BTreeMap::new();
    gather(String::new(), Value::Table(table), &mut found);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../../../configs/small_autoencoder.toml");

    fn checked(change: impl FnOnce(&mut Config)) -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::parse(Path::new("small.toml"), TEXT)?;
        std::fs::write(folder.path().join("config.toml"), config.to_toml()).expect("written");
        change(&mut config);
        check(folder.path(), &config)
    }

    #[test]
    fn the_same_configuration_passes_and_so_does_what_moves_no_weight() -> Result<()> {
        checked(|_| ())?;
        checked(|config| config.run.report_every += 1)?;
        checked(|config| config.run.checkpoint_every += 1)?;
        checked(|config| {
            config.start.initialise_from = Some("elsewhere".into());
        })
    }

    #[test]
    fn the_difference_is_named() {
        let error = checked(|config| config.optimiser.learning_rate = 0.5).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("optimiser.learning_rate: the checkpoint was made with"),
            "{text}"
        );
        assert!(text.contains("the configuration says 0.5"), "{text}");
    }

    #[test]
    fn a_longer_run_is_another_run_unless_the_learning_rate_is_constant() {
        let cosine = Decay::Cosine { last_share: 0.1 };
        assert!(
            checked(|config| config.run.steps += 1).is_ok() || {
                let config = Config::parse(Path::new("small.toml"), TEXT).expect("parses");
                matches!(config.optimiser.decay, Decay::Cosine { .. })
            }
        );
        assert!(checked(|config| config.optimiser.decay = cosine).is_err());
    }
}
