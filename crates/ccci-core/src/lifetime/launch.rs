//! A foreign program's start: `vfork` and `exec`.
//!
//! A library's start can set no death signal in the child without a `fork`, which makes a copy of all our memory's
//! map to throw it away: 0.5 ms of the 0.6 that a start then takes. This is what `posix_spawn` does inside: the child
//! runs in our memory, on a stack of its own, until its exec, and the thread that started it stands still so long. So a
//! signal that makes the worker the reaper is answered after the exec, and does not meet a child that is still a copy of
//! the worker. On a filesystem that hangs it is answered when that does not any more, or by SIGKILL, which comes after
//! the grace as for every worker that is deaf.

#![expect(unsafe_code, reason = "clone and execve have no safe form")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CString, NulError, OsStr, OsString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::exec::{Birth, check, prepare};
use super::shield;

/// What the child needs is a few frames, and the kernel's one for a signal.
const STACK: usize = 64 * 1024;
/// What `execvp(3)` looks through where there is no `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// What runs a script that does not say what does, as `execvp(3)` has it.
const SHELL: &std::ffi::CStr = c"/bin/sh";

/// A program to start. All that the child needs is made here, as it may not allocate.
#[derive(Debug)]
pub struct Program {
    /// Where it may be, in the order in which it is tried.
    paths: Vec<CString>,
    argv: Vec<CString>,
    envp: Vec<CString>,
    dir: Option<CString>,
    stdio: [Option<OwnedFd>; 3],
    birth: Birth,
}

impl Program {
    /// A program, found on the `PATH` of `env` unless its name is a path, that begins as `birth` says, with our own
    /// stdin, stdout and stderr.
    ///
    /// # Errors
    /// When an argument or a variable has a NUL byte.
    pub fn new<'a>(
        name: &'a OsStr,
        args: impl IntoIterator<Item = &'a OsString>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
        birth: Birth,
    ) -> io::Result<Self> {
        let c_string = |text: &OsStr| CString::new(text.as_bytes());
        let argv = std::iter::once(name).chain(args.into_iter().map(OsString::as_os_str)).map(c_string);
        // Of what is given twice the last counts; in the child's list it would be the first.
        let env: BTreeMap<OsString, OsString> = env.into_iter().collect();
        let path = env.get(OsStr::new("PATH")).cloned().unwrap_or_else(|| DEFAULT_PATH.into());
        let envp = env.into_iter().map(|(key, value)| assignment(&key, &value)).collect::<Result<_, _>>()?;
        let paths = if name.as_bytes().contains(&b'/') {
            vec![c_string(name)?]
        } else {
            std::env::split_paths(&path).map(|dir| c_string(dir.join(name).as_os_str())).collect::<Result<_, _>>()?
        };
        Ok(Self { paths, argv: argv.collect::<Result<_, _>>()?, envp, dir: None, stdio: [None, None, None], birth })
    }

    /// What it is called, if that is not how it is found.
    ///
    /// # Errors
    /// When the name has a NUL byte.
    pub fn called(mut self, name: &str) -> io::Result<Self> {
        self.argv[0] = CString::new(name)?;
        Ok(self)
    }

    /// Where it runs; otherwise where we are.
    ///
    /// # Errors
    /// When the path has a NUL byte.
    pub fn in_dir(mut self, dir: &Path) -> io::Result<Self> {
        self.dir = Some(CString::new(dir.as_os_str().as_bytes())?);
        Ok(self)
    }

    /// Its stdin, stdout and stderr, each our own if there is nothing.
    #[must_use]
    pub fn stdio(mut self, stdio: [Option<OwnedFd>; 3]) -> Self {
        // Rust's start has opened the three, so that nothing that was opened since is one of them.
        debug_assert!(stdio.iter().flatten().all(|fd| fd.as_raw_fd() > libc::STDERR_FILENO));
        self.stdio = stdio;
        self
    }

    /// Starts it. When this returns, it runs as itself, or has been ended by a signal before it could.
    ///
    /// # Errors
    /// What the kernel says of the first step that failed; then nothing runs.
    pub fn start(&self) -> io::Result<Pid> {
        let argv = pointers(&self.argv);
        // The shell is called with the script's path in the place of its name.
        let shell = std::iter::once(SHELL.as_ptr()).chain(argv.iter().copied()).map(Cell::new).collect();
        let score = self.birth.oom_score_adj.map(|score| score.to_string().into_bytes());
        let parent = nix::unistd::getpid().as_raw();
        let start =
            Start { program: self, argv, shell, envp: pointers(&self.envp), score, parent, failed: Cell::new(0) };
        let mut stack = vec![MaybeUninit::<u128>::uninit(); STACK / size_of::<u128>()];
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the child works on a stack of its own, whose upper end this is, and on `start`, both of which stay
        // until it has ended or made its exec: so long this thread stands still. See `begin` for what it does.
        let pid = unsafe {
            libc::clone(begin, stack.as_mut_ptr_range().end.cast(), flags, (&raw const start).cast_mut().cast())
        };
        check(pid)?;
        let pid = Pid::from_raw(pid);
        match start.failed.get() {
            0 => Ok(pid),
            errno => {
                while waitpid(pid, None) == Err(Errno::EINTR) {}
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }
}

/// A variable as it stands in an environment.
pub(super) fn assignment(key: &OsStr, value: &OsStr) -> Result<CString, NulError> {
    CString::new([key.as_bytes(), b"=", value.as_bytes()].concat())
}

/// Pointers to strings, and the null behind them.
pub(super) fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// What parent and child share.
struct Start<'program> {
    program: &'program Program,
    argv: Vec<*const c_char>,
    shell: Vec<Cell<*const c_char>>,
    envp: Vec<*const c_char>,
    score: Option<Vec<u8>>,
    parent: libc::pid_t,
    /// The child's `errno`, unless it made its exec.
    failed: Cell<c_int>,
}

/// The child, in our memory: async-signal-safe calls on what was made before, and nothing is allocated, freed or
/// written but `failed` and a place of `shell`.
extern "C" fn begin(start: *mut c_void) -> c_int {
    // SAFETY: `Program::start` passes its own, and stands still until we are gone from its memory.
    let start = unsafe { &*start.cast_const().cast::<Start<'_>>() };
    let errno = start.exec().raw_os_error();
    start.failed.set(errno.unwrap_or(libc::EINVAL));
    // SAFETY: ends this child alone.
    unsafe { libc::_exit(127) }
}

impl Start<'_> {
    /// Becomes the program. Returns only if that failed.
    fn exec(&self) -> io::Error {
        if let Err(error) = self.begin_as_asked() {
            return error;
        }
        let mut error = io::Error::from_raw_os_error(libc::ENOENT);
        for path in &self.program.paths {
            // SAFETY: all of these are pointers to strings that live, with a null behind the last.
            let next = unsafe {
                libc::execve(path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr());
                let errno = io::Error::last_os_error();
                if errno.raw_os_error() == Some(libc::ENOEXEC) {
                    self.shell[1].set(path.as_ptr());
                    libc::execve(SHELL.as_ptr(), self.shell.as_ptr().cast(), self.envp.as_ptr());
                }
                errno
            };
            match next.raw_os_error() {
                // Another folder may have it. That this one may not be used is worth saying in the end.
                Some(libc::EACCES) => error = next,
                Some(libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT) => {}
                _ => return next,
            }
        }
        error
    }

    fn begin_as_asked(&self) -> io::Result<()> {
        let program = self.program;
        // SAFETY: system calls with valid arguments.
        unsafe {
            for (target, fd) in (0..).zip(&program.stdio) {
                if let Some(fd) = fd {
                    check(libc::dup2(fd.as_raw_fd(), target))?;
                }
            }
            if let Some(dir) = &program.dir {
                check(libc::chdir(dir.as_ptr()))?;
            }
        }
        // A part of the run goes on ignoring what we ignore, from its first instruction on.
        if !program.birth.block_cancel {
            shield::lower()?;
        }
        prepare(&program.birth, self.parent, self.score.as_deref())
    }
}
