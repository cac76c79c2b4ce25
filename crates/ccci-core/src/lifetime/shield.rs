//! The signals that a guardian does not die of.
//!
//! A full quota of CPU time or of a file's size, a profiler's timer, a terminal that wants a background process to wait,
//! a signal for whoever shares our number of signals: each would end or stop a process by default, and with a guardian
//! goes what it guards. A guardian ignores them. What it starts has the defaults again, as an ignored signal stays
//! ignored through an exec.

#![expect(unsafe_code, reason = "sigaction and its defaults have no safe form for signals without a name")]

use std::io;

use nix::libc::{self, c_int};

use super::exec::check;
use crate::weaken::{self, Protection};

/// Those that have a name. Not here: what cancels, what only a fault of our own raises, and SIGTSTP, which a person
/// types.
const NAMED: [c_int; 10] = [
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGSTKFLT,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
];
/// What the terminal stops a background process with.
const TERMINAL: [c_int; 2] = [libc::SIGTTIN, libc::SIGTTOU];

/// Ignores them from here on, in this process and its copies.
///
/// # Errors
/// What `sigaction(2)` says.
pub fn raise() -> io::Result<()> {
    if weaken::on(Protection::SignalShield) { set(libc::SIG_IGN) } else { Ok(()) }
}

/// Gives them their defaults, in a child that is to be another program: async-signal-safe.
pub(super) fn lower() -> io::Result<()> {
    set(libc::SIG_DFL)
}

fn set(action: libc::sighandler_t) -> io::Result<()> {
    let nameless = libc::SIGRTMIN()..=libc::SIGRTMAX();
    // SAFETY: neither action runs code of ours, and a zeroed sigaction has no flags and blocks nothing.
    unsafe {
        let mut wanted: libc::sigaction = std::mem::zeroed();
        wanted.sa_sigaction = action;
        for signal in NAMED.into_iter().chain(TERMINAL).chain(nameless) {
            check(libc::sigaction(signal, &raw const wanted, std::ptr::null_mut()))?;
        }
    }
    Ok(())
}
