//! How a child is born, and the worker's change into the reaper.
//!
//! Everything that runs in a forked child or in a signal
//! handler is limited to async-signal-safe calls (`signal-safety(7)`): no allocation, no locks.

#![expect(unsafe_code, reason = "sigaction, execve and what a child does before its exec have no safe form")]

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::launch::{assignment, pointers};
use super::signals;
use crate::weaken::{self, Protection};

/// This program, whatever has become of the file it was started from.
pub const SELF_EXE: &str = "/proc/self/exe";

/// How a child starts: leading a group of its own, but for what is said here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Birth {
    /// The signal it gets when the thread that started it dies.
    pub death_signal: Option<Signal>,
    /// Whether it leads a session of its own (it outlives us, no terminal reaches it).
    pub new_session: bool,
    /// Whether it leads a session of its own with its stdin, a terminal, as the controlling one.
    pub own_terminal: bool,
    /// Whether it stays in the group of who starts it, where it hears what that hears.
    pub same_group: bool,
    /// The group that it joins, of its own session, where it would lead one.
    pub join_group: Option<libc::pid_t>,
    /// Whether a copy keeps the stdin of who starts it.
    pub keep_stdin: bool,
    /// Whether the signals of [`signals::CANCEL`] start blocked; nothing is blocked otherwise, as a
    /// blocked mask is inherited (incident `[restart]`).
    pub block_cancel: bool,
    /// Whether it is put into the run's control group, where there is one.
    pub in_group: bool,
    /// One fd that it keeps (the lock's); every other is closed on exec.
    pub keep_fd: Option<RawFd>,
    /// A second fd that it keeps, likewise.
    pub keep_fd_too: Option<RawFd>,
    /// The claim on the run's directory, which a part of the run keeps likewise.
    pub keep_claim: Option<RawFd>,
    /// Added willingness to be killed when memory runs out (0 to 1000).
    pub oom_score_adj: Option<i32>,
}

/// Where a child puts itself into the run's control groups.
static GROUPS: OnceLock<Vec<CString>> = OnceLock::new();

/// Names the control groups that children join from here on, in this process and its copies; once.
pub fn children_join(groups: Vec<PathBuf>) {
    let procs = groups.into_iter().map(|dir| CString::new(dir.join("cgroup.procs").into_os_string().into_vec()));
    // A path that the kernel told has no NUL, and who has joined one group stays with it.
    let _kept = GROUPS.set(procs.flatten().collect());
}

/// What a child does first to be as `birth` says, `parent` being who started it and `score` the text of its
/// `oom_score_adj`: only async-signal-safe system calls on values that were made before. It may run in the parent's own
/// memory ([`launch`](super::launch)), and writes nothing there.
pub(super) fn prepare(birth: &Birth, parent: libc::pid_t, score: Option<&[u8]>) -> io::Result<()> {
    // SAFETY: system calls with valid arguments.
    unsafe {
        // A session's leader leads its group by itself, and a group's leader may not begin a session.
        if birth.new_session || birth.own_terminal {
            check(libc::setsid())?;
        } else if !birth.same_group {
            check(libc::setpgid(0, birth.join_group.unwrap_or(0)))?;
        }
        if birth.own_terminal {
            check(libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0))?;
        }
        if let Some(signal) = birth.death_signal {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong, 0, 0, 0))?;
            // A parent that died before the prctl sends nothing.
            if libc::getppid() != parent {
                libc::_exit(143);
            }
        }
        for fd in [birth.keep_fd, birth.keep_fd_too, birth.keep_claim].into_iter().flatten() {
            check(libc::fcntl(fd, libc::F_SETFD, 0))?;
        }
        for procs in birth.in_group.then(|| GROUPS.get()).flatten().into_iter().flatten() {
            // Best effort: who cannot be put there is ended by its tag.
            let fd = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if fd >= 0 {
                libc::write(fd, c"0".as_ptr().cast(), 1);
                libc::close(fd);
            }
        }
        if let Some(score) = score {
            // Best effort: a container may not let us.
            let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if fd >= 0 {
                libc::write(fd, score.as_ptr().cast(), score.len());
                libc::close(fd);
            }
        }
        let mask = if birth.block_cancel { signals::cancel_set() } else { SigSet::empty() };
        match libc::pthread_sigmask(libc::SIG_SETMASK, mask.as_ref(), std::ptr::null_mut()) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

pub(super) fn check(result: c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets close-on-exec on an fd that was handed down, and takes it into ownership.
///
/// # Errors
/// When there is no such fd.
pub fn adopt_fd(fd: RawFd) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd as _;
    // SAFETY: plain fcntl; that the number is an open fd is what it checks. Ownership: the parent
    // handed this number to this process alone, by argument, and it is adopted once, at the start.
    unsafe {
        let flag = if weaken::on(Protection::Cloexec) { libc::FD_CLOEXEC } else { 0 };
        check(libc::fcntl(fd, libc::F_SETFD, flag))?;
        Ok(std::os::fd::OwnedFd::from_raw_fd(fd))
    }
}

/// Gives `signal` its default action.
///
/// # Errors
/// What `sigaction(2)` says.
pub fn reset_to_default(signal: Signal) -> io::Result<()> {
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { sigaction(signal, &signals::default_action())? };
    Ok(())
}

/// Whether `signal` is ignored in this process, as its caller may have left it.
#[must_use]
pub fn is_ignored(signal: Signal) -> bool {
    // SAFETY: a null new action only reads the present one into zeroed memory of the right type.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal as c_int, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// Everything `execve` needs, made before it is needed.
struct Successor {
    of: libc::pid_t,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// The lock's, and the claim's where there is one.
    keep: [Option<RawFd>; 2],
    _owned: Vec<CString>,
}

static SUCCESSOR: AtomicPtr<Successor> = AtomicPtr::new(std::ptr::null_mut());

/// Arranges that this process, at any of [`signals::CANCEL`], and at [`succeed`], replaces
/// itself by this same program called with `args` and `env`, keeping `keep` (the lock's fd, and the claim's) open.
///
/// These signals stay blocked across the exec, so the successor is never killed by a second one.
/// Children survive the exec; the successor begins by ending them. Call it once, before the first child.
///
/// # Errors
/// What `sigaction(2)` says, or an argument with a NUL byte.
pub fn succeed_on_signal<'a>(
    args: impl IntoIterator<Item = &'a str>,
    env: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    keep: [Option<RawFd>; 2],
) -> io::Result<()> {
    let mut owned = Vec::new();
    for arg in args {
        owned.push(CString::new(arg)?);
    }
    let split = owned.len();
    for (key, value) in env {
        owned.push(assignment(&key, &value)?);
    }
    let plan = Successor {
        of: nix::unistd::getpid().as_raw(),
        argv: pointers(&owned[..split]),
        envp: pointers(&owned[split..]),
        keep,
        _owned: owned,
    };
    // Leaked on purpose: a handler may read it until the very exec.
    SUCCESSOR.store(Box::into_raw(Box::new(plan)), Ordering::Release);
    let action = SigAction::new(SigHandler::Handler(become_successor), SaFlags::empty(), signals::cancel_set());
    for signal in signals::CANCEL {
        // nohup's wish holds for the worker too.
        if signal == Signal::SIGHUP && is_ignored(signal) {
            continue;
        }
        // SAFETY: the handler is async-signal-safe, see there.
        unsafe { sigaction(signal, &action)? };
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Replaces this process by its successor now: the ordinary end of a worker.
///
/// Returns only if that failed.
pub fn succeed() -> io::Error {
    if let Err(error) = signals::cancel_set().thread_block() {
        return error.into();
    }
    exec_successor();
    io::Error::last_os_error()
}

extern "C" fn become_successor(_: c_int) {
    let saved = SUCCESSOR.load(Ordering::Acquire);
    // SAFETY: `saved` is null or a leaked Successor. getpid and _exit are async-signal-safe.
    unsafe {
        // A group signal can hit a child before its exec, which has our handler: only the worker itself has a
        // successor.
        if saved.is_null() || libc::getpid() != (*saved).of {
            libc::_exit(143);
        }
    }
    exec_successor();
    // SAFETY: async-signal-safe. The keeper sees the death and starts a reaper.
    unsafe { libc::_exit(69) }
}

fn exec_successor() {
    let plan = SUCCESSOR.load(Ordering::Acquire);
    if plan.is_null() {
        return;
    }
    // SAFETY: a leaked Successor, whose pointers stay valid; fcntl and execve are async-signal-safe.
    unsafe {
        // They lose close-on-exec just for this exec.
        for fd in (*plan).keep.into_iter().flatten() {
            libc::fcntl(fd, libc::F_SETFD, 0);
        }
        libc::execve(c"/proc/self/exe".as_ptr(), (*plan).argv.as_ptr(), (*plan).envp.as_ptr());
        for fd in (*plan).keep.into_iter().flatten() {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}
