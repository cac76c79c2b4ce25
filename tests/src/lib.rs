//! The kit of the suites: a host of one's own, CI steps on it, and moments at which a run stands still.
//!
//! Everything is real: processes, locks, signals, git. A [`host::Host`] is a set of directories that no
//! other test knows; a [`step::Step`] is started on it as a CI runner does it; a [`gate::Gate`] stops
//! a run at a moment until the test has seen it there. Nothing waits for time: what is waited for is
//! looked at until it is so, within a limit that only a failing test ever reaches.
//!
//! All processes carry [`process::HOST_VAR`], so a test can say that nothing is left of it, and what
//! a failing test leaves is ended with its host.

#![expect(clippy::unwrap_used, reason = "a kit that cannot do its work fails the test")]

pub mod abra;
pub mod binaries;
pub mod claims;
pub mod folder;
pub mod forge;
pub mod gate;
pub mod host;
pub mod kept;
pub mod limits;
pub mod moment;
pub mod process;
pub mod schema;
pub mod step;
pub mod swarm;
