//! A pseudo-terminal for a job that refuses to work without one.
//!
//! Both ends are closed on exec from the moment they exist: one that leaked into another child would keep
//! the terminal open behind the job's end.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Wide enough that no program breaks the lines of a table.
const SIZE: Winsize = Winsize { ws_row: 50, ws_col: 400, ws_xpixel: 0, ws_ypixel: 0 };

/// A terminal with its two ends.
pub(super) struct Terminal {
    /// Where its output is read.
    pub(super) ours: OwnedFd,
    /// What the job has.
    pub(super) theirs: OwnedFd,
}

impl Terminal {
    pub(super) fn open() -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        tcsetwinsize(&ours, SIZE)?;
        let theirs = ioctl_tiocgptpeer(&ours, flags)?;
        Ok(Self { ours, theirs })
    }
}
