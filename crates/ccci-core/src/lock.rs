//! The one mechanism of ownership: an exclusive `flock(2)` on `<lock_dir>/cc-ci-app-<domain>.lock`.
//!
//! The kernel's lock is the liveness oracle: it is free when its holder is dead, whatever the holder
//! was doing. This module opens, waits for, verifies and removes lock files. It promises that what
//! it calls held is the lock of the *path* at that moment (incident `[inode]`: a waiter may wake up on a file
//! that somebody unlinked). It does not decide what to do about an owner; nothing steals.

pub mod owner;
pub mod proc_locks;
mod queue;
pub mod slots;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::name::LockName;
use crate::weaken::{self, Protection};
pub use owner::{Owner, Unreadable};

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
    #[error(
        "{path} is {what}, not a lock file of ours: it is never followed or replaced; look at it and remove it by hand"
    )]
    NotOurs {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: String,
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

/// Where a lock file is, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockPath {
    name: LockName,
    path: PathBuf,
}

impl LockPath {
    /// The lock of `name` in `dir`.
    #[must_use]
    pub fn new(dir: &Path, name: LockName) -> Self {
        let path = dir.join(name.file_name());
        Self { name, path }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is for.
    #[must_use]
    pub const fn name(&self) -> &LockName {
        &self.name
    }

    /// Opens or makes the file without following, truncating or blocking on anything.
    fn open(&self, create: bool) -> Result<File, LockError> {
        let mut flags = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        if !weaken::on(Protection::NoFollow) {
            flags.remove(OFlag::O_NOFOLLOW);
        }
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .mode(0o600)
            .custom_flags(flags.bits())
            .open(&self.path);
        let file = opened.map_err(|source| self.explain_open(source))?;
        let meta = file.metadata().map_err(|source| self.os("stat", source))?;
        if !meta.is_file() {
            return Err(self.not_ours(describe(meta.file_type())));
        }
        let me = nix::unistd::geteuid().as_raw();
        if meta.uid() != me {
            return Err(self.not_ours(format!("owned by uid {}, while this runs as uid {me}", meta.uid())));
        }
        Ok(file)
    }

    fn explain_open(&self, source: io::Error) -> LockError {
        if let Ok(meta) = self.path.symlink_metadata()
            && !meta.is_file()
        {
            return self.not_ours(describe(meta.file_type()));
        }
        match (source.kind(), self.path.parent()) {
            (io::ErrorKind::NotFound, Some(dir)) if !dir.is_dir() => LockError::NoDirectory { dir: dir.to_owned() },
            _ => self.os("open", source),
        }
    }

    fn not_ours(&self, what: impl Into<String>) -> LockError {
        LockError::NotOurs { path: self.path.clone(), what: what.into() }
    }

    fn os(&self, doing: &'static str, source: io::Error) -> LockError {
        LockError::Os { doing, path: self.path.clone(), source }
    }

    /// Whether `file` is still what the path names, with its name intact.
    fn is_live(&self, file: &File) -> Result<bool, LockError> {
        let held = file.metadata().map_err(|source| self.os("stat", source))?;
        match self.path.symlink_metadata() {
            Ok(there) => Ok(held.nlink() > 0 && there.dev() == held.dev() && there.ino() == held.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.os("stat", source)),
        }
    }

    /// Takes the lock if it is free now. A missing file is made only if `create` says so.
    ///
    /// `Ok(None)`: there is no such file (only without `create`), or it vanished under the probe.
    ///
    /// # Errors
    /// [`LockError::Held`] when another run has it.
    pub fn try_acquire(&self, create: bool) -> Result<Option<AppLock>, LockError> {
        for _ in 0..8 {
            let file = match self.open(create) {
                Err(LockError::Os { source, .. }) if !create && source.kind() == io::ErrorKind::NotFound => {
                    return Ok(None);
                }
                other => other?,
            };
            match fs2::FileExt::try_lock_exclusive(&file) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
                    if weaken::on(Protection::Exclusion) {
                        return Err(LockError::Held { path: self.path.clone() });
                    }
                }
                Err(source) => return Err(self.os("lock", source)),
            }
            if !weaken::on(Protection::InodeCheck) || self.is_live(&file)? {
                return Ok(Some(AppLock { at: self.clone(), file }));
            }
            // Acquired, but no longer the path's inode: a probe skips, an acquirer tries the live path.
            if !create {
                return Ok(None);
            }
        }
        Err(self.os("keep hold of", io::Error::other("it is replaced faster than it can be locked")))
    }

    /// Waits for the lock in a thread of its own, in a blocking `flock` that wakes with the release.
    ///
    /// The caller polls [`Waiting`] beside its signals. A thread that is blocked in `flock` cannot be
    /// called off: who gives up waiting ends the process.
    ///
    /// # Errors
    /// [`LockError`] when the file cannot be opened.
    pub fn wait(&self) -> Result<Waiting, LockError> {
        // Open here, so that what is wrong with the path is said at once.
        let first = self.open(true)?;
        let (sender, result) = mpsc::channel();
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| self.os("wait for", errno.into()))?;
        let bell = wake.as_fd().try_clone_to_owned().map_err(|source| self.os("wait for", source))?;
        let at = self.clone();
        let waiter = std::thread::Builder::new().name("lock-waiter".to_owned()).stack_size(64 * 1024);
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that may: it spawns no process and holds no child"
        )]
        let started = waiter.spawn(move || {
            // A receiver that is gone means that the process is on its way out.
            let _gone = sender.send(at.block_on(first));
            let _full = rustix::io::write(&bell, &1u64.to_ne_bytes());
        });
        let thread = started.map_err(|source| self.os("wait for", source))?;
        Ok(Waiting { wake, result, thread: Some(thread) })
    }

    fn block_on(&self, first: File) -> Result<AppLock, LockError> {
        let mut file = first;
        loop {
            queue::join(&file);
            fs2::FileExt::lock_exclusive(&file).map_err(|source| self.os("lock", source))?;
            queue::leave(&file);
            if !weaken::on(Protection::InodeCheck) || self.is_live(&file)? {
                return Ok(AppLock { at: self.clone(), file });
            }
            file = self.open(true)?;
        }
    }
}

/// Opens what is at a lock file's path, to read: never followed, never blocked on.
fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

fn describe(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
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

/// A wait for the lock; its fd becomes readable when the wait is over.
#[derive(Debug)]
#[must_use = "nobody waits for the lock unless this is polled"]
pub struct Waiting {
    wake: EventFd,
    result: mpsc::Receiver<Result<AppLock, LockError>>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    /// The outcome, once there is one; then the thread has ended.
    pub fn outcome(&mut self) -> Option<Result<AppLock, LockError>> {
        let outcome = self.result.try_recv().ok()?;
        // It has rung the bell, or is about to, and has nothing else to do.
        let _ended = self.thread.take().map(JoinHandle::join);
        Some(outcome)
    }
}

impl AsFd for Waiting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// The lock, held. Whatever deploys, changes or removes an app takes a reference to it.
///
/// The kernel releases it when the last process that shares it is gone; [`AppLock::release`] does it
/// explicitly and removes the file. Dropping closes this process's share only.
#[derive(Debug)]
#[must_use = "the app is unowned as soon as the last share of its lock is dropped"]
pub struct AppLock {
    at: LockPath,
    file: File,
}

impl AppLock {
    /// Where it is.
    #[must_use]
    pub const fn at(&self) -> &LockPath {
        &self.at
    }

    /// Its fd, for a child that shares the ownership (worker, reaper).
    #[must_use]
    pub fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Another share of it, for a part of the run in this same process.
    ///
    /// # Errors
    /// When there is no fd left.
    pub fn share(&self) -> Result<Self, LockError> {
        let file = self.file.try_clone().map_err(|source| self.at.os("share", source))?;
        Ok(Self { at: self.at.clone(), file })
    }

    /// Takes over the share that was handed down as `fd`.
    ///
    /// # Errors
    /// When the fd is not this lock, held by us.
    pub fn adopt(at: LockPath, fd: OwnedFd) -> Result<Self, LockError> {
        let file = File::from(fd);
        // On our own open file description this succeeds at once; on anybody else's it is refused.
        match fs2::FileExt::try_lock_exclusive(&file) {
            Err(_) if weaken::on(Protection::Exclusion) => Err(LockError::Held { path: at.path }),
            _ => Ok(Self { at, file }),
        }
    }

    /// Looks again whether the path is still this file. Before each destructive step.
    ///
    /// # Errors
    /// [`LockError::Lost`] when somebody removed or replaced it: another run may own the app now.
    pub fn verify(&self) -> Result<(), LockError> {
        if !weaken::on(Protection::HolderVerify) || self.at.is_live(&self.file)? {
            Ok(())
        } else {
            Err(LockError::Lost { path: self.at.path.clone() })
        }
    }

    /// Like [`AppLock::verify`], but takes a lost lock again if nobody else has it: for a teardown,
    /// which must not leave the app to nobody.
    ///
    /// # Errors
    /// [`LockError::Lost`] when another run owns the app by now; it reaps what it finds.
    pub fn regain(self) -> Result<Self, LockError> {
        match self.verify() {
            Ok(()) => Ok(self),
            Err(LockError::Lost { path }) => match self.at.try_acquire(true) {
                Ok(Some(lock)) => Ok(lock),
                Ok(None) | Err(LockError::Held { .. }) => Err(LockError::Lost { path }),
                Err(other) => Err(other),
            },
            Err(other) => Err(other),
        }
    }

    /// Writes who owns it. Advisory: the kernel's lock is the truth.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write_owner(&self, owner: &Owner) -> Result<(), LockError> {
        owner::write(&self.file, owner).map_err(|source| self.at.os("write", source))
    }

    /// The record that the file holds: that of a dead run until [`AppLock::write_owner`].
    ///
    /// # Errors
    /// [`Unreadable`] when there is one that cannot be understood: somebody held the lock and died.
    pub fn read_owner(&self) -> Result<Option<Owner>, Unreadable> {
        owner::read(&self.file)
    }

    /// Changes what the record says of the phase.
    ///
    /// # Errors
    /// What cannot be read or written; the record is then out of date.
    pub fn write_phase(&self, phase: &str) -> Result<(), LockError> {
        let read =
            self.read_owner().map_err(|error| self.at.os("read the owner record of", io::Error::other(error)))?;
        match read {
            Some(owner) => self.write_owner(&Owner { phase: phase.to_owned(), ..owner }),
            None => Ok(()),
        }
    }

    /// Removes the file if it is still the path's, and gives the lock up.
    ///
    /// With somebody in the queue (see `lock/queue.rs`) the file stays, emptied: they would all have to queue again on a
    /// new one, in whatever order they woke up.
    ///
    /// # Errors
    /// What the kernel says; the lock is given up all the same.
    pub fn release(self) -> Result<(), LockError> {
        if self.at.is_live(&self.file)? {
            let gone =
                if queue::is_joined(&self.file) { self.file.set_len(0) } else { std::fs::remove_file(&self.at.path) };
            match gone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.at.os("remove", error)),
                _ => {}
            }
        }
        fs2::FileExt::unlock(&self.file).map_err(|source| self.at.os("unlock", source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::GuardName;

    fn lock_in(dir: &Path) -> LockPath {
        LockPath::new(dir, LockName::Guard(GuardName::new("t").unwrap()))
    }

    #[test]
    fn held_is_refused_and_released_is_granted() {
        let dir = tempfile::tempdir().unwrap();
        let at = lock_in(dir.path());
        let held = at.try_acquire(true).unwrap().unwrap();
        assert!(matches!(at.try_acquire(true), Err(LockError::Held { .. })));
        held.release().unwrap();
        assert!(!at.path().exists(), "the holder removes the file");
        assert!(at.try_acquire(false).unwrap().is_none(), "a probe makes no file");
        assert!(!at.path().exists());
    }

    #[test]
    fn a_lock_file_that_vanished_under_its_holder_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = lock_in(dir.path());
        let held = at.try_acquire(true).unwrap().unwrap();
        held.verify().unwrap();
        std::fs::remove_file(at.path()).unwrap();
        assert!(matches!(held.verify(), Err(LockError::Lost { .. })));
        let other = at.try_acquire(true).unwrap().unwrap();
        assert!(matches!(held.regain(), Err(LockError::Lost { .. })), "another run owns it");
        other.verify().unwrap();
    }

    #[test]
    fn a_lost_lock_that_nobody_has_is_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let at = lock_in(dir.path());
        let held = at.try_acquire(true).unwrap().unwrap();
        std::fs::remove_file(at.path()).unwrap();
        let again = held.regain().unwrap();
        again.verify().unwrap();
        assert!(matches!(at.try_acquire(true), Err(LockError::Held { .. })));
    }

    #[test]
    fn what_is_no_lock_file_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = lock_in(dir.path());
        let target = dir.path().join("target");
        std::os::unix::fs::symlink(&target, at.path()).unwrap();
        assert!(at.try_acquire(true).unwrap_err().to_string().contains("a symlink"));
        assert!(!target.exists(), "never followed");
        std::fs::remove_file(at.path()).unwrap();
        std::fs::create_dir(at.path()).unwrap();
        assert!(at.try_acquire(true).unwrap_err().to_string().contains("a directory"));
        std::fs::remove_dir(at.path()).unwrap();
        nix::unistd::mkfifo(at.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(at.try_acquire(true).unwrap_err().to_string().contains("a FIFO"));
        assert!(at.wait().is_err());
        let gone = lock_in(&dir.path().join("none"));
        assert!(matches!(gone.try_acquire(true), Err(LockError::NoDirectory { .. })));
    }
}
