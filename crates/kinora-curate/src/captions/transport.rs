//! One request to a server, and what its outcome means.

use super::EndpointSettings;
use super::budget::Cost;
use super::protocol::{Answer, answer_from, error_text, is_out_of_quota};
use super::retry::retry_after;
use kinora_model::http;
use std::time::Duration;
use ureq::http::{HeaderValue, Response, StatusCode};
use ureq::{Agent, Body};

/// A key that no message, log or debug print shows.
#[derive(Clone)]
pub(super) struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Secret")
    }
}

impl Secret {
    /// The text without the secret, which some servers repeat in their refusals.
    fn hidden_in(&self, text: String) -> String {
        if self.0.is_empty() {
            return text;
        }
        text.replace(&self.0, "[key]")
    }
}

/// What became of one request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The server answered: with an answer, or with something else for the reason given.
    Answered(Result<Answer, String>),
    /// Later it may be different.
    Later {
        reason: String,
        asked_for: Option<Duration>,
    },
    /// This question gets no answer here.
    Never(String),
    /// No question gets an answer here.
    Closed(String),
}

/// More than any caption, less than a file sent by mistake.
const MAX_BODY_BYTES: u64 = 4 << 20;

/// The way to one server.
#[derive(Debug)]
pub(super) struct Transport {
    agent: Agent,
    url: String,
    name: String,
    key_env: String,
    key: Option<Secret>,
}

impl Transport {
    pub(super) fn new(settings: &EndpointSettings, key: Option<Secret>) -> Transport {
        let name = settings.name().to_owned();
        // A redirect, which is not followed, would carry frames to a host that nobody named.
        let config = http::agent(&name)
            .max_idle_connections_per_host(settings.requests_in_flight)
            .timeout_global(Some(Duration::from_secs_f64(settings.timeout_s)));
        Transport {
            agent: config.build().new_agent(),
            url: settings.chat_url(),
            name,
            key_env: settings.key_env.clone().unwrap_or_default(),
            key,
        }
    }

    /// Sends one request; the outcome's words hold no secret.
    pub(super) fn send(&self, body: &[u8]) -> (Outcome, Cost) {
        let (outcome, cost) = match self.post(body) {
            Ok(response) => self.read(response),
            Err(failure) => (failed(&failure), Cost::Unknown),
        };
        let told = |reason: String| {
            let reason = format!("{}: {reason}", self.name);
            match &self.key {
                Some(key) => key.hidden_in(reason),
                None => reason,
            }
        };
        let outcome = match outcome {
            Outcome::Answered(answer) => Outcome::Answered(answer.map_err(told)),
            Outcome::Later { reason, asked_for } => Outcome::Later {
                reason: told(reason),
                asked_for,
            },
            Outcome::Never(reason) => Outcome::Never(told(reason)),
            Outcome::Closed(reason) => Outcome::Closed(told(reason)),
        };
        (outcome, cost)
    }

    fn post(&self, body: &[u8]) -> Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.post(&self.url);
        request = request.header("content-type", "application/json");
        if let Some(key) = &self.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.0))
                .expect("keys were checked when the endpoint was opened");
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        request.send(body)
    }

    fn read(&self, mut response: Response<Body>) -> (Outcome, Cost) {
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        let asked_for = header("retry-after").and_then(|value| retry_after(value, header("date")));
        let status = response.status();
        let content = response
            .body_mut()
            .with_config()
            .limit(MAX_BODY_BYTES)
            .read_to_vec();
        let content = match content {
            Ok(content) => content,
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                let reason = format!("the answer is larger than {MAX_BODY_BYTES} bytes");
                return (Outcome::Never(reason), Cost::Unknown);
            }
            Err(failure) => return (failed(&failure), Cost::Unknown),
        };
        if status.is_success() {
            let (answer, counted) = answer_from(&content);
            let cost = counted.map_or(Cost::Unknown, |(prompt, answer)| Cost::Told {
                prompt,
                answer,
            });
            return (Outcome::Answered(answer), cost);
        }
        (self.refused(status, &content, asked_for), Cost::Nothing)
    }

    /// What a status that is no success means.
    fn refused(&self, status: StatusCode, body: &[u8], asked_for: Option<Duration>) -> Outcome {
        let words = error_text(body);
        let number = status.as_u16();
        match number {
            429 | 402 | 403 if is_out_of_quota(body) => Outcome::Closed(format!(
                "{status}: {words}; the account has nothing left to spend"
            )),
            408 | 409 | 425 | 429 | 500..=599 => Outcome::Later {
                reason: format!("{status}: {words}"),
                asked_for,
            },
            300..=399 => Outcome::Closed(format!(
                "{status}: it sends us elsewhere, which is not followed; give the final address as \
                 `url`"
            )),
            401 | 403 if self.key.is_none() => Outcome::Closed(format!(
                "{status}: it asks for a key: put it into an environment variable and name that in \
                 `key_env`"
            )),
            401 | 403 => Outcome::Closed(format!(
                "{status}: {words}; see that the key in {} is right and may use the model",
                self.key_env
            )),
            402 => Outcome::Closed(format!("{status}: {words}")),
            404 | 405 => Outcome::Closed(format!(
                "{status}: {words}; see that `url` ends before /chat/completions and that the model \
                 is served there"
            )),
            _ => Outcome::Never(format!("{status}: {words}")),
        }
    }
}

/// What it means that no response came, or not the whole of it.
fn failed(failure: &ureq::Error) -> Outcome {
    let reason = match failure {
        ureq::Error::Timeout(_) => "it took longer than `timeout_s`".to_owned(),
        other => other.to_string(),
    };
    match failure {
        ureq::Error::BadUri(_) => Outcome::Closed("its address cannot be read".to_owned()),
        ureq::Error::Tls(_) => Outcome::Closed(reason),
        _ => Outcome::Later {
            reason,
            asked_for: None,
        },
    }
}
