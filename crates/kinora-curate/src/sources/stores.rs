//! How object stores are reached: what the environment says of them, and how long they are waited for.

use std::collections::BTreeMap;
use std::time::Duration;

/// Variables of the environment that speak of a store begin so. A shorter name, such as `TOKEN` or
/// `REGION`, may be some other program's.
const PREFIXES: [&str; 2] = ["AWS_", "GOOGLE_"];

/// How object stores are reached. Its keys are in no message, no row and no log.
#[derive(Clone, Default)]
pub struct Stores {
    /// What the stores' own tools take from the environment: `AWS_ACCESS_KEY_ID`, `AWS_REGION`,
    /// `AWS_ENDPOINT`, `AWS_ALLOW_HTTP`, `GOOGLE_SERVICE_ACCOUNT`, `GOOGLE_BASE_URL`, …
    pub variables: BTreeMap<String, String>,
    /// How long they are waited for.
    pub patience: Patience,
}

/// How long a store is waited for, and how often it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How often a request that failed is made again.
    pub retries: usize,
    /// The wait before the first of these; the next ones are up to twice as long as the one before.
    pub first_wait: Duration,
    /// The longest of these waits.
    pub longest_wait: Duration,
    /// How long a store may send nothing in the middle of an answer.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            retries: 6,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(15),
            silence: Duration::from_secs(60),
        }
    }
}

impl Stores {
    /// As the environment of this process says.
    pub fn from_environment() -> Stores {
        // Not `vars`, which panics at a variable that is no UTF-8.
        let all = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
                .then_some((name, value))
        });
        Stores {
            variables: all.collect(),
            patience: Patience::default(),
        }
    }
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The names alone: values may be keys.
        f.debug_struct("Stores")
            .field("variables", &self.variables.keys())
            .field("patience", &self.patience)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_are_not_shown() {
        let mut stores = Stores::from_environment();
        let secret = ("AWS_SECRET_ACCESS_KEY".to_owned(), "xyzzy".to_owned());
        stores.variables.extend([secret]);
        let shown = format!("{stores:?}");
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY"), "{shown}");
        assert!(!shown.contains("xyzzy"), "{shown}");
        let speaks = |name: &String| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        assert!(stores.variables.keys().all(speaks));
    }
}
