//! Where chaos is played: what differs between the `local` engine and a real Swarm.

pub(crate) mod local;
pub(crate) mod swarm;

use std::collections::BTreeSet;

use ccci_core::name::Domain;
use ccci_tests::host::{self, Host};
use ccci_tests::step::Launch;
use nix::sys::signal::Signal;

use crate::round::Kind;

/// A host with a witness on it that must not notice anything.
pub(crate) trait Ground {
    /// Its host.
    fn host(&self) -> &Host;

    /// The recipe of all runs.
    fn recipe(&self) -> &'static str;

    /// The kinds of rounds that can be played here, each as often as it is to be met.
    fn kinds(&self) -> &'static [Kind];

    /// A run of the recipe, for this pull request.
    fn run(&self, pr: u64) -> Launch<'_>;

    /// A sweep.
    fn sweep(&self) -> Launch<'_>;

    /// Everything that runs and the witness are made of, besides processes.
    fn things(&self) -> BTreeSet<String>;

    /// Whether the app of this domain is up.
    fn is_up(&self, domain: &Domain) -> bool;

    /// Sends a signal to a part of the app. False when there is none.
    fn hit_service(&self, domain: &Domain, signal: Signal) -> bool;

    /// Ends the Docker daemon with this signal, and waits until there is one again.
    fn restart(&self, signal: Signal);

    /// The id of the witness's run, if it is one.
    fn witness_id(&self) -> Option<&str>;

    /// Processes of the witness.
    fn witness(&self) -> &BTreeSet<i32>;

    /// Fails unless the witness is what it was. Called when the round's runs have ended.
    fn check_witness(&self);
}

/// The env files of apps, which all engines have.
pub(crate) fn env_files(host: &Host) -> BTreeSet<String> {
    let servers = host.path("abra/servers");
    let files = |server: &String| host::list(&servers.join(server));
    host::list(&servers).iter().flat_map(files).map(|name| format!("env file {name}")).collect()
}
