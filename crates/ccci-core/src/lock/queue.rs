//! Who waits for a lock, told by the kernel to the one who asks when it gives the lock up.
//!
//! [`proc_locks`](super::proc_locks) knows it too, but a look there takes longer than all that a guard does. So whoever
//! waits also has a shared lock on one byte far behind the file's end, an open file description's (`F_OFD_SETLK` of
//! `fcntl(2)`), which has nothing to do with the lock of `flock(2)`, hinders nobody, and goes with its process.
//!
//! Who waits by other means, `flock(1)` say, is not in it, and has to look whether the file is still the path's.

use std::fs::File;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::weaken::{self, Protection};

/// The byte that stands for a place in the queue.
const PLACE: libc::off_t = libc::off_t::MAX - 1;

/// Joins the queue, until [`leave`] or as long as the file is open.
///
/// A filesystem that has no such locks only makes the queue be formed anew after each release.
pub(super) fn join(file: &File) {
    let _unsupported = fcntl(file, FcntlArg::F_OFD_SETLK(&place(libc::F_RDLCK)));
}

/// Leaves the queue: what was waited for is had.
pub(super) fn leave(file: &File) {
    let _unsupported = fcntl(file, FcntlArg::F_OFD_SETLK(&place(libc::F_UNLCK)));
}

/// Whether anybody else is in the queue.
pub(super) fn is_joined(file: &File) -> bool {
    if !weaken::on(Protection::Queue) {
        return false;
    }
    let mut asked = place(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked)).is_ok() && i32::from(asked.l_type) != libc::F_UNLCK
}

fn place(kind: i32) -> libc::flock {
    // An open file description's lock wants no pid, and the kinds fit.
    libc::flock { l_type: kind as _, l_whence: libc::SEEK_SET as _, l_start: PLACE, l_len: 1, l_pid: 0 }
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
        join(&waiter);
        join(&other);
        assert!(is_joined(&holder));
        drop(other);
        assert!(is_joined(&holder) && !is_joined(&waiter), "its own place does not count");
        let shared = waiter.try_clone().unwrap();
        drop(waiter);
        assert!(is_joined(&holder), "another share of it is open");
        drop(shared);
        assert!(!is_joined(&holder));
        join(&holder);
        leave(&holder);
        assert!(!is_joined(&open()), "it has what it waited for");
    }
}
