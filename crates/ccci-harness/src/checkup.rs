//! What a host must have, looked at: for `doctor`, and for a run that would fail anyway.
//!
//! Each finding says what was seen and, where it is not well, what to do about it.

use std::path::Path;
use std::time::Duration;

use ccci_core::config::{Places, Settings};
use ccci_core::docker::host::{Addresses, Disk, Host, disk};
use ccci_core::docker::{Docker, Endpoint};
use ccci_core::process::{Job, find_program, group};
use ccci_forge::api::Api;
use ccci_forge::remote::one_line;
use serde::Serialize;

use crate::health::Target;

/// A disk that is fuller than this is worth a word.
const DISK_WARN: u64 = 80;
/// With less than this left a run would die of it half-way.
const DISK_FAIL: u64 = 97;
/// A run needs a few addresses of each shared network: its tasks and their virtual address.
const ADDRESSES_WARN: u64 = 20;
const ADDRESSES_FAIL: u64 = 3;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    pub(crate) name: String,
    pub(crate) level: Level,
    /// What was seen.
    pub(crate) seen: String,
    /// What to do about it; empty when it is well.
    pub(crate) remedy: String,
}

fn ok(name: &str, seen: impl Into<String>) -> Finding {
    Finding { name: name.to_owned(), level: Level::Ok, seen: seen.into(), remedy: String::new() }
}

fn warn(name: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { name: name.to_owned(), level: Level::Warn, seen: seen.into(), remedy: remedy.into() }
}

fn fail(name: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { level: Level::Fail, ..warn(name, seen, remedy) }
}

/// Everything, in the order in which a run needs it.
pub(crate) fn all(places: &Places) -> Vec<Finding> {
    let mut findings = vec![
        directory(
            "lock directory",
            &places.lock_dir,
            "create it, mode 1777 on a tmpfs (the NixOS module's tmpfiles rule does)",
        ),
        directory("run directories", &places.runs_dir, "create it for the user that runs cc-ci-run"),
        directory("state directory", &places.state_dir, "create it for the user that runs cc-ci-run"),
        kernel(),
        tool("git", &["--version"], "install git", Level::Fail),
        tool("python3", &["-m", "pytest", "--version"], "install pytest, if a recipe has test_*.py", Level::Warn),
    ];
    findings.push(tool(
        "abra",
        &["--version"],
        "install it for the abra engine; the swarm engine needs none",
        Level::Warn,
    ));
    findings.extend(disk(existing(&places.runs_dir)).map(|seen| space("disk of the run directories", &seen)));
    findings.extend(docker());
    findings
}

/// What a run's children are in, so that they end as a whole. Never a failure: without it they are found one by one.
pub(crate) fn control_group(settings: &Settings) -> Finding {
    const NAME: &str = "control group";
    match group::probe(&settings.limits) {
        Some(group) => {
            let (pids, memory) = group.limits;
            let limits = [("processes", pids), ("memory", memory)].into_iter().filter(|(_, limited)| *limited);
            let limits: Vec<&str> = limits.map(|(what, _)| what).collect();
            let limits = if limits.is_empty() { "nothing".to_owned() } else { limits.join(" and ") };
            ok(NAME, format!("one for each run, ended as a whole; limited: {limits}"))
        }
        None => warn(
            NAME,
            "none can be made: what a run leaves running is looked for one by one",
            "run as root, or with `Delegate=yes` in the unit of the CI's runner",
        ),
    }
}

/// The forge, if results are told to one. It never fails a run, so it is a warning at most.
pub(crate) fn forge(settings: &Settings) -> Option<Finding> {
    let forge = settings.forge.as_ref()?;
    let asked = Api::open(forge).and_then(|api| Ok(api.myself()?));
    Some(match asked {
        Ok(user) => ok("forge", format!("{}, as {}", forge.url, one_line(&user.login, 40))),
        Err(error) => warn("forge", format!("{error:#}"), "see \"Tell the forge\" in docs/operations.md"),
    })
}

/// Where the host's reverse proxy answers, if it is said: without it nobody can ask an app that publishes no port.
pub(crate) fn ingress(settings: &Settings) -> Option<Finding> {
    const NAME: &str = "ingress";
    let Some(address) = settings.ingress else {
        // Only an app on Swarm is ever asked there.
        return matches!(Endpoint::find(), Ok(Some(_))).then(|| {
            warn(
                NAME,
                "not set: an app on Swarm that publishes no port cannot be asked, and does not pass",
                "set `ingress = \"ADDRESS:PORT\"` in the settings to where the reverse proxy answers over HTTP",
            )
        });
    };
    let target = Target { address, host: format!("doctor.{}", settings.base_domain), ports: None };
    Some(match target.status("/") {
        // Whatever it says of a name that it does not know.
        Ok(status) => ok(NAME, format!("{address} answers ({status})")),
        Err(error) => fail(
            NAME,
            format!("{address}: {error}"),
            "start the reverse proxy, or correct `ingress` in the settings: apps that publish no port are asked there",
        ),
    })
}

/// What of a Docker host would make every run fail. A network that is full concerns only who is on it.
pub(crate) fn fatal(host: &Host) -> Option<Finding> {
    of_daemon(host).into_iter().find(|finding| finding.level == Level::Fail)
}

fn directory(name: &str, dir: &Path, remedy: &str) -> Finding {
    use rustix::fs::{Access, access};
    let seen = dir.display().to_string();
    match access(existing(dir), Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if dir.is_dir() => ok(name, seen),
        // Run and state directories are made when they are needed; the lock directory is not.
        Ok(()) if name != "lock directory" => ok(name, format!("{seen}, made when it is needed")),
        Ok(()) => fail(name, format!("{seen} does not exist"), remedy),
        Err(errno) => fail(name, format!("{seen}: {errno}"), remedy),
    }
}

/// The nearest directory that exists.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"))
}

/// pidfds (5.3) and boot-time timers are what the parts of a run rest on; a hidden `/proc` would hide
/// what is left running.
fn kernel() -> Finding {
    let own = rustix::process::getpid();
    if let Err(errno) = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty()) {
        return fail(
            "kernel",
            format!("pidfd_open: {errno}"),
            "use Linux 5.4 or later, and allow it in the container's seccomp profile",
        );
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hides = mounts
        .lines()
        .any(|line| line.starts_with("proc /proc ") && line.contains("hidepid=") && !line.contains("hidepid=0"));
    if hides && !nix::unistd::geteuid().is_root() {
        return fail(
            "kernel",
            "/proc is mounted with hidepid",
            "let this user's group see all processes (gid=), or run as root",
        );
    }
    ok("kernel", "pidfds, /proc of all processes")
}

fn tool(name: &str, args: &[&str], remedy: &str, missing: Level) -> Finding {
    if find_program(name).is_none() {
        return Finding { level: missing, ..warn(name, "none on this host", remedy) };
    }
    let mut first = String::new();
    let job = Job::tool(name).args(args).timeout(Duration::from_secs(20));
    let done = job.run_ok(&mut |line| {
        if first.is_empty() {
            line.clone_into(&mut first);
        }
    });
    match done {
        Ok(_) => ok(name, first),
        Err(error) => {
            let seen = error.to_string().lines().next().unwrap_or_default().to_owned();
            Finding { level: missing, ..warn(name, seen, remedy) }
        }
    }
}

fn docker() -> Vec<Finding> {
    match Endpoint::find() {
        Ok(None) => {
            vec![warn("docker", "none on this host", "install it for the swarm engine; the local engine needs none")]
        }
        Err(error) => vec![fail("docker", error.to_string(), "correct DOCKER_HOST or the Docker context")],
        Ok(Some(endpoint)) => match Docker::new(endpoint).answer_within(Duration::from_secs(20)).host() {
            Ok(host) => of_host(&host),
            Err(error) => vec![fail("docker", error.to_string(), "start the daemon, or let this user talk to it")],
        },
    }
}

fn of_host(host: &Host) -> Vec<Finding> {
    let mut findings = of_daemon(host);
    findings.extend(host.addresses.iter().map(addresses));
    findings.push(match host.dangling_volumes.len() {
        0 => ok("volumes", "none without a container"),
        n => ok("volumes", format!("{n} without a container (docker volume ls --filter dangling=true)")),
    });
    findings
}

fn of_daemon(host: &Host) -> Vec<Finding> {
    let mut findings = vec![ok("docker", format!("engine {} at {}", host.engine, host.endpoint))];
    findings.push(swarm(host.manager, host.nodes, &host.swarm));
    findings.extend(host.disk.as_ref().map(|seen| space("disk of docker", seen)));
    findings
}

fn swarm(manager: bool, nodes: u32, state: &str) -> Finding {
    match (manager, nodes) {
        (true, 1) => ok("swarm", "this node is its manager"),
        // What runs, and what is left, is asked of this node's Docker.
        (true, nodes) => fail(
            "swarm",
            format!("{nodes} nodes, and the containers of the others are not seen from here"),
            "use a Swarm of one node: `docker node rm` the others",
        ),
        (false, _) => fail("swarm", state, "docker swarm init"),
    }
}

fn space(name: &str, seen: &Disk) -> Finding {
    let full = seen.percent_full();
    let text = format!("{full} % full at {}", seen.path.display());
    let remedy = "cc-ci-janitor sweep removes what dead runs left; then docker image prune, while no run is live";
    match full {
        full if full >= DISK_FAIL => fail(name, text, remedy),
        full if full >= DISK_WARN => warn(name, text, remedy),
        _ => ok(name, text),
    }
}

fn addresses(seen: &Addresses) -> Finding {
    let name = format!("network {}", seen.network);
    let text = format!("{} of {} addresses left in {}", seen.left, seen.total, seen.subnet);
    let remedy =
        "make the network larger (/16); addresses that removed tasks leaked come back with a restart of Docker";
    match seen.left {
        left if left < ADDRESSES_FAIL => fail(&name, text, remedy),
        left if left < ADDRESSES_WARN.min(seen.total / 4) => warn(&name, text, remedy),
        _ => ok(&name, text),
    }
}

#[cfg(test)]
mod tests {
    use ccci_core::docker::host::CountedBy;

    use super::*;

    fn network(left: u64) -> Level {
        let seen = Addresses {
            network: "proxy".into(),
            subnet: "10.0.0.0/24".into(),
            total: 254,
            in_use: 254 - left,
            left,
            counted_by: CountedBy::Owners,
        };
        addresses(&seen).level
    }

    #[test]
    fn a_host_that_runs_out_is_told_before_a_run_fails() {
        assert_eq!((network(100), network(10), network(1)), (Level::Ok, Level::Warn, Level::Fail));
        let disk = |free| {
            let seen = Disk { path: "/".into(), bytes: 100, bytes_free: free, inodes: 0, inodes_free: 0 };
            space("disk", &seen).level
        };
        assert_eq!((disk(50), disk(15), disk(1)), (Level::Ok, Level::Warn, Level::Fail));
        // [disk]: once it was inodes, with space left.
        let inodes = |free| {
            let seen = Disk { path: "/".into(), bytes: 100, bytes_free: 90, inodes: 100, inodes_free: free };
            space("disk", &seen).level
        };
        assert_eq!((inodes(50), inodes(15), inodes(1)), (Level::Ok, Level::Warn, Level::Fail));
    }

    #[test]
    fn an_ingress_that_does_not_answer_fails() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let settings = Settings { ingress: Some(address), ..Settings::default() };
        assert_eq!(ingress(&settings).unwrap().level, Level::Fail);
    }

    #[test]
    fn a_swarm_whose_containers_are_not_all_here_is_no_host_for_runs() {
        let level = |manager, nodes| swarm(manager, nodes, "inactive").level;
        assert_eq!((level(true, 1), level(true, 2), level(false, 0)), (Level::Ok, Level::Fail, Level::Fail));
    }

    #[test]
    fn a_missing_lock_directory_fails_and_a_missing_run_directory_is_made_later() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        assert_eq!(directory("lock directory", &gone, "x").level, Level::Fail);
        assert_eq!(directory("run directories", &gone, "x").level, Level::Ok);
    }
}
