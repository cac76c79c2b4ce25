//! What every run pays for, beside what a user would pick instead: starting, taking over a lock,
//! waiting for one, and many runs at once.
//!
//! `tests/bench/processes.sh` builds all of it for release and runs it. Both sides of a row are measured
//! in turn, in one process, on one machine; the medians and their ratio are a Markdown table.

#![expect(clippy::print_stdout, reason = "a measurement's result")]
#![expect(clippy::unwrap_used, reason = "without it there is no figure")]
#![expect(clippy::disallowed_methods, reason = "what is measured is the program, not our own way to start it")]
#![expect(clippy::cast_precision_loss, reason = "nobody reads the 53rd bit of a median")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ccci_core::lock::proc_locks;
use ccci_tests::binaries::{self, program};
use ccci_tests::host::{Host, until};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::time::TimeValLike as _;
use nix::unistd::Pid;

const STARTS: usize = 40;
const HANDOVERS: usize = 60;
const KILLS: usize = 10;
const WAITING: Duration = Duration::from_secs(30);
const AT_ONCE: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];
const AT_ONCE_ROUNDS: usize = 5;

/// A line of the table.
struct Row {
    what: String,
    ours: f64,
    peer: &'static str,
    theirs: f64,
    unit: &'static str,
    goal: &'static str,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.ours / self.theirs
    }
}

fn main() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let host = Host::new();
    host.settings("max_tests = 64\n");
    let bench = Bench { host };
    let mut rows = bench.start();
    rows.extend(bench.handover());
    rows.extend(bench.waiting());
    rows.extend(bench.at_once());
    show(&rows);
}

fn show(rows: &[Row]) {
    println!("| what | cc-ci | instead | of that | ratio | goal |\n|---|---|---|---|---|---|");
    for row in rows {
        let Row { what, ours, peer, theirs, unit, goal } = row;
        println!("| {what} | {ours:.2} {unit} | {peer} | {theirs:.2} {unit} | {:.2} | {goal} |", row.ratio());
    }
}

struct Bench {
    host: Host,
}

impl Bench {
    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Nothing of the caller's CI is meant for these.
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("CCCI_")) {
            command.env_remove(key);
        }
        // The example recipe's own program is there too.
        command.env("PATH", format!("{}:{}", binaries::dir().display(), std::env::var("PATH").unwrap()));
        command.current_dir(self.host.path("tmp"));
        command
    }

    fn ours(&self, args: &[&str]) -> Command {
        let settings = self.host.path("settings.toml").display().to_string();
        self.command(&program("cc-ci-run"), &[&["--config", &settings], args].concat())
    }

    fn guard(&self, args: &[&str]) -> Command {
        self.ours(&[&["guard", "--name", "bench", "--deadline", "60s", "--"], args].concat())
    }

    /// The lock file of [`Bench::guard`].
    fn lock(&self) -> PathBuf {
        self.host.path("locks/cc-ci-guard-bench.lock")
    }

    fn flock(&self, args: &[&str]) -> Command {
        self.command(Path::new("flock"), args)
    }

    fn start(&self) -> Vec<Row> {
        let file = self.host.path("tmp/plain.lock").display().to_string();
        let (ours, theirs) = in_turn(STARTS, &mut |_| ran(&mut self.guard(&["true"])), &mut |_| {
            ran(&mut self.flock(&[&file, "timeout", "60", "setsid", "--wait", "true"]))
        });
        let guard = Row {
            what: "`guard -- true`".to_owned(),
            ours,
            peer: "`flock FILE timeout 60 setsid --wait true`",
            theirs,
            unit: "ms",
            goal: "≤ 1.5",
        };
        let (ours, theirs) =
            in_turn(STARTS, &mut |_| ran(&mut self.command(&program("cc-ci-run"), &["--version"])), &mut |_| {
                ran(&mut self.flock(&["--version"]))
            });
        let size = fs::metadata(program("cc-ci-run")).unwrap().len() as f64 / f64::from(1 << 20);
        let what = format!("`--version`, a binary of {size:.1} MiB");
        vec![guard, Row { what, ours, peer: "`flock --version`", theirs, unit: "ms", goal: "≤ 3" }]
    }

    /// From the moment a lock is free until the command behind it has begun.
    fn handover(&self) -> Vec<Row> {
        let begun = self.host.path("tmp/begun").display().to_string();
        let note = ["sh", "-c", "date +%s%N >\"$0\"", &begun];
        let (lock, plain) = (self.lock(), self.host.path("tmp/plain.lock"));
        let file = plain.display().to_string();
        let waiter = |ours: bool| {
            if ours { self.guard(&note) } else { self.flock(&[&[file.as_str()], &note[..]].concat()) }
        };
        // The same holder for both, so that nothing of a holder's own end is in the figure.
        let released = |ours: bool| {
            let path = if ours { &lock } else { &plain };
            let held =
                Flock::lock(File::options().append(true).create(true).open(path).unwrap(), FlockArg::LockExclusive);
            let mut waiting = waiter(ours).spawn().unwrap();
            until("the waiter waits", || is_waited_for(path).then_some(()));
            until("it sleeps", || is_asleep(&waiting).then_some(()));
            let at = now();
            drop(held);
            assert!(waiting.wait().unwrap().success());
            since(at, &begun)
        };
        let (ours, theirs) = in_turn(HANDOVERS, &mut |_| released(true), &mut |_| released(false));
        let free = Row {
            what: "lock released until the waiter's command runs".to_owned(),
            ours,
            peer: "`flock(1)`",
            theirs,
            unit: "ms",
            goal: "≤ 1.3",
        };
        let killed = |ours: bool| {
            let path = if ours { &lock } else { &plain };
            let mut holder = if ours { self.guard(&["sleep", "60"]) } else { self.flock(&[&file, "sleep", "60"]) };
            std::os::unix::process::CommandExt::process_group(&mut holder, 0);
            let mut holder = holder.spawn().unwrap();
            until("it holds", || is_held(path).then_some(()));
            let mut waiting = waiter(ours).spawn().unwrap();
            until("the waiter waits", || is_waited_for(path).then_some(()));
            until("it sleeps", || is_asleep(&waiting).then_some(()));
            let at = now();
            let pid = Pid::from_raw(holder.id().cast_signed());
            // `flock` alone would leave its command, and with it the lock: so its whole group goes.
            if ours { kill(pid, Signal::SIGKILL) } else { killpg(pid, Signal::SIGKILL) }.unwrap();
            let _killed = holder.wait().unwrap();
            assert!(waiting.wait().unwrap().success());
            since(at, &begun)
        };
        let (ours, theirs) = in_turn(KILLS, &mut |_| killed(true), &mut |_| killed(false));
        let dead = Row {
            what: "holder killed with SIGKILL until the waiter's command runs".to_owned(),
            ours,
            peer: "`flock(1)`, its group killed",
            theirs,
            unit: "ms",
            goal: "",
        };
        vec![free, dead]
    }

    /// What a process costs that waits for a lock.
    fn waiting(&self) -> Vec<Row> {
        let plain = self.host.path("tmp/plain.lock");
        let file = plain.display().to_string();
        let paths = [self.lock(), plain];
        let held: Vec<_> = paths
            .iter()
            .map(|path| {
                Flock::lock(File::options().append(true).create(true).open(path).unwrap(), FlockArg::LockExclusive)
            })
            .collect();
        let mut waiting =
            [self.guard(&["true"]), self.flock(&[&file, "true"])].map(|mut command| command.spawn().unwrap());
        for path in &paths {
            until("the waiter waits", || is_waited_for(path).then_some(()));
        }
        let before = waiting.each_ref().map(Cost::of);
        std::thread::sleep(WAITING);
        let after = waiting.each_ref().map(Cost::of);
        drop(held);
        for child in &mut waiting {
            assert!(child.wait().unwrap().success());
        }
        let per_minute = |what: &dyn Fn(&Cost) -> f64| {
            [0, 1].map(|at| (what(&after[at]) - what(&before[at])) * 60.0 / WAITING.as_secs_f64())
        };
        let row = |what: &str, [ours, theirs]: [f64; 2], unit, goal| Row {
            what: what.to_owned(),
            ours,
            peer: "`flock(1)`",
            theirs,
            unit,
            goal,
        };
        vec![
            row("waiting: wake-ups per minute", per_minute(&|cost| cost.wakeups), "", "no polling"),
            row("waiting: processor time per minute", per_minute(&|cost| cost.milliseconds), "ms", "no polling"),
            row("waiting: resident memory", after.map(|cost| cost.resident), "MiB", "≤ 6 MiB"),
        ]
    }

    /// Runs of different apps: each takes longer than one alone only as the processors are shared.
    fn at_once(&self) -> Vec<Row> {
        let processors = std::thread::available_parallelism().unwrap().get() as f64;
        let repository = self.host.recipe("hello").display().to_string();
        let tests = self.host.path("tests").display().to_string();
        let mut next = self.host.pr();
        // How long so many take, and what they cost the processors.
        let mut once = |count: u64| {
            let (begun, used) = (Instant::now(), processor_time());
            let runs: Vec<Child> = (0..count)
                .map(|_| {
                    next += 1;
                    let pr = next.to_string();
                    let args = ["run", "hello", "--engine", "local", "--src", &repository, "--tests-dir", &tests];
                    self.ours(&[&args[..], &["--stages", "install", "--pr", &pr]].concat()).spawn().unwrap()
                })
                .collect();
            for mut run in runs {
                assert!(run.wait().unwrap().success());
            }
            (milliseconds(begun.elapsed()), milliseconds(processor_time() - used))
        };
        let mut rounds = |count: u64| {
            let (all, used) = (0..AT_ONCE_ROUNDS).map(|_| once(count)).unzip();
            (median(all), median(used))
        };
        let (alone, own) = rounds(1);
        let mut measure = |count: u64| {
            let (all, _) = rounds(count);
            Row {
                what: format!("{count} runs at once, until the last has ended"),
                ours: all,
                peer: "one run, or its processor time times the number over the processors",
                theirs: f64::max(alone, count as f64 * own / processors),
                unit: "ms",
                goal: "",
            }
        };
        AT_ONCE.into_iter().map(&mut measure).collect()
    }
}

/// The medians of both, each measured so often, one after the other.
fn in_turn(rounds: usize, ours: &mut dyn FnMut(usize) -> f64, theirs: &mut dyn FnMut(usize) -> f64) -> (f64, f64) {
    // The first is for the page cache.
    let _warm = (ours(0), theirs(0));
    let both: Vec<(f64, f64)> = (0..rounds).map(|round| (ours(round), theirs(round))).collect();
    let (ours, theirs) = both.into_iter().unzip();
    (median(ours), median(theirs))
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// How long a command takes.
fn ran(command: &mut Command) -> f64 {
    let begun = Instant::now();
    assert!(command.status().unwrap().success());
    milliseconds(begun.elapsed())
}

/// Nanoseconds, as `date +%s%N` has them.
fn now() -> i128 {
    jiff::Timestamp::now().as_nanosecond()
}

/// From then until what was noted in this file.
fn since(at: i128, file: &str) -> f64 {
    let noted: i128 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    fs::remove_file(file).unwrap();
    (noted - at) as f64 / 1e6
}

fn is_waited_for(path: &Path) -> bool {
    proc_locks::of(path).is_ok_and(|entries| entries.iter().any(|entry| entry.waits))
}

/// Whether all threads of a process have come to rest: one that has just begun to wait is still on its way there.
fn is_asleep(child: &Child) -> bool {
    const REST: Duration = Duration::from_millis(20);
    let before = Cost::of(child).wakeups;
    std::thread::sleep(REST);
    Cost::of(child).wakeups.total_cmp(&before).is_eq()
}

fn is_held(path: &Path) -> bool {
    proc_locks::of(path).is_ok_and(|entries| entries.iter().any(|entry| !entry.waits))
}

/// The processor time of all children that have been waited for, and theirs.
fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(microseconds.cast_unsigned())
}

/// What a process has cost so far, all its threads together.
struct Cost {
    wakeups: f64,
    milliseconds: f64,
    resident: f64,
}

impl Cost {
    fn of(child: &Child) -> Self {
        let dir = PathBuf::from(format!("/proc/{}", child.id()));
        // Page by page: the counter in `status` is off by up to half a MiB on this kernel.
        let mut cost =
            Self { wakeups: 0.0, milliseconds: 0.0, resident: field(&dir.join("smaps_rollup"), "Rss:") / 1024.0 };
        for thread in fs::read_dir(dir.join("task")).unwrap() {
            let thread = thread.unwrap().path();
            cost.wakeups += field(&thread.join("status"), "voluntary_ctxt_switches:");
            // In nanoseconds, and exact; the clock ticks of `stat` are neither.
            let schedule = fs::read_to_string(thread.join("schedstat")).unwrap();
            cost.milliseconds += schedule.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6;
        }
        cost
    }
}

fn field(file: &Path, key: &str) -> f64 {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
