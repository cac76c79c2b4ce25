//! How long a holder lives, and what ends it.
//!
//! Owns every `unsafe` line of the workspace: parent-death signals, what a child does before its
//! `exec` or instead of one, and the worker's change into the reaper. Nobody guesses about a
//! holder's life here, it is managed: a parent's death, a signal and a clock all end in one funnel,
//! [`signals::respond`].

pub mod cause;
pub mod clock;
pub mod exec;
pub mod fork;
pub mod launch;
pub mod parent;
pub mod shield;
pub mod signals;

pub use cause::Cause;
