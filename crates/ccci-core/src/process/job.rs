//! Foreign programs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::programs::{environment, programs};
use super::terminal::Terminal;
use super::watch::{Lines, Watch};
use super::{Child, Ended, ProcessError, null};
use crate::lifetime::clock::Deadline;
use crate::lifetime::exec::Birth;
use crate::lifetime::launch::Program;

/// It dies with us, and before us when memory runs out: it is the test, we are its guardian.
fn ward() -> Birth {
    Birth { death_signal: Some(Signal::SIGKILL), oom_score_adj: Some(500), in_group: true, ..Birth::default() }
}

/// A finished job.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub ended: Ended,
    /// The end of what it printed.
    pub tail: String,
    /// All that it printed on stdout, if that was asked for.
    pub stdout: Vec<u8>,
}

/// A foreign program to run.
#[derive(Debug, Clone)]
pub struct Job {
    program: OsString,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    dir: PathBuf,
    timeout: Duration,
    grace: Duration,
    capture: bool,
    terminal: bool,
}

impl Job {
    /// The caller's own command, or a test: found on the `PATH` of its environment, which is ours.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self::with(program.as_ref().to_owned(), std::env::vars_os().collect())
    }

    /// A program of the harness's choice, by its name or its absolute path: found where it was when the run began,
    /// with what it needs of our environment and nothing else.
    pub fn tool(program: impl AsRef<OsStr>) -> Self {
        let programs = programs();
        let found = program.as_ref().to_str().and_then(|name| programs.find(name));
        Self::with(found.map_or_else(|| program.as_ref().to_owned(), PathBuf::into_os_string), environment(programs))
    }

    fn with(program: OsString, env: BTreeMap<OsString, OsString>) -> Self {
        Self {
            program,
            args: Vec::new(),
            env,
            dir: PathBuf::from("/"),
            timeout: Duration::from_secs(600),
            grace: Duration::from_secs(10),
            capture: false,
            terminal: false,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Adds variables to the environment.
    #[must_use]
    pub fn env<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        self.env.extend(vars.into_iter().map(|(key, value)| (key.as_ref().to_owned(), value.as_ref().to_owned())));
        self
    }

    /// Removes variables from the environment.
    #[must_use]
    pub fn without_env(mut self, unwanted: impl Fn(&str) -> bool) -> Self {
        self.env.retain(|key, _| !key.to_str().is_some_and(&unwanted));
        self
    }

    /// Takes away everything that is in its environment so far.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.env.clear();
        self
    }

    /// Where it runs. Default `/`.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        dir.clone_into(&mut self.dir);
        self
    }

    /// How long it may take. Default ten minutes.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What its group gets between SIGTERM and SIGKILL.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Keeps stdout for the caller instead of handing its lines out.
    #[must_use]
    pub const fn capture(mut self) -> Self {
        self.capture = true;
        self
    }

    /// Gives it a terminal of its own on stdin, stdout and stderr, for a program that refuses to work
    /// without one. Nobody types. Its lines are handed out without their escape sequences, and
    /// [`Job::capture`] does not apply: a terminal does not tell stdout from stderr.
    #[must_use]
    pub const fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// The command line, for people.
    #[must_use]
    pub fn command_line(&self) -> String {
        // A program of ours is called as a person would call it.
        let program = Path::new(&self.program);
        let known = program
            .file_name()
            .filter(|name| name.to_str().and_then(|name| programs().find(name)).as_deref() == Some(program));
        let words = std::iter::once(known.unwrap_or(&self.program)).chain(self.args.iter().map(OsString::as_os_str));
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// Starts it with this for its stdin, stdout and stderr; each is closed here once it runs.
    fn start(&self, stdio: [Option<OwnedFd>; 3], birth: Birth) -> io::Result<Child> {
        let env = self.env.iter().map(|(key, value)| (key.clone(), value.clone()));
        let program = Program::new(&self.program, &self.args, env, birth)?.in_dir(&self.dir)?;
        program.stdio(stdio).start().map(Child::new)
    }

    /// Runs it to its end; every line that it prints is handed to `sink`.
    ///
    /// # Errors
    /// [`ProcessError::Start`] and [`ProcessError::Watch`]. A bad end is in the value.
    pub fn run(&self, sink: &mut dyn FnMut(&str)) -> Result<Finished, ProcessError> {
        let started = if self.terminal { self.start_on_terminal() } else { self.start_on_pipes() };
        let mut watch = started.map_err(|source| ProcessError::Start { command: self.command_line(), source })?;
        let ended = watch.until_end(self.timeout, self.grace, sink);
        let ended = ended.map_err(|source| ProcessError::Watch { command: self.command_line(), source })?;
        Ok(Finished { ended, tail: watch.lines.tail(), stdout: watch.stdout })
    }

    /// Output into a pipe, or stderr and stdout into one each when stdout is kept; stdin closed.
    fn start_on_pipes(&self) -> io::Result<Watch> {
        let (out, out_end) = io::pipe()?;
        let (out, out_end) = (OwnedFd::from(out), OwnedFd::from(out_end));
        if self.capture {
            let (err, err_end) = io::pipe()?;
            let child = self.start([Some(null()?), Some(out_end), Some(err_end.into())], ward())?;
            return Ok(Watch::of(child, Lines::of_pipe(err.into()), Some(Lines::of_pipe(out))));
        }
        let child = self.start([Some(null()?), Some(out_end.try_clone()?), Some(out_end)], ward())?;
        Ok(Watch::of(child, Lines::of_pipe(out), None))
    }

    /// Everything on a terminal of its own, whose session it will lead.
    fn start_on_terminal(&self) -> io::Result<Watch> {
        let Terminal { ours, theirs } = Terminal::open()?;
        let stdio = [Some(theirs.try_clone()?), Some(theirs.try_clone()?), Some(theirs)];
        let child = self.start(stdio, Birth { own_terminal: true, ..ward() })?;
        Ok(Watch::of(child, Lines::of_terminal(ours), None))
    }

    /// Runs it and takes any end but success for an error.
    ///
    /// # Errors
    /// [`ProcessError`], with the end of its output.
    pub fn run_ok(&self, sink: &mut dyn FnMut(&str)) -> Result<Finished, ProcessError> {
        let finished = self.run(sink)?;
        if finished.ended == Ended::Exited(0) {
            return Ok(finished);
        }
        let tail = finished.tail.trim();
        let tail = if tail.is_empty() { String::new() } else { format!("\n{tail}") };
        Err(ProcessError::Failed { command: self.command_line(), ended: finished.ended, tail })
    }

    /// Runs it to its end with our own stdout and stderr, for a command of the caller's.
    ///
    /// # Errors
    /// [`ProcessError::Start`] and [`ProcessError::Watch`].
    pub fn run_inheriting(&self) -> Result<Ended, ProcessError> {
        self.run_as_callers(false, None, None)
    }

    /// The same, with our own stdin too if it is to have it, and in a group of the caller's, which has the terminal.
    /// A person may stop that group: at the time of `resume` the process that it names goes on.
    ///
    /// # Errors
    /// [`ProcessError::Start`] and [`ProcessError::Watch`].
    pub fn run_as_callers(
        &self,
        stdin: bool,
        group: Option<Pid>,
        resume: Option<(Deadline, Pid)>,
    ) -> Result<Ended, ProcessError> {
        let birth = Birth { join_group: group.map(Pid::as_raw), ..ward() };
        let null = if stdin { Ok(None) } else { null().map(Some) };
        let started = null.and_then(|stdin| self.start([stdin, None, None], birth));
        let mut child = started.map_err(|source| ProcessError::Start { command: self.command_line(), source })?;
        child.wait_collecting(resume).map_err(|source| ProcessError::Watch { command: self.command_line(), source })
    }

    /// Starts it detached: a session of its own that outlives us, output into `log`. Its pid.
    ///
    /// The caller is its parent while it lives and collects it with [`collect`](super::collect).
    ///
    /// # Errors
    /// [`ProcessError::Start`].
    pub fn detach(&self, log: &File) -> Result<Pid, ProcessError> {
        let started = (|| {
            let stdio = [null()?, log.try_clone()?.into(), log.try_clone()?.into()].map(Some);
            self.start(stdio, Birth { new_session: true, death_signal: None, in_group: false, ..ward() })
        })();
        let started = started.map_err(|source| ProcessError::Start { command: self.command_line(), source })?;
        Ok(started.pid)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use nix::poll::PollFd;

    use super::super::{handle_of, procfs, wait_ready};
    use super::*;

    fn sh(script: &str) -> Job {
        Job::new("/bin/sh").args(["-c", script]).grace(Duration::from_millis(200))
    }

    /// Killed with its leader, it is dead a moment later; what is left is at most a zombie for init.
    fn assert_dies(child: u32) {
        if let Ok(Some(fd)) = handle_of(Pid::from_raw(child.cast_signed())) {
            wait_ready(&mut [PollFd::new(fd.as_fd(), nix::poll::PollFlags::POLLIN)], Some(Duration::from_secs(10)))
                .unwrap();
        }
        assert!(procfs::is_gone(child), "the group's child {child} survived");
    }

    #[test]
    fn the_ends_of_a_job_stay_different() {
        let mut lines = Vec::new();
        let done =
            sh("echo one; echo two >&2; printf three; exit 7").run(&mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(done.ended, Ended::Exited(7));
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(sh("kill -9 $$").run(&mut |_| {}).unwrap().ended, Ended::Killed(9));
        let nameless = sh("kill -40 $$").run(&mut |_| {}).unwrap().ended;
        assert_eq!((nameless, nameless.to_string().as_str()), (Ended::Killed(40), "killed by signal 40"));
        let slow = sh("exec sleep 100").timeout(Duration::from_millis(50));
        assert_eq!(slow.run(&mut |_| {}).unwrap().ended, Ended::TimedOut(Duration::from_millis(50)));
        let missing = Job::new("/no/such/program").run(&mut |_| {}).unwrap_err();
        assert!(missing.to_string().contains("/no/such/program"), "{missing}");
    }

    #[test]
    fn a_job_on_a_terminal_has_one_and_its_lines_are_plain() {
        let asks = "test -t 0 && test -t 1 && test -t 2 && tty </dev/tty >/dev/null && printf '\\033[31mred\\033[0m\\n'; \
                    stty size";
        let mut lines = Vec::new();
        let done = sh(asks).terminal().run_ok(&mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["red", "50 400"]);
        assert!(done.tail.starts_with("red"), "{:?}", done.tail);
        assert_eq!(sh("test -t 0").run(&mut |_| {}).unwrap().ended, Ended::Exited(1), "nobody else has one");
    }

    #[test]
    fn a_job_on_a_terminal_that_waits_for_an_answer_times_out_with_its_group() {
        let asks = sh("sleep 100 & echo $!; read -r answer").terminal().timeout(Duration::from_millis(200));
        let mut child = None;
        let done = asks.run(&mut |line| child = line.parse::<u32>().ok()).unwrap();
        assert!(matches!(done.ended, Ended::TimedOut(_)), "{done:?}");
        assert_dies(child.unwrap());
    }

    #[test]
    fn a_job_that_ignores_sigterm_is_killed_with_its_group() {
        let stubborn = sh("trap '' TERM; sleep 100 & echo $!; wait; wait").timeout(Duration::from_millis(100));
        let mut child = None;
        stubborn.run(&mut |line| child = line.parse::<u32>().ok()).unwrap();
        assert_dies(child.unwrap());
    }

    #[test]
    fn a_daemon_that_keeps_the_pipe_does_not_hold_the_job_up() {
        let done = sh("setsid sleep 60 & echo $!").run(&mut |_| {}).unwrap();
        assert_eq!(done.ended, Ended::Exited(0));
        let pid: i32 = done.tail.trim().parse().unwrap();
        let _ended = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }

    #[test]
    fn a_job_that_never_stops_printing_is_ended_at_its_timeout() {
        let (begun, mut lines) = (Deadline::after(Duration::ZERO), 0_u64);
        let done = sh("exec yes").timeout(Duration::from_millis(200)).run(&mut |_| lines += 1).unwrap();
        assert!(matches!(done.ended, Ended::TimedOut(_)), "{done:?}");
        assert!(lines > 1000, "{lines}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?} of {lines} lines", begun.elapsed());
    }

    #[test]
    fn a_daemon_that_never_stops_printing_does_not_hold_the_job_up() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("up");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // It ends with its reader, which is this job.
        let leave = "setsid sh -c 'echo up >\"$FIFO\"; exec yes' & read -r up <\"$FIFO\"";
        let done = sh(leave).env([("FIFO", &fifo)]).run(&mut |_| {}).unwrap();
        assert_eq!(done.ended, Ended::Exited(0));
    }

    #[test]
    fn a_line_without_an_end_is_cut_and_the_next_one_is_whole() {
        let endless = "head -c 300000 /dev/zero | tr '\\0' x; echo; echo next";
        let mut lines = Vec::new();
        sh(endless).run(&mut |line| lines.push(line.to_owned())).unwrap();
        assert!(lines[0].len() < 70_000 && lines[0].ends_with("cut)"), "{}", lines[0].len());
        assert_eq!(lines[1..], ["next"]);
    }

    /// Why nobody may start one from a thread that ends before it: incident `[thread]`.
    #[test]
    fn a_child_dies_with_the_thread_that_started_it() {
        let start = || sh("exec sleep 60").start([Some(null().unwrap()), None, None], ward());
        let mut sleeper = std::thread::scope(|scope| scope.spawn(start).join().unwrap()).unwrap();
        assert_eq!(sleeper.wait().unwrap(), Ended::Killed(9));
    }

    #[test]
    fn of_a_variable_that_is_given_twice_the_last_value_counts() {
        let env = ["one", "two"].map(|value| ("X".into(), value.into()));
        // Its own list, as a shell takes the last and others the first.
        let look = r#"[ "$(tr '\0' '\n' </proc/$$/environ | grep '^X=')" = X=two ]"#;
        let program = Program::new("/bin/sh".as_ref(), &["-c".into(), look.into()], env, ward()).unwrap();
        assert_eq!(Child::new(program.start().unwrap()).wait().unwrap(), Ended::Exited(0));
    }

    #[test]
    fn what_a_job_is_at_its_start_it_is_alone() {
        let score = || std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let before = (score(), std::env::current_dir().unwrap());
        let done = sh("cat /proc/self/oom_score_adj; pwd").run_ok(&mut |_| {}).unwrap();
        assert_eq!(done.tail, "500\n/\n");
        assert_eq!((score(), std::env::current_dir().unwrap()), before);
    }

    #[test]
    fn a_program_is_looked_for_as_execvp_does() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let [shy, bare] = ["shy", "bare"].map(|name| dir.path().join(name));
        std::fs::write(&shy, "exit 1").unwrap();
        std::fs::create_dir(&bare).unwrap();
        let script = bare.join("script");
        std::fs::write(&script, "echo \"$0 $1\"").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("/nowhere:{}:{}:{}", shy.display(), dir.path().display(), bare.display());
        let run = |name: &str| Job::new(name).args(["one"]).env([("PATH", &path)]).run_ok(&mut |_| {});
        let done = run("script").unwrap();
        assert_eq!(done.tail.trim(), format!("{} one", script.display()), "a script that names no interpreter");
        let refused = run("shy").unwrap_err().to_string();
        assert!(refused.contains("Permission denied"), "{refused}");
        let missing = run("missing").unwrap_err().to_string();
        assert!(missing.contains("No such file"), "{missing}");
        let nowhere = Job::new("/bin/true").dir(Path::new("/nowhere")).run(&mut |_| {}).unwrap_err().to_string();
        assert!(nowhere.contains("No such file"), "{nowhere}");
        assert!(Job::new("/bin/true").args(["a\0b"]).run(&mut |_| {}).is_err());
        Job::new("true").without_env(|key| key == "PATH").run_ok(&mut |_| {}).unwrap();
    }

    #[test]
    fn captured_output_is_whole_and_apart() {
        let done = sh("echo data; echo talk >&2").capture().run_ok(&mut |line| assert_eq!(line, "talk")).unwrap();
        assert_eq!(done.stdout, b"data\n");
        let much = sh("head -c 500000 /dev/zero").capture().run_ok(&mut |_| {}).unwrap();
        assert_eq!(much.stdout.len(), 500_000);
        let failed = sh("echo broken >&2; exit 3").run_ok(&mut |_| {}).unwrap_err().to_string();
        assert!(failed.contains("exit code 3") && failed.contains("broken"), "{failed}");
    }
}
