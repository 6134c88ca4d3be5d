//! The part of OpenAI's chat protocol that captions need.

use super::{EndpointSettings, NoCaption, Question, TokenField};
use crate::cache::hex;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kinora_media::Rgb8Image;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

#[derive(Debug, Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    temperature: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    stream: bool,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Content<'a>,
}

/// Many servers want a plain text as one string and not as a list of one part.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(String),
    Parts(Vec<Piece<'a>>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Debug, Serialize)]
struct ImageUrl {
    url: String,
}

/// The body of the request that asks `question`.
///
/// # Errors
/// When the question is not of the kind the settings are for.
pub(super) fn body_of(
    settings: &EndpointSettings,
    question: &Question,
) -> Result<Vec<u8>, NoCaption> {
    let messages = match question {
        Question::Frames(frames) if frames.is_empty() || frames.len() > settings.frames => {
            return Err(NoCaption::Question(format!(
                "expected 1 to {} frames, found {}; see `frames` of the endpoint",
                settings.frames,
                frames.len()
            )));
        }
        Question::Frames(frames) => vec![Message {
            role: "user",
            content: Content::Parts(prompt_and_frames(settings, frames)),
        }],
        Question::Captions { image, video } => vec![
            Message {
                role: "system",
                content: Content::Text(settings.prompt.clone()),
            },
            Message {
                role: "user",
                content: Content::Text(format!(
                    "Caption of one frame: {image}\nCaption of the clip: {video}"
                )),
            },
        ],
    };
    let limit = |field| (settings.token_field == field).then_some(settings.max_tokens);
    let request = Request {
        model: &settings.model,
        messages,
        temperature: settings.temperature,
        max_tokens: limit(TokenField::MaxTokens),
        max_completion_tokens: limit(TokenField::MaxCompletionTokens),
        stream: false,
    };
    Ok(serde_json::to_vec(&request).expect("texts and numbers become JSON"))
}

/// The prompt, then the frames in order, each a JPEG in a data URI.
fn prompt_and_frames<'a>(settings: &'a EndpointSettings, frames: &[Rgb8Image]) -> Vec<Piece<'a>> {
    let prompt = Piece::Text {
        text: &settings.prompt,
    };
    let pictures = frames.iter().map(|frame| {
        let small = frame.shrunk(settings.long_side_pixels);
        let jpeg = STANDARD.encode(small.to_jpeg(settings.jpeg_quality));
        Piece::ImageUrl {
            image_url: ImageUrl {
                url: format!("data:image/jpeg;base64,{jpeg}"),
            },
        }
    });
    std::iter::once(prompt).chain(pictures).collect()
}

/// The name of a request by its content: model, prompt, frames, temperature and limit decide it, the
/// key and the server's address do not.
pub(super) fn key_of(body: &[u8]) -> String {
    hex(&Sha256::digest(body))
}

/// A guess at the tokens of a prompt before the server has counted one: three bytes of text a token,
/// and what the hungrier vision models spend on a picture of 768 pixels.
pub(super) fn prompt_guess(settings: &EndpointSettings, question: &Question) -> u64 {
    const TOKENS_OF_A_FRAME: u64 = 1500;
    let text = |bytes: usize| bytes as u64 / 3 + 50;
    match question {
        Question::Frames(frames) => {
            text(settings.prompt.len()) + TOKENS_OF_A_FRAME * frames.len() as u64
        }
        Question::Captions { image, video } => {
            text(settings.prompt.len() + image.len() + video.len())
        }
    }
}

#[derive(Debug, Deserialize)]
struct Response {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    message: AnswerMessage,
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct AnswerMessage {
    content: Option<AnswerContent>,
    refusal: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum AnswerContent {
    Text(String),
    Parts(Vec<AnswerPiece>),
}

#[derive(Debug, Deserialize)]
struct AnswerPiece {
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// What a model answered, before it is made a caption; this is what a cache keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) text: String,
    /// Whether the limit on tokens cut it.
    pub(super) is_cut: bool,
}

/// An answer and the tokens of prompt and answer, where the server counts them.
pub(super) type Counted = (Result<Answer, String>, Option<(u64, u64)>);

/// The answer in the body of a response that the server calls a success; a reason where there is
/// none.
pub(super) fn answer_from(body: &[u8]) -> Counted {
    let response: Response = match serde_json::from_slice(body) {
        Ok(response) => response,
        Err(error) => {
            let start = String::from_utf8_lossy(&body[..body.len().min(400)]);
            let start = super::answer::shortened(&start);
            let what = format!("expected a JSON answer with `choices` ({error}), found {start:?}");
            return (Err(what), None);
        }
    };
    let counted = response
        .usage
        .map(|usage| (usage.prompt_tokens, usage.completion_tokens));
    if let Some(error) = response.error.filter(|error| !error.is_null()) {
        return (
            Err(format!("the server reports {}", message_of(&error))),
            counted,
        );
    }
    let Some(choice) = response.choices.into_iter().next() else {
        return (Err("`choices` is empty".to_owned()), counted);
    };
    (answer_of(choice), counted)
}

fn answer_of(choice: Choice) -> Result<Answer, String> {
    if let Some(refusal) = choice.message.refusal.filter(|text| !text.is_empty()) {
        return Err(format!(
            "the model declines: {:?}",
            super::answer::shortened(&refusal)
        ));
    }
    let reason = choice.finish_reason.as_deref().unwrap_or_default();
    if reason == "content_filter" {
        return Err("the server's content filter held the answer back".to_owned());
    }
    let text = match choice.message.content {
        Some(AnswerContent::Text(text)) => text,
        Some(AnswerContent::Parts(parts)) => {
            parts.into_iter().filter_map(|part| part.text).collect()
        }
        None => String::new(),
    };
    Ok(Answer {
        text,
        is_cut: reason == "length",
    })
}

/// The words of a server's error, in the shapes that servers use: `{"error": {"message": …}}`,
/// `{"error": "…"}`, `{"message": …}`, `{"detail": …}`, or no JSON at all.
pub(super) fn error_text(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => message_of(value.get("error").unwrap_or(&value)),
        Err(_) => format!(
            "{:?}",
            super::answer::shortened(&String::from_utf8_lossy(body))
        ),
    }
}

/// Whether a server says that what was paid for is used up, which no waiting mends.
pub(super) fn is_out_of_quota(body: &[u8]) -> bool {
    let value = serde_json::from_slice::<Value>(body).ok();
    let code = value
        .as_ref()
        .and_then(|value| value.pointer("/error/code"));
    code.and_then(Value::as_str) == Some("insufficient_quota")
}

fn message_of(value: &Value) -> String {
    let words = ["message", "detail"]
        .iter()
        .find_map(|name| value.get(name)?.as_str())
        .or_else(|| value.as_str());
    let text = words.map_or_else(|| value.to_string(), str::to_owned);
    format!("{:?}", super::answer::shortened(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(level: u8) -> Rgb8Image {
        Rgb8Image::from_fn(32, 16, |_, _| [level; 3])
    }

    #[test]
    fn frames_are_sent_in_order_as_data_uris() {
        let settings = EndpointSettings::video("http://h/v1", "m");
        let question = Question::Frames(vec![grey(0), grey(255)]);
        let body: Value = serde_json::from_slice(&body_of(&settings, &question).unwrap()).unwrap();
        assert_eq!(body["model"], "m");
        assert_eq!(body["max_tokens"], 200);
        assert_eq!(body.get("max_completion_tokens"), None);
        let content = body["messages"][0]["content"].as_array().unwrap();
        assert_eq!(content.len(), 3);
        assert_eq!(content[0]["text"], settings.prompt.as_str());
        for (part, level) in content[1..].iter().zip([0u8, 255]) {
            let url = part["image_url"]["url"].as_str().unwrap();
            let data = url.strip_prefix("data:image/jpeg;base64,").unwrap();
            assert_eq!(STANDARD.decode(data).unwrap(), grey(level).to_jpeg(90));
        }
    }

    #[test]
    fn captions_are_merged_as_text_alone() {
        let settings = EndpointSettings {
            token_field: TokenField::MaxCompletionTokens,
            ..EndpointSettings::merged("http://h/v1", "m")
        };
        let question = Question::Captions {
            image: "a red car".to_owned(),
            video: "it turns left".to_owned(),
        };
        let body: Value = serde_json::from_slice(&body_of(&settings, &question).unwrap()).unwrap();
        assert_eq!(body["messages"][0]["content"], settings.prompt.as_str());
        let texts = body["messages"][1]["content"].as_str().unwrap();
        assert!(texts.contains("a red car") && texts.contains("it turns left"));
        assert_eq!(
            (&body["max_tokens"], &body["max_completion_tokens"]),
            (&Value::Null, &200.into())
        );
    }

    #[test]
    fn more_frames_than_settings_are_refused() {
        let settings = EndpointSettings::image("http://h/v1", "m");
        for frames in [vec![], vec![grey(0), grey(1)]] {
            let refused = body_of(&settings, &Question::Frames(frames));
            assert!(
                matches!(refused, Err(NoCaption::Question(_))),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn the_key_follows_what_is_asked_and_not_the_server() {
        let settings = EndpointSettings::image("http://h/v1", "m");
        let question = Question::Frames(vec![grey(9)]);
        let key = |settings: &EndpointSettings| key_of(&body_of(settings, &question).unwrap());
        let moved = EndpointSettings {
            url: "https://x/v1".to_owned(),
            ..settings.clone()
        };
        assert_eq!(key(&settings), key(&moved));
        let warmer = EndpointSettings {
            temperature: 0.5,
            ..settings.clone()
        };
        let other = EndpointSettings {
            model: "n".to_owned(),
            ..settings.clone()
        };
        assert_ne!(key(&settings), key(&warmer));
        assert_ne!(key(&settings), key(&other));
        assert_eq!(key(&settings).len(), 64);
    }

    #[test]
    fn answers_are_read_in_the_shapes_servers_give_them() {
        let text = |body: &str| answer_from(body.as_bytes()).0.map(|answer| answer.text);
        let words = Ok("a dog runs".to_owned());
        let plain = r#"{"choices":[{"message":{"content":"a dog runs"}}],"x":1}"#;
        assert_eq!(text(plain), words);
        let parts = r#"{"choices":[{"message":{"content":[{"type":"text","text":"a dog "},{"text":"runs"}]}}]}"#;
        assert_eq!(text(parts), words);
        let null = r#"{"choices":[{"message":{"content":null}}]}"#;
        assert_eq!(text(null), Ok(String::new()));
        let cut = r#"{"choices":[{"message":{"content":"a"},"finish_reason":"length"}],
            "usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}"#;
        let (answer, counted) = answer_from(cut.as_bytes());
        assert!(answer.unwrap().is_cut);
        assert_eq!(counted, Some((7, 2)));
    }

    #[test]
    fn what_is_no_answer_says_what_it_is() {
        for (body, reason) in [
            ("<html>Bad gateway</html>", "Bad gateway"),
            ("", "expected a JSON answer"),
            (r#"{"choices":[]}"#, "`choices` is empty"),
            (
                r#"{"error":{"message":"model is loading"}}"#,
                "model is loading",
            ),
            (
                r#"{"choices":[{"message":{"content":"x"},"finish_reason":"content_filter"}]}"#,
                "filter",
            ),
            (
                r#"{"choices":[{"message":{"content":null,"refusal":"I will not"}}]}"#,
                "I will not",
            ),
            (r#"{"choices":[{"text":"a completion"}]}"#, "message"),
        ] {
            let failure = answer_from(body.as_bytes()).0.unwrap_err();
            assert!(failure.contains(reason), "{body}: {failure}");
        }
    }
}
