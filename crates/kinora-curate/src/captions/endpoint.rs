//! An endpoint: questions in, captions out, several in flight.

use super::answer::caption_from;
use super::budget::{Account, Spent};
use super::protocol::{Answer, body_of, key_of, prompt_guess};
use super::retry::Backoff;
use super::transport::{Outcome, Secret, Transport};
use super::{AnswerCache, Caption, EndpointSettings, NoCaption};
use crate::{Error, Result};
use kinora_media::Rgb8Image;
use kinora_tensor::random::Philox;
use serde_json::json;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Raised when the way from a question to a request, or from an answer to a caption, changes.
const VERSION: u32 = 1;

/// What an endpoint is asked about.
#[derive(Clone, Debug)]
pub enum Question {
    /// One or several frames of a clip, in order.
    Frames(Vec<Rgb8Image>),
    /// The captions of the middle frame and of the clip, to be merged.
    Captions {
        /// Of the middle frame.
        image: String,
        /// Of the clip.
        video: String,
    },
}

/// What a question needs beside the endpoint.
pub struct Surroundings<'a> {
    /// Answers of earlier runs.
    pub cache: &'a dyn AnswerCache,
    /// Waits before a question is asked again: `&std::thread::sleep`, or anything else in a test.
    pub sleep: &'a (dyn Fn(Duration) + Sync),
    /// Where the chance in those waits comes from. Each question has a stream of its own, so the
    /// waits do not depend on the order of the threads.
    pub seed: u64,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Surroundings {{ seed: {} }}", self.seed)
    }
}

/// A server that answers questions about clips.
#[derive(Debug)]
pub struct Endpoint {
    settings: EndpointSettings,
    transport: Transport,
    account: Account,
}

impl Endpoint {
    /// Checks the settings and takes the key from the environment variable they name.
    ///
    /// # Errors
    /// When a setting makes no sense, or the variable is not set or holds no key.
    pub fn open(settings: EndpointSettings) -> Result<Endpoint> {
        let key = match &settings.key_env {
            None => None,
            Some(name) => Some(std::env::var(name).map_err(|_| {
                Error::Setting(format!(
                    "endpoint: the environment variable {name}, named in `key_env`, is not set; put \
                     the key of {} there",
                    settings.name()
                ))
            })?),
        };
        Self::with_key(settings, key)
    }

    /// As [`open`](Self::open), with the key given.
    ///
    /// # Errors
    /// When a setting makes no sense, or the key cannot be one.
    pub fn with_key(settings: EndpointSettings, key: Option<String>) -> Result<Endpoint> {
        settings.check()?;
        if !cfg!(feature = "https") && settings.url.starts_with("https:") {
            return Err(Error::Setting(format!(
                "endpoint: {} wants encryption, which this program was built without (the feature \
                 `https`); build it with, or use a server on this machine",
                settings.name()
            )));
        }
        let key = key.map(|key| key.trim().to_owned());
        if let Some(key) = &key
            && (key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(Error::Setting(format!(
                "endpoint: the key of {} is empty or has blanks or letters in it that no key has; \
                 copy it again",
                settings.name()
            )));
        }
        Ok(Endpoint {
            transport: Transport::new(&settings, key.map(Secret)),
            account: Account::new(settings.budget, settings.failures_in_a_row),
            settings,
        })
    }

    /// The settings.
    pub fn settings(&self) -> &EndpointSettings {
        &self.settings
    }

    /// What was spent so far.
    pub fn spent(&self) -> Spent {
        self.account.spent()
    }

    /// The judge's name in a cache and in the clip table.
    pub fn id(&self) -> &'static str {
        "endpoint"
    }

    /// What else but the settings decides the result.
    pub fn version(&self) -> String {
        format!("{VERSION}+{}", self.settings.model)
    }

    /// The settings that decide the result, as JSON: neither the address nor how patiently it is
    /// asked.
    pub fn params(&self) -> String {
        let settings = &self.settings;
        json!({
            "model": settings.model,
            "prompt": settings.prompt,
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "frames": settings.frames,
            "long_side_pixels": settings.long_side_pixels,
            "jpeg_quality": settings.jpeg_quality,
            "min_words": settings.min_words,
            "max_words": settings.max_words,
        })
        .to_string()
    }

    /// The caption that answers `question`: from the cache where it is there, else from the server,
    /// asked again while that may help.
    pub fn caption(&self, question: &Question, surroundings: &Surroundings<'_>) -> Caption {
        let body = body_of(&self.settings, question)?;
        let key = key_of(&body);
        let kept = surroundings.cache.get(&key);
        // What an older version kept and this one cannot read is asked again.
        if let Some(answer) = kept.and_then(|kept| serde_json::from_str::<Answer>(&kept).ok())
            && let Ok(caption) = self.made(&answer)
        {
            return Ok(caption);
        }
        let answer = self.ask(
            &body,
            &key,
            prompt_guess(&self.settings, question),
            surroundings,
        )?;
        let caption = self.made(&answer)?;
        // Only what became a caption is kept: what was refused may be better next time.
        let text = serde_json::to_string(&answer).expect("a text becomes JSON");
        if let Err(failure) = surroundings.cache.put(&key, &text) {
            tracing::warn!("a caption could not be kept for the next run: {failure}");
        }
        Ok(caption)
    }

    /// The captions that answer questions 0 to `count` − 1, in that order, with
    /// `requests_in_flight` of them asked at once. `question` makes a question when its turn comes,
    /// so that the frames of a large data set are never all in memory; an `Err` of it is the reason
    /// why there is none.
    pub fn captions(
        &self,
        count: usize,
        question: &(dyn Fn(usize) -> std::result::Result<Question, String> + Sync),
        surroundings: &Surroundings<'_>,
    ) -> Vec<Caption> {
        let captions: Vec<OnceLock<Caption>> = (0..count).map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(place) = captions.get(at) else {
                    return;
                };
                let caption = question(at)
                    .map_err(NoCaption::Question)
                    .and_then(|question| self.caption(&question, surroundings));
                place.set(caption).expect("every place is filled once");
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.settings.requests_in_flight.min(count) {
                scope.spawn(work);
            }
            work();
        });
        let filled = captions.into_iter().map(OnceLock::into_inner);
        filled
            .map(|caption| caption.expect("every place is filled"))
            .collect()
    }

    /// The caption in an answer.
    fn made(&self, answer: &Answer) -> Caption {
        let EndpointSettings {
            min_words,
            max_words,
            ..
        } = self.settings;
        caption_from(&answer.text, answer.is_cut, min_words, max_words)
    }

    /// Asks until there is an answer or no hope of one.
    fn ask(
        &self,
        body: &[u8],
        key: &str,
        prompt_guess: u64,
        surroundings: &Surroundings<'_>,
    ) -> std::result::Result<Answer, NoCaption> {
        let stream = u64::from_str_radix(&key[..16], 16).expect("keys are hexadecimal");
        let mut random = Philox::new(surroundings.seed, stream);
        let backoff = Backoff {
            first_s: self.settings.first_wait_s,
            longest_s: self.settings.longest_wait_s,
        };
        let mut attempt = 1;
        loop {
            let leave = self
                .account
                .leave(prompt_guess, u64::from(self.settings.max_tokens))?;
            let (outcome, cost) = self.transport.send(body);
            self.account.settle(leave, cost);
            let (reason, asked_for) = match outcome {
                Outcome::Later { reason, asked_for } => (reason, asked_for),
                Outcome::Closed(reason) => {
                    self.account.close(&reason);
                    return Err(NoCaption::Closed(reason));
                }
                Outcome::Never(reason) => {
                    self.account.answered();
                    return Err(NoCaption::Refused(reason));
                }
                Outcome::Answered(answer) => {
                    self.account.answered();
                    return answer.map_err(NoCaption::Refused);
                }
            };
            if attempt >= self.settings.attempts {
                return self.given_up(format!("{reason} (asked {attempt} times)"));
            }
            let Some(wait) = backoff.wait(attempt, asked_for, &mut random) else {
                return self.given_up(format!(
                    "{reason}; it asks to wait {:.0} s, longer than `longest_wait_s`",
                    asked_for.unwrap_or_default().as_secs_f64()
                ));
            };
            tracing::debug!("{reason}; asked again in {:.1} s", wait.as_secs_f64());
            (surroundings.sleep)(wait);
            attempt += 1;
        }
    }

    fn given_up(&self, reason: String) -> std::result::Result<Answer, NoCaption> {
        self.account.failed(&reason);
        Err(NoCaption::Unanswered(reason))
    }
}
