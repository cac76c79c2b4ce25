//! Slots: how many runs may work at once (`max_tests`), and the host lock that keeps image pruning
//! away from live runs.
//!
//! A slot is a lock file like any other, `cc-ci-slot-<n>.lock`; who has any of them may work. A run
//! takes its app's lock first and a slot second, so a run that waits for its app takes nobody's turn.
//!
//! Changes are watched for once nothing was free: a watch that is given up costs 7 ms, in which the kernel waits until
//! nobody looks at it any more.

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Something of the host that a run takes besides its app's lock, and waits for.
pub trait Turn {
    /// What is held then, until it is dropped.
    type Taken;

    /// Takes it if it is free now.
    ///
    /// # Errors
    /// What `open(2)`, `flock(2)` or `inotify(7)` says.
    fn try_take(&mut self) -> io::Result<Option<Self::Taken>>;

    /// Readable when it may have become free since it was not.
    fn changes(&self) -> Option<BorrowedFd<'_>>;

    /// Forgets the changes so far. The kernel announces a close just before it drops the lock, so
    /// one more look a moment later is in order.
    fn forget_changes(&self);
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
    dir: PathBuf,
    count: u32,
    // Opened once: a probe that closed its file again would wake every waiter, itself included.
    files: Vec<File>,
    changes: Option<Inotify>,
}

impl Slots {
    /// The `count` slots whose lock files are in `dir`.
    #[must_use]
    pub fn new(dir: &Path, count: NonZeroU32) -> Self {
        Self { dir: dir.to_owned(), count: count.get(), files: Vec::new(), changes: None }
    }

    fn try_each(&mut self) -> io::Result<Option<Slot>> {
        for number in 0..self.count {
            let at = number as usize;
            if at == self.files.len() {
                self.files.push(open(&self.dir.join(format!("cc-ci-slot-{number}.lock")))?);
            }
            if granted(fs2::FileExt::try_lock_exclusive(&self.files[at]))? {
                return Ok(Some(Slot { _file: self.files.swap_remove(at) }));
            }
        }
        Ok(None)
    }
}

impl Turn for Slots {
    type Taken = Slot;

    fn try_take(&mut self) -> io::Result<Option<Slot>> {
        let taken = self.try_each()?;
        if taken.is_some() || self.changes.is_some() {
            return Ok(taken);
        }
        self.changes = Some(watch(&self.dir)?);
        // Again: what was given up before the watch was there is not told.
        self.try_each()
    }

    fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.changes.as_ref().map(Inotify::as_fd)
    }

    fn forget_changes(&self) {
        if let Some(changes) = &self.changes {
            forget(changes);
        }
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
    dir: PathBuf,
    file: Option<File>,
    changes: Option<Inotify>,
}

impl Host {
    /// The host lock in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), file: None, changes: None }
    }

    fn try_share(&mut self) -> io::Result<Option<Share>> {
        let file = match self.file.take() {
            Some(file) => file,
            None => open_host_lock(&self.dir)?,
        };
        if granted(fs2::FileExt::try_lock_shared(&file))? {
            return Ok(Some(Share { _file: file }));
        }
        self.file = Some(file);
        Ok(None)
    }
}

impl Turn for Host {
    type Taken = Share;

    fn try_take(&mut self) -> io::Result<Option<Share>> {
        let taken = self.try_share()?;
        if taken.is_some() || self.changes.is_some() {
            return Ok(taken);
        }
        self.changes = Some(watch(&self.dir)?);
        self.try_share()
    }

    fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.changes.as_ref().map(Inotify::as_fd)
    }

    fn forget_changes(&self) {
        if let Some(changes) = &self.changes {
            forget(changes);
        }
    }
}

/// A lock that is given up, also by a SIGKILL, shows as the close of a file opened for writing.
fn watch(dir: &Path) -> io::Result<Inotify> {
    let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    changes.add_watch(dir, AddWatchFlags::IN_CLOSE_WRITE)?;
    Ok(changes)
}

fn forget(changes: &Inotify) {
    while changes.read_events().is_ok_and(|events| !events.is_empty()) {}
}

fn granted(answer: io::Result<()>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The host lock's file, shared by live runs, exclusive for an image prune.
///
/// # Errors
/// When it cannot be opened.
pub fn open_host_lock(dir: &Path) -> io::Result<File> {
    open(&dir.join("cc-ci-host.lock"))
}

fn open(path: &Path) -> io::Result<File> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_CLOEXEC;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.bits())
        .open(path)
}
