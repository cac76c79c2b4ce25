//! The control group of a run: what is in it ends at once and as a whole, however it forks and whatever it calls itself.
//!
//! It is named after the lock, below the group that the supervisor is in, and made wherever the kernel lets us: as root,
//! or in a group that was delegated (systemd's `Delegate=`). Who comes after a dead run finds it by its name. Only what
//! the run starts is in it: never its guardians, who must outlive it, nor an app's services, which are the app's.
//! Where none can be made, the tag and the tree of processes are what there is ([`tagged`](super::tagged)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::PollFd;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest as _, Sha256};

use super::{procfs, tree, wait_ready};
use crate::config::Limits;
use crate::lifetime::clock::Deadline;
use crate::lifetime::exec::children_join;
use crate::weaken::{self, Protection};

/// How the name of a run's group begins.
const PREFIX: &str = "cc-ci-run-";
/// How long the processes of a group may take to end, and how often it is looked at meanwhile.
const KILLED: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// No control group lies deeper.
const DEPTH: usize = 12;

/// The hierarchies that a run makes a group in: where they are mounted, and the controller's name in
/// `/proc/<pid>/cgroup`, which is empty for the unified one.
const HIERARCHIES: [(&str, &str); 5] = [
    ("/sys/fs/cgroup", ""),
    ("/sys/fs/cgroup/unified", ""),
    ("/sys/fs/cgroup/pids", "pids"),
    ("/sys/fs/cgroup/memory", "memory"),
    ("/sys/fs/cgroup/freezer", "freezer"),
];

/// What a run's children are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Whether it can be ended as a whole.
    pub ends: bool,
    /// Whether processes, and memory, are limited.
    pub limits: (bool, bool),
}

/// Makes the group of the run under this lock and puts all that is started from here on into it. `None` where the kernel
/// does not let us, which fails no run.
#[must_use]
pub fn make(lock_mark: &str, limits: &Limits) -> Option<Group> {
    // In a group everything is found: what finds the untagged descendants of a run shows only without one.
    if !weaken::on(Protection::RunGroup) || !weaken::on(Protection::Descendants) {
        return None;
    }
    let made = make_in(&places_of_own(), &name_of(lock_mark), limits);
    children_join(made.1);
    made.0
}

/// Whether a group could be made here, and what it could do: for who asks before a run.
#[must_use]
pub fn probe(limits: &Limits) -> Option<Group> {
    let name = name_of(&format!("probe {}", std::process::id()));
    let (group, dirs) = make_in(&places_of_own(), &name, limits);
    dirs.iter().for_each(|dir| remove(dir));
    group
}

fn make_in(places: &[(PathBuf, &str)], name: &str, limits: &Limits) -> (Option<Group>, Vec<PathBuf>) {
    let (mut group, mut dirs) = (Group { ends: false, limits: (false, false) }, Vec::new());
    for (place, controller) in places {
        // Each costs the kernel something: none is made that nothing is wanted of.
        let wanted = match *controller {
            "pids" => limits.children_pids.is_some(),
            "memory" => limits.children_memory_mb.is_some(),
            "freezer" => !group.ends,
            _ => true,
        };
        let dir = place.join(name);
        if !wanted {
            continue;
        }
        if !matches!(fs::create_dir(&dir), Ok(())) && !dir.is_dir() {
            continue;
        }
        // A limit that the kernel does not take is none: the run is not to fail of it.
        let set = |file: &str, value: Option<u64>| {
            value.is_some_and(|value| fs::write(dir.join(file), value.to_string()).is_ok())
        };
        let bytes = limits.children_memory_mb.map(|mb| mb.get().saturating_mul(1 << 20));
        group.limits.0 |= set("pids.max", limits.children_pids.map(|count| count.get().into()));
        group.limits.1 |= set("memory.max", bytes) || set("memory.limit_in_bytes", bytes);
        group.ends |= dir.join("cgroup.kill").exists() || dir.join("freezer.state").exists();
        dirs.push(dir);
    }
    (group.ends.then_some(group).filter(|_| !dirs.is_empty()), dirs)
}

/// A supervisor that was started inside another run leaves that run's group, which is ended as a whole: its teardown is
/// its own to finish. Where it may not, it ends with the others, and its teardown is for who comes next.
pub fn leave_anothers() {
    for (place, _) in places_of_own() {
        let outer = place.ancestors().find(|dir| dir.file_name().is_some_and(is_runs)).and_then(Path::parent);
        if let Some(outer) = outer {
            let _stays_where_it_is = fs::write(outer.join("cgroup.procs"), "0");
        }
    }
}

fn is_runs(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(PREFIX))
}

/// Ends what is in the group of the run under this lock and removes it; what was ended, as `name (pid)`. `anywhere`: it
/// is looked for in the whole of each hierarchy, for a run that is dead, and not where our own run's is.
///
/// # Errors
/// When something in it does not end.
pub(super) fn end(lock_mark: &str, anywhere: bool) -> io::Result<Vec<String>> {
    let name = name_of(lock_mark);
    let mut dirs: Vec<PathBuf> = Vec::new();
    let own = places_of_own();
    dirs.extend(own.iter().map(|(place, _)| place.join(&name)).filter(|dir| dir.is_dir()));
    // Somebody moved the supervisor to another group since it was made.
    let moved = !dirs.is_empty() && own.iter().any(|(place, kind)| *kind == "pids" && !place.join(&name).is_dir());
    if anywhere || moved {
        HIERARCHIES.iter().for_each(|(mount, _)| find(Path::new(mount), &name, DEPTH, &mut dirs));
        dirs.sort();
        dirs.dedup();
    }
    let mut ended = Vec::new();
    // Those that end a whole come first: then there is nothing left for the others to find.
    dirs.sort_by_key(|dir| !dir.join("cgroup.kill").exists());
    for dir in &dirs {
        end_one(dir, &mut ended)?;
    }
    dirs.iter().for_each(|dir| remove(dir));
    Ok(ended)
}

fn end_one(dir: &Path, ended: &mut Vec<String>) -> io::Result<()> {
    let until = Deadline::after(KILLED);
    let spared = tree::ancestry();
    loop {
        let all = members(dir, DEPTH);
        let ours = all.iter().any(|pid| spared.contains(pid));
        let meant: Vec<u32> = all.into_iter().filter(|pid| !spared.contains(pid) && !procfs::is_gone(*pid)).collect();
        if meant.is_empty() {
            return Ok(());
        }
        if until.passed() {
            let names: Vec<String> = meant.iter().map(|pid| named(*pid)).collect();
            return Err(io::Error::other(format!(
                "still in the control group {}: {}",
                dir.display(),
                names.join(", ")
            )));
        }
        for pid in &meant {
            let name = named(*pid);
            if ended.len() < 100 && !ended.contains(&name) {
                ended.push(name);
            }
        }
        if ours || fs::write(dir.join("cgroup.kill"), "1").is_err() {
            // Frozen, none of them starts another while they are killed one by one.
            let frozen = !ours && fs::write(dir.join("freezer.state"), "FROZEN").is_ok();
            for pid in members(dir, DEPTH).into_iter().filter(|pid| !spared.contains(pid)) {
                // One that is gone is what is wanted.
                let _gone = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            if frozen {
                fs::write(dir.join("freezer.state"), "THAWED")?;
            }
        }
        super::orphans::collect();
        wait_ready(&mut [] as &mut [PollFd<'_>], Some(LOOK_AGAIN))?;
    }
}

fn named(pid: u32) -> String {
    format!("{} ({pid})", procfs::name(pid))
}

/// The processes of a group and of those below it.
fn members(dir: &Path, depth: usize) -> Vec<u32> {
    // One that is gone has none.
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.parse().ok());
    let below = subgroups(dir).into_iter().filter(|_| depth > 0).flat_map(|dir| members(&dir, depth - 1));
    own.chain(below).collect()
}

fn subgroups(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn find(dir: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for below in subgroups(dir) {
        if below.file_name().is_some_and(|own| own == name) {
            found.push(below);
        } else if depth > 0 {
            find(&below, name, depth - 1, found);
        }
    }
}

/// Removes an empty group with what is below it. One that is not empty is left to who comes next.
fn remove(dir: &Path) {
    subgroups(dir).iter().for_each(|below| remove(below));
    if let Err(error) = fs::remove_dir(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, group = %dir.display(), "the control group stays");
    }
}

fn name_of(lock_mark: &str) -> String {
    let hash = Sha256::digest(lock_mark.as_bytes());
    let hex: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{hex}")
}

/// The groups that this process is in, one for each hierarchy that there is.
fn places_of_own() -> Vec<(PathBuf, &'static str)> {
    // Without /proc there is no group, and no scan of /proc either, which says so.
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let place = |(mount, controller): &(&'static str, &'static str)| {
        let own = text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            controllers.split(',').any(|name| name == *controller).then(|| path.trim_start_matches('/').to_owned())
        })?;
        let place = Path::new(mount).join(own);
        // Only a group has it: `/sys/fs/cgroup` itself may be a plain folder with the hierarchies in it.
        place.join("cgroup.procs").exists().then_some((place, *controller))
    };
    HIERARCHIES.iter().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_name_is_the_locks_alone() {
        assert_eq!(name_of("/run/lock/a.lock"), name_of("/run/lock/a.lock"));
        assert_ne!(name_of("/run/lock/a.lock"), name_of("/run/lock/b.lock"));
        assert!(is_runs(name_of("x").as_ref()) && !is_runs("docker".as_ref()));
    }
}
