//! What a forge shows at a commit for a verdict.

use ccci_forge::api::State;

use crate::outcome::Verdict;

/// What a verdict shows as.
pub(super) const fn of(verdict: Verdict) -> State {
    match verdict {
        Verdict::Green => State::Success,
        // A recipe that does not get done in its time is red as well.
        Verdict::Red | Verdict::Deadline => State::Failure,
        Verdict::Usage | Verdict::Host | Verdict::Incomplete | Verdict::Busy | Verdict::Cancelled => State::Error,
    }
}

/// For a glance.
pub(super) const fn sign(state: State) -> &'static str {
    match state {
        State::Pending => "⏳",
        State::Success => "✅",
        State::Failure => "❌",
        State::Error => "⚠️",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_commit_did_is_its_failure() {
        use Verdict::{Busy, Cancelled, Deadline, Green, Host, Incomplete, Red, Usage};
        let shown = [Green, Red, Usage, Host, Incomplete, Busy, Deadline, Cancelled].map(of);
        use State::{Error, Failure, Success};
        assert_eq!(shown, [Success, Failure, Error, Error, Error, Error, Failure, Error]);
    }
}
