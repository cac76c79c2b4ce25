//! Trying again: only where it may help, ever more slowly, and never past a deadline.

use std::time::Duration;

use ccci_core::lifetime::clock::Deadline;
use ccci_core::process::wait_ready;
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::Trouble;

/// The pause after the first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Calls `attempt` until it succeeds, fails for good, or the next pause would reach past `until`.
///
/// # Errors
/// The last [`Trouble`].
pub fn while_it_may_help<T>(until: Deadline, attempt: impl FnMut() -> Result<T, Trouble>) -> Result<T, Trouble> {
    again(until, |_| true, attempt)
}

/// The same for what must not be done twice: it ends with a trouble after which it may have been done.
///
/// # Errors
/// The last [`Trouble`].
pub fn while_unheard<T>(until: Deadline, attempt: impl FnMut() -> Result<T, Trouble>) -> Result<T, Trouble> {
    again(until, |trouble| !matches!(trouble, Trouble::Unreachable { heard: true, .. }), attempt)
}

fn again<T>(
    until: Deadline,
    safe: impl Fn(&Trouble) -> bool,
    mut attempt: impl FnMut() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let mut failures = 0;
    loop {
        let trouble = match attempt() {
            Ok(done) => return Ok(done),
            Err(trouble) => trouble,
        };
        let pause = if safe(&trouble) { pause(&trouble, failures, until.left()) } else { None };
        let Some(pause) = pause else { return Err(trouble) };
        tracing::debug!(%trouble, ?pause, "trying again");
        // Nothing wakes it: a service does not say when it is back.
        let _over = wait_ready(&mut [], Some(pause));
        failures += 1;
    }
}

/// How long to wait before the next attempt; `None` when there must be none.
fn pause(trouble: &Trouble, failures: u32, left: Duration) -> Option<Duration> {
    let own = FIRST_PAUSE.saturating_mul(1 << failures.min(10));
    let pause = match trouble {
        Trouble::Unreachable { .. } => own,
        Trouble::Busy { after, .. } => after.map_or(own, |after| after.max(own)),
        Trouble::Refused { .. } | Trouble::TooLong { .. } | Trouble::Nonsense { .. } => return None,
    };
    (pause < left).then_some(pause)
}

/// `Retry-After`: seconds, or a date, which is read against the service's own clock.
pub(super) fn after(text: &str, date: Option<Timestamp>) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = http_date(text)?.duration_since(date.unwrap_or_else(Timestamp::now));
    Some(Duration::try_from(until).unwrap_or_default())
}

/// A date as HTTP writes it.
pub(super) fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(after: Option<u64>) -> Trouble {
        let after = after.map(Duration::from_secs);
        Trouble::Busy { service: "x", url: String::new(), status: 503, said: String::new(), after }
    }

    #[test]
    fn pauses_grow_obey_the_service_and_never_reach_past_the_deadline() {
        let hour = Duration::from_secs(3600);
        let pauses: Vec<_> = (0..4).map(|n| pause(&busy(None), n, hour).unwrap().as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000]);
        assert_eq!(pause(&busy(Some(7)), 0, hour), Some(Duration::from_secs(7)));
        assert_eq!(pause(&busy(Some(0)), 3, hour), Some(Duration::from_secs(4)), "zero is no invitation to hammer");
        assert_eq!(pause(&busy(Some(7)), 0, Duration::from_secs(7)), None);
        assert_eq!(pause(&busy(Some(u64::MAX)), 40, hour), None);
    }

    #[test]
    fn what_will_not_get_better_is_not_tried_again() {
        let hour = Duration::from_secs(3600);
        let refused = Trouble::Refused { service: "x", url: String::new(), status: 403, said: String::new() };
        let nonsense = Trouble::Nonsense { service: "x", url: String::new(), why: String::new() };
        assert_eq!((pause(&refused, 0, hour), pause(&nonsense, 0, hour)), (None, None));
        let gone = Trouble::Unreachable { service: "x", url: String::new(), why: String::new(), heard: true };
        assert!(pause(&gone, 0, hour).is_some());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_of_the_services_own_clock() {
        let date = http_date("Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(date.is_some());
        assert_eq!(after("120", None), Some(Duration::from_secs(120)));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:37 GMT", date), Some(Duration::from_secs(60)));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT", date), Some(Duration::ZERO));
        assert_eq!(after("soon", date), None);
    }
}
