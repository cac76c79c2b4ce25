//! Who waits for a lock, and in which order they came.
//!
//! [`proc_locks`](super::proc_locks) knows it too, but a look there takes longer than all that a guard does. So whoever
//! waits also has a shared lock on one byte far behind the file's end, an open file description's (`F_OFD_SETLK` of
//! `fcntl(2)`), which has nothing to do with the lock of `flock(2)`, hinders nobody, and goes with its process. Which
//! byte it is says when the wait began. Who gives the lock up asks whether anybody waits, and so does a newcomer; who
//! gets it after a wait asks whether anybody came earlier.
//!
//! Who waits by other means, `flock(1)` say, is not in it, and has to look whether the file is still the path's.

use std::fs::File;
use std::sync::atomic::{AtomicI64, Ordering};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::lifetime::clock::since_boot;
use crate::weaken::{self, Protection};

/// The byte that is the first place in the queue; the others follow it in the order of arrival.
const FIRST: libc::off_t = 1 << 62;
/// Where whoever waits by an earlier version is, behind all others.
const LAST: libc::off_t = libc::off_t::MAX - 1;

/// A place in the queue: the moment at which a wait began, by the clock since boot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(libc::off_t);

impl Place {
    /// The last place at this moment.
    pub(super) fn now() -> Self {
        // Two waits of one process never have the same.
        static LATEST: AtomicI64 = AtomicI64::new(0);
        let now = libc::off_t::try_from(since_boot().as_nanos()).unwrap_or(LAST - FIRST);
        let before = LATEST.fetch_max(now, Ordering::Relaxed);
        Self((FIRST + now.max(before + 1)).min(LAST))
    }

    /// Takes the place, until [`leave`] or as long as the file is open.
    ///
    /// A filesystem that has no such locks only makes the queue be formed anew after each release.
    pub(super) fn join(self, file: &File) {
        let _unsupported = fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, self.0, 1)));
    }

    /// Whether anybody waits that came earlier.
    pub(super) fn is_behind(self, file: &File) -> bool {
        weaken::on(Protection::Overtaking) && any_in(file, FIRST, self.0 - FIRST)
    }
}

/// Leaves the queue: what was waited for is had.
pub(super) fn leave(file: &File) {
    let _unsupported = fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, FIRST, 0)));
}

/// Whether anybody else is in the queue.
pub(super) fn is_joined(file: &File) -> bool {
    any_in(file, FIRST, 0)
}

/// Whether another open file has a place among these bytes; with a length of 0, from the first one on.
fn any_in(file: &File, first: libc::off_t, length: libc::off_t) -> bool {
    if !weaken::on(Protection::Queue) {
        return false;
    }
    let mut asked = range(libc::F_WRLCK, first, length);
    // Where there are no such locks there is no queue.
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked)).is_ok() && i32::from(asked.l_type) != libc::F_UNLCK
}

fn range(kind: i32, first: libc::off_t, length: libc::off_t) -> libc::flock {
    // An open file description's lock wants no pid, and the kinds fit.
    libc::flock { l_type: kind as _, l_whence: libc::SEEK_SET as _, l_start: first, l_len: length, l_pid: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_seen_by_others_until_its_file_is_closed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path()).unwrap();
        let (holder, waiter, other) = (open(), open(), open());
        fs2::FileExt::lock_exclusive(&holder).unwrap();
        assert!(!is_joined(&holder));
        Place::now().join(&waiter);
        Place::now().join(&other);
        assert!(is_joined(&holder));
        drop(other);
        assert!(is_joined(&holder) && !is_joined(&waiter), "its own place does not count");
        let shared = waiter.try_clone().unwrap();
        drop(waiter);
        assert!(is_joined(&holder), "another share of it is open");
        drop(shared);
        assert!(!is_joined(&holder));
        Place::now().join(&holder);
        leave(&holder);
        assert!(!is_joined(&open()), "it has what it waited for");
    }

    #[test]
    fn who_came_earlier_is_told_from_who_came_later() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().read(true).write(true).open(file.path()).unwrap();
        let (first, second) = (open(), open());
        let places = [Place::now(), Place::now()];
        places[1].join(&second);
        assert!(!places[1].is_behind(&second) && !places[0].is_behind(&first));
        places[0].join(&first);
        assert!(places[1].is_behind(&second) && !places[0].is_behind(&first));
        leave(&first);
        assert!(!places[1].is_behind(&second));
        // By an earlier version, which has one byte for all.
        let _unsupported = fcntl(&first, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, LAST, 1)));
        assert!(is_joined(&second) && !places[1].is_behind(&second));
    }
}
