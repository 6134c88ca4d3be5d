//! What is done to a text before its words are looked for.

use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization as _;

/// As open_clip: the typography of copied text is undone (what ftfy does, but for letters that were
/// decoded with the wrong alphabet, which it guesses at), HTML entities become characters, blanks are
/// joined. The letters are made small later.
pub(super) fn open_clip(text: &str) -> String {
    let mut text = Cow::Borrowed(text);
    // Where there is a tag, entities are taken for meant; they become characters below all the same.
    if !text.contains('<') {
        text = unescaped(text);
    }
    let text = without_terminal_colours(&text);
    let mended: String = text.chars().fold(String::new(), |mut mended, c| {
        push_mended(&mut mended, c);
        mended
    });
    let composed: String = mended.nfc().collect();
    // A text may have been escaped twice.
    let plain = unescaped(unescaped(Cow::Owned(composed)));
    joined(&plain)
}

/// As transformers: accents become one character with their letter, blanks are joined, letters made
/// small one by one, so that a sigma at the end of a word is like every other.
pub(super) fn transformers(text: &str) -> String {
    let composed: String = text.nfc().flat_map(char::to_lowercase).collect();
    joined(&composed)
}

fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn unescaped(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.contains('&') {
        true => Cow::Owned(htmlize::unescape(text).into_owned()),
        false => text,
    }
}

/// Without the sequences that colour the text of a terminal: ESC, [, numbers, a letter.
fn without_terminal_colours(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        let after = &rest[at + 2..];
        let letter = after.find(|c: char| !c.is_ascii_digit() && c != ';');
        match letter.filter(|k| after[*k..].starts_with(|c: char| c.is_ascii_alphabetic())) {
            Some(k) => {
                out.push_str(&rest[..at]);
                rest = &after[k + 1..];
            }
            None => {
                out.push_str(&rest[..at + 2]);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// One character, mended: ligatures of Latin letters taken apart, wide and narrow forms made
/// ordinary, quotes made straight, controls left out.
fn push_mended(text: &mut String, c: char) {
    let replaced = match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "'n",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => "'",
        '\u{201c}'..='\u{201f}' => "\"",
        '\u{3000}' => " ",
        '\u{85}' | '\u{2028}' | '\u{2029}' => "\n",
        '\u{0}'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' => "",
        '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}' => "",
        '\u{ff01}'..='\u{ffef}' => return text.extend(std::iter::once(c).nfkc()),
        _ => return text.push(c),
    };
    text.push_str(replaced);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_text_is_mended() {
        assert_eq!(
            open_clip("\u{201c}It\u{2019}s\u{201d} \u{fb01}ne\u{3000}\u{ff21}"),
            "\"It's\" fine A"
        );
        assert_eq!(
            open_clip("a \u{1b}[36;44mblue\u{1b}[0m\u{0} sky\r\n"),
            "a blue sky"
        );
        assert_eq!(open_clip("half \u{1b}[ of it"), "half [ of it");
    }

    #[test]
    fn entities_become_characters_however_often_they_were_escaped() {
        assert_eq!(open_clip("salt &amp; pepper"), "salt & pepper");
        assert_eq!(open_clip("salt &amp;amp; pepper"), "salt & pepper");
        assert_eq!(open_clip("&lt;b&gt; caf&eacute; &#233;"), "<b> café é");
    }

    #[test]
    fn transformers_leaves_entities_and_quotes_and_composes_accents() {
        assert_eq!(
            transformers(" cafe\u{301}  &amp; \u{201c}x\u{201d}\n"),
            "café &amp; \u{201c}x\u{201d}"
        );
    }
}
