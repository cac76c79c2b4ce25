//! A real Swarm in a Docker of the tests' own. The witness is another's stack with one of everything.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;

use ccci_core::name::Domain;
use ccci_tests::host::{Host, until};
use ccci_tests::step::Launch;
use ccci_tests::swarm::{Daemon, RECIPE, SwarmHost, daemon};
use nix::sys::signal::Signal;

use super::{Ground, env_files};
use crate::round::Kind;

/// The witness's stack. It begins like an app's of ours, and is none.
const WITNESS: &str = "pair-witness";
const STACK: &str = r#"version: "3.8"
services:
  app:
    image: ccci-test:1
    command: ["run"]
    volumes: ["data:/data"]
    secrets: [token]
    configs: [{source: conf, target: /conf}]
    networks: [own, proxy]
networks: {own: {}, proxy: {external: true}}
volumes: {data: {}}
secrets: {token: {file: ./witness.yml}}
configs: {conf: {file: ./witness.yml}}
"#;
/// The label of whatever belongs to a stack.
const LABEL: &str = "label=com.docker.stack.namespace";

pub(crate) struct OnSwarm {
    swarm: SwarmHost,
    /// What the witness and the daemon itself are made of.
    before: BTreeSet<String>,
    container: RefCell<String>,
    restarted: Cell<bool>,
    none: BTreeSet<i32>,
}

impl OnSwarm {
    pub(crate) fn new() -> Self {
        let swarm = SwarmHost::new();
        swarm.host.settings("grace = \"1s\"\nteardown_budget = \"60s\"\n");
        let file = swarm.host.path("witness.yml");
        fs::write(&file, STACK).unwrap();
        let deploy = ["stack", "deploy", "--resolve-image", "never", "--compose-file", file.to_str().unwrap(), WITNESS];
        let _said = daemon().cli(&deploy);
        let _folder =
            swarm.folder(RECIPE).script("test_install.sh", "(setsid sleep 1000 >/dev/null 2>&1 &)\nsleep 0.5\n");
        Self {
            swarm,
            before: identities(daemon()),
            container: RefCell::new(running_witness()),
            restarted: Cell::new(false),
            none: BTreeSet::new(),
        }
    }
}

/// The running container of the witness, as soon as there is one.
fn running_witness() -> String {
    until("the witness runs", || {
        let filter = format!("{LABEL}={WITNESS}");
        Some(daemon().cli(&["ps", "--quiet", "--no-trunc", "--filter", &filter])).filter(|id| !id.is_empty())
    })
}

/// Everything in Docker that lasts, by what makes it itself and no other of its name.
fn identities(daemon: &Daemon) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    // A daemon makes its local networks anew when it starts.
    let lists = [("service", ""), ("network", "scope=swarm"), ("secret", ""), ("config", "")];
    for (kind, filter) in lists {
        let mut words = vec![kind, "ls", "--format", "{{.ID}} {{.Name}}"];
        if !filter.is_empty() {
            words.extend(["--filter", filter]);
        }
        all.extend(daemon.cli(&words).lines().map(|line| format!("{kind} {line}")));
    }
    for name in daemon.cli(&["volume", "ls", "--quiet"]).lines() {
        all.insert(format!(
            "volume {}",
            daemon.cli(&["volume", "inspect", "--format", "{{.CreatedAt}} {{.Name}}", name])
        ));
    }
    all
}

impl Ground for OnSwarm {
    fn host(&self) -> &Host {
        &self.swarm.host
    }

    fn recipe(&self) -> &'static str {
        RECIPE
    }

    fn kinds(&self) -> &'static [Kind] {
        use Kind::{FullDisk, Restart, Several, Single, Unlinked};
        &[Single, Single, Single, Single, Several, Several, Unlinked, FullDisk, Restart, Restart]
    }

    fn run(&self, pr: u64) -> Launch<'_> {
        self.swarm.run().env("PR", &pr.to_string()).env("STAGES", "install")
    }

    fn sweep(&self) -> Launch<'_> {
        self.swarm.there(self.swarm.host.command(&["cc-ci-janitor", "sweep", "--json"]))
    }

    fn things(&self) -> BTreeSet<String> {
        let mut all = env_files(&self.swarm.host);
        all.extend(identities(daemon()));
        let format = "{{.Label \"com.docker.stack.namespace\"}} {{.Names}}";
        let containers = daemon().cli(&["ps", "--all", "--format", format]);
        let others = containers.lines().filter(|line| line.split(' ').next() != Some(WITNESS));
        all.extend(others.map(|line| format!("container {line}")));
        all
    }

    fn is_up(&self, domain: &Domain) -> bool {
        !daemon().cli(&["ps", "--quiet", "--filter", &format!("{LABEL}={}", domain.stack_name())]).is_empty()
    }

    fn hit_service(&self, domain: &Domain, signal: Signal) -> bool {
        let containers = daemon().cli(&["ps", "--quiet", "--filter", &format!("{LABEL}={}", domain.stack_name())]);
        let Some(container) = containers.lines().next() else { return false };
        // It may be on its way out already.
        daemon().try_cli(&["kill", "--signal", signal.as_str(), container])
    }

    fn restart(&self, signal: Signal) {
        daemon().restart(signal);
        self.restarted.set(true);
    }

    fn witness_id(&self) -> Option<&str> {
        None
    }

    fn witness(&self) -> &BTreeSet<i32> {
        &self.none
    }

    fn check_witness(&self) {
        let now = identities(daemon());
        let missing: Vec<_> = self.before.difference(&now).cloned().collect();
        assert!(missing.is_empty(), "the witness lost {missing:?}");
        let container = running_witness();
        if self.restarted.take() {
            // The daemon's own doing.
            self.container.replace(container);
        } else {
            assert_eq!(*self.container.borrow(), container, "the witness had to start again");
        }
    }
}
