//! The `local` engine: services are processes, and the witness is a run that holds its lock all the time.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ccci_core::name::Domain;
use ccci_tests::gate::Gate;
use ccci_tests::host::{self, Host};
use ccci_tests::process::{self, Process};
use ccci_tests::step::{Launch, Step};
use nix::sys::signal::Signal;

use super::{Ground, env_files};
use crate::round::Kind;

/// An app that is up at once, with all that an app can have.
const RECIPE_TOML: &str = "[health]\nnone = \"it has no port\"\n\
    [timeouts]\ndeploy = \"20s\"\nmonitor = \"0s\"\ntest = \"1m\"\n[local.services.app]\n\
    command = [\"sleep\", \"infinity\"]\nvolumes = [\"data\"]\nsecrets = [\"key\"]\n";
/// Leaves a process behind that left its session.
const TEST: &str = "#!/bin/sh\n(setsid sleep 1000 >/dev/null 2>&1 &)\nsleep 0.05\n";

pub(crate) struct Local<'host> {
    host: &'host Host,
    step: Step<'host>,
    gate: Gate,
    processes: BTreeSet<i32>,
}

impl<'host> Local<'host> {
    pub(crate) fn new(host: &'host Host) -> Self {
        host.settings("grace = \"300ms\"\nteardown_budget = \"30s\"\ndeadline = \"48h\"\n");
        let gate = host.gate("witness");
        // It stands in its test as long as the others play.
        let patient = RECIPE_TOML.replace("test = \"1m\"", "test = \"24h\"");
        let _folder = host.folder("hello").toml(&patient).script("test_install.sh", &gate.pass());
        let step = host.run().env("STAGES", "install").start();
        gate.reached();
        let processes = host.processes().iter().map(|process| process.pid).collect();
        let folder = host.path("chaos/hello");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("recipe.toml"), RECIPE_TOML).unwrap();
        let test = folder.join("test_install.sh");
        fs::write(&test, TEST).unwrap();
        fs::set_permissions(&test, fs::Permissions::from_mode(0o755)).unwrap();
        Self { host, step, gate, processes }
    }

    /// Lets the witness end, as if nothing had been.
    pub(crate) fn leave(self) {
        self.gate.open();
        let _green = self.step.end().expect_clean(0);
    }

    fn service(&self, domain: &Domain) -> Option<i32> {
        let mark = format!("/{domain}/");
        let own = |process: &Process| {
            process.environ.iter().any(|entry| entry.starts_with("CCCI_LOCAL_SERVICE=") && entry.contains(&mark))
        };
        self.host.processes().into_iter().find(own).map(|process| process.pid)
    }
}

impl Ground for Local<'_> {
    fn host(&self) -> &Host {
        self.host
    }

    fn recipe(&self) -> &'static str {
        "hello"
    }

    fn kinds(&self) -> &'static [Kind] {
        use Kind::{FullDisk, Several, Single, Unlinked};
        &[Single, Single, Single, Single, Several, Several, Several, Unlinked, Unlinked, FullDisk]
    }

    fn run(&self, pr: u64) -> Launch<'_> {
        let tests = self.host.path("chaos").display().to_string();
        self.host.run().env("PR", &pr.to_string()).env("STAGES", "install").env("CCCI_TESTS_DIR", &tests)
    }

    fn sweep(&self) -> Launch<'_> {
        self.host.command(&["cc-ci-janitor", "sweep", "--json"])
    }

    fn things(&self) -> BTreeSet<String> {
        let mut all = env_files(self.host);
        all.extend(host::list(&self.host.path("state/local")).iter().map(|name| format!("app {name}")));
        all
    }

    fn is_up(&self, domain: &Domain) -> bool {
        self.service(domain).is_some()
    }

    fn hit_service(&self, domain: &Domain, signal: Signal) -> bool {
        let service = self.service(domain);
        service.inspect(|pid| process::signal(*pid, signal)).is_some()
    }

    fn restart(&self, _signal: Signal) {
        unreachable!("there is no daemon, and no such round");
    }

    fn witness_id(&self) -> Option<&str> {
        Some(self.step.id())
    }

    fn witness(&self) -> &BTreeSet<i32> {
        &self.processes
    }

    fn check_witness(&self) {
        let dead: Vec<_> = self.processes.iter().filter(|pid| Process::of(**pid).is_none()).collect();
        assert!(dead.is_empty(), "the witness lost processes {dead:?}");
    }
}
