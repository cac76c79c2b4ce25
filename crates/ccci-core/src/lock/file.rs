//! A lock's file: opened without following, truncating or blocking on anything, and compared with its path.
//!
//! App, slot and host locks are opened here, so that each of them gets every check.

use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::proc_locks;
use crate::weaken::{self, Protection};

/// Why a lock could not be taken, kept or released.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The lock directory is not there.
    #[error(
        "lock directory {dir} does not exist: create it (on NixOS the module's tmpfiles rule does) or set CCCI_APP_LOCK_DIR"
    )]
    NoDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// Something else has the lock file's name.
    #[error("{path} is {what}, not a lock file of ours: it is never followed or replaced; {advice}")]
    NotOurs {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: String,
        /// The way out.
        advice: String,
    },
    /// Another run holds it.
    #[error("{path} is held by another run")]
    Held {
        /// The lock file.
        path: PathBuf,
    },
    /// Held by us once, and the path is no longer this file: somebody's clean-up removed it.
    #[error("lock file {path} was removed or replaced by somebody while we held it: nothing more is touched under it")]
    Lost {
        /// The lock file.
        path: PathBuf,
    },
    /// Any other answer of the kernel.
    #[error("cannot {doing} lock file {path}: {source}{}", hint(source))]
    Os {
        /// What was tried.
        doing: &'static str,
        /// The lock file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; is this the right user, and CCCI_APP_LOCK_DIR the right place?",
        _ => "",
    }
}

/// How often a file is opened that is replaced before it is locked.
pub(super) const TRIES: usize = 8;

/// Opens or makes a lock's file.
///
/// # Errors
/// [`LockError`] for what is no regular file of this user's.
pub(super) fn open(path: &Path, create: bool) -> Result<File, LockError> {
    let mut flags = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    if !weaken::on(Protection::NoFollow) {
        flags.remove(OFlag::O_NOFOLLOW);
    }
    let opened =
        OpenOptions::new().read(true).write(true).create(create).mode(0o600).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|source| explain_open(path, source))?;
    let meta = file.metadata().map_err(|source| os(path, "stat", source))?;
    if !meta.is_file() {
        return Err(not_a_file(path, meta.file_type()));
    }
    let me = nix::unistd::geteuid().as_raw();
    if meta.uid() != me {
        return Err(foreign(path, meta.uid(), me));
    }
    Ok(file)
}

/// Opens what is at a lock file's path, to read: never followed, never blocked on.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// Whether `file` is still what the path names, with its name intact.
pub(super) fn is_live(path: &Path, file: &File) -> Result<bool, LockError> {
    let held = file.metadata().map_err(|source| os(path, "stat", source))?;
    match path.symlink_metadata() {
        Ok(there) => Ok(held.nlink() > 0 && there.dev() == held.dev() && there.ino() == held.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(os(path, "stat", source)),
    }
}

/// What a `flock` that does not wait has answered.
pub(super) fn granted(path: &Path, answer: io::Result<()>) -> Result<bool, LockError> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(false),
        Err(source) => Err(os(path, "lock", source)),
    }
}

pub(super) fn os(path: &Path, doing: &'static str, source: io::Error) -> LockError {
    LockError::Os { doing, path: path.to_owned(), source }
}

fn explain_open(path: &Path, source: io::Error) -> LockError {
    if let Ok(meta) = path.symlink_metadata()
        && !meta.is_file()
    {
        return not_a_file(path, meta.file_type());
    }
    match (source.kind(), path.parent()) {
        (io::ErrorKind::NotFound, Some(dir)) if !dir.is_dir() => LockError::NoDirectory { dir: dir.to_owned() },
        _ => os(path, "open", source),
    }
}

fn not_a_file(path: &Path, kind: FileType) -> LockError {
    let advice = "look at it and remove it by hand".to_owned();
    LockError::NotOurs { path: path.to_owned(), what: describe(kind).to_owned(), advice }
}

/// Another user's. Removed while it is held, there would be two locks of one name.
fn foreign(path: &Path, owner: u32, me: u32) -> LockError {
    let what = format!("owned by uid {owner}, while this runs as uid {me}");
    let other_way = format!("run this as uid {owner}, or set CCCI_APP_LOCK_DIR to a directory of its own");
    let advice = match proc_locks::of(path).map(|entries| entries.first().map(|entry| entry.pid)) {
        Ok(None) => format!("nobody holds it: {other_way}, or remove it by hand"),
        Ok(Some(pid)) => format!("pid {pid} holds it, so leave it there: {other_way}"),
        Err(error) => format!("it may be held ({error}), so leave it there: {other_way}"),
    };
    LockError::NotOurs { path: path.to_owned(), what, advice }
}

fn describe(kind: FileType) -> &'static str {
    if kind.is_symlink() {
        "a symlink"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_remove_what_another_user_holds() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let free = foreign(file.path(), 1, 0).to_string();
        assert!(free.contains("owned by uid 1") && free.contains("nobody holds it"), "{free}");
        fs2::FileExt::lock_exclusive(file.as_file()).unwrap();
        let held = foreign(file.path(), 1, 0).to_string();
        assert!(held.contains(&format!("pid {} holds it, so leave it there", std::process::id())), "{held}");
        assert!(!held.contains("remove it"), "{held}");
        let unknown = foreign(Path::new("/nowhere/x.lock"), 1, 0).to_string();
        assert!(unknown.contains("it may be held") && !unknown.contains("remove it"), "{unknown}");
    }
}
