//! `status --watch`: a live picture on a terminal; elsewhere, each change as it happens.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use ccci_core::lifetime::signals::{CANCEL, Signals};
use ccci_core::process::wait_ready;
use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags};

use super::Host;
use super::look::Status;
use super::show;
use crate::paint::Paint;

/// How often it looks. A look asks the kernel, the run directories and Docker, and costs milliseconds.
const EVERY: Duration = Duration::from_secs(1);
/// A screen of its own, without a cursor; long lines are cut, not wrapped.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Watches until a signal, or until nobody reads any more.
///
/// # Errors
/// When the lock directory cannot be read.
pub(super) fn main(host: &Host, json: bool) -> anyhow::Result<ExitCode> {
    let signals = Signals::listen().context("cannot listen for signals")?;
    let watched = if !json && io::stdout().is_terminal() {
        let _screen = Screen::enter()?;
        on_screen(host, &signals)
    } else {
        in_lines(host, json, &signals)
    };
    match watched {
        // Whoever closed it has seen enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {}
        other => other?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The screen, given back however the watching ends.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        io::stdout().write_all(ENTER.as_bytes())?;
        io::stdout().flush().map(|()| Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _gone_with_its_terminal = io::stdout().write_all(LEAVE.as_bytes()).and_then(|()| io::stdout().flush());
    }
}

fn on_screen(host: &Host, signals: &Signals) -> anyhow::Result<()> {
    loop {
        let mut lines = show::lines(&Status::of(host)?, Timestamp::now(), Paint::for_stdout());
        let rows = terminal_size::terminal_size().map_or(24, |(_, rows)| usize::from(rows.0));
        if lines.len() >= rows {
            let hidden = lines.len() - rows.saturating_sub(2);
            lines.truncate(rows.saturating_sub(2));
            lines.push(format!("… {hidden} lines more: cc-ci-run status"));
        }
        let mut frame = String::from("\x1b[H");
        for line in lines {
            frame += &line;
            frame += "\x1b[K\n";
        }
        frame += "\x1b[J";
        io::stdout().write_all(frame.as_bytes())?;
        io::stdout().flush()?;
        if ended(signals)? {
            return Ok(());
        }
    }
}

fn in_lines(host: &Host, json: bool, signals: &Signals) -> anyhow::Result<()> {
    let mut before = None;
    loop {
        let status = Status::of(host)?;
        if before.as_ref() != Some(&status) {
            let text = if json {
                serde_json::to_string(&status)?
            } else {
                show::lines(&status, Timestamp::now(), Paint::for_stdout()).join("\n") + "\n"
            };
            writeln!(io::stdout(), "{text}")?;
            before = Some(status);
        }
        if ended(signals)? {
            return Ok(());
        }
    }
}

/// Whether somebody ended it, within the time until the next look.
fn ended(signals: &Signals) -> io::Result<bool> {
    wait_ready(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], Some(EVERY))?;
    while let Some(received) = signals.next()? {
        if CANCEL.contains(&received.signal) {
            return Ok(true);
        }
    }
    Ok(false)
}
