//! What a model answers, made a caption or refused.
//!
//! Models wrap what was asked for: in quotation marks, in a lead ("Here is a caption:"), in thoughts
//! spoken aloud, in a few kind words. The wrapping is taken off; what is then no caption is refused
//! with the reason.

use super::NoCaption;

/// The caption in `answer`, between `min_words` and `max_words` long.
///
/// A text that is too long, or that the limit on tokens cut (`is_cut`), ends after its last whole
/// sentence within the limit.
pub(super) fn caption_from(
    answer: &str,
    is_cut: bool,
    min_words: usize,
    max_words: usize,
) -> Result<String, NoCaption> {
    let text = unwrapped(answer);
    if !text.chars().any(char::is_alphabetic) {
        return refuse(format!("expected words, found {:?}", shortened(answer)));
    }
    if let Some(start) = declines(&text) {
        return refuse(format!("the model declines: {start:?}"));
    }
    let text = match is_cut || word_count(&text) > max_words {
        true => torn_off(&text, is_cut, max_words)?,
        false => text,
    };
    let words = word_count(&text);
    if words < min_words {
        return refuse(format!(
            "expected at least {min_words} words, found {words}: {:?}",
            shortened(&text)
        ));
    }
    Ok(text)
}

/// The whole sentences of a text that is too long or was cut.
fn torn_off(text: &str, is_cut: bool, max_words: usize) -> Result<String, NoCaption> {
    match whole_sentences(text, max_words) {
        Some(sentences) => Ok(sentences.to_owned()),
        None if is_cut => refuse(format!(
            "the limit on tokens cut its first sentence; raise `max_tokens`: {:?}",
            shortened(text)
        )),
        None => refuse(format!(
            "expected at most {max_words} words, found {} without a sentence that ends before: {:?}",
            word_count(text),
            shortened(text)
        )),
    }
}

fn word_count(text: &str) -> usize {
    text.split(' ').count()
}

fn refuse(reason: String) -> Result<String, NoCaption> {
    Err(NoCaption::Refused(reason))
}

/// The first words of a text, for a reason.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 120;
    let text = one_line(text);
    if text.chars().count() <= MOST {
        return text;
    }
    text.chars().take(MOST).chain(['…']).collect()
}

/// The text on one line, single blanks between its words, without control characters.
fn one_line(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text without thoughts, marks of emphasis, leads and quotation marks around it.
fn unwrapped(answer: &str) -> String {
    let spoken = match answer.rsplit_once("</think>") {
        Some((_, spoken)) => spoken,
        None if answer.trim_start().starts_with("<think>") => "",
        None => answer,
    };
    let plain: String = spoken
        .chars()
        .filter(|c| !matches!(c, '*' | '`' | '#'))
        .collect();
    let mut text = one_line(&plain);
    // A quotation may stand in a lead and a lead in a quotation; each round takes one layer off.
    loop {
        let next = without_quotes(without_lead(&text)).trim().to_owned();
        if next == text {
            return text;
        }
        text = next;
    }
}

/// Words that open an answer without being part of it.
const KIND_WORDS: [&str; 7] = [
    "sure",
    "certainly",
    "of course",
    "okay",
    "ok",
    "absolutely",
    "great",
];
/// What a lead that ends in a colon begins with.
const LEADS: [&str; 11] = [
    "here is",
    "here's",
    "here are",
    "caption",
    "merged caption",
    "the caption",
    "description",
    "the merged caption",
    "output",
    "answer",
    "summary",
];

fn without_lead(text: &str) -> &str {
    let lower = text.to_ascii_lowercase();
    for word in KIND_WORDS {
        if let Some(rest) = lower.strip_prefix(word)
            && rest.starts_with(['!', ',', '.', ':'])
        {
            return text[text.len() - rest.len() + 1..].trim_start();
        }
    }
    // A colon later than this belongs to the caption itself.
    const LONGEST_LEAD: usize = 80;
    match lower.find(':') {
        Some(colon)
            if colon <= LONGEST_LEAD && LEADS.iter().any(|lead| lower.starts_with(lead)) =>
        {
            text[colon + 1..].trim_start()
        }
        _ => text,
    }
}

fn without_quotes(text: &str) -> &str {
    const PAIRS: [(char, char); 6] = [
        ('"', '"'),
        ('\'', '\''),
        ('“', '”'),
        ('‘', '’'),
        ('«', '»'),
        ('„', '“'),
    ];
    for (open, close) in PAIRS {
        let inner = text
            .strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close));
        // `"Hello" and "goodbye"` begins and ends with marks that do not belong together.
        if let Some(inner) = inner
            && !inner.contains(open)
            && !inner.contains(close)
        {
            return inner;
        }
    }
    text
}

/// The beginning of an answer that says only that there will be none.
fn declines(text: &str) -> Option<String> {
    const STARTS: [&str; 9] = [
        "i'm sorry",
        "i am sorry",
        "sorry,",
        "i can't",
        "i cannot",
        "i'm unable",
        "i am unable",
        "as an ai",
        "i'm not able",
    ];
    let lower = text.to_ascii_lowercase().replace('’', "'");
    let declines = STARTS.iter().any(|start| lower.starts_with(start));
    declines.then(|| shortened(text))
}

/// The whole sentences at the start of `text` that have at most `max_words` words together.
fn whole_sentences(text: &str, max_words: usize) -> Option<&str> {
    let mut end = None;
    let mut words = 0;
    let mut at = 0;
    for word in text.split(' ') {
        words += 1;
        at += word.len();
        if words > max_words {
            break;
        }
        let last = word.trim_end_matches(['"', '\'', '”', '’', ')']);
        if last.ends_with(['.', '!', '?']) {
            end = Some(at);
        }
        at += 1; // the blank
    }
    end.map(|end| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caption(answer: &str) -> Result<String, NoCaption> {
        caption_from(answer, false, 3, 12)
    }

    #[test]
    fn wrapping_is_taken_off() {
        let bare = "A fox runs over fresh snow.";
        for answer in [
            "A fox runs over fresh snow.",
            "  \"A fox runs over fresh snow.\"\n",
            "Here is a caption: A fox runs over fresh snow.",
            "Sure! Here's the caption:\n\n**\"A fox runs over fresh snow.\"**",
            "“Caption: A fox runs\nover   fresh snow.”",
            "<think>What is it? \"A dog\"?</think>A fox runs over fresh snow.",
            "### Description:\nA fox runs over fresh snow.",
            "Merged caption: 'A fox runs over fresh snow.'",
        ] {
            assert_eq!(caption(answer).as_deref(), Ok(bare), "{answer}");
        }
    }

    #[test]
    fn what_belongs_to_the_caption_stays() {
        for answer in [
            "A sign says: no entry here.",
            "\"Yes\" and \"no\" stand on two doors.",
            "Here is where the river ends.",
            "Okay signs hang on a wall.",
            "A dog's owner isn't there.",
        ] {
            assert_eq!(caption(answer).as_deref(), Ok(answer));
        }
    }

    #[test]
    fn what_is_no_caption_is_refused_with_the_reason() {
        for (answer, reason) in [
            ("", "expected words"),
            (" \n \"\" ", "expected words"),
            ("1234 !!", "expected words"),
            ("<think>It never ends", "expected words"),
            ("A fox.", "at least 3 words"),
            ("I'm sorry, but I can’t describe this picture.", "declines"),
            ("I’m unable to see the frames you sent me.", "declines"),
            (
                "on and on and on and on and on and on and on and on",
                "at most 12 words",
            ),
        ] {
            let failure = caption(answer).unwrap_err().to_string();
            assert!(failure.contains(reason), "{answer}: {failure}");
        }
    }

    #[test]
    fn a_long_answer_ends_after_a_whole_sentence() {
        let answer =
            "A fox runs over snow. It stops. Then it turns around and looks back at us all.";
        assert_eq!(
            caption(answer).as_deref(),
            Ok("A fox runs over snow. It stops.")
        );
    }

    #[test]
    fn an_answer_cut_by_the_limit_loses_its_torn_sentence() {
        let cut = |answer| caption_from(answer, true, 3, 12);
        assert_eq!(
            cut("A fox runs off. It is").as_deref(),
            Ok("A fox runs off.")
        );
        let failure = cut("A fox runs over the").unwrap_err().to_string();
        assert!(failure.contains("raise `max_tokens`"), "{failure}");
    }

    #[test]
    fn control_characters_are_blanks() {
        assert_eq!(
            caption("A fox\u{0}\u{1b}runs\toff.").as_deref(),
            Ok("A fox runs off.")
        );
    }
}
