//! Texts as the tokens CLIP was trained on.
//!
//! The byte pairs are those of the crate `instant-clip-tokenizer`. What stands around them differs
//! between the publishers of the weights, and so do the tokens of a text that is not plain ASCII:
//! open_clip mends characters and HTML first and fills up with zeros, transformers composes accents
//! and fills up with end tokens. Both are reproduced here, since a tower reads what it was trained on.

mod clean;

use crate::{Error, Result};
use instant_clip_tokenizer::{Token, Tokenizer as Pairs};
use std::sync::OnceLock;

/// The tokens of a text with the one that begins it and the one that ends it, filled up.
pub type Tokens = [i32; 77];

/// Whose rules a text is made ready by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// open_clip: ligatures, widths, quotes and HTML entities are mended; filled up with 0.
    OpenClip,
    /// transformers (and OpenAI): accents are composed, blanks joined; filled up with end tokens.
    Transformers,
}

/// CLIP's tokenizer.
#[derive(Clone, Copy)]
pub struct Tokenizer {
    pairs: &'static Pairs,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokenizer")
    }
}

impl Default for Tokenizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Tokenizer {
    /// The token that begins a text.
    pub const START: i32 = 49406;

    /// The token that ends it, the largest there is.
    pub const END: i32 = 49407;

    /// The tokenizer of all published towers. Its tables are made once in a process.
    pub fn new() -> Self {
        static PAIRS: OnceLock<Pairs> = OnceLock::new();
        Tokenizer {
            pairs: PAIRS.get_or_init(Pairs::new),
        }
    }

    /// The tokens of a text. One that is too long is cut and still ends.
    ///
    /// ```
    /// use kinora_model::clip::{Dialect, Tokenizer};
    ///
    /// let tokens = Tokenizer::new().tokens("a photo of a cat", Dialect::OpenClip);
    /// assert_eq!(tokens[..8], [49406, 320, 1125, 539, 320, 2368, 49407, 0]);
    /// ```
    pub fn tokens(&self, text: &str, dialect: Dialect) -> Tokens {
        let mut tokens = match dialect {
            Dialect::OpenClip => [0; 77],
            Dialect::Transformers => [Self::END; 77],
        };
        let room = tokens.len() - 2;
        let words = self.words(text, dialect);
        let kept = &words[..words.len().min(room)];
        tokens[0] = Self::START;
        for (token, word) in tokens[1..].iter_mut().zip(kept) {
            *token = *word;
        }
        tokens[1 + kept.len()] = Self::END;
        tokens
    }

    /// The tokens of the words alone, as many as there are.
    fn words(&self, text: &str, dialect: Dialect) -> Vec<i32> {
        let text = match dialect {
            Dialect::OpenClip => clean::open_clip(text),
            Dialect::Transformers => clean::transformers(text),
        };
        let mut words = Vec::new();
        match dialect {
            Dialect::OpenClip => self.pairs.encode(&text, &mut words),
            Dialect::Transformers => self.encode_marked(&text, &mut words),
        }
        words.iter().map(|w| i32::from(w.to_u16())).collect()
    }

    /// transformers writes the two marks of a text otherwise, and takes open_clip's for words: those
    /// are cut after their first character, so that the pairs do not see them.
    fn encode_marked(&self, text: &str, words: &mut Vec<Token>) {
        let marks = [
            ("<|startoftext|>", Some(self.pairs.start_of_text())),
            ("<|endoftext|>", Some(self.pairs.end_of_text())),
            ("<start_of_text>", None),
            ("<end_of_text>", None),
        ];
        let mut rest = text;
        loop {
            let found = marks
                .iter()
                .filter_map(|(mark, token)| Some((rest.find(mark)?, mark, token)));
            let end = match found.min_by_key(|(at, ..)| *at) {
                None => return self.pairs.encode(rest, words),
                Some((at, mark, Some(token))) => {
                    self.pairs.encode(&rest[..at], words);
                    words.push(*token);
                    at + mark.len()
                }
                Some((at, _, None)) => {
                    self.pairs.encode(&rest[..=at], words);
                    at + 1
                }
            };
            rest = &rest[end..];
        }
    }

    /// The text that tokens stand for, without the marks around it: a caption. The blanks that end
    /// words are put before every word and mark, as open_clip's decoder does, and trimmed at the ends.
    ///
    /// # Errors
    /// When a number is no token.
    pub fn text(&self, tokens: &[i32]) -> Result<String> {
        let marks = [Self::START, Self::END];
        let words = tokens.iter().filter(|token| !marks.contains(token));
        let words = words.map(|token| {
            let number = u16::try_from(*token).ok();
            number
                .and_then(|number| Token::from_u16(number, self.pairs))
                .ok_or_else(|| {
                    Error::argument(
                        "Tokenizer::text",
                        format!("expected tokens from 0 to {}, found {token}", Self::END),
                    )
                })
        });
        let words = words.collect::<Result<Vec<Token>>>()?;
        Ok(self.pairs.decode(words).trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_cut_and_still_ends() {
        let text = "cat ".repeat(200);
        for dialect in [Dialect::OpenClip, Dialect::Transformers] {
            let tokens = Tokenizer::new().tokens(&text, dialect);
            assert_eq!(tokens[0], Tokenizer::START);
            assert_eq!(tokens[75], 2368);
            assert_eq!(tokens[76], Tokenizer::END);
        }
    }

    #[test]
    fn an_empty_text_is_its_two_marks() {
        let tokenizer = Tokenizer::new();
        let zeros = tokenizer.tokens(" \n", Dialect::OpenClip);
        assert_eq!(zeros[..3], [Tokenizer::START, Tokenizer::END, 0]);
        let ends = tokenizer.tokens("", Dialect::Transformers);
        assert_eq!(
            ends[..3],
            [Tokenizer::START, Tokenizer::END, Tokenizer::END]
        );
    }

    #[test]
    fn tokens_become_words_again() {
        let tokenizer = Tokenizer::new();
        let tokens = tokenizer.tokens("A red fox, in the snow!", Dialect::OpenClip);
        let end = tokens.iter().position(|t| *t == Tokenizer::END).unwrap();
        let text = tokenizer.text(&tokens[..=end]).unwrap();
        assert_eq!(text, "a red fox , in the snow !");
        let error = tokenizer.text(&[50_000]).unwrap_err().to_string();
        assert_eq!(
            error,
            "Tokenizer::text: expected tokens from 0 to 49407, found 50000"
        );
    }
}
