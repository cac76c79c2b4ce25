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
    /// What `open(2)`, `flock(2)` or `inotify(7)` says.
    fn try_take(&mut self) -> io::Result<Option<Self::Taken>>;

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
    fn begin(&mut self) -> io::Result<()> {
        if self.changes.is_none() {
            let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            changes.add_watch(&self.dir, AddWatchFlags::IN_CLOSE_WRITE)?;
            self.changes = Some(changes);
        }
        Ok(())
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

    fn try_take(&mut self) -> io::Result<Option<Slot>> {
        for number in 0..self.count as usize {
            if number == self.files.len() {
                self.files.push(open(&self.watch.dir.join(format!("cc-ci-slot-{number}.lock")))?);
            }
            if granted(fs2::FileExt::try_lock_exclusive(&self.files[number]))? {
                // The others are closed, and opened anew should anybody want another slot.
                return Ok(std::mem::take(&mut self.files).into_iter().nth(number).map(|file| Slot { _file: file }));
            }
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

    fn try_take(&mut self) -> io::Result<Option<Share>> {
        let file = match self.file.take() {
            Some(file) => file,
            None => open_host_lock(&self.watch.dir)?,
        };
        if granted(fs2::FileExt::try_lock_shared(&file))? {
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
