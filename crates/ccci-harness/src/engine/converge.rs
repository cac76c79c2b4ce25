//! Waiting until an app is what was asked for, or certainly never will be.
//!
//! The judgement is a pure function of an observation, alike for all engines.

use std::time::Duration;

use ccci_core::lifetime::clock::Deadline;
use ccci_core::lock::AppLock;
use ccci_core::weaken::{self, Protection};

use jiff::Timestamp;

use super::{App, Blame, Engine, EngineError, Never, Observation, ServiceState, Update};
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

/// How long a service must have been seen to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stay {
    /// This long at least.
    monitor: Duration,
    /// As long as its health check needs to find out that it is sick, but not longer than this.
    most: Duration,
}

/// Judges what is seen of an app now. Running tasks count when they have stayed for as long as `stay` says.
pub(crate) fn judge(seen: &Observation, stay: Option<Stay>) -> Judgement {
    // What nothing on this host can be is certain, whatever else is wrong; what the host lacks can be the reason of
    // all that fails besides.
    let told = |kind: fn(&Never) -> Option<&String>| {
        let all = seen.services.iter().filter_map(|service| Some((service, kind(service.never.as_ref()?)?)));
        let words: Vec<String> = all.map(|(service, why)| format!("service {}: {why}", service.name)).collect();
        (!words.is_empty()).then(|| words.join("; "))
    };
    if let Some(why) = told(|never| if let Never::Impossible(why) = never { Some(why) } else { None }) {
        return Judgement::Failing(why);
    }
    if let Some(why) = told(|never| if let Never::Host(why) = never { Some(why) } else { None }) {
        return Judgement::Host(why);
    }
    for service in &seen.services {
        // A rollback keeps N/N tasks of the old version running: never a pass ([6], [7], [8]).
        if let Update::Failed(words) = &service.update {
            return Judgement::Failing(format!("the update of service {} did not go through: {words}", service.name));
        }
    }
    let fails = |service: &&ServiceState| {
        let going = service.update == Update::Going;
        let allowed = if going { FAILURES_OF_AN_UPDATE } else { FAILURES };
        service.failures >= allowed || (!going && matches!(service.never, Some(Never::Ended(_))))
    };
    // Of several the first is the reason: the others may have failed for want of it.
    let failing = seen.services.iter().filter(fails).min_by_key(|service| service.failing_since);
    if let Some(service) = failing.filter(|_| weaken::on(Protection::FailFast)) {
        let why = format!("{}{}", explain(service), what_followed(seen, service));
        return match service.blame {
            Blame::Host => Judgement::Host(why),
            Blame::Recipe => Judgement::Failing(why),
        };
    }
    if let Some(service) = seen.services.iter().find(|service| service.update == Update::Going) {
        let why = service.waits_for.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        return Judgement::Waiting(format!("the update of service {} is under way{why}", service.name));
    }
    let missing = seen.services.iter().filter(|service| service.running < service.desired).map(|service| {
        let ServiceState { name, running, desired, .. } = service;
        let why = service.waits_for.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        format!("service {name} has {running} of {desired} tasks{why}")
    });
    let missing: Vec<String> = missing.collect();
    if !missing.is_empty() {
        return Judgement::Waiting(missing.join("; "));
    }
    let Some(stay) = stay else { return Judgement::Settled };
    let must = |service: &ServiceState| stay.monitor.max(service.probation.min(stay.most));
    let young = |service: &&ServiceState| service.up.is_some_and(|up| up < must(service));
    match seen.services.iter().find(young).filter(|_| weaken::on(Protection::Monitor)) {
        Some(service) => {
            let must = ccci_core::config::duration::show(must(service));
            Judgement::Waiting(format!("service {} has not stayed up for {must} yet", service.name))
        }
        None => Judgement::Settled,
    }
}

/// The service that lacks a task; of several the one that failed first.
fn missing(seen: &Observation) -> Option<&ServiceState> {
    let all = seen.services.iter().filter(|service| service.running < service.desired);
    all.min_by_key(|service| (service.failing_since.is_none(), service.failing_since))
}

fn explain(service: &ServiceState) -> String {
    let log = quote("its", &service.log);
    if let Some(Never::Ended(why)) = &service.never {
        return format!("service {} failed and is not started again: {why}{log}", service.name);
    }
    let error = service.error.as_deref().unwrap_or("it ends as soon as it starts");
    format!("service {} failed {} times: {error}{log}", service.name, service.failures)
}

/// What failed besides, and later: most often because of the first.
fn what_followed(seen: &Observation, first: &ServiceState) -> String {
    let later = seen.services.iter().filter(|service| service.name != first.name && service.failures > 0);
    let words = later.map(|service| {
        let error = service.error.as_deref().unwrap_or("it ended");
        format!("\nservice {} failed too, after it ({}): {error}", service.name, times(service.failures))
    });
    words.collect()
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn quote(whose: &str, log: &str) -> String {
    let log = log.trim();
    if log.is_empty() { String::new() } else { format!("\n{whose} last lines:\n{log}") }
}

/// The last lines of the service that is waited for: the one that lacks a task, else the front door.
fn words_of_the_missing(engine: &dyn Engine, app: &App<'_>, seen: &Observation) -> String {
    let missing = missing(seen);
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
    until(engine, lock, app, timeout, None, &mut || Ok(()))
}

/// Waits until all services have stayed up for the recipe's monitoring time, and for as long as their health checks
/// need to find out that they are sick. One that keeps dying is seen
/// running for a moment each time, and with nothing to ask it no test would find out ([crash-loop]).
///
/// # Errors
/// The reason, when they do not in time or keep failing.
pub(crate) fn stayed(engine: &dyn Engine, lock: &AppLock, app: &App<'_>) -> Result<(), EngineError> {
    let timeouts = &app.folder.toml.timeouts;
    let stay = Stay { monitor: timeouts.monitor, most: timeouts.deploy };
    // A service that has to stay for all of that time may be just as late to come up.
    let limit = if timeouts.monitor > timeouts.deploy { timeouts.deploy } else { timeouts.deploy.saturating_mul(2) };
    until(engine, lock, app, limit, Some(stay), &mut || Ok(()))
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
    until(engine, lock, app, timeout, None, &mut || {
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
    stay: Option<Stay>,
    check: &mut dyn FnMut() -> Result<(), String>,
) -> Result<(), EngineError> {
    let end = Deadline::after(timeout);
    let mut awake = Deadline::after(Duration::ZERO);
    let mut told = Told::default();
    loop {
        // Taken before the look: what happens after it ends the wait at once.
        let since = Timestamp::now();
        let seen = engine.observe(lock, app)?;
        let last = match judge(&seen, stay) {
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
            let why = format!("not there within {limit}: {last}{log}");
            return Err(match missing(&seen).map_or(Blame::Recipe, |service| service.blame) {
                Blame::Host => EngineError::Host(why),
                Blame::Recipe => EngineError::Recipe(why),
            });
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
        judge(seen, None)
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
        let judged = |up: u64, probation: u64| {
            let mut seen = seen(1, 0);
            seen.services[0].up = Some(Duration::from_secs(up));
            seen.services[0].probation = Duration::from_secs(probation);
            judge(&seen, Some(Stay { monitor: Duration::from_secs(5), most: Duration::from_secs(60) }))
        };
        assert!(matches!(judged(4, 0), Judgement::Waiting(_)));
        assert_eq!(judged(5, 0), Judgement::Settled);
        assert!(matches!(judged(12, 13), Judgement::Waiting(_)), "its health check could still find out");
        assert_eq!(judged(13, 13), Judgement::Settled);
        assert_eq!(judged(60, 9000), Judgement::Settled, "no longer than a deploy may take");
    }

    #[test]
    fn what_the_host_cannot_give_is_not_the_recipes_fault() {
        let mut seen = seen(0, 3);
        seen.services[0].never = Some(Never::Host("no address left".into()));
        assert!(matches!(verdict(&seen), Judgement::Host(_)));
        seen.services[0].never = None;
        seen.services[0].blame = Blame::Host;
        assert!(matches!(verdict(&seen), Judgement::Host(_)), "its own error says so");
    }

    #[test]
    fn what_is_impossible_or_over_ends_the_wait_at_once() {
        let mut two = seen(0, 0);
        two.services.push(ServiceState { name: "db".into(), ..two.services[0].clone() });
        two.services[0].never = Some(Never::Impossible("no suitable node".into()));
        two.services[1].never = Some(Never::Host("insufficient resources".into()));
        let Judgement::Failing(why) = verdict(&two) else { panic!("this host can never have it") };
        assert_eq!(why, "service app: no suitable node");
        two.services[0].never = Some(Never::Ended("exit code 3".into()));
        assert!(matches!(verdict(&two), Judgement::Host(_)), "it may have ended for that");
        two.services[1].never = None;
        let Judgement::Failing(why) = verdict(&two) else { panic!("it is not started again") };
        assert!(why.starts_with("service app failed and is not started again: exit code 3\n"), "{why}");
        two.services[0].update = Update::Going;
        assert!(matches!(verdict(&two), Judgement::Waiting(_)), "Swarm still judges it");
    }

    #[test]
    fn the_first_failure_is_the_reason_and_the_others_are_told_as_what_followed() {
        let mut two = seen(0, 3);
        two.services.push(ServiceState { name: "db".into(), error: Some("disk".into()), ..two.services[0].clone() });
        let late = Deadline::after(Duration::from_secs(60));
        two.services[0].failing_since = Some(late);
        two.services[1].failing_since = Some(late.earlier(Duration::from_secs(9)));
        let Judgement::Failing(why) = verdict(&two) else { panic!("went on waiting") };
        assert!(why.starts_with("service db failed 3 times: disk"), "{why}");
        assert!(why.ends_with("service app failed too, after it (3 times): exit code 3"), "{why}");
    }

    #[test]
    fn what_a_missing_task_waits_for_is_told() {
        let mut seen = seen(0, 0);
        seen.services[0].waits_for = Some("no suitable node".into());
        assert_eq!(verdict(&seen), Judgement::Waiting("service app has 0 of 1 tasks: no suitable node".into()));
    }
}
