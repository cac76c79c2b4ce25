//! Env files of apps: `<abra_dir>/servers/<server>/<domain>.env`, where abra keeps them, and the recipe's sample of
//! one. The one reader and the one writer of that format.
//!
//! It reads as abra does, which is to say godotenv ([`assignments`]); where that cuts a value to pieces, as Compose
//! does, or not at all. What cannot be read is an error with its line, and never an empty file. All of it is bounded:
//! whoever opens a pull request writes this.

mod expand;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{SubstrateError, list_dir};
use crate::name::{BaseDomain, Domain};
pub use expand::expand;
pub use read::{Assignment, assignments};

/// A longer file is no env file.
pub const MAX_FILE: usize = 256 * 1024;
/// The longest value; a program cannot be given one of twice that.
pub const MAX_VALUE: usize = 64 * 1024;
/// What all values of a file may come to: a program is given all of them at once.
pub const MAX_ALL: usize = 512 * 1024;

/// The variables of an env file.
pub type Vars = BTreeMap<String, String>;

/// What is wrong with an env file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct EnvError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl EnvError {
    /// The error as compilers put it, with the file.
    #[must_use]
    pub fn in_file(&self, name: &str) -> String {
        format!("{name}:{}: {}", self.line, self.why)
    }
}

/// The env file of `domain` on `server`.
#[must_use]
pub fn path(abra_dir: &Path, server: &str, domain: &Domain) -> PathBuf {
    abra_dir.join("servers").join(server).join(format!("{domain}.env"))
}

/// The domains of ours that have an env file on `server`.
///
/// # Errors
/// [`SubstrateError::Unreadable`].
pub fn apps(abra_dir: &Path, server: &str, base: &BaseDomain) -> Result<BTreeSet<Domain>, SubstrateError> {
    let names = list_dir(&abra_dir.join("servers").join(server))?;
    Ok(names.iter().filter_map(|name| Domain::parse(name.strip_suffix(".env")?, base)).collect())
}

/// A file of this kind as it is; `None` where there is none. One that is longer than [`MAX_FILE`] is read so far that
/// [`assignments`] refuses it.
///
/// # Errors
/// What the kernel says; also when it is no file.
pub fn load(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        // To open a FIFO is to wait for somebody.
        Ok(found) if !found.is_file() => return Err(io::Error::other("it is no regular file")),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The variables of an env file.
///
/// # Errors
/// [`EnvError`].
pub fn parse(text: &[u8]) -> Result<Vars, EnvError> {
    Ok(assignments(text)?.into_iter().map(|assignment| (assignment.name, assignment.value)).collect())
}

/// Sets variables in the text of an env file. Of a variable's assignments the last one counts, so that
/// one is replaced where it stands; a new variable has a line of its own, also when the file has no
/// final newline (`[env-newline]`). All else stays as it is. A comment behind a value stays, as abra reads the length
/// of a secret there; not one behind nothing, which abra takes for the value.
///
/// A `$NAME` in a value stands for what the file says before.
///
/// # Errors
/// When the file cannot be read, or a value cannot be written so that it is read as it is.
pub fn set(text: &[u8], vars: &[(&str, &str)]) -> Result<Vec<u8>, EnvError> {
    let mut text = text.to_owned();
    for (name, value) in vars {
        let old = assignments(&text)?.into_iter().rfind(|assignment| assignment.name == *name);
        let comment = old.as_ref().map_or("", |old| old.comment.as_str());
        // In a comment that has another one in it only quotes say where the value ends.
        let quoted = quote(value, holds_comment(comment)).ok_or_else(|| EnvError {
            line: old.as_ref().map_or(0, |old| old.line),
            why: format!("the value for {name} cannot be written so that abra reads it: it needs quotes, and ends with a quote or a backslash"),
        })?;
        let mut line = format!("{name}={quoted}").into_bytes();
        if !comment.is_empty() && !value.is_empty() {
            line.push(b' ');
            line.extend_from_slice(comment.as_bytes());
        }
        match old {
            Some(old) => {
                let behind = text[old.place.end..].iter().take_while(|byte| !matches!(byte, b'\n' | b'\r'));
                // Another statement in the same line would become a part of the value.
                if behind.clone().any(|byte| !byte.is_ascii_whitespace()) {
                    line.push(b'\n');
                }
                text.splice(old.place, line);
            }
            None => {
                end_line(&mut text);
                text.extend(line);
            }
        }
    }
    end_line(&mut text);
    Ok(text)
}

fn end_line(text: &mut Vec<u8>) {
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
}

/// Whether there is a place in a text at which a comment would begin.
fn holds_comment(text: &str) -> bool {
    text.contains(" #")
        || text.char_indices().any(|(at, char)| char.is_whitespace() && text[at + char.len_utf8()..].starts_with('#'))
}

/// A value as it has to be written so that all of it is read back, by abra too; `None` if there is no way.
fn quote(value: &str, always: bool) -> Option<String> {
    let plain = value == value.trim() && !value.contains(['\n', '\r']) && !holds_comment(value);
    if !always && plain && !value.starts_with(['"', '\'', '#']) {
        return Some(value.to_owned());
    }
    if value.ends_with('\\') {
        return None;
    }
    // In single quotes everything is what it is.
    if !value.contains(['\'', '$', '\r']) {
        return Some(format!("'{value}'"));
    }
    // abra takes all quotes at the end for the one that closes.
    if value.ends_with('"') {
        return None;
    }
    let mut out = String::from("\"");
    let mut chars = value.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '"' => out.push_str("\\\""),
            '\\' if chars.peek() != Some(&'$') => out.push_str("\\\\"),
            other => out.push(other),
        }
    }
    Some(out + "\"")
}

#[cfg(test)]
mod tests;
