//! A CI step: a shell with `-e` in a workspace of its own, whose child is `cc-ci-run`. It is cancelled as
//! Drone's exec runner does it: SIGKILL to the shell alone, and its workspace and home deleted.

#![expect(clippy::disallowed_methods, reason = "the one module of the suites that starts processes")]

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::binaries;
use crate::host::{self, Host, until};
use crate::process::{self, Process};

/// Where a step's stdout goes.
#[derive(Debug)]
enum Stdout {
    File,
    Closed,
    Stuck,
}

/// A step to be started.
#[derive(Debug)]
pub struct Launch<'host> {
    host: &'host Host,
    id: String,
    words: Vec<String>,
    env: Vec<(String, String)>,
    shell: String,
    under: Vec<String>,
    script: String,
    told_parent: bool,
    stdout: Stdout,
}

impl<'host> Launch<'host> {
    pub(crate) fn new(host: &'host Host, id: &str) -> Self {
        Self {
            host,
            id: id.to_owned(),
            words: Vec::new(),
            env: Vec::new(),
            shell: "sh".to_owned(),
            under: Vec::new(),
            script: "@@".to_owned(),
            told_parent: true,
            stdout: Stdout::File,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.words.extend(words.into_iter().map(str::to_owned));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != key);
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Leaves a variable out.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.env.retain(|(known, _)| known != key);
        self
    }

    /// Uses another shell than `sh`.
    #[must_use]
    pub fn shell(mut self, shell: &str) -> Self {
        shell.clone_into(&mut self.shell);
        self
    }

    /// Starts the shell by these words: another namespace, other privileges.
    #[must_use]
    pub fn under(mut self, words: &[&str]) -> Self {
        self.under = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Gives the step's script, in which `@@` stands for the command line.
    #[must_use]
    pub fn script(mut self, script: &str) -> Self {
        script.clone_into(&mut self.script);
        self
    }

    /// Leaves `CCCI_PARENT_PID=$$` to the script.
    #[must_use]
    pub fn untold(mut self) -> Self {
        self.told_parent = false;
        self
    }

    /// With a stdout whose reader is gone.
    #[must_use]
    pub fn closed_stdout(mut self) -> Self {
        self.stdout = Stdout::Closed;
        self
    }

    /// With a stdout that is full and that nobody reads.
    #[must_use]
    pub fn stuck_stdout(mut self) -> Self {
        self.stdout = Stdout::Stuck;
        self
    }

    /// Starts it.
    #[must_use]
    pub fn start(self) -> Step<'host> {
        let dir = self.host.path("steps").join(&self.id);
        let workspace = dir.join("workspace");
        fs::create_dir_all(workspace.join("home")).unwrap();
        let told = if self.told_parent { "export CCCI_PARENT_PID=$$\n" } else { "" };
        let line = self.words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
        // A line after the command, so that no shell replaces itself by it.
        let script = format!("{told}{}\necho '== the step goes on ==' >&2\n", self.script.replace("@@", &line));
        fs::write(workspace.join("step.sh"), script).unwrap();

        // The shell dies with the test, and cc-ci-run takes its app down then. Suites under nohup or in the background
        // ignore signals that a step hears.
        let before = ["setpriv", "--pdeathsig", "KILL", "--", "env", "--default-signal=HUP,INT,QUIT"];
        let mut words = before.map(str::to_owned).to_vec();
        words.extend(self.under.clone());
        words.extend([self.shell.clone(), "-e".to_owned(), workspace.join("step.sh").display().to_string()]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&workspace).stdin(Stdio::null());
        for (key, _) in std::env::vars_os() {
            let key = key.to_string_lossy().into_owned();
            let ours = key.starts_with("CCCI_") && key != "CCCI_WEAKEN" || key.starts_with("DRONE_");
            let meant = ["RECIPE", "REF", "PR", "SRC", "STAGES", "VERSION", "ABRA_DIR", "SYSTEMD_EXEC_PID"];
            if ours || meant.contains(&key.as_str()) {
                command.env_remove(key);
            }
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{}:{path}", self.host.path("bin").display(), binaries::dir().display());
        let (tag, value) = host::tag_var(self.host);
        command.env("PATH", path).env("HOME", workspace.join("home")).env(tag, value);
        command.env("CCCI_SETTINGS", self.host.path("settings.toml")).env("TMPDIR", self.host.path("tmp"));
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        let mut stuck = None;
        match self.stdout {
            Stdout::File => command.stdout(File::create(dir.join("out")).unwrap()),
            Stdout::Closed => command.stdout(std::io::pipe().unwrap().1),
            Stdout::Stuck => {
                let (reader, writer) = full_pipe();
                stuck = Some(reader);
                command.stdout(writer)
            }
        };
        command.stderr(File::create(dir.join("err")).unwrap());
        let shell = command.spawn().unwrap();
        Step { host: self.host, id: self.id, dir, shell, keeper: OnceCell::new(), _stuck: stuck }
    }

    /// Starts it and waits for its end.
    #[must_use]
    pub fn end(self) -> Ended<'host> {
        self.start().end()
    }
}

fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while rustix::io::write(&writer, &[b'.'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

fn quote(word: &str) -> String {
    if word.starts_with("cc-ci-") { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// A running step.
#[derive(Debug)]
pub struct Step<'host> {
    host: &'host Host,
    id: String,
    dir: PathBuf,
    shell: Child,
    keeper: OnceCell<i32>,
    _stuck: Option<PipeReader>,
}

impl<'host> Step<'host> {
    /// The run id that it asked for.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The shell's pid.
    #[must_use]
    pub fn shell(&self) -> i32 {
        self.shell.id().cast_signed()
    }

    /// The keeper's pid: the shell's child. Ask before the shell is killed.
    pub fn keeper(&self) -> i32 {
        let shell = self.shell();
        *self.keeper.get_or_init(|| {
            until("the keeper starts", || {
                let keeper = |process: &Process| process.parent == shell && process.name == "cc-ci-run";
                self.host.processes().into_iter().find(keeper).map(|process| process.pid)
            })
        })
    }

    /// The run's directory, once it is there.
    pub fn run_dir(&self) -> PathBuf {
        if let Some(dir) = self.run_dir_now() {
            return dir;
        }
        let _asked_while_the_shell_lives = self.keeper();
        until("the run directory is there", || self.run_dir_now())
    }

    /// The run's directory, if it is there: called as the step wished, or after the keeper's pid.
    fn run_dir_now(&self) -> Option<PathBuf> {
        let runs = self.host.path("runs");
        let of_keeper = self.keeper.get().map(|pid| format!("-{pid}"));
        let own =
            |name: &&String| **name == self.id || of_keeper.as_ref().is_some_and(|pid| name.ends_with(pid.as_str()));
        host::list(&runs).iter().find(own).map(|name| runs.join(name))
    }

    /// The pid of the run's worker or reaper, once there is one.
    pub fn part(&self, role: &str) -> i32 {
        until(&format!("there is a {role}"), || self.part_now(role))
    }

    /// The pid of the run's worker or reaper, if there is one now.
    #[must_use]
    pub fn part_now(&self, role: &str) -> Option<i32> {
        let dir = self.run_dir().display().to_string();
        self.host.processes().iter().find(|process| process.is_part(role, &dir)).map(|process| process.pid)
    }

    /// Whether a process is the worker or the reaper of the run that got the id it asked for.
    #[must_use]
    pub fn is_part(&self, role: &str, process: &Process) -> bool {
        process.is_part(role, &self.host.path("runs").join(&self.id).display().to_string())
    }

    /// What it has printed on stderr so far.
    #[must_use]
    pub fn err(&self) -> String {
        host::read_lossy(&self.dir.join("err"))
    }

    /// What the run has reported so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        events_in(&self.run_dir())
    }

    /// Waits for a phase of the run.
    pub fn reaches(&self, phase: &str) {
        until(&format!("the run is in phase {phase}"), || {
            let here = |event: &Value| event["event"] == "phase" && event["name"] == phase;
            self.events().iter().any(here).then_some(())
        });
    }

    /// What it has printed on stdout so far.
    #[must_use]
    pub fn out(&self) -> String {
        host::read_lossy(&self.dir.join("out"))
    }

    /// What the run has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        host::read_lossy(&self.run_dir().join("run.log"))
    }

    /// Waits until the run has said something.
    pub fn says(&self, text: &str) {
        until(&format!("the run says `{text}`"), || self.log().contains(text).then_some(()));
    }

    /// Waits until the kernel has the run in the queue of the lock it wants: blocked in `flock`, so that the
    /// release itself wakes it.
    pub fn waits_for(&self, lock: &ccci_core::lock::LockPath) {
        let keeper = self.keeper().cast_unsigned();
        until("the run is in the kernel's queue for the lock", || {
            self.host.kernel_on(lock).iter().any(|entry| entry.waits && entry.pid == keeper).then_some(())
        });
    }

    /// Sends a signal to the keeper.
    pub fn signal_keeper(&self, signal: Signal) {
        process::signal(self.keeper(), signal);
    }

    /// SIGKILL to the shell alone.
    pub fn kill_shell(&mut self) {
        let _known_now = self.keeper();
        self.shell.kill().unwrap();
        self.shell.wait().unwrap();
    }

    /// Cancels it as Drone does: SIGKILL to the shell, and workspace and home deleted at once.
    pub fn cancel(&mut self) {
        self.kill_shell();
        self.delete_workspace();
    }

    /// Deletes workspace and home.
    pub fn delete_workspace(&self) {
        fs::remove_dir_all(self.dir.join("workspace")).unwrap();
    }

    /// Waits for the step's end.
    pub fn end(mut self) -> Ended<'host> {
        let gone = process::wait_gone(self.shell(), host::limit());
        assert!(gone, "step {} does not end", self.id);
        let status = self.shell.wait().unwrap();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        self.ended(code)
    }

    /// Waits for the keeper's end, when the shell was killed: this process has inherited it.
    pub fn keeper_end(self) -> Ended<'host> {
        let keeper = self.keeper();
        let code = process::collect(keeper);
        self.ended(code)
    }

    fn ended(self, code: i32) -> Ended<'host> {
        let run_dir = self.run_dir_now();
        Ended { host: self.host, code, run_dir, dir: self.dir }
    }
}

/// What the run in `dir` has reported.
#[must_use]
pub fn events_in(dir: &std::path::Path) -> Vec<Value> {
    let text = host::read_lossy(&dir.join("events.jsonl"));
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A step that has ended.
#[derive(Debug)]
pub struct Ended<'host> {
    host: &'host Host,
    /// Its exit code; 128 and the signal's number when it was killed.
    pub code: i32,
    /// The run's directory, if there is one.
    pub run_dir: Option<PathBuf>,
    dir: PathBuf,
}

impl Ended<'_> {
    /// Fails unless this is the exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(
            self.code == code,
            "exit code {} instead of {code}\nstderr:\n{}\nstdout:\n{}",
            self.code,
            self.err(),
            self.out()
        );
        self
    }

    /// Fails unless the exit code is this, and nothing is left on the host.
    #[track_caller]
    pub fn expect_clean(self, code: i32) -> Self {
        let ended = self.expect(code);
        ended.host.assert_clean();
        ended
    }

    /// What it printed on stdout.
    #[must_use]
    pub fn out(&self) -> String {
        host::read_lossy(&self.dir.join("out"))
    }

    /// What it printed on stdout, as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out()).unwrap_or_else(|error| panic!("{error}: {}", self.out()))
    }

    /// What it printed on stderr.
    #[must_use]
    pub fn err(&self) -> String {
        host::read_lossy(&self.dir.join("err"))
    }

    /// The run's log.
    #[must_use]
    pub fn log(&self) -> String {
        host::read_lossy(&self.run_dir.as_ref().unwrap().join("run.log"))
    }

    /// The run's events.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        events_in(self.run_dir.as_ref().unwrap())
    }

    /// The files of the run's directory in which a text stands.
    #[must_use]
    pub fn files_with(&self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut queue = vec![self.run_dir.clone().unwrap()];
        while let Some(dir) = queue.pop() {
            for name in host::list(&dir) {
                let path = dir.join(name);
                let meta = path.symlink_metadata().unwrap();
                if meta.is_dir() {
                    queue.push(path);
                } else if meta.is_file() && String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(text) {
                    found.push(path.display().to_string());
                }
            }
        }
        found
    }

    /// The run's result.
    #[must_use]
    pub fn results(&self) -> Value {
        let path = self.run_dir.as_ref().unwrap().join("results.json");
        let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&text).unwrap()
    }
}
