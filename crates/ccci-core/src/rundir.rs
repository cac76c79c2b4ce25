//! A run's directory: everything that one run knows, and nothing that two runs share (`[CONC-A1]`).
//!
//! `run.json` says what the run is; `events.jsonl` grows by one line per event, so that a worker that
//! dies loses nothing it had said; `planned.jsonl` is the durable record of what will be created,
//! written before it is created (`[48]`). Whole files are replaced atomically.

pub mod claim;
pub mod lines;
pub mod open;
pub mod unfinished;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::name::RunId;
use crate::substrate::Object;
use crate::weaken::{self, Protection};
pub use lines::{Lines, Torn};

/// Why a run directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}: {source}{}", hint(source))]
pub struct RunDirError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; the disk is full: `cc-ci-janitor sweep` frees what dead runs left",
        io::ErrorKind::PermissionDenied => "; is this the right user, and CCCI_RUNS_DIR the right place?",
        _ => "",
    }
}

/// The names of the files in a run directory.
pub mod file {
    /// What the run is.
    pub const RUN: &str = "run.json";
    /// What happened, a line each.
    pub const EVENTS: &str = "events.jsonl";
    /// What will be created, a line each.
    pub const PLANNED: &str = "planned.jsonl";
    /// The apps that the run's own depends on, a line each: written before any part of one is made.
    pub const DEPENDENCIES: &str = "deps";
    /// What teardown removed so far, a line each.
    pub const REMOVED: &str = "removed.jsonl";
    /// What teardown did.
    pub const RECEIPT: &str = "receipt.json";
    /// What a reap before the run did.
    pub const PRECLEAN: &str = "preclean.json";
    /// The result.
    pub const RESULTS: &str = "results.json";
    /// A guard's result, where its directory stays.
    pub const GUARD: &str = "guard.json";
    /// All that was said.
    pub const LOG: &str = "run.log";
    /// The archives of the app's volumes: a directory.
    pub const ARCHIVES: &str = "backup";
    /// The app, as a browser saw it.
    pub const SCREENSHOT: &str = "screenshot.png";
    /// Who has asked this run to make room for it.
    pub const SUPERSEDED: &str = "superseded.json";
    /// Where the run was reported to have ended: teardown is complete and nothing needs reaping.
    pub const CLEAN: &str = "clean";
}

/// A run's directory.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
    /// An exclusive lock on the directory itself, which all parts of the run share: whoever finishes dead runs, or
    /// trims old directories, asks the kernel too.
    claim: Option<Arc<File>>,
}

impl RunDir {
    /// Makes the directory of a new run. An id that exists already gets `-<pid>`.
    ///
    /// # Errors
    /// [`RunDirError`].
    pub fn create(runs_dir: &Path, id: &RunId) -> Result<(Self, RunId), RunDirError> {
        let fail = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| RunDirError { doing, path, source }
        };
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o755).recursive(true);
        builder.create(runs_dir).map_err(fail("create", runs_dir))?;
        let mut only_me = std::fs::DirBuilder::new();
        // Hooks and logs may hold what is nobody else's business.
        only_me.mode(0o700);
        let own = RunId::new(&format!("{id}-{}", std::process::id())).unwrap_or_else(|_| id.clone());
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for id in [id, &own] {
            let path = runs_dir.join(id.as_str());
            match only_me.create(&path) {
                Ok(()) => {
                    let claim = File::open(&path).and_then(|dir| fs2::FileExt::try_lock_exclusive(&dir).map(|()| dir));
                    let claim = claim.map_err(fail("claim", &path))?;
                    return Ok((Self { path, claim: Some(Arc::new(claim)) }, id.clone()));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(fail("create", &path)(error)),
            }
        }
        Err(fail("create", &runs_dir.join(own.as_str()))(last))
    }

    /// An existing run's directory.
    #[must_use]
    pub const fn open(path: PathBuf) -> Self {
        Self { path, claim: None }
    }

    /// A run's directory with the share of its claim that was handed down as `fd`.
    #[must_use]
    pub fn adopt(path: PathBuf, fd: OwnedFd) -> Self {
        Self { path, claim: Some(Arc::new(File::from(fd))) }
    }

    /// The claim's fd, for a part of the run that shares it.
    #[must_use]
    pub fn claim_fd(&self) -> Option<RawFd> {
        self.claim.as_ref().filter(|_| weaken::on(Protection::SharedClaim)).map(|claim| claim.as_raw_fd())
    }

    /// Gives up the claim for all parts, before the lock: who has the lock and still meets the claim of a run that had
    /// it knows that the run was robbed of it.
    pub fn unclaim(&self) {
        if let Some(claim) = &self.claim
            && let Err(error) = fs2::FileExt::unlock(claim.as_ref())
        {
            tracing::debug!(%error, "the claim lasts as long as the run's parts");
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn failed(&self, doing: &'static str, name: &str, source: io::Error) -> RunDirError {
        RunDirError { doing, path: self.join(name), source }
    }

    /// Appends a line of JSON, in one write, so that the lines of several processes do not mix. It begins a line of its
    /// own, whatever a full disk or a crash has left before it.
    ///
    /// # Errors
    /// [`RunDirError`]; then the line is not there, or part of it is.
    pub fn append(&self, name: &str, value: &impl Serialize) -> Result<(), RunDirError> {
        let written = serde_json::to_vec(value).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            lines::append(&self.join(name), &line)
        });
        written.map_err(|source| self.failed("append to", name, source))
    }

    /// The lines of a file that [`RunDir::append`] wrote, and those that a full disk, a crash or somebody else has
    /// spoilt; a missing file has none.
    ///
    /// # Errors
    /// [`RunDirError`] when the file is there and cannot be read.
    pub fn lines<T: DeserializeOwned>(&self, name: &str) -> Result<Lines<T>, RunDirError> {
        lines::read(&self.join(name)).map_err(|source| self.failed("read", name, source))
    }

    /// Replaces a file: the old one or the new one is there, whole, whatever happens.
    ///
    /// # Errors
    /// [`RunDirError`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunDirError> {
        write_atomic(&self.join(name), bytes).map_err(|source| self.failed("write", name, source))
    }

    /// [`RunDir::write`], for what means nothing after a power cut, or can be made again: it is not waited for until it
    /// is on the disk, and a power cut may leave an empty file.
    ///
    /// # Errors
    /// [`RunDirError`].
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RunDirError> {
        replace(&self.join(name), bytes, false).map_err(|source| self.failed("write", name, source))
    }

    /// [`RunDir::put`], of a value as readable JSON.
    ///
    /// # Errors
    /// [`RunDirError`].
    pub fn put_json(&self, name: &str, value: &impl Serialize) -> Result<(), RunDirError> {
        self.put(name, &self.readable(name, value)?)
    }

    /// Removes what a process left that was killed while it replaced a file. Under the claim.
    ///
    /// # Errors
    /// [`RunDirError`].
    pub fn clear_temporary(&self) -> Result<(), RunDirError> {
        let clear = || {
            for entry in std::fs::read_dir(&self.path)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(TEMPORARY) && entry.file_type()?.is_file() {
                    std::fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        clear().map_err(|source| self.failed("clear", "", source))
    }

    /// Writes what says whether a teardown is still to come: tried again, as a disk may be full for a moment, and a
    /// teardown that nobody knows of runs twice.
    ///
    /// # Errors
    /// The last try's.
    pub fn insist(&self, write: impl Fn(&Self) -> Result<(), RunDirError>) -> Result<(), RunDirError> {
        (1..WRITTEN_AGAIN).find_map(|_| write(self).ok()).map_or_else(|| write(self), Ok)
    }

    /// Makes an empty file, which says something by being there. A power cut may take it back.
    ///
    /// # Errors
    /// [`RunDirError`].
    pub fn mark(&self, name: &str) -> Result<(), RunDirError> {
        File::create(self.join(name)).map(drop).map_err(|source| self.failed("make", name, source))
    }

    /// Returns when the names of the directory's files are on the disk.
    ///
    /// # Errors
    /// [`RunDirError`].
    pub fn sync(&self) -> Result<(), RunDirError> {
        let synced = File::open(&self.path).and_then(|dir| dir.sync_all());
        synced.map_err(|source| self.failed("sync", "", source))
    }

    /// [`RunDir::write`], of a value as readable JSON.
    ///
    /// # Errors
    /// [`RunDirError`].
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), RunDirError> {
        self.write(name, &self.readable(name, value)?)
    }

    fn readable(&self, name: &str, value: &impl Serialize) -> Result<Vec<u8>, RunDirError> {
        serde_json::to_vec_pretty(value).map_err(|error| self.failed("write", name, error.into()))
    }

    /// Reads a file that [`RunDir::write_json`] wrote; `None` when it is not there.
    ///
    /// # Errors
    /// [`RunDirError`] when it is there and cannot be read.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, RunDirError> {
        match std::fs::read(self.join(name)) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|error| self.failed("understand", name, error.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", name, error)),
        }
    }

    /// Writes down, durably, what is about to be created.
    ///
    /// # Errors
    /// [`RunDirError`]; then it must not be created.
    pub fn plan(&self, objects: &[Object]) -> Result<(), RunDirError> {
        self.record(file::PLANNED, objects)
    }

    /// Appends lines that are on the disk when this returns.
    ///
    /// # Errors
    /// [`RunDirError`]; then what they announce must not be done.
    pub fn record(&self, name: &str, values: &[impl Serialize]) -> Result<(), RunDirError> {
        for value in values {
            self.append(name, value)?;
        }
        let synced = File::open(self.join(name)).and_then(|record| record.sync_data());
        match synced {
            Err(error) if !values.is_empty() => Err(self.failed("sync", name, error)),
            _ => Ok(()),
        }
    }

    /// What was planned so far. A line that is not whole was never on the disk when [`RunDir::plan`] returned, so nothing
    /// was made of it.
    ///
    /// # Errors
    /// [`RunDirError`] when the record is there and cannot be read.
    pub fn planned(&self) -> Result<Vec<Object>, RunDirError> {
        Ok(self.lines(file::PLANNED)?.items)
    }
}

/// How often what decides on a teardown is written.
const WRITTEN_AGAIN: usize = 4;

/// What a file is called that is still being written.
pub const TEMPORARY: &str = ".new-";

/// Replaces a file: written beside it, synced, renamed. The rename is not synced: after a power cut the old
/// file may be there, which is whole too.
///
/// # Errors
/// What the kernel says; the old file is then still whole.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, true)
}

fn replace(path: &Path, bytes: &[u8], durably: bool) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut temp = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(dir)?;
    temp.write_all(bytes)?;
    if durably {
        temp.as_file().sync_all()?;
    }
    temp.persist(path).map(drop).map_err(|error| error.error)
}

/// Puts a directory in the place of another, or of nothing, in one step: whoever looks sees the old one or
/// the new one. What stood there is at `fresh` afterwards.
///
/// # Errors
/// What the kernel says; a mount, and some network file systems, cannot be exchanged.
pub fn replace_dir(fresh: &Path, place: &Path) -> io::Result<()> {
    if place.exists() {
        rustix::fs::renameat_with(rustix::fs::CWD, fresh, rustix::fs::CWD, place, rustix::fs::RenameFlags::EXCHANGE)?;
        return Ok(());
    }
    std::fs::rename(fresh, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_exists_gets_the_pid() {
        let runs = tempfile::tempdir().unwrap();
        let id = RunId::new("7").unwrap();
        let (first, first_id) = RunDir::create(runs.path(), &id).unwrap();
        let (second, second_id) = RunDir::create(runs.path(), &id).unwrap();
        assert_eq!(first_id.as_str(), "7");
        assert_eq!(second_id.as_str(), format!("7-{}", std::process::id()));
        assert_ne!(first.path(), second.path());
        assert!(RunDir::create(runs.path(), &id).is_err(), "never shared");
    }
}
