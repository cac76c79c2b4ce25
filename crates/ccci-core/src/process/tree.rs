//! The tree of processes: what is below the parts of a run, and who is above.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;

use super::procfs::{Process, children, parent, start_ticks};
use crate::weaken::{self, Protection};

/// The children that this process has now.
#[must_use]
pub fn own_children() -> Vec<Process> {
    let named = |pid| Some(Process { pid, start_ticks: start_ticks(pid)? });
    children(std::process::id()).into_iter().filter_map(named).collect()
}

/// The processes below this one, and below `keeper` while it is our parent: whoever else has the number by then
/// is nobody of ours. Not the other parts of the run, nor what was there `before`, nor an app's service, which
/// `is_service` tells, and what that started.
pub(super) fn below_us(keeper: u32, before: &[Process], is_service: &mut dyn FnMut(u32) -> bool) -> BTreeSet<u32> {
    if !weaken::on(Protection::Descendants) {
        return BTreeSet::new();
    }
    let is_ours = || rustix::process::getppid().is_some_and(|parent| parent.as_raw_pid().cast_unsigned() == keeper);
    let mut open = vec![std::process::id()];
    open.extend(Some(keeper).filter(|_| is_ours()));
    let mut below = BTreeSet::new();
    while let Some(pid) = open.pop() {
        for child in children(pid) {
            let callers = || {
                weaken::on(Protection::CallersOwn)
                    && before.iter().any(|one| one.pid == child && start_ticks(child) == Some(one.start_ticks))
            };
            if !is_part(child) && !callers() && !is_service(child) && below.insert(child) {
                open.push(child);
            }
        }
    }
    // Looked at again: all that was seen below the keeper was then below the keeper.
    if is_ours() { below } else { below.into_iter().filter(|pid| is_below(*pid, std::process::id())).collect() }
}

pub(super) fn is_below(pid: u32, root: u32) -> bool {
    std::iter::successors(parent(pid), |pid| parent(*pid)).take_while(|pid| *pid > 0).any(|pid| pid == root)
}

/// This process and all above it: a caller whose environment happens to match is never a target.
pub(super) fn ancestry() -> BTreeSet<u32> {
    let mut line = BTreeSet::new();
    let mut next = Some(std::process::id());
    while let Some(pid) = next.filter(|pid| *pid > 0) {
        if !line.insert(pid) {
            break;
        }
        next = parent(pid);
    }
    line
}

/// Whether a process is another part of a run: this same program. What it calls itself proves nothing.
fn is_part(pid: u32) -> bool {
    let exe = |pid: &str| std::fs::metadata(format!("/proc/{pid}/exe")).ok().map(|file| (file.dev(), file.ino()));
    exe("self").is_some_and(|own| exe(&pid.to_string()) == Some(own))
}
