//! The janitor: every row of the table of who decides what, on real orphans.
//!
//! The negative control of the survey that fails closed, of exact names and of the lock itself is in
//! the mutation table (`mutations.rs`).

#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ccci_tests::folder::Folder;
use ccci_tests::host::{self, Host};
use ccci_tests::moment::{self, Moment, abandon, leave_orphan};
use ccci_tests::process;
use ccci_tests::step::Launch;
use nix::sys::signal::Signal;
use serde_json::Value;

/// A sweep's findings, by kind.
struct Swept {
    json: Value,
}

impl Swept {
    fn of(host: &Host, options: &[&str], code: i32) -> Self {
        Self { json: sweep(host, options).end().expect(code).json() }
    }

    fn kinds(&self) -> Vec<&str> {
        self.json["findings"].as_array().unwrap().iter().map(|found| found["finding"].as_str().unwrap()).collect()
    }

    /// The one finding of this kind.
    #[track_caller]
    fn only(&self, kind: &str) -> &Value {
        let all = self.json["findings"].as_array().unwrap();
        let mut own = all.iter().filter(|found| found["finding"] == kind);
        let (one, more) = (own.next(), own.next());
        assert!(one.is_some() && more.is_none(), "one {kind}, please: {:#}", self.json);
        one.unwrap()
    }
}

fn sweep<'host>(host: &'host Host, options: &[&str]) -> Launch<'host> {
    host.command(&["cc-ci-janitor", "sweep", "--json"]).args(options.iter().copied())
}

/// Everything below some directories: kind, mode, owner, times, links and content.
fn picture(host: &Host) -> BTreeMap<PathBuf, String> {
    fn add(path: &Path, all: &mut BTreeMap<PathBuf, String>) {
        let Ok(meta) = path.symlink_metadata() else { return };
        let content = if meta.is_file() { fs::read(path).unwrap() } else { Vec::new() };
        let line = format!(
            "{:?} {:o} ino {} mtime {}.{} links {} {:?}",
            meta.file_type(),
            meta.mode(),
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.nlink(),
            String::from_utf8_lossy(&content)
        );
        all.insert(path.to_owned(), line);
        if meta.is_dir() {
            for name in host::list(path) {
                add(&path.join(name), all);
            }
        }
    }
    let mut all = BTreeMap::new();
    for dir in ["locks", "runs", "state", "abra"] {
        add(&host.path(dir), &mut all);
    }
    all
}

fn orphaned() -> Host {
    let host = Host::new();
    leave_orphan(&host);
    host
}

/// A second run of the example recipe's code, for another pull request.
fn other_pr(host: &Host, n: u64) -> String {
    (host.pr() * 10 + n).to_string()
}

/// Changes the record in a lock file, as a kernel or a clock would have it.
fn rewrite_record(path: &Path, key: &str, value: &str) {
    let mut record: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    record[key] = value.into();
    fs::write(path, format!("{record}\n")).unwrap();
}

fn age(path: &Path, hours: u64) {
    let when = SystemTime::now() - Duration::from_secs(hours * 3600);
    fs::File::open(path).unwrap().set_modified(when).unwrap();
}

#[test]
fn an_orphan_is_reaped_with_all_that_it_left() {
    let host = orphaned();
    assert!(!host.leftovers().is_empty());
    let swept = Swept::of(&host, &[], 0);
    let receipt = &swept.only("reaped")["receipt"];
    assert_eq!(receipt["verified"], true);
    let kinds: Vec<_> = receipt["removed"].as_array().unwrap().iter().map(|gone| gone["kind"].clone()).collect();
    for kind in ["service", "volume", "secret", "config", "app_dir", "env_file"] {
        assert!(kinds.contains(&kind.into()), "{kind} is not on the receipt: {receipt:#}");
    }
    host.assert_clean();
    assert_eq!(Swept::of(&host, &[], 0).kinds(), [""; 0], "nothing is left to find");
}

#[test]
fn an_orphan_without_its_lock_file_is_reaped() {
    let host = orphaned();
    fs::remove_file(host.app_lock().path()).unwrap();
    Swept::of(&host, &[], 0).only("reaped");
    host.assert_clean();
}

#[test]
fn an_orphan_of_which_only_a_process_is_left_is_reaped() {
    let host = orphaned();
    fs::remove_dir_all(host.app_dir()).unwrap();
    fs::remove_dir_all(host.path("abra/servers/ccci-local")).unwrap();
    fs::remove_file(host.app_lock().path()).unwrap();
    Swept::of(&host, &[], 0).only("reaped");
    host.assert_clean();
}

#[test]
fn an_orphan_of_which_only_the_env_file_is_left_is_reaped() {
    let host = Host::new();
    let env = host.env_file(&host.domain());
    fs::create_dir_all(env.parent().unwrap()).unwrap();
    fs::write(env, "DOMAIN=x").unwrap();
    Swept::of(&host, &[], 0).only("reaped");
    host.assert_clean();
}

#[test]
fn a_live_run_is_left_alone() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let step = held.start(&host);
    let before = host.service("app");
    let ended = host.command(&["cc-ci-janitor", "sweep"]).end().expect(0);
    assert!(ended.out().contains("live concurrent run, leaving it"), "{}", ended.out());
    assert!(ended.out().contains(&format!("run {}", step.id())), "{}", ended.out());
    assert_eq!(host.service("app"), before);
    held.open();
    step.end().expect_clean(0);
}

#[test]
fn who_waits_behind_a_live_run_is_counted() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let first = held.start(&host);
    let mut second = host.run().start();
    second.waits_for(&host.app_lock());
    assert_eq!(Swept::of(&host, &[], 0).only("live")["waiting"], 1);
    second.cancel();
    drop(second.keeper_end());
    held.open();
    first.end().expect_clean(0);
}

#[test]
fn a_live_run_whose_lock_file_was_unlinked_keeps_its_app() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let step = held.start(&host);
    let before = host.service("app");
    fs::remove_file(host.app_lock().path()).unwrap();
    for options in [&["--dry-run"][..], &[]] {
        let swept = Swept::of(&host, options, 0);
        let holder = swept.only("live")["holder"].to_string();
        assert!(holder.contains(step.id()), "{holder}");
        assert!(!host.app_lock().path().exists(), "the janitor's own lock file is gone again");
    }
    assert_eq!(host.service("app"), before, "the run's app is what it was");
    step.signal_keeper(Signal::SIGTERM);
    step.end().expect_clean(143);
}

#[test]
fn a_lock_held_for_twice_its_deadline_is_reported_and_not_stolen() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let step = held.launch(&host).args(["--deadline", "1h"]).env("STAGES", "install").start();
    held.reached(&step);
    let lock = host.app_lock();
    let before = host.service("app");
    Swept::of(&host, &[], 0).only("live");
    rewrite_record(lock.path(), "since", "2001-01-01T00:00:00Z");
    rewrite_record(lock.path(), "deadline", "2001-01-01T01:00:00Z");
    let text = host.command(&["cc-ci-janitor", "sweep"]).end().expect(0).out();
    assert!(text.starts_with("LEAKED RUN?"), "it comes first: {text}");
    assert!(text.contains("possible leaked run") && text.contains(step.id()), "{text}");
    // A record that is not the holder's says nothing about how long the holder has it.
    let mut record: Value = serde_json::from_slice(&fs::read(lock.path()).unwrap()).unwrap();
    record["pid"] = 1.into();
    fs::write(lock.path(), record.to_string()).unwrap();
    Swept::of(&host, &[], 0).only("live");
    // Without a record the file's own time tells.
    fs::write(lock.path(), "").unwrap();
    age(lock.path(), 3);
    Swept::of(&host, &[], 0).only("possibly_leaked");
    assert_eq!(host.service("app"), before);
    held.open();
    step.end().expect_clean(0);
}

#[test]
fn a_free_lock_file_without_an_app_is_removed() {
    let host = Host::new();
    fs::write(host.app_lock().path(), "").unwrap();
    fs::write(host.guard_lock("nobody").path(), "no record").unwrap();
    let swept = Swept::of(&host, &[], 0);
    assert_eq!(swept.json["lock_files_removed"], 2);
    host.assert_clean();
}

#[test]
fn a_lock_on_a_file_that_was_unlinked_protects_nobody() {
    let host = orphaned();
    let lock = host.app_lock();
    let held = OpenOptions::new().read(true).write(true).open(lock.path()).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    Swept::of(&host, &[], 0).only("live");
    fs::remove_file(lock.path()).unwrap();
    // What is held is a file that nobody finds any more, and no run is alive: an orphan.
    Swept::of(&host, &[], 0).only("reaped");
    host.assert_clean();
}

#[test]
fn lock_files_that_come_and_go_under_the_probe_confuse_nobody() {
    let host = orphaned();
    let lock = host.app_lock();
    let script = format!("while :; do rm -f '{0}'; : >'{0}'; done", lock.path().display());
    let churn = host.command(&["sh", "-c", &script]).start();
    for _ in 0..20 {
        // It stops where its own lock is lost, and remembers no failure of the app's.
        let swept = sweep(&host, &[]).end().expect(0).json();
        assert_eq!(swept["unreadable"], serde_json::json!([]));
    }
    // The loop, and then the step's shell that waits for it.
    for process in host.processes().iter().rev() {
        process::signal(process.pid, Signal::SIGKILL);
        assert!(process::wait_gone(process.pid, host::limit()));
    }
    drop(churn);
    drop(Swept::of(&host, &[], 0));
    host.assert_clean();
}

#[test]
fn another_installations_live_run_is_somebody_elses() {
    let (host, other) = (Host::new(), Host::new());
    let held = Moment::Install.prepare(&other);
    let step = held.start(&other);
    let before: Vec<_> = other.processes().iter().map(|process| process.pid).collect();
    assert_eq!(Swept::of(&host, &[], 0).kinds(), [""; 0]);
    let after: Vec<_> = other.processes().iter().map(|process| process.pid).collect();
    assert_eq!(after, before);
    held.open();
    step.end().expect_clean(0);
}

#[test]
fn what_is_no_lock_file_is_named_and_left_alone() {
    for word in ["symlink", "directory", "regular file"] {
        let host = orphaned();
        let lock = host.app_lock();
        fs::remove_file(lock.path()).unwrap();
        match word {
            "symlink" => symlink("/nonexistent-target", lock.path()).unwrap(),
            "directory" => fs::create_dir(lock.path()).unwrap(),
            _ => nix::unistd::mkfifo(lock.path(), nix::sys::stat::Mode::S_IRWXU).unwrap(),
        }
        let before = host.service("app");
        let swept = Swept::of(&host, &[], 0);
        let why = swept.only("skipped");
        assert!(why["why"].as_str().unwrap().contains(word), "{why}");
        assert_eq!(why["what"], lock.path().to_str().unwrap());
        assert_eq!(host.service("app"), before, "an app whose lock is odd is nobody's to reap");
        assert!(lock.path().symlink_metadata().is_ok(), "it is still there");
        assert!(!Path::new("/nonexistent-target").exists(), "never followed");
        if lock.path().is_dir() { fs::remove_dir(lock.path()) } else { fs::remove_file(lock.path()) }.unwrap();
        Swept::of(&host, &[], 0).only("reaped");
    }
}

#[test]
fn without_a_lock_directory_nothing_is_reaped() {
    let host = orphaned();
    let before = host.service("app");
    fs::rename(host.path("locks"), host.path("away")).unwrap();
    let ended = host.command(&["cc-ci-janitor", "sweep"]).end().expect(69);
    assert!(ended.out().contains(host.path("locks").to_str().unwrap()), "{}", ended.out());
    assert_eq!(host.service("app"), before);
    assert!(!host.path("locks").exists(), "the janitor makes no lock directory");
    fs::rename(host.path("away"), host.path("locks")).unwrap();
    Swept::of(&host, &[], 0).only("reaped");
    host.assert_clean();
}

#[test]
fn names_that_are_not_ours_are_never_touched() {
    let host = Host::new();
    let names = [
        "cc-ci-app-warm-keycloak.cc-ci.localhost.lock",
        "cc-ci-app-hell-01234.cc-ci.localhost.lock",
        "cc-ci-app-hello-012345.cc-ci.localhost.lock",
        "cc-ci-app-hell-012345.cc-ci.localhost.lock.bak",
        "cc-ci-app-hell-012345.other.example.lock",
        "cc-ci-slot-0.lock",
        "cc-ci-host.lock",
        "subsys",
    ];
    for name in names {
        fs::write(host.path("locks").join(name), "theirs").unwrap();
    }
    for dir in ["state/local/warm-keycloak.cc-ci.localhost/volumes/data", "state/local/hell-012345.other.example"] {
        fs::create_dir_all(host.path(dir)).unwrap();
    }
    fs::create_dir_all(host.path("abra/servers/ccci-local")).unwrap();
    fs::write(host.path("abra/servers/ccci-local/traefik.cc-ci.localhost.env"), "A=1").unwrap();
    fs::create_dir_all(host.path("runs/notes")).unwrap();
    fs::write(host.path("runs/notes/mine"), "").unwrap();
    age(&host.path("runs/notes"), 24 * 365);
    let before = picture(&host);
    assert_eq!(Swept::of(&host, &[], 0).kinds(), [""; 0]);
    assert_eq!(picture(&host), before);
}

#[test]
fn after_a_reboot_what_was_there_is_reaped_at_once() {
    let host = orphaned();
    // The boot took the processes; the record is of the boot before, and says a minute ago.
    for process in host.processes() {
        process::signal(process.pid, Signal::SIGKILL);
        assert!(process::wait_gone(process.pid, host::limit()));
    }
    let lock = host.app_lock();
    rewrite_record(lock.path(), "boot_id", "00000000-0000-0000-0000-000000000000");
    Swept::of(&host, &[], 0).only("reaped");
    host.assert_clean();
}

#[test]
fn after_a_reboot_a_lock_directory_that_came_up_empty_hides_nothing() {
    let host = orphaned();
    for process in host.processes() {
        process::signal(process.pid, Signal::SIGKILL);
        assert!(process::wait_gone(process.pid, host::limit()));
    }
    fs::remove_dir_all(host.path("locks")).unwrap();
    fs::create_dir(host.path("locks")).unwrap();
    Swept::of(&host, &[], 0).only("reaped");
    host.assert_clean();
}

#[test]
fn an_unreadable_source_stops_the_reaping_and_says_so() {
    let host = orphaned();
    let before = picture(&host);
    // A Docker that is configured and does not answer could hide anything.
    let dead = format!("unix://{}", host.path("docker.sock").display());
    let ended = sweep(&host, &[]).env("DOCKER_HOST", &dead).end().expect(69);
    let json = ended.json();
    assert!(json["unreadable"][0].as_str().unwrap().starts_with("swarm:"), "{json:#}");
    assert_eq!(picture(&host), before, "nothing is reaped, nothing removed");
    Swept::of(&host, &[], 0).only("reaped");
    host.assert_clean();
}

#[test]
fn run_directories_that_cannot_be_read_stop_the_reaping() {
    let host = orphaned();
    fs::rename(host.path("runs"), host.path("runs-away")).unwrap();
    fs::write(host.path("runs"), "a file").unwrap();
    let before = host.service("app");
    let swept = Swept::of(&host, &[], 69);
    assert_eq!(swept.kinds(), ["skipped"]);
    assert_eq!(host.service("app"), before);
    fs::remove_file(host.path("runs")).unwrap();
    fs::rename(host.path("runs-away"), host.path("runs")).unwrap();
    Swept::of(&host, &[], 0).only("reaped");
}

#[test]
fn a_substrate_that_answered_once_is_missed_when_it_is_gone() {
    let host = orphaned();
    fs::write(host.path("state/janitor.json"), r#"{"seen":["swarm"]}"#).unwrap();
    let before = host.service("app");
    let swept = Swept::of(&host, &[], 69);
    let why = swept.json["unreadable"][0].as_str().unwrap();
    assert!(why.contains("not there now") && why.contains("janitor.json"), "{why}");
    assert_eq!(host.service("app"), before);
    fs::remove_file(host.path("state/janitor.json")).unwrap();
    Swept::of(&host, &[], 0).only("reaped");
}

#[test]
fn a_dry_run_changes_nothing() {
    let host = orphaned();
    fs::write(host.guard_lock("nobody").path(), "").unwrap();
    host.settings("[retention]\ncount = 1\n");
    drop(host.run().env("STAGES", "install").env("PR", &other_pr(&host, 1)).end().expect(0));
    let (before, running) = (picture(&host), host.processes().len());
    let metrics = host.path("metrics.prom");
    let swept = Swept::of(&host, &["--dry-run", "--metrics", metrics.to_str().unwrap()], 0);
    let objects = swept.only("would_reap")["objects"].to_string();
    assert!(objects.contains("service app") && objects.contains("volume data"), "{objects}");
    assert_eq!((&swept.json["lock_files_removed"], &swept.json["run_dirs_removed"]), (&1.into(), &1.into()));
    let after = picture(&host);
    for (path, line) in &before {
        assert_eq!(after.get(path), Some(line), "{}", path.display());
    }
    assert_eq!(after.len(), before.len());
    assert_eq!(host.processes().len(), running);
    assert!(!metrics.exists());
    // Nor does it make a lock file where there is none.
    fs::remove_file(host.app_lock().path()).unwrap();
    Swept::of(&host, &["--dry-run"], 0).only("would_reap");
    assert!(!host.app_lock().path().exists());
}

#[test]
fn run_directories_go_by_age_and_count_and_a_waiting_runs_stays() {
    let host = Host::new();
    host.settings("[retention]\nage = \"24h\"\ncount = 3\n");
    let held = Moment::Install.prepare(&host);
    let first = held.start(&host);
    let mut waiting = host.run().start();
    waiting.waits_for(&host.app_lock());
    let (live, waits) = (first.run_dir(), waiting.run_dir());
    for dir in [&live, &waits] {
        age(&dir.join("run.json"), 1000);
    }
    let dead = |name: &str, hours: u64| {
        let dir = host.path("runs").join(name);
        fs::create_dir_all(dir.join("deep/er")).unwrap();
        fs::write(dir.join("run.json"), "{}").unwrap();
        fs::write(dir.join("results.json"), "{}").unwrap();
        age(&dir.join("results.json"), hours);
        dir
    };
    let dirs: Vec<_> = [("old", 25), ("third", 3), ("second", 2), ("last", 1)].map(|(n, h)| dead(n, h)).into();
    // Killed between its first two steps; and one that is a foreigner's.
    fs::create_dir(host.path("runs/died-young")).unwrap();
    age(&host.path("runs/died-young"), 25);
    let swept = Swept::of(&host, &[], 0);
    let left: Vec<bool> = dirs.iter().map(|dir| dir.exists()).collect();
    assert_eq!(left, [false, true, true, true], "{:#}", swept.json);
    assert!(live.join("run.json").exists() && waits.join("run.json").exists());
    assert!(!host.path("runs/died-young").exists());
    waiting.cancel();
    drop(waiting.keeper_end());
    held.open();
    first.end().expect_clean(0);
    // The count: three of five.
    drop(Swept::of(&host, &[], 0));
    assert_eq!(host::list(&host.path("runs")).len(), 3);
}

#[test]
fn two_janitors_at_once_and_exactly_one_reaps() {
    let host = Host::new();
    for round in 0..4 {
        let gate = host.gate(&format!("up{round}"));
        let _folder = host.folder("hello").script("test_install.sh", &gate.pass());
        let mut step = host.run().start();
        gate.reached();
        abandon(&mut step);
        let both = [sweep(&host, &[]).start(), sweep(&host, &[]).start()];
        let swept: Vec<Value> = both.into_iter().map(|step| step.end().expect(0).json()).collect();
        let reaped = swept.iter().flat_map(|json| json["findings"].as_array().unwrap());
        let reaped = reaped.filter(|found| found["finding"] == "reaped").count();
        assert_eq!(reaped, 1, "round {round}: {swept:#?}");
        host.assert_clean();
    }
}

#[test]
fn a_janitor_at_work_holds_the_lock_and_says_who_it_is() {
    let host = Host::new();
    let gate = host.gate("slow");
    let folder = |host: &Host| -> Folder { moment::slow_to_stop(host.folder("hello"), &gate) };
    let up = host.gate("up");
    let _folder = folder(&host).script("test_install.sh", &up.pass());
    let mut step = host.run().env("STAGES", "install").start();
    up.reached();
    abandon(&mut step);
    let _plain = host.folder("hello");
    let first = sweep(&host, &[]).start();
    gate.reached();
    // It reaps, and the service is slow to stop: another janitor and a run both find the lock held.
    let second = Swept::of(&host, &[], 0);
    let holder = second.only("live")["holder"].to_string();
    assert!(holder.contains("janitor-") && holder.contains("reaping"), "{holder}");
    let run = host.run().env("STAGES", "install").start();
    run.says("held by run janitor-");
    gate.open();
    let first = first.end().expect(0).json();
    assert_eq!(first["findings"][0]["finding"], "reaped", "{first:#}");
    let run = run.end().expect_clean(0);
    assert_eq!(run.results()["preclean"], Value::Null, "the janitor left nothing to clean");
}

#[test]
fn what_would_not_go_is_quarantined_and_the_others_go_on() {
    let host = orphaned();
    // A mount point inside a volume: nobody can remove it. A read-only directory would not stop root.
    let stuck = host.app_dir().join("volumes/data/stuck");
    fs::create_dir_all(&stuck).unwrap();
    let mounted = host.command(&["mount", "-t", "tmpfs", "none", stuck.to_str().unwrap()]).end();
    if mounted.code != 0 {
        return;
    }
    let unmount = Unmount(stuck);
    let bounded = ["--budget", "1s"];
    for _ in 0..3 {
        let swept = Swept::of(&host, &bounded, 1);
        let residue = swept.only("failed")["receipt"]["residue"][0].to_string();
        assert!(residue.contains("volume data"), "{residue}");
        assert!(host.app_lock().path().exists(), "its lock file stays");
    }
    let env = host.env_file(&host.domain_of("hello", host.pr() * 10, ""));
    fs::write(&env, "").unwrap();
    let swept = Swept::of(&host, &bounded, 1);
    assert_eq!(swept.only("quarantined")["failures"], 3);
    swept.only("reaped");
    assert!(!env.exists());
    drop(unmount);
    // A run of the domain does not wait for the back-off.
    drop(host.run().env("STAGES", "install").end().expect(0));
    assert_eq!(Swept::of(&host, &[], 0).kinds(), [""; 0], "forgotten, since it is gone");
}

/// Unmounts at the end of its test, whatever becomes of that.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _gone = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_sweep_that_has_no_time_left_says_what_it_did_not_reach() {
    let host = orphaned();
    let before = host.service("app");
    let swept = Swept::of(&host, &["--budget", "0s"], 0);
    assert_eq!(swept.json["not_reached"], 1);
    assert_eq!(host.service("app"), before);
    Swept::of(&host, &[], 0).only("reaped");
}

#[test]
fn a_dead_guards_processes_end_and_its_teardown_is_kept_for_the_next() {
    let host = Host::new();
    host.settings("[retention]\nage = \"1s\"\ncount = 1\n");
    let gate = host.gate("work");
    let done = host.path("torn-down");
    let teardown = format!("touch '{}'", done.display());
    let mut step = host.guard("job", &["--teardown", &teardown], &format!("sleep 1000 & {}", gate.pass())).start();
    gate.reached();
    abandon(&mut step);
    let swept = Swept::of(&host, &[], 1);
    let dir = PathBuf::from(swept.only("dead_guard")["run_dir"].as_str().unwrap());
    assert!(host.processes().is_empty(), "{:?}", host.processes());
    assert!(dir.is_dir(), "past its retention, and still needed");
    assert!(!done.exists(), "the janitor has neither the guard's environment nor its rights");
    drop(host.guard("job", &[], "true").end().expect(0));
    assert!(done.exists(), "the next guard of the name ran it");
    assert_eq!(Swept::of(&host, &[], 0).kinds(), [""; 0]);
    host.assert_clean();
}

#[test]
fn a_run_whose_every_part_was_killed_is_concluded() {
    let host = orphaned();
    let swept = Swept::of(&host, &[], 0);
    swept.only("reaped");
    let concluded = swept.json["concluded"].as_array().unwrap();
    let [run] = concluded.as_slice() else { panic!("{:#}", swept.json) };
    assert_eq!(run["verdict"], "cancelled");
    let dir = PathBuf::from(run["run_dir"].as_str().unwrap());
    let results: Value = serde_json::from_slice(&fs::read(dir.join("results.json")).unwrap()).unwrap();
    assert_eq!((&results["cause"]["cause"], &results["exit_code"]), (&"keeper_died".into(), &143.into()));
    assert_eq!(results["flags"]["clean_teardown"], true, "what the sweep removed is on its receipt");
    assert!(dir.join("summary.html").exists());
    assert!(!host.path("runs/.open").exists(), "nothing is unfinished");
    let again = Swept::of(&host, &[], 0);
    assert_eq!((again.kinds(), &again.json["concluded"]), (vec![], &serde_json::json!([])));
    host.assert_clean();
}

#[test]
fn metrics_are_a_whole_file_that_anybody_may_read() {
    let host = orphaned();
    let file = host.path("cc-ci.prom");
    drop(Swept::of(&host, &["--metrics", file.to_str().unwrap()], 0));
    let text = fs::read_to_string(&file).unwrap();
    for line in ["cc_ci_reaped_total 1", "cc_ci_leftovers 0", "cc_ci_live_runs 0", "cc_ci_quarantined 0"] {
        assert!(text.lines().any(|have| have == line), "no `{line}` in\n{text}");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn ended_runs_and_their_waits_are_counted_once_and_outlast_their_directories() {
    let host = Host::new();
    host.settings("[retention]\nage = \"1h\"\ncount = 1\n");
    let file = host.path("cc-ci.prom");
    for _ in 0..2 {
        drop(host.run().env("STAGES", "install").end().expect(0));
    }
    let runs: Vec<_> = host::list(&host.path("runs")).iter().map(|name| host.path("runs").join(name)).collect();
    for run in &runs {
        let results = run.join("results.json");
        let mut text: Value = serde_json::from_slice(&fs::read(&results).unwrap()).unwrap();
        let phases = text["phases"].as_array_mut().unwrap();
        // Under load a run has a wait of its own, of a millisecond.
        phases.retain(|phase| phase["name"] != "wait");
        phases.push(serde_json::json!({"name": "wait", "milliseconds": 250}));
        fs::write(&results, text.to_string()).unwrap();
        age(&results, 2);
    }
    for _ in 0..2 {
        drop(Swept::of(&host, &["--metrics", file.to_str().unwrap()], 0));
        let text = fs::read_to_string(&file).unwrap();
        for line in
            ["cc_ci_runs_total{verdict=\"green\"} 2", "cc_ci_waits_total 2", "cc_ci_wait_milliseconds_total 500"]
        {
            assert!(text.lines().any(|have| have == line), "no `{line}` in\n{text}");
        }
    }
    assert!(runs.iter().all(|run| !run.exists()), "past their retention");
}

#[test]
fn a_full_disk_hides_no_report() {
    let host = orphaned();
    // The memory cannot be written: its directory is a file's name.
    fs::create_dir(host.path("state/janitor.json")).unwrap();
    let swept = Swept::of(&host, &[], 0);
    swept.only("reaped");
    let why = swept.only("skipped")["why"].to_string();
    assert!(why.contains("cannot remember"), "{why}");
}

#[test]
fn runs_share_the_host_lock_and_wait_for_a_prune() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let first = held.start(&host);
    let path = host.path("locks/cc-ci-host.lock");
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    assert!(rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err(), "a run is live");
    held.open();
    drop(first.end().expect(0));
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let second = host.run().start();
    second.says("images are being pruned on this host — waiting");
    assert!(second.part_now("worker").is_none());
    drop(file);
    held.reached_again();
    held.open();
    second.end().expect_clean(0);
}
