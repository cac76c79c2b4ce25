//! The status for a person: what needs somebody comes first, and whatever is said fits 80 columns.

use std::time::Duration;

use ccci_core::config::duration::brief;
use ccci_core::rundir::file;
use ccci_core::visible;
use jiff::Timestamp;

use super::look::{Left, Leftover, Lock, Run, Slots, Status, Waiter};
use crate::paint::{BAD, GOOD, NAME, Paint, QUIET, WAITS};
use crate::progress::WORTH_SAYING;

/// The whole status, line by line.
pub(super) fn lines(status: &Status, now: Timestamp, paint: Paint) -> Vec<String> {
    let mut lines = vec![headline(status, paint)];
    lines.extend(status.stand_in.iter().map(|note| paint.with(QUIET, note)));
    for unknown in &status.unknown {
        lines.push(paint.with(BAD, &format!("cannot look: {}", plain(unknown))));
    }
    for leftover in &status.leftovers {
        lines.extend(left_over(leftover, now, paint));
    }
    for lock in status.locks.iter().filter(|lock| lock.held) {
        lines.extend(held(lock, now, paint));
    }
    for lock in status.locks.iter().filter(|lock| !lock.held) {
        lines.push(paint.with(QUIET, &format!("free  {}  ({})", lock.name, lock.path.display())));
    }
    lines
}

fn headline(status: &Status, paint: Paint) -> String {
    let held = status.locks.iter().filter(|lock| lock.held).count();
    let waits: usize = status.locks.iter().map(|lock| lock.waiters.len()).sum();
    let mut parts = vec![if held == 0 { paint.with(GOOD, "no lock is held") } else { format!("{held} held") }];
    if waits > 0 {
        parts.push(paint.with(WAITS, &format!("{waits} waiting")));
    }
    parts.extend(status.slots.as_ref().map(slots));
    parts.push(match status.leftovers.len() {
        0 if status.unknown.is_empty() => paint.with(GOOD, "nothing is left over"),
        0 => paint.with(BAD, "what is left over cannot be told"),
        some => paint.with(BAD, &format!("{some} left over")),
    });
    format!("{}: {}", paint.with(NAME, &plain(&status.host)), parts.join(", "))
}

fn slots(slots: &Slots) -> String {
    format!("{} of {} slots taken", slots.taken, slots.total)
}

fn held(lock: &Lock, now: Timestamp, paint: Paint) -> Vec<String> {
    let pid = lock.holder_pid.unwrap_or(0);
    let mut lines = vec![String::new(), format!("{}  {}", paint.with(NAME, &lock.name), party(lock.run.as_ref(), pid))];
    if let Some(progress) = &lock.progress {
        let late = lock
            .expected
            .phase(&progress.phase)
            .is_some_and(|usual| progress.elapsed(now) > (usual * 2).max(WORTH_SAYING * 10));
        lines.push(format!(
            "  {}",
            paint.with(if late { WAITS } else { GOOD }, &plain(&progress.line(now, &lock.expected)))
        ));
    }
    lines.push(hold(lock, pid, now, paint));
    if let Some(run) = &lock.run {
        let log = run.dir.join(file::LOG);
        // A guard's output is where it was called, and a run that has just begun has said nothing.
        let log = Some(log.display().to_string()).filter(|_| run.git_ref.is_some() && log.exists());
        lines.extend(
            [log, run.link.clone()].into_iter().flatten().map(|line| paint.with(QUIET, &format!("  {}", plain(&line)))),
        );
    }
    lines.extend(lock.waiters.iter().enumerate().map(|(place, waiter)| waits(place + 1, waiter, now, paint)));
    lines
}

/// Since when and until when, or what is odd about it.
fn hold(lock: &Lock, pid: u32, now: Timestamp, paint: Paint) -> String {
    match &lock.owner {
        Some(owner) if lock.record_agrees => {
            let left = Duration::try_from(owner.deadline.duration_since(now)).ok().filter(|left| !left.is_zero());
            let left = left
                .map_or_else(|| paint.with(BAD, "past its deadline"), |left| format!("deadline in {}", brief(left)));
            format!("  held for {} by pid {pid}, {left}", ago(owner.since, now))
        }
        Some(_) | None if lock.run.is_some() => format!("  held by pid {pid}, which has not begun to work"),
        Some(owner) => {
            let (other, run) = (owner.pid, plain(&owner.run_id));
            let odd = format!("  the kernel names pid {pid} as the one that locked it, the record pid {other} ({run})");
            paint.with(BAD, &odd)
        }
        None => paint.with(BAD, &format!("  held by pid {pid}, which left no record")),
    }
}

fn waits(place: usize, waiter: &Waiter, now: Timestamp, paint: Paint) -> String {
    let since = waiter.run.as_ref().map_or_else(String::new, |run| format!(" for {}", ago(run.started, now)));
    let pid = waiter.run.as_ref().map_or_else(String::new, |_| format!(", pid {}", waiter.pid));
    paint.with(WAITS, &format!("  {place}. waits{since}: {}{pid}", party(waiter.run.as_ref(), waiter.pid)))
}

fn left_over(leftover: &Leftover, now: Timestamp, paint: Paint) -> Vec<String> {
    let by = match (&leftover.run, &leftover.owner) {
        (Some(run), _) => {
            format!(" by run {} ({}), last heard of {} ago", plain(&run.run_id), plain(&run.what), ago(run.left, now))
        }
        (None, Some(owner)) => {
            format!(" by run {} ({}), {} ago", plain(&owner.run_id), plain(&owner.recipe), ago(owner.since, now))
        }
        (None, None) => String::new(),
    };
    let what = match leftover.left {
        Left::App => "left over",
        Left::Teardown => "teardown still to come, left",
        Left::Result => "not concluded, left",
    };
    let name = plain(&leftover.domain);
    let mut lines = vec![String::new(), format!("{}  {}{by}", paint.with(NAME, &name), paint.with(BAD, what))];
    match leftover.left {
        Left::App => {}
        Left::Teardown => {
            lines
                .push(format!("  the next guard of this name runs it; at once: cc-ci-run guard --name {name} -- true"));
            return lines;
        }
        Left::Result => {
            lines.push("  the janitor's next sweep writes its result".to_owned());
            return lines;
        }
    }
    lines.push(match (&leftover.quarantined_until, leftover.failures) {
        (Some(until), failures) => paint.with(
            BAD,
            &format!("  quarantined: the janitor failed {failures} times and tries again in {}", ago(now, *until)),
        ),
        (None, 0) => "  the janitor's next sweep takes it down".to_owned(),
        (None, failures) => format!("  the janitor failed {failures} times and tries again with its next sweep"),
    });
    lines.push(format!("  at once: cc-ci-run reap {}", leftover.domain));
    lines
}

fn party(run: Option<&Run>, pid: u32) -> String {
    let Some(run) = run else { return format!("pid {pid}") };
    let pr = run.pr.as_deref().filter(|pr| *pr != "0").map_or_else(String::new, |pr| format!(" PR {pr}"));
    let git_ref = run.git_ref.as_deref().filter(|name| !name.is_empty());
    let git_ref = git_ref.map_or_else(String::new, |name| format!(" at {name}"));
    plain(&format!("{}{pr}{git_ref}, run {}", run.what, run.run_id))
}

fn ago(since: Timestamp, now: Timestamp) -> String {
    brief(Duration::from_secs(u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0)))
        .replace("0ms", "0s")
        .replace(".0s", "s")
}

/// What somebody else wrote, in one line, with nothing that a terminal would obey.
fn plain(text: &str) -> String {
    visible::text(text).replace(['\n', '\t'], " ")
}
