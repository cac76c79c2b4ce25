//! The bridge: from `!testme` in a comment to a build on Drone.
//!
//! It polls, so that nothing needs to reach this host; a signed webhook only makes it look at once. It keeps
//! nothing: what it took carries a reaction on the forge, which is given before the build is started.

mod command;
mod drone;
mod watch;
mod webhook;

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use ccci_core::config::Settings;
use ccci_core::lifetime::cause::exit;
use ccci_core::lifetime::clock::Deadline;
use ccci_core::lifetime::signals::{CANCEL, Signals};

use crate::command::Usage;
use crate::forge::api::Api;
use crate::keeper::{Ear, Wake};
use drone::Drone;
use watch::{Parties, Watch};

/// `cc-ci-run bridge`: until it is told to stop.
///
/// # Errors
/// When it is not configured, or a secret cannot be had.
pub(crate) fn main(config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let signals = Signals::listen().context("cannot listen for signals")?;
    let ear = Ear::new(signals, nix::unistd::getppid()).context("cannot make a timer")?;
    let settings = Settings::load(config)?;
    let (Some(forge), Some(bridge)) = (settings.forge, settings.bridge) else {
        return Err(anyhow::anyhow!("the settings have no [bridge]: docs/operations.md shows one").context(Usage));
    };
    let mut api = Api::open(&forge)?;
    let drone = Drone::open(&bridge.drone)?;
    let (mut nudges, nudge) = std::io::pipe().context("cannot make a pipe")?;
    if let Some(webhook) = &bridge.webhook {
        let address = webhook::listen(webhook, nudge)?;
        say(&format!("listening for webhooks on {address}"));
    }
    let mut watches: Vec<Watch> = bridge.repositories.iter().cloned().map(Watch::new).collect();
    loop {
        for watch in &mut watches {
            api.renew(&forge);
            watch.look(&Parties { api: &api, drone: &drone, forge: &forge, bridge: &bridge });
            if let Some(stopped) = stopped(&ear, &[], Deadline::after(std::time::Duration::ZERO))? {
                return Ok(stopped);
            }
        }
        if let Some(stopped) = stopped(&ear, &[nudges.as_fd()], Deadline::after(bridge.every))? {
            return Ok(stopped);
        }
        drain(&mut nudges)?;
    }
}

/// Waits for the clock, a nudge or the end, which is the exit code.
fn stopped(ear: &Ear, fds: &[std::os::fd::BorrowedFd<'_>], until: Deadline) -> std::io::Result<Option<ExitCode>> {
    loop {
        match ear.wait(fds, Some(until))? {
            Wake::Signal(received) if CANCEL.contains(&received.signal) => {
                say(&format!("{}: the bridge ends", received.signal));
                return Ok(Some(ExitCode::from(exit::CANCELLED)));
            }
            Wake::Signal(_) => {}
            Wake::Fd | Wake::Time => return Ok(None),
        }
    }
}

/// Takes all nudges: one look answers them all.
fn drain(nudges: &mut std::io::PipeReader) -> std::io::Result<()> {
    use nix::poll::{PollFd, PollFlags};
    let mut buffer = [0; 64];
    loop {
        let mut ready = [PollFd::new(nudges.as_fd(), PollFlags::POLLIN)];
        let there = ccci_core::process::wait_ready(&mut ready, Some(std::time::Duration::ZERO))?;
        if !there || nudges.read(&mut buffer)? == 0 {
            return Ok(());
        }
    }
}

/// A line for the service's log.
fn say(line: &str) {
    use std::io::Write as _;
    let _unseen = writeln!(std::io::stderr(), "{line}");
}
