//! Handles of processes (pidfds), which stay theirs when the number becomes another's.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use super::procfs;

/// Sends `signal` to a process only if it is still the one that started at `start_ticks`.
///
/// # Errors
/// What `pidfd_open(2)` or `pidfd_send_signal(2)` says; a process that is gone is no error.
pub fn signal_exactly(pid: u32, start_ticks: u64, signal: Signal) -> io::Result<bool> {
    let Some(fd) = handle_of(Pid::from_raw(pid.cast_signed()))? else { return Ok(false) };
    // Looked at after the pidfd is open: from here on the number cannot become another's.
    if procfs::start_ticks(pid) != Some(start_ticks) {
        return Ok(false);
    }
    let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) else { return Ok(false) };
    match pidfd_send_signal(&fd, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A handle that becomes readable when the process ends; `None` when it is gone already.
///
/// # Errors
/// What `pidfd_open(2)` says.
pub fn handle_of(pid: Pid) -> io::Result<Option<OwnedFd>> {
    let Some(raw) = rustix::process::Pid::from_raw(pid.as_raw()) else { return Ok(None) };
    match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `poll(2)` that goes on after an interruption; `None` waits for ever.
///
/// # Errors
/// What `poll(2)` says.
pub fn wait_ready(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    // Rounded up, so that a wait for less than a millisecond does not spin.
    let millis = timeout.map(|left| left.as_micros().div_ceil(1000));
    let timeout = millis.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX));
    match poll(fds, timeout) {
        Ok(n) => Ok(n > 0),
        Err(nix::Error::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
