//! Keeping secrets out of logs: everything that a child prints, and all that a run reports, goes through here first.
//!
//! A secret is known in the shapes in which programs write it down (`shapes`). [`Redactor`] masks them in a line;
//! [`Searcher`] finds them in a file, also where a line's or a part's end divides one.

mod search;
mod shapes;

use std::sync::{PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};

pub use search::Searcher;

/// Replaces secret values and values of secret-looking assignments.
#[derive(Clone, Default)]
pub struct Redactor {
    values: Vec<String>,
    /// All shapes of all values, and what finds them.
    shapes: Vec<Vec<u8>>,
    finder: Option<AhoCorasick>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What it keeps out of logs must not get there by itself.
        write!(f, "Redactor({} values)", self.values.len())
    }
}

/// What stands in for a secret.
const MASK: &str = "***";
/// A shorter value would mask ordinary words, and be found everywhere.
const SHORTEST: usize = 6;
/// Of a value that was cut so much at least is left to be told from ordinary words.
const REST: usize = 3;

/// What stands where the rest of a line was cut off: it may have been the rest of a secret.
pub const CUT: &str = " … (a longer line, cut)";
/// What stands where the begin of a text was cut off.
pub const CUT_BEFORE: &str = "(cut) … ";

/// What of a value can be told from ordinary words; nothing of an empty or very short one.
#[must_use]
pub fn telling(value: &str) -> Option<&str> {
    Some(value.trim()).filter(|value| value.len() >= SHORTEST)
}

/// The secrets that this process knows: whatever leaves it by whichever way is cleaned of the same ones.
static KNOWN: RwLock<Redactor> = RwLock::new(Redactor::new());

/// Learns a secret of this process.
pub fn learn(value: &str) {
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).learn(value);
}

/// The line without the secrets that this process knows.
#[must_use]
pub fn clean(line: &str) -> String {
    KNOWN.read().unwrap_or_else(PoisonError::into_inner).clean(line)
}

impl Redactor {
    /// One that knows nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { values: Vec::new(), shapes: Vec::new(), finder: None }
    }

    /// Learns a value.
    pub fn learn(&mut self, value: &str) {
        let Some(value) = telling(value) else { return };
        if self.values.iter().any(|known| known == value) {
            return;
        }
        self.values.push(value.to_owned());
        self.shapes = shapes::of_all(self.values.iter().map(String::as_str));
        // Of several at one place the longest: a value may contain another.
        let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&self.shapes);
        match built {
            Ok(finder) => self.finder = Some(finder),
            // Only for gigabytes of patterns. Then each value is looked for by itself, as it is.
            Err(error) => {
                tracing::warn!(%error, "secrets are masked in their plain form only");
                self.finder = None;
            }
        }
    }

    /// The line without the secrets in it.
    #[must_use]
    pub fn clean(&self, line: &str) -> String {
        let mut line = match &self.finder {
            Some(finder) => mask_all(finder, line),
            None => self.values.iter().fold(line.to_owned(), |line, value| line.replace(value.as_str(), MASK)),
        };
        self.mask_cut(&mut line);
        mask_assignments(&line)
    }

    /// Masks what a cut left of a value: its begin before [`CUT`], its end behind [`CUT_BEFORE`].
    fn mask_cut(&self, line: &mut String) {
        if let Some(text) = line.strip_suffix(CUT) {
            let begin = |shape: &Vec<u8>| (REST..shape.len()).rev().find(|n| text.as_bytes().ends_with(&shape[..*n]));
            if let Some(left) = self.shapes.iter().filter_map(begin).max() {
                *line = format!("{}{MASK}{CUT}", String::from_utf8_lossy(&text.as_bytes()[..text.len() - left]));
            }
        }
        if let Some(text) = line.strip_prefix(CUT_BEFORE) {
            let end = |shape: &Vec<u8>| {
                (REST..shape.len()).rev().find(|n| text.as_bytes().starts_with(&shape[shape.len() - n..]))
            };
            if let Some(left) = self.shapes.iter().filter_map(end).max() {
                *line = format!("{CUT_BEFORE}{MASK}{}", String::from_utf8_lossy(&text.as_bytes()[left..]));
            }
        }
    }
}

/// The line with each match masked; a match of the text's bytes may end inside of a character only where a shape does.
fn mask_all(finder: &AhoCorasick, line: &str) -> String {
    if !finder.is_match(line) {
        return line.to_owned();
    }
    let mut clean = Vec::with_capacity(line.len());
    finder.replace_all_with_bytes(line.as_bytes(), &mut clean, |_, _, out| {
        out.extend_from_slice(MASK.as_bytes());
        true
    });
    String::from_utf8_lossy(&clean).into_owned()
}

/// `DB_PASSWORD=x`, `"api_token": "x"` and the like, whatever the value is.
fn mask_assignments(line: &str) -> String {
    const WORDS: [&str; 6] = ["password", "passwd", "secret", "token", "api_key", "private_key"];
    let lower = line.to_ascii_lowercase();
    let Some(word) = WORDS.iter().filter_map(|word| lower.find(word).map(|at| at + word.len())).min() else {
        return line.to_owned();
    };
    let rest = &line[word..];
    let name_end =
        rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '"' || c == '\'')).unwrap_or(rest.len());
    let Some(value) = rest[name_end..].strip_prefix(['=', ':']) else { return line.to_owned() };
    // `token: x` is an assignment at the start of a line or behind a quote, and prose elsewhere.
    let key_start =
        line[..word].rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).map_or(0, |at| at + 1);
    let prose = !line[..key_start].trim().is_empty() && !line[..key_start].ends_with(['"', '\'', '{', ',']);
    if rest[name_end..].starts_with(':') && prose {
        return line.to_owned();
    }
    let value = value.trim_start();
    // A path or a version is no secret: `SECRET_X_VERSION=v1`, `token: /run/secrets/x`.
    let version = lower[word..word + name_end].contains("version") || lower[word..word + name_end].contains("file");
    if value.is_empty() || version || value.starts_with('/') {
        return line.to_owned();
    }
    let start = line.len() - value.len();
    let end = value.find([' ', ',', '\t', ';']).map_or(line.len(), |end| start + end);
    format!("{}{MASK}{}", &line[..start], &line[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_the_rest_stays() {
        let mut redactor = Redactor::default();
        redactor.learn("hunter2hunter2");
        redactor.learn("ab");
        assert_eq!(redactor.clean("got hunter2hunter2 ok, ab"), "got *** ok, ab");
        assert_eq!(redactor.clean("DB_PASSWORD=abc rest"), "DB_PASSWORD=*** rest");
        assert_eq!(redactor.clean("\"api_token\": \"x\", 1"), "\"api_token\": ***, 1");
        assert_eq!(redactor.clean("SECRET_DB_PASSWORD_VERSION=v1"), "SECRET_DB_PASSWORD_VERSION=v1");
        assert_eq!(redactor.clean("the secret of it"), "the secret of it");
        assert_eq!(redactor.clean("delete without token: ok"), "delete without token: ok");
        assert_eq!(redactor.clean("  password: x"), "  password: ***");
    }
}
