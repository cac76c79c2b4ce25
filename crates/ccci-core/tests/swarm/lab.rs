//! A Docker of the test's own, and apps on it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use ccci_core::config::Places;
use ccci_core::docker::answers::{Task, TaskState};
use ccci_core::docker::change::Mark;
use ccci_core::docker::command::Deploy;
use ccci_core::docker::events::Event;
use ccci_core::docker::{Docker, Endpoint};
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lock::{AppLock, LockPath};
use ccci_core::name::{BaseDomain, Domain, LockName, RecipeName};
use ccci_core::process::Job;
use ccci_core::process::tagged::{Tag, lock_mark};
use ccci_core::substrate::Substrate;
use ccci_core::substrate::swarm::Swarm;
use ccci_core::teardown::{Receipt, Teardown, take_down};
use jiff::Timestamp;

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The daemon that all tests share. It ends with this process, however that ends: its keeper reads
/// from a FIFO whose other end is open here.
static SHARED: LazyLock<Endpoint> = LazyLock::new(|| match std::env::var("CCCI_TEST_DOCKER") {
    Ok(address) => Endpoint::parse(&address).unwrap(),
    Err(_) => start(),
});

/// Where the scripts are.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/docker")
}

/// Starts a daemon that ends with this process.
pub(crate) fn start() -> Endpoint {
    // The daemon's keeper removes it.
    let dir = tempfile::Builder::new().prefix("ccci-docker-").tempdir().unwrap().keep();
    let fifo = dir.join("alive");
    Job::new("mkfifo").args([&fifo]).run_ok(&mut |_| {}).unwrap();
    // Opened for both, so that it does not wait for the reader. Open as long as this process lives.
    std::mem::forget(std::fs::File::options().read(true).write(true).open(&fifo).unwrap());
    let up = Job::new(scripts().join("up.sh")).args([&dir, &fifo]).capture().run_ok(&mut |line| eprintln!("{line}"));
    let address = String::from_utf8(up.unwrap_or_else(|error| panic!("no Docker: {error}")).stdout).unwrap();
    Endpoint::parse(address.trim()).unwrap()
}

/// The shared daemon.
pub(crate) fn docker() -> Docker {
    Docker::new(SHARED.clone())
}

/// Runs the `docker` program; what it printed.
pub(crate) fn cli(docker: &Docker, args: &[&str]) -> String {
    let done = docker.job(args).capture().run_ok(&mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// An app, its lock, and the directories of the host that it is on.
pub(crate) struct App {
    pub(crate) docker: Docker,
    pub(crate) base: BaseDomain,
    pub(crate) domain: Domain,
    pub(crate) stack: String,
    pub(crate) places: Places,
    pub(crate) lock: AppLock,
    dir: tempfile::TempDir,
}

impl App {
    /// An app that nothing exists of. `name` tells the tests' apps apart.
    pub(crate) fn new(name: &str) -> Self {
        Self::on(docker(), name, "ci.x")
    }

    /// An app on this daemon, under this base domain.
    pub(crate) fn on(docker: Docker, name: &str, base: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = BaseDomain::new(base).unwrap();
        // The process id, so that two runs of the tests can share a daemon.
        let domain = Domain::derive(&RecipeName::new("hello").unwrap(), name, &std::process::id().to_string(), &base);
        let places = Places {
            lock_dir: dir.path().join("lock"),
            runs_dir: dir.path().join("runs"),
            state_dir: dir.path().join("state"),
            abra_dir: dir.path().join("abra"),
            fallback: false,
        };
        std::fs::create_dir_all(&places.lock_dir).unwrap();
        let at = LockPath::new(&places.lock_dir, LockName::App(domain.clone()));
        let lock = at.try_acquire(true).unwrap().unwrap();
        let stack = domain.stack_name();
        Self { docker, base, domain, stack, places, lock, dir }
    }

    /// The substrate under test.
    pub(crate) fn swarm(&self) -> Swarm {
        Swarm::new(Docker::new(self.docker.endpoint().clone()), &self.places)
    }

    /// Writes the env file as abra would.
    pub(crate) fn write_env(&self) -> PathBuf {
        let path = ccci_core::substrate::env_file::path(&self.places.abra_dir, "default", &self.domain);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "TYPE=hello\n").unwrap();
        path
    }

    /// Deploys two services with a volume, a secret, a config, a network of their own and `external`.
    pub(crate) fn deploy(&self, external: &str, command: &str) {
        self.docker.create_secret(&format!("{}_pw_v1", self.stack), &self.mark(), b"hunter2hunter2").unwrap();
        let text = compose(external, command);
        self.deploy_text(&text);
        self.wait_for(2);
    }

    /// Deploys a stack file, in which `STACK_NAME` is known.
    pub(crate) fn deploy_text(&self, text: &str) {
        let file = self.dir.path().join(format!("{}.yml", self.stack));
        std::fs::write(&file, text.replace("${STACK_NAME}", &self.stack)).unwrap();
        let deploy = Deploy { stack: self.stack.clone(), files: vec![file], ..Deploy::default() };
        self.docker.stack_deploy(&deploy, PATIENCE, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    }

    /// As a version before the run's label marked things: by the stack alone.
    pub(crate) fn mark(&self) -> Mark {
        Mark { stack: self.stack.clone(), domain: String::new(), run: String::new() }
    }

    /// Waits until `number` tasks run.
    pub(crate) fn wait_for(&self, number: usize) {
        assert!(self.runs_within(number, PATIENCE), "{number} tasks should run: {:#?}", self.docker.tasks());
    }

    /// Whether `number` tasks run before `limit` is over.
    pub(crate) fn runs_within(&self, number: usize, limit: Duration) -> bool {
        runs_within(&self.docker, &self.stack, number, limit)
    }

    /// Takes the app down, as the reaper does.
    pub(crate) fn take_down(&self, budget: Duration) -> Receipt {
        self.take_down_by(Box::new(self.swarm()), budget)
    }

    pub(crate) fn take_down_by(&self, substrate: Box<dyn Substrate>, budget: Duration) -> Receipt {
        let tag = Tag::Lock(lock_mark(self.lock.at().path()));
        let teardown = Teardown {
            lock: &self.lock,
            substrates: &[substrate],
            domain: &self.domain,
            planned: &[],
            tag: &tag,
            grace: Duration::ZERO,
            budget,
        };
        take_down(&teardown, &mut |_| {})
    }

    /// What Docker's own program shows of the stack: not our code, and by nothing but the name.
    pub(crate) fn shown_by_docker(&self) -> Vec<String> {
        shown_by_docker(&self.docker, &self.stack)
    }
}

/// Whether `number` tasks of `stack` run before `limit` is over.
pub(crate) fn runs_within(docker: &Docker, stack: &str, number: usize, limit: Duration) -> bool {
    let until = Deadline::after(limit);
    loop {
        let since = Timestamp::now();
        let tasks = docker.tasks().unwrap();
        let running = |task: &&Task| task.stack() == Some(stack) && task.status.state == TaskState::Running;
        if tasks.iter().filter(running).count() == number {
            return true;
        }
        if until.passed() {
            return false;
        }
        docker.wait_for_change(&[Event::Container], since, Duration::from_millis(200)).unwrap();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // A test that failed leaves nothing either: the daemon may be one that others use too.
        if std::thread::panicking() {
            let receipt = self.take_down(PATIENCE);
            eprintln!("taken down after the failure: {}", receipt.is_clean());
        }
    }
}

/// What Docker's own program shows that begins with `name`, as `kind name`.
pub(crate) fn shown_by_docker(docker: &Docker, name: &str) -> Vec<String> {
    let mut shown = Vec::new();
    for (kind, args) in [
        ("service", &["service", "ls", "--format", "{{.Name}}"][..]),
        ("container", &["ps", "--all", "--format", "{{.Names}}"]),
        ("network", &["network", "ls", "--format", "{{.Name}}"]),
        ("volume", &["volume", "ls", "--format", "{{.Name}}"]),
        ("secret", &["secret", "ls", "--format", "{{.Name}}"]),
        ("config", &["config", "ls", "--format", "{{.Name}}"]),
    ] {
        let names = cli(docker, args);
        let ours = names.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('_')));
        shown.extend(ours.map(|line| format!("{kind} {line}")));
    }
    shown.sort();
    shown
}

/// A recipe of two services.
pub(crate) fn compose(external: &str, command: &str) -> String {
    format!(
        r#"version: "3.8"
services:
  app:
    image: ccci-test:1
    command: ["{command}"]
    stop_grace_period: 2s
    networks: [internal, outside]
    volumes: ["data:/data"]
    secrets: [pw]
    configs: [{{source: conf, target: /conf}}]
  db:
    image: ccci-test:1
    networks: [internal]
    volumes: ["dbdata:/data"]
networks:
  internal: {{}}
  outside: {{external: true, name: "{external}"}}
volumes: {{data: {{}}, dbdata: {{}}}}
secrets:
  pw: {{external: true, name: "${{STACK_NAME}}_pw_v1"}}
configs:
  conf: {{name: "${{STACK_NAME}}_conf_v1", file: "./${{STACK_NAME}}.yml"}}
"#
    )
}

/// An attachable overlay network that goes when the test is over.
pub(crate) struct External(pub(crate) String);

impl External {
    pub(crate) fn new(name: &str) -> Self {
        Self::create(name, &[])
    }

    /// One that is as small as this.
    pub(crate) fn with_subnet(name: &str, subnet: &str) -> Self {
        Self::create(name, &["--subnet", subnet])
    }

    fn create(name: &str, more: &[&str]) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let args = [&["network", "create", "--driver", "overlay", "--attachable"], more, &[&name]].concat();
        cli(&docker(), &args);
        Self(name)
    }
}

impl Drop for External {
    fn drop(&mut self) {
        // A node holds on to a network for a moment after its last container.
        let _removed = docker().job(["network", "rm", &self.0]).run(&mut |_| {});
    }
}
