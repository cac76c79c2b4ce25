//! Chaos: many runs of several domains at once, and a random hand that kills, stops, unlinks and fills.
//!
//! `cargo test --package ccci-tests --test chaos -- --rounds 1000 --seed 7`; `--only N` plays one round
//! of a seed again. What is done, to whom and when follows from the seed alone; what it meets there is
//! the kernel's affair. After each round:
//!
//! - one kill: nothing is left, *without* the janitor;
//! - several, unlinked lock files, a full disk: nothing is left after one sweep;
//! - a run that nobody aimed at is green;
//! - the witness, a run that holds its lock through all rounds, has its app as it was.

#![expect(clippy::unwrap_used, reason = "what cannot be done fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ccci_tests::gate::Gate;
use ccci_tests::host::{self, Host};
use ccci_tests::process::{self, Process};
use ccci_tests::step::{Launch, Step};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// How many rounds when nobody says.
const ROUNDS: u64 = 60;
/// When nobody says; a fixed one, so that a failure of CI is everybody's.
const SEED: u64 = 20_260;
/// A run is over by then, unless something is done to it.
const HORIZON_MS: u64 = 700;

/// The end of a round is looked for this often: each look reads all of `/proc`.
const LOOK: Duration = Duration::from_millis(40);

/// `splitmix64`: small, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn of(seed: u64, round: u64) -> Self {
        let mut dice = Self(seed ^ round.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let _mixed = dice.next();
        dice
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    const fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn of_all<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// Who may be hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Member {
    Shell,
    Keeper,
    Worker,
    Reaper,
    /// git, a test, what a test left behind.
    Child,
    Service,
}

const MEMBERS: [Member; 6] =
    [Member::Shell, Member::Keeper, Member::Worker, Member::Reaper, Member::Child, Member::Service];

/// What the hand does.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Signal {
        run: usize,
        member: Member,
        signal: Signal,
    },
    /// Keeper and worker at once: only the janitor, or the next run, can help.
    Abandon {
        run: usize,
    },
    /// Stops it, and lets it go on a little later.
    Stop {
        run: usize,
        member: Member,
    },
    Unlink {
        run: usize,
    },
    Janitor,
    KillJanitor,
    FillDisk,
    FreeDisk,
}

/// What kind of round it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// One kill of one member.
    Single,
    Several,
    Unlinked,
    FullDisk,
}

/// A round, from the seed alone.
#[derive(Debug)]
struct Round {
    kind: Kind,
    /// The domain of each run, by number.
    domains: Vec<u64>,
    deeds: Vec<(u64, Deed)>,
}

impl Round {
    fn of(seed: u64, number: u64) -> Self {
        let mut dice = Dice::of(seed, number);
        let kind = match dice.below(10) {
            0..=4 => Kind::Single,
            5..=7 => Kind::Several,
            8 => Kind::Unlinked,
            _ => Kind::FullDisk,
        };
        let count = 2 + dice.below(3);
        let domains: Vec<u64> = (0..count).map(|_| dice.below(3)).collect();
        let mut deeds = Vec::new();
        let run = |dice: &mut Dice| usize::try_from(dice.below(count)).unwrap();
        let signal = |dice: &mut Dice| {
            dice.of_all(&[Signal::SIGKILL, Signal::SIGKILL, Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT])
        };
        let deadly = |dice: &mut Dice| {
            let (run, member, signal) = (run(dice), dice.of_all(&MEMBERS), signal(dice));
            // A service or a child may ignore what is not deadly, as any program may.
            Deed::Signal { run, member, signal }
        };
        let at = |dice: &mut Dice| dice.below(HORIZON_MS);
        match kind {
            Kind::Single => {
                let when = at(&mut dice);
                let deed = if dice.below(6) == 0 {
                    Deed::Stop { run: run(&mut dice), member: dice.of_all(&MEMBERS) }
                } else {
                    deadly(&mut dice)
                };
                deeds.push((when, deed));
            }
            Kind::Several | Kind::Unlinked | Kind::FullDisk => {
                for _ in 0..2 + dice.below(4) {
                    let when = at(&mut dice);
                    let deed = match dice.below(8) {
                        0 | 1 => Deed::Abandon { run: run(&mut dice) },
                        2 => Deed::Stop { run: run(&mut dice), member: dice.of_all(&MEMBERS) },
                        3 => Deed::Janitor,
                        4 => Deed::KillJanitor,
                        _ => deadly(&mut dice),
                    };
                    deeds.push((when, deed));
                }
                if kind == Kind::Unlinked {
                    for _ in 0..1 + dice.below(3) {
                        deeds.push((at(&mut dice), Deed::Unlink { run: run(&mut dice) }));
                    }
                }
                if kind == Kind::FullDisk {
                    let full = at(&mut dice);
                    deeds.push((full, Deed::FillDisk));
                    if dice.below(2) == 0 {
                        deeds.push((full + dice.below(HORIZON_MS), Deed::FreeDisk));
                    }
                }
            }
        }
        deeds.sort_by_key(|(when, _)| *when);
        Self { kind, domains, deeds }
    }

    /// Runs that must be green: nobody aimed at them, nor at the lock that they share.
    fn bystanders(&self) -> BTreeSet<usize> {
        let mut all: BTreeSet<usize> = (0..self.domains.len()).collect();
        for (_, deed) in &self.deeds {
            match deed {
                Deed::Signal { run, .. } | Deed::Abandon { run } | Deed::Stop { run, .. } => {
                    all.remove(run);
                }
                Deed::Unlink { run } => all.retain(|other| self.domains[*other] != self.domains[*run]),
                Deed::FillDisk => all.clear(),
                Deed::Janitor | Deed::KillJanitor | Deed::FreeDisk => {}
            }
        }
        all
    }
}

/// What was done so far.
#[derive(Debug, Default)]
struct Tally {
    rounds: BTreeMap<Kind, u64>,
    runs: u64,
    signals: BTreeMap<String, u64>,
    members: BTreeMap<Member, u64>,
    missed: u64,
    unlinked: u64,
    janitors: u64,
    reaped: u64,
    green: u64,
}

/// The small disk of some rounds; unmounted at the end, whatever happens.
struct Disk(PathBuf);

impl Disk {
    fn mount(host: &Host) -> Option<Self> {
        let path = host.path("small");
        fs::create_dir_all(&path).unwrap();
        let size = Some(c"size=2m,mode=755");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("chaos", &path, "tmpfs", flags, size).ok().map(|()| Self(path))
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn free(&self) {
        let _gone = fs::remove_file(self.0.join("filler"));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// The run that must not notice anything.
struct Witness<'host> {
    step: Step<'host>,
    gate: Gate,
    /// Its processes, and what is on disk of it.
    before: (BTreeSet<i32>, BTreeSet<String>),
}

struct Chaos<'host> {
    host: &'host Host,
    witness: Witness<'host>,
    disk: Option<Disk>,
    tally: Tally,
}

fn say(text: &str) {
    let _unread = writeln!(std::io::stdout(), "{text}");
}

/// What is on disk of runs, besides their directories; a free lock file only if `with_files`.
fn things(host: &Host, with_files: bool) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for name in host::list(&host.path("locks")) {
        let path = host.path("locks").join(&name);
        let held = ccci_core::lock::proc_locks::of(&path).is_ok_and(|entries| !entries.is_empty());
        if name.starts_with("cc-ci-app-") && (with_files || held) {
            all.insert(format!("lock file {name}{}", if held { ", held" } else { "" }));
        }
    }
    all.extend(host::list(&host.path("state/local")).iter().map(|name| format!("app {name}")));
    for server in host::list(&host.path("abra/servers")) {
        let files = host::list(&host.path("abra/servers").join(server));
        all.extend(files.iter().map(|name| format!("env file {name}")));
    }
    all
}

fn pids(host: &Host) -> BTreeSet<i32> {
    host.processes().iter().map(|process| process.pid).collect()
}

impl<'host> Chaos<'host> {
    fn new(host: &'host Host) -> Self {
        host.settings("grace = \"300ms\"\nteardown_budget = \"30s\"\n");
        let gate = host.gate("witness");
        let _folder = host.folder("hello").script("test_install.sh", &gate.pass());
        let step = host.run().env("STAGES", "install").start();
        gate.reached();
        let before = (pids(host), things(host, true));
        // What the others test: an app that is up at once, with all that an app can have.
        let folder = host.path("chaos/hello");
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            folder.join("recipe.toml"),
            "[timeouts]\ndeploy = \"20s\"\ntest = \"20s\"\n[local.services.app]\ncommand = [\"sleep\", \"1000\"]\nvolumes = \
             [\"data\"]\nsecrets = [\"key\"]\n",
        )
        .unwrap();
        let test = folder.join("test_install.sh");
        fs::write(&test, "#!/bin/sh\n(setsid sleep 1000 >/dev/null 2>&1 &)\nsleep 0.05\n").unwrap();
        fs::set_permissions(&test, fs::Permissions::from_mode(0o755)).unwrap();
        let disk = Disk::mount(host);
        if disk.is_none() {
            say("chaos: no rights to mount a small disk; rounds with a full one are played without");
        }
        Self { host, witness: Witness { step, gate, before }, disk, tally: Tally::default() }
    }

    fn launch(&self, round: &Round, domain: u64) -> Launch<'host> {
        let launch = self
            .host
            .run()
            .env("PR", &(self.host.pr() * 100 + domain + 1).to_string())
            .env("STAGES", "install")
            .env("CCCI_TESTS_DIR", &self.host.path("chaos").display().to_string());
        match &self.disk {
            Some(disk) if round.kind == Kind::FullDisk => launch.env("CCCI_RUNS_DIR", &disk.0.display().to_string()),
            _ => launch,
        }
    }

    fn sweep(&self, round: &Round) -> Launch<'host> {
        let sweep = self.host.command(&["cc-ci-janitor", "sweep", "--json"]);
        match &self.disk {
            Some(disk) if round.kind == Kind::FullDisk => sweep.env("CCCI_RUNS_DIR", &disk.0.display().to_string()),
            _ => sweep,
        }
    }

    fn play(&mut self, round: &Round) {
        *self.tally.rounds.entry(round.kind).or_default() += 1;
        self.tally.runs += round.domains.len() as u64;
        let begun = Instant::now();
        let steps: Vec<Step<'_>> = round.domains.iter().map(|domain| self.launch(round, *domain).start()).collect();
        let mut janitors = Vec::new();
        let mut stopped: Vec<(Instant, i32)> = Vec::new();
        for (when, deed) in &round.deeds {
            wait_until(begun + Duration::from_millis(*when), &mut stopped);
            self.act(round, *deed, &steps, &mut janitors, &mut stopped);
        }
        let end = Instant::now() + host::limit();
        while let Some(working) = self.working() {
            assert!(Instant::now() < end, "still at work: {working:?}");
            wait_until(Instant::now() + LOOK, &mut stopped);
        }
        assert!(stopped.is_empty() || end > Instant::now());
        if let Some(disk) = &self.disk {
            disk.free();
        }
        let codes: Vec<i32> = steps.into_iter().map(|step| step.end().code).collect();
        for janitor in janitors {
            let _whatever_became_of_it = janitor.end();
        }
        collect_orphans();
        if round.kind != Kind::Single {
            let swept = self.sweep(round).end();
            assert!(matches!(swept.code, 0), "the sweep: {} {}", swept.out(), swept.err());
            self.tally.janitors += 1;
            let found = swept.json();
            let reaped = found["findings"].as_array().unwrap().iter().filter(|one| one["finding"] == "reaped").count();
            self.tally.reaped += reaped as u64;
        }
        self.nothing_is_left(round.kind != Kind::Single);
        self.tally.green += codes.iter().filter(|code| **code == 0).count() as u64;
        for run in round.bystanders() {
            assert_eq!(codes[run], 0, "run {run}, at which nobody aimed");
        }
        for name in host::list(&self.host.path("locks")) {
            // Free lock files are no leak after a single kill, and not the next round's affair.
            let path = self.host.path("locks").join(name);
            if ccci_core::lock::proc_locks::of(&path).is_ok_and(|entries| entries.is_empty()) {
                fs::remove_file(path).unwrap();
            }
        }
        for runs in [self.host.path("runs"), self.host.path("small"), self.host.path("steps")] {
            for name in host::list(&runs).iter().filter(|name| *name != self.witness.step.id()) {
                let path = runs.join(name);
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
            }
        }
    }

    /// The parts of runs and janitors that are still at work, the witness's aside.
    fn working(&self) -> Option<Vec<Process>> {
        let part = |process: &Process| process.name.starts_with("cc-ci") || process.name.starts_with("ccci-");
        let shell = |process: &Process| process.args.iter().any(|arg| arg.ends_with("/workspace/step.sh"));
        let mut all = self.host.processes();
        all.retain(|process| (part(process) || shell(process)) && !self.witness.before.0.contains(&process.pid));
        (!all.is_empty()).then_some(all)
    }

    fn nothing_is_left(&self, with_files: bool) {
        let witness = &self.witness.before;
        let processes: Vec<_> =
            self.host.processes().into_iter().filter(|process| !witness.0.contains(&process.pid)).collect();
        assert!(processes.is_empty(), "leaked processes: {processes:?}");
        let things = things(self.host, with_files);
        let leaked: Vec<_> = things.difference(&witness.1).collect();
        assert!(leaked.is_empty(), "leaked: {leaked:?}");
        let missing: Vec<_> = witness.1.difference(&things).collect();
        assert!(missing.is_empty(), "the witness lost {missing:?}");
        let dead: Vec<_> = witness.0.iter().filter(|pid| Process::of(**pid).is_none()).collect();
        assert!(dead.is_empty(), "the witness lost processes {dead:?}");
    }

    fn act(
        &mut self,
        round: &Round,
        deed: Deed,
        steps: &[Step<'host>],
        janitors: &mut Vec<Step<'host>>,
        stopped: &mut Vec<(Instant, i32)>,
    ) {
        match deed {
            Deed::Signal { run, member, signal } => {
                let hit = self.find(&steps[run], round.domains[run], member);
                self.hit(hit, member, signal);
            }
            Deed::Abandon { run } => {
                // The worker is stopped first, or it would become the reaper.
                let worker = self.find(&steps[run], round.domains[run], Member::Worker);
                self.hit(worker, Member::Worker, Signal::SIGSTOP);
                let keeper = self.find(&steps[run], round.domains[run], Member::Keeper);
                self.hit(keeper, Member::Keeper, Signal::SIGKILL);
                self.hit(worker, Member::Worker, Signal::SIGKILL);
            }
            Deed::Stop { run, member } => {
                let hit = self.find(&steps[run], round.domains[run], member);
                self.hit(hit, member, Signal::SIGSTOP);
                stopped.extend(hit.map(|pid| (Instant::now() + Duration::from_millis(400), pid)));
            }
            Deed::Unlink { run } => {
                let domain = self.host.domain_of("hello", self.host.pr() * 100 + round.domains[run] + 1, "");
                let gone = fs::remove_file(self.host.lock_of(domain).path()).is_ok();
                if gone { self.tally.unlinked += 1 } else { self.tally.missed += 1 }
            }
            Deed::Janitor => {
                self.tally.janitors += 1;
                janitors.push(self.sweep(round).start());
            }
            Deed::KillJanitor => {
                let janitor = self.host.processes().into_iter().find(|process| process.name == "cc-ci-janitor");
                match janitor {
                    Some(janitor) => {
                        process::signal(janitor.pid, Signal::SIGKILL);
                        *self.tally.signals.entry("SIGKILL to the janitor".to_owned()).or_default() += 1;
                    }
                    None => self.tally.missed += 1,
                }
            }
            Deed::FillDisk => {
                if let Some(disk) = &self.disk {
                    disk.fill();
                }
            }
            Deed::FreeDisk => {
                if let Some(disk) = &self.disk {
                    disk.free();
                }
            }
        }
    }

    fn hit(&mut self, pid: Option<i32>, member: Member, signal: Signal) {
        match pid {
            Some(pid) => {
                process::signal(pid, signal);
                *self.tally.signals.entry(signal.as_str().to_owned()).or_default() += 1;
                *self.tally.members.entry(member).or_default() += 1;
            }
            None => self.tally.missed += 1,
        }
    }

    /// The process that plays this part in a run now.
    fn find(&self, step: &Step<'_>, domain: u64, member: Member) -> Option<i32> {
        let all = self.host.processes();
        let shell = step.shell();
        let role = |role: &str| {
            let own = |process: &&Process| {
                process.args.get(1).is_some_and(|arg| arg == role)
                    && process.args.get(2).is_some_and(|dir| dir.ends_with(&format!("/{}", step.id())))
            };
            all.iter().find(own).map(|process| process.pid)
        };
        let parts: BTreeSet<i32> = [role("worker"), role("reaper")].into_iter().flatten().collect();
        match member {
            Member::Shell => all.iter().find(|process| process.pid == shell).map(|process| process.pid),
            Member::Keeper => {
                let keeper = |process: &&Process| process.parent == shell && process.name == "cc-ci-run";
                all.iter().find(keeper).map(|process| process.pid)
            }
            Member::Worker => role("worker"),
            Member::Reaper => role("reaper"),
            Member::Child => {
                let own = |process: &&Process| {
                    process.carries("CCCI_RUN_ID", step.id())
                        && process.environ.iter().any(|entry| entry.starts_with("CCCI_LOCK="))
                        && !parts.contains(&process.pid)
                };
                all.iter().find(own).map(|process| process.pid)
            }
            Member::Service => {
                let domain = self.host.domain_of("hello", self.host.pr() * 100 + domain + 1, "");
                let mark = format!("/{domain}/");
                let own = |process: &&Process| {
                    process.environ.iter().any(|e| e.starts_with("CCCI_LOCAL_SERVICE=") && e.contains(&mark))
                };
                all.iter().find(own).map(|process| process.pid)
            }
        }
    }
}

/// Waits for the next deed's time, and lets those go on whose stop is over.
fn wait_until(when: Instant, stopped: &mut Vec<(Instant, i32)>) {
    loop {
        let now = Instant::now();
        stopped.retain(|(until, pid)| {
            let over = *until <= now;
            if over {
                process::signal(*pid, Signal::SIGCONT);
            }
            !over
        });
        if now >= when {
            return;
        }
        let next = stopped.iter().map(|(until, _)| *until).chain([when]).min().unwrap();
        let _over = ccci_core::process::wait_ready(&mut [], Some(next.saturating_duration_since(now)));
    }
}

/// Keepers whose shell was killed, and what they had left, have come to this process. The witness lives.
fn collect_orphans() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

fn option(name: &str, var: &str, default: u64) -> u64 {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    let given = args.next().or_else(|| std::env::var(var).ok());
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} {text}: not a number")))
}

fn main() -> ExitCode {
    // What `cargo test` asks of every suite.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let rounds = option("--rounds", "CCCI_CHAOS_ROUNDS", ROUNDS);
    let seed = option("--seed", "CCCI_CHAOS_SEED", SEED);
    let only = option("--only", "CCCI_CHAOS_ONLY", u64::MAX);
    let begun = Instant::now();
    say(&format!("chaos: seed {seed}, {rounds} rounds"));
    let host = Host::new();
    let mut chaos = Chaos::new(&host);
    let numbers = if only == u64::MAX { 0..rounds } else { only..only + 1 };
    for number in numbers {
        let round = Round::of(seed, number);
        if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| chaos.play(&round))) {
            say(&format!("chaos: round {number} of seed {seed} FAILED: {round:#?}\n{:#?}", chaos.tally));
            say(&format!("again: cargo test --package ccci-tests --test chaos -- --seed {seed} --only {number}"));
            std::panic::resume_unwind(panic);
        }
        if (number + 1) % 50 == 0 {
            say(&format!("chaos: {} rounds, {} s", number + 1, begun.elapsed().as_secs()));
        }
    }
    let Chaos { witness, disk, tally, .. } = chaos;
    drop(disk);
    witness.gate.open();
    let _green = witness.step.end().expect_clean(0);
    let signals: u64 = tally.signals.values().sum();
    say(&format!(
        "chaos: seed {seed}: {:?} rounds with {} runs ({} green); {signals} signals {:?} to {:?}; {} came too late or too \
         early; {} lock files unlinked; {} sweeps reaped {}; leaks: 0; witness intact; {} s",
        tally.rounds,
        tally.runs,
        tally.green,
        tally.signals,
        tally.members,
        tally.missed,
        tally.unlinked,
        tally.janitors,
        tally.reaped,
        begun.elapsed().as_secs()
    ));
    ExitCode::SUCCESS
}
