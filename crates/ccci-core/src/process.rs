//! The only place that starts processes.
//!
//! A [`Job`] is a foreign program (git, docker, abra, a test): a group of its own, no lock fd, stdin
//! closed, SIGKILL when its parent dies, output into a log, a timeout, and TERM – grace – KILL for
//! the whole group at the end. [`spawn_part`] starts this same program as the worker or the reaper.
//! [`tagged`] finds and kills what a run started, also what left every group.

pub mod tagged;
mod terminal;
mod watch;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::lifetime::exec::{Birth, SELF_EXE, arm_child};
use terminal::Terminal;
use watch::{Lines, Watch};

/// How a job ended. "Timed out", "killed" and "exited" stay different to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Exited(i32),
    /// By this signal, from somebody else.
    Killed(i32),
    /// It was still running at its timeout, and was ended.
    TimedOut(Duration),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Killed(signal) => match Signal::try_from(*signal) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
            Self::TimedOut(limit) => write!(f, "timed out after {}", crate::config::duration::show(*limit)),
        }
    }
}

/// Why a job could not be run, or did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It did not start.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// It started, and watching it failed.
    #[error("lost track of `{command}`: {source}")]
    Watch {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It ended badly.
    #[error("`{command}` failed: {ended}{tail}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        ended: Ended,
        /// The end of what it printed.
        tail: String,
    },
}

/// A finished job.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub ended: Ended,
    /// The end of what it printed.
    pub tail: String,
    /// All that it printed on stdout, if that was asked for.
    pub stdout: Vec<u8>,
}

/// A foreign program to run.
#[derive(Debug, Clone)]
pub struct Job {
    program: OsString,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    dir: PathBuf,
    timeout: Duration,
    grace: Duration,
    capture: bool,
    terminal: bool,
}

impl Job {
    /// A program, found on the `PATH` of its environment.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: std::env::vars_os().collect(),
            dir: PathBuf::from("/"),
            timeout: Duration::from_secs(600),
            grace: Duration::from_secs(10),
            capture: false,
            terminal: false,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Adds variables to the environment.
    #[must_use]
    pub fn env<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        self.env.extend(vars.into_iter().map(|(key, value)| (key.as_ref().to_owned(), value.as_ref().to_owned())));
        self
    }

    /// Removes variables from the environment.
    #[must_use]
    pub fn without_env(mut self, unwanted: impl Fn(&str) -> bool) -> Self {
        self.env.retain(|key, _| !key.to_str().is_some_and(&unwanted));
        self
    }

    /// Where it runs. Default `/`.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        dir.clone_into(&mut self.dir);
        self
    }

    /// How long it may take. Default ten minutes.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What its group gets between SIGTERM and SIGKILL.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Keeps stdout for the caller instead of handing its lines out.
    #[must_use]
    pub const fn capture(mut self) -> Self {
        self.capture = true;
        self
    }

    /// Gives it a terminal of its own on stdin, stdout and stderr, for a program that refuses to work
    /// without one. Nobody types. Its lines are handed out without their escape sequences, and
    /// [`Job::capture`] does not apply: a terminal does not tell stdout from stderr.
    #[must_use]
    pub const fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// The command line, for people.
    #[must_use]
    pub fn command_line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// Runs it to its end; every line that it prints is handed to `sink`.
    ///
    /// # Errors
    /// [`ProcessError::Start`] and [`ProcessError::Watch`]. A bad end is in the value.
    pub fn run(&self, sink: &mut dyn FnMut(&str)) -> Result<Finished, ProcessError> {
        let start = |source| ProcessError::Start { command: self.command_line(), source };
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(&self.env).current_dir(&self.dir);
        let (lines, kept) = if self.terminal {
            (self.on_terminal(&mut command).map_err(start)?, None)
        } else {
            self.on_pipes(&mut command).map_err(start)?
        };
        // The test dies when memory runs out, not its guardian.
        let birth = Birth { death_signal: Some(Signal::SIGKILL), oom_score_adj: Some(500), ..Birth::default() };
        arm_child(&mut command, Birth { own_terminal: self.terminal, ..birth });
        let child = spawn(&mut command).map_err(start)?;
        // The parent's copies of the write ends go with the command.
        drop(command);
        let mut watch = Watch { child, lines, kept, stdout: Vec::new() };
        let ended = watch.until_end(self.timeout, self.grace, sink);
        let ended = ended.map_err(|source| ProcessError::Watch { command: self.command_line(), source })?;
        Ok(Finished { ended, tail: watch.lines.tail(), stdout: watch.stdout })
    }

    /// Output into a pipe, or stderr and stdout into one each when stdout is kept; stdin closed.
    fn on_pipes(&self, command: &mut Command) -> io::Result<(Lines, Option<Lines>)> {
        let (out, out_end) = io::pipe()?;
        command.stdin(Stdio::null()).process_group(0);
        if self.capture {
            let (err, err_end) = io::pipe()?;
            command.stdout(out_end).stderr(err_end);
            return Ok((Lines::of_pipe(err.into()), Some(Lines::of_pipe(out.into()))));
        }
        command.stdout(out_end.try_clone()?).stderr(out_end);
        Ok((Lines::of_pipe(out.into()), None))
    }

    /// Everything on a terminal of its own, whose session it will lead.
    fn on_terminal(&self, command: &mut Command) -> io::Result<Lines> {
        let Terminal { ours, theirs } = Terminal::open()?;
        command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
        Ok(Lines::of_terminal(ours))
    }

    /// Runs it and takes any end but success for an error.
    ///
    /// # Errors
    /// [`ProcessError`], with the end of its output.
    pub fn run_ok(&self, sink: &mut dyn FnMut(&str)) -> Result<Finished, ProcessError> {
        let finished = self.run(sink)?;
        if finished.ended == Ended::Exited(0) {
            return Ok(finished);
        }
        let tail = finished.tail.trim();
        let tail = if tail.is_empty() { String::new() } else { format!("\n{tail}") };
        Err(ProcessError::Failed { command: self.command_line(), ended: finished.ended, tail })
    }

    /// Runs it to its end with our own stdout and stderr, for a command of the caller's.
    ///
    /// # Errors
    /// [`ProcessError::Start`] and [`ProcessError::Watch`].
    pub fn run_inheriting(&self) -> Result<Ended, ProcessError> {
        let start = |source| ProcessError::Start { command: self.command_line(), source };
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(&self.env)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .process_group(0);
        arm_child(
            &mut command,
            Birth { death_signal: Some(Signal::SIGKILL), oom_score_adj: Some(500), ..Birth::default() },
        );
        let mut child = spawn(&mut command).map_err(start)?;
        let status = child.wait().map_err(|source| ProcessError::Watch { command: self.command_line(), source })?;
        Ok(ended(status))
    }

    /// Starts it detached: a session of its own that outlives us, output into `log`. Its pid.
    ///
    /// The caller is its parent while it lives and collects it with [`collect`].
    ///
    /// # Errors
    /// [`ProcessError::Start`].
    pub fn detach(&self, log: &File) -> Result<Pid, ProcessError> {
        let start = |source| ProcessError::Start { command: self.command_line(), source };
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(&self.env).current_dir(&self.dir).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(start)?).stderr(log.try_clone().map_err(start)?);
        arm_child(&mut command, Birth { new_session: true, oom_score_adj: Some(500), ..Birth::default() });
        let child = spawn(&mut command).map_err(start)?;
        Ok(pid_of(&child))
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
fn spawn(command: &mut Command) -> io::Result<Child> {
    command.spawn()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Collects a child of ours that has ended, so that it does not stay a zombie; `None` while it runs
/// or when it is not our child.
#[must_use]
pub fn collect(pid: Pid) -> Option<Ended> {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Some(Ended::Exited(code)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(Ended::Killed(signal as i32)),
        _ => None,
    }
}

/// A program on the `PATH`.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|program| program.is_file() && rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok())
}

/// `git` in a folder: it never asks, and never runs what a caller's config names.
#[must_use]
pub fn git(dir: &Path) -> Job {
    Job::new("git")
        .args([OsStr::new("-C"), dir.as_os_str()])
        .env([("GIT_TERMINAL_PROMPT", "0"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_ASKPASS", "/bin/false")])
        .timeout(Duration::from_secs(300))
}

/// Starts this same program as another part of the run (worker, reaper).
///
/// # Errors
/// [`ProcessError::Start`].
pub fn spawn_part(
    args: &[OsString],
    env: impl IntoIterator<Item = (OsString, OsString)>,
    birth: Birth,
) -> Result<Part, ProcessError> {
    let mut command = Command::new(SELF_EXE);
    command.arg0("cc-ci-run").args(args).env_clear().envs(env).stdin(Stdio::null());
    // A session's leader leads its group by itself, and a group's leader may not begin a session.
    if !birth.new_session && !birth.same_group {
        command.process_group(0);
    }
    arm_child(&mut command, birth);
    let child = spawn(&mut command).map_err(|source| ProcessError::Start {
        command: format!("{SELF_EXE} {}", args[0].to_string_lossy()),
        source,
    })?;
    Ok(Part { pid: pid_of(&child), child })
}

/// A part of the run: a child of ours that is this same program.
#[derive(Debug)]
pub struct Part {
    /// Its pid, valid until it is collected.
    pub pid: Pid,
    child: Child,
}

impl Part {
    /// Its end, if it has ended.
    ///
    /// # Errors
    /// What `waitpid(2)` says.
    pub fn try_wait(&mut self) -> io::Result<Option<Ended>> {
        Ok(self.child.try_wait()?.map(ended))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What `waitpid(2)` says.
    pub fn wait(&mut self) -> io::Result<Ended> {
        Ok(ended(self.child.wait()?))
    }

    /// Sends a signal to it alone. It is not collected yet, so the pid cannot be another's.
    pub fn signal(&self, signal: Signal) {
        // ESRCH cannot be: an ended child stays a zombie until `try_wait`.
        let _sent = nix::sys::signal::kill(self.pid, signal);
    }
}

fn ended(status: ExitStatus) -> Ended {
    status.code().map_or_else(|| Ended::Killed(status.signal().unwrap_or(0)), Ended::Exited)
}

/// Sends `signal` to a process only if it is still the one that started at `start_ticks`.
///
/// # Errors
/// What `pidfd_open(2)` or `pidfd_send_signal(2)` says; a process that is gone is no error.
pub fn signal_exactly(pid: u32, start_ticks: u64, signal: Signal) -> io::Result<bool> {
    let Some(fd) = handle_of(Pid::from_raw(pid.cast_signed()))? else { return Ok(false) };
    // Looked at after the pidfd is open: from here on the number cannot become another's.
    if tagged::start_ticks(pid) != Some(start_ticks) {
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

/// Reads all of a small file from an untrusted place, up to `limit` bytes.
///
/// # Errors
/// What the kernel says.
pub fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn sh(script: &str) -> Job {
        Job::new("/bin/sh").args(["-c", script]).grace(Duration::from_millis(200))
    }

    /// Killed with its leader, it is dead a moment later; what is left is at most a zombie for init.
    fn assert_dies(child: u32) {
        let raw = rustix::process::Pid::from_raw(child.cast_signed()).unwrap();
        if let Ok(fd) = pidfd_open(raw, PidfdFlags::empty()) {
            wait_ready(&mut [PollFd::new(fd.as_fd(), nix::poll::PollFlags::POLLIN)], Some(Duration::from_secs(10)))
                .unwrap();
        }
        assert!(tagged::is_gone(child), "the group's child {child} survived");
    }

    #[test]
    fn the_ends_of_a_job_stay_different() {
        let mut lines = Vec::new();
        let done =
            sh("echo one; echo two >&2; printf three; exit 7").run(&mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(done.ended, Ended::Exited(7));
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(sh("kill -9 $$").run(&mut |_| {}).unwrap().ended, Ended::Killed(9));
        let slow = sh("exec sleep 100").timeout(Duration::from_millis(50));
        assert_eq!(slow.run(&mut |_| {}).unwrap().ended, Ended::TimedOut(Duration::from_millis(50)));
        let missing = Job::new("/no/such/program").run(&mut |_| {}).unwrap_err();
        assert!(missing.to_string().contains("/no/such/program"), "{missing}");
    }

    #[test]
    fn a_job_on_a_terminal_has_one_and_its_lines_are_plain() {
        let asks = "test -t 0 && test -t 1 && test -t 2 && tty </dev/tty >/dev/null && printf '\\033[31mred\\033[0m\\n'; \
                    stty size";
        let mut lines = Vec::new();
        let done = sh(asks).terminal().run_ok(&mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["red", "50 400"]);
        assert!(done.tail.starts_with("red"), "{:?}", done.tail);
        assert_eq!(sh("test -t 0").run(&mut |_| {}).unwrap().ended, Ended::Exited(1), "nobody else has one");
    }

    #[test]
    fn a_job_on_a_terminal_that_waits_for_an_answer_times_out_with_its_group() {
        let asks = sh("sleep 100 & echo $!; read -r answer").terminal().timeout(Duration::from_millis(200));
        let mut child = None;
        let done = asks.run(&mut |line| child = line.parse::<u32>().ok()).unwrap();
        assert!(matches!(done.ended, Ended::TimedOut(_)), "{done:?}");
        assert_dies(child.unwrap());
    }

    #[test]
    fn a_job_that_ignores_sigterm_is_killed_with_its_group() {
        let stubborn = sh("trap '' TERM; sleep 100 & echo $!; wait; wait").timeout(Duration::from_millis(100));
        let mut child = None;
        stubborn.run(&mut |line| child = line.parse::<u32>().ok()).unwrap();
        assert_dies(child.unwrap());
    }

    #[test]
    fn a_daemon_that_keeps_the_pipe_does_not_hold_the_job_up() {
        let done = sh("setsid sleep 60 & echo $!").run(&mut |_| {}).unwrap();
        assert_eq!(done.ended, Ended::Exited(0));
        let pid: i32 = done.tail.trim().parse().unwrap();
        let _ended = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }

    #[test]
    fn captured_output_is_whole_and_apart() {
        let done = sh("echo data; echo talk >&2").capture().run_ok(&mut |line| assert_eq!(line, "talk")).unwrap();
        assert_eq!(done.stdout, b"data\n");
        let failed = sh("echo broken >&2; exit 3").run_ok(&mut |_| {}).unwrap_err().to_string();
        assert!(failed.contains("exit code 3") && failed.contains("broken"), "{failed}");
    }
}
