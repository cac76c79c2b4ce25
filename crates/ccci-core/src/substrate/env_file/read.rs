//! Reading: where a statement begins and ends, and what it assigns.
//!
//! It is godotenv's way (v1.5.1), which is abra's, statement by statement: a file is no list of lines there. What is
//! read in another way is said in `docs/recipes.md` and held by `tests/godotenv.rs`, which asks godotenv itself.

use std::ops::Range;

use super::expand::{escapes, expand};
use super::{EnvError, MAX_ALL, MAX_FILE, Vars};

/// What stands at the begin of a file that an editor made, and is no part of the text.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// One assignment of an env file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The variable.
    pub name: String,
    /// Its value, as this assignment makes it.
    pub value: String,
    /// The comment behind it, from its `#` on; empty where there is none.
    pub comment: String,
    /// The line in which it begins, from 1.
    pub line: usize,
    /// Where it stands, with its comment.
    pub(super) place: Range<usize>,
}

/// Every assignment of an env file, in order; of several of one variable the last counts.
///
/// # Errors
/// [`EnvError`], with the line.
pub fn assignments(text: &[u8]) -> Result<Vec<Assignment>, EnvError> {
    if text.len() > MAX_FILE {
        return Err(EnvError { line: 1, why: format!("the file is longer than {MAX_FILE} bytes") });
    }
    let mut found = Vec::new();
    let mut vars = Vars::new();
    let mut all = 0;
    let mut at = if text.starts_with(MARK) { MARK.len() } else { 0 };
    while let Some(begin) = statement(text, at) {
        let line = 1 + text[..begin].iter().filter(|byte| **byte == b'\n').count();
        let error = |why: String| EnvError { line, why };
        let (name, value_at) = name(text, begin).map_err(error)?;
        let raw = value(text, value_at).map_err(|why| error(format!("the value of {name} {why}")))?;
        let value = std::str::from_utf8(raw.bytes)
            .map_err(|_| error(format!("the value of {name} is no UTF-8: save the file as such")))?
            .replace("\r\n", "\n");
        let value = match raw.quote {
            Some(b'\'') => Ok(value),
            Some(_) => expand(&escapes(&value), &vars),
            None => expand(&value, &vars),
        };
        let value = value.map_err(|why| error(format!("the value of {name}: {why}")))?;
        if value.contains('\0') {
            return Err(error(format!("the value of {name} has a NUL byte in it")));
        }
        all += name.len() + value.len();
        if all > MAX_ALL {
            return Err(error(format!("with {name} the values come to more than {MAX_ALL} bytes")));
        }
        let comment = String::from_utf8_lossy(&text[raw.comment.clone()]).trim_end().to_owned();
        vars.insert(name.clone(), value.clone());
        found.push(Assignment { name, value, comment, line, place: begin..raw.comment.end });
        at = raw.end;
    }
    Ok(found)
}

/// Where the next statement begins, behind blanks and comments.
fn statement(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += blanks(&text[at..], char::is_whitespace);
        match text.get(at)? {
            b'#' => at += text[at..].iter().position(|byte| *byte == b'\n')?,
            _ => return Some(at),
        }
    }
}

/// A blank that ends no line.
const fn is_blank(char: char) -> bool {
    matches!(char, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

/// How many bytes of blanks a text begins with. Bytes that are no UTF-8 are none.
fn blanks(text: &[u8], is_one: impl Fn(char) -> bool) -> usize {
    let chunk = text.utf8_chunks().next();
    chunk.map_or(0, |chunk| chunk.valid().len() - chunk.valid().trim_start_matches(is_one).len())
}

/// The name that a statement assigns to, and where its value begins.
fn name(text: &[u8], begin: usize) -> Result<(String, usize), String> {
    let mut at = begin;
    if let Some(behind) = text[at..].strip_prefix(b"export") {
        let skipped = blanks(behind, is_blank);
        if skipped > 0 {
            at += "export".len() + skipped;
        }
    }
    let end = text[at..].iter().position(|byte| !is_in_name(*byte)).map_or(text.len(), |end| at + end);
    let near =
        || String::from_utf8_lossy(&text[at..]).chars().take_while(|char| *char != '\n').take(40).collect::<String>();
    if !matches!(text.get(end), Some(b'=' | b':')) {
        return Err(format!("`{}` is neither a comment nor NAME=VALUE", near().trim_end()));
    }
    let name =
        std::str::from_utf8(&text[at..end]).map_err(|_| format!("the name in `{}` is no UTF-8", near()))?.trim_end();
    if name.is_empty() {
        return Err(format!("`{}` has no name", near().trim_end()));
    }
    let value_at = end + 1;
    Ok((name.to_owned(), value_at + blanks(&text[value_at..], is_blank)))
}

/// A letter, a digit, `.`, `_` or a blank, each byte taken for a character.
fn is_in_name(byte: u8) -> bool {
    let char = char::from(byte);
    // Of the first 256 characters these are all that Unicode calls a number and Rust does too.
    char == '_' || char == '.' || is_blank(char) || char.is_alphabetic() || char.is_numeric()
}

/// A value as it stands in the file.
struct Raw<'text> {
    bytes: &'text [u8],
    quote: Option<u8>,
    /// Empty, at the value's end, where there is none.
    comment: Range<usize>,
    /// Where the search for the next statement begins.
    end: usize,
}

fn value(text: &[u8], begin: usize) -> Result<Raw<'_>, String> {
    let Some(quote) = text.get(begin).copied().filter(|byte| matches!(byte, b'"' | b'\'')) else {
        return Ok(plain(text, begin));
    };
    let is_end = |at: &usize| text[*at] == quote && text[at - 1] != b'\\';
    let Some(end) = (begin + 1..text.len()).find(is_end) else {
        return Err(format!("begins with {} and has no end", char::from(quote)));
    };
    let behind = end + 1 + blanks(&text[end + 1..], is_blank);
    let comment = match text.get(behind) {
        Some(b'#') => behind..line_end(text, behind, |byte| byte == b'\n'),
        _ => end + 1..end + 1,
    };
    Ok(Raw { bytes: &text[begin + 1..end], quote: Some(quote), comment, end: end + 1 })
}

/// A value without quotes: the rest of the line, without blanks around it and the last comment in it.
fn plain(text: &[u8], begin: usize) -> Raw<'_> {
    let end = line_end(text, begin, |byte| matches!(byte, b'\n' | b'\r'));
    let line = &text[begin..end];
    let is_comment = |at: &usize| line[*at] == b'#' && ends_blank(&line[..*at]);
    let comment = (1..line.len()).rev().find(is_comment);
    let value = &line[..comment.unwrap_or(line.len())];
    let mut bytes = value;
    while ends_blank(bytes) {
        bytes = &bytes[..bytes.len() - if bytes.last().is_some_and(u8::is_ascii) { 1 } else { 2 }];
    }
    let comment = comment.map_or(end..end, |at| begin + at..end);
    Raw { bytes: &bytes[blanks(bytes, is_blank)..], quote: None, comment, end }
}

fn line_end(text: &[u8], begin: usize, is_end: impl Fn(u8) -> bool) -> usize {
    text[begin..].iter().position(|byte| is_end(*byte)).map_or(text.len(), |end| begin + end)
}

fn ends_blank(bytes: &[u8]) -> bool {
    match bytes {
        [.., 0xc2, 0x85 | 0xa0] => true,
        [.., last] => last.is_ascii() && is_blank(char::from(*last)),
        [] => false,
    }
}
