//! What a store answered, in words that are the same at every run and hold no key.
//!
//! The texts of the library have addresses, times and whole answers in them; an answer of S3 to a wrong
//! signature repeats the key's name and all that was signed.

use crate::Error;
use crate::sources::Stores;
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error as _;

/// Values shorter than this are no keys, and may be words that a message needs.
const SHORTEST_KEY: usize = 8;

/// A refusal about an address.
pub(super) fn refused(
    address: &str,
    stores: &Stores,
) -> impl Fn(object_store::Error) -> Error + use<> {
    let (address, secrets) = (address.to_owned(), secrets(stores));
    let retries = stores.patience.retries;
    move |failure| {
        let mut words = words(&failure, retries);
        for secret in &secrets {
            words = words.replace(secret, "…");
        }
        Error::Setting(format!("{address}: {words}"))
    }
}

/// What may not be said: the value of every variable but those that tell a place.
fn secrets(stores: &Stores) -> Vec<String> {
    let tells_a_place = |name: &str| {
        ["REGION", "ENDPOINT", "URL"]
            .iter()
            .any(|part| name.contains(part))
    };
    let variables = stores.variables.iter();
    variables
        .filter(|(name, value)| !tells_a_place(name) && value.len() >= SHORTEST_KEY)
        .map(|(_, value)| value.clone())
        .collect()
}

fn words(failure: &object_store::Error, retries: usize) -> String {
    let answer = Answer::of(failure);
    if let Some(status) = answer.status {
        let code = answer
            .code
            .map(|code| format!(" {code}"))
            .unwrap_or_default();
        return match status {
            404 => format!("the store has nothing of this name ({status}{code})"),
            401 | 403 => format!(
                "the store refuses ({status}{code}); see the keys in the environment and what they may do"
            ),
            412 => "it changed in the store while it was copied; run the same command again".into(),
            301 | 307 | 308 => format!(
                "the store is elsewhere ({status}{code}); see the region and the endpoint in the environment"
            ),
            429 | 500.. => format!(
                "the store could not answer ({status}{code}), asked {} times; run the same command again later",
                retries + 1
            ),
            _ => format!("the store did not understand ({status}{code})"),
        };
    }
    match answer.broken {
        Some(HttpErrorKind::Timeout) => format!(
            "the store fell silent, asked {} times; run the same command again later",
            retries + 1
        ),
        Some(HttpErrorKind::Connect | HttpErrorKind::Request) => {
            "the store cannot be reached; see the network and the endpoint in the environment"
                .into()
        }
        Some(_) => format!(
            "the answer of the store broke off, asked {} times; run the same command again later",
            retries + 1
        ),
        None => other(failure),
    }
}

/// A failure of the library's own, such as a setting it does not understand: the innermost words.
fn other(failure: &object_store::Error) -> String {
    let mut inner: &dyn std::error::Error = failure;
    while let Some(deeper) = inner.source() {
        inner = deeper;
    }
    inner.to_string()
}

/// What can be told of a failed request.
#[derive(Default)]
struct Answer {
    status: Option<u16>,
    /// S3's own word for it.
    code: Option<String>,
    broken: Option<HttpErrorKind>,
}

impl Answer {
    fn of(failure: &object_store::Error) -> Answer {
        let mut answer = Answer::default();
        let mut link = failure.source();
        while let Some(inner) = link {
            if let Some(http) = inner.downcast_ref::<HttpError>() {
                answer.broken = Some(http.kind());
            }
            // The type that has the status is private to the library; its words are steady.
            answer.read(&inner.to_string());
            link = inner.source();
        }
        answer
    }

    fn read(&mut self, text: &str) {
        let after = |mark: &str| text.split_once(mark).map(|(_, rest)| rest);
        if let Some(rest) = after("non-2xx status code: ") {
            self.status = rest.get(..3).and_then(|digits| digits.parse().ok());
        }
        let code = after("<Code>").and_then(|rest| rest.split_once("</Code>"));
        let plain =
            |code: &str| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric());
        if let Some((code, _)) = code.filter(|(code, _)| plain(code)) {
            self.code = Some(code.to_owned());
        }
    }
}
