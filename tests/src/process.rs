//! The processes of a test, as `/proc` shows them. Read here anew, and not with the code under test:
//! an oracle must not share its subject's blindness.

use std::fmt;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

/// The variable that every process of a host carries. Its name begins with nothing that the local
/// engine takes away from its services.
pub const HOST_VAR: &str = "TEST_HOST";

/// A live process.
#[derive(Clone, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its name, as `ps` shows it.
    pub name: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment at its start, `KEY=value` each.
    pub environ: Vec<String>,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wchan = std::fs::read_to_string(format!("/proc/{}/wchan", self.pid)).unwrap_or_default();
        let args = self.args.join(" ");
        write!(f, "{} (parent {}) {} [{wchan}] {:.160}", self.pid, self.parent, self.name, args.replace('\n', "⏎"))
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Process {
    /// The process of this number, unless it has ended.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
        let words = |bytes: Vec<u8>| -> Vec<String> {
            bytes
                .split(|byte| *byte == 0)
                .filter(|word| !word.is_empty())
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect()
        };
        let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
        let (start, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        Some(Self {
            pid,
            parent: fields.next()?.parse().ok()?,
            name: start.split_once('(')?.1.to_owned(),
            args: words(read("cmdline")?),
            environ: words(read("environ")?),
        })
    }

    /// Whether its environment has this entry.
    #[must_use]
    pub fn carries(&self, key: &str, value: &str) -> bool {
        self.environ.iter().any(|entry| entry.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')) == Some(value))
    }

    /// Whether it is the part of a run that `role` names, of the run with this directory: its log is open in both, and
    /// nobody else of that name has it.
    #[must_use]
    pub fn is_part(&self, role: &str, dir: &str) -> bool {
        let fds = || std::fs::read_dir(format!("/proc/{}/fd", self.pid)).into_iter().flatten().flatten();
        let log = std::path::Path::new(dir).join("run.log");
        self.name == format!("ccci-{role}") && fds().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == log))
    }
}

/// The live processes of the host with this tag, oldest first.
#[must_use]
pub fn of_host(tag: &str) -> Vec<Process> {
    let me = std::process::id().cast_signed();
    let mut pids: Vec<i32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != me)
        .collect();
    pids.sort_unstable();
    pids.into_iter().filter_map(Process::of).filter(|process| process.carries(HOST_VAR, tag)).collect()
}

/// How many children of a process have ended and were not collected.
#[must_use]
pub fn zombies_below(parent: i32) -> usize {
    let stats = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    let is_one = |stat: &String| {
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
        fields.next() == Some("Z") && fields.next().and_then(|pid| pid.parse().ok()) == Some(parent)
    };
    stats.filter(is_one).count()
}

/// Sends a signal to one process that a test started. One that is gone already is none.
pub fn signal(pid: i32, signal: Signal) {
    if let Err(error) = kill(Pid::from_raw(pid), signal) {
        assert_eq!(error, nix::Error::ESRCH, "cannot send {signal} to {pid}");
    }
}

/// Waits until a process has ended, collected or not; false when it still runs at the limit.
#[must_use]
pub fn wait_gone(pid: i32, limit: Duration) -> bool {
    let Ok(fd) = pidfd_open(rustix::process::Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else { return true };
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], limit).unwrap_or(0) > 0
}

/// Waits for the end of a process that this one has inherited; its exit code, or 128 and the signal.
#[must_use]
pub fn collect(pid: i32) -> i32 {
    assert!(wait_gone(pid, crate::host::limit()), "process {pid} does not end");
    match waitpid(Pid::from_raw(pid), None).unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("process {pid}: {other:?}"),
    }
}
