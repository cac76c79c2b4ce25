//! A host of one's own: directories, settings, a recipe repository, and nothing shared with any other
//! test. The local engine's addresses follow from the domain, so every host has its own PR number.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ccci_core::lock::LockPath;
use ccci_core::lock::proc_locks::{self, Entry};
use ccci_core::name::{BaseDomain, Domain, GuardName, LockName, RecipeName};
use ccci_core::process::Job;
use nix::sys::signal::Signal;

use crate::binaries;
use crate::folder::Folder;
use crate::gate::Gate;
use crate::process::{self, HOST_VAR, Process};
use crate::step::Launch;

/// The base domain of every test host: the default one.
pub const BASE: &str = "cc-ci.localhost";
/// The variable with the seconds after which a wait fails the test.
pub const LIMIT_VAR: &str = "CCCI_TEST_LIMIT";
/// What a step runs under so that even root's permission bits count.
pub const NO_PRIVILEGES: [&str; 3] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
/// A look at something that nothing announces is repeated after this.
const LOOK: Duration = Duration::from_millis(5);

/// How long a test waits for what should happen. Only a failing test ever waits that long.
#[must_use]
pub fn limit() -> Duration {
    Duration::from_secs(std::env::var(LIMIT_VAR).ok().and_then(|text| text.parse().ok()).unwrap_or(300))
}

/// Looks until there is something to see; fails the test at the limit.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        let _over = ccci_core::process::wait_ready(&mut [], Some(LOOK));
    }
}

/// A host.
#[derive(Debug)]
pub struct Host {
    root: tempfile::TempDir,
    pr: u64,
    steps: AtomicU64,
}

impl Host {
    /// A fresh host with the example recipe's repository and a plain test folder for it.
    #[must_use]
    pub fn new() -> Self {
        // Orphans come to this process instead of to init: a keeper whose shell was killed can still
        // be asked for its exit status, and nothing escapes.
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let pr = u64::from(std::process::id()) * 1000 + NEXT.fetch_add(1, Ordering::Relaxed);
        let host = Self {
            root: tempfile::Builder::new().prefix("ccci-test-").tempdir().unwrap(),
            pr,
            steps: AtomicU64::new(0),
        };
        for dir in ["locks", "tests", "gates", "steps", "bin", "abra/servers", "abra/catalogue", "tmp"] {
            fs::create_dir_all(host.path(dir)).unwrap();
        }
        host.settings("");
        host.recipe("hello");
        let _plain = host.folder("hello");
        host
    }

    /// A path on this host.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The tag of its processes.
    #[must_use]
    pub fn tag(&self) -> String {
        self.root.path().display().to_string()
    }

    /// Its own pull request's number.
    #[must_use]
    pub const fn pr(&self) -> u64 {
        self.pr
    }

    /// Replaces the settings besides the directories.
    pub fn settings(&self, more: &str) {
        let dirs = ["locks", "runs", "state", "abra"];
        let keys = ["lock_dir", "runs_dir", "state_dir", "abra_dir"];
        let mut text = String::new();
        for (key, dir) in keys.iter().zip(dirs) {
            text += &format!("{key} = \"{}\"\n", self.path(dir).display());
        }
        fs::write(self.path("settings.toml"), text + more).unwrap();
    }

    /// The repository of a recipe with two releases, a copy of the example.
    pub fn recipe(&self, name: &str) -> PathBuf {
        let dir = self.path("recipes").join(name);
        if !dir.exists() {
            Job::new(binaries::workspace().join("tests/fixtures/make-recipe.sh"))
                .args(["hello".as_ref(), dir.as_os_str()])
                .run_ok(&mut |_| {})
                .unwrap();
        }
        dir
    }

    /// A fresh test folder for a recipe.
    pub fn folder(&self, recipe: &str) -> Folder {
        let path = self.path("tests").join(recipe);
        if path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        Folder::new(&self.path("tests"), recipe)
    }

    /// A gate that scripts of a run can stand at.
    #[must_use]
    pub fn gate(&self, name: &str) -> Gate {
        Gate::new(&self.path("gates"), name)
    }

    /// Puts a program first on the `PATH` of every step.
    pub fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A step that runs the example recipe.
    #[must_use]
    pub fn run(&self) -> Launch<'_> {
        self.run_of("hello")
    }

    /// A step that runs a recipe.
    #[must_use]
    pub fn run_of(&self, recipe: &str) -> Launch<'_> {
        let id = self.next_id();
        let src = self.path("recipes").join(recipe);
        let pr = self.pr.to_string();
        Launch::new(self, &id)
            .env("CCCI_RUN_ID", &id)
            .env("CCCI_TESTS_DIR", &self.path("tests").display().to_string())
            .env("SRC", &src.display().to_string())
            .env("PR", &pr)
            .env("CCCI_ENGINE", "local")
            .args(["cc-ci-run", "run", recipe])
    }

    /// A step that guards a command.
    #[must_use]
    pub fn guard(&self, name: &str, options: &[&str], command: &str) -> Launch<'_> {
        let words = ["cc-ci-run", "guard", "--name", name];
        let launch = Launch::new(self, &self.next_id()).args(words).args(options.iter().copied());
        launch.args(["--", "sh", "-c", command])
    }

    /// A step that does anything else.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Launch<'_> {
        Launch::new(self, &self.next_id()).args(words.iter().copied())
    }

    fn next_id(&self) -> String {
        format!("r{}", self.steps.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The domain of a recipe's run on this host.
    #[must_use]
    pub fn domain_of(&self, recipe: &str, pr: u64, git_ref: &str) -> Domain {
        let base = BaseDomain::new(BASE).unwrap();
        Domain::derive(&RecipeName::new(recipe).unwrap(), &pr.to_string(), git_ref, &base)
    }

    /// The domain of a plain [`Host::run`].
    #[must_use]
    pub fn domain(&self) -> Domain {
        self.domain_of("hello", self.pr, "")
    }

    /// The lock of a plain [`Host::run`].
    #[must_use]
    pub fn app_lock(&self) -> LockPath {
        LockPath::new(&self.path("locks"), LockName::App(self.domain()))
    }

    /// The lock of a guard.
    #[must_use]
    pub fn guard_lock(&self, name: &str) -> LockPath {
        LockPath::new(&self.path("locks"), LockName::Guard(GuardName::new(name).unwrap()))
    }

    /// The lock of any domain's app.
    #[must_use]
    pub fn lock_of(&self, domain: Domain) -> LockPath {
        LockPath::new(&self.path("locks"), LockName::App(domain))
    }

    /// The kernel's word on a lock: holder and waiters.
    #[must_use]
    pub fn kernel_on(&self, lock: &LockPath) -> Vec<Entry> {
        proc_locks::of(lock.path()).unwrap_or_default()
    }

    /// Where the local engine keeps the app of a plain [`Host::run`].
    #[must_use]
    pub fn app_dir(&self) -> PathBuf {
        self.path("state/local").join(self.domain().as_str())
    }

    /// The env file of a domain's app, in the canonical place.
    #[must_use]
    pub fn env_file(&self, domain: &Domain) -> PathBuf {
        self.path("abra/servers/ccci-local").join(format!("{domain}.env"))
    }

    /// The live processes of this host.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        process::of_host(&self.tag())
    }

    /// The pids of a local service of a plain [`Host::run`].
    #[must_use]
    pub fn service(&self, name: &str) -> Vec<i32> {
        let value = self.service_mark(name);
        let own = self.processes().into_iter().filter(|process| process.carries("CCCI_LOCAL_SERVICE", &value));
        own.map(|process| process.pid).collect()
    }

    /// What the processes of a local service carry.
    #[must_use]
    pub fn service_mark(&self, name: &str) -> String {
        self.app_dir().join(name).display().to_string()
    }

    /// What is left of the runs on this host, besides their directories.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = self.processes().iter().map(|process| format!("process {process}")).collect();
        for (what, dir) in [("lock file", "locks"), ("app directory", "state/local")] {
            left.extend(list(&self.path(dir)).iter().map(|name| format!("{what} {name}")));
        }
        for server in list(&self.path("abra/servers")) {
            let files = list(&self.path("abra/servers").join(&server));
            left.push(format!("server directory {server} with {files:?}"));
        }
        left.retain(|line| !line.starts_with("lock file cc-ci-slot-") && line != "lock file cc-ci-host.lock");
        left
    }

    /// Fails when anything is left.
    #[track_caller]
    pub fn assert_clean(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }

    /// Waits until the parts of dead runs have finished, then fails when anything is left.
    #[track_caller]
    pub fn assert_soon_clean(&self) {
        let parts = |process: &Process| process.name.starts_with("cc-ci") || process.name.starts_with("ccci-");
        until("the run's own parts end", || (!self.processes().iter().any(parts)).then_some(()));
        self.assert_clean();
    }

    /// Everything that one would look up.
    fn report(&self) -> String {
        let mut text = format!("host {}\n", self.tag());
        let mut add = |title: &str, body: String| text += &format!("--- {title}\n{}\n", body.trim_end());
        add("processes", self.processes().iter().map(|process| format!("{process}\n")).collect());
        let mut locks = String::new();
        for name in list(&self.path("locks")) {
            let path = self.path("locks").join(&name);
            let kernel = proc_locks::of(&path).unwrap_or_default();
            let record = fs::read_to_string(&path).unwrap_or_default();
            locks += &format!("{name} kernel: {kernel:?}\n   {}\n", record.trim());
        }
        add("locks", locks);
        add("apps", format!("{:?}", list(&self.path("state/local"))));
        add("journal", fs::read_to_string(self.path("journal")).unwrap_or_default());
        for run in list(&self.path("runs")) {
            let dir = self.path("runs").join(&run);
            add(&format!("run directory {}", dir.display()), list(&dir).join("  "));
            add("events.jsonl", fs::read_to_string(dir.join("events.jsonl")).unwrap_or_default());
            add("run.log", tail(&fs::read_to_string(dir.join("run.log")).unwrap_or_default(), 60));
        }
        for step in list(&self.path("steps")) {
            let dir = self.path("steps").join(&step);
            for file in ["out", "err"] {
                add(&format!("step {step} {file}"), tail(&read_lossy(&dir.join(file)), 30));
            }
        }
        text
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            use std::io::Write as _;
            let _unseen = writeln!(std::io::stderr(), "{}", self.report());
        }
        // Stopped first, so that nobody starts another while the list is gone through.
        for _ in 0..50 {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
                processes.iter().for_each(|process| process::signal(process.pid, signal));
            }
            for process in &processes {
                let _gone = process::wait_gone(process.pid, Duration::from_secs(5));
            }
        }
    }
}

/// The names in a directory, sorted; none when there is no such directory.
#[must_use]
pub fn list(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The variable and value that tag a process of the host.
pub(crate) fn tag_var(host: &Host) -> (&'static str, String) {
    (HOST_VAR, host.tag())
}
