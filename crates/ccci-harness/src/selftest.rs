//! `cc-ci-run selftest runner`: what a CI runner really does to a step that it cancels.
//!
//! ```text
//! step shell ── step       called as a run is, listens as a keeper does
//!                 ├─ neighbour   in the step's process group: was the group meant?
//!                 └─ witness     in a session of its own, as a reaper's survival: writes the report
//! ```
//! Nothing is deployed and no lock is taken. The witness writes after each thing that it saw, so that a
//! runner which ends it too leaves a report that breaks off.

mod report;
mod witness;

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use ccci_core::config::{Places, Settings};
use ccci_core::lifetime::cause::exit;
use ccci_core::lifetime::clock::{Deadline, since_boot};
use ccci_core::lifetime::exec::{Birth, adopt_fd};
use ccci_core::lifetime::parent;
use ccci_core::lifetime::signals::{CANCEL, Received, Signals, parent_gone};
use ccci_core::process::{Child, spawn_part, wait_ready};
use nix::poll::{PollFd, PollFlags};
use nix::unistd::{Pid, getpgrp, getpid, getsid};

use crate::cli::{Role, Runner, SelftestPart};
use crate::command::say;
use crate::event::millis;
use crate::keeper::{Ear, Wake};
use crate::request::caller_dir;
use report::{Brief, Seen, What, Who};

/// How long a full stdout is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// `cc-ci-run selftest runner`.
///
/// # Errors
/// When the parent is gone already, or the parts cannot be started.
pub(crate) fn runner(runner: &Runner, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let signals = Signals::listen().context("cannot listen for signals")?;
    let workspace = caller_dir()?;
    let shell = parent::arm()?;
    let out = match &runner.out {
        Some(out) => workspace.join(out),
        None => Places::find(&Settings::load(config)?)?.state_dir.join("selftest-runner.json"),
    };
    if let Some(dir) = out.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let ear = Ear::new(signals, shell).context("cannot make a timer")?;
    let brief = Brief {
        out: out.clone(),
        shell: shell.as_raw(),
        step: getpid().as_raw(),
        group: getpgrp().as_raw(),
        session: getsid(None)?.as_raw(),
        workspace,
        home: std::env::var_os("HOME").map(PathBuf::from),
        settle: runner.settle,
        stdout: report::stdout_kind(),
    };
    let seen = start_parts(&brief)?;
    // A stdout that nobody reads must not make it deaf.
    let stdout = std::io::stdout();
    if wait_ready(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)], Some(PATIENCE))? {
        say(&format!("selftest: cancel this step now; what happens will be in {}", out.display()))?;
    }
    wait_to_be_cancelled(&ear, shell, seen, runner)
}

/// Starts neighbour and witness; the end of the pipe to the witness.
fn start_parts(brief: &Brief) -> anyhow::Result<PipeWriter> {
    let (seen_end, seen) = std::io::pipe().context("cannot make a pipe")?;
    let (leash_end, leash) = std::io::pipe().context("cannot make a pipe")?;
    let neighbour = Birth { same_group: true, block_cancel: true, ..Birth::default() };
    start_part("neighbour", (seen.as_raw_fd(), leash_end.as_raw_fd()), "", neighbour)?;
    let witness = Birth { new_session: true, block_cancel: true, ..Birth::default() };
    start_part("witness", (seen_end.as_raw_fd(), leash.as_raw_fd()), &serde_json::to_string(brief)?, witness)?;
    Ok(seen)
}

fn start_part(role: &str, (seen, leash): (RawFd, RawFd), brief: &str, birth: Birth) -> anyhow::Result<Child> {
    let (seen_arg, leash_arg) = (seen.to_string(), leash.to_string());
    let args = ["selftest-part", "--role", role, "--seen", &seen_arg, "--leash", &leash_arg, "--brief", brief];
    let birth = Birth { keep_fd: Some(seen), keep_fd_too: Some(leash), ..birth };
    Ok(spawn_part(&args.map(Into::into), std::env::vars_os(), birth)?)
}

/// Listens as a keeper does, and says what it hears. Ends by itself only when nothing comes any more.
fn wait_to_be_cancelled(ear: &Ear, shell: Pid, mut seen: PipeWriter, runner: &Runner) -> anyhow::Result<ExitCode> {
    let limit = Deadline::after(runner.limit);
    let mut patience = None;
    loop {
        match ear.wait(&[], Some(patience.unwrap_or(limit)))? {
            Wake::Signal(received) if CANCEL.contains(&received.signal) => {
                // The kernel sends this one in the name of who died.
                let by_parents_death = parent_gone(shell) && received.sender == shell.as_raw().cast_unsigned();
                tell(&mut seen, Who::Step, heard(received, by_parents_death));
                patience.get_or_insert_with(|| Deadline::after(runner.patience));
            }
            Wake::Time => break,
            Wake::Signal(_) | Wake::Fd => {}
        }
    }
    tell(&mut seen, Who::Step, What::GaveUp);
    Ok(ExitCode::from(if patience.is_some() { exit::CANCELLED } else { exit::RED }))
}

/// One part of a selftest.
///
/// # Errors
/// When it was started by hand.
pub(crate) fn part(part: &SelftestPart) -> anyhow::Result<ExitCode> {
    let signals = Signals::listen().context("cannot listen for signals")?;
    let ear = Ear::new(signals, Pid::parent()).context("cannot make a timer")?;
    let (seen, leash) = (File::from(adopt_fd(part.seen)?), File::from(adopt_fd(part.leash)?));
    std::env::set_current_dir("/")?;
    match part.role {
        Role::Neighbour => neighbour(&ear, seen, leash)?,
        // The leash is its own end's: who holds the other one sees this process end.
        Role::Witness => witness::watch(&ear, PipeReader::from(std::os::fd::OwnedFd::from(seen)), part.brief.parse()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Says which signals the step's process group gets, until the witness is done.
fn neighbour(ear: &Ear, mut seen: File, leash: File) -> std::io::Result<()> {
    crate::reaper::name_process("ccci-neighbour");
    loop {
        match ear.wait(&[leash.as_fd()], None)? {
            Wake::Signal(received) if CANCEL.contains(&received.signal) => {
                tell(&mut seen, Who::Neighbour, heard(received, false));
            }
            Wake::Signal(_) | Wake::Time => {}
            Wake::Fd => return Ok(()),
        }
    }
}

fn heard(received: Received, by_parents_death: bool) -> What {
    let sender = std::fs::read_to_string(format!("/proc/{}/comm", received.sender)).unwrap_or_default();
    What::Signal {
        signal: received.signal.as_str().to_owned(),
        pid: received.sender,
        sender: sender.trim().to_owned(),
        by_parents_death,
    }
}

/// A line to the witness, in one write. Without a witness there is nobody to tell.
fn tell(seen: &mut impl Write, who: Who, what: What) {
    let line = serde_json::to_string(&Seen { at_ms: millis(since_boot()), who, what }).unwrap_or_default() + "\n";
    if let Err(error) = seen.write_all(line.as_bytes()) {
        tracing::debug!(%error, "the witness is gone");
    }
}
