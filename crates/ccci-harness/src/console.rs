//! What a run says: to `run.log` always, and to stdout as long as somebody listens.
//!
//! A closed or stuck stdout must never stop a run or a teardown (incident `[stdout]`): [`outlet`] writes
//! without blocking, and no failure of it matters.
//!
//! A recipe's run says when: `+12s` before each line of a log. On a terminal the last line is alive
//! instead and tells what goes on. Keeper, worker and reaper share the terminal without asking each
//! other: whoever says a line wipes the live one first, and the keeper draws it again.

pub(crate) mod outlet;

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use ccci_core::config::duration;
use ccci_core::redact;
use ccci_core::rundir::{RunDir, file};
use ccci_core::visible;
use ccci_core::weaken::{self, Protection};
use jiff::Timestamp;

use crate::paint::Paint;
use crate::plan::{Job, Plan};
use outlet::Outlet;

/// How often a log hears what a run waits for.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How often a terminal does.
const REDRAW: Duration = Duration::from_millis(500);
/// To the line's beginning, and clear it.
const WIPE: &str = "\r\x1b[K";

/// Where a run speaks.
#[derive(Debug)]
pub(crate) struct Console {
    log: Option<File>,
    /// How many lines are missing in the log.
    unkept: usize,
    outlet: Outlet,
    /// Whether only what went wrong is said aloud.
    quiet: bool,
    /// When the run began, for the times before its lines. A guard's output is its command's own.
    begun: Option<Timestamp>,
    /// Whether there is a live line.
    live: bool,
    paint: Paint,
}

impl Console {
    /// A console that speaks into the run's log alone: of a run whose caller is gone.
    pub(crate) fn in_log(plan: &Plan, dir: &RunDir) -> Self {
        Self { outlet: Outlet::nowhere(), live: false, ..Self::of(plan, dir) }
    }

    /// The console of a run.
    pub(crate) fn of(plan: &Plan, dir: &RunDir) -> Self {
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(dir.join(file::LOG));
        let log = opened.inspect_err(|error| tracing::error!(%error, "no run.log")).ok();
        let stderr = plan.stdout_is_data;
        let begun = matches!(plan.job, Job::Recipe(_)).then_some(plan.started);
        let terminal = if stderr { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        let live = begun.is_some() && terminal && std::env::var("TERM").is_ok_and(|term| term != "dumb");
        let quiet = matches!(&plan.job, Job::Guard(job) if job.quiet);
        let outlet = Outlet::of(stderr);
        Self { log, unkept: 0, outlet, quiet, begun, live, paint: Paint::on(live) }
    }

    /// One that nobody hears.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        let outlet = Outlet::nowhere();
        Self { log: None, unkept: 0, outlet, quiet: true, begun: None, live: false, paint: Paint::NONE }
    }

    /// Learns a secret that must never be said.
    pub(crate) fn learn(&mut self, secret: &str) {
        if weaken::on(Protection::Redaction) {
            redact::learn(secret);
        }
    }

    /// The line without secrets, and with nothing in it that does anything.
    pub(crate) fn clean(&self, line: &str) -> String {
        visible::text(&redact::clean(line)).into_owned()
    }

    /// Says a line, with its time.
    pub(crate) fn say(&mut self, line: &str) {
        let line = self.clean(line);
        let stamped = self.begun.map_or_else(|| line.clone(), |begun| stamp(&line, begun, Timestamp::now()));
        self.keep(&stamped);
        self.speak(&if self.live { self.alive(&line) } else { stamped + "\n" });
    }

    /// Says a line as it is: a block that people copy from.
    pub(crate) fn plain(&mut self, line: &str) {
        let line = self.clean(line);
        self.keep(&line);
        self.speak(&if self.live { self.alive(&line) } else { line + "\n" });
    }

    /// A line in the place of the live one, which comes back below.
    fn alive(&self, line: &str) -> String {
        let (first, rest) = line.split_at(line.find('\n').unwrap_or(line.len()));
        format!("{WIPE}{}{rest}\n", self.paint.line(first))
    }

    /// How often [`Console::beat`] is due.
    pub(crate) const fn pace(&self) -> Duration {
        if self.live { REDRAW } else { HEARTBEAT }
    }

    /// Tells what goes on: the live line of a terminal, a line of its own in a log.
    pub(crate) fn beat(&mut self, line: &str) {
        if !self.live {
            return self.say(&format!("… {line}"));
        }
        let line = self.clean(line);
        let width = terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
        // Wrapped, it could not be wiped again; a control character could do anything.
        self.outlet.show(&format!("{WIPE}▸ {}", cut(&line, width.saturating_sub(3))));
    }

    fn keep(&mut self, line: &str) {
        let Some(log) = &mut self.log else { return };
        let missing = match self.unkept {
            0 => String::new(),
            // A line that a full disk cut has no end.
            some => format!("\n… {} missing here: they could not be written\n", count(some, "line")),
        };
        match log.write_all(format!("{missing}{line}\n").as_bytes()) {
            Ok(()) => self.unkept = 0,
            Err(error) => {
                // Once: a disk that is full is full for the next line too.
                if self.unkept == 0 {
                    tracing::error!(%error, "cannot write run.log");
                }
                self.unkept += line.lines().count();
            }
        }
    }

    fn speak(&mut self, text: &str) {
        if !weaken::on(Protection::ClosedStdout) {
            #[expect(clippy::unwrap_used, reason = "what a plain println! would do, for the mutation test")]
            std::io::stdout().write_all(text.as_bytes()).unwrap();
            return;
        }
        let failure = || ["!! ", "cc-ci-run: "].iter().any(|begin| text.starts_with(begin));
        if !self.quiet || failure() {
            self.outlet.tell(text, file::LOG);
        }
    }
}

/// A line with the time since the run began; what follows in it stands below its text.
fn stamp(line: &str, begun: Timestamp, now: Timestamp) -> String {
    let since = duration::brief(Duration::from_secs(u64::try_from(now.duration_since(begun).as_secs()).unwrap_or(0)));
    // Whole seconds: a log is read by the minute.
    let since = since.strip_suffix("ms").map_or(since.as_str(), |_| "0s").replace(".0s", "s").replace(' ', "");
    format!("{:<7} {}", format!("+{since}"), line.replace('\n', "\n        "))
}

/// What fits into a line of so many characters.
fn cut(line: &str, width: usize) -> String {
    let plain = || line.chars().filter(|c| !c.is_control());
    if plain().count() <= width {
        return plain().collect();
    }
    plain().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// So many of something, in words.
pub(crate) fn count(number: usize, what: &str) -> String {
    let plural = if what.ends_with('s') { "es" } else { "s" };
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}{plural}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_when_and_what_follows_in_it_stands_below() {
        let at = |seconds: i64| Timestamp::from_second(1000 + seconds).unwrap();
        let stamped = |seconds: i64| stamp("one\ntwo", at(0), at(seconds));
        assert_eq!(stamped(0), "+0s     one\n        two");
        assert_eq!(stamped(7), "+7s     one\n        two");
        assert_eq!(stamped(185), "+3m05s  one\n        two");
        assert_eq!(stamped(-5), stamped(0), "a clock that was set back");
    }

    #[test]
    fn a_live_line_is_cut_where_the_terminal_ends_and_says_so() {
        assert_eq!(cut("converge: db", 12), "converge: db");
        assert_eq!(cut("converge: db", 11), "converge: …");
        assert_eq!(cut("a\x1b[2J\nb", 80), "a[2Jb");
        assert_eq!(cut("anything", 0), "…");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(count(1, "process"), "1 process");
        assert_eq!(count(2, "process"), "2 processes");
        assert_eq!(count(0, "object"), "0 objects");
    }
}
