//! Slots: how many runs may work at once (`max_tests`), and the host lock that keeps image pruning
//! away from live runs.
//!
//! A slot is a lock file like any other, `cc-ci-slot-<n>.lock`; who has any of them may work. A run
//! takes its app's lock first and a slot second, so a run that waits for its app takes nobody's turn.

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// A slot, held until dropped.
#[derive(Debug)]
#[must_use = "the slot is free as soon as this is dropped"]
pub struct Slot {
    _file: File,
}

/// The slots of a host.
#[derive(Debug)]
pub struct Slots {
    // Opened once: a probe that closed its file again would wake every waiter, itself included.
    files: Vec<File>,
    changes: Inotify,
}

impl Slots {
    /// The `count` slots whose lock files are in `dir`.
    ///
    /// # Errors
    /// What `inotify(7)` says.
    pub fn new(dir: &Path, count: NonZeroU32) -> io::Result<Self> {
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // A slot that is given up, also by a SIGKILL, shows as the close of a file opened for writing.
        changes.add_watch(dir, AddWatchFlags::IN_CLOSE_WRITE)?;
        let files =
            (0..count.get()).map(|n| open(&dir.join(format!("cc-ci-slot-{n}.lock")))).collect::<io::Result<_>>()?;
        Ok(Self { files, changes })
    }

    /// A free slot, if there is one now.
    ///
    /// # Errors
    /// What `flock(2)` says.
    pub fn try_take(&mut self) -> io::Result<Option<Slot>> {
        for (number, file) in self.files.iter().enumerate() {
            match fs2::FileExt::try_lock_exclusive(file) {
                Ok(()) => {
                    let file = self.files.swap_remove(number);
                    return Ok(Some(Slot { _file: file }));
                }
                Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Forgets the changes so far. The kernel announces a close just before it drops the lock, so
    /// one more look a moment later is in order.
    pub fn forget_changes(&self) {
        while self.changes.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

impl AsFd for Slots {
    /// Readable when a slot may have become free.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
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
