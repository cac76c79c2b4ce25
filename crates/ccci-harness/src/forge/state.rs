//! What a forge shows at a commit.

use serde::Serialize;

use crate::outcome::Verdict;

/// The state of a check. What is nobody's fault who wrote the commit is an `error`, not a `failure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It waits or is at work.
    Pending,
    /// Everything passed.
    Success,
    /// What was committed did not.
    Failure,
    /// It was not tested to its end.
    Error,
}

impl State {
    /// What a verdict shows as.
    pub(crate) const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Green => Self::Success,
            // A recipe that does not get done in its time is red as well.
            Verdict::Red | Verdict::Deadline => Self::Failure,
            Verdict::Usage | Verdict::Host | Verdict::Incomplete | Verdict::Busy | Verdict::Cancelled => Self::Error,
        }
    }

    /// For a glance.
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::Pending => "⏳",
            Self::Success => "✅",
            Self::Failure => "❌",
            Self::Error => "⚠️",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_commit_did_is_its_failure() {
        use Verdict::{Busy, Cancelled, Deadline, Green, Host, Incomplete, Red, Usage};
        let shown = [Green, Red, Usage, Host, Incomplete, Busy, Deadline, Cancelled].map(State::of);
        use State::{Error, Failure, Success};
        assert_eq!(shown, [Success, Failure, Error, Error, Error, Error, Failure, Error]);
    }
}
