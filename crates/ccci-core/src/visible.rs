//! What an app, a test, Docker or git says is only text: what would steer a terminal, hide words or turn them around
//! is replaced by a sign that one sees.
//!
//! A terminal escape can hide what stands before it, answer in the reader's place and set the window's title; a carriage
//! return overwrites a line; U+202E shows `gpj.exe` as `exe.jpg`. Each exit of a run (console, logs, events, result,
//! pages, comments) goes through here; colours of ours are painted afterwards. Line ends and tabs stay.

use std::borrow::Cow;

use serde_json::Value;

use crate::weaken::{self, Protection};

/// What an escape looks like afterwards; [`colours`] finds those of colours by it.
pub const ESCAPE: char = '␛';

/// The text with nothing in it that does anything.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) || !weaken::on(Protection::OnlyText) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            // The pictures of ASCII's control characters stand in their order.
            '\0'..='\x1f' if acts(c) => shown.extend(char::from_u32(0x2400 + u32::from(c))),
            '\x7f' => shown.push('␡'),
            c if acts(c) => shown += &format!("<U+{:04X}>", u32::from(c)),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Makes every text in a JSON value visible, the names of keys as well.
#[must_use]
pub fn value(value: Value) -> Value {
    mapped(value, &|words| text(&words).into_owned())
}

/// A JSON value with each of its texts, and each key, put through `change`.
#[must_use]
pub fn mapped(value: Value, change: &dyn Fn(String) -> String) -> Value {
    match value {
        Value::String(words) => Value::String(change(words)),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| mapped(item, change)).collect()),
        Value::Object(items) => {
            Value::Object(items.into_iter().map(|(key, item)| (change(key), mapped(item, change))).collect())
        }
        other => other,
    }
}

/// Whether a character does something instead of being read.
const fn acts(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // C0, DEL and C1.
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => true,
        // Marks, embeddings, overrides and isolates of writing directions; line and paragraph separators.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' => true,
        // What has no width at all, but for the joiners that scripts and emoji need.
        '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => true,
        // Tags: a whole alphabet that nobody sees.
        '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

/// A part of a visible text between two colour sequences.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'text> {
    /// Words.
    Words(&'text str),
    /// What stood between `ESC [` and `m`.
    Colour(&'text str),
}

/// The visible text with its colour sequences (`␛[1;31m`) apart. What else is an escape stays in the words.
#[must_use]
pub fn colours(text: &str) -> Vec<Part<'_>> {
    let (mut parts, mut from) = (Vec::new(), 0);
    for (at, _) in text.match_indices(ESCAPE) {
        let Some(codes) = text[at + ESCAPE.len_utf8()..].strip_prefix('[') else { continue };
        let end = codes.find(|c: char| !(c.is_ascii_digit() || c == ';')).unwrap_or(codes.len());
        if !codes[end..].starts_with('m') {
            continue;
        }
        if at > from {
            parts.push(Part::Words(&text[from..at]));
        }
        parts.push(Part::Colour(&codes[..end]));
        from = at + ESCAPE.len_utf8() + 1 + end + 1;
    }
    if from < text.len() {
        parts.push(Part::Words(&text[from..]));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_act_is_seen_and_what_is_read_stays() {
        for (said, shown) in [
            ("plain, ünïcödé — 漢字 👩‍💻\n\tnext", "plain, ünïcödé — 漢字 👩‍💻\n\tnext"),
            ("\x1b[2J\x1b]0;title\x07", "␛[2J␛]0;title␇"),
            ("safe\rEVIL", "safe␍EVIL"),
            ("a\0b\x08c\x7f", "a␀b␈c␡"),
            ("\u{9b}31m\u{90}", "<U+009B>31m<U+0090>"),
            ("gpj.\u{202e}exe\u{2066}x\u{2069}", "gpj.<U+202E>exe<U+2066>x<U+2069>"),
            ("a\u{200b}b\u{2028}c\u{feff}", "a<U+200B>b<U+2028>c<U+FEFF>"),
            ("\u{e0041}", "<U+E0041>"),
        ] {
            assert_eq!(text(said), shown);
            assert_eq!(text(shown), shown, "once is enough");
        }
    }

    #[test]
    fn a_value_is_visible_in_all_its_texts() {
        let said = serde_json::json!({"k\u{1b}": ["a\r", {"b": "\u{202e}"}], "n": 7});
        let shown = serde_json::json!({"k␛": ["a␍", {"b": "<U+202E>"}], "n": 7});
        assert_eq!(value(said), shown);
    }

    #[test]
    fn colours_are_taken_apart_and_other_escapes_are_words() {
        use Part::{Colour, Words};
        let parts = colours("a␛[1;31mred␛[mb␛[2J␛[3");
        assert_eq!(parts, [Words("a"), Colour("1;31"), Words("red"), Colour(""), Words("b␛[2J␛[3")]);
        assert_eq!(colours("none"), [Words("none")]);
    }
}
