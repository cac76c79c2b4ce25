//! A part of a run that is a copy of this process: `fork` without an `exec`.
//!
//! A start of this program costs more than all that a guard does besides. What an `exec` gives for nothing is done
//! here by hand: fds that are to be closed on exec are closed, no tag is carried that is not the part's own, and
//! nothing of the caller is run in the copy, whatever becomes of it.

#![expect(unsafe_code, reason = "fork, the environment's memory, and _exit have no safe form")]

use std::ffi::{CStr, OsStr, OsString, c_char};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::libc;
use nix::unistd::Pid;

use super::exec::{Birth, check, prepare};
use crate::weaken::{self, Protection};

/// What a copy ends with when it panicked, as any Rust program.
const PANICKED: u8 = 101;
/// What a copy ends with that could not begin.
const UNBORN: u8 = 69;

/// A change of a part's environment: a variable, and its value if it is to have one.
pub type Change = (OsString, Option<OsString>);

/// Starts `body` in a copy of this process, which is born as `birth` says, has `env`
/// changed and its stdin closed unless it is to keep it, and ends with the code that `body` returns.
///
/// No other thread may be at work: the copy would lack it, and what it held would be held for ever.
///
/// # Errors
/// What `fork(2)` says.
pub fn fork(birth: Birth, env: &[Change], body: impl FnOnce() -> u8) -> io::Result<Pid> {
    let parent = nix::unistd::getpid().as_raw();
    // SAFETY: with no other thread at work the copy is as able as the original.
    let pid = unsafe { libc::fork() };
    if pid != 0 {
        return check(pid).map(|()| Pid::from_raw(pid));
    }
    let code = catch_unwind(AssertUnwindSafe(|| match become_part(birth, parent, env) {
        Ok(()) => body(),
        Err(error) => {
            tracing::error!(%error, "a part of the run cannot begin");
            UNBORN
        }
    }));
    // SAFETY: ends the copy here and now: the caller's frames, buffers and destructors are the original's.
    unsafe { libc::_exit(code.unwrap_or(PANICKED).into()) }
}

fn become_part(birth: Birth, parent: libc::pid_t, env: &[Change]) -> io::Result<()> {
    prepare(&birth, parent, None)?;
    let kept = [birth.keep_fd, birth.keep_fd_too, birth.keep_claim];
    close_on_exec(&|fd| kept.contains(&Some(fd)))?;
    if !birth.keep_stdin {
        let null = File::open("/dev/null")?;
        // SAFETY: both are open fds, or stdin gets open by this.
        unsafe { check(libc::dup2(null.as_raw_fd(), libc::STDIN_FILENO))? };
    }
    for (key, value) in env {
        change(key, value.as_deref());
    }
    Ok(())
}

/// Closes what an exec would close, but for what is `kept`. Their owners are the original's frames, which never
/// run again in this process.
fn close_on_exec(kept: &dyn Fn(RawFd) -> bool) -> io::Result<()> {
    let mut open: Vec<RawFd> = Vec::new();
    {
        let list = File::open("/proc/self/fd")?;
        let mut buffer = [MaybeUninit::uninit(); 2048];
        let mut entries = rustix::fs::RawDir::new(&list, &mut buffer);
        while let Some(entry) = entries.next() {
            open.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok()));
        }
    }
    for fd in open.into_iter().filter(|fd| !kept(*fd)) {
        // SAFETY: plain fcntl and close; the list's own fd is closed already, and fcntl refuses it.
        unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFD);
            if flags >= 0 && flags & libc::FD_CLOEXEC != 0 {
                libc::close(fd);
            }
        }
    }
    Ok(())
}

/// Changes a variable, and wipes what it was where the kernel goes on to show it: `/proc/<pid>/environ` is as it was
/// at the exec, and whoever ends the processes that carry the caller's tag must not find a part of this run.
fn change(key: &OsStr, value: Option<&OsStr>) {
    let shown = find(key);
    // SAFETY: the copy has one thread. What `find` found is its own, writable memory, which nothing points to
    // any more once the variable was removed, however often it was there.
    unsafe {
        std::env::remove_var(key);
        if let Some(value) = value {
            std::env::set_var(key, value);
        }
        for (begin, length) in shown.into_iter().filter(|_| weaken::on(Protection::ForeignTag)) {
            begin.write_bytes(0, length);
        }
    }
}

/// Where a variable's entries are, and how long.
fn find(key: &OsStr) -> Vec<(*mut c_char, usize)> {
    unsafe extern "C" {
        static environ: *mut *mut c_char;
    }
    let mut found = Vec::new();
    // SAFETY: there is one thread, so that nobody changes the list or its strings, which end with a null and a NUL.
    unsafe {
        let mut next = environ;
        while !next.is_null() && !(*next).is_null() {
            let entry = CStr::from_ptr(*next).to_bytes();
            if entry.strip_prefix(key.as_bytes()).is_some_and(|rest| rest.starts_with(b"=")) {
                found.push((*next, entry.len()));
            }
            next = next.add(1);
        }
    }
    found
}
