//! Waiting until an app is what was asked for, or certainly never will be.
//!
//! The judgement is a pure function of an observation, alike for all engines.

use std::time::Duration;

use ccci_core::lifetime::clock::Deadline;
use ccci_core::lock::AppLock;
use ccci_core::weaken::{self, Protection};

use jiff::Timestamp;

use super::{App, Engine, EngineError, Observation, ServiceState, Update};
use crate::event::{Event, report};

/// So many failures of one service, with no success between, end the wait (incident `[crash-loop]`).
const FAILURES: u32 = 3;
/// The same while Swarm itself judges an update: its verdict says more, and comes within its monitoring
/// time, unless it was told to continue whatever happens.
const FAILURES_OF_AN_UPDATE: u32 = 2 * FAILURES;
/// Not everything is announced: an app begins to answer without a word.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What is announced is seldom the last step: Swarm calls a task running some time after its container
/// has started, and does not say so. For this long after a word it is looked for more often.
const AWAKE: Duration = Duration::from_secs(1);
/// What a wait is for is said at most so often.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// So often.
const LOOK_SOON: Duration = Duration::from_millis(20);

/// What an observation means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Every service has all its tasks.
    Settled,
    /// Not yet, because of this.
    Waiting(String),
    /// Never: this service keeps dying, or its update was taken back.
    Failing(String),
    /// Not on this host.
    Host(String),
}

/// Judges what is seen of an app now. Tasks count once they have run for `monitor`.
pub(crate) fn judge(seen: &Observation, now: Timestamp, monitor: Duration) -> Judgement {
    if let Some(why) =
        seen.services.iter().find_map(|service| Some(format!("service {}: {}", service.name, service.host.as_ref()?)))
    {
        return Judgement::Host(why);
    }
    for service in &seen.services {
        // A rollback keeps N/N tasks of the old version running: never a pass ([6], [7], [8]).
        if let Update::Failed(words) = &service.update {
            return Judgement::Failing(format!("the update of service {} did not go through: {words}", service.name));
        }
    }
    let failing = seen.services.iter().find(|service| {
        let allowed = if service.update == Update::Going { FAILURES_OF_AN_UPDATE } else { FAILURES };
        service.failures >= allowed
    });
    if let Some(service) = failing.filter(|_| weaken::on(Protection::FailFast)) {
        return Judgement::Failing(explain(service));
    }
    if let Some(service) = seen.services.iter().find(|service| service.update == Update::Going) {
        return Judgement::Waiting(format!("the update of service {} is under way", service.name));
    }
    if let Some(service) = seen.services.iter().find(|service| service.running < service.desired) {
        let (running, desired) = (service.running, service.desired);
        return Judgement::Waiting(format!("service {} has {running} of {desired} tasks", service.name));
    }
    let young = |service: &&ServiceState| {
        let age = service.since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
        age.is_some_and(|age| age < monitor)
    };
    match seen.services.iter().find(young).filter(|_| weaken::on(Protection::Monitor)) {
        Some(service) => {
            let monitor = ccci_core::config::duration::show(monitor);
            Judgement::Waiting(format!("service {} has not stayed up for {monitor} yet", service.name))
        }
        None => Judgement::Settled,
    }
}

fn explain(service: &ServiceState) -> String {
    let error = service.error.as_deref().unwrap_or("it ends as soon as it starts");
    format!("service {} failed {} times: {error}{}", service.name, service.failures, quote("its", &service.log))
}

fn quote(whose: &str, log: &str) -> String {
    let log = log.trim();
    if log.is_empty() { String::new() } else { format!("\n{whose} last lines:\n{log}") }
}

/// The last lines of the service that is waited for: the one that lacks a task, else the front door.
fn words_of_the_missing(engine: &dyn Engine, app: &App<'_>, seen: &Observation) -> String {
    let missing = seen.services.iter().find(|service| service.running < service.desired);
    // On Swarm a service is called `<stack>_app`.
    let front = || seen.services.iter().find(|service| service.name == "app" || service.name.ends_with("_app"));
    missing.or_else(front).map_or_else(String::new, |service| {
        quote(&format!("service {}'s", service.name), &engine.last_lines(app, service))
    })
}

/// What a wait has said of itself. A reason that changes with every look is not said every time: the
/// run's events are read by people, and kept.
#[derive(Default)]
struct Told {
    last: String,
    again: Option<Deadline>,
}

impl Told {
    fn tell(&mut self, app: &App<'_>, what: &str) {
        if self.last != what && self.again.is_none_or(Deadline::passed) {
            what.clone_into(&mut self.last);
            self.again = Some(Deadline::after(TELL_AGAIN));
            report(app.dir, Event::Waiting { what: what.to_owned() });
        }
    }
}

/// Waits until all services run.
///
/// # Errors
/// The reason, when they do not in time or keep failing.
pub(crate) fn settled(
    engine: &dyn Engine,
    lock: &AppLock,
    app: &App<'_>,
    timeout: Duration,
) -> Result<(), EngineError> {
    until(engine, lock, app, timeout, Duration::ZERO, &mut || Ok(()))
}

/// Waits until all services have stayed up for the recipe's monitoring time. One that keeps dying is seen
/// running for a moment each time, and with nothing to ask it no test would find out ([crash-loop]).
///
/// # Errors
/// The reason, when they do not in time or keep failing.
pub(crate) fn stayed(engine: &dyn Engine, lock: &AppLock, app: &App<'_>) -> Result<(), EngineError> {
    let timeouts = &app.folder.toml.timeouts;
    until(engine, lock, app, timeouts.deploy, timeouts.monitor, &mut || Ok(()))
}

/// Waits until the app answers on `path` and every probe succeeds, and its services still run.
///
/// # Errors
/// The last answer, when it is not the right one in time; or that a service keeps failing.
pub(crate) fn healthy(
    engine: &dyn Engine,
    lock: &AppLock,
    app: &App<'_>,
    timeout: Duration,
) -> Result<(), EngineError> {
    let toml = &app.folder.toml;
    let mut known = None;
    until(engine, lock, app, timeout, Duration::ZERO, &mut || {
        // Where it answers can change with each of its tasks: looked up again whenever the answer was not right.
        let target = match known.take() {
            Some(target) => target,
            None => {
                engine.target(app).map_err(|error| error.to_string())?.ok_or("none of its ports is published yet")?
            }
        };
        if toml.health.none.is_none() {
            target.check_http(&toml.health.path, &toml.health.status)?;
        }
        toml.readiness.iter().try_for_each(|probe| target.check_probe(probe))?;
        known = Some(target);
        Ok(())
    })
}

fn until(
    engine: &dyn Engine,
    lock: &AppLock,
    app: &App<'_>,
    timeout: Duration,
    monitor: Duration,
    check: &mut dyn FnMut() -> Result<(), String>,
) -> Result<(), EngineError> {
    let end = Deadline::after(timeout);
    let mut awake = Deadline::after(Duration::ZERO);
    let mut told = Told::default();
    loop {
        // Taken before the look: what happens after it ends the wait at once.
        let since = Timestamp::now();
        let seen = engine.observe(lock, app)?;
        let last = match judge(&seen, Timestamp::now(), monitor) {
            Judgement::Failing(why) => return Err(EngineError::Recipe(why)),
            Judgement::Host(why) => return Err(EngineError::Host(why)),
            Judgement::Waiting(why) => why,
            Judgement::Settled => match check() {
                Ok(()) => return Ok(()),
                Err(why) => why,
            },
        };
        if end.passed() {
            let limit = ccci_core::config::duration::show(timeout);
            let log = words_of_the_missing(engine, app, &seen);
            return Err(EngineError::Recipe(format!("not there within {limit}: {last}{log}")));
        }
        told.tell(app, &last);
        let pause = if awake.passed() { LOOK_AGAIN } else { LOOK_SOON };
        if engine.wait_for_change(since, pause.min(end.left()))? {
            awake = Deadline::after(AWAKE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(running: u64, failures: u32) -> Observation {
        let service = ServiceState {
            name: "app".into(),
            running,
            desired: 1,
            failures,
            error: Some("exit code 3".into()),
            log: "boom".into(),
            ..ServiceState::default()
        };
        Observation { services: vec![service], ..Observation::default() }
    }

    fn verdict(seen: &Observation) -> Judgement {
        judge(seen, Timestamp::UNIX_EPOCH, Duration::ZERO)
    }

    #[test]
    fn three_failures_end_the_wait_with_the_tasks_own_error() {
        assert_eq!(verdict(&seen(1, 0)), Judgement::Settled);
        assert!(matches!(verdict(&seen(0, 2)), Judgement::Waiting(_)));
        let Judgement::Failing(why) = verdict(&seen(0, 3)) else { panic!("went on waiting") };
        assert!(why.contains("exit code 3") && why.contains("boom"), "{why}");
        assert!(matches!(verdict(&seen(1, 3)), Judgement::Failing(_)), "just started again is not a success");
    }

    #[test]
    fn all_tasks_running_is_not_enough_while_an_update_goes_or_after_a_rollback() {
        let with = |update| {
            let mut seen = seen(1, 0);
            seen.services[0].update = update;
            verdict(&seen)
        };
        assert_eq!(with(Update::Settled), Judgement::Settled);
        assert!(matches!(with(Update::Going), Judgement::Waiting(_)));
        assert!(matches!(with(Update::Failed("rollback completed".into())), Judgement::Failing(_)));
    }

    #[test]
    fn an_update_that_swarm_still_judges_is_left_to_swarm_for_a_while() {
        let going = |failures| {
            let mut seen = seen(0, failures);
            seen.services[0].update = Update::Going;
            verdict(&seen)
        };
        assert!(matches!(going(5), Judgement::Waiting(_)));
        assert!(matches!(going(6), Judgement::Failing(_)), "it was told to continue whatever happens");
    }

    #[test]
    fn a_task_counts_once_it_has_stayed_up() {
        let mut seen = seen(1, 0);
        seen.services[0].since = Some(Timestamp::UNIX_EPOCH);
        let after = |seconds| Timestamp::from_second(seconds).unwrap();
        let monitor = Duration::from_secs(5);
        assert!(matches!(judge(&seen, after(4), monitor), Judgement::Waiting(_)));
        assert_eq!(judge(&seen, after(5), monitor), Judgement::Settled);
        assert!(matches!(judge(&seen, after(-1), monitor), Judgement::Waiting(_)), "a clock that was set back");
    }

    #[test]
    fn what_the_host_cannot_give_is_not_the_recipes_fault() {
        let mut seen = seen(0, 3);
        seen.services[0].host = Some("no address left".into());
        assert!(matches!(verdict(&seen), Judgement::Host(_)));
    }
}
