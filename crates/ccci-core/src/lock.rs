//! The one mechanism of ownership: an exclusive `flock(2)` on `<lock_dir>/cc-ci-app-<domain>.lock`.
//!
//! The kernel's lock is the liveness oracle: it is free when its holder is dead, whatever the holder
//! was doing. This module opens, waits for, verifies and removes lock files. It promises that what
//! it calls held is the lock of the *path* at that moment (incident `[inode]`: a waiter may wake up on a file
//! that somebody unlinked). It does not decide what to do about an owner; nothing steals.

mod file;
pub mod owner;
pub mod proc_locks;
mod queue;
pub mod slots;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::name::LockName;
use crate::weaken::{self, Protection};
pub use file::LockError;
use file::open_to_read;
pub use owner::{Owner, Unreadable};

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

    fn open(&self, create: bool) -> Result<File, LockError> {
        file::open(&self.path, create)
    }

    fn os(&self, doing: &'static str, source: io::Error) -> LockError {
        file::os(&self.path, doing, source)
    }

    /// Whether `file` is still what the path names, with its name intact.
    fn is_live(&self, file: &File) -> Result<bool, LockError> {
        file::is_live(&self.path, file)
    }

    /// Takes the lock if it is free now and nobody waits for it: a newcomer overtakes nobody. A missing file is made
    /// only if `create` says so.
    ///
    /// `Ok(None)`: there is no such file (only without `create`), or it vanished under the probe.
    ///
    /// # Errors
    /// [`LockError::Held`] when another run has it, or waits for it and is about to have it.
    pub fn try_acquire(&self, create: bool) -> Result<Option<AppLock>, LockError> {
        self.try_to(create, |file| !weaken::on(Protection::Overtaking) || !queue::is_joined(file))
    }

    /// Takes the lock if it is free now, whoever waits for it: to clean up after the dead. Whoever waits has it next.
    ///
    /// # Errors
    /// [`LockError::Held`] when another run has it.
    pub fn probe(&self, create: bool) -> Result<Option<AppLock>, LockError> {
        self.try_to(create, |_| true)
    }

    fn try_to(&self, create: bool, may: impl Fn(&File) -> bool) -> Result<Option<AppLock>, LockError> {
        for _ in 0..file::TRIES {
            let file = match self.open(create) {
                Err(LockError::Os { source, .. }) if !create && source.kind() == io::ErrorKind::NotFound => {
                    return Ok(None);
                }
                other => other?,
            };
            let free = may(&file) && file::granted(&self.path, fs2::FileExt::try_lock_exclusive(&file))?;
            if !free && weaken::on(Protection::Exclusion) {
                return Err(LockError::Held { path: self.path.clone() });
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
        self.wait_behind(MAKES_WAY)
    }

    fn wait_behind(&self, ways: u32) -> Result<Waiting, LockError> {
        // Open here, so that what is wrong with the path is said at once.
        let first = self.open(true)?;
        let place = queue::Place::now();
        place.join(&first);
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
            let _gone = sender.send(at.block_on(first, place, ways));
            let _full = rustix::io::write(&bell, &1u64.to_ne_bytes());
        });
        let thread = started.map_err(|source| self.os("wait for", source))?;
        Ok(Waiting { wake, result, thread: Some(thread) })
    }

    /// Waits in the kernel's queue, which whoever comes at the moment of a release may pass by: who has the lock and is
    /// not the first in `lock/queue.rs` gives it up again, and lets those who came earlier take it.
    fn block_on(&self, first: File, place: queue::Place, mut ways: u32) -> Result<AppLock, LockError> {
        let mut file = first;
        loop {
            fs2::FileExt::lock_exclusive(&file).map_err(|source| self.os("lock", source))?;
            if weaken::on(Protection::InodeCheck) && !self.is_live(&file)? {
                file = self.open(true)?;
                place.join(&file);
            } else if place.is_behind(&file) && ways > 0 {
                ways -= 1;
                fs2::FileExt::unlock(&file).map_err(|source| self.os("unlock", source))?;
                // Woken early, it only asks once more.
                let _over = nix::poll::poll(&mut [], LETS_PASS);
            } else {
                queue::leave(&file);
                return Ok(AppLock { at: self.clone(), file });
            }
        }
    }
}

/// How often a waiter lets others take the lock that came earlier: about a second. One that is stopped takes nothing, and
/// everybody would wait until it goes on.
const MAKES_WAY: u32 = 1000;
/// For so long, in milliseconds, it leaves the lock to them each time.
const LETS_PASS: u8 = 1;

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
            // It was ours before anybody waited.
            Err(LockError::Lost { path }) => match self.at.probe(true) {
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
        let removed = self.remove();
        let unlocked = fs2::FileExt::unlock(&self.file).map_err(|source| self.at.os("unlock", source));
        removed.and(unlocked)
    }

    /// Removes the file, or empties it for those who wait on it. One that is no longer the path's is nobody's.
    fn remove(&self) -> Result<(), LockError> {
        if !self.at.is_live(&self.file)? {
            return Ok(());
        }
        let gone =
            if queue::is_joined(&self.file) { self.file.set_len(0) } else { std::fs::remove_file(&self.at.path) };
        match gone {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.at.os("remove", error)),
            _ => Ok(()),
        }
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

    #[test]
    fn a_newcomer_lets_those_go_first_who_wait() {
        let dir = tempfile::tempdir().unwrap();
        let at = lock_in(dir.path());
        let held = at.try_acquire(true).unwrap().unwrap();
        let earlier = at.open(true).unwrap();
        queue::Place::now().join(&earlier);
        held.release().unwrap();
        // Free, and somebody was woken who has not come to take it yet.
        assert!(matches!(at.try_acquire(true), Err(LockError::Held { .. })));
        drop(at.probe(true).unwrap().expect("what cleans up is no newcomer"));
        let mut newcomer = at.wait_behind(u32::MAX).unwrap();
        // Between two of its tries it has not got it.
        while fs2::FileExt::try_lock_exclusive(&earlier).is_err() {
            assert!(newcomer.outcome().is_none(), "it has overtaken somebody");
        }
        assert!(newcomer.outcome().is_none(), "it has overtaken somebody");
        drop(earlier);
        let mut bell = [nix::poll::PollFd::new(newcomer.as_fd(), nix::poll::PollFlags::POLLIN)];
        let _rung = nix::poll::poll(&mut bell, nix::poll::PollTimeout::NONE).unwrap();
        newcomer.outcome().unwrap().unwrap().release().unwrap();
        assert!(!at.path().exists(), "nobody waits any more");
    }

    #[test]
    fn one_that_waits_and_takes_nothing_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let at = lock_in(dir.path());
        let stopped = at.open(true).unwrap();
        queue::Place::now().join(&stopped);
        let mut newcomer = at.wait_behind(3).unwrap();
        let mut bell = [nix::poll::PollFd::new(newcomer.as_fd(), nix::poll::PollFlags::POLLIN)];
        let _rung = nix::poll::poll(&mut bell, nix::poll::PollTimeout::NONE).unwrap();
        newcomer.outcome().unwrap().unwrap().release().unwrap();
        assert!(at.path().exists(), "it keeps its place");
    }

    #[test]
    fn a_lock_is_given_up_though_its_file_cannot_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = lock_in(dir.path());
        let held = at.try_acquire(true).unwrap().unwrap();
        let share = held.share().unwrap();
        // The path can no longer be looked at.
        let file = at.open(false).unwrap();
        std::fs::rename(dir.path(), dir.path().with_extension("away")).unwrap();
        std::fs::write(dir.path(), "").unwrap();
        assert!(matches!(held.release(), Err(LockError::Os { doing: "stat", .. })));
        fs2::FileExt::try_lock_exclusive(&file).expect("no share of it holds on");
        drop(share);
        std::fs::remove_file(dir.path()).unwrap();
        std::fs::rename(dir.path().with_extension("away"), dir.path()).unwrap();
    }
}
