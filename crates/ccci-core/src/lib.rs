//! What one run and the janitor must agree on.
//!
//! If the two disagreed about any of this, an app would leak or die in use: what an app is called
//! ([`name`]), where things are ([`config`]), who owns an app ([`lock`]), how long a holder lives
//! ([`lifetime`]), how processes start and end ([`process`]), what a run leaves on disk
//! ([`rundir`]), what is kept of a recipe's data ([`snapshot`]), what would not go ([`memory`]), what Docker knows ([`docker`]), what abra does ([`abra`]), what
//! a recipe may ask of the host ([`policy`]), what exists of an app
//! ([`substrate`]), how it is taken away ([`teardown`]), how an error reads ([`reason`]), and how
//! what others say is shown ([`visible`], [`redact`]).
//!
//! Imports go downwards only: `teardown → substrate → docker → process → lifetime`, `lock → config`, `abra → process`, and
//! `name` imports nothing.

pub mod abra;
pub mod config;
pub mod docker;
pub mod lifetime;
pub mod lock;
pub mod memory;
pub mod name;
pub mod policy;
pub mod process;
pub mod reason;
pub mod redact;
pub mod resolve;
pub mod rundir;
pub mod snapshot;
pub mod substrate;
pub mod teardown;
pub mod visible;
pub mod weaken;
