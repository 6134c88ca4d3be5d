//! How an endpoint is asked.

use super::Budget;
use crate::{Error, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// What is asked about one frame.
const ABOUT_A_FRAME: &str = "Describe this frame of a video in one sentence of 8 to 40 words: who or \
     what is in it, what it looks like, where it is, and how it is lit and framed. Say only what can \
     be seen. Answer with the sentence alone.";

/// What is asked about several frames.
const ABOUT_A_CLIP: &str = "These are frames of one short video clip, in the order of time. Describe \
     in one or two sentences of 10 to 60 words together what happens: who moves and how, what changes, \
     and whether the camera moves. Speak of the clip, not of single frames. Answer with the \
     description alone.";

/// What is asked about two captions.
const ABOUT_TWO_CAPTIONS: &str = "You are given two captions of the same short video clip. The first \
     was written from one still frame, the second from the whole clip. Write one caption that makes \
     use of both: things, looks and place from the first, movement and events from the second. Where \
     they contradict each other, keep what is more plausible; add nothing that neither says. Answer \
     with the caption alone, one paragraph of 15 to 80 words, without quotation marks.";

/// The name under which a server takes the limit on tokens of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenField {
    /// What most servers take.
    #[default]
    MaxTokens,
    /// What hosted reasoning models take instead.
    MaxCompletionTokens,
}

/// A server that speaks OpenAI's chat protocol, and what is asked of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSettings {
    /// Its address up to and with `/v1`, `http://localhost:8000/v1` for example.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// What is asked.
    pub prompt: String,
    /// How freely the model chooses its words; 0 for the likeliest.
    #[serde(default)]
    pub temperature: f32,
    /// The most tokens of an answer.
    #[serde(default = "max_tokens")]
    pub max_tokens: u32,
    /// The name under which the server takes that limit.
    #[serde(default)]
    pub token_field: TokenField,
    /// Frames shown; 0 where texts are merged.
    pub frames: usize,
    /// Frames are shrunk to this many pixels on the longer side.
    #[serde(default = "long_side_pixels")]
    pub long_side_pixels: usize,
    /// Quality of the JPEGs sent, 1 to 100.
    #[serde(default = "jpeg_quality")]
    pub jpeg_quality: u8,
    /// Fewer words are no caption.
    pub min_words: usize,
    /// Longer captions are cut after their last whole sentence within this many words.
    pub max_words: usize,
    /// The environment variable that holds the key; none where the server asks for none.
    #[serde(default)]
    pub key_env: Option<String>,
    /// Requests in flight at once.
    #[serde(default = "requests_in_flight")]
    pub requests_in_flight: usize,
    /// How often one question is asked at most.
    #[serde(default = "attempts")]
    pub attempts: u32,
    /// A request may take this long, seconds.
    #[serde(default = "timeout_s")]
    pub timeout_s: f64,
    /// The first wait before a question is asked again, seconds; each further one is twice as long.
    #[serde(default = "first_wait_s")]
    pub first_wait_s: f64,
    /// The longest wait, seconds. A server that asks for more is not waited for.
    #[serde(default = "longest_wait_s")]
    pub longest_wait_s: f64,
    /// After so many questions in a row without an answer the endpoint is no longer asked.
    #[serde(default = "failures_in_a_row")]
    pub failures_in_a_row: u32,
    /// What may be spent.
    #[serde(default)]
    pub budget: Budget,
}

fn max_tokens() -> u32 {
    200
}

fn long_side_pixels() -> usize {
    768
}

fn jpeg_quality() -> u8 {
    90
}

fn requests_in_flight() -> usize {
    8
}

fn attempts() -> u32 {
    5
}

fn timeout_s() -> f64 {
    120.0
}

fn first_wait_s() -> f64 {
    1.0
}

fn longest_wait_s() -> f64 {
    120.0
}

fn failures_in_a_row() -> u32 {
    10
}

impl EndpointSettings {
    /// For captions of the middle frame.
    pub fn image(url: impl Into<String>, model: impl Into<String>) -> Self {
        Self::new(url.into(), model.into(), ABOUT_A_FRAME, 1, [3, 60])
    }

    /// For captions of the clip, from eight frames.
    pub fn video(url: impl Into<String>, model: impl Into<String>) -> Self {
        Self::new(url.into(), model.into(), ABOUT_A_CLIP, 8, [3, 80])
    }

    /// For the caption that merges the two.
    pub fn merged(url: impl Into<String>, model: impl Into<String>) -> Self {
        Self::new(url.into(), model.into(), ABOUT_TWO_CAPTIONS, 0, [15, 80])
    }

    fn new(url: String, model: String, prompt: &str, frames: usize, words: [usize; 2]) -> Self {
        EndpointSettings {
            url,
            model,
            prompt: prompt.to_owned(),
            temperature: 0.0,
            max_tokens: max_tokens(),
            token_field: TokenField::default(),
            frames,
            long_side_pixels: long_side_pixels(),
            jpeg_quality: jpeg_quality(),
            min_words: words[0],
            max_words: words[1],
            key_env: None,
            requests_in_flight: requests_in_flight(),
            attempts: attempts(),
            timeout_s: timeout_s(),
            first_wait_s: first_wait_s(),
            longest_wait_s: longest_wait_s(),
            failures_in_a_row: failures_in_a_row(),
            budget: Budget::default(),
        }
    }

    /// A table of a configuration over the defaults for captions of the middle frame, for serde's
    /// `deserialize_with`: `url` and `model` are enough.
    ///
    /// # Errors
    /// When a key is unknown or a value of another kind.
    pub fn image_table<'de, D: Deserializer<'de>>(
        table: D,
    ) -> std::result::Result<Option<Self>, D::Error> {
        Self::image("", "").under(table).map(Some)
    }

    /// The same for captions of the clip.
    ///
    /// # Errors
    /// As [`image_table`](Self::image_table).
    pub fn video_table<'de, D: Deserializer<'de>>(
        table: D,
    ) -> std::result::Result<Option<Self>, D::Error> {
        Self::video("", "").under(table).map(Some)
    }

    /// The same for the caption that merges the two.
    ///
    /// # Errors
    /// As [`image_table`](Self::image_table).
    pub fn merged_table<'de, D: Deserializer<'de>>(
        table: D,
    ) -> std::result::Result<Option<Self>, D::Error> {
        Self::merged("", "").under(table).map(Some)
    }

    /// These settings where `table` says nothing else.
    fn under<'de, D: Deserializer<'de>>(self, table: D) -> std::result::Result<Self, D::Error> {
        let given = toml::Table::deserialize(table)?;
        let mut all = toml::Table::try_from(self).map_err(D::Error::custom)?;
        all.extend(given);
        all.try_into().map_err(D::Error::custom)
    }

    /// Refuses what cannot be asked.
    ///
    /// # Errors
    /// When the address is none, holds a secret, or a number makes no sense.
    pub fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::Setting(format!("endpoint: {message}")));
        let address = self.url.split_once("://");
        let Some(("http" | "https", rest)) = address else {
            return refuse(format!(
                "expected an address that begins with http:// or https://, found {:?}",
                self.name()
            ));
        };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if host.contains('@') {
            return refuse(
                "the address holds a name and a password, which would stand in every log; put the \
                 key into an environment variable and name it in `key_env`"
                    .to_owned(),
            );
        }
        if host.is_empty() || rest.contains(char::is_whitespace) {
            return refuse(format!("{:?} is no address of a host", self.name()));
        }
        if self.model.is_empty() || self.prompt.trim().is_empty() {
            return refuse("`model` and `prompt` must not be empty".to_owned());
        }
        let seconds = [self.timeout_s, self.first_wait_s, self.longest_wait_s];
        if !seconds.iter().all(|s| (0.0..=1e6).contains(s)) || self.timeout_s == 0.0 {
            return refuse(format!("times are from 0 to 1000000 s, found {seconds:?}"));
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            return refuse(format!(
                "`temperature` is from 0 to 2, found {}",
                self.temperature
            ));
        }
        if self.min_words > self.max_words || self.max_words == 0 {
            return refuse(format!(
                "no caption has at least {} and at most {} words",
                self.min_words, self.max_words
            ));
        }
        self.check_counts().or_else(refuse)
    }

    fn check_counts(&self) -> std::result::Result<(), String> {
        let counts = [
            ("attempts", u64::from(self.attempts)),
            ("failures_in_a_row", u64::from(self.failures_in_a_row)),
            ("requests_in_flight", self.requests_in_flight as u64),
            ("max_tokens", u64::from(self.max_tokens)),
            ("long_side_pixels", self.long_side_pixels as u64),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(format!("`{name}` must be at least 1"));
        }
        if !(1..=100).contains(&self.jpeg_quality) {
            return Err(format!(
                "`jpeg_quality` is from 1 to 100, found {}",
                self.jpeg_quality
            ));
        }
        Ok(())
    }

    /// The endpoint in messages: the address without what may hold a secret.
    pub(super) fn name(&self) -> &str {
        let end = self.url.find(['?', '#']).unwrap_or(self.url.len());
        let shown = &self.url[..end];
        // Only an address that was refused can hold a password; what stands before it is dropped.
        shown.rsplit_once('@').map_or(shown, |(_, host)| host)
    }

    /// Where questions are sent.
    pub(super) fn chat_url(&self) -> String {
        let (base, query) = match self.url.find('?') {
            Some(at) => self.url.split_at(at),
            None => (self.url.as_str(), ""),
        };
        let base = base.trim_end_matches('/');
        match base.strip_suffix("/chat/completions") {
            Some(_) => format!("{base}{query}"),
            None => format!("{base}/chat/completions{query}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> EndpointSettings {
        EndpointSettings::image(url, "m")
    }

    #[test]
    fn questions_go_to_the_chat_of_the_address() {
        for (url, chat) in [
            ("http://h/v1", "http://h/v1/chat/completions"),
            ("http://h/v1/", "http://h/v1/chat/completions"),
            (
                "http://h/v1/chat/completions",
                "http://h/v1/chat/completions",
            ),
            (
                "https://h/d?api-version=1",
                "https://h/d/chat/completions?api-version=1",
            ),
        ] {
            at(url).check().unwrap();
            assert_eq!(at(url).chat_url(), chat);
        }
    }

    #[test]
    fn a_secret_in_the_address_is_refused_and_not_repeated() {
        for url in ["http://me:hunter2@h/v1", "ftp://me:hunter2@h", "hunter2@h"] {
            let failure = at(url).check().unwrap_err().to_string();
            assert!(!failure.contains("hunter2"), "{failure}");
        }
        assert_eq!(at("http://h/v1?key=hunter2").name(), "http://h/v1");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let good = || at("http://h/v1");
        let refused = |settings: EndpointSettings, word: &str| {
            let failure = settings.check().unwrap_err().to_string();
            assert!(failure.contains(word), "{failure}");
        };
        refused(at("h/v1"), "http://");
        refused(at("http://"), "no address");
        refused(
            EndpointSettings {
                attempts: 0,
                ..good()
            },
            "attempts",
        );
        refused(
            EndpointSettings {
                jpeg_quality: 0,
                ..good()
            },
            "jpeg_quality",
        );
        refused(
            EndpointSettings {
                timeout_s: f64::NAN,
                ..good()
            },
            "times",
        );
        refused(
            EndpointSettings {
                temperature: -1.0,
                ..good()
            },
            "temperature",
        );
        refused(
            EndpointSettings {
                min_words: 61,
                ..good()
            },
            "words",
        );
    }

    #[test]
    fn every_key_is_in_the_documents() {
        let text = include_str!("../../../../docs/formats.md");
        let all = serde_json::to_value(EndpointSettings::image("http://h/v1", "m")).unwrap();
        for key in all.as_object().unwrap().keys() {
            assert!(text.contains(&format!("`{key}`")), "{key}");
        }
        for key in ["max_requests", "max_tokens"] {
            assert!(text.contains(&format!("{key} = ")), "{key}");
        }
    }

    #[test]
    fn a_table_of_a_configuration_lies_over_the_defaults() {
        #[derive(Debug, Deserialize)]
        struct Captions {
            #[serde(default, deserialize_with = "EndpointSettings::image_table")]
            image: Option<EndpointSettings>,
            #[serde(default, deserialize_with = "EndpointSettings::merged_table")]
            merged: Option<EndpointSettings>,
        }
        let text = "[image]\nurl = 'http://h/v1'\nmodel = 'm'\nkey_env = 'KEY'\nmax_words = 30\n\
                    temperature = 0.7\nbudget = { max_requests = 5 }\n";
        let found: Captions = toml::from_str(text).unwrap();
        let expected = EndpointSettings {
            key_env: Some("KEY".to_owned()),
            max_words: 30,
            temperature: 0.7,
            budget: Budget {
                max_requests: Some(5),
                max_tokens: None,
            },
            ..at("http://h/v1")
        };
        assert_eq!(found.image, Some(expected));
        assert_eq!(found.merged, None);
        // A key itself has no place in a file.
        let failure = toml::from_str::<Captions>(&format!("{text}key = 'sk-1'\n")).unwrap_err();
        assert!(failure.to_string().contains("unknown field"), "{failure}");
    }
}
