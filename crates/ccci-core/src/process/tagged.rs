//! Finding and killing what a run started, by the variables in its environment.
//!
//! A group kill misses what called `setsid` (`[pgid]`), and a SIGKILLed harness leaves children that go
//! on working (`[E7]`). Every process that a run starts carries `CCCI_RUN_ID` and `CCCI_LOCK` in its
//! environment, and so do its descendants; that is what is looked for, in `/proc/<pid>/environ`.
//!
//! What begins with an environment of its own (`env -i`, `sudo`) has shed the mark. It is still below the
//! run's parts in the tree of processes, also when it left its session: the keeper adopts what is orphaned.
//!
//! The lock's path and not the domain alone, which may be used by two installations on one machine:
//! whose lock it is, its run it is.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use super::procfs::{Process, is_gone, is_in_exec, name, stat_fields};
use super::{group, tree, wait_ready};
use crate::lifetime::clock::Deadline;
use crate::weaken::{self, Protection};

/// The variable with the run's id.
pub const RUN_ID_VAR: &str = "CCCI_RUN_ID";
/// The variable with the domain, or the guard's name.
pub const DOMAIN_VAR: &str = "CCCI_APP_DOMAIN";
/// The variable with the path of the run's lock file, see [`lock_mark`].
pub const LOCK_VAR: &str = "CCCI_LOCK";
/// The variable that every process of a local app's service carries.
pub const SERVICE_VAR: &str = "CCCI_LOCAL_SERVICE";
/// Environments beyond this are read in part.
const MAX_ENVIRON: usize = 1 << 20;
/// What nearly every environment fits into, so that one read has all of it.
const FIRST_READ: usize = 1 << 14;
/// The longest that a process may be in the middle of an exec, and how often it is looked at meanwhile.
const EXEC: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Which processes are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// Those of one run.
    Run {
        /// Its id.
        run_id: String,
        /// Its lock's [`lock_mark`].
        lock: String,
        /// Its keeper's pid. While that is the parent of who asks, what is below it and carries nothing of ours
        /// is meant as well.
        keeper: u32,
        /// What was below the keeper before the run began: the caller's, whose shell became the keeper by an exec.
        before: Vec<Process>,
    },
    /// Those of any run under a lock, by its [`lock_mark`]. Only the lock's holder may ask, before it
    /// starts anything.
    Lock(String),
    /// Those that carry this variable with this value, whichever run started them.
    Variable(&'static str, String),
}

impl Tag {
    fn matches(&self, environ: &[u8]) -> bool {
        let has = |key: &str, value: &str| entries(environ, key).any(|found| found == value.as_bytes());
        match self {
            Self::Run { run_id, lock, .. } => has(RUN_ID_VAR, run_id) && has(LOCK_VAR, lock),
            // What only sets the one by hand is no run's process.
            Self::Lock(lock) => has(LOCK_VAR, lock) && carries(environ, RUN_ID_VAR),
            Self::Variable(key, value) => has(key, value),
        }
    }
}

/// The values that a variable has in an environment.
fn entries<'env>(environ: &'env [u8], key: &str) -> impl Iterator<Item = &'env [u8]> {
    let values = environ.split(|byte| *byte == 0);
    values.filter_map(move |entry| entry.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
}

/// What processes of a run under this lock carry in [`LOCK_VAR`]: the file's path, however its directory
/// was spelt.
#[must_use]
pub fn lock_mark(path: &Path) -> String {
    let dir = path.parent().and_then(|dir| dir.canonicalize().ok());
    let real = dir.and_then(|dir| Some(dir.join(path.file_name()?)));
    real.as_deref().unwrap_or(path).display().to_string()
}

/// A process that was found.
#[derive(Debug)]
pub struct Found {
    /// Its pid.
    pub pid: u32,
    /// Its command name.
    pub name: String,
    fd: OwnedFd,
}

/// What is left when killing did not empty the list in time (uninterruptible sleep, say).
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// `/proc` cannot be read, so nothing can be said.
    #[error("cannot read /proc: {0}; it must be mounted, and show the processes of other users (no hidepid)")]
    Proc(#[from] io::Error),
    /// These would not die.
    #[error("processes still run after SIGKILL: {0}")]
    Survivors(String),
}

/// The live processes that carry `tag`, without this process and its ancestors.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn find(tag: &Tag) -> io::Result<Vec<Found>> {
    let mut look = Look::default();
    let below = match tag {
        Tag::Run { keeper, before, .. } => tree::below_us(*keeper, before, &mut |pid| {
            look.environ(pid).is_some_and(|environ| carries(environ, SERVICE_VAR))
        }),
        _ => BTreeSet::new(),
    };
    let still_below = |pid: u32| match tag {
        Tag::Run { keeper, .. } => tree::is_below(pid, std::process::id()) || tree::is_below(pid, *keeper),
        _ => false,
    };
    let mut found = Vec::new();
    for pid in pids()? {
        if !look.is_meant(pid, tag, below.contains(&pid))? {
            continue;
        }
        let Some(raw) = rustix::process::Pid::from_raw(pid.cast_signed()) else { continue };
        let Ok(fd) = pidfd_open(raw, PidfdFlags::empty()) else { continue };
        // Again, now that the number is pinned.
        if is_gone(pid) || !look.is_meant(pid, tag, below.contains(&pid) && still_below(pid))? {
            continue;
        }
        found.push(Found { pid, name: name(pid), fd });
    }
    if !found.is_empty() {
        let spared = tree::ancestry();
        found.retain(|process| !spared.contains(&process.pid));
    }
    Ok(found)
}

fn carries(environ: &[u8], key: &str) -> bool {
    entries(environ, key).next().is_some()
}

fn carries_nothing(environ: &[u8]) -> bool {
    ![RUN_ID_VAR, LOCK_VAR, DOMAIN_VAR, SERVICE_VAR].iter().any(|key| carries(environ, key))
}

/// Ends every process that carries `tag`: SIGTERM, up to `grace`, then SIGKILL until none is found.
///
/// Returns what was ended, as `name (pid)`. With no grace SIGKILL comes at once.
///
/// # Errors
/// [`TagError`] when `/proc` cannot be read or something would not die within ten seconds.
pub fn end_all(tag: &Tag, grace: Duration) -> Result<Vec<String>, TagError> {
    let mut ended: Vec<String> = Vec::new();
    let mut pids = BTreeSet::new();
    if !weaken::on(Protection::TagKill) {
        return Ok(ended);
    }
    let mut remember = |found: &[Found]| {
        for process in found {
            // Once each, also when it changed its name by an exec meanwhile.
            if pids.insert(process.pid) {
                ended.push(format!("{} ({})", process.name, process.pid));
            }
        }
    };
    let mut any = false;
    if !grace.is_zero() {
        let found = find(tag)?;
        any |= !found.is_empty();
        remember(&found);
        for process in &found {
            let _gone = pidfd_send_signal(&process.fd, rustix::process::Signal::TERM);
            // What is stopped hears it only when it goes on.
            if weaken::on(Protection::Continue) {
                let _gone = pidfd_send_signal(&process.fd, rustix::process::Signal::CONT);
            }
        }
        wait_gone(&found, grace)?;
    }
    // As a whole, where the run has a control group: whoever forks faster than it is looked for, too.
    let in_group = match tag {
        Tag::Run { lock, .. } => group::end(lock, false),
        Tag::Lock(lock) => group::end(lock, true),
        Tag::Variable(..) => Ok(Vec::new()),
    };
    let known: Vec<String> = in_group.map_err(|error| TagError::Survivors(error.to_string()))?;
    let limit = Deadline::after(Duration::from_secs(10));
    let mut quiet = 0;
    loop {
        let found = find(tag)?;
        quiet = if found.is_empty() { quiet + 1 } else { 0 };
        any |= !found.is_empty();
        // One look goes through the processes from the first to the last, and what was just forked may be behind it.
        if quiet > usize::from(any) {
            let more: Vec<String> = known.into_iter().filter(|name| !ended.contains(name)).collect();
            ended.extend(more);
            return Ok(ended);
        }
        if limit.passed() {
            let names: Vec<_> = found.iter().map(|process| format!("{} ({})", process.name, process.pid)).collect();
            return Err(TagError::Survivors(names.join(", ")));
        }
        remember(&found);
        for process in &found {
            let _gone = pidfd_send_signal(&process.fd, rustix::process::Signal::KILL);
        }
        wait_gone(&found, limit.left())?;
    }
}

/// Waits until all of them have ended, or `limit` is over.
fn wait_gone(found: &[Found], limit: Duration) -> io::Result<()> {
    let until = Deadline::after(limit);
    for process in found {
        while !is_gone(process.pid) && !until.passed() {
            wait_ready(&mut [PollFd::new(process.fd.as_fd(), PollFlags::POLLIN)], Some(until.left()))?;
            if super::collect(nix::unistd::Pid::from_raw(process.pid.cast_signed())).is_some() {
                break;
            }
        }
    }
    Ok(())
}

/// The values of variable `key` in the environments of all live processes.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn values_of(key: &str) -> io::Result<BTreeSet<String>> {
    let mut values = BTreeSet::new();
    let mut look = Look::default();
    for pid in pids()? {
        // One that has ended has none any more.
        let found = entries(look.settled_environ(pid)?.unwrap_or_default(), key);
        values.extend(found.map(|value| String::from_utf8_lossy(value).into_owned()));
    }
    Ok(values)
}

/// The lock marks that processes of runs carry: see [`lock_mark`].
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn locks() -> io::Result<BTreeSet<String>> {
    let mut locks = BTreeSet::new();
    let mut look = Look::default();
    for pid in pids()? {
        let environ = look.settled_environ(pid)?.unwrap_or_default();
        if let (Some(lock), true) = (entries(environ, LOCK_VAR).next(), carries(environ, RUN_ID_VAR)) {
            locks.insert(String::from_utf8_lossy(lock).into_owned());
        }
    }
    Ok(locks)
}

/// Sends `signal` to every process that carries `tag`, once.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn signal_all(tag: &Tag, signal: Signal) -> io::Result<usize> {
    let found = find(tag)?;
    let signal = rustix::process::Signal::from_named_raw(signal as i32).ok_or(io::ErrorKind::InvalidInput)?;
    for process in &found {
        let _gone = pidfd_send_signal(&process.fd, signal);
    }
    Ok(found.len())
}

fn pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// A look at many processes, one after the other, into one buffer.
#[derive(Default)]
struct Look {
    buffer: Vec<u8>,
}

impl Look {
    /// A process's environment as it was at its start; `None` when it is gone or not ours to read.
    fn environ(&mut self, pid: u32) -> Option<&[u8]> {
        let file = File::open(format!("/proc/{pid}/environ")).ok()?;
        let mut length = 0;
        loop {
            if length == self.buffer.len() {
                if length >= MAX_ENVIRON {
                    break;
                }
                self.buffer.resize((2 * length).max(FIRST_READ), 0);
            }
            match (&file).read(&mut self.buffer[length..]) {
                Ok(0) => break,
                Ok(more) => {
                    length += more;
                    // The kernel gives less than was asked for at the end alone.
                    if length < self.buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(&self.buffer[..length])
    }

    /// [`Self::environ`], of a process that may be about to have one: in the middle of an exec it has none for a
    /// moment, and would be missed.
    fn settled_environ(&mut self, pid: u32) -> io::Result<Option<&[u8]>> {
        let limit = Deadline::after(EXEC);
        loop {
            let Some(length) = self.environ(pid).map(<[u8]>::len) else { return Ok(None) };
            if length > 0 || limit.passed() || !stat_fields(pid).is_some_and(|fields| is_in_exec(&fields)) {
                return Ok(Some(&self.buffer[..length]));
            }
            let Some(handle) = super::handle_of(nix::unistd::Pid::from_raw(pid.cast_signed()))? else {
                return Ok(None);
            };
            wait_ready(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], Some(LOOK_AGAIN))?;
        }
    }

    /// Whether a process carries a tag, or nothing of ours where it is `below` the run's parts.
    fn is_meant(&mut self, pid: u32, tag: &Tag, below: bool) -> io::Result<bool> {
        let environ = self.settled_environ(pid)?;
        Ok(environ.is_some_and(|environ| tag.matches(environ) || below && carries_nothing(environ)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_match_whole_values_only() {
        let environ = b"PATH=/bin\0CCCI_RUN_ID=12\0CCCI_LOCK=hell-012345.ci\0X=CCCI_RUN_ID=13\0";
        let run = |id: &str, domain: &str| {
            Tag::Run { run_id: id.into(), lock: domain.into(), keeper: 0, before: Vec::new() }.matches(environ)
        };
        assert!(run("12", "hell-012345.ci"));
        assert!(!run("1", "hell-012345.ci") && !run("13", "hell-012345.ci") && !run("12", "hell-012345.c"));
        assert!(Tag::Lock("hell-012345.ci".into()).matches(environ));
        assert!(!Tag::Lock("hell-012345.ci".into()).matches(b"CCCI_LOCK=hell-012345.ci\0"));
        assert!(Tag::Variable("X", "CCCI_RUN_ID=13".into()).matches(environ));
    }

    #[test]
    fn a_process_that_left_its_group_is_found_and_killed() {
        let domain = format!("t-{}", std::process::id());
        // By the lock: below this process are the children of the tests beside this one too.
        let tag = Tag::Lock(domain.clone());
        // The fifo tells that both have left the group before the leader ends and the group is killed.
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("up");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // A reader can meet the end of the writer before, which is still closing: it asks again.
        let leave =
            "setsid sh -c 'trap \"\" TERM; echo up >\"$FIFO\"; exec sleep 60' & until read up <\"$FIFO\"; do :; done";
        let job = super::super::Job::new("/bin/sh")
            .args(["-c", &format!("{leave}; {leave}")])
            .env([(RUN_ID_VAR, "r"), (LOCK_VAR, domain.as_str())])
            .env([("FIFO", &fifo)]);
        job.run(&mut |_| {}).unwrap();
        let ended = end_all(&tag, Duration::from_millis(100)).unwrap();
        assert_eq!(ended.len(), 2, "{ended:?}");
        assert!(find(&tag).unwrap().is_empty());
    }
}
