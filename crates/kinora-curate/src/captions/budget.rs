//! What may be spent on an endpoint, and whether it is still worth asking.

use super::NoCaption;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Hard limits on what one endpoint may cost in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Requests, repeated ones included.
    pub max_requests: Option<u64>,
    /// Tokens read and written together. What a request may need is set aside before it is sent, so
    /// the limit holds with many in flight; it is as exact as the server's own count.
    pub max_tokens: Option<u64>,
}

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Requests sent, repeated ones included.
    pub requests: u64,
    /// Tokens, as the server counts them, or as set aside where it does not say.
    pub tokens: u64,
}

/// The account of one endpoint, shared by all its threads.
#[derive(Debug)]
pub(super) struct Account {
    limits: Budget,
    failures_allowed: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    spent: Spent,
    set_aside: u64,
    largest_prompt: Option<u64>,
    failures_in_a_row: u32,
    closed: Option<String>,
}

/// Leave to send one request.
#[derive(Debug)]
pub(super) struct Leave {
    tokens: u64,
}

/// What a request turned out to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// The server said so.
    Told { prompt: u64, answer: u64 },
    /// The server answered without counting, or may have worked without our seeing the answer.
    Unknown,
    /// The server refused to work.
    Nothing,
}

impl Account {
    pub(super) fn new(limits: Budget, failures_allowed: u32) -> Self {
        Account {
            limits,
            failures_allowed,
            state: Mutex::default(),
        }
    }

    /// Leave to send a request whose prompt is guessed at `prompt_guess` tokens and whose answer has
    /// at most `answer_limit`.
    pub(super) fn leave(&self, prompt_guess: u64, answer_limit: u64) -> Result<Leave, NoCaption> {
        let mut state = self.lock();
        if let Some(reason) = &state.closed {
            return Err(NoCaption::Closed(reason.clone()));
        }
        if let Some(limit) = self.limits.max_requests
            && state.spent.requests >= limit
        {
            return Err(NoCaption::Budget(format!(
                "the {limit} requests of `budget.max_requests` are used up"
            )));
        }
        // What the server counted before is better than any guess of ours.
        let tokens = state.largest_prompt.unwrap_or(prompt_guess) + answer_limit;
        if let Some(limit) = self.limits.max_tokens
            && state.spent.tokens + state.set_aside + tokens > limit
        {
            return Err(NoCaption::Budget(format!(
                "of the {limit} tokens of `budget.max_tokens` {} are used and {} set aside for \
                 requests in flight; the next may need {tokens}",
                state.spent.tokens, state.set_aside
            )));
        }
        state.spent.requests += 1;
        state.set_aside += tokens;
        Ok(Leave { tokens })
    }

    /// Settles what was set aside.
    pub(super) fn settle(&self, leave: Leave, cost: Cost) {
        let mut state = self.lock();
        state.set_aside -= leave.tokens;
        state.spent.tokens += match cost {
            Cost::Told { prompt, answer } => {
                state.largest_prompt = state.largest_prompt.max(Some(prompt));
                prompt.saturating_add(answer)
            }
            Cost::Unknown => leave.tokens,
            Cost::Nothing => 0,
        };
    }

    /// The endpoint answered.
    pub(super) fn answered(&self) {
        self.lock().failures_in_a_row = 0;
    }

    /// The endpoint did not answer a question, however often it was asked.
    pub(super) fn failed(&self, reason: &str) {
        let mut state = self.lock();
        state.failures_in_a_row += 1;
        if state.failures_in_a_row >= self.failures_allowed && state.closed.is_none() {
            state.closed = Some(format!(
                "{} questions in a row had no answer, the last: {reason}",
                state.failures_in_a_row
            ));
        }
    }

    /// The endpoint is not to be asked again.
    pub(super) fn close(&self, reason: &str) {
        self.lock().closed.get_or_insert_with(|| reason.to_owned());
    }

    pub(super) fn spent(&self) -> Spent {
        self.lock().spent
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(max_requests: Option<u64>, max_tokens: Option<u64>) -> Account {
        let limits = Budget {
            max_requests,
            max_tokens,
        };
        Account::new(limits, 2)
    }

    #[test]
    fn requests_end_at_their_limit() {
        let account = account(Some(2), None);
        for _ in 0..2 {
            let leave = account.leave(10, 10).unwrap();
            account.settle(leave, Cost::Nothing);
        }
        assert!(matches!(account.leave(10, 10), Err(NoCaption::Budget(_))));
        assert_eq!(
            account.spent(),
            Spent {
                requests: 2,
                tokens: 0
            }
        );
    }

    #[test]
    fn tokens_in_flight_are_set_aside() {
        let account = account(None, Some(250));
        let first = account.leave(50, 50).unwrap();
        let second = account.leave(50, 50).unwrap();
        assert!(account.leave(50, 50).is_err());
        account.settle(
            first,
            Cost::Told {
                prompt: 70,
                answer: 10,
            },
        );
        // 80 spent, 100 in flight; the next may need the largest prompt seen and 50: 300 in all.
        let third = account.leave(1000, 50);
        assert!(third.is_err(), "{third:?}");
        account.settle(second, Cost::Nothing);
        let third = account.leave(1000, 50).unwrap();
        account.settle(third, Cost::Unknown);
        assert_eq!(
            account.spent(),
            Spent {
                requests: 3,
                tokens: 200
            }
        );
    }

    #[test]
    fn failures_in_a_row_close_it_and_an_answer_between_does_not() {
        let account = account(None, None);
        account.failed("busy");
        account.answered();
        account.failed("busy");
        assert!(account.leave(1, 1).is_ok());
        account.failed("gone");
        let closed = account.leave(1, 1).unwrap_err().to_string();
        assert!(
            closed.contains("2 questions in a row") && closed.contains("gone"),
            "{closed}"
        );
    }
}
