//! Three captions for a clip: of its middle frame, of the clip, and of both (paper, §3.1, App. C).
//!
//! The paper has the first from CoCa, the second from V-BLIP, and the third from a language model
//! that merges the two. Each may come from any server that speaks OpenAI's chat protocol (vLLM,
//! llama.cpp, a hosted one): the first is asked about one frame, the second about several in order,
//! the third about the two texts. The three are configured apart from each other.
//!
//! A caption that cannot be had is never made up: the row keeps the reason.

mod answer;
mod budget;
mod cache;
mod endpoint;
mod frames;
mod protocol;
mod retry;
mod settings;
mod transport;

pub use budget::{Budget, Spent};
pub use cache::{AnswerCache, NoCache};
pub use endpoint::{Endpoint, Question, Surroundings};
pub use frames::frame_numbers;
pub use settings::{EndpointSettings, TokenField};

/// Why there is no caption.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCaption {
    /// What may be spent is spent; asking again with a larger budget goes on from here.
    #[error("not asked: {0}")]
    Budget(String),
    /// The endpoint refuses everything from us (key, address, model), so it is no longer asked.
    #[error("not asked any more: {0}")]
    Closed(String),
    /// No answer came, however often it was asked.
    #[error("no answer: {0}")]
    Unanswered(String),
    /// An answer came that is no caption.
    #[error("no caption in the answer: {0}")]
    Refused(String),
    /// What should have been shown could not be made ready.
    #[error("nothing to ask about: {0}")]
    Question(String),
}

/// A caption, or why there is none.
pub type Caption = std::result::Result<String, NoCaption>;
