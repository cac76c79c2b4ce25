//! Slots: how many runs may work at once (`max_tests`), and the host lock that keeps image pruning
//! away from live runs.
//!
//! A slot is a lock file like any other, `cc-ci-slot-<n>.lock`, with every check of an app's (`lock/file.rs`); who has
//! any of them may work. A run
//! takes its app's lock first and a slot second, so a run that waits for its app takes nobody's turn.
//!
//! Changes are watched for once nothing was free: a watch that is given up costs 7 ms, in which the kernel waits until
//! nobody looks at it any more.

use std::fs::File;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::file::{self, LockError};
use crate::weaken::{self, Protection};

/// Something that a run waits for once it has its app's lock.
pub trait Turn {
    /// What is held then, until it is dropped.
    type Taken;

    /// Takes it if it is free now. From the first time that it is not, changes are told.
    ///
    /// The kernel tells of a close just before it drops the lock, so whoever was told, or has just begun to be, looks
    /// once more a moment later.
    ///
    /// # Errors
    /// What is wrong with the file, or what `open(2)`, `flock(2)` or `inotify(7)` says.
    fn try_take(&mut self) -> Result<Option<Self::Taken>, LockError>;

    /// Readable when it may have become free.
    fn changes(&self) -> Option<BorrowedFd<'_>>;

    /// Forgets the changes so far.
    fn forget_changes(&self);
}

/// What is told of the locks in a directory: nothing, until somebody waits for one.
#[derive(Debug)]
struct Watch {
    dir: PathBuf,
    changes: Option<Inotify>,
}

impl Watch {
    fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), changes: None }
    }

    /// A lock that is given up, also by a SIGKILL, shows as the close of a file opened for writing.
    fn begin(&mut self) -> Result<(), LockError> {
        if self.changes.is_none() {
            self.changes = Some(self.watched().map_err(|errno| file::os(&self.dir, "watch", errno.into()))?);
        }
        Ok(())
    }

    fn watched(&self) -> nix::Result<Inotify> {
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        changes.add_watch(&self.dir, AddWatchFlags::IN_CLOSE_WRITE)?;
        Ok(changes)
    }

    fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.changes.as_ref().map(Inotify::as_fd)
    }

    fn forget(&self) {
        if let Some(changes) = &self.changes {
            while changes.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
    }
}

/// A slot, held until dropped.
#[derive(Debug)]
#[must_use = "the slot is free as soon as this is dropped"]
pub struct Slot {
    _file: File,
}

/// The slots of a host.
#[derive(Debug)]
pub struct Slots {
    count: u32,
    // Opened once: a probe that closed its file again would wake every waiter, itself included.
    files: Vec<File>,
    watch: Watch,
}

impl Slots {
    /// The `count` slots whose lock files are in `dir`.
    #[must_use]
    pub fn new(dir: &Path, count: NonZeroU32) -> Self {
        Self { count: count.get(), files: Vec::new(), watch: Watch::of(dir) }
    }
}

impl Turn for Slots {
    type Taken = Slot;

    fn try_take(&mut self) -> Result<Option<Slot>, LockError> {
        for number in 0..self.count as usize {
            let path = self.watch.dir.join(format!("cc-ci-slot-{number}.lock"));
            let opened = (number < self.files.len()).then(|| self.files.remove(number));
            let (file, taken) = take(&path, opened, fs2::FileExt::try_lock_exclusive)?;
            if taken {
                // The others are closed, and opened anew should anybody want another slot.
                self.files.clear();
                return Ok(Some(Slot { _file: file }));
            }
            self.files.insert(number, file);
        }
        self.watch.begin()?;
        Ok(None)
    }

    fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.watch.changes()
    }

    fn forget_changes(&self) {
        self.watch.forget();
    }
}

/// A run's share of the host lock, held until dropped.
#[derive(Debug)]
#[must_use = "images may be pruned as soon as this is dropped"]
pub struct Share {
    _file: File,
}

/// The host lock, as a run wants it: together with all others, but not with an image prune.
#[derive(Debug)]
pub struct Host {
    file: Option<File>,
    watch: Watch,
}

impl Host {
    /// The host lock in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { file: None, watch: Watch::of(dir) }
    }
}

impl Turn for Host {
    type Taken = Share;

    fn try_take(&mut self) -> Result<Option<Share>, LockError> {
        let (file, taken) = take(&host_lock(&self.watch.dir), self.file.take(), fs2::FileExt::try_lock_shared)?;
        if taken {
            return Ok(Some(Share { _file: file }));
        }
        self.file = Some(file);
        self.watch.begin()?;
        Ok(None)
    }

    fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.watch.changes()
    }

    fn forget_changes(&self) {
        self.watch.forget();
    }
}

/// The host lock, as an image prune has it.
#[derive(Debug)]
#[must_use = "runs may begin as soon as this is dropped"]
pub struct Alone {
    _file: File,
}

/// The host lock, alone; `None` while a run has a share of it.
///
/// # Errors
/// What is wrong with its file.
pub fn alone(dir: &Path) -> Result<Option<Alone>, LockError> {
    let lock = |file: &File| match weaken::on(Protection::PruneAlone) {
        true => fs2::FileExt::try_lock_exclusive(file),
        false => Ok(()),
    };
    let (file, taken) = take(&host_lock(dir), None, lock)?;
    Ok(taken.then_some(Alone { _file: file }))
}

fn host_lock(dir: &Path) -> PathBuf {
    dir.join("cc-ci-host.lock")
}

/// Locks the path's file without waiting, and says whether it was had: not the one of before, should somebody have
/// replaced it, as whoever comes next locks the new one.
fn take(
    path: &Path,
    mut opened: Option<File>,
    lock: impl Fn(&File) -> io::Result<()>,
) -> Result<(File, bool), LockError> {
    for _ in 0..file::TRIES {
        let file = match opened.take() {
            Some(file) => file,
            None => file::open(path, true)?,
        };
        let taken = file::granted(path, lock(&file))?;
        if !weaken::on(Protection::InodeCheck) || file::is_live(path, &file)? {
            return Ok((file, taken));
        }
    }
    Err(file::os(path, "keep hold of", io::Error::other("it is replaced faster than it can be locked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_whose_file_was_replaced_is_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let one = || Slots::new(dir.path(), NonZeroU32::MIN);
        let (holder, mut waiter) = (one().try_take().unwrap(), one());
        assert!(holder.is_some() && waiter.try_take().unwrap().is_none());
        std::fs::remove_file(dir.path().join("cc-ci-slot-0.lock")).unwrap();
        let other = one().try_take().unwrap();
        drop(holder);
        assert!(other.is_some() && waiter.try_take().unwrap().is_none(), "another has the path's");
        drop(other);
        assert!(waiter.try_take().unwrap().is_some());
    }

    #[test]
    fn a_prune_and_runs_exclude_each_other_whoever_replaced_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (mut run, mut second) = (Host::new(dir.path()), Host::new(dir.path()));
        let prune = alone(dir.path()).unwrap();
        assert!(prune.is_some() && run.try_take().unwrap().is_none());
        std::fs::remove_file(dir.path().join("cc-ci-host.lock")).unwrap();
        let share = second.try_take().unwrap();
        assert!(share.is_some() && run.try_take().unwrap().is_some(), "both on the new file");
        drop(prune);
        assert!(alone(dir.path()).unwrap().is_none(), "a run is live");
    }
}
