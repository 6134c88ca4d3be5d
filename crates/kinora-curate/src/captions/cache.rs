//! Answers kept from earlier runs, so that nothing is asked and paid for twice.

use crate::Result;

/// Answers by the content of their requests. Keys are hexadecimal; neither keys nor answers hold a
/// secret. Several threads use it at once.
pub trait AnswerCache: Sync {
    /// The answer kept under `key`, if there is one.
    fn get(&self, key: &str) -> Option<String>;

    /// Keeps `answer` under `key`.
    ///
    /// # Errors
    /// When it cannot be kept. The caption is used all the same.
    fn put(&self, key: &str, answer: &str) -> Result<()>;
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCache;

impl AnswerCache for NoCache {
    fn get(&self, _key: &str) -> Option<String> {
        None
    }

    fn put(&self, _key: &str, _answer: &str) -> Result<()> {
        Ok(())
    }
}
