//! A Docker with a Swarm of the tests' own, and hosts whose runs deploy onto it.
//!
//! All tests of a process share one daemon (`tests/docker/up.sh`), in namespaces of its own; it ends
//! with the process. Runs enter its network, where its published ports are. What Docker has is asked
//! of the `docker` program here, and not of the code under test.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ccci_core::name::Domain;
use ccci_core::process::Job;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::binaries;
use crate::gate::Gate;
use crate::host::{Host, until};
use crate::step::{Ended, Launch, Step};

/// The recipe of a plain [`SwarmHost`].
pub const RECIPE: &str = "pair";
/// The network that all stacks share, as a reverse proxy's.
pub const PROXY: &str = "proxy";

/// The settings of every test folder: nothing takes long, and a run that hangs should say so soon. The test image
/// serves nothing.
const TOML: &str = "[health]\nnone = \"the test image serves nothing\"\n[timeouts]\ndeploy = \"90s\"\nmonitor = \"2s\"\nhttp = \"30s\"\ntest = \"5m\"\n";

/// What a service that is to be backed up has in its `deploy` section.
pub const SAVED: &str = "      labels: [\"backupbot.backup=true\"]";

/// The daemon that all tests share.
#[derive(Debug)]
pub struct Daemon {
    dir: PathBuf,
}

static SHARED: LazyLock<Daemon> = LazyLock::new(Daemon::start);

/// The shared daemon, started by whoever asks first.
pub fn daemon() -> &'static Daemon {
    &SHARED
}

impl Daemon {
    fn start() -> Self {
        // The daemon's watcher removes it.
        let dir = tempfile::Builder::new().prefix("ccci-docker-").tempdir().unwrap().keep();
        let fifo = dir.join("alive");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Open as long as this process lives; its end is the daemon's.
        std::mem::forget(fs::File::options().read(true).write(true).open(&fifo).unwrap());
        let scripts = binaries::workspace().join("tests/docker");
        let up = Job::new(scripts.join("up.sh")).args([&dir, &fifo]);
        up.run_ok(&mut |_| {}).unwrap_or_else(|error| panic!("no Docker: {error}"));
        let daemon = Self { dir };
        let target = binaries::dir().parent().unwrap().to_owned();
        let images = Job::new(scripts.join("hello-image.sh"));
        let images =
            images.env([("DOCKER_HOST", daemon.address()), ("CARGO_TARGET_DIR", target.display().to_string())]);
        let images = images.without_env(|key| key.starts_with("CARGO_PKG_") || key == "RUSTFLAGS");
        images.run_ok(&mut |_| {}).unwrap_or_else(|error| panic!("no images: {error}"));
        daemon.cli(&["network", "create", "--driver", "overlay", "--attachable", PROXY]);
        daemon
    }

    /// Its address, as `DOCKER_HOST` has it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.dir.join("docker.sock").display())
    }

    fn network(&self) -> PathBuf {
        let line = fs::read_to_string(self.dir.join("init.pid")).unwrap();
        Path::new("/proc").join(line.split(' ').next().unwrap()).join("ns/net")
    }

    /// A listener in its network.
    #[must_use]
    pub fn listen(&self) -> TcpListener {
        let network = fs::File::open(self.network()).unwrap();
        let bind = || {
            setns(&network, CloneFlags::CLONE_NEWNET).unwrap();
            TcpListener::bind("127.0.0.1:0").unwrap()
        };
        // A thread of its own, as it does not come back.
        let listener = std::thread::scope(|scope| scope.spawn(bind).join().unwrap());
        listener.set_nonblocking(true).unwrap();
        listener
    }

    fn job(&self, args: &[&str]) -> Job {
        Job::new("docker").args(args).env([("DOCKER_HOST", self.address())])
    }

    /// Runs the `docker` program; what it printed.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> String {
        let done = self.job(args).capture().run_ok(&mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// Runs a shell script that reaches this daemon; what it printed.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        let job = Job::new("sh").args(["-ec", script]).env([("DOCKER_HOST", self.address())]).capture();
        let done = job.run_ok(&mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Runs the `docker` program; whether it succeeded.
    #[must_use]
    pub fn try_cli(&self, args: &[&str]) -> bool {
        self.job(args).run_ok(&mut |_| {}).is_ok()
    }

    /// Whether this is there.
    #[must_use]
    pub fn has(&self, kind: &str, name: &str) -> bool {
        self.try_cli(&[kind, "inspect", name])
    }

    /// Ends the daemon with this signal, and waits until another answers in its place.
    pub fn restart(&self, signal: Signal) {
        let restart = Job::new(binaries::workspace().join("tests/docker/restart.sh"));
        let restart = restart.args([self.dir.as_os_str(), signal.as_str().as_ref()]);
        restart.run_ok(&mut |_| {}).unwrap_or_else(|error| panic!("the daemon does not come up again: {error}"));
    }

    /// Everything whose name begins with `<stack>_`, as `kind name`.
    #[must_use]
    pub fn of_stack(&self, stack: &str) -> BTreeSet<String> {
        let begins = format!("{stack}_");
        self.everything().into_iter().filter(|line| line.split_once(' ').unwrap().1.starts_with(&begins)).collect()
    }

    /// Everything, as `kind name`.
    #[must_use]
    pub fn everything(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for kind in ["service", "network", "volume", "secret", "config"] {
            let names = self.cli(&[kind, "ls", "--format", "{{.Name}}"]);
            all.extend(names.lines().map(|name| format!("{kind} {name}")));
        }
        let names = self.cli(&["ps", "--all", "--format", "{{.Names}}"]);
        all.extend(names.lines().map(|name| format!("container {name}")));
        all
    }
}

/// Where in a call of the `docker` program a run stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// While the real program is at work.
    During,
    /// When it is done.
    After,
}

/// A host whose runs deploy onto the shared Swarm.
#[derive(Debug)]
pub struct SwarmHost {
    /// All the rest of it.
    pub host: Host,
}

impl SwarmHost {
    /// A host with the recipe [`RECIPE`]: one version of [`compose`].
    #[must_use]
    pub fn new() -> Self {
        let _up = daemon();
        let host = Self { host: Host::new() };
        host.recipe(RECIPE, &[&compose("run", SAVED)]);
        host
    }

    /// A recipe whose versions have these compose files, oldest first, and an empty test folder for it.
    pub fn recipe(&self, name: &str, versions: &[&str]) {
        let dir = self.empty(name);
        let git = |args: &[&str]| git(&dir, args);
        for (number, text) in versions.iter().enumerate() {
            fs::write(dir.join("compose.yml"), text).unwrap();
            fs::write(dir.join(".env.sample"), "TYPE=pair\nDOMAIN=x\nSECRET_TOKEN_VERSION=v1 # length=20\n").unwrap();
            fs::write(dir.join("abra.sh"), format!("export CONF_VERSION=v{number}\n")).unwrap();
            fs::write(dir.join("conf.txt"), format!("version {number}\n")).unwrap();
            git(&["add", "--all"]);
            git(&["commit", "--quiet", "--message", "a version"]);
            git(&["tag", "--annotate", "--message", "a version", &format!("0.{number}.0+1.{number}.0")]);
        }
        let _empty = self.folder(name);
    }

    /// A recipe whose only version `make` writes into its folder.
    pub fn tree(&self, name: &str, make: impl FnOnce(&Path)) {
        let dir = self.empty(name);
        make(&dir);
        git(&dir, &["add", "--all"]);
        git(&dir, &["commit", "--quiet", "--message", "a version"]);
        let _empty = self.folder(name);
    }

    /// The folder of a recipe, with a repository without commits.
    fn empty(&self, name: &str) -> PathBuf {
        let dir = self.host.path("recipes").join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        git(&dir, &["init", "--quiet", "--initial-branch=main"]);
        dir
    }

    /// A fresh test folder for a recipe.
    pub fn folder(&self, recipe: &str) -> crate::folder::Folder {
        self.host.folder(recipe).toml(TOML)
    }

    /// A step that runs [`RECIPE`].
    #[must_use]
    pub fn run(&self) -> Launch<'_> {
        self.run_of(RECIPE)
    }

    /// A step that runs a recipe.
    #[must_use]
    pub fn run_of(&self, recipe: &str) -> Launch<'_> {
        self.there(self.host.run_of(recipe).env("CCCI_ENGINE", "swarm"))
    }

    /// A step in the daemon's network.
    #[must_use]
    pub fn there<'host>(&self, launch: Launch<'host>) -> Launch<'host> {
        let network = format!("--net={}", daemon().network().display());
        launch.under(&["nsenter", &network, "--"]).env("DOCKER_HOST", &daemon().address())
    }

    /// The domain of [`SwarmHost::run`].
    #[must_use]
    pub fn domain(&self) -> Domain {
        self.host.domain_of(RECIPE, self.host.pr(), "")
    }

    /// Its stack.
    #[must_use]
    pub fn stack(&self) -> String {
        self.domain().stack_name()
    }

    /// Makes the `number`th call of `docker <verb>` of this host's runs stand still at the gate.
    pub fn hold(&self, verb: &str, number: u32, at: At, gate: &Gate) {
        let path = std::env::var("PATH").unwrap_or_default();
        let real = path.split(':').map(|dir| Path::new(dir).join("docker")).find(|docker| docker.is_file()).unwrap();
        let real = real.display();
        let calls = self.host.path("calls");
        let (calls, pass) = (calls.display(), gate.pass());
        let held = match at {
            At::During => format!("'{real}' \"$@\" & {pass}; wait $!"),
            At::After => format!("'{real}' \"$@\"; code=$?; {pass}; exit $code"),
        };
        let script = format!(
            "if [ \"$1 $2\" = '{verb}' ]; then\n echo x >>'{calls}'\n if [ $(wc -l <'{calls}') = {number} ]; then\n  \
             {held}\n  exit\n fi\nfi\nexec '{real}' \"$@\""
        );
        self.host.program("docker", &script);
    }

    /// What is left of the runs on this host, in Docker and besides.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = self.host.leftovers();
        // abra's own directory for the host's Swarm stays, empty.
        left.retain(|line| line != "server directory default with []");
        let mine = [RECIPE, "hello", "other"].map(|recipe| self.host.domain_of(recipe, self.host.pr(), ""));
        left.extend(mine.iter().flat_map(|domain| daemon().of_stack(&domain.stack_name())));
        left
    }

    /// Fails when anything is left.
    #[track_caller]
    pub fn assert_clean(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }

    /// Waits until nothing of a stack is left but what begins with one of `kinds`.
    pub fn is_down_to(&self, stack: &str, kinds: &[&str]) {
        until(&format!("only {kinds:?} are left of {stack}"), || {
            let left = daemon().of_stack(stack);
            left.iter().all(|line| kinds.iter().any(|kind| line.starts_with(kind))).then_some(())
        });
    }

    /// Waits for the end of a run, and fails unless it has this exit code and nothing is left.
    #[track_caller]
    pub fn clean_end<'host>(&self, step: Step<'host>, code: i32) -> Ended<'host> {
        let ended = step.end().expect(code);
        self.judge_clean(&ended);
        ended
    }

    /// Fails unless the run's receipt says that nothing is left, and nothing is.
    #[track_caller]
    pub fn judge_clean(&self, ended: &Ended<'_>) {
        let results = ended.results();
        assert_eq!(results["flags"]["clean_teardown"], true, "{:#}", results["receipt"]);
        self.assert_clean();
    }
}

impl Default for SwarmHost {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SwarmHost {
    fn drop(&mut self) {
        // The daemon is shared: what a failed test leaves must not fail another.
        if std::thread::panicking() {
            let rm = daemon().job(&["stack", "rm", &self.stack()]);
            let _as_far_as_it_goes = rm.run(&mut |_| {});
        }
    }
}

/// A recipe's compose file: two services, a volume, a secret, a config, a network of its own and the
/// shared one. `app` says what the service `app` does, `deploy` is added to its `deploy` section.
#[must_use]
pub fn compose(app: &str, deploy: &str) -> String {
    let second = "  db:\n    image: ccci-test:1\n    networks: [internal]\n";
    compose_with(app, deploy, second)
}

/// [`compose`], with this in place of the second service.
#[must_use]
pub fn compose_with(app: &str, deploy: &str, second: &str) -> String {
    format!(
        r#"version: "3.8"
services:
  app:
    image: ccci-test:1
    command: ["{app}"]
    stop_grace_period: 6s
    networks: [internal, proxy]
    volumes: ["data:/data"]
    secrets: [token]
    configs: [{{source: conf, target: /conf}}]
    deploy:
      restart_policy: {{condition: any, delay: 100ms}}
      update_config: {{order: stop-first, monitor: 1s}}
{deploy}
{second}
networks:
  internal: {{}}
  proxy: {{external: true}}
volumes: {{data: {{}}}}
secrets:
  token: {{external: true, name: "${{STACK_NAME}}_token_${{SECRET_TOKEN_VERSION}}"}}
configs:
  conf: {{name: "${{STACK_NAME}}_conf_${{CONF_VERSION}}", file: conf.txt}}
"#
    )
}

fn git(dir: &Path, args: &[&str]) {
    let who = ["-c", "user.name=test", "-c", "user.email=test@example.com"];
    let job = Job::new("git").dir(dir).args(who).args(args).env([("GIT_CONFIG_GLOBAL", "/dev/null")]);
    job.run_ok(&mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
}

/// The objects of a receipt that Docker knows, as `kind name`.
#[must_use]
pub fn removed(results: &Value) -> BTreeSet<String> {
    let all = results["receipt"]["removed"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let lines = all.iter().map(|object| format!("{} {}", text(&object["kind"]), text(&object["name"])));
    lines.filter(|line| !line.starts_with("env_file")).collect()
}
