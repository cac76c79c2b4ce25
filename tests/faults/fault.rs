//! Which calls can fail, and how.

use std::fmt;

/// An error of the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Error {
    pub(crate) name: &'static str,
    pub(crate) number: i32,
}

const fn error(name: &'static str, number: nix::errno::Errno) -> Error {
    Error { name, number: number as i32 }
}

use nix::errno::Errno;
const ENOSPC: Error = error("ENOSPC", Errno::ENOSPC);
const EIO: Error = error("EIO", Errno::EIO);
const EMFILE: Error = error("EMFILE", Errno::EMFILE);
const EAGAIN: Error = error("EAGAIN", Errno::EAGAIN);
const ENOMEM: Error = error("ENOMEM", Errno::ENOMEM);
const ENOLCK: Error = error("ENOLCK", Errno::ENOLCK);

/// A kind of call, as `inject.c` knows it.
pub(crate) struct Kind {
    pub(crate) call: &'static str,
    pub(crate) errors: &'static [Error],
    /// Played only when it is asked for: many calls, or few places of ours that they can come from.
    pub(crate) by_hand: bool,
}

const fn kind(call: &'static str, errors: &'static [Error]) -> Kind {
    Kind { call, errors, by_hand: false }
}

const fn by_hand(call: &'static str, errors: &'static [Error]) -> Kind {
    Kind { call, errors, by_hand: true }
}

/// What is played.
pub(crate) const KINDS: [Kind; 22] = [
    kind("write", &[ENOSPC, EIO]),
    kind("fsync", &[EIO]),
    kind("create", &[ENOSPC]),
    kind("openat", &[EMFILE]),
    kind("read", &[EIO]),
    kind("rename", &[ENOSPC]),
    kind("mkdir", &[ENOSPC]),
    kind("unlink", &[EIO]),
    kind("stat", &[EIO]),
    kind("getdents", &[EIO]),
    kind("flock", &[ENOLCK]),
    kind("clone", &[EAGAIN]),
    kind("exec", &[ENOMEM]),
    kind("pipe", &[EMFILE]),
    kind("socket", &[EMFILE]),
    kind("pidfd", &[EMFILE]),
    kind("copy", &[ENOSPC]),
    kind("symlink", &[ENOSPC]),
    kind("timerfd", &[EMFILE]),
    kind("signalfd", &[EMFILE]),
    kind("dup", &[EMFILE]),
    by_hand("mmap", &[ENOMEM]),
];

/// One fault, or several in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) call: &'static str,
    pub(crate) error: Error,
    pub(crate) nth: u64,
    /// How many calls fail, from the n-th on.
    pub(crate) span: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, error, nth, span } = self;
        write!(f, "--calls {call} --errno {} --only {nth}", error.name)?;
        if *span > 1 { write!(f, " --span {span}") } else { Ok(()) }
    }
}
