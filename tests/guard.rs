//! `guard`: the same lock, clock and funnel for anybody's command.

use std::fs;
use std::path::PathBuf;

use ccci_tests::host::{self, Host};
use ccci_tests::moment;
use ccci_tests::process::{self, wait_gone};
use nix::sys::signal::Signal;

/// A teardown that writes into the host's journal, `word` and the guard that ran it.
fn journalling(host: &Host, word: &str) -> String {
    format!("echo {word} >>'{}'", journal(host).display())
}

fn journal(host: &Host) -> PathBuf {
    host.path("journal")
}

fn torn_down(host: &Host) -> String {
    fs::read_to_string(journal(host)).unwrap_or_default()
}

#[test]
fn the_commands_exit_status_is_passed_on_and_its_output_is_its_own() {
    let host = Host::new();
    for (command, code) in
        [("echo data", 0), ("echo data; exit 7", 7), ("echo data; kill -9 $$", 137), ("echo data; kill -40 $$", 168)]
    {
        let ended = host.guard("db", &["--teardown", &journalling(&host, "down")], command).end().expect_clean(code);
        assert_eq!(ended.out(), "data\n", "stdout is the command's alone");
        assert_eq!(torn_down(&host), "down\n", "after exit {code}");
        fs::remove_file(journal(&host)).unwrap();
        assert_eq!(host::list(&host.path("runs")), [] as [&str; 0], "a clean guard leaves no directory");
    }
}

#[test]
fn a_half_line_in_the_events_loses_nothing_of_the_guards() {
    let host = Host::new();
    let halves =
        ["{\"at\":\"2026-01-01T00:00:00Z\",\"event\":\"note\",\"text\":\"u", "{\"text\":\"\\303", "[1,\\n", "\\000"];
    let runs = host.path("runs").display().to_string();
    for (number, half) in halves.iter().enumerate() {
        let command =
            |code: u8| format!("printf '{half}' >>'{runs}'/\"$CCCI_RUN_ID\"/events.jsonl || exit 9; exit {code}");
        for code in [0, 7] {
            let name = format!("half{number}");
            host.guard(&name, &["--teardown", &journalling(&host, "down")], &command(code))
                .end()
                .expect_clean(code.into());
            assert_eq!(torn_down(&host), "down\n", "after {half}");
            fs::remove_file(journal(&host)).unwrap();
        }
    }
}

#[test]
fn a_guard_whose_words_were_lost_is_69_and_its_result_says_so() {
    let host = Host::new();
    let command = format!("rm '{}'/\"$CCCI_RUN_ID\"/events.jsonl", host.path("runs").display());
    let ended = host.guard("db", &[], &command).end().expect_clean(69);
    assert!(ended.err().contains("not known: event"), "{}", ended.err());
}

#[test]
fn what_the_caller_had_running_before_is_not_the_guards_to_end() {
    let host = Host::new();
    let pid_file = host.path("pid").display().to_string();
    let guard = host.command(&["cc-ci-run", "guard", "--name", "db", "--", "true"]);
    let ended = guard
        .script(&format!("sleep 1000 >/dev/null 2>&1 &\necho $! >'{pid_file}'\nunset CCCI_PARENT_PID\nexec @@"))
        .end()
        .expect(0);
    let sleeper: i32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    assert!(process::Process::of(sleeper).is_some(), "{}", ended.err());
    process::signal(sleeper, Signal::SIGKILL);
    assert!(wait_gone(sleeper, host::limit()));
}

#[test]
fn a_command_that_cannot_be_started_ends_as_under_a_shell() {
    let host = Host::new();
    for (program, code) in [("/no/such/program", 127), ("no-such-program", 127), ("/etc/passwd", 126), ("/etc", 126)] {
        let words = ["cc-ci-run", "guard", "--name", "db", "--teardown", &journalling(&host, "down"), "--", program];
        let ended = host.command(&words).end().expect_clean(code);
        assert!(ended.err().contains(&format!("cannot start `{program}`")), "{}", ended.err());
    }
    assert_eq!(torn_down(&host), "down\n".repeat(4));
}

#[test]
fn the_command_has_the_callers_stdin_unless_it_is_to_be_closed() {
    let host = Host::new();
    for (options, seen) in [(&[][..], "typed\n"), (&["--no-stdin"], "")] {
        let guard = host.guard("db", options, "cat");
        let ended = guard.script("echo typed | @@").end().expect_clean(0);
        assert_eq!(ended.out(), seen, "{options:?}");
    }
}

#[test]
fn a_quiet_guard_says_only_what_went_wrong() {
    let host = Host::new();
    let ended = host.guard("db", &["--quiet", "--teardown", "echo talk"], "exit 0").end().expect_clean(0);
    let said = |err: String| err.replace("== the step goes on ==\n", "");
    assert_eq!(said(ended.err()), "");
    let ended = host.guard("db", &["--quiet", "--teardown", "echo why >&2; false"], "exit 0").end().expect(1);
    assert!(ended.err().contains("!! left over: ") && ended.err().contains("why"), "{}", ended.err());
}

#[test]
fn a_teardown_is_told_how_it_came_to_it() {
    let host = Host::new();
    let told = "echo \"$CCCI_CAUSE $CCCI_EXIT\"";
    let tell = format!("{told} >>'{}'", journal(&host).display());
    let _ended = host.guard("db", &["--teardown", &tell], "exit 7").end().expect_clean(7);
    let _late =
        host.guard("db", &["--deadline", "300ms", "--teardown", &tell], "exec sleep 1000").end().expect_clean(142);
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGKILL, 137)] {
        let gate = host.gate(signal.as_str());
        let step = host.guard("db", &["--teardown", &tell], &gate.pass()).start();
        gate.reached();
        let worker = step.part("worker");
        step.signal_keeper(signal);
        assert!(wait_gone(worker, host::limit()), "the reaper does not finish");
        step.end().expect_clean(code);
    }
    assert_eq!(torn_down(&host), "ended 7\ndeadline 142\noperator 143\nkeeper_died 143\n");
}

/// Types into a terminal of the command's own: each pair is what is waited for, and what is then typed.
const TYPIST: &str = r#"
import os, pty, sys, time
script, command = sys.argv[1].split('|'), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0: os.execvp(command[0], command)
seen = b''
def until(text):
    global seen
    while text.encode() not in seen:
        seen += os.read(terminal, 4096)
    seen = seen[seen.index(text.encode()) + len(text):]
for wanted, typed in zip(script[::2], script[1::2]):
    until(wanted)
    os.write(terminal, typed.encode().decode('unicode_escape').encode())
try:
    while True: seen += os.read(terminal, 4096)
except OSError: pass
print(seen.decode(errors='replace'))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// A step on a terminal at which somebody types `script`.
fn at_a_terminal(host: &Host, script: &str) -> String {
    #[expect(clippy::unwrap_used, reason = "a helper of tests")]
    fs::write(host.path("typist.py"), TYPIST).unwrap();
    format!("unset CCCI_PARENT_PID\npython3 '{}' '{script}' @@", host.path("typist.py").display())
}

#[test]
fn a_command_on_a_terminal_is_in_its_foreground_and_asks_for_a_password() {
    let host = Host::new();
    let command = "test -t 0 && stty -echo </dev/tty && printf 'Password: ' >/dev/tty && read -r word </dev/tty && stty echo </dev/tty && echo \"<$word>\"";
    let script = at_a_terminal(&host, "Password: |secret\\n");
    let ended = host.guard("db", &[], command).script(&script).end().expect_clean(0);
    assert!(ended.out().contains("<secret>"), "{}", ended.out());
}

#[test]
fn what_is_typed_to_end_a_command_is_the_commands() {
    let host = Host::new();
    let down = journalling(&host, "down");
    // One that ends by it, and one that does not.
    for (command, script, code) in [
        ("echo ready; exec sleep 1000", "ready|\\x03", 130),
        ("trap \"echo heard\" INT; echo ready; read -r x; read -r y; exit 5", "ready|\\x03|heard|a\\nb\\n", 5),
    ] {
        let script = at_a_terminal(&host, script);
        host.guard("db", &["--teardown", &down], command).script(&script).end().expect_clean(code);
    }
    assert_eq!(torn_down(&host), "down\ndown\n");
}

#[test]
fn a_shell_stops_and_continues_a_guard_with_its_command() {
    let host = Host::new();
    let command = "echo ready; read -r x; echo \"got $x\"; exit 9";
    // The shell that the typist starts has job control, and the guard as its job.
    let line = "bash --norc --noprofile -ic '\"$@\"; echo stopped=$?; fg; exit $?' bash";
    let script = at_a_terminal(&host, "ready|\\x1a|stopped=148|on\\n");
    let script = script.replace("@@", &format!("{line} @@"));
    let ended =
        host.guard("db", &["--teardown", &journalling(&host, "down")], command).script(&script).end().expect_clean(9);
    assert!(ended.out().contains("got on"), "{}", ended.out());
    assert_eq!(torn_down(&host), "down\n");
}

#[test]
fn two_guards_of_one_name_never_run_at_once_and_others_do() {
    let host = Host::new();
    let gate = host.gate("first");
    let first = host.guard("db", &[], &gate.pass()).start();
    gate.reached();
    let second = host.guard("db", &[], "exit 0").start();
    second.waits_for(&host.guard_lock("db"));
    let _other = host.guard("web", &["--on-conflict", "fail"], "exit 0").end().expect(0);
    let refused = host.guard("db", &["--on-conflict", "fail"], "exit 0").end().expect(75);
    assert!(refused.err().contains("db is held by"), "{}", refused.err());
    gate.open();
    let _done = first.end().expect(0);
    second.end().expect_clean(0);
}

#[test]
fn the_deadline_ends_a_guard_and_runs_its_teardown() {
    let host = Host::new();
    let options = ["--deadline", "300ms", "--teardown", &journalling(&host, "down")];
    let ended = host.guard("db", &options, "exec sleep 1000").end().expect_clean(142);
    assert!(ended.err().contains("== run exceeded 300ms hard deadline — tearing down =="), "{}", ended.err());
    assert_eq!(torn_down(&host), "down\n");
}

#[test]
fn a_cancelled_guard_runs_its_teardown_once() {
    let host = Host::new();
    let gate = host.gate("work");
    let step = host.guard("db", &["--teardown", &journalling(&host, "down")], &gate.pass()).start();
    gate.reached();
    step.signal_keeper(Signal::SIGTERM);
    step.end().expect_clean(143);
    assert_eq!(torn_down(&host), "down\n");
}

#[test]
fn the_saved_teardown_runs_when_the_workspace_is_gone() {
    let host = Host::new();
    let gate = host.gate("work");
    let script =
        format!("printf '#!/bin/sh\\n%s\\n' \"{}\" >down.sh\nchmod +x down.sh\n@@", journalling(&host, "saved"));
    let mut step = host.guard("db", &["--teardown", "./down.sh"], &gate.pass()).script(&script).start();
    gate.reached();
    step.cancel();
    let ended = step.keeper_end().expect_clean(143);
    assert_eq!(torn_down(&host), "saved\n", "{}", ended.err());
    assert!(ended.err().contains("running the copy that was saved"), "{}", ended.err());
}

#[test]
fn a_teardown_that_could_never_run_is_said_before_anything_starts() {
    let host = Host::new();
    let script = "echo '#!/bin/sh' >down.sh\n@@";
    let command = journalling(&host, "ran");
    let ended = host.guard("db", &["--teardown", "./down.sh"], &command).script(script).end().expect_clean(2);
    assert!(ended.err().contains("is not executable: chmod +x it"), "{}", ended.err());
    assert_eq!(torn_down(&host), "");
}

#[test]
fn a_guards_sigkilled_part_never_costs_the_teardown() {
    for part in ["keeper", "worker"] {
        let host = Host::new();
        let gate = host.gate("work");
        let step = host.guard("db", &["--teardown", &journalling(&host, "down")], &gate.pass()).start();
        gate.reached();
        let worker = step.part("worker");
        process::signal(if part == "keeper" { step.keeper() } else { worker }, Signal::SIGKILL);
        assert!(wait_gone(worker, host::limit()), "the reaper does not finish");
        step.end().expect_clean(if part == "keeper" { 137 } else { 69 });
        assert_eq!(torn_down(&host), "down\n", "{part} killed");
    }
}

#[test]
fn what_a_dead_guard_left_is_torn_down_by_the_next_with_the_dead_ones_own_teardown() {
    let host = Host::new();
    let gate = host.gate("work");
    let script =
        format!("printf '#!/bin/sh\\n%s\\n' \"{}\" >down.sh\nchmod +x down.sh\n@@", journalling(&host, "first"));
    let away = "setsid sleep 1000 >/dev/null 2>&1 &";
    let command = format!("{away} {}", gate.pass());
    let mut first = host.guard("db", &["--teardown", "./down.sh"], &command).script(&script).start();
    gate.reached();
    moment::abandon(&mut first);
    first.delete_workspace();
    host::until("only the grandchild that left its session lives", || (host.processes().len() == 1).then_some(()));
    assert_eq!(torn_down(&host), "");

    let second = host.guard("db", &["--teardown", &journalling(&host, "second")], &journalling(&host, "work"));
    let ended = second.end().expect_clean(0);
    assert_eq!(torn_down(&host), "first\nwork\nsecond\n", "{}", ended.err());
    assert!(ended.err().contains("== preclean: an earlier run left"), "{}", ended.err());
    assert_eq!(host::list(&host.path("runs")), [] as [&str; 0]);
}

#[test]
fn a_teardown_that_fails_is_tried_three_times_makes_it_red_and_the_next_tries_again() {
    let host = Host::new();
    let options = ["--teardown", &format!("{}; test -e '{}'", journalling(&host, "try"), host.path("fixed").display())];
    let ended = host.guard("db", &options, "exit 0").end().expect(1);
    assert!(ended.err().contains("left something behind"), "{}", ended.err());
    assert_eq!(torn_down(&host), "try\n".repeat(3));
    assert_eq!(host.kernel_on(&host.guard_lock("db")), [], "the lock is free all the same");

    // What is still dirty must not be used.
    let second = host.guard("db", &[], &journalling(&host, "work")).end().expect(69);
    assert_eq!(torn_down(&host), "try\n".repeat(6), "{}", second.err());

    fs::write(host.path("fixed"), "").unwrap();
    let _third = host.guard("db", &[], &journalling(&host, "work")).end().expect_clean(0);
    assert_eq!(torn_down(&host), format!("{}work\n", "try\n".repeat(7)));
}

#[test]
fn what_the_command_leaves_running_ends_with_it() {
    let host = Host::new();
    let command = format!("setsid sleep 1000 >/dev/null 2>&1 & echo $! >'{}'", host.path("pid").display());
    let _ended = host.guard("db", &[], &command).end().expect_clean(0);
    assert!(host.path("pid").exists());
}

#[test]
fn a_cancel_while_an_earlier_guard_is_cleaned_up_leaves_nothing() {
    let host = Host::new();
    let (work, down) = (host.gate("work"), host.gate("down"));
    let mut first = host.guard("db", &["--teardown", &down.pass()], &work.pass()).start();
    work.reached();
    moment::abandon(&mut first);
    let second = host.guard("db", &[], &journalling(&host, "work")).start();
    let _known = second.keeper();
    down.reached();
    second.signal_keeper(Signal::SIGTERM);
    second.says("finishing the clean-up");
    down.open();
    let ended = second.end().expect_clean(143);
    assert!(!ended.err().contains("left something behind"), "{}", ended.err());
    assert_eq!(torn_down(&host), "");
}

#[test]
fn a_stopped_worker_keeps_its_dead_supervisors_claim() {
    let host = Host::new();
    let gate = host.gate("work");
    let step = host.guard("db", &["--teardown", &journalling(&host, "down")], &gate.pass()).start();
    gate.reached();
    let (keeper, worker, dir) = (step.keeper(), step.part("worker"), step.run_dir());
    process::signal(worker, Signal::SIGSTOP);
    let claim = fs::File::open(dir).unwrap();
    assert!(claim.try_lock().is_err(), "the supervisor's claim");
    process::signal(keeper, Signal::SIGKILL);
    assert!(wait_gone(keeper, host::limit()));
    assert!(claim.try_lock().is_err(), "a part of the run is alive");
    process::signal(worker, Signal::SIGCONT);
    assert!(wait_gone(worker, host::limit()), "the reaper does not finish");
    claim.try_lock().unwrap();
    drop(claim);
    step.end().expect_clean(137);
    assert_eq!(torn_down(&host), "down\n");
}

#[test]
fn a_cancel_from_around_a_guard_lets_its_teardown_finish() {
    let host = Host::new();
    host.settings("grace = \"200ms\"\n");
    let gate = host.gate("down");
    host.program("tear-down", &format!("{}\n{}", gate.pass(), journalling(&host, "down")));
    let step = host.guard("outer", &[], "true && cc-ci-run guard --name inner --teardown tear-down -- true").start();
    gate.reached();
    // The outer guard kills all that carries its tag, which the keeper of the inner one does.
    step.signal_keeper(Signal::SIGTERM);
    let _over = step.end().expect(143);
    assert_eq!(torn_down(&host), "");
    gate.open();
    host::until("the inner guard is torn down", || (torn_down(&host) == "down\n").then_some(()));
    host::until("nobody is left", || host.processes().is_empty().then_some(()));
    assert!(!host.guard_lock("inner").path().exists(), "nobody has given the lock up");
}

#[test]
fn a_guard_that_died_before_a_reboot_is_torn_down_by_the_next() {
    let host = Host::new();
    let gate = host.gate("work");
    let mut first = host.guard("db", &["--teardown", &journalling(&host, "first")], &gate.pass()).start();
    gate.reached();
    let id = format!("run guard-db-{}", first.keeper());
    moment::abandon(&mut first);
    fs::remove_dir_all(host.path("locks")).unwrap();
    fs::create_dir(host.path("locks")).unwrap();
    for _ in 0..2 {
        let swept = host.command(&["cc-ci-janitor", "sweep"]).end().expect(1).out();
        assert!(swept.contains(&format!("DEAD GUARD   db: {id}")), "{swept}");
    }
    let status = host.command(&["cc-ci-run", "status"]).end().expect(0).out();
    assert!(status.contains("1 left over") && status.contains(&id), "{status}");
    assert_eq!(torn_down(&host), "", "only the next guard runs it");
    let second = host.guard("db", &["--teardown", &journalling(&host, "second")], &journalling(&host, "work"));
    let _ended = second.end().expect_clean(0);
    assert_eq!(torn_down(&host), "first\nwork\nsecond\n");
    assert_eq!(host::list(&host.path("runs")), [] as [&str; 0], "no trace of either");
}

#[test]
fn whoever_waited_behind_a_guard_whose_lock_file_was_removed_runs_its_teardown_first() {
    let host = Host::new();
    let gate = host.gate("work");
    let first = host.guard("db", &["--teardown", &journalling(&host, "first")], &gate.pass()).start();
    gate.reached();
    fs::remove_file(host.guard_lock("db").path()).unwrap();
    let second = host.guard("db", &["--teardown", &journalling(&host, "second")], &journalling(&host, "work")).start();
    second.says("lives though its lock file was removed — waiting");
    gate.open();
    let _robbed = first.end();
    second.end().expect_clean(0);
    assert_eq!(torn_down(&host), "first\nwork\nsecond\n");
}

#[test]
fn a_guard_that_was_killed_while_it_waited_has_no_teardown() {
    let host = Host::new();
    let gate = host.gate("work");
    let first = host.guard("db", &[], &gate.pass()).start();
    gate.reached();
    let second = host.guard("db", &["--teardown", &journalling(&host, "second")], "true").start();
    second.waits_for(&host.guard_lock("db"));
    process::signal(second.keeper(), Signal::SIGKILL);
    let _killed = second.end().expect(137);
    gate.open();
    let _ended = first.end().expect(0);
    let swept = host.command(&["cc-ci-janitor", "sweep"]).end().expect(0).out();
    assert!(!swept.contains("DEAD GUARD"), "{swept}");
    host.guard("db", &[], "true").end().expect_clean(0);
    assert_eq!(torn_down(&host), "");
}

#[test]
fn a_guard_inside_one_of_its_own_name_says_that_it_waits_for_itself() {
    let host = Host::new();
    let around = |inner: &str| {
        let nested = format!("true && cc-ci-run guard --name {inner} --wait-timeout 200ms -- true");
        host.guard("db", &[], &nested).end()
    };
    let own = around("db").expect(75).err();
    assert!(own.contains("it waits for itself, until the holder's deadline; use another name inside"), "{own}");
    assert!(own.contains("db was not free within"), "{own}");
    let other = around("db2").expect_clean(0).err();
    assert!(!other.contains("waits for itself"), "{other}");
}
