//! Where a run is, from its events: for who waits in front of a terminal, in a CI log, or asks `status`.

use std::time::Duration;

use ccci_core::config::duration::brief;
use ccci_core::rundir::{RunDir, file};
use jiff::Timestamp;
use serde::Serialize;

use crate::event::{Event, Stamped};
use crate::history::Expected;

/// Nobody waits for less.
pub(crate) const WORTH_SAYING: Duration = Duration::from_secs(1);

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Progress {
    /// The phase.
    pub(crate) phase: String,
    /// When it began.
    pub(crate) since: Timestamp,
    /// The step of the phase, if it has steps.
    pub(crate) step: Option<String>,
    /// What the step waits for.
    pub(crate) waits_for: Option<String>,
}

impl Progress {
    /// Where the run in `dir` is; `None` when it has not begun, or this user may not look.
    pub(crate) fn read(dir: &RunDir) -> Option<Self> {
        Self::of(&dir.lines(file::EVENTS).ok()?.items)
    }

    /// What the events amount to.
    pub(crate) fn of(events: &[Stamped]) -> Option<Self> {
        let mut progress: Option<Self> = None;
        for Stamped { at, event, .. } in events {
            let begun = |phase: &str| Self { phase: phase.to_owned(), since: *at, step: None, waits_for: None };
            match (event, &mut progress) {
                (Event::Locked { .. }, _) => progress = Some(begun("preclean")),
                (Event::Phase { name }, _) => progress = Some(begun(name)),
                (Event::Step { name }, Some(now)) => (now.step, now.waits_for) = (Some(name.clone()), None),
                (Event::Waiting { what }, Some(now)) => now.waits_for = Some(what.clone()),
                _ => {}
            }
        }
        progress
    }

    /// How long the phase has lasted.
    pub(crate) fn elapsed(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.since)).unwrap_or_default()
    }

    /// One line: the phase, its time against what is usual, the step, and what that waits for.
    pub(crate) fn line(&self, now: Timestamp, expected: &Expected) -> String {
        let mut line = format!("{} {}", self.phase, brief(self.elapsed(now)));
        if let Some(usual) = expected.phase(&self.phase).filter(|usual| *usual >= WORTH_SAYING) {
            line += &format!(" of about {}", brief(usual));
        }
        let doing: Vec<&str> = [&self.step, &self.waits_for].into_iter().flatten().map(String::as_str).collect();
        if !doing.is_empty() {
            line += &format!(" · {}", doing.join(": "));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64, event: Event) -> Stamped {
        Stamped { at: Timestamp::from_second(second).unwrap(), n: None, event }
    }

    fn named<T>(make: impl Fn(String) -> T, name: &str) -> T {
        make(name.to_owned())
    }

    #[test]
    fn the_last_phase_step_and_wait_are_told_and_a_new_step_waits_for_nothing_yet() {
        let mut events = vec![
            at(10, Event::Locked { waited_ms: 0 }),
            at(11, named(|name| Event::Phase { name }, "install")),
            at(12, named(|name| Event::Step { name }, "converge")),
            at(13, named(|what| Event::Waiting { what }, "service db has 0 of 1 tasks")),
        ];
        let now = Timestamp::from_second(53).unwrap();
        let line = |events: &[Stamped]| Progress::of(events).unwrap().line(now, &Expected::default());
        assert_eq!(line(&events), "install 42s · converge: service db has 0 of 1 tasks");
        events.push(at(14, named(|name| Event::Step { name }, "health")));
        assert_eq!(line(&events), "install 42s · health");
        events.push(at(50, named(|name| Event::Phase { name }, "upgrade")));
        assert_eq!(line(&events), "upgrade 3.0s");
        assert_eq!(line(&events[..1]), "preclean 43s");
        assert_eq!(Progress::of(&[]), None);
    }
}
