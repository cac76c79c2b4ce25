//! A secret from a file that is its owner's alone: never on a command line, never in a log.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A longer file is no token.
const LONGEST: u64 = 4096;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot read the secret {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Anybody can read it.
    #[error(
        "{path} is readable by everybody on this host (mode {mode:04o}): chmod 0600 {path}, and replace the secret"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is no secret.
    #[error("{path} holds no secret: {why}")]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
}

/// A secret. It has no text of its own but by [`Secret::reveal`].
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Secret {
    /// Reads it. A symlink is followed, since secret stores hand their files out by one; what counts is
    /// the mode of the file that was opened.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(SecretError::Open { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(LONGEST + 1).read_to_string(&mut text).map_err(failed)?;
        let wrong = |why| SecretError::Wrong { path: path.to_owned(), why };
        let secret = text.trim();
        match secret.len() {
            0 => Err(wrong("it is empty")),
            len if len as u64 > LONGEST => Err(wrong("it is longer than 4096 bytes")),
            _ if !secret.bytes().all(|byte| byte.is_ascii_graphic()) => Err(wrong("it is not one printable word")),
            _ => Ok(Self(secret.to_owned())),
        }
    }

    /// The secret itself, for whom it is meant.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// One that is no file's, for tests.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_can_read_is_refused_also_behind_a_symlink() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("token"), dir.path().join("link"));
        std::fs::write(&path, "abcdef\n").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for (mode, good) in
            [(0o600, true), (0o640, true), (0o400, true), (0o644, false), (0o602, false), (0o601, false)]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            for path in [&path, &link] {
                match Secret::read(path) {
                    Ok(secret) => assert!(good && secret.reveal() == "abcdef", "{mode:o}"),
                    Err(error) => assert!(!good && error.to_string().contains("chmod 0600"), "{mode:o}: {error}"),
                }
            }
        }
    }

    #[test]
    fn what_is_no_secret_is_said_without_saying_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (text, says) in [("\n", "empty"), ("two words", "one printable word"), (&"x".repeat(5000), "longer")] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let error = Secret::read(&path).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("two words"), "{error}");
        }
        assert!(Secret::read(&dir.path().join("gone")).unwrap_err().to_string().contains("cannot read"));
    }
}
