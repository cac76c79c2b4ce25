//! One process, as `/proc` tells of it.

use std::fs::File;
use std::io::Read as _;

use serde::{Deserialize, Serialize};

/// A process for ever, within one boot: numbers are used again, a number together with a start is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// When it began, in clock ticks since boot.
    pub start_ticks: u64,
}

impl Process {
    /// This process.
    #[must_use]
    pub fn own() -> Self {
        let pid = std::process::id();
        Self { pid, start_ticks: start_ticks(pid).unwrap_or(0) }
    }
}

/// Which boot of the host this is; empty where `/proc` does not tell.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

/// The children of all threads of a process.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Whether these fields of `/proc/<pid>/stat` are of a process in the middle of an exec: the new program has
/// memory, and no arguments yet. A kernel thread has no memory, and what we may not look into has 1 for the
/// begin of its code (`proc_pid_stat(5)`).
pub(super) fn is_in_exec(fields: &[String]) -> bool {
    let is = |number: usize, value: &str| fields.get(number - 3).is_some_and(|field| field == value);
    let (vsize, start_code, env_end) = (23, 26, 51);
    !is(vsize, "0") && !is(start_code, "1") && is(env_end, "0")
}

/// The fields of `/proc/<pid>/stat` after the command name, which may contain anything.
pub(super) fn stat_fields(pid: u32) -> Option<Vec<String>> {
    // Fifty numbers; one read has them all.
    let mut buffer = [0; 2048];
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut buffer).ok()?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

/// When a process started, in clock ticks since boot; with the pid it names one process for ever.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    stat_fields(pid)?.get(19)?.parse().ok()
}

/// The parent's pid.
pub(super) fn parent(pid: u32) -> Option<u32> {
    stat_fields(pid)?.get(1)?.parse().ok()
}

/// Whether a process has ended; one that nobody has collected yet (a zombie) has.
#[must_use]
pub fn is_gone(pid: u32) -> bool {
    stat_fields(pid).is_none_or(|fields| matches!(fields.first().map(String::as_str), Some("Z" | "X")))
}

pub(super) fn name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn a_process_in_the_middle_of_an_exec_is_told_from_one_without_an_environment() {
        let fields = |vsize: &str, start_code: &str, env_end: &str| {
            let mut fields = vec!["0".to_owned(); 50];
            for (number, value) in [(23, vsize), (26, start_code), (51, env_end)] {
                value.clone_into(&mut fields[number - 3]);
            }
            is_in_exec(&fields)
        };
        assert!(fields("4096", "0", "0"));
        assert!(!fields("4096", "94000", "14000"), "it has begun");
        assert!(!fields("0", "0", "0"), "a kernel thread, or a zombie");
        assert!(!fields("4096", "1", "0"), "not ours to look into");
        let me = stat_fields(std::process::id()).unwrap();
        assert!(!is_in_exec(&me) && me.len() >= 49, "{me:?}");
        let bare = super::super::Job::new("/usr/bin/env").args(["-i", "/bin/cat", "/proc/self/stat"]).capture();
        let bare = String::from_utf8(bare.run_ok(&mut |_| {}).unwrap().stdout).unwrap();
        let bare = bare.rsplit_once(')').unwrap().1.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(!is_in_exec(&bare), "no environment is none to wait for: {bare:?}");
    }

    #[test]
    fn a_start_time_tells_one_process_from_another_of_the_same_number() {
        let me = std::process::id();
        assert!(start_ticks(me).is_some());
        assert!(!is_gone(me));
        assert!(
            !super::super::signal_exactly(me, 1, Signal::SIGTERM).unwrap(),
            "a wrong start time is another process"
        );
    }
}
