//! Lifetimes: who dies when, and that the app never outlives its run.

use ccci_tests::host::{self, Host};
use ccci_tests::limits::NoRoom;
use ccci_tests::moment::{self, Moment, slow_to_stop};
use ccci_tests::process::{self, wait_gone};
use nix::sys::signal::Signal;

/// A test per moment, for each of these claims.
macro_rules! at_every_moment {
    ($($moment:ident),* $(,)?) => { at_every_moment! { @ [$($moment)*]
        the_keepers_sigkill_leaves_nothing keeper_killed,
        the_workers_sigkill_leaves_nothing worker_killed,
        a_cancel_leaves_nothing cancelled,
    } };
    (@ $moments:tt $($claim:ident $check:ident),* $(,)?) => { $( at_every_moment! { % $claim $check $moments } )* };
    (% $claim:ident $check:ident [$($moment:ident)*]) => {
        mod $claim {
            $( #[test] #[expect(non_snake_case, reason = "named after the moment")] fn $moment() {
                super::$check(ccci_tests::moment::Moment::$moment);
            } )*
        }
    };
}

at_every_moment![Fetch, PreInstall, InstallSteps, Install, PreUpgrade, PreBackup, PreRestore, Custom, Keep, Teardown];

/// SIGKILL to the keeper: what is left of the run tears down under the same lock, and concludes.
fn keeper_killed(moment: Moment) {
    let host = Host::new();
    let held = moment.prepare(&host);
    let step = held.start(&host);
    let worker = step.part(if moment == Moment::Teardown { "reaper" } else { "worker" });
    let run_dir = step.run_dir();
    step.signal_keeper(Signal::SIGKILL);
    // Only what is slow to stop is let go: a worker that could go on would, and end well.
    if moment == Moment::Teardown {
        held.open();
    }
    assert!(wait_gone(worker, host::limit()), "the reaper does not finish");
    let ended = step.end();
    assert_eq!(ended.code, 128 + 9, "the shell reports its child's end");
    assert_eq!(ended.run_dir.as_deref(), Some(run_dir.as_path()));
    let results = ended.results();
    // The tests of an app that is merely kept up have spoken.
    assert_eq!(results["verdict"], if moment == Moment::Keep { "green" } else { "cancelled" });
    if moment != Moment::Keep {
        assert_eq!(results["cause"]["cause"], "keeper_died");
    }
    assert_eq!(results["flags"]["clean_teardown"], true, "{results:#}");
    host.assert_clean();
}

/// SIGKILL to the worker (or the reaper that it became): the keeper starts a reaper.
fn worker_killed(moment: Moment) {
    let host = Host::new();
    let held = moment.prepare(&host);
    let step = held.start(&host);
    let part = step.part(if moment == Moment::Teardown { "reaper" } else { "worker" });
    process::signal(part, Signal::SIGKILL);
    held.open();
    // A worker that had done its work before it died has a result.
    let ended = step.end().expect_clean(if moment.is_after_the_tests() { 0 } else { 69 });
    let results = ended.results();
    assert_eq!(results["flags"]["clean_teardown"], true, "{results:#}");
    assert!(ended.log().contains("starting a reaper"), "{}", ended.log());
}

/// The CI's own cancel: SIGKILL to the shell, workspace and home deleted at once.
fn cancelled(moment: Moment) {
    let host = Host::new();
    let held = moment.prepare(&host);
    let mut step = held.start(&host);
    step.cancel();
    if moment.is_after_the_tests() {
        if moment == Moment::Teardown {
            step.says("during teardown: noted");
            held.open();
        }
        let results = step.keeper_end().expect(0).results();
        assert_eq!(results["verdict"], "green", "the work was done when the cancel came");
    } else {
        let results = step.keeper_end().expect(143).results();
        assert_eq!(results["verdict"], "cancelled");
        assert_eq!(results["cause"]["cause"], "parent_died");
        assert_eq!(results["flags"]["clean_teardown"], true, "{results:#}");
    }
    host.assert_clean();
}

/// A namespace whose first process is the step's shell: the run's parent is pid 1.
const OWN_PIDS: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

#[test]
fn a_run_whose_parent_died_first_refuses_also_under_a_subreaper() {
    let host = Host::new();
    let gate = host.gate("orphan");
    // The shell is dead before cc-ci-run begins, and this test's process has taken its child over.
    let script = format!("({}; exec @@) &\necho $! >'{}'\nkill -9 $$", gate.wait(), host.path("pid").display());
    let step = host.run().script(&script).start();
    let ended = step.end().expect(128 + 9);
    let orphan: i32 = std::fs::read_to_string(host.path("pid")).unwrap().trim().parse().unwrap();
    gate.open();
    assert_eq!(process::collect(orphan), 143);
    assert!(ended.err().contains("parent died before prctl — refusing to run orphaned"), "{}", ended.err());
    assert!(host::list(&host.path("runs")).is_empty(), "it made a run directory");
    host.assert_clean();
}

#[test]
fn a_run_whose_parent_is_init_refuses() {
    let host = Host::new();
    let ended = host.run().untold().under(&OWN_PIDS).end().expect_clean(143);
    assert!(ended.err().contains("refusing to run orphaned"), "{}", ended.err());
    // The variable of some other process, as a unit's descendants inherit it.
    let ended = host.run().untold().under(&OWN_PIDS).env("SYSTEMD_EXEC_PID", "1").end().expect_clean(143);
    assert!(ended.err().contains("refusing to run orphaned"), "{}", ended.err());
}

#[test]
fn a_run_that_is_a_units_main_process_runs() {
    let host = Host::new();
    let script = "sh -c 'export SYSTEMD_EXEC_PID=$$; exec \"$@\"' sh @@";
    host.run().untold().under(&OWN_PIDS).script(script).end().expect_clean(0);
}

#[test]
fn a_run_whose_step_shell_is_its_containers_init_runs() {
    let host = Host::new();
    host.run().under(&OWN_PIDS).end().expect_clean(0);
}

#[test]
fn a_parent_that_is_no_pid_is_a_usage_error() {
    let host = Host::new();
    let ended = host.run().untold().env("CCCI_PARENT_PID", "x").end().expect_clean(2);
    assert!(ended.err().contains("CCCI_PARENT_PID=`x` is not a process id"), "{}", ended.err());
}

#[test]
fn the_deadline_ends_a_run_with_142() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    // The gate never opens, so it is the clock that ends it, on a busy machine perhaps on the way there.
    let ended = held.launch(&host).args(["--deadline", "1s"]).end().expect_clean(142);
    assert!(ended.log().contains("== run exceeded 1s hard deadline — tearing down =="), "{}", ended.log());
    assert_eq!(ended.results()["verdict"], "deadline");
    assert_eq!(ended.results()["cause"]["cause"], "deadline");
    assert!(ended.results()["reason"].as_str().unwrap().starts_with("the deadline passed, in "), "{}", ended.log());
}

#[test]
fn each_cancelling_signal_has_its_exit_code_and_its_sender_is_named() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 143), (Signal::SIGHUP, 143), (Signal::SIGALRM, 142)]
    {
        let host = Host::new();
        let held = Moment::Install.prepare(&host);
        let step = held.start(&host);
        step.signal_keeper(signal);
        let results = step.end().expect_clean(code).results();
        assert_eq!(results["exit_code"], code);
        assert_eq!(results["cause"]["pid"], std::process::id(), "{signal}: {results:#}");
        if code == 143 {
            assert_eq!(results["cause"]["signal"], signal.as_str());
        }
    }
}

#[test]
fn an_alarm_that_the_caller_left_running_ends_nothing() {
    let host = Host::new();
    // The caller's alarm is set first, and for as long as the command's own: when the command has heard its
    // own and ends, the caller's is over too.
    let set = "import signal, os, sys; signal.alarm(1); os.execvp(sys.argv[1], sys.argv[1:])";
    let hear = "import signal; own = {signal.SIGALRM}; signal.pthread_sigmask(signal.SIG_BLOCK, own); signal.alarm(1); signal.sigwait(own)";
    let step = host.guard("db", &[], &format!("exec python3 -c '{hear}'"));
    step.untold().script(&format!("CCCI_PARENT_PID=$$ python3 -c '{set}' @@")).end().expect_clean(0);
}

#[test]
fn a_hangup_that_the_caller_ignores_ends_nothing() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let step = held.launch(&host).script("trap '' HUP\n@@").start();
    held.reached(&step);
    step.signal_keeper(Signal::SIGHUP);
    // Heard before the end of the run, if at all: the keeper reads its signals first.
    held.open();
    step.end().expect_clean(0);
}

#[test]
fn a_run_whose_caller_blocks_and_ignores_signals_hears_its_cancel() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let deaf = "import signal, os, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); \
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD}); \
                signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])";
    let mut step = held.launch(&host).untold().script(&format!("CCCI_PARENT_PID=$$ python3 -c '{deaf}' @@")).start();
    let _now = (step.keeper(), step.run_dir());
    held.reached(&step);
    step.cancel();
    let results = step.keeper_end().expect(143).results();
    assert_eq!(results["cause"]["cause"], "parent_died");
    host.assert_clean();
}

/// The first signal's code and clean-up stand, whatever comes during the teardown.
fn second_signal(first: Signal, second: Signal, code: i32) {
    let host = Host::new();
    let (work, stop) = (host.gate("work"), host.gate("stop"));
    let _folder = slow_to_stop(host.folder("hello"), &stop).script("test_install.sh", &work.pass());
    let step = host.run().start();
    work.reached();
    step.signal_keeper(first);
    stop.reached();
    step.signal_keeper(second);
    step.says(&format!("== {second} during teardown: noted, teardown goes on =="));
    stop.open();
    let ended = step.end().expect_clean(code);
    assert_eq!(ended.results()["flags"]["clean_teardown"], true);
}

#[test]
fn a_second_term_does_not_end_the_teardown() {
    second_signal(Signal::SIGTERM, Signal::SIGTERM, 143);
}

#[test]
fn an_alarm_during_a_cancel_changes_nothing() {
    second_signal(Signal::SIGTERM, Signal::SIGALRM, 143);
}

#[test]
fn a_cancel_during_an_alarm_changes_nothing() {
    second_signal(Signal::SIGALRM, Signal::SIGTERM, 142);
}

/// What ends a process by default, and is no cancel.
const DEADLY: [Signal; 10] = [
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGSTKFLT,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
];

#[test]
fn a_signal_that_ends_others_by_default_ends_no_guardian() {
    let host = Host::new();
    let (work, stop) = (host.gate("work"), host.gate("stop"));
    let _folder = slow_to_stop(host.folder("hello"), &stop).script("test_install.sh", &work.pass());
    let step = host.run().args(["--stages", "install"]).start();
    work.reached();
    let hit = |parts: [i32; 2]| {
        for signal in DEADLY {
            parts.iter().for_each(|part| process::signal(*part, signal));
        }
    };
    hit([step.keeper(), step.part("worker")]);
    work.open();
    stop.reached();
    hit([step.keeper(), step.part("reaper")]);
    stop.open();
    step.end().expect_clean(0);
}

#[test]
fn orphans_are_collected_at_once_and_no_end_of_a_child_is_lost() {
    let host = Host::new();
    let gate = host.gate("orphans");
    let orphans = "i=0; while [ $i -lt 300 ]; do ( true & ); i=$((i+1)); done";
    let step = host.guard("db", &[], &format!("{orphans}; {}; exit 7", gate.pass())).start();
    gate.reached();
    let parts = [step.keeper(), step.part("worker")];
    host::until("no zombie is left below the guardians", || {
        parts.iter().all(|part| process::zombies_below(*part) == 0).then_some(())
    });
    gate.open();
    step.end().expect_clean(7);
}

#[test]
fn what_is_stopped_goes_on_to_hear_that_it_is_to_end() {
    let host = Host::new();
    let gate = host.gate("work");
    let (pid, heard) = (host.path("pid"), host.path("heard"));
    let patient = format!(
        "trap 'echo >{}; exit' TERM; echo $$ >{}; while :; do wait; read -r x; done",
        heard.display(),
        pid.display()
    );
    host.program("patient", &format!("mkfifo '{0}'; exec <>'{0}'\n{patient}", host.path("never").display()));
    let _folder =
        host.folder("hello").script("test_install.sh", &format!("setsid patient >/dev/null 2>&1 &\n{}", gate.pass()));
    let step = host.run().start();
    gate.reached();
    let patient: i32 = host::until("it waits", || std::fs::read_to_string(&pid).ok()?.trim().parse().ok());
    let worker = step.part("worker");
    for pid in [patient, worker] {
        process::signal(pid, Signal::SIGSTOP);
    }
    step.signal_keeper(Signal::SIGTERM);
    let ended = step.end().expect_clean(143);
    assert!(heard.exists(), "it was not told: {}", ended.log());
    assert!(!ended.log().contains("does not answer SIGTERM"), "{}", ended.log());
}

#[test]
fn a_reaper_that_cannot_be_started_is_tried_again() {
    let host = Host::new();
    let held = Moment::Install.prepare(&host);
    let step = held.start(&host);
    let worker = step.part("worker");
    let room = NoRoom::around(step.keeper());
    process::signal(worker, Signal::SIGKILL);
    step.says("no reaper can be started");
    host::until("the run's own processes are ended", || step.log().contains("trying again").then_some(()));
    room.lift();
    let results = step.end().expect_clean(69).results();
    assert_eq!(results["flags"]["clean_teardown"], true, "{results:#}");
}

#[test]
fn where_no_reaper_can_ever_be_started_the_supervisor_takes_the_app_down() {
    let host = Host::new();
    host.settings("teardown_budget = \"2s\"\n");
    let held = Moment::Install.prepare(&host);
    let step = held.start(&host);
    let worker = step.part("worker");
    let _room = NoRoom::around(step.keeper());
    process::signal(worker, Signal::SIGKILL);
    let ended = step.end().expect_clean(69);
    assert!(ended.log().contains("the supervisor does its work itself"), "{}", ended.log());
    assert_eq!(ended.results()["flags"]["clean_teardown"], true);
}

#[test]
fn a_worker_that_is_deaf_to_term_is_killed_and_reaped() {
    let host = Host::new();
    host.settings("grace = \"200ms\"\n");
    let held = Moment::Install.prepare(&host);
    let step = held.start(&host);
    // Traced and held, it hears nothing but SIGKILL.
    let worker = nix::unistd::Pid::from_raw(step.part("worker"));
    nix::sys::ptrace::attach(worker).unwrap();
    step.signal_keeper(Signal::SIGTERM);
    // Its parent can collect it only when its tracer has.
    while !matches!(nix::sys::wait::waitpid(worker, None), Ok(nix::sys::wait::WaitStatus::Signaled(..))) {}
    let ended = step.end().expect_clean(143);
    assert!(ended.log().contains("the worker does not answer SIGTERM — killing it"), "{}", ended.log());
}

#[test]
fn a_reaper_that_dies_is_followed_by_another_and_another() {
    let host = Host::new();
    let held = Moment::Teardown.prepare(&host);
    let step = held.start(&host);
    for _ in 0..2 {
        let reaper = step.part("reaper");
        process::signal(reaper, Signal::SIGKILL);
        assert!(wait_gone(reaper, host::limit()), "the reaper survives SIGKILL");
        held.reached_again();
    }
    held.open();
    let ended = step.end().expect_clean(0);
    assert_eq!(ended.results()["flags"]["clean_teardown"], true);
}

#[test]
fn a_reaper_that_hangs_is_ended_with_its_budget_and_none_follows_it() {
    let host = Host::new();
    host.settings("teardown_budget = \"1s\"\n");
    let held = Moment::Teardown.prepare(&host);
    let step = held.start(&host);
    let reaper = step.part("reaper");
    process::signal(reaper, Signal::SIGSTOP);
    let ended = step.end().expect(69);
    assert_eq!(ended.results()["verdict"], "incomplete", "nobody knows what is left");
    assert!(process::Process::of(reaper).is_none(), "it is still there");
    let log = ended.log();
    assert!(log.contains("the reaper exceeded its budget") && !log.contains("starting a reaper"), "{log}");
    assert!(ended.results()["flags"]["clean_teardown"].is_null(), "nobody has looked");
    held.open();
    let _reaped = host.command(&["cc-ci-run", "reap", host.domain().as_str()]).end().expect_clean(0);
}

#[test]
fn what_comes_up_again_during_the_teardown_is_found_and_removed() {
    let host = Host::new();
    let ghost = format!("CCCI_LOCAL_SERVICE={}", host.service_mark("ghost"));
    let [armed, born] = ["armed", "born"].map(|name| host.path(name).display().to_string());
    for fifo in [&armed, &born] {
        nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    // The trap is set before the install test is over, and the other service is one before this one ends.
    let hydra = format!(
        "ghost() {{\n  env {ghost} setsid sh -c \"echo >'{born}'; exec sleep 1000\" >/dev/null 2>&1 &\n  \
         read -r born <'{born}'\n  exit 0\n}}\ntrap ghost TERM\necho >'{armed}'\n\
         while :; do sleep 1000 & wait $!; done\n"
    );
    let folder = host.folder("hello").service("hydra", &hydra);
    let _folder = folder.script("test_install.sh", &format!("read -r armed <'{armed}'"));
    let ended = host.run().args(["--stages", "install"]).end().expect_clean(0);
    let removed = ended.results()["receipt"]["removed"].to_string();
    assert!(removed.contains("ghost"), "{removed}");
}

#[test]
fn a_descendant_that_left_its_session_ends_with_the_run() {
    let host = Host::new();
    host.settings("grace = \"200ms\"\n");
    let gate = host.gate("away");
    let away = format!(
        "setsid sh -c 'trap \"\" TERM; echo $$ >{}; exec sleep 1000' >/dev/null 2>&1 &",
        host.path("pid").display()
    );
    let _folder = host.folder("hello").script("test_install.sh", &format!("{away}\n{}", gate.pass()));
    // Green, and cancelled.
    for cancel in [false, true] {
        let step = host.run().start();
        gate.reached();
        let pid: i32 =
            host::until("it has left", || std::fs::read_to_string(host.path("pid")).ok()?.trim().parse().ok());
        assert!(process::Process::of(pid).is_some());
        if cancel {
            step.signal_keeper(Signal::SIGTERM)
        } else {
            gate.open()
        }
        let ended = step.end().expect_clean(if cancel { 143 } else { 0 });
        assert!(ended.results()["receipt"]["processes"].to_string().contains(&pid.to_string()));
        std::fs::remove_file(host.path("pid")).unwrap();
    }
}

#[test]
fn a_descendant_that_shed_its_environment_ends_with_the_run() {
    let host = Host::new();
    host.settings("grace = \"200ms\"\n");
    let pid_file = host.path("pid");
    // As `sudo` and `su -` begin, and what a mark in the environment is not enough for.
    let away = format!(
        "env -i \"$(command -v setsid)\" /bin/sh -c 'printf ccci-worker >/proc/self/comm; trap \"\" TERM; echo $$ >{}; exec sleep 1000' >/dev/null 2>&1 &",
        pid_file.display()
    );
    let gate = host.gate("away");
    let _folder = host.folder("hello").script("test_install.sh", &format!("{away}\n{}", gate.pass()));
    for cancel in [false, true] {
        let step = host.run().args(["--stages", "install"]).start();
        gate.reached();
        let pid: i32 = host::until("it has left", || std::fs::read_to_string(&pid_file).ok()?.trim().parse().ok());
        let service = host.service("app");
        assert!(process::Process::of(pid).is_some() && !service.is_empty());
        if cancel {
            step.signal_keeper(Signal::SIGTERM)
        } else {
            gate.open()
        }
        let ended = step.end().expect_clean(if cancel { 143 } else { 0 });
        let alive = process::Process::of(pid);
        process::signal(pid, Signal::SIGKILL);
        assert_eq!(alive, None, "it outlives the run");
        let receipt = ended.results()["receipt"].clone();
        assert!(receipt["processes"].to_string().contains(&pid.to_string()), "{receipt:#}");
        assert!(
            !receipt["processes"].to_string().contains(&service[0].to_string()),
            "a service is no leftover: {receipt:#}"
        );
        std::fs::remove_file(&pid_file).unwrap();
    }
}

/// The control groups of this name that are there now, in every hierarchy.
fn groups_called(name: &str) -> Vec<std::path::PathBuf> {
    fn below(dir: &std::path::Path, name: &str, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.extend(Some(entry.path()).filter(|_| entry.file_name() == name));
                below(&entry.path(), name, found);
            }
        }
    }
    let mut found = Vec::new();
    below(std::path::Path::new("/sys/fs/cgroup"), name, &mut found);
    found
}

#[test]
fn what_forks_for_ever_ends_with_the_run_and_leaves_no_group() {
    let host = Host::new();
    host.settings("grace = \"200ms\"\n[limits]\nchildren_pids = 60\n");
    let gate = host.gate("bomb");
    // Each has shed its tag and starts the next one before it ends, faster than a list of processes is read; whoever of
    // them is killed has others. No more than the limit and the namespace take.
    let bomb = "import os\nos.setsid()\nwhile True:\n    try:\n        if os.fork() == 0: os.setsid(); continue\n        os._exit(0)\n    except BlockingIOError: pass\n";
    std::fs::write(host.path("bomb.py"), bomb).unwrap();
    let start = format!("env -i \"$(command -v python3)\" '{}' >/dev/null 2>&1 &", host.path("bomb.py").display());
    let seen = host.path("seen");
    let look = format!("cat /proc/self/cgroup >'{}'", seen.display());
    let bombs = [start.as_str(); 8].join("\n");
    let _folder = host.folder("hello").script("test_install.sh", &format!("{look}\n{bombs}\n{}", gate.pass()));
    let step = host.run().args(["--stages", "install"]).under(&OWN_PIDS).start();
    gate.reached();
    let seen = std::fs::read_to_string(&seen).unwrap();
    let group = seen.lines().find_map(|line| line.rsplit('/').next().filter(|name| name.starts_with("cc-ci-run-")));
    let made = group.map(groups_called);
    gate.open();
    let ended = step.end();
    assert!(ended.code == 0 || ended.code == 69, "{} {}", ended.code, ended.err());
    assert_eq!(ended.results()["flags"]["clean_teardown"], true, "{}", ended.log());
    assert!(made.is_some_and(|made| !made.is_empty()), "a test is in no group of its run: {seen}");
    assert_eq!(group.map(groups_called), Some(Vec::new()), "a group is left");
    host.assert_clean();
}

#[test]
fn a_closed_stdout_changes_nothing() {
    let host = Host::new();
    let ended = host.run().closed_stdout().script("@@ || exit $?").end();
    assert_eq!(ended.results()["verdict"], "green");
    assert!(ended.log().contains("RUN SUMMARY"));
    host.assert_clean();
}

#[test]
fn a_stdout_that_nobody_reads_changes_nothing() {
    let host = Host::new();
    let held = Moment::Custom.prepare(&host);
    let step = held.launch(&host).stuck_stdout().start();
    held.reached(&step);
    step.signal_keeper(Signal::SIGTERM);
    step.end().expect_clean(143);
}

#[test]
fn a_terminal_that_nobody_reads_changes_nothing_and_hears_later_what_it_missed() {
    let host = Host::new();
    let gate = host.gate("loud");
    let loud =
        "i=0; while [ $i -lt 6000 ]; do echo \"line $i of a test that says a lot of what it does\"; i=$((i+1)); done";
    let _folder = host.folder("hello").script("test_install.sh", &format!("{loud}\n{}", gate.pass()));
    // It reads nothing until it is told to, and then all.
    let reader = "import os, pty, select, sys\npid, terminal = pty.fork()\nif pid == 0: os.execvp(sys.argv[2], sys.argv[2:])\nopen(sys.argv[1]).read()\ntry:\n    while True: os.write(1, os.read(terminal, 4096))\nexcept OSError: pass\nsys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n";
    std::fs::write(host.path("reader.py"), reader).unwrap();
    nix::unistd::mkfifo(&host.path("read"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!(
        "unset CCCI_PARENT_PID\npython3 '{}' '{}' @@",
        host.path("reader.py").display(),
        host.path("read").display()
    );
    let step = host.run().args(["--stages", "install"]).env("TERM", "dumb").script(&script).start();
    // The test is past its last line though nobody has read the first one.
    gate.reached();
    std::fs::write(host.path("read"), "now").unwrap();
    gate.open();
    let ended = step.end().expect_clean(0);
    assert!(
        ended.out().contains("lines not shown; see run.log") && ended.out().contains("RUN SUMMARY"),
        "{}",
        ended.out()
    );
    assert!(ended.log().contains("line 5999 of a test"), "{}", ended.log());
}

#[test]
fn the_keepers_sigkill_during_preclean_leaves_nothing() {
    let host = Host::new();
    let (step, gate) = precleaning(&host);
    let reaper = step.part("reaper");
    step.signal_keeper(Signal::SIGKILL);
    gate.open();
    assert!(wait_gone(reaper, host::limit()), "the reaper does not finish");
    let results = step.end().expect_clean(128 + 9).results();
    assert_eq!(results["cause"]["cause"], "keeper_died");
}

#[test]
fn the_reapers_sigkill_during_preclean_only_delays_the_run() {
    let host = Host::new();
    let (step, gate) = precleaning(&host);
    process::signal(step.part("reaper"), Signal::SIGKILL);
    gate.reached();
    gate.open();
    step.end().expect_clean(0);
}

#[test]
fn a_cancel_during_preclean_finishes_it_and_starts_nothing() {
    let host = Host::new();
    let (step, gate) = precleaning(&host);
    step.signal_keeper(Signal::SIGTERM);
    step.says("finishing the clean-up");
    gate.open();
    let ended = step.end().expect_clean(143);
    assert!(!ended.log().contains("-- install"), "{}", ended.log());
}

/// A run that is busy with what a dead one left.
fn precleaning(host: &Host) -> (ccci_tests::step::Step<'_>, ccci_tests::gate::Gate) {
    let (work, stop) = (host.gate("work"), host.gate("stop"));
    let _folder = slow_to_stop(host.folder("hello"), &stop).script("test_install.sh", &work.pass());
    let mut first = host.run().start();
    work.reached();
    moment::abandon(&mut first);
    let _plain = host.folder("hello");
    let step = host.run().start();
    let _known = step.keeper();
    stop.reached();
    (step, stop)
}

#[test]
fn a_wrapper_shell_passes_every_end_on() {
    for shell in ["sh", "bash"] {
        let host = Host::new();
        for (command, code) in [("exit 0", 0), ("exit 7", 7)] {
            let ended = host.guard("wrapped", &[], command).shell(shell).end().expect_clean(code);
            assert_eq!(ended.err().contains("the step goes on"), code == 0, "{shell}: -e");
        }
        let gate = host.gate("wrapped");
        let step = host.guard("wrapped", &[], &gate.pass()).shell(shell).start();
        gate.reached();
        step.signal_keeper(Signal::SIGTERM);
        step.end().expect_clean(143);
        host.run().shell(shell).end().expect_clean(0);
        let _red = host.folder("hello").script("test_install.sh", "exit 1");
        host.run().shell(shell).end().expect_clean(1);
    }
}

#[test]
fn a_test_inherits_neither_the_lock_nor_a_blocked_or_ignored_signal() {
    let host = Host::new();
    let seen = host.path("seen");
    // The shell itself blocks signals for a moment when it starts a program: only `exec` shows what it was given.
    let look = format!("ls -l /proc/$$/fd >'{0}'; exec grep '^Sig[BI]' /proc/self/status >>'{0}'", seen.display());
    let _folder = host.folder("hello").script("test_install.sh", &look);
    let _run = host.run().args(["--stages", "install"]).end().expect_clean(0);
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(!seen.contains(".lock"), "it could keep the lock: {seen}");
    let set = |name: &str| {
        let line = seen.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!(set("SigBlk:"), 0, "a blocked mask is inherited: {seen}");
    let ignored =
        DEADLY.map(|signal| 1 << (signal as i32 - 1)).into_iter().fold(1 << (40 - 1), |all, one: u64| all | one);
    assert_eq!(set("SigIgn:") & (ignored | 1 << (Signal::SIGTERM as i32 - 1)), 0, "{seen}");
}
