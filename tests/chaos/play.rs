//! Plays rounds, and looks after each whether the promise was kept.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use ccci_core::lock::proc_locks;
use ccci_core::name::Domain;
use ccci_tests::host;
use ccci_tests::process::{self, Process};
use ccci_tests::step::{Ended, Launch, Step};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::disk::Disk;
use crate::ground::Ground;
use crate::round::{Deed, Kind, Member, Round};
use crate::tally::Tally;

/// The end of a round is looked for this often: each look reads all of `/proc`.
const LOOK: Duration = Duration::from_millis(40);

/// All rounds on one ground.
pub(crate) struct Play<'ground> {
    ground: &'ground dyn Ground,
    /// What there is when nobody plays.
    before: BTreeSet<String>,
    disk: Option<Disk>,
    /// How long a run takes beside others when nobody disturbs it.
    pub(crate) length: Duration,
    /// Whether later rounds correct it: other people's work makes a machine slow and fast again.
    learns: bool,
    pub(crate) tally: Tally,
}

/// Who is on stage in a round.
struct Scene<'ground> {
    /// Every run with its domain's number.
    runs: Vec<(u64, Step<'ground>)>,
    janitors: Vec<Step<'ground>>,
    /// Stopped processes, and when they may go on.
    stopped: Vec<(Instant, i32)>,
}

impl<'ground> Play<'ground> {
    /// Takes the length of a run from three that nobody disturbs, unless it is given.
    pub(crate) fn new(ground: &'ground dyn Ground, length: Option<Duration>) -> Self {
        let disk = Disk::mount(ground.host());
        let before = ground.things();
        let mut play = Self { ground, before, disk, length: Duration::ZERO, learns: true, tally: Tally::default() };
        let given = length.is_some();
        play.length = length.unwrap_or_else(|| {
            let runs: Vec<_> = (0..3).map(|domain| ground.run(play.pr(domain)).start()).collect();
            let runs = runs.into_iter().map(|run| run.end().expect(0));
            let lengths = runs.map(|run| length_of(&run)).collect::<Vec<_>>();
            lengths.iter().sum::<Duration>() / 3
        });
        play.learns = !given;
        play.tidy();
        play
    }

    fn pr(&self, domain: u64) -> u64 {
        self.ground.host().pr() * 100 + domain + 1
    }

    fn domain(&self, number: u64) -> Domain {
        self.ground.host().domain_of(self.ground.recipe(), self.pr(number), "")
    }

    /// `launch`, with its run directory on the small disk in some rounds.
    fn placed<'a>(&self, round: &Round, launch: Launch<'a>) -> Launch<'a> {
        match &self.disk {
            Some(disk) if round.kind == Kind::FullDisk => {
                launch.env("CCCI_RUNS_DIR", &disk.path().display().to_string())
            }
            _ => launch,
        }
    }

    fn start(&self, round: &Round, domain: u64) -> (u64, Step<'ground>) {
        (domain, self.placed(round, self.ground.run(self.pr(domain))).start())
    }

    fn sweep(&self, round: &Round) -> Launch<'ground> {
        self.placed(round, self.ground.sweep())
    }

    /// Plays a round, and fails where the promise was broken.
    pub(crate) fn play(&mut self, round: &Round) {
        *self.tally.rounds.entry(round.kind).or_default() += 1;
        let mut scene = Scene {
            runs: round.domains.iter().map(|domain| self.start(round, *domain)).collect(),
            janitors: Vec::new(),
            stopped: Vec::new(),
        };
        self.do_all(round, &mut scene);
        self.wait_for_the_end(&mut scene);
        if let Some(disk) = &self.disk {
            disk.free();
        }
        let runs: Vec<Ended<'_>> = scene.runs.into_iter().map(|(_, step)| step.end()).collect();
        for janitor in scene.janitors {
            let _whatever_became_of_it = janitor.end();
        }
        collect_orphans();
        // After one kill nothing may be left that needs a janitor.
        if round.kind != Kind::Single {
            self.sweep_up(round);
        }
        self.nothing_is_left(round.kind != Kind::Single);
        self.ground.check_witness();
        self.judge(round, &runs);
        self.tidy();
    }

    /// Does each deed a while after it could first be done.
    fn do_all(&mut self, round: &Round, scene: &mut Scene<'ground>) {
        let tick = (self.length / 100).clamp(LOOK / 4, LOOK * 4);
        let mut waiting: Vec<(u64, Deed, Option<Instant>)> =
            round.deeds.iter().map(|(after, deed)| (*after, *deed, None)).collect();
        while !waiting.is_empty() {
            let all = self.ground.host().processes();
            let mut later = Vec::new();
            for (after, deed, due) in waiting {
                let can = self.can(round, deed, scene, &all);
                let due =
                    due.or_else(|| can.then(|| Instant::now() + self.length * u32::try_from(after).unwrap() / 1000));
                if can && due.is_some_and(|due| due <= Instant::now()) {
                    self.act(round, deed, scene);
                } else if deed.run().is_some_and(|run| scene.is_over(run, &all)) {
                    self.tally.missed += 1;
                } else {
                    later.push((after, deed, due));
                }
            }
            waiting = later;
            scene.wait_until(Instant::now() + tick);
        }
    }

    /// Whether what the deed is aimed at is there.
    fn can(&self, round: &Round, deed: Deed, scene: &Scene<'_>, all: &[Process]) -> bool {
        match deed {
            Deed::Signal { run, member: Member::Service, .. } | Deed::Rob { run } => {
                self.ground.is_up(&self.domain(round.domains[run]))
            }
            Deed::Signal { run, member, .. } | Deed::Stop { run, member } => scene.find(run, member, all).is_some(),
            Deed::Abandon { run } => scene.find(run, Member::Worker, all).is_some(),
            Deed::Unlink { run } => self.ground.host().lock_of(self.domain(round.domains[run])).path().exists(),
            Deed::Janitor | Deed::KillJanitor | Deed::FillDisk | Deed::FreeDisk | Deed::Restart { .. } => true,
        }
    }

    fn wait_for_the_end(&self, scene: &mut Scene<'_>) {
        // Only a round that fails ever waits that long.
        let end = Instant::now() + host::limit() * 4;
        while let Some(working) = self.working() {
            assert!(Instant::now() < end, "still at work: {working:?}");
            scene.wait_until(Instant::now() + LOOK);
        }
    }

    /// The parts of runs and janitors that are still at work, the witness's aside.
    fn working(&self) -> Option<Vec<Process>> {
        let part = |process: &Process| process.name.starts_with("cc-ci") || process.name.starts_with("ccci-");
        let shell = |process: &Process| process.args.iter().any(|arg| arg.ends_with("/workspace/step.sh"));
        let mut all = self.ground.host().processes();
        all.retain(|process| (part(process) || shell(process)) && !self.ground.witness().contains(&process.pid));
        (!all.is_empty()).then_some(all)
    }

    fn sweep_up(&mut self, round: &Round) {
        let swept = self.sweep(round).end();
        assert!(swept.code == 0, "the sweep: {} {}", swept.out(), swept.err());
        let report = swept.json();
        let reaped = report["findings"].as_array().unwrap().iter().filter(|one| one["finding"] == "reaped").count();
        self.tally.sweeps += 1;
        self.tally.reaped += reaped as u64;
    }

    fn nothing_is_left(&self, with_free_lock_files: bool) {
        let mut processes = self.ground.host().processes();
        processes.retain(|process| !self.ground.witness().contains(&process.pid));
        assert!(processes.is_empty(), "leaked processes: {processes:?}");
        let things = self.ground.things();
        let leaked: Vec<_> = things.difference(&self.before).collect();
        assert!(leaked.is_empty(), "leaked: {leaked:?}");
        let missing: Vec<_> = self.before.difference(&things).collect();
        assert!(missing.is_empty(), "the witness lost {missing:?}");
        let locks: Vec<_> = self.lock_files().into_iter().filter(|(_, held)| *held || with_free_lock_files).collect();
        assert!(locks.is_empty(), "lock files: {locks:?}");
    }

    /// The lock files of the round's apps, and whether each is held.
    fn lock_files(&self) -> Vec<(std::path::PathBuf, bool)> {
        let domains = (0..3).map(|number| self.ground.host().lock_of(self.domain(number)).path().to_owned());
        let there = domains.filter(|path| path.exists());
        there.map(|path| (path.clone(), proc_locks::of(&path).is_ok_and(|entries| !entries.is_empty()))).collect()
    }

    fn judge(&mut self, round: &Round, runs: &[Ended<'_>]) {
        self.tally.runs += runs.len() as u64;
        self.tally.green += runs.iter().filter(|run| run.code == 0).count() as u64;
        for number in round.bystanders() {
            assert_eq!(runs[number].code, 0, "run {number}, at which nobody aimed");
        }
        if matches!(round.kind, Kind::FullDisk | Kind::Restart) {
            return;
        }
        for number in round.bystanders().into_iter().filter(|_| self.learns) {
            self.length = (self.length * 7 + length_of(&runs[number])) / 8;
        }
        // Of a run that lost its lock file nobody may take the app: whatever it tests, it finds.
        let late = round.domains.len()..runs.len();
        for number in round.unhurt().into_iter().chain(late) {
            let results = runs[number].results();
            let failed = results["stages"].as_array().unwrap().iter().find(|stage| stage["outcome"] == "fail");
            assert!(failed.is_none(), "run {number} was taken its app: {:#}", failed.unwrap());
        }
    }

    /// Removes what is no leak: free lock files after a single kill, and run directories.
    fn tidy(&self) {
        let host = self.ground.host();
        for (path, _) in self.lock_files() {
            fs::remove_file(path).unwrap();
        }
        for runs in [host.path("runs"), host.path("small"), host.path("steps")] {
            for name in host::list(&runs) {
                let path = runs.join(&name);
                let of_witness = self.ground.witness_id().is_some_and(|id| id == name);
                if path.is_dir() && !of_witness {
                    fs::remove_dir_all(&path).unwrap();
                } else if !of_witness {
                    fs::remove_file(&path).unwrap();
                }
            }
        }
    }

    fn act(&mut self, round: &Round, deed: Deed, scene: &mut Scene<'ground>) {
        match deed {
            Deed::Signal { run, member: Member::Service, signal } => {
                let hit = self.ground.hit_service(&self.domain(round.domains[run]), signal);
                self.count(hit, Member::Service, signal);
            }
            Deed::Signal { run, member, signal } => drop(self.hit(scene, run, member, signal)),
            Deed::Abandon { run } => {
                // The worker is stopped first, or it would become the reaper.
                let worker = self.hit(scene, run, Member::Worker, Signal::SIGSTOP);
                let _keeper = self.hit(scene, run, Member::Keeper, Signal::SIGKILL);
                worker.iter().for_each(|pid| process::signal(*pid, Signal::SIGKILL));
            }
            Deed::Stop { run, member } => {
                let hit = self.hit(scene, run, member, Signal::SIGSTOP);
                scene.stopped.extend(hit.map(|pid| (Instant::now() + self.length / 3, pid)));
            }
            Deed::Unlink { run } => {
                let gone = self.unlink(round.domains[run]);
                self.tally.unlinked += u64::from(gone);
            }
            Deed::Rob { run } => {
                if self.unlink(round.domains[run]) {
                    scene.runs.push(self.start(round, round.domains[run]));
                    self.tally.robbed += 1;
                }
            }
            Deed::Janitor => {
                self.tally.sweeps += 1;
                scene.janitors.push(self.sweep(round).start());
            }
            Deed::KillJanitor => {
                let all = self.ground.host().processes();
                match all.into_iter().find(|process| process.name == "cc-ci-janitor") {
                    Some(janitor) => {
                        process::signal(janitor.pid, Signal::SIGKILL);
                        *self.tally.signals.entry("SIGKILL to the janitor".to_owned()).or_default() += 1;
                    }
                    None => self.tally.missed += 1,
                }
            }
            Deed::FillDisk => self.disk.iter().for_each(Disk::fill),
            Deed::FreeDisk => self.disk.iter().for_each(Disk::free),
            Deed::Restart { signal } => {
                self.ground.restart(signal);
                self.tally.restarts += 1;
            }
        }
    }

    fn unlink(&self, domain: u64) -> bool {
        fs::remove_file(self.ground.host().lock_of(self.domain(domain)).path()).is_ok()
    }

    /// Sends a signal to a part of a run; to whom.
    fn hit(&mut self, scene: &Scene<'_>, run: usize, member: Member, signal: Signal) -> Option<i32> {
        let hit = scene.find(run, member, &self.ground.host().processes());
        hit.iter().for_each(|pid| process::signal(*pid, signal));
        self.count(hit.is_some(), member, signal);
        hit
    }

    fn count(&mut self, hit: bool, member: Member, signal: Signal) {
        if hit {
            *self.tally.signals.entry(signal.as_str().to_owned()).or_default() += 1;
            *self.tally.members.entry(member).or_default() += 1;
        } else {
            self.tally.missed += 1;
        }
    }
}

impl Scene<'_> {
    /// The process that plays this part in a run now.
    fn find(&self, run: usize, member: Member, all: &[Process]) -> Option<i32> {
        let step = &self.runs[run].1;
        let shell = step.shell();
        let first = |own: &dyn Fn(&Process) -> bool| all.iter().find(|process| own(process)).map(|process| process.pid);
        let role = |role: &str| first(&|process| step.is_part(role, process));
        match member {
            Member::Shell => first(&|process| process.pid == shell),
            Member::Keeper => first(&|process| process.parent == shell && process.name == "cc-ci-run"),
            Member::Worker => role("worker"),
            Member::Reaper => role("reaper"),
            Member::Child => first(&|process| {
                process.carries("CCCI_RUN_ID", step.id())
                    && process.environ.iter().any(|entry| entry.starts_with("CCCI_LOCK="))
                    && !is_part(process, step)
            }),
            // A container's processes are the daemon's children: the ground knows how to reach them.
            Member::Service => None,
        }
    }

    /// Whether shell, keeper, worker and reaper of a run are gone. What a test left behind may still be there:
    /// it is the next run's or the janitor's.
    fn is_over(&self, run: usize, all: &[Process]) -> bool {
        let step = &self.runs[run].1;
        let untagged = |process: &Process| {
            process.carries("CCCI_RUN_ID", step.id())
                && !process.environ.iter().any(|entry| entry.starts_with("CCCI_LOCK="))
        };
        !all.iter().any(|process| untagged(process) || is_part(process, step))
    }

    /// Waits until then, and lets those go on whose stop is over.
    fn wait_until(&mut self, when: Instant) {
        loop {
            let now = Instant::now();
            self.stopped.retain(|(until, pid)| {
                let over = *until <= now;
                if over {
                    process::signal(*pid, Signal::SIGCONT);
                }
                !over
            });
            if now >= when {
                return;
            }
            let next = self.stopped.iter().map(|(until, _)| *until).chain([when]).min().unwrap();
            let _over = ccci_core::process::wait_ready(&mut [], Some(next.saturating_duration_since(now)));
        }
    }
}

/// Whether this is a worker or a reaper of a step's run.
fn is_part(process: &Process, step: &Step<'_>) -> bool {
    ["worker", "reaper"].iter().any(|role| step.is_part(role, process))
}

/// How long a green run took from its lock to its end.
fn length_of(run: &Ended<'_>) -> Duration {
    let results = run.results();
    let phases = results["phases"].as_array().unwrap().iter();
    let at_work = phases.filter(|phase| phase["name"] != "wait");
    Duration::from_millis(at_work.map(|phase| phase["milliseconds"].as_u64().unwrap()).sum())
}

/// Keepers whose shell was killed, and what they had left, have come to this process. The witness lives.
fn collect_orphans() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}
