//! Locks: runs of one domain exclude each other, runs of different ones do not, and nothing steals.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use ccci_core::lifetime::clock::Deadline;
use ccci_tests::host::{self, Host};
use ccci_tests::moment::{self, Moment};
use ccci_tests::process::{self, Process, wait_gone};
use ccci_tests::step::{Ended, Step};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;

/// The first event of this kind.
fn event(run: &Ended<'_>, kind: &str) -> Value {
    let events = run.events();
    events.iter().find(|event| event["event"] == kind).unwrap_or_else(|| panic!("no {kind} in {events:#?}")).clone()
}

/// A guard that holds its lock until its gate opens.
fn holder<'host>(host: &'host Host, name: &str) -> (Step<'host>, ccci_tests::gate::Gate) {
    let gate = host.gate(&format!("{name}-{}", host::list(&host.path("gates")).len()));
    let step = host.guard(name, &[], &gate.pass()).start();
    gate.reached();
    let _known = step.run_dir();
    (step, gate)
}

#[test]
fn a_run_is_green_and_leaves_nothing() {
    let host = Host::new();
    let run = host.run().end().expect_clean(0);
    assert_eq!(run.results()["verdict"], "green");
    assert!(run.out().contains("RUN SUMMARY"));
}

#[test]
fn a_second_run_of_the_domain_waits_and_then_deploys_once() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let first = held.start(&host);
    let second = host.run().start();
    second.says("held by");
    second.waits_for(&host.app_lock());
    let log = second.log();
    assert!(log.contains(&format!("== app lock: another run of {} in flight — waiting ==", host.domain())), "{log}");
    let holder = format!("held by run {} (pid {}, PR {}, phase install", first.id(), first.keeper(), host.pr());
    assert!(log.contains(&holder), "{log}");
    held.open();
    let first = first.end().expect(0);
    held.reached_again();
    held.open();
    let second = second.end().expect_clean(0);
    for run in [&first, &second] {
        assert!(run.log().contains("deploy-count = 1 (expect 1)"), "{}", run.log());
    }
    assert!(second.log().contains(&format!("== app lock: {} acquired after", host.domain())));
    // The second touched nothing before the first had taken everything down.
    let (end, locked) = (first.events().pop().unwrap()["at"].to_string(), event(&second, "locked")["at"].to_string());
    assert!(end <= locked, "{end} {locked}");
    assert_eq!(second.results()["preclean"], Value::Null, "there was nothing left to clean");
}

#[test]
fn four_runs_of_one_domain_go_one_after_the_other() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let mut steps = vec![held.start(&host)];
    for _ in 0..3 {
        let step = host.run().start();
        step.waits_for(&host.app_lock());
        steps.push(step);
    }
    let queue: Vec<i32> = host.kernel_on(&host.app_lock()).iter().map(|entry| entry.pid.cast_signed()).collect();
    assert_eq!(queue, steps.iter().map(Step::keeper).collect::<Vec<_>>(), "one holder, and three in order");
    let file = || fs::metadata(host.app_lock().path()).unwrap().ino();
    let queued_on = file();
    held.open();
    let mut last_end = String::new();
    for (turn, step) in steps.into_iter().enumerate() {
        if turn > 0 {
            held.reached_again();
            assert_eq!(file(), queued_on, "on another file they would have to queue again");
            held.open();
        }
        let run = step.end().expect(0);
        assert_eq!(run.results()["deploy_count"]["counted"], 1);
        let (locked, end) = (event(&run, "locked")["at"].to_string(), run.events().pop().unwrap()["at"].to_string());
        assert!(last_end <= locked, "run {turn} began at {locked}, before {last_end}");
        last_end = end;
    }
    host.assert_clean();
}

#[test]
fn a_newcomer_overtakes_nobody_who_waits() {
    let host = Host::new();
    let lock = host.guard_lock("db");
    let (first, gate) = holder(&host, "db");
    let second = host.guard("db", &[], "exit 0").start();
    second.waits_for(&lock);
    // Woken by the release, it does not come to take the lock: nobody holds it then.
    second.signal_keeper(Signal::SIGSTOP);
    gate.open();
    let _done = first.end().expect(0);
    host::until("the lock is free", || host.kernel_on(&lock).iter().all(|entry| entry.waits).then_some(()));
    let refused = host.guard("db", &["--on-conflict", "fail"], "exit 0").end().expect(75);
    assert!(refused.err().contains("--on-conflict is `fail`"), "{}", refused.err());
    // The janitor is no newcomer, and leaves to whoever waits what that finds.
    host.command(&["cc-ci-janitor", "sweep"]).end().expect(0);
    second.signal_keeper(Signal::SIGCONT);
    let _done = second.end().expect(0);
    // One that was cancelled is in nobody's way.
    let (first, gate) = holder(&host, "db");
    let second = host.guard("db", &[], "exit 0").start();
    second.waits_for(&lock);
    second.signal_keeper(Signal::SIGTERM);
    let _cancelled = second.end().expect(143);
    gate.open();
    let _done = first.end().expect(0);
    host.guard("db", &["--on-conflict", "fail"], "exit 0").end().expect_clean(0);
}

#[test]
fn eight_different_apps_run_at_once_and_never_wait() {
    let host = Host::new();
    let gate = host.gate("up");
    let _folder = host.folder("hello").script("test_install.sh", &gate.pass());
    let start = |n: u64| host.run().env("PR", &(host.pr() * 10 + n).to_string()).env("STAGES", "install").start();
    let steps: Vec<_> = (0..8).map(start).collect();
    // All eight are up before the first may go on.
    (0..8).map(|_| gate.reached()).for_each(|pid| assert!(pid > 0));
    (0..8).for_each(|_| gate.open());
    for step in steps {
        let run = step.end().expect(0);
        assert!(!run.log().contains("waiting"), "{}", run.log());
        assert_eq!(run.results()["deploy_count"]["counted"], 1);
    }
    host.assert_clean();
}

#[test]
fn a_teardown_never_touches_a_neighbour() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let witness = held.start(&host);
    let before = host.service("app");
    assert_eq!(before.len(), 1);
    let other = host.run().env("PR", &(host.pr() * 10).to_string()).start();
    held.reached_again();
    other.signal_keeper(Signal::SIGTERM);
    let _cancelled = other.end().expect(143);
    assert_eq!(host.service("app"), before, "the witness is the process that it was");
    held.open();
    witness.end().expect_clean(0);
}

#[test]
fn a_dead_holders_lock_is_free_at_once_though_its_services_live() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let mut step = held.start(&host);
    moment::abandon(&mut step);
    let services = host.service("app");
    assert_eq!(services.len(), 1, "a service outlives its run, as a container would");
    assert_eq!(host.kernel_on(&host.app_lock()), [], "no child of the run holds its lock");
    let _plain = host.folder("hello");
    let next = host.run().env("STAGES", "install").end().expect_clean(0);
    assert!(!next.log().contains("waiting"), "{}", next.log());
}

#[test]
fn what_a_dead_run_left_is_reaped_before_the_next_one_begins() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    // A grandchild outside of every group goes on working in the dead run's name ([E7]).
    let away = "setsid sleep 1000 >/dev/null 2>&1 &";
    let gate = host.gate("away");
    let _folder = host.folder("hello").script("test_install.sh", &format!("{away}\n{}", gate.pass()));
    drop(held);
    let mut step = host.run().start();
    gate.reached();
    moment::abandon(&mut step);
    // The test itself dies with the worker; what stays is the service and the grandchild.
    let left: Vec<i32> = host::until("the dead run's own children end", || {
        let left: Vec<i32> = host.processes().iter().map(|process| process.pid).collect();
        (left.len() == 2).then_some(left)
    });

    let next = Moment::PreInstall.prepare(&host);
    let step = next.start(&host);
    for pid in &left {
        assert_eq!(Process::of(*pid), None, "{pid} works on under the next run's hands");
    }
    next.open();
    let run = step.end().expect_clean(0);
    let preclean = run.results()["preclean"].clone();
    assert!(preclean["processes"].to_string().contains("sleep"), "{preclean:#}");
    assert!(preclean["removed"].to_string().contains("env_file"), "{preclean:#}");
    assert!(run.log().contains("== preclean: an earlier run left"), "{}", run.log());
    assert_eq!(run.results()["verdict"], "green", "somebody else's dirt is not this run's fault");
}

#[test]
fn the_conflict_mode_fail_exits_75_at_once_and_disturbs_nobody() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let first = held.start(&host);
    let refused = host.run().args(["--on-conflict", "fail"]).end().expect(75);
    assert!(refused.log().contains(&format!("held by run {}", first.id())), "{}", refused.log());
    assert_eq!(refused.results()["verdict"], "busy");
    held.open();
    first.end().expect_clean(0);
    let _plain = host.folder("hello");
    host.run().args(["--on-conflict", "fail"]).end().expect_clean(0);
}

#[test]
fn a_wait_that_takes_too_long_exits_75() {
    let host = Host::new();
    let (first, gate) = holder(&host, "db");
    let timed_out = host.guard("db", &["--wait-timeout", "200ms"], "exit 0").end().expect(75);
    assert!(timed_out.err().contains("db was not free within"), "{}", timed_out.err());
    gate.open();
    first.end().expect_clean(0);
}

#[test]
fn the_wait_for_the_lock_is_not_taken_from_the_deadline() {
    // [wait]: a run waited for 1411 s, and the wait ate its deadline.
    let host = Host::new();
    let deadline = Duration::from_secs(6);
    let (first, gate) = holder(&host, "db");
    let second = host.guard("db", &["--deadline", "6s"], "exit 0").start();
    second.waits_for(&host.guard_lock("db"));
    // Time itself is what is tested.
    let waits = Deadline::after(Duration::ZERO);
    host::until("the wait is longer than the deadline", || (waits.elapsed() > deadline).then_some(()));
    gate.open();
    let _done = first.end().expect(0);
    second.end().expect_clean(0);
}

#[test]
fn the_runs_clock_ends_before_the_runners() {
    let host = Host::new();
    host.settings("step_limit = \"60m\"\nteardown_budget = \"10m\"\nmin_time_left = \"5m\"\n");
    let held = Moment::Install.prepare(&host);
    let started = (Timestamp::now().as_second() - 30 * 60).to_string();
    let step = held.launch(&host).env("DRONE_STAGE_STARTED", &started).start();
    held.reached(&step);
    // An hour less half an hour less ten minutes, where it would have an hour by itself.
    let record: Value = serde_json::from_str(&fs::read_to_string(host.app_lock().path()).unwrap()).unwrap();
    let time = |key: &str| record[key].as_str().unwrap().parse::<Timestamp>().unwrap();
    let own = time("deadline").duration_since(time("since")).as_secs();
    assert!((15 * 60..=20 * 60).contains(&own), "{own} s");
    held.open();
    step.end().expect_clean(0);
}

#[test]
fn a_superseded_run_tears_down_before_its_successor_deploys() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let first = held.start(&host);
    let second = host.run().args(["--on-conflict", "supersede"]).start();
    let successor = second.keeper();
    let ended = first.end().expect(143).results();
    assert_eq!(ended["cause"]["pid"], successor, "the result names who asked");
    assert_eq!(ended["flags"]["clean_teardown"], true);
    held.reached_again();
    held.open();
    let run = second.end().expect_clean(0);
    assert_eq!(run.results()["preclean"], Value::Null);
    assert_eq!(run.results()["deploy_count"]["counted"], 1);
}

#[test]
fn of_three_that_supersede_only_the_last_runs_to_its_end() {
    let host = Host::new();
    let (work, down) = (host.gate("work"), host.gate("down"));
    let supersede = |command: &str, teardown: &str| {
        host.guard("db", &["--on-conflict", "supersede", "--teardown", teardown], command).start()
    };
    let first = supersede(&work.pass(), &down.pass());
    work.reached();
    let second = supersede("exit 5", "true");
    second.waits_for(&host.guard_lock("db"));
    // The first is asked by the second, and is in its teardown until the third has come.
    down.reached();
    let third = supersede("exit 6", "true");
    let by = format!("superseded by run guard-db-{}", third.keeper());
    let second = second.end().expect(143);
    assert!(second.err().contains(&by), "{}", second.err());
    down.open();
    let first = first.end().expect(143);
    assert!(first.err().contains("superseded by run"), "{}", first.err());
    third.end().expect_clean(6);
}

#[test]
fn nobody_is_asked_to_stop_on_the_word_of_the_record_alone() {
    let host = Host::new();
    let (first, gate) = holder(&host, "db");
    let bystander = host.command(&["sleep", "1000"]).start();
    let lock = host.guard_lock("db");
    let record = fs::read_to_string(lock.path()).unwrap();
    let mut owner: Value = serde_json::from_str(&record).unwrap();
    owner["pid"] = bystander.shell().into();
    fs::write(lock.path(), owner.to_string()).unwrap();
    let second = host.guard("db", &["--on-conflict", "supersede"], "exit 0").start();
    second.waits_for(&lock);
    assert!(second.log().contains("cannot tell the holder for certain"), "{}", second.log());
    assert!(Process::of(bystander.shell()).is_some() && Process::of(first.keeper()).is_some());
    gate.open();
    let _done = (first.end().expect(0), second.end().expect(0));
    process::signal(bystander.shell(), Signal::SIGKILL);
}

#[test]
fn a_cancel_ends_the_wait_and_leaves_nothing() {
    for by_parent in [false, true] {
        let host = Host::new();
        let (first, gate) = holder(&host, "db");
        let mut second = host.guard("db", &[], "exit 0").start();
        // In the kernel's queue, not in a loop that looks now and then; the cancel is read beside it.
        second.waits_for(&host.guard_lock("db"));
        let code = if by_parent {
            second.cancel();
            second.keeper_end().code
        } else {
            second.signal_keeper(Signal::SIGTERM);
            second.end().code
        };
        assert_eq!(code, 143);
        assert_eq!(host.kernel_on(&host.guard_lock("db")).len(), 1, "nobody waits any more, and the holder holds");
        gate.open();
        first.end().expect_clean(0);
        assert_eq!(host::list(&host.path("runs")), [] as [&str; 0]);
    }
}

#[test]
fn a_cancelled_wait_is_over_within_a_tenth_of_a_second() {
    let host = Host::new();
    let (first, gate) = holder(&host, "db");
    // The quickest of some: the machine may be busy with something else.
    let times = (0..5).map(|_| {
        let second = host.guard("db", &[], "exit 0").start();
        second.waits_for(&host.guard_lock("db"));
        let begun = Deadline::after(Duration::ZERO);
        second.signal_keeper(Signal::SIGTERM);
        assert!(wait_gone(second.keeper(), host::limit()));
        let time = begun.elapsed();
        assert_eq!(second.end().code, 143);
        time
    });
    let quickest = times.min().unwrap();
    assert!(quickest < Duration::from_millis(100), "{quickest:?}");
    gate.open();
    first.end().expect_clean(0);
}

#[test]
fn a_cancelled_wait_of_a_run_reports_who_cancelled_it() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let first = held.start(&host);
    let mut second = host.run().start();
    second.waits_for(&host.app_lock());
    second.cancel();
    let results = second.keeper_end().expect(143).results();
    assert_eq!((&results["verdict"], &results["cause"]["cause"]), (&"cancelled".into(), &"parent_died".into()));
    held.open();
    first.end().expect_clean(0);
}

#[test]
fn a_waiter_on_an_unlinked_file_goes_on_to_wait_on_the_live_one() {
    let host = Host::new();
    let lock = host.guard_lock("db");
    let (first, first_gate) = holder(&host, "db");
    let inner = host.gate("waiter");
    let waiter = host.guard("db", &[], &inner.pass()).start();
    waiter.waits_for(&lock);
    // Somebody's clean-up removes the held file; a third one makes a new one and owns it.
    let old = fs::metadata(lock.path()).unwrap().ino();
    fs::remove_file(lock.path()).unwrap();
    let third = lock.try_acquire(true).unwrap().unwrap();
    assert_ne!(fs::metadata(lock.path()).unwrap().ino(), old);
    first_gate.open();
    let _done = first.end();
    // It woke up on the old file, and now waits for the third one instead of joining it.
    host::until("the waiter waits on the live file, or has begun beside the third one", || {
        let keeper = waiter.keeper().cast_unsigned();
        let waits = host.kernel_on(&lock).iter().any(|entry| entry.waits && entry.pid == keeper);
        (waits || inner.arrival().is_some()).then_some(())
    });
    waiter.waits_for(&lock);
    assert_eq!(inner.arrival(), None, "two owners at once");
    third.release().unwrap();
    inner.reached();
    inner.open();
    waiter.end().expect_clean(0);
}

#[test]
fn a_holder_whose_file_was_taken_over_touches_nothing_more() {
    let host = Host::new();
    let held = Moment::PreUpgrade.prepare(&host);
    let step = held.start(&host);
    let service = host.service("app");
    let lock = host.app_lock();
    fs::remove_file(lock.path()).unwrap();
    let other = lock.try_acquire(true).unwrap().unwrap();
    held.open();
    let ended = step.end().expect(69);
    assert!(ended.log().contains("was removed or replaced by somebody while we held it"), "{}", ended.log());
    assert_eq!(host.service("app"), service, "the app is the other owner's now");
    assert_eq!(ended.results()["flags"]["clean_teardown"], false);
    other.release().unwrap();
    let reaped = host.command(&["cc-ci-run", "reap", host.domain().as_str()]).end().expect_clean(0);
    assert!(reaped.out().contains("removed service app"), "{}", reaped.out());
}

#[test]
fn a_run_lets_another_end_first_that_was_robbed_of_its_lock_file() {
    let host = Host::new();
    let held = Moment::PreUpgrade.prepare(&host);
    let robbed = held.start(&host);
    let service = host.service("app");
    fs::remove_file(host.app_lock().path()).unwrap();
    let refused = host.run().args(["--on-conflict", "fail"]).end().expect(75);
    assert!(refused.log().contains("lives though its lock file was removed"), "{}", refused.log());
    assert_eq!(host.kernel_on(&host.app_lock()), [], "the lock was given back");
    let next = held.launch(&host).start();
    let _known = next.run_dir();
    host::until("the next run waits, or has the app", || {
        let waits = next.log().contains("lives though its lock file was removed — waiting");
        (waits || next.part_now("worker").is_some()).then_some(())
    });
    assert_eq!(host.service("app"), service, "the app is the robbed run's");
    held.open();
    // It finds out before its next change of the app, and leaves that to whoever has the lock.
    let _ended = robbed.end().expect(69);
    held.reached_again();
    held.open();
    let ended = next.end().expect_clean(0);
    let preclean = ended.results()["preclean"].to_string();
    assert!(preclean.contains("service"), "the robbed run's app was reaped after its end: {preclean}");
}

#[test]
fn two_robbed_runs_never_wait_for_each_other() {
    let host = Host::new();
    let lock = host.guard_lock("db");
    let (first, first_gate) = holder(&host, "db");
    let launch = |gate: &ccci_tests::gate::Gate| host.guard("db", &[], &gate.pass()).start();
    let gates = [host.gate("second"), host.gate("third")];
    let mut waiting = Vec::new();
    for gate in &gates {
        fs::remove_file(lock.path()).unwrap();
        let next = launch(gate);
        let _known = next.run_dir();
        next.says("lives though its lock file was removed — waiting");
        waiting.push(next);
    }
    first_gate.open();
    let _done = first.end();
    let mut waiting = waiting.into_iter();
    // The second has lost its lock by now and never begins; the third has it.
    let second = waiting.next().unwrap().end().expect(69);
    assert!(second.err().contains("was removed or replaced by somebody"), "{}", second.err());
    assert_eq!(gates[0].arrival(), None);
    gates[1].reached();
    gates[1].open();
    waiting.next().unwrap().end().expect_clean(0);
}

#[test]
fn a_holder_whose_file_merely_vanished_takes_it_again_to_tear_down() {
    let host = Host::new();
    let held = Moment::PreUpgrade.prepare(&host);
    let step = held.start(&host);
    fs::remove_file(host.app_lock().path()).unwrap();
    held.open();
    let ended = step.end().expect_clean(69);
    assert_eq!(ended.results()["flags"]["clean_teardown"], true);
}

#[test]
fn what_is_no_lock_file_of_ours_is_named_and_left_alone() {
    let host = Host::new();
    host.settings("max_tests = 1\n");
    let dir = host.path("locks");
    let target = host.path("target");
    let make = |path: &std::path::Path, what: &str| match what {
        "a symlink" => std::os::unix::fs::symlink(&target, path).unwrap(),
        "a directory" => fs::create_dir(path).unwrap(),
        "a FIFO" => nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        _ => {
            fs::write(path, "").unwrap();
            std::os::unix::fs::chown(path, Some(1), None).unwrap();
        }
    };
    // A guard has no share of the host lock.
    let locks = [
        (host.guard_lock("db").path().to_owned(), true),
        (dir.join("cc-ci-slot-0.lock"), true),
        (dir.join("cc-ci-host.lock"), false),
    ];
    for (path, guard) in &locks {
        for what in ["a symlink", "a directory", "a FIFO", "owned by uid 1"] {
            // Only root can give a file away.
            if what.starts_with("owned") && !nix::unistd::geteuid().is_root() {
                continue;
            }
            make(path, what);
            let before = fs::symlink_metadata(path).unwrap();
            let launch = if *guard { host.guard("db", &[], "exit 0") } else { host.run().env("STAGES", "install") };
            let ended = launch.end().expect(69);
            let said = ended.out() + &ended.err();
            assert!(said.contains(&format!("{} is {what}", path.display())), "{said}");
            let after = fs::symlink_metadata(path).unwrap();
            assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()), "{what} was touched");
            assert!(!target.exists(), "a symlink was followed");
            if after.is_dir() { fs::remove_dir(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
    host.assert_clean();
}

#[test]
fn an_unreadable_lock_file_is_an_error_that_names_it() {
    let host = Host::new();
    let path = host.guard_lock("db").path().to_owned();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    let ended = host.guard("db", &[], "exit 0").under(&host::NO_PRIVILEGES).end().expect(69);
    assert!(ended.err().contains(&format!("cannot open lock file {}", path.display())), "{}", ended.err());
    fs::remove_file(&path).unwrap();
    host.assert_clean();
}

#[test]
fn a_missing_lock_directory_is_a_hosts_error_that_names_it() {
    let host = Host::new();
    fs::remove_dir(host.path("locks")).unwrap();
    let ended = host.run().end().expect_clean(69);
    let wanted = format!("lock directory {} does not exist", host.path("locks").display());
    assert!(ended.out().contains(&wanted), "{}", ended.out());
    assert_eq!(ended.results()["verdict"], "host");
}

#[test]
fn as_many_runs_work_at_once_as_there_are_slots() {
    let host = Host::new();
    host.settings("max_tests = 2\n");
    let gate = host.gate("up");
    let _folder = host.folder("hello").script("test_install.sh", &gate.pass());
    let start = |n: u64| host.run().env("PR", &(host.pr() * 10 + n).to_string()).env("STAGES", "install").start();
    let first: Vec<_> = (0..2).map(start).collect();
    (0..2).map(|_| gate.reached()).for_each(|pid| assert!(pid > 0));
    let third = start(2);
    third.says("== all 2 slots of this host are taken — waiting ==");
    // One of the holders dies without a word: its slot is free at once.
    let mut first = first.into_iter();
    let mut killed = first.next().unwrap();
    moment::abandon(&mut killed);
    gate.reached();
    third.says("== slot acquired after");
    (0..2).for_each(|_| gate.open());
    let _done = (first.next().unwrap().end().expect(0), third.end().expect(0));
    let domain = host.domain_of("hello", host.pr() * 10, "");
    host.command(&["cc-ci-run", "reap", domain.as_str()]).end().expect_clean(0);
}

#[test]
fn a_cancel_while_waiting_for_a_slot_leaves_nothing() {
    let host = Host::new();
    host.settings("max_tests = 1\n");
    let held = Moment::Install.prepare(&host);
    let first = held.start(&host);
    let second = host.run().env("PR", &(host.pr() * 10).to_string()).start();
    second.says("slots of this host are taken");
    second.signal_keeper(Signal::SIGTERM);
    let _cancelled = second.end().expect(143);
    let locks: Vec<String> =
        host::list(&host.path("locks")).into_iter().filter(|name| name.contains("-app-")).collect();
    assert_eq!(locks.len(), 1, "the first run's alone: {locks:?}");
    held.open();
    first.end().expect_clean(0);
}

#[test]
fn a_run_with_too_little_of_its_step_left_does_not_start() {
    let host = Host::new();
    host.settings("step_limit = \"60m\"\nteardown_budget = \"10m\"\nmin_time_left = \"5m\"\n");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let ended = host.run().env("DRONE_STAGE_STARTED", &(now - 46 * 60).to_string()).end().expect_clean(75);
    assert!(ended.log().contains("less than min_time_left"), "{}", ended.log());
    assert_eq!(ended.results()["verdict"], "busy");
    // The run's own clock ends before the runner's.
    let run = host.run().env("DRONE_STAGE_STARTED", &(now - 30 * 60).to_string()).end().expect_clean(0);
    assert_eq!(run.results()["verdict"], "green");
}

#[test]
fn status_tells_who_holds_who_waits_and_what_is_left_over() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let first = held.start(&host);
    let mut second = host.run().start();
    second.waits_for(&host.app_lock());
    let status = || -> Value { host.command(&["cc-ci-run", "status", "--json"]).end().expect(0).json() };
    let json = status();
    let lock = &json["locks"][0];
    assert_eq!((&lock["name"], &lock["held"]), (&host.domain().as_str().into(), &true.into()), "{json:#}");
    assert_eq!((&lock["owner"]["run_id"], &lock["owner"]["phase"]), (&first.id().into(), &"install".into()));
    assert_eq!(lock["record_agrees"], true);
    assert_eq!((&lock["run"]["run_id"], &lock["run"]["what"]), (&first.id().into(), &"hello".into()));
    assert_eq!(lock["progress"]["phase"], "install");
    assert!(lock["progress"]["step"].as_str().unwrap().starts_with("test "), "{json:#}");
    let waiters = lock["waiters"].as_array().unwrap();
    assert_eq!(waiters.len(), 1, "{json:#}");
    assert_eq!((&waiters[0]["pid"], &waiters[0]["run"]["run_id"]), (&second.keeper().into(), &second.id().into()));
    assert_eq!((&json["leftovers"], &json["unknown"]), (&serde_json::json!([]), &serde_json::json!([])));
    let human = host.command(&["cc-ci-run", "status"]).end().expect(0).out();
    assert!(human.contains("1 held, 1 waiting, nothing is left over"), "{human}");
    assert!(human.contains("1. waits for ") && human.contains(&format!("run {}", second.id())), "{human}");

    second.cancel();
    let mut first = first;
    moment::abandon(&mut first);
    let _cancelled = second.keeper_end();
    assert!(wait_gone(first.keeper(), host::limit()));
    let json = status();
    let left = &json["leftovers"][0];
    assert_eq!((&left["domain"], &left["owner"]["run_id"]), (&host.domain().as_str().into(), &first.id().into()));
    host.command(&["cc-ci-run", "reap", host.domain().as_str()]).end().expect_clean(0);
}

#[test]
fn reap_refuses_a_live_run() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let step = held.start(&host);
    let services = host.service("app");
    let refused = host.command(&["cc-ci-run", "reap", host.domain().as_str()]).end().expect(75);
    assert!(refused.err().contains("is held by another run"), "{}", refused.err());
    let named = format!("is held by run {} (pid {}, ", step.id(), step.keeper());
    assert!(refused.err().contains(&named) && refused.err().contains("send SIGTERM to that pid"), "{}", refused.err());
    assert_eq!(host.service("app"), services);
    // Nor one that was robbed of its lock file.
    fs::remove_file(host.app_lock().path()).unwrap();
    let refused = host.command(&["cc-ci-run", "reap", host.domain().as_str()]).end().expect(75);
    let named = format!("run {} (pid {}) is alive, though it has not got its lock", step.id(), step.keeper());
    assert!(refused.err().contains(&named), "{}", refused.err());
    assert_eq!(host.service("app"), services);
    held.open();
    step.end().expect_clean(69);
}

#[test]
fn a_reap_says_who_it_is_and_keeps_the_lock_file_of_what_is_not_clean() {
    let host = Host::new();
    let (up, slow) = (host.gate("up"), host.gate("slow"));
    let _folder = moment::slow_to_stop(host.folder("hello"), &slow).script("test_install.sh", &up.pass());
    let mut step = host.run().env("STAGES", "install").start();
    up.reached();
    moment::abandon(&mut step);
    let _plain = host.folder("hello");
    let reap = host.command(&["cc-ci-run", "reap", host.domain().as_str()]).start();
    slow.reached();
    let next = host.run().env("STAGES", "install").start();
    next.says("held by run reap-");
    assert!(next.log().contains("phase reaping, asked for by hand"), "{}", next.log());
    slow.open();
    assert!(reap.end().expect(0).out().contains("clean"));
    next.end().expect_clean(0);

    moment::leave_orphan(&host);
    let volumes = host.app_dir().join("volumes");
    fs::rename(&volumes, host.path("volumes")).unwrap();
    fs::write(&volumes, "").unwrap();
    let _not_clean = host.command(&["cc-ci-run", "reap", host.domain().as_str()]).end().expect(1);
    let record: Value = serde_json::from_slice(&fs::read(host.app_lock().path()).unwrap()).unwrap();
    assert!(record["run_id"].as_str().unwrap().starts_with("reap-"), "{record:#}");
    assert_eq!(host.kernel_on(&host.app_lock()), [], "nobody has it");
    fs::remove_file(&volumes).unwrap();
    fs::rename(host.path("volumes"), &volumes).unwrap();
    host.command(&["cc-ci-run", "reap", host.domain().as_str()]).end().expect_clean(0);
}

#[test]
fn a_name_that_is_not_exactly_ours_is_never_touched() {
    let host = Host::new();
    let own = host.domain();
    let neighbours = [format!("warm-hello.{}", host::BASE), format!("x{own}"), format!("{own}x"), "traefik".to_owned()];
    for name in &neighbours {
        let data = host.path("state/local").join(name).join("volumes/data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("precious"), "1").unwrap();
        let refused = host.command(&["cc-ci-run", "reap", name]).end().expect(2);
        assert!(refused.err().contains("is not an app domain of this host"), "{}", refused.err());
        assert!(data.join("precious").exists(), "{name} was reaped");
    }
    assert_eq!(host::list(&host.path("locks")), [] as [&str; 0], "not even a lock file was made");
    let status: Value = host.command(&["cc-ci-run", "status", "--json"]).end().expect(0).json();
    assert_eq!(status["leftovers"], serde_json::json!([]));
}

#[test]
fn a_source_that_cannot_be_read_is_never_taken_for_empty() {
    let host = Host::new();
    moment::leave_orphan(&host);
    // Where the app's volumes should be listed there is something that cannot be listed.
    let volumes = host.app_dir().join("volumes");
    fs::rename(&volumes, host.path("volumes")).unwrap();
    fs::write(&volumes, "").unwrap();
    let reaped = host.command(&["cc-ci-run", "reap", host.domain().as_str()]).end().expect(1);
    assert!(reaped.out().contains(&format!("cannot read {}", volumes.display())), "{}", reaped.out());
    assert!(reaped.out().contains("NOT CLEAN"), "{}", reaped.out());
    assert!(host.env_file(&host.domain()).exists(), "what could be hidden stays discoverable");
    fs::remove_file(&volumes).unwrap();
    fs::rename(host.path("volumes"), &volumes).unwrap();
    host.command(&["cc-ci-run", "reap", host.domain().as_str()]).end().expect_clean(0);
}

#[test]
fn an_app_under_another_state_directory_is_somebody_elses() {
    let (host, other) = (Host::new(), Host::new());
    let held = Moment::Install.prepare(&other);
    let step = held.start(&other);
    let status = host.command(&["cc-ci-run", "status", "--json"]).end().expect(0).json();
    assert_eq!(status["leftovers"], serde_json::json!([]), "a live app of another installation");
    held.open();
    step.end().expect_clean(0);
}
