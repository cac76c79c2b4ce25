//! What is run, and what must hold afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ccci_tests::host::{self, Host};
use ccci_tests::process::Process;
use ccci_tests::step::{Ended, Launch};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::fault::Fault;

/// How long the parts of a run whose step has ended may go on: the teardown's budget is less.
const AFTER: Duration = Duration::from_secs(60);
const SETTINGS: &str = "grace = \"500ms\"\nteardown_budget = \"20s\"\ndeadline = \"60s\"\n";

/// What may come to this process when a run dies, besides the parts of runs.
const ORPHANS: [&str; 5] = ["sleep", "hello-app", "git", "setsid", "true"];

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// All tiers of the example recipe, and all pass.
    Green,
    /// A test fails.
    Red,
    /// A guard whose command exits with 7.
    Guard,
}

impl Scenario {
    pub(crate) const ALL: [Self; 3] = [Self::Green, Self::Red, Self::Guard];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Red => "red",
            Self::Guard => "guard",
        }
    }

    /// What it exits with when nothing disturbs it.
    const fn own_code(self) -> i32 {
        match self {
            Self::Green => 0,
            Self::Red => 1,
            Self::Guard => 7,
        }
    }
}

/// A part of the promise that did not hold.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) what: &'static str,
    pub(crate) how: String,
}

/// A host on which a scenario is run again and again.
pub(crate) struct Stage {
    host: Host,
    inject: PathBuf,
    scenario: Scenario,
}

impl Stage {
    pub(crate) fn new(inject: &Path, scenario: Scenario) -> Self {
        let host = Host::new();
        host.settings(SETTINGS);
        let folder = host.folder("hello").script("test_install.sh", "setsid sleep 1000 >/dev/null 2>&1 &");
        let folder = folder.script("hooks/pre_backup", "true").script("custom/first.sh", "true");
        let _folder = match scenario {
            Scenario::Red => folder.script("test_restore.sh", "exit 1"),
            Scenario::Green | Scenario::Guard => folder,
        };
        Self { host, inject: inject.to_owned(), scenario }
    }

    fn report(&self) -> PathBuf {
        self.host.path("report")
    }

    fn journal(&self) -> PathBuf {
        self.host.path("journal")
    }

    fn launch(&self) -> Launch<'_> {
        match self.scenario {
            Scenario::Green | Scenario::Red => self.host.run(),
            Scenario::Guard => {
                let journal = self.journal().display().to_string();
                let down = format!("echo down >>'{journal}'");
                self.host.guard("db", &["--teardown", &down], &format!("echo ran >>'{journal}'; exit 7"))
            }
        }
    }

    fn injected(&self, call: &str, nth: u64, errno: i32, span: u64) -> Ended<'_> {
        let (inject, report) = (self.inject.display().to_string(), self.report().display().to_string());
        let (nth, errno, span) = (nth.to_string(), errno.to_string(), span.to_string());
        let mut words = vec![inject.as_str(), "--call", call, "--nth", &nth, "--errno", &errno];
        words.extend(["--span", &span, "--report", &report, "--"]);
        let ended = self.launch().under(&words).end();
        collect_orphans();
        ended
    }

    /// How often an undisturbed run makes this call.
    pub(crate) fn count(&self, call: &str) -> u64 {
        let code = self.injected(call, 0, 0, 1).code;
        assert_eq!(code, self.scenario.own_code(), "{}, undisturbed: {call}", self.scenario.name());
        let text = fs::read_to_string(self.report()).unwrap();
        if let Some(dir) = crate::option("trace") {
            fs::create_dir_all(&dir).unwrap();
            fs::write(Path::new(&dir).join(format!("{}-{call}", self.scenario.name())), &text).unwrap();
        }
        self.tidy();
        text.lines().next().unwrap().parse().unwrap()
    }

    /// Who was hit, and where.
    pub(crate) fn hit(&self) -> String {
        let text = fs::read_to_string(self.report()).unwrap_or_default();
        let hits: Vec<&str> = text.lines().skip(1).take(3).collect();
        if hits.is_empty() { "nobody was hit".to_owned() } else { hits.join("; ") }
    }

    /// Runs it with a fault; what did not hold.
    pub(crate) fn play(&mut self, fault: &Fault) -> Vec<Broken> {
        let ended = self.injected(fault.call, fault.nth, fault.error.number, fault.span);
        let mut broken = Vec::new();
        let mut fails = |what, how: String| broken.push(Broken { what, how });
        if let Some(working) = self.still_working() {
            fails("ends", format!("still at work: {working:?}"));
        }
        let code = ended.code;
        let own = self.scenario.own_code();
        if code == 0 && own != 0 {
            fails("never falsely green", "exit 0".to_owned());
        } else if code != own && code != 69 && !before_main(&ended) {
            let said = ended.err() + &ended.out();
            let said: Vec<&str> = said.lines().rev().filter(|line| !line.contains("level=")).take(12).collect();
            let said = said.into_iter().find(|line| line.contains("exit ") || line.contains("panicked"));
            fails("whose fault", format!("exit {code}: {}", said.unwrap_or_default()));
        }
        let swept = self.host.command(&["cc-ci-janitor", "sweep", "--json"]).end();
        if swept.code != 0 {
            fails("one sweep is enough", format!("it exits {}: {}", swept.code, swept.err().trim()));
        }
        let mut left = self.host.leftovers();
        left.extend(temporary_files(&self.host));
        if !left.is_empty() {
            fails("nothing is left", left.join(", "));
        }
        if let Some(how) = self.concluded(&ended) {
            fails("the result agrees", how);
        }
        if self.scenario == Scenario::Guard {
            // What the next guard of the name still finds to do counts too.
            let next = self.host.guard("db", &[], "exit 0").end();
            if next.code != 0 {
                fails("the name is free", format!("the next guard exits {}: {}", next.code, next.err().trim()));
            }
            let journal = fs::read_to_string(self.journal()).unwrap_or_default();
            let (ran, down) = (journal.matches("ran\n").count(), journal.matches("down\n").count());
            if ran > 1 || down > 1 || (ran == 1 && down == 0) || (code == own && ran == 0) {
                fails("one teardown", format!("exit {code}, command ran {ran} times, teardown {down} times"));
            }
        }
        if broken.is_empty() {
            self.tidy();
        }
        broken
    }

    /// Parts of the run that are still there long after it.
    fn still_working(&self) -> Option<Vec<Process>> {
        let part = |process: &Process| process.name.starts_with("cc-ci") || process.name.starts_with("ccci-");
        let end = Instant::now() + AFTER;
        loop {
            let mut all = self.host.processes();
            all.retain(part);
            if all.is_empty() {
                return None;
            }
            if Instant::now() > end {
                return Some(all);
            }
            let _over = ccci_core::process::wait_ready(&mut [], Some(Duration::from_millis(20)));
        }
    }

    /// What is wrong with the result of the run.
    fn concluded(&self, ended: &Ended<'_>) -> Option<String> {
        // One that never got a directory has nothing to say; a clean guard's is removed.
        let dir = ended.run_dir.as_ref().filter(|dir| dir.exists())?;
        if host::list(dir).is_empty() || self.scenario == Scenario::Guard {
            return None;
        }
        let path = dir.join("results.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) => {
                return Some(format!("exit {}, results.json: {error}; there are {:?}", ended.code, host::list(dir)));
            }
        };
        let results: serde_json::Value = match serde_json::from_slice(&text) {
            Ok(results) => results,
            Err(error) => return Some(format!("results.json: {error}")),
        };
        if results["exit_code"] != ended.code {
            return Some(format!("exit {}, results.json says {}", ended.code, results["exit_code"]));
        }
        if ended.code == 0 {
            let stages = results["stages"].as_array().cloned().unwrap_or_default();
            let passed = stages.iter().filter(|stage| stage["outcome"] == "pass").count();
            if results["verdict"] != "green" || passed != 5 {
                return Some(format!("exit 0, verdict {}, {passed} of 5 tiers passed", results["verdict"]));
            }
        }
        None
    }

    fn tidy(&self) {
        let _none_yet = fs::remove_file(self.journal());
        for dir in ["runs", "steps", "locks"] {
            for name in host::list(&self.host.path(dir)) {
                let path = self.host.path(dir).join(name);
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.unwrap();
            }
        }
        collect_orphans();
    }
}

/// Whether the program never began: its loader could not read a library.
fn before_main(ended: &Ended<'_>) -> bool {
    ended.code == 127 && ended.err().contains("error while loading shared libraries")
}

/// Half-made files outside of the run's own directory.
fn temporary_files(host: &Host) -> Vec<String> {
    let places = ["locks", "state", "state/local", "runs", "tmp"].map(|dir| (dir, host::list(&host.path(dir))));
    let found = places.iter().flat_map(|(dir, names)| names.iter().map(move |name| format!("{dir}/{name}")));
    found.filter(|path| path.contains("/.new-") || path.starts_with("tmp/")).collect()
}

/// The injector's listener and what a run left have come to this process. Other threads' steps are not to be taken from
/// them, so it goes by name.
fn collect_orphans() {
    let me = nix::unistd::getpid().to_string();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.rsplit_once(')') else { continue };
        let name = name.split_once('(').map_or("", |(_, name)| name);
        let mut fields = rest.split_ascii_whitespace();
        let dead_child = fields.next() == Some("Z") && fields.next() == Some(&me);
        if dead_child && (ORPHANS.contains(&name) || name.starts_with("cc")) {
            let _collected = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}
