//! TOML in which nothing is dropped: an unknown key or a wrong type is an error that names file,
//! line and key, and the nearest key that is known.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a TOML file was refused.
#[derive(Debug, thiserror::Error)]
pub enum StrictError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It says something wrong.
    #[error("{path}:{line}: {message}")]
    Wrong {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong; names the key.
        message: String,
    },
}

/// Reads a file.
///
/// # Errors
/// [`StrictError`].
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, StrictError> {
    let text = std::fs::read_to_string(path).map_err(|source| StrictError::Read { path: path.to_owned(), source })?;
    parse(&path.display().to_string(), &text)
}

/// Reads a text; `path` is for the message.
///
/// # Errors
/// [`StrictError::Wrong`].
pub fn parse<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, StrictError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text[..at].matches('\n').count() + 1;
        let message = explain(error.message(), text.lines().nth(line - 1).unwrap_or_default());
        StrictError::Wrong { path: path.to_owned(), line, message }
    })
}

/// Adds to serde's message what it lacks: the key of a wrong value, the nearest key of an unknown one.
fn explain(message: &str, line: &str) -> String {
    let message = message.trim();
    let Some(rest) = message.strip_prefix("unknown field `") else {
        let key = line.split('=').next().unwrap_or_default().trim();
        return if line.contains('=') && !message.contains(key) {
            format!("{key}: {message}")
        } else {
            message.to_owned()
        };
    };
    // serde: unknown field `x`, expected one of `a`, `b`
    let mut quoted = rest.split('`').step_by(2);
    let key = quoted.next().unwrap_or_default();
    let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(key, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().max(key.len()) / 2);
    match nearest {
        Some((_, candidate)) => format!("unknown key `{key}`: did you mean `{candidate}`?"),
        None => format!("unknown key `{key}`: known are {}", known.join(", ")),
    }
}

/// The one of `candidates` that `word` is a slip of the fingers away from.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let distance = |candidate: &&str| strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
    let near = |candidate: &&str| distance(candidate) <= (candidate.len() / 3).min(2);
    candidates.filter(near).min_by_key(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its errors are looked at")]
    struct Sample {
        health: Option<u32>,
        timeout: Option<String>,
    }

    fn error(text: &str) -> String {
        parse::<Sample>("recipe.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_file_line_and_key() {
        assert_eq!(error("healht = 1"), "recipe.toml:1: unknown key `healht`: did you mean `health`?");
        assert_eq!(error("\n\nzebra = 1"), "recipe.toml:3: unknown key `zebra`: known are health, timeout");
        let wrong = error("health = \"x\"");
        assert!(wrong.starts_with("recipe.toml:1: health: invalid type"), "{wrong}");
        assert!(error("health = ").starts_with("recipe.toml:1: "));
    }
}
