//! From every failure to its exit code: whose it is, and what that exits with.
//!
//! What nobody has thought of is ours, and never the recipe's.

use std::error::Error;
use std::io;

use ccci_core::config::ConfigError;
use ccci_core::docker::DockerError;
use ccci_core::lifetime::cause::exit;
use ccci_core::lifetime::parent::ParentError;
use ccci_core::lock::LockError;
use ccci_core::name::NameError;
use ccci_core::process::{ProcessError, is_exhausted};
use ccci_core::rundir::RunDirError;
use ccci_core::substrate::SubstrateError;
use ccci_forge::remote::secret::SecretError;

use crate::keeper::NotTaken;
use crate::outcome::Verdict;

/// Marks an error as the caller's mistake.
#[derive(Debug, thiserror::Error)]
#[error("as it was called")]
pub(crate) struct Usage;

/// Marks an error as the host's.
#[derive(Debug, thiserror::Error)]
#[error("on this host")]
pub(crate) struct Unable;

/// Whose a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The arguments, the settings or the test folder are wrong.
    Caller,
    /// The host cannot do it, or has run out of something.
    Host,
    /// Somebody else has the lock.
    Busy,
    /// Whoever wanted it wants it no longer.
    Cancelled,
    /// The run did not start, for a reason that has a verdict.
    NotStarted(Verdict),
    /// Nobody has thought of it: a fault of this program.
    Ours,
}

impl Failure {
    /// Whose this error is, by all that it comes from.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        // Whoever met it: what the host has run out of is the host's.
        if error.chain().any(is_the_hosts) {
            return Self::Host;
        }
        if let Some(why) = error.downcast_ref::<NotTaken>() {
            return Self::NotStarted(verdict_of(why));
        }
        if error.is::<Usage>() {
            return Self::Caller;
        }
        if error.is::<Unable>() {
            return Self::Host;
        }
        error.chain().find_map(known).unwrap_or(Self::Ours)
    }

    /// What it exits with.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Caller => exit::USAGE,
            Self::Host | Self::Ours => exit::HOST,
            Self::Busy => exit::BUSY,
            Self::Cancelled => exit::CANCELLED,
            Self::NotStarted(verdict) => verdict.exit_code(),
        }
    }
}

/// What a run came to that did not start.
pub(crate) const fn verdict_of(why: &NotTaken) -> Verdict {
    match why {
        NotTaken::Cancelled(cause) if cause.exit_code() == exit::DEADLINE => Verdict::Deadline,
        NotTaken::Cancelled(_) => Verdict::Cancelled,
        NotTaken::TimedOut { .. } | NotTaken::Refused { .. } | NotTaken::TooLate { .. } => Verdict::Busy,
        NotTaken::Lock(_) | NotTaken::Os(_) => Verdict::Host,
        NotTaken::Name(_) => Verdict::Usage,
    }
}

fn is_the_hosts(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(is_exhausted)
}

/// What an error of a known kind says about whose it is.
fn known(error: &(dyn Error + 'static)) -> Option<Failure> {
    if let Some(error) = error.downcast_ref::<ParentError>() {
        return Some(match error {
            // Whoever wanted this run has cancelled it already.
            ParentError::Orphaned { .. } => Failure::Cancelled,
            ParentError::NotAPid(_) => Failure::Caller,
            ParentError::Os(_) => Failure::Host,
        });
    }
    if let Some(error) = error.downcast_ref::<LockError>() {
        return Some(if matches!(error, LockError::Held { .. }) { Failure::Busy } else { Failure::Host });
    }
    if error.is::<ConfigError>() || error.is::<SecretError>() || error.is::<NameError>() {
        return Some(Failure::Caller);
    }
    let host = error.is::<RunDirError>()
        || error.is::<DockerError>()
        || error.is::<SubstrateError>()
        || error.is::<ProcessError>();
    host.then_some(Failure::Host)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_unknown_error_is_ours_and_never_red_and_what_has_run_out_is_the_hosts() {
        let os = |code| anyhow::Error::from(io::Error::from_raw_os_error(code));
        let unknown = anyhow::anyhow!("nobody has thought of this");
        assert_eq!((Failure::of(&unknown), Failure::of(&unknown).exit_code()), (Failure::Ours, 69));
        assert_eq!(Failure::of(&os(5)), Failure::Ours);
        for code in [11, 12, 23, 24, 28] {
            assert_eq!(Failure::of(&os(code).context(Usage)), Failure::Host, "{code}, whoever met it");
        }
        assert_eq!(Failure::of(&os(2).context(Usage)), Failure::Caller);
        assert_eq!(Failure::of(&os(2).context("deeper").context(Unable)), Failure::Host);
        let name = Err::<(), _>(NameError::Domain("x".to_owned(), "y".to_owned())).context("reap").unwrap_err();
        assert_eq!(Failure::of(&name).exit_code(), 2);
        let held = LockError::Held { path: "/run/lock/x".into() };
        assert_eq!(Failure::of(&held.into()).exit_code(), 75);
    }
}
